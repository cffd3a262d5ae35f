"""The page of an evaluation: accuracy, baselines, calibration, confused categories, and frames of the mistakes."""

from __future__ import annotations

from html import escape

from halsted_ray.evaluation.predictions import LLAMA, MODEL, REFERENCE
from halsted_ray.evaluation.run_evaluation import Evaluation
from halsted_ray.evaluation.sais import SAIS, SAIS_HEAD
from halsted_ray.reporting.confusion_table import confusion_card
from halsted_ray.reporting.evaluation_plots import (
    Figures,
    coverage_plot,
    curve_plot,
    map_plot,
    methods_plot,
    reliability_plot,
)
from halsted_ray.reporting.film_strips import film_strips
from halsted_ray.reporting.html_page import (
    folded,
    meter,
    number,
    percent,
    plot_card,
    render_page,
    table_card,
    text_with_code,
    tile_section,
    times,
)
from halsted_ray.reporting.literature_section import literature_section
from halsted_ray.reporting.published_section import benchmark_section, figure_section, roc_section
from halsted_ray.reporting.self_label_section import comparison_section
from halsted_ray.reporting.svg_chart import PAIR_PX, TRIO_PX, chart_svg
from halsted_ray.reporting.terminal import clock
from halsted_ray.reporting.verdict import evaluation_verdict, kept_method
from halsted_ray.storage.files import write_atomically
from halsted_ray.storage.locations import filesystem
from halsted_ray.taxonomy import Taxonomy

NAMES = {
    MODEL: "Halsted",
    REFERENCE: "v1",
    "chance": "chance",
    "majority": "majority",
    "linear": "linear probe",
    SAIS: "SAIS",
    SAIS_HEAD: "SAIS head on the model's vectors",
    LLAMA: "Llama, text answers",
}


def write_evaluation(evaluation: Evaluation, to: str, clips: int = 12) -> None:
    """Writes the report to the file or URL ``to``, with frames of the ``clips`` worst mistakes (0: no pictures).

    Where a video can't be read, the page shows the reason. Raises OutputError where ``to`` can't be written.
    """
    shown = evaluation.figures["mistakes"][:clips]
    pictures = film_strips(shown, {video.video_id: video for video in evaluation.atlas.videos})
    page = evaluation_page(evaluation.figures, evaluation.taxonomy, list(zip(shown, pictures, strict=True)))
    fs, path = filesystem(to)
    write_atomically(fs, path, page.encode())


def evaluation_page(figures: Figures, taxonomy: Taxonomy, mistakes: list[tuple[Figures, str]]) -> str:
    """Returns the HTML text. ``mistakes``: each with a ``data:`` URL of its frames, or the reason why it has none."""
    sections = [
        overview_section(figures),
        caveat_section(figures),
        comparison_section(figures),
        tag_section(figures),
        method_section(figures),
        benchmark_section(figures, NAMES),
        literature_section(figures),
        group_section(figures, taxonomy),
        confusion_section(figures),
        roc_section(figures),
        reliability_section(figures),
        coverage_section(figures),
        figure_section(figures),
        map_section(figures, taxonomy),
        curve_section(figures),
        mistake_section(mistakes),
        fold_section(figures),
    ]
    model, release = figures["model"], figures["atlas"]["release"]
    heading = f"Evaluation on {release}" if model is None else f"Evaluation of {model['name']} {model['version']}"
    lineage = "".join(
        f"<span>{name} <code>{escape(str(value))}</code></span>"
        for name, value in (
            ("atlas", release),
            ("Delta version", figures["atlas"]["version"]),
            ("taxonomy", figures["atlas"]["taxonomy_digest"]),
            ("encoder", figures["encoder"]["fingerprint"]),
            ("evaluation", figures["evaluation_id"]),
        )
    )
    return render_page(heading, lineage, evaluation_verdict(figures), sections)


def overview_section(figures: Figures) -> str:
    """Returns the tiles with the most important figures, of the model that is kept."""
    kept = kept_method(figures)
    own, of_clips = figures["methods"][kept], figures["clips"]["methods"][kept]
    tasks = {name: entry["value"] for name, entry in own["tasks"].items() if entry["value"] is not None}
    worst = min(tasks, key=lambda name: tasks[name], default="none")
    tiles = [
        (percent(of_clips["mean"]["value"]), "mean accuracy over tags, on annotated clips", ""),
        (percent(own["mean"]["value"]), "mean accuracy over tags, on windows of a map", ""),
        (percent(tasks.get(worst)), f"worst task on windows: {worst}", ""),
        # Measured of one model only, and that model may be the one that is not kept.
        (number(figures["calibration_error"]) if kept == MODEL else "–", "calibration error", ""),
        (str(len({**figures["videos"], **figures["clips"]["videos"]})), "test videos", ""),
        (f"{of_clips['mean']['samples']:,}", "predictions tested on clips", ""),
        (f"{own['mean']['samples']:,}", "predictions tested on windows", ""),
        (str(len(figures["folds"])), "folds" if len(figures["folds"]) > 1 else "split", ""),
    ]
    return tile_section(tile for tile in tiles if tile[0] != "–")


