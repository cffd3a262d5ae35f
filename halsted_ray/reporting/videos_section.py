"""The list of videos on the page of a mapping run: a line per video, its timeline on demand."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from halsted_ray.records import UNKNOWN, UNKNOWN_REASON
from halsted_ray.reporting.html_page import json_text, percent, pill
from halsted_ray.reporting.lanes import Lane, Timeline, css_colour, timeline
from halsted_ray.reporting.report_data import JsonObject, ReportData
from halsted_ray.reporting.summary import NO_STEP, NOT_MAPPED, STEP_TAG
from halsted_ray.reporting.terminal import clock
from halsted_ray.taxonomy import Taxonomy

MOST_SPANS = 40_000
"""A span is about 20 bytes of the page. Videos that need a look come first."""
ORDER = {"partial": 0, "failed": 1, "pending": 2, "mapped": 3}
"""The order of videos by status."""
STYLES = {NO_STEP: "no-step", NOT_MAPPED: "not-mapped", UNKNOWN: "unknown"}
"""The style of what is beside the steps; a step has the colour of its category."""
ORDERS = {
    "look": "what needs a look first",
    "length": "the longest first",
    "confidence": "the least sure first",
    "stitches": "the most stitches first",
}


def videos_section(data: ReportData, figures: JsonObject) -> str:
    """Returns a line per video, with its timeline to unfold; '' where there is no video."""
    if not data.videos:
        return ""
    videos = sorted(data.videos, key=lambda video: (ORDER[video["status"]], video["video_id"]))
    lines: list[str] = []
    left, undrawn = MOST_SPANS, 0
    for video in videos:
        video_id = video["video_id"]
        lanes = timeline(video, data.rows_of(video_id), data.truth_of(video_id), data.taxonomy)
        spans = sum(len(lane.spans) for lane in lanes.lanes)
        is_drawn = bool(lanes.lanes or lanes.gaps) and spans <= left
        left -= spans if is_drawn else 0
        undrawn += not is_drawn and bool(data.rows_of(video_id))
        drawing = timeline_drawing(lanes, data.taxonomy) if is_drawn else ""
        lines.append(video_line(video_id, figures, data.taxonomy, drawing, is_open=not lines))
    more = (
        f" The page holds the timelines of the first videos, {MOST_SPANS:,} spans; {undrawn:,} more videos have a line "
        "without one. <code>halsted show</code> draws any video."
        if undrawn
        else ""
    )
    options = "".join(f'<option value="{key}">{name}</option>' for key, name in ORDERS.items())
    sort = f'<div class="sort"><label for="order">Order</label><select id="order">{options}</select></div>'
    return (
        "<section><h2>Videos</h2><p>Click on a line to see its timeline. Each lane is a tag. The fainter a span, the "
        f"lower its confidence. Grey bands could not be mapped. Hatched bands are unknown: {UNKNOWN_REASON}.{more}</p>"
        f'{sort if len(lines) > 1 else ""}<div id="videos">{"".join(lines)}</div></section>'
    )


def video_line(video_id: str, figures: JsonObject, taxonomy: Taxonomy, drawing: str, is_open: bool) -> str:
    """Returns one video: its line, and what unfolds. ``drawing``: of ``timeline_drawing``, '' for none."""
    entry = figures["per_video"][video_id]
    stitches = figures["stitches"]["per_video"].get(video_id, {"count": 0})["count"]
    confidence = entry["confidence"]
    said = [
        clock(entry["duration_s"]) if entry["duration_s"] else "",
        escape(entry["procedure"] or ""),
        "" if confidence is None else f"mean confidence {percent(confidence)}",
        f"{stitches:,} stitch{'es' * (stitches != 1)}" if stitches else "",
        escape(entry["reason"] or ""),
    ]
    head = "".join(f"<span>{text}</span>" for text in said if text)
    times = ", ".join(f"{escape(name)} {clock(seconds)}" for name, seconds in entry["steps_s"].items())
    steps = f'<p class="times">{times}</p>' if times else ""
    keys = {
        "look": len(ORDER) - ORDER[entry["status"]],
        "length": entry["duration_s"],
        "confidence": "" if confidence is None else round(confidence, 4),
        "stitches": stitches,
    }
    values = " ".join(f'data-{key}="{value}"' for key, value in keys.items())
    line = (
        f'<span class="head"><span class="id">{escape(video_id)}</span>{pill(entry["status"])}{head}'
        f"{steps_bar(entry['steps_s'], taxonomy)}</span>"
    )
    name = f'id="video-{escape(video_id)}" {values}'
    if not drawing:
        return f'<div class="video" {name}>{line}{steps}</div>'
    return f'<details class="video" {name}{" open" * is_open}><summary>{line}</summary>{drawing}{steps}</details>'


def steps_bar(steps_s: Mapping[str, float], taxonomy: Taxonomy) -> str:
    """Returns the steps' shares of a video as a bar; '' where nothing is known."""
    total_s = sum(steps_s.values())
    if not total_s:
        return ""
    parts = "".join(
        f"<i {step_style(name, taxonomy, f'width:{100 * seconds / total_s:.1f}%')} "
        f'title="{escape(name)} {clock(seconds)}"></i>'
        for name, seconds in steps_s.items()
    )
    return f'<span class="split">{parts}</span>'


def step_style(name: str, taxonomy: Taxonomy, style: str = "") -> str:
    """Returns the attributes that give an element the colour of a step, or of what is beside the steps."""
    if name in STYLES:
        return f'class="{STYLES[name]}" style="{style}"'
    return f'style="{style};background:{css_colour(STEP_TAG, name, taxonomy)}"'


def timeline_drawing(lanes: Timeline, taxonomy: Taxonomy) -> str:
    """Returns the place of a timeline, and its spans as data: page.js draws them."""
    zooms = "".join(f'<option value="{zoom}">{zoom} ×</option>' for zoom in (1, 2, 4, 8, 16))
    content = {
        "duration_s": lanes.duration_s,
        "lanes": [lane_content(lane, taxonomy) for lane in lanes.lanes],
        "gaps": [
            [
                round(gap.start_s, 2),
                round(gap.stop_s, 2),
                UNKNOWN if gap.category == UNKNOWN else f"not mapped: {gap.category}",
                int(gap.category == UNKNOWN),
            ]
            for gap in lanes.gaps
        ],
    }
    return (
        f'<div class="zoom"><label>Zoom <select>{zooms}</select></label></div><div class="timeline" tabindex="0" '
        f'role="region" aria-label="timeline"></div><script type="application/json">{json_text(content)}</script>'
    )


def lane_content(lane: Lane, taxonomy: Taxonomy) -> dict[str, Any]:
    """Returns a lane as JSON: each category once, and spans as [start_s, stop_s, category's index, confidence]."""
    categories = sorted({span.category for span in lane.spans})
    index = {category: place for place, category in enumerate(categories)}
    return {
        "tag": lane.tag,
        "truth": lane.is_truth,
        "categories": categories,
        "colours": [css_colour(lane.tag, category, taxonomy) for category in categories],
        "spans": [
            [
                round(span.start_s, 2),
                round(span.stop_s, 2),
                index[span.category],
                None if span.confidence is None else round(span.confidence, 2),
            ]
            for span in lane.spans
        ],
    }
