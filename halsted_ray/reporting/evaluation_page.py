"""The page of an evaluation: accuracy, baselines, calibration, confused categories, and frames of the mistakes."""

from __future__ import annotations

from html import escape

from halsted_ray.evaluation.predictions import LLAMA, MODEL, REFERENCE
from halsted_ray.evaluation.run_evaluation import Evaluation
from halsted_ray.evaluation.sais import SAIS, SAIS_HEAD
from halsted_ray.reporting.evaluation_plots import Figures, curve_plot, map_plot, methods_plot, reliability_plot
from halsted_ray.reporting.film_strips import film_strips
from halsted_ray.reporting.html_page import (
    meter,
    number,
    percent,
    plot_card,
    plot_element,
    render_page,
    text_with_code,
    tile_section,
)
from halsted_ray.reporting.map_plots import PlotlyFigure, confusion_plot
from halsted_ray.reporting.published_section import benchmark_section, figure_section, roc_section
from halsted_ray.reporting.self_label_section import comparison_section
from halsted_ray.reporting.terminal import clock
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
    plots: dict[str, PlotlyFigure] = {}
    sections = [
        overview_section(figures),
        caveat_section(figures),
        comparison_section(figures),
        tag_section(figures),
        method_section(figures, plots),
        benchmark_section(figures, plots, NAMES),
        group_section(figures, taxonomy),
        confusion_section(figures, plots),
        roc_section(figures, plots),
        reliability_section(figures, plots),
        figure_section(figures, plots),
        map_section(figures, taxonomy, plots),
        curve_section(figures, plots),
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
    return render_page(heading, lineage, sections, plots)


def overview_section(figures: Figures) -> str:
    """Returns the tiles with the most important figures."""
    own, of_clips = figures["methods"][MODEL], figures["clips"]["methods"][MODEL]
    tasks = {name: entry["value"] for name, entry in own["tasks"].items() if entry["value"] is not None}
    worst = min(tasks, key=lambda name: tasks[name], default="none")
    return tile_section(
        (
            (percent(of_clips["mean"]["value"]), "mean accuracy over tags, on annotated clips", ""),
            (percent(own["mean"]["value"]), "mean accuracy over tags, on windows of a map", ""),
            (percent(tasks.get(worst)), f"worst task on windows: {worst}", ""),
            (number(figures["calibration_error"]), "calibration error", ""),
            (str(len({**figures["videos"], **figures["clips"]["videos"]})), "test videos", ""),
            (f"{of_clips['mean']['samples']:,}", "predictions tested on clips", ""),
            (f"{own['mean']['samples']:,}", "predictions tested on windows", ""),
            (str(len(figures["folds"])), "folds" if len(figures["folds"]) > 1 else "split", ""),
        )
    )


def caveat_section(figures: Figures) -> str:
    """Why the figures may be too good; '' where nothing says so."""
    caveats = "".join(f"<p><b>Caution:</b> {escape(caveat)}.</p>" for caveat in figures["caveats"])
    return f"<section>{caveats}</section>" if caveats else ""


def tag_section(figures: Figures) -> str:
    """Returns the tables of figures by tag: on annotated clips, and on the windows of a map."""
    untaught = {tag: entry["untaught"] for tag, entry in figures["methods"][MODEL]["tags"].items() if entry["untaught"]}
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
        "categories when the earlier tags are given. ECE is the expected calibration error. The two 95% intervals are "
        "t over folds, and a bootstrap over videos. The dark mark in a bar is chance. Wrong windows of one clip come "
        "together, so wrong clips, and videos with an error, are counted beside them."
        + (
            f" The model can't be right on windows whose category no training video shows: {escape(left)}."
            if left
            else ""
        )
        + f"</p><h3>Annotated clips (the paper's protocol)</h3><p>{text_with_code(figures['clips']['how'])}</p>"
        + tag_table(figures["clips"])
        + f"<h3>Windows of a map</h3><p>{text_with_code(figures['how'])} F1@10 and the edit score compare spans of "
        f"windows over time. {escape(' '.join(alarms(figures)))}</p>{tag_table(figures)}</section>"
    )


