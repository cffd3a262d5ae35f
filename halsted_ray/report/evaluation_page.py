"""An evaluation as one HTML file: how right, beside what, how sure, where it errs, and pictures of that."""

from __future__ import annotations

from html import escape

from halsted_ray.evaluation.predictions import MODEL, REFERENCE
from halsted_ray.evaluation.run_evaluation import Evaluation
from halsted_ray.report.evaluation_plots import curve_plot, map_plot, methods_plot, reliability_plot
from halsted_ray.report.film_strips import strips
from halsted_ray.report.map_page import filled, meter, number, percent
from halsted_ray.report.map_plots import confusion_plot
from halsted_ray.report.self_label_section import comparison_section
from halsted_ray.report.terminal import clock
from halsted_ray.storage.files import write_atomically
from halsted_ray.storage.locations import filesystem
from halsted_ray.taxonomy import Taxonomy

NAMES = {
    MODEL: "Halsted",
    REFERENCE: "v1",
    "chance": "chance",
    "majority": "majority",
    "linear": "linear probe",
    "sais": "SAIS",
}


def write_evaluation(evaluation: Evaluation, to: str, clips: int = 12) -> None:
    """Writes the report to the file or URL ``to``, with frames of the ``clips`` worst mistakes (0: no picture at all).

    Raises OutputError where ``to`` can't be written. A video that can't be read leaves a reason, not an error.
    """
    shown = evaluation.figures["mistakes"][:clips]
    pictures = strips(shown, {video.video_id: video for video in evaluation.atlas.videos})
    page = evaluation_page(evaluation.figures, evaluation.taxonomy, list(zip(shown, pictures, strict=True)))
    write_atomically(*filesystem(to), page.encode())


def evaluation_page(figures: dict, taxonomy: Taxonomy, mistakes: list[tuple[dict, str]]) -> str:
    """The HTML text. ``mistakes``: with each a ``data:`` URL of its frames, or the reason why there are none."""
    plots: dict[str, dict] = {}
    sections = [
        tile_section(figures),
        caveat_section(figures),
        comparison_section(figures),
        tag_section(figures),
        method_section(figures, plots),
        group_section(figures, taxonomy),
        confusion_section(figures, plots),
        reliability_section(figures, plots),
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
    return filled(heading, lineage, sections, plots)


def tile_section(figures: dict) -> str:
    own = figures["methods"][MODEL]
    tasks = {name: entry["value"] for name, entry in own["tasks"].items() if entry["value"] is not None}
    worst = min(tasks, key=tasks.get)
    entries = [
        (percent(own["mean"]["value"]), "mean accuracy over tags"),
        (percent(tasks[worst]), f"worst task: {worst}"),
        (number(figures["calibration_error"]), "calibration error"),
        (str(len(figures["videos"])), "videos tested"),
        (f"{own['mean']['samples']:,}", "answers judged"),
        (str(len(figures["folds"])), "folds" if len(figures["folds"]) > 1 else "split"),
    ]
    return (
        '<section class="tiles">'
        + "".join(f'<div class="tile"><b>{value}</b><span>{escape(name)}</span></div>' for value, name in entries)
        + "</section>"
    )


def caveat_section(figures: dict) -> str:
    """Why the figures may be too good; '' where nothing says so."""
    caveats = "".join(f"<p><b>Caution:</b> {escape(caveat)}.</p>" for caveat in figures["caveats"])
    return f"<section>{caveats}</section>" if caveats else ""


def tag_section(figures: dict) -> str:
    header = "".join(
        f'<th class="n">{name}</th>'
        for name in (
            "accuracy",
            "95%: folds",
            "videos",
            "chance",
            "ratio",
            "AUROC",
            "mAP",
            "F1@10",
            "edit",
            "ECE",
            "windows",
        )
    )
    rows = []
    for tag, entry in figures["methods"][MODEL]["tags"].items():
        accuracy = entry["accuracy"]
        cells = [
            f"<b>{percent(accuracy['value'])}</b>",
            small(between(accuracy["t"])),
            small(between(accuracy["bootstrap"])),
            percent(entry["chance"]),
            f"{number(entry['relative_improvement'], 1)}×",
            *(
                number(entry[name]["value"])
                for name in ("auroc", "average_precision", "f1_10", "edit", "calibration_error")
            ),
            f"{entry['samples']:,}",
        ]
        rows.append(
            f"<tr><td>{escape(tag)}</td><td>{meter(accuracy['value'], entry['chance'])}</td>"
            + "".join(f'<td class="n">{cell}</td>' for cell in cells)
            + "</tr>"
        )
    untaught = {tag: entry["untaught"] for tag, entry in figures["methods"][MODEL]["tags"].items() if entry["untaught"]}
    left = ", ".join(f"{tag} {count:,}" for tag, count in untaught.items())
    several = len(figures["folds"]) > 1
    how = (
        f"Mean over {len(figures['folds'])} folds ({escape(str(figures['strategy']).replace('_', ' '))})"
        if several
        else escape(str(figures["strategy"]).capitalize())
    )
    return (
        f"<section><h2>How right, by tag</h2><p>{how}; whole videos are held out. Accuracy is exact match of a window's"
        f" tag. {escape(figures['how'])} AUROC and mAP (mean average precision) rank the categories with the earlier "
        "tags given; F1@10 and edit judge spans of windows in time; ECE is the expected calibration error. The 95% "
        "intervals are t over folds and a bootstrap over videos. The dark mark is chance."
        + (f" Windows whose category no training video has, wrong by necessity: {escape(left)}." if left else "")
        + f'</p><div class="card scroll narrow"><table><tr><th>tag</th><th></th>{header}</tr>{"".join(rows)}</table>'
        "</div></section>"
    )


def method_section(figures: dict, plots: dict[str, dict]) -> str:
    methods = figures["methods"]
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
            f'<div class="times">{between(entry[kind], "") if entry and name != "chance" else ""}</div></td>'
            for name, entry in found.items()
        )
        rows.append(f"<tr><td>{escape(tag)}</td>{cells}</tr>")
    header = "".join(f'<th class="n">{NAMES.get(name, name)}</th>' for name in methods)
    return (
        "<section><h2>Beside baselines</h2><p>Taught and judged on the same videos and windows, from the same encoder. "
        "The linear probe and SAIS answer each tag by a model of its own; Halsted answers all tags with one.</p>"
        f'<div class="card"><div class="plot" id="methods" style="height:{plots["methods"]["layout"]["height"]}px">'
        f'</div></div><div class="card scroll"><table><tr><th>tag</th>{header}</tr>{"".join(rows)}</table></div>'
        "</section>"
    )


