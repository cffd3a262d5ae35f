"""The report as one HTML file that needs nothing else: no network, no fonts, no second file."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from string import Template

from halsted_ray import __version__
from halsted_ray.mapping.progress import amount
from halsted_ray.report.lanes import colour, timeline
from halsted_ray.report.map_plots import confusion_plot, profile_plot, timeline_plot
from halsted_ray.report.report_data import ReportData, read_report_data
from halsted_ray.report.summary import NOTHING, STEP_TAG, UNMAPPED
from halsted_ray.report.summary import summarise as figures_of
from halsted_ray.report.terminal import clock
from halsted_ray.storage.files import write_atomically
from halsted_ray.storage.locations import filesystem
from halsted_ray.taxonomy import Taxonomy

MOST_TIMELINES = 100
"""An hour's timeline is about half a megabyte of page; those that need a look come first."""
ORDER = {"partial": 0, "failed": 1, "pending": 2, "mapped": 3}


def write_html(out: str, to: str, truth: str | None = None, taxonomy: str | None = None) -> dict:
    """Writes the report of the maps at ``out`` to the file or URL ``to``; returns its figures.

    Arguments and errors are those of ``report_data.read_report_data``, and OutputError where ``to`` can't be written.
    """
    material = read_report_data(out, truth, taxonomy)
    figures = figures_of(material)
    write_atomically(*filesystem(to), page(material, figures).encode())
    return figures


def page(material: ReportData, figures: dict) -> str:
    """The HTML text of the maps' report."""
    plots: dict[str, dict] = {}
    sections = [
        tiles(figures["videos"]),
        accuracy_section(figures["accuracy"]),
        timeline_section(material, figures, plots),
        steps_section(figures, material.taxonomy),
        confusion_section(figures["accuracy"], plots),
        failure_section(figures["failures"]),
        profile_section(figures["profile"], plots),
    ]
    count = figures["videos"]["total"]
    return filled(f"Temporal maps of {count} video{'s' * (count != 1)}", lineage(figures["models"]), sections, plots)


def filled(heading: str, lineage: str, sections: list[str], plots: dict[str, dict]) -> str:
    """The page around its sections, about 5 MB, mostly Plotly's JavaScript. ``plots``: element id → figure."""
    from plotly.offline import get_plotlyjs  # 0.4 s to import, and only a page needs it

    return Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8")).substitute(
        heading=escape(heading),
        lineage=lineage,
        sections="\n".join(sections),
        version=__version__,
        plotly=get_plotlyjs(),
        # "</" would end the script element from within a string.
        plots=json.dumps(plots, separators=(",", ":")).replace("</", "<\\/"),
    )


def tiles(videos: dict) -> str:
    entries = [
        (amount(videos["video_s"] / 3600), "video-hours", ""),
        (str(videos["mapped"]), "videos mapped whole", ""),
        (str(videos["partial"]), "mapped with gaps", "warn" if videos["partial"] else ""),
        (str(videos["failed"]), "failed", "bad" if videos["failed"] else ""),
        (str(videos["pending"]), "pending", ""),
        (clock(videos["gap_s"]), "time in gaps", "warn" if videos["gap_s"] else ""),
    ]
    return (
        '<section class="tiles">'
        + "".join(f'<div class="tile {kind}"><b>{value}</b><span>{name}</span></div>' for value, name, kind in entries)
        + "</section>"
    )


def lineage(models: list[dict]) -> str:
    return (
        "".join(
            f"<span>model <code>{escape(model['model_version'])}</code></span>"
            f"<span>atlas <code>{escape(model['atlas_release'])}</code></span>"
            f"<span>taxonomy <code>{escape(model['taxonomy_digest'])}</code></span>"
            for model in models[:3]
        )
        or "<span>no rows yet</span>"
    )


def accuracy_section(accuracy: dict | None) -> str:
    if accuracy is None:
        return ""
    rows = "".join(
        f"<tr><td>{escape(tag)}</td><td>{meter(of_tag['accuracy'], of_tag['chance'])}</td>"
        + "".join(
            f'<td class="n">{value}</td>'
            for value in (
                f"<b>{percent(of_tag['accuracy'])}</b>",
                percent(of_tag["chance"]),
                percent(of_tag["majority"]),
                f"{number(of_tag['relative_improvement'], 1)}×",
                number(of_tag["f1_10"]),
                number(of_tag["calibration_error"]),
                of_tag["windows"],
                of_tag["unpredicted"],
            )
        )
        + "</tr>"
        for tag, of_tag in accuracy["tags"].items()
    )
    names = ("accuracy", "chance", "commonest", "over chance", "F1@10", "calibration error", "windows", "no answer")
    columns = "".join(f'<th class="n">{name}</th>' for name in names)
    left_out = ", ".join(
        f"{accuracy[key]} {what}"
        for key, what in (("without_truth", "mapped without truth"), ("not_mapped", "annotated but not mapped"))
        if accuracy[key]
    )
    return (
        "<section><h2>Agreement with the truth</h2>"
        f"<p>Exact match in windows of {accuracy['window_s']:g} s over {accuracy['compared']} videos"
        f"{f' (not compared: {left_out})' if left_out else ''}. {escape(accuracy['how'])} "
        "The dark mark is chance, 1 of the tag's categories. F1@10 matches whole spans at 10% overlap.</p>"
        f'<div class="card scroll"><table><tr><th>tag</th><th></th>{columns}</tr>{rows}</table></div></section>'
    )