def alarms(figures: Figures) -> list[str]:
    """A sentence per task: how often it would be asked where the truth is something else."""
    return [
        f"{task} would be asked in {percent(found['share'])} of the {found['elsewhere']:,} windows that show something "
        f"else, in {found['videos']} videos."
        for task, found in figures["methods"][MODEL]["false_alarms"].items()
    ]


def tag_table(block: Figures) -> str:
    """Returns the table of figures by tag of one protocol."""
    tags = block["methods"][MODEL]["tags"]
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
    header = "".join(f'<th class="n">{title}</th>' for title in (*titles, *(f"wrong {unit}" for unit in counted)))
    rows = []
    for tag, entry in tags.items():
        accuracy = entry["accuracy"]
        cells = [
            f"<b>{percent(accuracy['value'])}</b>",
            small(interval(accuracy["t"])),
            small(interval(accuracy["bootstrap"])),
            percent(entry["chance"]),
            f"{number(entry['relative_improvement'], 1)}×",
            *(number(entry[name]["value"]) for name in measured),
            *(f"{entry['errors'][unit]:,.0f} of {entry['counts'][unit]:,}" for unit in counted),
        ]
        rows.append(
            f"<tr><td>{escape(tag)}</td><td>{meter(accuracy['value'], entry['chance'])}</td>"
            + "".join(f'<td class="n">{cell}</td>' for cell in cells)
            + "</tr>"
        )
    return f'<div class="card scroll narrow"><table><tr><th>tag</th><th></th>{header}</tr>{"".join(rows)}</table></div>'