def caveat_section(figures: Figures) -> str:
    """Why the figures may be too good, and which model the parts are about; '' where there is nothing to say."""
    caveats = "".join(f"<p><b>Caution:</b> {escape(caveat)}.</p>" for caveat in figures["caveats"])
    if kept_method(figures) != MODEL:
        after = escape(figures["comparison"]["after"])
        caveats += (
            f"<p>The summary and the accuracy by tag are those of {REFERENCE}, the model that is kept. Every other "
            f"part measures {after} ({NAMES[MODEL]} in charts and tables), which is not kept, or compares the two.</p>"
        )
    return f"<section>{caveats}</section>" if caveats else ""


def tag_section(figures: Figures) -> str:
    """Returns the tables of figures by tag: on annotated clips, and on the windows of a map."""
    kept = kept_method(figures)
    untaught = {tag: entry["untaught"] for tag, entry in figures["methods"][kept]["tags"].items() if entry["untaught"]}
    left = ", ".join(f"{count:,} windows of {tag}" for tag, count in untaught.items())
    several = len(figures["folds"]) > 1
    how = (
        f"Mean over {len(figures['folds'])} folds ({escape(str(figures['strategy']).replace('_', ' '))})"
        if several
        else escape(str(figures["strategy"]).capitalize())
    )
    return (
        f"<section><h2>Accuracy by tag</h2><p>{how}; whole videos are held out. Accuracy is the share of clips, or of "
        "windows, whose tag is exactly right. AUROC and mAP (mean average precision) measure how the model ranks the "
        "categories when the earlier tags are given. ECE is the calibration error over bins of equal count. The two "
        "95% intervals are t over folds, and a bootstrap over videos. The dark mark in a bar is chance. Wrong windows "
        "of one clip come together, so wrong clips, and videos with an error, are counted beside them."
        + (
            f" The model can't be right on windows whose category no training video shows: {escape(left)}."
            if left
            else ""
        )
        + f"</p><h3>Annotated clips (the paper's protocol)</h3><p>{text_with_code(figures['clips']['how'])}</p>"
        + tag_table(figures["clips"], kept)
        + f"<h3>Windows of a map</h3><p>{text_with_code(figures['how'])} F1@10 and the edit score compare spans of "
        f"windows over time. {escape(' '.join(alarms(figures, kept)))}</p>{tag_table(figures, kept)}</section>"
    )


def alarms(figures: Figures, method: str) -> list[str]:
    """A sentence per task: how often it would be asked where the truth is something else."""
    return [
        f"{task} would be asked in {percent(found['share'])} of the {found['elsewhere']:,} windows that show something "
        f"else, in {found['videos']} videos."
        for task, found in figures["methods"][method]["false_alarms"].items()
    ]


def tag_table(block: Figures, method: str) -> str:
    """Returns the table of one method's figures by tag in one protocol."""
    tags = block["methods"][method]["tags"]
    columns = {
        "auroc": "AUROC",
        "average_precision": "mAP",
        "f1_10": "F1@10",
        "edit": "edit",
        "calibration_error": "ECE",
    }
    measured = {name: title for name, title in columns.items() if any(name in entry for entry in tags.values())}
    titles = ("accuracy", "95%: folds", "95%: videos", "chance", "times chance", *measured.values())
    counted = ("windows", "clips", "videos")
    rows = [
        (
            escape(tag),
            meter(entry["accuracy"]["value"], entry["chance"]),
            f"<b>{percent(entry['accuracy']['value'])}</b>",
            small(interval(entry["accuracy"]["t"])),
            small(interval(entry["accuracy"]["bootstrap"])),
            percent(entry["chance"]),
            times(entry["relative_improvement"]),
            *(number(entry[name]["value"]) if name in entry else "–" for name in measured),
            *(f"{entry['errors'][unit]:,.0f} of {entry['counts'][unit]:,}" for unit in counted),
        )
        for tag, entry in tags.items()
    ]
    return table_card(("tag", "", *titles, *(f"wrong {unit}" for unit in counted)), rows, texts=("tag",), kind="narrow")


