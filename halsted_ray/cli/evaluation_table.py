"""The tables that ``halsted evaluate`` prints: a model's figures per tag, the paper's comparisons, the literature's."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from halsted_ray.cli.text_tables import WIDTH, counted, interval, percent, table

if TYPE_CHECKING:
    from halsted_ray.records import JsonObject

COUNTED = ("windows", "clips", "videos")
"""What a figure rests on, in the order of ``error_table``."""


def methods_table(figures: JsonObject) -> str:
    """Accuracy of each method per tag on annotated clips, then on the windows of a map; on how many windows, clips and
    videos it rests; and how often a task is asked where the truth is something else."""
    several = len(figures["folds"]) > 1
    own = next(iter(figures["methods"].values()))
    parts = [
        "Annotated clips (the paper's protocol)\n" + unit_table(figures["clips"], several),
        textwrap.fill(figures["clips"]["how"], WIDTH),
        "Windows of a map\n" + unit_table(figures, several),
        textwrap.fill(figures["how"], WIDTH),
        error_table(figures),
    ]
    parts += [
        textwrap.fill(
            f"false alarms: {task} would be asked in {found['alarms']:,} of {counted(found['elsewhere'], 'window')} "
            f"({percent(found['share'])}) that show something else, in {counted(found['videos'], 'video')}",
            WIDTH,
        )
        for task, found in own["false_alarms"].items()
    ]
    return "\n\n".join(parts)


def error_table(figures: JsonObject) -> str:
    """What the first method's figures rest on: windows, clips and videos of each tag, and the errors among them."""
    tags: dict[str, JsonObject] = {}
    for block in (figures, figures["clips"]):
        tags = next(iter(block["methods"].values()))["tags"] | tags
    rows = [
        (tag, *(f"{of_tag[what][unit]:,.0f}" for unit in COUNTED for what in ("counts", "errors")))
        for tag, of_tag in tags.items()
    ]
    header = ("tag", "windows", "wrong", "clips", "wrong", "videos", "with an error")
    return table(header, rows, right=range(1, len(header)))


def unit_table(block: JsonObject, several: bool) -> str:
    """Accuracy of each method per tag; the first method's with its 95% interval, over folds where there are
    ``several``, else over videos."""
    methods = block["methods"]
    own, *others = methods
    kind = "t" if several else "bootstrap"
    rows = [
        (
            tag,
            percent(of_tag["accuracy"]["value"]),
            interval(of_tag["accuracy"][kind]),
            *(percent(methods[name]["tags"].get(tag, {}).get("accuracy", {}).get("value")) for name in others),
        )
        for tag, of_tag in methods[own]["tags"].items()
    ]
    rows.append(
        (
            "mean",
            percent(methods[own]["mean"]["value"]),
            interval(methods[own]["mean"][kind]),
            *(percent(methods[name]["mean"]["value"]) for name in others),
        )
    )
    header = ("tag", own, "95% interval", *map(title_of, others))
    return table(header, rows, right=range(1, len(header)))


def benchmark_table(benchmark: JsonObject) -> str:
    """The figures of one of the paper's comparisons, with the published rows and their sources below ours."""
    if benchmark["name"] == "rarp50":
        return rarp50_table(benchmark)
    measure = "auroc" if benchmark["name"] == "sais" else "accuracy"
    rows = [
        (title_of(name), tag, percent(own["value"]), interval((own["low"], own["high"])))
        for name, of_tags in benchmark["methods"].items()
        for tag, own in of_tags.items()
    ]
    rows += [
        (f"published: {row['method']}", row["tag"], percent(row[measure]), interval((row["low"], row["high"])))
        for row in benchmark["published"]
    ]
    header = ("method", "tag", "AUROC" if measure == "auroc" else "accuracy", "95% interval")
    sources = "; ".join(dict.fromkeys(row["source"] for row in benchmark["published"]))
    parts = [
        table(header, rows, right=(2, 3)),
        textwrap.fill(f"Published: {sources}, on other videos; so compare the order, not the values.", WIDTH),
    ]
    if "p" in benchmark:
        tests = "; ".join(
            f"{tag} p = {p_value(found['t'])} (paired t), {p_value(found['wilcoxon'])} (Wilcoxon)"
            for tag, found in benchmark["p"].items()
        )
        parts.append(textwrap.fill(f"Both decoders alike? Over folds: {tests}.", WIDTH))
    return "\n\n".join(parts)