def method_section(figures: Figures, plots: dict[str, PlotlyFigure]) -> str:
    """Returns chart and table of all methods; '' where the model is the only one. Adds the chart to ``plots``."""
    methods = figures["methods"] if figures["methods"][MODEL]["tags"] else figures["clips"]["methods"]
    if len(methods) < 2:
        return ""
    plots["methods"] = methods_plot(methods, NAMES)
    kind = "t" if len(figures["folds"]) > 1 else "bootstrap"
    rows = []
    for tag in [*methods[MODEL]["tags"], "mean"]:
        found = {
            name: (of["mean"] if tag == "mean" else of["tags"].get(tag, {}).get("accuracy"))
            for name, of in methods.items()
        }
        values = {name: entry["value"] for name, entry in found.items() if entry and entry["value"] is not None}
        cells = "".join(
            f'<td class="n">{bold(percent(values.get(name)), values.get(name) == max(values.values()))}'
            f'<div class="times">{interval(entry[kind], "") if entry and name != "chance" else ""}</div></td>'
            for name, entry in found.items()
        )
        rows.append(f"<tr><td>{escape(tag)}</td>{cells}</tr>")
    header = "".join(f'<th class="n">{NAMES.get(name, name)}</th>' for name in methods)
    return (
        "<section><h2>Compared with baselines</h2><p>All methods were trained and tested on the same videos and "
        "windows. The linear probe and SAIS have one model per tag. Halsted has one model for all tags. SAIS reads "
        f"{sais_reads(figures)}</p>"
        f'<div class="card">{plot_element("methods", plots["methods"])}</div>'
        f'<div class="card scroll"><table><tr><th>tag</th>{header}</tr>{"".join(rows)}</table></div></section>'
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
    header = "".join(f'<th class="n">{escape(task)}</th>' for task in tasks)
    cards = []
    for group, entries in {"": {"all": block["methods"][MODEL]}, **block["groups"]}.items():
        if not entries or list(entries) == ["clip"]:
            continue
        rows = "".join(
            f"<tr><td>{escape(name)}</td>"
            + "".join(f'<td class="n">{with_interval(entry["tasks"].get(task))}</td>' for task in tasks)
            + f'<td class="n">{with_interval(entry["mean"])}</td><td class="n">{entry["mean"]["videos"]}</td>'
            f'<td class="n">{entry["mean"]["samples"]:,}</td></tr>'
            for name, entry in entries.items()
        )
        title = {"source": "source of the labels", "window": "kind of window"}.get(group, group)
        cards.append(
            f'<div class="card scroll"><table><tr><th>{title}</th>{header}<th class="n">mean</th>'
            f'<th class="n">videos</th><th class="n">predictions</th></tr>{rows}</table></div>'
        )
    return "".join(cards)


def confusion_section(figures: Figures, plots: dict[str, PlotlyFigure]) -> str:
    """Returns a confusion matrix per tag; adds them to ``plots``."""
    cards = []
    for tag, confusion in figures["confusion"].items():
        plots[f"confusion-{tag}"] = plot = confusion_plot(confusion)
        cards.append(plot_card(f"confusion-{tag}", tag, plot))
    return (
        "<section><h2>Which categories are confused</h2><p>The numbers are windows. A row is a true category, a column "
        "a predicted category. The darker a cell, the larger its share of the row.</p>"
        f'<div class="pair">{"".join(cards)}</div></section>'
    )


def reliability_section(figures: Figures, plots: dict[str, PlotlyFigure]) -> str:
    """Returns a reliability diagram per tag; adds them to ``plots``."""
    cards = []
    for tag, bins in figures["reliability"].items():
        error = figures["methods"][MODEL]["tags"][tag]["calibration_error"]["value"]
        plots[f"reliability-{tag}"] = plot = reliability_plot(bins)
        cards.append(plot_card(f"reliability-{tag}", f"{tag} · calibration error {number(error)}", plot))
    return (
        "<section><h2>Is a confidence of 0.9 right 9 times in 10?</h2><p>On the diagonal it is. Below the diagonal the "
        "confidence is too high. A larger dot stands for more predictions.</p>"
        f'<div class="trio">{"".join(cards)}</div></section>'
    )


def map_section(figures: Figures, taxonomy: Taxonomy, plots: dict[str, PlotlyFigure]) -> str:
    """Returns UMAPs of encoder and decoder features; '' where none were computed. Adds them to ``plots``."""
    if figures["map"] is None:
        return ""
    cards = []
    for side, title in (("encoder", "encoder: the clip's vector"), ("decoder", "decoder: its last layer")):
        plots[f"map-{side}"] = plot = map_plot(figures["map"], side, taxonomy)
        cards.append(plot_card(f"map-{side}", title, plot))
    return (
        f"<section><h2>Maps of features</h2><p>UMAP of held-out {escape(figures['map']['task'])} clips of the "
        "first fold, by one model; colour is the procedure, a larger dot a low proficiency, as in the paper.</p>"
        f'<div class="pair">{"".join(cards)}</div></section>'
    )


def curve_section(figures: Figures, plots: dict[str, PlotlyFigure]) -> str:
    """Returns loss and accuracy over the epochs; '' where no model was trained. Adds the charts to ``plots``."""
    curves = [fold["curve"] for fold in figures["folds"] if fold["curve"]]
    if not curves:
        return ""
    for kind in ("loss", "accuracy"):
        plots[f"curve-{kind}"] = curve_plot(curves, kind)
    cards = plot_card("curve-loss", "training loss", plots["curve-loss"]) + plot_card(
        "curve-accuracy", "validation accuracy by task", plots["curve-accuracy"]
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
    rows = "".join(
        f'<tr><td>{fold["fold"]}</td><td class="n">{fold["train"]}</td>'
        + "".join(f'<td class="id">{" ".join(map(escape, fold[part]))}</td>' for part in ("validation", "test"))
        + "</tr>"
        for fold in figures["folds"]
    )
    return (
        '<section><h2>The videos of each fold</h2><div class="card scroll"><table><tr><th>fold</th>'
        '<th class="n">training videos</th><th>validation videos</th><th>test videos</th></tr>'
        f"{rows}</table></div></section>"
    )


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