def method_section(figures: Figures) -> str:
    """Returns chart and table of all methods; '' where the model is the only one."""
    methods = figures["methods"] if figures["methods"][MODEL]["tags"] else figures["clips"]["methods"]
    if len(methods) < 2:
        return ""
    kind = "t" if len(figures["folds"]) > 1 else "bootstrap"
    rows = []
    for tag in [*methods[MODEL]["tags"], "mean"]:
        found = {
            name: (of["mean"] if tag == "mean" else of["tags"].get(tag, {}).get("accuracy"))
            for name, of in methods.items()
        }
        values = {name: entry["value"] for name, entry in found.items() if entry and entry["value"] is not None}
        cells = [
            bold(percent(values.get(name)), values.get(name) == max(values.values()))
            + f'<div class="times">{interval(entry[kind], "") if entry and name != "chance" else ""}</div>'
            for name, entry in found.items()
        ]
        rows.append((escape(tag), *cells))
    columns = ("tag", *(NAMES.get(name, name) for name in methods))
    return (
        "<section><h2>Compared with baselines</h2><p>All methods were trained and tested on the same videos and "
        "windows. The linear probe and SAIS have one model per tag. Halsted has one model for all tags. SAIS reads "
        f"{sais_reads(figures)}</p>"
        f'<div class="card">{chart_svg("accuracy by tag and method", methods_plot(methods, NAMES))}</div>'
        f"{table_card(columns, rows, texts=('tag',))}</section>"
    )


def sais_reads(figures: Figures) -> str:
    """Says which vectors SAIS reads, and which form of it that is."""
    if encoder := figures.get("sais_encoder"):
        return f"the vectors per frame of the encoder {escape(encoder)}, over three grids of frames, as published."
    return "the model's own vectors per time step: this is SAIS's head, not the published method as a whole."


def group_section(figures: Figures, taxonomy: Taxonomy) -> str:
    """Returns a table per group of videos or windows, on annotated clips and on windows of a map."""
    return (
        "<section><h2>By task, specialty, procedure, source and window</h2><p>The mean accuracy over a task's tags. "
        "Below it: the 95% interval of a bootstrap over videos, which a single video does not have.</p>"
        f"<h3>Annotated clips (the paper's protocol)</h3>{group_tables(figures['clips'], taxonomy)}"
        f"<h3>Windows of a map</h3>{group_tables(figures, taxonomy)}</section>"
    )


def group_tables(block: Figures, taxonomy: Taxonomy) -> str:
    """Returns the tables of one protocol's groups; clips have one kind of window, which says nothing."""
    tasks = [task.name for task in taxonomy.tasks if task.name in block["methods"][MODEL]["tasks"]]
    cards = []
    for group, entries in {"": {"all": block["methods"][MODEL]}, **block["groups"]}.items():
        if not entries or list(entries) == ["clip"]:
            continue
        rows = [
            (
                escape(name),
                *(with_interval(entry["tasks"].get(task)) for task in tasks),
                with_interval(entry["mean"]),
                str(entry["mean"]["videos"]),
                f"{entry['mean']['samples']:,}",
            )
            for name, entry in entries.items()
        ]
        title = {"source": "source of the labels", "window": "kind of window"}.get(group, group)
        cards.append(table_card((title, *tasks, "mean", "videos", "predictions"), rows, texts=(title,)))
    return "".join(cards)


def confusion_section(figures: Figures) -> str:
    """Returns a confusion matrix per tag."""
    cards = "".join(
        confusion_card(f"confusion-{tag}", tag, confusion) for tag, confusion in figures["confusion"].items()
    )
    return (
        "<section><h2>Which categories are confused</h2><p>The numbers are windows. A row is a true category, a column "
        "a predicted category. The darker a cell, the larger its share of the row.</p>"
        f'<div class="pair">{cards}</div></section>'
    )


def reliability_section(figures: Figures) -> str:
    """Returns a reliability diagram per tag."""
    cards = []
    for tag, bins in figures["reliability"].items():
        error = figures["methods"][MODEL]["tags"][tag]["calibration_error"]["value"]
        cards.append(plot_card(f"{tag} · calibration error {number(error)}", reliability_plot(bins), TRIO_PX))
    return (
        "<section><h2>Is a confidence of 0.9 right 9 times in 10?</h2><p>On the diagonal it is. Below the diagonal the "
        "confidence is too high. A larger dot stands for more predictions.</p>"
        f'<div class="trio">{"".join(cards)}</div></section>'
    )