def timeline_section(material: ReportData, figures: dict, plots: dict[str, dict]) -> str:
    videos = sorted(material.videos, key=lambda video: (ORDER[video["status"]], video["video_id"]))
    drawn = [video for video in videos if material.rows_of(video["video_id"])]
    cards = []
    for video in drawn[:MOST_TIMELINES]:
        video_id, entry = video["video_id"], figures["per_video"][video["video_id"]]
        truth = material.truth_of(video_id)
        plot_id = f"timeline-{video_id}"
        plots[plot_id] = timeline_plot(
            timeline(video, material.rows_of(video_id), truth, material.taxonomy), material.taxonomy
        )
        height = plots[plot_id]["layout"]["height"]
        cards.append(
            f'<div class="card"><div class="head"><span class="id">{escape(video_id)}</span>{pill(entry["status"])}'
            f"<span>{clock(entry['duration_s'])}</span><span>{escape(entry['procedure'] or '')}</span>"
            f"<span>{escape(entry['reason'] or '')}</span></div>"
            f'<div class="plot" id="{plot_id}" style="height:{height}px"></div></div>'
        )
    more = (
        f" The first {MOST_TIMELINES} of {len(drawn)}, those with gaps before the others; "
        "<code>halsted show</code> draws any one."
        if len(drawn) > MOST_TIMELINES
        else ""
    )
    return (
        "<section><h2>Timelines</h2><p>One lane a tag; the fainter a span, the lower its confidence. Grey bands could "
        f"not be mapped. Drag to zoom, double-click to go back.{more}</p>{''.join(cards)}</section>"
    )


def steps_section(figures: dict, taxonomy: Taxonomy) -> str:
    if not figures["steps_s"]:
        return ""
    colours = {NOTHING: "#e3e7eb", UNMAPPED: "#aeb6be"}
    colours = {name: colour(STEP_TAG, name, taxonomy) for name in figures["steps_s"] if name not in colours} | colours
    key = "".join(
        f'<span><i style="background:{colours[name]}"></i>{escape(name)} {clock(seconds)}</span>'
        for name, seconds in figures["steps_s"].items()
    )
    rows = []
    longest = sorted(figures["per_video"].items(), key=lambda item: -item[1]["duration_s"])
    for video_id, entry in longest[:MOST_TIMELINES]:
        total_s = sum(entry["steps_s"].values())
        if not total_s:
            continue
        parts = "".join(
            f'<i style="width:{100 * entry["steps_s"][name] / total_s:.3f}%;background:{shade}" '
            f'title="{escape(name)} {clock(entry["steps_s"][name])}"></i>'
            for name, shade in colours.items()
            if name in entry["steps_s"]
        )
        times = ", ".join(f"{escape(name)} {clock(seconds)}" for name, seconds in entry["steps_s"].items())
        rows.append(
            f'<tr><td class="id">{escape(video_id)}</td><td style="width:45%">'
            f'<div class="split">{parts}</div></td><td class="times">{times}</td></tr>'
        )
    return (
        f'<section><h2>Time per step</h2><div class="card scroll"><div class="key">{key}</div>'
        f"<table>{''.join(rows)}</table></div></section>"
    )


def confusion_section(accuracy: dict | None, plots: dict[str, dict]) -> str:
    if accuracy is None or not accuracy["tags"]:
        return ""
    cards = []
    for tag, of_tag in accuracy["tags"].items():
        plot_id = f"confusion-{tag}"
        plots[plot_id] = confusion_plot(of_tag["confusion"])
        cards.append(
            f'<div class="card"><h3>{escape(tag)}</h3><div class="plot" id="{plot_id}" '
            f'style="height:{plots[plot_id]["layout"]["height"]:.0f}px"></div></div>'
        )
    return (
        "<section><h2>What is taken for what</h2><p>Windows; rows are the truth, columns the map, the shade is the "
        "share of its row. Categories that occur on neither side are left out.</p>"
        f'<div class="pair">{"".join(cards)}</div></section>'
    )


def failure_section(failures: list[dict]) -> str:
    if not failures:
        return "<section><h2>Not mapped</h2><p>Nothing: every video of the archive is mapped whole.</p></section>"
    rows = "".join(
        f'<tr><td class="id">{escape(entry["video_id"])}</td><td>{pill(entry["status"])}</td>'
        f'<td class="n">{clock(entry["gap_s"]) if entry["gap_s"] else "–"}</td>'
        f"<td>{escape(entry['reason'] or '')}</td></tr>"
        for entry in failures
    )
    return (
        '<section><h2>Not mapped</h2><div class="card scroll"><table><tr><th>video</th><th>status</th>'
        f'<th class="n">in gaps</th><th>reason</th></tr>{rows}</table></div></section>'
    )


def profile_section(profile: dict | None, plots: dict[str, dict]) -> str:
    if profile is None:
        return ""
    plots["profile"] = profile_plot(profile["stages"])
    return (
        "<section><h2>Where the time went</h2>"
        f"<p>The newest run: {profile['segments']} segments, {clock(profile['video_s'])} of video in "
        f"{clock(profile['wall_s'])}. Seconds by stage, added up over all actors.</p>"
        f'<div class="card"><div class="plot" id="profile" style="height:{plots["profile"]["layout"]["height"]}px">'
        "</div></div></section>"
    )


def pill(status: str) -> str:
    return f'<span class="pill {status}">{status}</span>'


def meter(value: float | None, mark: float | None) -> str:
    return (
        f'<div class="meter"><i style="width:{100 * (value or 0):.1f}%"></i>'
        f'<u style="left:{100 * (mark or 0):.1f}%"></u></div>'
    )


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"


def number(value: float | None, decimals: int = 2) -> str:
    return "–" if value is None else f"{value:.{decimals}f}"