def group_section(figures: dict, taxonomy: Taxonomy) -> str:
    tasks = [task.name for task in taxonomy.tasks if task.name in figures["methods"][MODEL]["tasks"]]
    header = "".join(f'<th class="n">{escape(task)}</th>' for task in tasks)
    cards = []
    for group, entries in {"": {"all": figures["methods"][MODEL]}, **figures["groups"]}.items():
        if not entries:
            continue
        rows = "".join(
            f"<tr><td>{escape(name)}</td>"
            + "".join(f'<td class="n">{with_interval(entry["tasks"].get(task))}</td>' for task in tasks)
            + f'<td class="n">{with_interval(entry["mean"])}</td><td class="n">{entry["mean"]["videos"]}</td>'
            f'<td class="n">{entry["mean"]["samples"]:,}</td></tr>'
            for name, entry in entries.items()
        )
        title = {"source": "source of label", "window": "kind of window"}.get(group, group)
        cards.append(
            f'<div class="card scroll"><table><tr><th>{title}</th>{header}<th class="n">mean</th>'
            f'<th class="n">videos</th><th class="n">answers</th></tr>{rows}</table></div>'
        )
    return (
        "<section><h2>By task, specialty, procedure, source and window</h2><p>Mean accuracy over a task's tags, "
        "with the 95% interval of a bootstrap over videos (none where there is one video).</p>"
        f"{''.join(cards)}</section>"
    )


def confusion_section(figures: dict, plots: dict[str, dict]) -> str:
    cards = []
    for tag, confusion in figures["confusion"].items():
        plots[f"confusion-{tag}"] = plot = confusion_plot(confusion)
        cards.append(card(f"confusion-{tag}", tag, plot))
    return (
        "<section><h2>What is taken for what</h2><p>Windows; rows are the truth, columns the answer, the shade is "
        f'the share of its row.</p><div class="pair">{"".join(cards)}</div></section>'
    )