def coverage_section(figures: Figures) -> str:
    """Returns a curve of accuracy over coverage per tag; '' for figures of a version that had none."""
    if not figures.get("coverage"):
        return ""
    cards = []
    for tag, curve in figures["coverage"].items():
        interval = "" if curve["low"] is None else f" ({number(curve['low'])} to {number(curve['high'])})"
        title = (
            f"{tag} · AURC {number(curve['aurc'])} · calibration error {number(curve['calibration_error'])}{interval}"
        )
        cards.append(plot_card(title, coverage_plot(curve), TRIO_PX))
    return (
        "<section><h2>How right are the surest answers?</h2><p>The answers with the lowest confidence are left out "
        "first; coverage is the share that is kept. AURC, the area under the error, is the mean error over all "
        "coverages: lower is better. The calibration error here is over bins of equal count, with its 95% interval "
        f'from videos drawn with replacement.</p><div class="trio">{"".join(cards)}</div></section>'
    )


def map_section(figures: Figures, taxonomy: Taxonomy) -> str:
    """Returns UMAPs of encoder and decoder features; '' where none were computed."""
    if figures["map"] is None:
        return ""
    cards = []
    for side, title in (("encoder", "encoder: the clip's vector"), ("decoder", "decoder: its last layer")):
        cards.append(plot_card(title, map_plot(figures["map"], side, taxonomy), PAIR_PX))
    return (
        f"<section><h2>Maps of features</h2><p>UMAP of held-out {escape(figures['map']['task'])} clips of the "
        "first fold, by one model; colour is the procedure, a larger dot a low proficiency, as in the paper.</p>"
        f'<div class="pair">{"".join(cards)}</div></section>'
    )


def curve_section(figures: Figures) -> str:
    """Returns loss and accuracy over the epochs; '' where no model was trained."""
    curves = [fold["curve"] for fold in figures["folds"] if fold["curve"]]
    if not curves:
        return ""
    cards = plot_card("training loss", curve_plot(curves, "loss"), PAIR_PX) + plot_card(
        "validation accuracy by task", curve_plot(curves, "accuracy"), PAIR_PX
    )
    return (
        "<section><h2>Over the epochs</h2><p>The line is the mean over folds, the band is one standard error.</p>"
        f'<div class="pair">{cards}</div></section>'
    )


def mistake_section(mistakes: list[tuple[Figures, str]]) -> str:
    """Returns a card per mistake with its frames; '' where there are none."""
    if not mistakes:
        return ""
    cards = "".join(
        f'<div class="card"><div class="head"><span><b>{escape(entry["tag"])}</b></span>'
        f"<span>predicted <b>{escape(entry['said'])}</b> (confidence {entry['confidence']:.2f})</span>"
        f'<span>truth <b>{escape(entry["truth"])}</b></span><span class="id">{escape(entry["video_id"])}</span>'
        f"<span>{clock(entry['start_s'], 1)} – {clock(entry['stop_s'], 1)}</span></div>"
        + (
            f'<img class="strip" alt="frames of the window" src="{picture}">'
            if picture.startswith("data:")
            else f"<p>no picture: {escape(picture)}</p>"
        )
        + "</div>"
        for entry, picture in mistakes
    )
    return (
        "<section><h2>The most confident mistakes</h2><p>Wrong predictions with the highest confidence; the tags take "
        "turns. The frames run from the start of the window to its end. They are pictures from the videos, so share "
        f"this file only with people who may see them.</p>{cards}</section>"
    )


def fold_section(figures: Figures) -> str:
    """Returns the table of the videos in each fold."""
    rows = [
        (
            str(fold["fold"]),
            str(fold["train"]),
            *(f'<span class="id">{" ".join(map(escape, fold[part]))}</span>' for part in ("validation", "test")),
        )
        for fold in figures["folds"]
    ]
    columns = ("fold", "training videos", "validation videos", "test videos")
    table = table_card(columns, rows, texts=("fold", "validation videos", "test videos"))
    return f"<section><h2>The videos of each fold</h2>{folded('Show the videos', table)}</section>"


def with_interval(entry: Figures | None) -> str:
    """Returns an accuracy with its bootstrap interval below it; – where it is not known."""
    if entry is None or entry["value"] is None:
        return "–"
    return f'{percent(entry["value"])}<div class="times">{interval(entry["bootstrap"], empty="")}</div>'


def interval(borders: list[float | None], empty: str = "–") -> str:
    """Returns [low, high] in percent, cut to 0 and 100; ``empty`` where a border is not known."""
    low, high = borders
    return empty if low is None or high is None else f"{100 * max(0, low):.1f}–{100 * min(1, high):.1f}"


def small(text: str) -> str:
    """Returns text in a smaller size."""
    return f'<span class="times">{text}</span>'


def bold(text: str, is_bold: bool) -> str:
    """Returns text, in bold type if ``is_bold``."""
    return f"<b>{text}</b>" if is_bold else text
