"""The page of a mapping run: what is mapped, timelines, time per step, agreement with the truth, where time went."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from halsted_ray.compute.progress import amount
from halsted_ray.records import UNKNOWN, UNKNOWN_REASON
from halsted_ray.reporting.html_page import (
    meter,
    number,
    percent,
    pill,
    plot_card,
    plot_element,
    render_page,
    text_with_code,
    tile_section,
)
from halsted_ray.reporting.lanes import colour, timeline
from halsted_ray.reporting.map_plots import PlotlyFigure, confusion_plot, profile_plot, timeline_plot
from halsted_ray.reporting.report_data import JsonObject, ReportData, read_report_data
from halsted_ray.reporting.summary import NO_STEP, NOT_MAPPED, STEP_TAG, summarise
from halsted_ray.reporting.terminal import clock, short_time
from halsted_ray.storage.files import write_atomically
from halsted_ray.storage.locations import filesystem
from halsted_ray.taxonomy import Taxonomy

MOST_TIMELINES = 100
"""The timeline of an hour adds half a megabyte to the page. Videos that need a look come first."""
ORDER = {"partial": 0, "failed": 1, "pending": 2, "mapped": 3}
"""The order of videos by status."""


def write_html(out: str, to: str, truth: str | None = None, taxonomy: str | None = None) -> JsonObject:
    """Writes the report of the maps at ``out`` to the file or URL ``to``; returns its figures (``summary.summarise``).

    ``truth`` and ``taxonomy``: as in ``report_data.read_report_data``. Raises its errors, and OutputError where ``to``
    can't be written.
    """
    data = read_report_data(out, truth, taxonomy)
    figures = summarise(data)
    fs, path = filesystem(to)
    write_atomically(fs, path, map_page(data, figures).encode())
    return figures


def map_page(data: ReportData, figures: JsonObject) -> str:
    """Returns the HTML text of the report. ``figures``: those of ``data``."""
    plots: dict[str, PlotlyFigure] = {}
    sections = [
        overview_section(figures["videos"]),
        accuracy_section(figures["accuracy"]),
        timeline_section(data, figures, plots),
        steps_section(figures, data.taxonomy),
        confusion_section(figures["accuracy"], plots),
        failure_section(figures["failures"]),
        profile_section(figures["profile"], plots),
    ]
    count = figures["videos"]["total"]
    return render_page(
        f"Temporal maps of {count} video{'s' * (count != 1)}", lineage(figures["models"]), sections, plots
    )


def overview_section(videos: JsonObject) -> str:
    """Returns the tiles with the numbers of videos by status."""
    return tile_section(
        (
            (amount(videos["video_s"] / 3600), "hours of video", ""),
            (str(videos["mapped"]), "videos mapped without gaps", ""),
            (str(videos["partial"]), "videos mapped with gaps", "warn" if videos["partial"] else ""),
            (str(videos["failed"]), "videos failed", "bad" if videos["failed"] else ""),
            (str(videos["pending"]), "videos pending", ""),
            (clock(videos["gap_s"]), "time in gaps", "warn" if videos["gap_s"] else ""),
            (clock(videos["unknown_s"]), "unknown to the model", "warn" if videos["unknown_s"] else ""),
        )
    )


def lineage(models: list[JsonObject]) -> str:
    """Returns the line under the heading: which models the rows came from."""
    return (
        "".join(
            f"<span>model <code>{escape(model['model_version'])}</code></span>"
            f"<span>atlas <code>{escape(model['atlas_release'])}</code></span>"
            f"<span>taxonomy <code>{escape(model['taxonomy_digest'])}</code></span>"
            for model in models[:3]
        )
        or "<span>no rows yet</span>"
    )


def accuracy_section(accuracy: JsonObject | None) -> str:
    """Returns the table of agreement with the truth by tag; '' where there is no truth."""
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
    names = (
        "accuracy",
        "chance",
        "majority",
        "times chance",
        "F1@10",
        "calibration error",
        "windows",
        "without prediction",
    )
    columns = "".join(f'<th class="n">{name}</th>' for name in names)
    left_out = ", ".join(
        f"{accuracy[key]} {what}"
        for key, what in (("without_truth", "mapped without truth"), ("not_mapped", "annotated but not mapped"))
        if accuracy[key]
    )
    return (
        "<section><h2>Agreement with the truth</h2>"
        f"<p>Accuracy is the share of windows of {accuracy['window_s']:g} s whose tag is exactly right, over "
        f"{accuracy['compared']} videos{f' (not compared: {left_out})' if left_out else ''}. "
        f"{text_with_code(accuracy['how'])} The dark mark in a bar is chance: 1 divided by the number of the tag's "
        "categories. Majority is the accuracy of always predicting the most frequent category. F1@10 compares whole "
        "spans, which match if they overlap by 10%."
        f'</p><div class="card scroll"><table><tr><th>tag</th><th></th>{columns}</tr>{rows}</table></div>'
        f"{certainty_card(accuracy['certainty'])}</section>"
    )


def certainty_card(certainty: JsonObject) -> str:
    """Returns the table of intervals, of figures by span, and of the two ceilings."""
    rows = "".join(
        f"<tr><td>{escape(tag)}</td>"
        + "".join(
            f'<td class="n">{value}</td>'
            for value in (
                between(of_tag["interval"]),
                percent(of_tag["spans"]["accuracy"]),
                percent(of_tag["spans"]["standard_error"]),
                between(of_tag["spans"]["interval"]),
                of_tag["spans"]["total"],
                *(number(of_tag[side][name]) for side in ("oracle", "second_person") for name in ("f1_10", "f1_50")),
            )
        )
        + "</tr>"
        for tag, of_tag in certainty["tags"].items()
    )
    names = (
        "accuracy, 95% interval",
        "by span",
        "standard error",
        "95% interval",
        "spans",
        "oracle F1@10",
        "oracle F1@50",
        "second person F1@10",
        "second person F1@50",
    )
    columns = "".join(f'<th class="n">{name}</th>' for name in names)
    return (
        f"<p>{escape(certainty['how'])} Intervals are drawn over videos.</p>"
        f'<div class="card scroll"><table><tr><th>tag</th>{columns}</tr>{rows}</table></div>'
    )


def between(borders: Sequence[float | None]) -> str:
    """Returns ``91.2%–94.8%``; – where the borders are unknown."""
    low, high = borders
    return "–" if low is None or high is None else f"{percent(low)}–{percent(high)}"


def timeline_section(data: ReportData, figures: JsonObject, plots: dict[str, PlotlyFigure]) -> str:
    """Returns a card with the timeline of each video, videos with gaps first; adds their figures to ``plots``."""
    videos = sorted(data.videos, key=lambda video: (ORDER[video["status"]], video["video_id"]))
    drawn = [video for video in videos if data.rows_of(video["video_id"])]
    cards = []
    for video in drawn[:MOST_TIMELINES]:
        video_id, entry = video["video_id"], figures["per_video"][video["video_id"]]
        lanes = timeline(video, data.rows_of(video_id), data.truth_of(video_id), data.taxonomy)
        plot_id = f"timeline-{video_id}"
        plots[plot_id] = timeline_plot(lanes, data.taxonomy)
        cards.append(
            f'<div class="card"><div class="head"><span class="id">{escape(video_id)}</span>{pill(entry["status"])}'
            f"<span>{clock(entry['duration_s'])}</span><span>{escape(entry['procedure'] or '')}</span>"
            f"<span>{escape(entry['reason'] or '')}</span></div>{plot_element(plot_id, plots[plot_id])}</div>"
        )
    more = (
        f" These are {MOST_TIMELINES} of {len(drawn)} videos, videos with gaps first; <code>halsted show</code> draws "
        "any video."
        if len(drawn) > MOST_TIMELINES
        else ""
    )
    return (
        "<section><h2>Timelines</h2><p>Each lane is a tag. The fainter a span, the lower its confidence. Grey bands "
        f"could not be mapped. Yellow bands are unknown: {UNKNOWN_REASON}. "
        f"Drag to zoom, double-click to go back.{more}</p>{''.join(cards)}</section>"
    )


def steps_section(figures: JsonObject, taxonomy: Taxonomy) -> str:
    """Returns the time per step, in all and by video; '' where no step is mapped."""
    if not figures["steps_s"]:
        return ""
    colours = {NO_STEP: "#e3e7eb", NOT_MAPPED: "#aeb6be", UNKNOWN: "#f2d98b"}
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


def confusion_section(accuracy: JsonObject | None, plots: dict[str, PlotlyFigure]) -> str:
    """Returns a confusion matrix per tag; '' where there is no truth. Adds the figures to ``plots``."""
    if accuracy is None or not accuracy["tags"]:
        return ""
    cards = []
    for tag, of_tag in accuracy["tags"].items():
        plot_id = f"confusion-{tag}"
        plots[plot_id] = confusion_plot(of_tag["confusion"])
        cards.append(plot_card(plot_id, tag, plots[plot_id]))
    return (
        "<section><h2>Which categories are confused</h2><p>The numbers are windows. A row is a true category, a column "
        "is what the map says. The darker a cell, the larger its share of the row. Categories that occur neither in "
        "the "
        f'truth nor in the map are left out.</p><div class="pair">{"".join(cards)}</div></section>'
    )


def failure_section(failures: list[JsonObject]) -> str:
    """Returns the table of videos that are not mapped or have gaps, with the reasons."""
    if not failures:
        return (
            "<section><h2>Not mapped</h2><p>Nothing: every video of the archive is mapped without gaps.</p></section>"
        )
    rows = "".join(
        f'<tr><td class="id">{escape(entry["video_id"])}</td><td>{pill(entry["status"])}</td>'
        f'<td class="n">{clock(entry["gap_s"]) if entry["gap_s"] else "–"}</td>'
        f'<td class="n">{short_time(entry["missing_s"])}</td>'
        f"<td>{escape(entry['reason'] or '')}</td></tr>"
        for entry in failures
    )
    return (
        '<section><h2>Not mapped</h2><div class="card scroll"><table><tr><th>video</th><th>status</th>'
        '<th class="n">time in gaps</th><th class="n">without picture</th>'
        f"<th>reason</th></tr>{rows}</table></div></section>"
    )


def profile_section(profile: JsonObject | None, plots: dict[str, PlotlyFigure]) -> str:
    """Returns the chart of time per stage of the newest run; '' where no profile was kept. Adds it to ``plots``."""
    if profile is None:
        return ""
    plots["profile"] = profile_plot(profile["stages"])
    steps = ", ".join(f"{escape(step)} after {seconds:.1f} s" for step, seconds in profile["start_s"].items())
    begins = f"<p>Its start: {steps}.</p>" if steps else ""
    encoding = profile["encoding"]
    encoders = (
        f"<p>{encoding['clips']:,} windows were encoded. They fill {encoding['useful_share']:.1%} of the batches that "
        f"were computed. The encoders ({encoding['actors']}) were busy {encoding['busy_share']:.0%} of the time from "
        "their first batch to their last.</p>"
        if encoding.get("clips")
        else ""
    )
    return (
        "<section><h2>Where the time went</h2>"
        f"<p>The newest run mapped {profile['segments']} segments ({clock(profile['video_s'])} of video) in "
        f"{clock(profile['wall_s'])}. The bars show seconds per stage, summed over all actors.</p>{begins}{encoders}"
        f'<div class="card">{plot_element("profile", plots["profile"])}</div></section>'
    )
