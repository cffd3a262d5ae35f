"""The literature's figures of a published data set on an evaluation's page (``evaluation.published_split``)."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from halsted_ray.reporting.evaluation_plots import Figures
from halsted_ray.reporting.html_page import percent, table_card

MEASURES = ("precision", "recall", "jaccard")
AVERAGES = {"by_video": "by video", "by_phase": "by phase"}


def literature_section(figures: Figures) -> str:
    """Returns a table per fold and tag of phases, segmentations and tools; '' for another split than the published."""
    literature = figures.get("literature")
    if not literature:
        return ""
    folds = literature["folds"]
    tables = [
        f"<h3>{escape(title)}{f', fold {number}' if len(folds) > 1 else ''}</h3>{table}"
        for number, tasks in enumerate(folds, 1)
        for task in tasks.values()
        for title, table in task_tables(task)
    ]
    return (
        "<section><h2>As the data set's literature counts</h2><p>On the published test part; mean (standard deviation) "
        f"with one answer per {literature['step_s']:g} s, that of the window of {literature['window_s']:g} s around "
        "it. Relaxed: 10 s at the borders of phases are forgiven. By video: over videos of the mean over phases; by "
        f"phase: over phases of the mean over videos.</p>{''.join(tables)}</section>"
    )


def task_tables(task: Figures) -> list[tuple[str, str]]:
    """Returns (title, table) of each tag of a task, and of its tools."""
    found = []
    for tag, own in task.get("phases", {}).items():
        if "score" in own:
            row = [mean_sd(own["accuracy"]), mean_sd(own["f1_10"]), percent(own["score"])]
            found.append((tag, html_table(["", "accuracy", "F1@10", "score"], [["frames", *row]])))
            continue
        rows = [
            [
                f"{kind}, {title}",
                mean_sd(own[kind]["accuracy"]),
                *(mean_sd(own[kind][name][by]) for name in MEASURES),
            ]
            for kind in ("strict", "relaxed")
            for by, title in AVERAGES.items()
        ]
        found.append((tag, html_table(["", "accuracy", *MEASURES], rows)))
    if tools := task.get("tools"):
        rows = [[tool, percent(value)] for tool, value in tools["average_precision"].items()]
        rows += [["mAP, all frames", percent(tools["map"])], ["mAP by video", percent(tools["map_by_video"])]]
        found.append(("tools", html_table(["", "average precision"], rows)))
    return found


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table whose first column names the rows and whose others are numbers; all text is plain."""
    return table_card(header, [[escape(cell) for cell in row] for row in rows], texts=header[:1])


def mean_sd(found: Sequence[float | None]) -> str:
    """Returns a mean with its standard deviation in brackets, in percent."""
    mean, sd = found
    return percent(mean) + (f" ({100 * sd:.1f})" if sd is not None else "")