def reliability_section(figures: dict, plots: dict[str, dict]) -> str:
    cards = []
    for tag, bins in figures["reliability"].items():
        error = figures["methods"][MODEL]["tags"][tag]["calibration_error"]["value"]
        plots[f"reliability-{tag}"] = plot = reliability_plot(bins)
        cards.append(card(f"reliability-{tag}", f"{tag} · error {number(error)}", plot))
    return (
        "<section><h2>Is a confidence of 0.9 right nine times in ten?</h2><p>On the diagonal it is; below it the "
        "model is surer than it should be. A dot's size is the number of its answers.</p>"
        f'<div class="trio">{"".join(cards)}</div></section>'
    )


def map_section(figures: dict, taxonomy: Taxonomy, plots: dict[str, dict]) -> str:
    if figures["map"] is None:
        return ""
    cards = []
    for side, title in (("encoder", "encoder: the window's vector"), ("decoder", "decoder: its last layer")):
        plots[f"map-{side}"] = plot = map_plot(figures["map"], side, taxonomy)
        cards.append(card(f"map-{side}", title, plot))
    return (
        f"<section><h2>Maps of features</h2><p>UMAP of held-out {escape(figures['map']['task'])} windows of the "
        "first fold, by one model; colour is the procedure, a larger dot a low proficiency, as in the paper.</p>"
        f'<div class="pair">{"".join(cards)}</div></section>'
    )


def curve_section(figures: dict, plots: dict[str, dict]) -> str:
    curves = [fold["curve"] for fold in figures["folds"] if fold["curve"]]
    if not curves:
        return ""
    for kind in ("loss", "accuracy"):
        plots[f"curve-{kind}"] = curve_plot(curves, kind)
    cards = card("curve-loss", "training loss", plots["curve-loss"]) + card(
        "curve-accuracy", "validation accuracy by task", plots["curve-accuracy"]
    )
    return (
        "<section><h2>Over the epochs</h2><p>Mean over folds; the band is one standard error.</p>"
        f'<div class="pair">{cards}</div></section>'
    )


def mistake_section(mistakes: list[tuple[dict, str]]) -> str:
    if not mistakes:
        return ""
    cards = "".join(
        f'<div class="card"><div class="head"><span><b>{escape(entry["tag"])}</b></span>'
        f"<span>said <b>{escape(entry['said'])}</b> ({entry['confidence']:.2f})</span>"
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
        "<section><h2>The surest mistakes</h2><p>Wrong answers of the highest confidence, the tags taking turns; "
        "frames run from the window's start to its end. They are pictures from the videos: share this file only "
        f"with those who may see them.</p>{cards}</section>"
    )


def fold_section(figures: dict) -> str:
    rows = "".join(
        f'<tr><td>{fold["fold"]}</td><td class="n">{fold["train"]}</td>'
        + "".join(f'<td class="id">{" ".join(map(escape, fold[part]))}</td>' for part in ("validation", "test"))
        + "</tr>"
        for fold in figures["folds"]
    )
    return (
        '<section><h2>Who judged whom</h2><div class="card scroll"><table><tr><th>fold</th>'
        f'<th class="n">learned from</th><th>validation</th><th>test</th></tr>{rows}</table></div></section>'
    )


def card(plot_id: str, title: str, plot: dict) -> str:
    return (
        f'<div class="card"><h3>{escape(title)}</h3><div class="plot" id="{plot_id}" '
        f'style="height:{plot["layout"]["height"]:.0f}px"></div></div>'
    )


def with_interval(entry: dict | None) -> str:
    if entry is None or entry["value"] is None:
        return "–"
    return f'{percent(entry["value"])}<div class="times">{between(entry["bootstrap"], empty="")}</div>'


def between(borders: list[float | None], empty: str = "–") -> str:
    return empty if None in borders else f"{100 * max(0, borders[0]):.1f}–{100 * min(1, borders[1]):.1f}"


def small(text: str) -> str:
    return f'<span class="times">{text}</span>'


def bold(text: str, is_bold: bool) -> str:
    return f"<b>{text}</b>" if is_bold else text
