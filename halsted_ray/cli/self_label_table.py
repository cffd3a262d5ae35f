"""Prints the comparison of two models on the same held-out videos, before and after a round of self-labelling."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from halsted_ray.cli.text_tables import counted, percent, table

if TYPE_CHECKING:
    from halsted_ray.records import JsonObject

TITLES = {"clips": "Annotated clips (the paper's protocol)", "grid": "Windows of a map"}


def comparison_text(comparison: JsonObject) -> str:
    """The figures of ``selflabel.gain``: the gain of each task on annotated clips, on a map's windows and on both,
    which model to keep, the accuracy by the source of the annotations, and the labels that were added between the two
    models (v1 and v2). Of several rounds the tables show the last, and a line tells the gain of each other."""
    over, after = comparison["over"], comparison["after"]
    lines = []
    for unit, title in TITLES.items():
        if unit in comparison["units"]:
            lines += [title, gain_table(comparison["units"][unit], over, after), ""]
    lines += ["Clips and windows alike", gain_table(comparison, over, after), verdict(comparison)]
    lines += [round_line(of_round) for of_round in comparison.get("rounds", ())]
    if sources := comparison["sources"].get(comparison["task"]):
        lines.append(
            f"{after} on held-out {comparison['task']}: agrees with {mean(sources['manual'])} of the annotators' "
            f"labels,\n  and with {mean(sources['ai'])} of its labeller's"
        )
    if comparison["labels"]:
        lines += ["", labels_table(comparison["labels"])]
    return "\n".join(lines)


def round_line(of_round: JsonObject) -> str:
    """What an earlier round of several gained."""
    gain = of_round["gain"]
    points = "–" if gain["value"] is None else f"{100 * gain['value']:+.1f}"
    return f"after an earlier round, {of_round['after']}: {points} ({interval(gain)}) on {of_round['task']}"


def gain_table(comparison: JsonObject, over: str, after: str) -> str:
    """Accuracy of v1 and of ``after`` per task, the gain in percent points with its 95% interval ``over`` folds or
    videos, and p values."""
    rows = []
    for task, own in comparison["folds"].items():
        videos = comparison["videos"]["mean"] if task == "mean" else comparison["videos"]["tasks"][task]
        gain, ps = (
            (own["difference"], (own["t_p"], own["wilcoxon_p"])) if over == "folds" else (videos, (videos["p_worse"],))
        )
        rows.append(
            (
                task,
                mean(own["first"]),
                mean(own["second"]),
                f"{100 * gain['value']:+.1f}",
                interval(gain),
                *map(number, ps),
            )
        )
    header = (
        "task",
        "v1",
        after,
        "gain",
        f"95% over {over}",
        *(("p (t)", "Wilcoxon") if over == "folds" else ("p worse",)),
    )
    return table(header, rows, right=range(1, len(header)))


def verdict(comparison: JsonObject) -> str:
    """Which of the two models to keep, and why."""
    above = "is" if comparison["keep"] == comparison["after"] else "is not"
    return (
        f"keep {comparison['keep']}: the 95% interval of {comparison['after']}'s gain on {comparison['task']} {above} "
        "above zero"
    )


def labels_table(reports: Sequence[JsonObject]) -> str:
    """Per action, over all folds: the threshold, and how many windows it kept and dropped."""
    from halsted_ray.selflabel.gain import by_action

    passed = [report for report in reports if report["gate"]["passed"]]
    rows = [
        (
            name,
            span(own["thresholds"]),
            percent(own["precision"]),
            own["said"],
            own["kept"],
            own["dropped"],
            own["clips"],
        )
        for name, own in by_action(reports).items()
    ]
    header = ("action", "threshold", "precision", "windows", "kept", "dropped", "clips")
    added = sum(sum(report.get("added", {}).values()) for report in reports)
    return (table(header, rows, right=range(1, len(header))) + "\n" if rows else "") + (
        f"gate: {len(passed)} of {len(reports)} models passed; {counted(added, 'sample')} added, "
        f"{sum(report.get('labelled_s', 0) for report in reports) / 60:.1f} minutes"
    )


def span(thresholds: Sequence[float | None]) -> str:
    """The smallest and largest threshold of the folds; – where no confidence is enough in any fold."""
    known = [value for value in thresholds if value is not None]
    if not known:
        return "–"
    low, high = min(known), max(known)
    return (f"{low:.2f}" if high - low < 0.005 else f"{low:.2f}–{high:.2f}") + (
        f" ({len(known)} of {len(thresholds)})" if len(known) < len(thresholds) else ""
    )


def mean(values: Sequence[float | None]) -> str:
    """The mean of the known values, in percent; – where none is known."""
    known = [value for value in values if value is not None]
    return percent(fmean(known)) if known else "–"


def interval(gain: JsonObject) -> str:
    """``low`` to ``high``, in percent points."""
    return "–" if gain["low"] is None else f"{100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}"


def number(value: float | None) -> str:
    """Three decimals; – for None."""
    return "–" if value is None else f"{value:.3f}"
