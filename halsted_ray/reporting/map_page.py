"""The page of a mapping run: what is mapped, agreement with the truth, time per step, stitches, the videos, where time
went."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from halsted_ray.compute.progress import amount
from halsted_ray.profiling import STAGES
from halsted_ray.reporting.confusion_table import confusion_card
from halsted_ray.reporting.economy_section import economy_section
from halsted_ray.reporting.html_page import (
    folded,
    meter,
    number,
    percent,
    pill,
    render_page,
    table_card,
    text_with_code,
    tile_section,
    times,
)
from halsted_ray.reporting.report_data import JsonObject, ReportData, read_report_data
from halsted_ray.reporting.stitch_section import stitch_section
from halsted_ray.reporting.summary import summarise
from halsted_ray.reporting.terminal import clock, short_time
from halsted_ray.reporting.verdict import map_verdict
from halsted_ray.reporting.videos_section import step_style, steps_bar, videos_section
from halsted_ray.storage.files import write_atomically
from halsted_ray.storage.locations import filesystem
from halsted_ray.taxonomy import Taxonomy

LONG_TABLE = 20
"""A table with more rows is folded."""


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
    sections = [
        overview_section(figures["videos"]),
        accuracy_section(figures["accuracy"]),
        steps_section(figures, data.taxonomy),
        stitch_section(data.stitches),
        economy_section(data.economy),
        confusion_section(figures["accuracy"]),
        videos_section(data, figures),
        failure_section(figures["failures"]),
        profile_section(figures["profile"]),
    ]
    count = figures["videos"]["total"]
    heading = f"Temporal maps of {count} video{'s' * (count != 1)}"
    return render_page(heading, lineage(figures["models"]), map_verdict(figures), sections)


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
    rows = [
        (
            escape(tag),
            meter(of_tag["accuracy"], of_tag["chance"]),
            f"<b>{percent(of_tag['accuracy'])}</b>",
            percent(of_tag["chance"]),
            percent(of_tag["majority"]),
            times(of_tag["relative_improvement"]),
            number(of_tag["f1_10"]),
            number(of_tag["calibration_error"]),
            str(of_tag["windows"]),
            str(of_tag["unpredicted"]),
        )
        for tag, of_tag in accuracy["tags"].items()
    ]
    columns = (
        *("tag", "", "accuracy", "chance", "majority", "times chance", "F1@10", "calibration error", "windows"),
        "without prediction",
    )
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
        f"</p>{table_card(columns, rows, texts=('tag',))}"
        f"{certainty_card(accuracy['certainty'])}</section>"
    )


def certainty_card(certainty: JsonObject) -> str:
    """Returns the table of intervals, of figures by span, and of the two ceilings."""
    rows = [
        (
            escape(tag),
            between(of_tag["interval"]),
            percent(of_tag["spans"]["accuracy"]),
            percent(of_tag["spans"]["standard_error"]),
            between(of_tag["spans"]["interval"]),
            str(of_tag["spans"]["total"]),
            *(number(of_tag[side][name]) for side in ("oracle", "second_person") for name in ("f1_10", "f1_50")),
        )
        for tag, of_tag in certainty["tags"].items()
    ]
    columns = (
        *("tag", "accuracy, 95% interval", "by span", "standard error", "by span, 95% interval", "spans"),
        *("oracle F1@10", "oracle F1@50", "second person F1@10", "second person F1@50"),
    )
    return (
        f"<p>{escape(certainty['how'])} Intervals are drawn over videos.</p>{table_card(columns, rows, texts=('tag',))}"
    )


def between(borders: Sequence[float | None]) -> str:
    """Returns ``91.2%–94.8%``; – where the borders are unknown."""
    low, high = borders
    return "–" if low is None or high is None else f"{percent(low)}–{percent(high)}"


def steps_section(figures: JsonObject, taxonomy: Taxonomy) -> str:
    """Returns the time per step over all videos; '' where no step is mapped."""
    if not figures["steps_s"]:
        return ""
    total_s, confidence = sum(figures["steps_s"].values()), figures["confidence"]
    rows = [
        (
            f'<span class="key"><span><i {step_style(name, taxonomy)}></i>{escape(name)}</span></span>',
            clock(seconds),
            percent(seconds / total_s),
            percent(confidence.get(name)),
        )
        for name, seconds in figures["steps_s"].items()
    ]
    return (
        "<section><h2>Time per step</h2><p>The mean confidence is weighted by time.</p>"
        f'<div class="card">{steps_bar(figures["steps_s"], taxonomy)}</div>'
        f"{table_card(('step', 'time', 'share', 'mean confidence'), rows, texts=('step',))}</section>"
    )


def confusion_section(accuracy: JsonObject | None) -> str:
    """Returns a confusion matrix per tag; '' where there is no truth."""
    if accuracy is None or not accuracy["tags"]:
        return ""
    cards = "".join(
        confusion_card(f"confusion-{tag}", tag, of_tag["confusion"]) for tag, of_tag in accuracy["tags"].items()
    )
    return (
        "<section><h2>Which categories are confused</h2><p>The numbers are windows. A row is a true category, a column "
        "is what the map says. The darker a cell, the larger its share of the row. Categories that occur neither in "
        f'the truth nor in the map are left out.</p><div class="pair">{cards}</div></section>'
    )


def failure_section(failures: list[JsonObject]) -> str:
    """Returns the table of videos that are not mapped or have gaps, with the reasons."""
    if not failures:
        return (
            "<section><h2>Not mapped</h2><p>Nothing: every video of the archive is mapped without gaps.</p></section>"
        )
    rows = [
        (
            f'<span class="id">{escape(entry["video_id"])}</span>',
            pill(entry["status"]),
            clock(entry["gap_s"]) if entry["gap_s"] else "–",
            short_time(entry["missing_s"]),
            escape(entry["reason"] or ""),
        )
        for entry in failures
    ]
    columns = ("video", "status", "time in gaps", "without picture", "reason")
    table = table_card(columns, rows, texts=("video", "status", "reason"))
    shown = table if len(rows) <= LONG_TABLE else folded(f"{len(rows):,} videos", table, is_long=True)
    return f"<section><h2>Not mapped</h2>{shown}</section>"


def profile_section(profile: JsonObject | None) -> str:
    """Returns the time per stage of the newest run as bars; '' where no profile was kept."""
    if profile is None:
        return ""
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
        f'<div class="card scroll" id="profile">{stage_bars(profile["stages"])}</div></section>'
    )


def stage_bars(stages: JsonObject) -> str:
    """Returns seconds of wall clock and of CPU by stage as bars, in the order of the data flow.

    ``stages``: ``wall_s`` and ``cpu_s``, each from stage to seconds.
    """
    longest_s = max((*stages["wall_s"].values(), *stages["cpu_s"].values()), default=0.0) or 1.0
    rows = []
    for stage, meaning in STAGES.items():
        wall_s, cpu_s = (max(0.0, stages[clock_s].get(stage, 0.0)) for clock_s in ("wall_s", "cpu_s"))
        bars = "".join(
            f'<span class="bar" style="width:{100 * seconds / longest_s:.1f}%;background:var(--{shade})"></span>'
            for seconds, shade in ((wall_s, "edge"), (cpu_s, "accent"))
        )
        rows.append(
            f'<tr><th scope="row" title="{escape(meaning)}">{stage}</th><td style="width:70%">{bars}</td>'
            f'<td class="n">{wall_s:.1f} s</td><td class="n">{cpu_s:.1f} s</td></tr>'
        )
    return (
        '<table class="bars"><thead><tr><th scope="col">stage</th><td></td><th scope="col" class="n">wall clock, grey'
        f'</th><th scope="col" class="n">CPU, blue</th></tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )
