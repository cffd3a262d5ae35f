"""The self-labelling section of an evaluation's page: the models before (v1) and after the last
round (v2 after one), and what was labelled."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from halsted_ray.reporting.evaluation_plots import Figures
from halsted_ray.reporting.html_page import number, percent, table_card
from halsted_ray.selflabel.gain import by_action

UNITS = {"clips": "annotated clips", "grid": "windows of a map"}


def comparison_section(figures: Figures) -> str:
    """Returns the comparison of v1 with the model after the last round (``selflabel.gain``), on clips, on windows and
    on both; '' where only one model was evaluated."""
    comparison = figures.get("comparison")
    if not comparison:
        return ""
    several, after, kept = comparison["over"] == "folds", comparison["after"], comparison["keep"]
    sources = comparison["sources"]
    both = gain_table(comparison, sources, several, after, kept)
    by_unit = "".join(
        f"<h3>On {title} alone</h3>{gain_table(comparison['units'][unit], {}, several, after, kept)}"
        for unit, title in UNITS.items()
        if unit in comparison["units"]
    )
    rounds = comparison.get("rounds", [])
    earlier = "".join(
        f"<li>{escape(of_round['after'])}: {points(of_round['gain'])} on {escape(of_round['task'])}</li>"
        for of_round in rounds
    )
    return (
        f"<section><h2>{after} compared with v1: keep {kept}</h2><p>v1 is the model before self-labelling, {after} the "
        "model after it. Both tagged the same clips and windows of the same held-out videos; here both count alike. "
        f"The interval of the gain is {'t over folds' if several else 'a bootstrap over videos'}. {after} is kept if "
        f"the interval of its gain on {escape(comparison['task'])} lies above zero; here it "
        f"{'does' if kept == after else 'does not'}. <i>p worse</i> is the share of bootstrap draws of videos in which "
        f"{after} is worse. The columns on labels compare {after}'s accuracy on held-out videos where a person "
        "labelled the window, and where the model that gave it its labels would.</p>"
        f"{both}{by_unit}"
        + (f"<h3>After each earlier round, compared with v1</h3><ul>{earlier}</ul>" if earlier else "")
        + f"{label_card(comparison['labels'], f'v{len(rounds) + 1}')}</section>"
    )


def gain_table(block: Figures, sources: Figures, several: bool, after: str, kept: str) -> str:
    """Returns the table by task of ``block`` (``folds`` and ``videos``). ``sources``: accuracy by who labelled, of
    which the columns are left out where there is none. ``several``: whether the intervals are over folds.
    ``kept``: the model whose accuracy stands in bold type."""
    rows = []
    for task, own in block["folds"].items():
        videos = block["videos"]["mean"] if task == "mean" else block["videos"]["tasks"][task]
        cells = [
            *(
                f"<b>{share(own[side])}</b>" if name == kept else share(own[side])
                for name, side in (("v1", "first"), (after, "second"))
            ),
            *points_and_interval(own["difference"] if several else videos),
            *(number(value, 3) for value in (own["t_p"], own["wilcoxon_p"], videos["p_worse"])),
        ]
        if sources:
            by = sources.get(task, {})
            cells += [share(by.get("manual", ())), share(by.get("ai", ())), number(by.get("wilcoxon_p"), 3)]
        rows.append((escape(task), *cells))
    names = ["v1", after, "gain", "95%", "p (t)", "p (Wilcoxon)", "p worse"]
    if sources:
        names += [f"{after} on persons' labels", f"{after} on the model's labels", "p of labels (Wilcoxon)"]
    return table_card(("task", *names), rows, texts=("task",))


def points_and_interval(gain: Figures) -> tuple[str, str]:
    """Returns a gain in points, and its interval; – where there is none."""
    value = "–" if gain["value"] is None else f"{100 * gain['value']:+.1f}"
    return value, "–" if gain["low"] is None else f"{100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}"


def points(gain: Figures) -> str:
    """Returns a gain in points with its interval, in a line."""
    value, interval = points_and_interval(gain)
    return f"{value} ({interval})"


def label_card(reports: list[Figures], labeller: str) -> str:
    """Returns the table by action of the labels in the unlabelled archive, and how many each threshold kept.

    ``reports``: of ``selflabel.labelling``, one per model. ``labeller``: the name of these models.
    """
    rows = [
        (
            escape(name),
            " ".join("–" if value is None else f"{value:.2f}" for value in own["thresholds"]),
            percent(own["precision"]),
            *(f"{own[count]:,}" for count in ("said", "kept", "dropped", "clips")),
        )
        for name, own in by_action(reports).items()
    ]
    if not reports:
        return ""
    passed = sum(report["gate"]["passed"] for report in reports)
    gates = " ".join(percent(report["gate"]["mean"]) for report in reports)
    columns = ("action", "threshold (one per model)", "precision", "windows predicted", "kept", "dropped", "clips")
    return (
        f"<h3>What {labeller} labelled, and which threshold dropped how much</h3><p>{passed} of {len(reports)} "
        f"models passed the gate of {percent(reports[0]['gate']['least'])} average accuracy ({gates}). A threshold "
        f"is the smallest confidence at which {labeller}'s predictions of an action are right often enough on "
        "validation videos; – means that no confidence is enough. Precision is measured on validation videos, at the "
        "threshold.</p>" + (table_card(columns, rows, texts=("action",)) if rows else "")
    )


def share(values: Iterable[float | None]) -> str:
    """Returns the mean over folds in percent; – where no value is known."""
    known = [value for value in values if value is not None]
    return percent(sum(known) / len(known)) if known else "–"
