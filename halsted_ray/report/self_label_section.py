"""v1 and v2 of a round of self-labelling in an evaluation's page: which is better, how sure, and what was labelled."""

from __future__ import annotations

from html import escape

from halsted_ray.report.map_page import number, percent
from halsted_ray.selflabel.gain import by_action


def comparison_section(figures: dict) -> str:
    """Before and after a round of self-labelling (``selflabel.gain``); '' where one model alone was judged."""
    comparison = figures.get("comparison")
    if not comparison:
        return ""
    several = comparison["over"] == "folds"
    rows = []
    for task, own in comparison["folds"].items():
        videos = comparison["videos"]["mean"] if task == "mean" else comparison["videos"]["tasks"][task]
        gain = own["difference"] if several else videos
        sources = comparison["sources"].get(task, {})
        cells = [
            share(own["first"]),
            f"<b>{share(own['second'])}</b>",
            f"{100 * gain['value']:+.1f}",
            "–" if gain["low"] is None else f"{100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}",
            *(number(value, 3) for value in (own["t_p"], own["wilcoxon_p"], videos["p_worse"])),
            share(sources.get("manual", ())),
            share(sources.get("ai", ())),
            number(sources.get("wilcoxon_p"), 3),
        ]
        rows.append(f"<tr><td>{escape(task)}</td>" + "".join(f'<td class="n">{cell}</td>' for cell in cells) + "</tr>")
    header = "".join(
        f'<th class="n">{name}</th>'
        for name in (
            "v1",
            "v2",
            "gain",
            "95%",
            "p (t)",
            "Wilcoxon",
            "p worse",
            "v2: persons'",
            "v2: v1's labels",
            "Wilcoxon",
        )
    )
    kept = comparison["keep"]
    return (
        f"<section><h2>v2 beside v1: keep {kept}</h2><p>Both answered the same windows of the same held-out videos; "
        f"the gain's interval is {'t over folds' if several else 'a bootstrap over videos'}. v2 is kept where its gain "
        f"on {escape(comparison['task'])} has an interval above zero; here it {'has' if kept == 'v2' else 'does not'}. "
        "<i>p worse</i> is the share of draws of videos in which v2 is worse. The last columns are v2's accuracy on "
        "held-out videos, beside what persons said of them and what v1 would have.</p>"
        f'<div class="card scroll"><table><tr><th>task</th>{header}</tr>{"".join(rows)}</table></div>'
        f"{label_card(comparison['labels'])}</section>"
    )


def label_card(reports: list[dict]) -> str:
    """By action what v1 said of the unlabelled archive, and kept and dropped by which threshold."""
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="n">'
        + " ".join("–" if value is None else f"{value:.2f}" for value in own["thresholds"])
        + f'</td><td class="n">{percent(own["precision"])}</td>'
        + "".join(f'<td class="n">{own[count]:,}</td>' for count in ("said", "kept", "dropped", "clips"))
        + "</tr>"
        for name, own in by_action(reports).items()
    )
    if not reports:
        return ""
    passed = sum(report["gate"]["passed"] for report in reports)
    gates = " ".join(percent(report["gate"]["mean"]) for report in reports)
    header = "".join(
        f'<th class="n">{name}</th>'
        for name in ("threshold (one a model)", "precision there", "windows said", "kept", "dropped", "clips")
    )
    return (
        f"<h3>What was added, and dropped by which threshold</h3><p>{passed} of {len(reports)} models passed the gate "
        f"of {percent(reports[0]['gate']['least'])} average accuracy ({gates}). A threshold is the smallest confidence "
        "at which an action's answers are right often enough on validation videos; – means that none is.</p>"
        + (f'<div class="card scroll"><table><tr><th>action</th>{header}</tr>{rows}</table></div>' if rows else "")
    )


def share(values) -> str:
    """Mean of one value a fold."""
    known = [value for value in values if value is not None]
    return percent(sum(known) / len(known)) if known else "–"