def rarp50_table(benchmark: JsonObject) -> str:
    """Micro and macro accuracy of each method over segments, as a multiple of chance too, and the published rows."""
    rows = [
        (
            title_of(name),
            percent(own["micro"]),
            percent(own["macro"]),
            percent(own["macro_videos"]),
            percent(benchmark["chance"]),
            f"{own['relative_improvement']:.1f}x",
        )
        for name, own in benchmark["methods"].items()
    ]
    rows += [
        (
            f"paper, {row['method']}",
            percent(row["accuracy"]),
            "–",
            "–",
            percent(row["chance"]),
            f"{row['relative_improvement']:.1f}x",
        )
        for row in benchmark["published"]
    ]
    header = ("segments", "micro", "macro", "by video", "chance", "over chance")
    sources = "\n".join(f"{row['method']}: {row['source']}" for row in benchmark["published"])
    return table(header, rows, right=range(1, len(header))) + "\n\n" + sources


def literature_table(literature: JsonObject) -> str:
    """The literature's figures of each fold: of phases strict and relaxed, of segmentations, of tools."""
    tables = []
    for number, tasks in enumerate(literature["folds"], 1):
        fold = f", fold {number}" if len(literature["folds"]) > 1 else ""
        for task in tasks.values():
            for tag, of_tag in task.get("phases", {}).items():
                if "score" in of_tag:
                    names = ("accuracy", "f1_10", "score")
                    row = (tag, *(mean_sd(of_tag[name]) for name in names[:2]), percent(of_tag["score"]))
                    tables.append(table((f"frames{fold}", *names, ""), [(*row, "")], right=(1, 2, 3)))
                    continue
                names = ("precision", "recall", "jaccard")
                rows = [
                    (
                        f"{kind}, {by.replace('_', ' ')}",
                        mean_sd(of_tag[kind]["accuracy"]),
                        *(mean_sd(of_tag[kind][name][by]) for name in names),
                        "",
                    )
                    for kind in ("strict", "relaxed")
                    for by in ("by_video", "by_phase")
                ]
                tables.append(table((f"{tag}{fold}", "accuracy", *names, ""), rows, right=range(1, 5)))
            if tools := task.get("tools"):
                rows = [(tool, percent(value), "") for tool, value in tools["average_precision"].items()]
                rows += [
                    ("mAP, all frames", percent(tools["map"]), ""),
                    ("mAP by video", percent(tools["map_by_video"]), ""),
                ]
                tables.append(table((f"tools{fold}", "average precision", ""), rows, right=(1,)))
    how = (
        f"Mean (standard deviation). One answer per {literature['step_s']:g} s, that of the window of "
        f"{literature['window_s']:g} s around it; relaxed: 10 s at the borders of phases are forgiven. By video: over "
        "videos of the mean over phases; by phase: over phases of the mean over videos."
    )
    return "\n\n".join([*tables, textwrap.fill(how, WIDTH)])


def mean_sd(found: Sequence[float | None]) -> str:
    """A mean with its standard deviation in brackets, in percent."""
    mean, sd = found
    return percent(mean) + (f" ({100 * sd:.1f})" if sd is not None else "")


def title_of(method: str) -> str:
    """A method's name in a table."""
    return method.replace("_", " ")


def p_value(value: float | None) -> str:
    """A p-value; – where it is unknown."""
    return "–" if value is None else f"{value:.3f}"


def left_out_table(figures: JsonObject) -> str:
    """The figures of ``evaluation.left_out``: per tag what each specialty reaches that was left out, and the mean."""
    rows = [
        (tag, name, method, percent(one["accuracy"]), percent(one["f1"]), f"{one['n']:,}")
        for method, tags in figures["methods"].items()
        for tag, of_tag in tags.items()
        for name, one in of_tag.items()
    ]
    header = ("tag", f"{figures['of']} left out", "method", "accuracy", "macro F1", "answers")
    return table(header, sorted(rows, key=lambda row: (row[0], row[1] == "mean", row[1], row[2])), right=(3, 4, 5))


def vocabulary_table(figures: JsonObject) -> str:
    """The figures of ``evaluation.vocabulary``: how right each method is in the words of another taxonomy."""
    rows = [
        (name, method, percent(one["accuracy"]), percent(one["f1"]), f"{one['n']:,}", f"{one['without']:,}")
        for method, tags in figures["methods"].items()
        for name, one in tags.items()
    ]
    header = (f"in {figures['vocabulary']}", "method", "accuracy", "macro F1", "answers", "no counterpart")
    return table(header, sorted(rows), right=(2, 3, 4, 5))
