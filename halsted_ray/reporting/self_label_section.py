"""The self-labelling section of an evaluation's page: the models before (v1) and after (v2), and what v1 labelled."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from halsted_ray.reporting.evaluation_plots import Figures
from halsted_ray.reporting.html_page import number, percent
from halsted_ray.selflabel.gain import by_action


def comparison_section(figures: Figures) -> str:
    """Returns the comparison of v1 and v2 (``selflabel.gain``); '' where only one model was evaluated."""
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
            "p (Wilcoxon)",
            "p worse",
            "v2 on persons' labels",
            "v2 on v1's labels",
            "p (Wilcoxon)",
        )
    )
    kept = comparison["keep"]
    return (
        f"<section><h2>v2 compared with v1: keep {kept}</h2><p>v1 is the model before self-labelling, v2 the model "
        "after it. Both tagged the same windows of the same held-out videos. The interval of the gain is "
        f"{'t over folds' if several else 'a bootstrap over videos'}. v2 is kept if the interval of its gain on "
        f"{escape(comparison['task'])} lies above zero; here it {'does' if kept == 'v2' else 'does not'}. <i>p "
        "worse</i> is the share of bootstrap draws of videos in which v2 is worse. The last three columns compare v2's "
        "accuracy on held-out videos where a person labelled the window, and where v1 would label it.</p>"
        f'<div class="card scroll"><table><tr><th>task</th>{header}</tr>{"".join(rows)}</table></div>'
        f"{label_card(comparison['labels'])}</section>"
    )


def label_card(reports: list[Figures]) -> str:
    """Returns the table by action of v1's labels in the unlabelled archive, and how many each threshold kept.

    ``reports``: of ``selflabel.labelling``, one per model.
    """
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
        for name in ("threshold (one per model)", "precision", "windows predicted", "kept", "dropped", "clips")
    )
    return (
        f"<h3>What v1 labelled, and which threshold dropped how much</h3><p>{passed} of {len(reports)} models passed "
        f"the gate of {percent(reports[0]['gate']['least'])} average accuracy ({gates}). A threshold is the smallest "
        "confidence at which v1's predictions of an action are right often enough on validation videos; – means that "
        "no confidence is enough. Precision is measured on validation videos, at the threshold.</p>"
        + (f'<div class="card scroll"><table><tr><th>action</th>{header}</tr>{rows}</table></div>' if rows else "")
    )


def share(values: Iterable[float | None]) -> str:
    """Returns the mean over folds in percent; – where no value is known."""
    known = [value for value in values if value is not None]
    return percent(sum(known) / len(known)) if known else "–"
