"""The section of a page that shows stitches: totals with intervals, and a table per video."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from halsted_ray.maps.stitch_table import VideoStitches
from halsted_ray.maps.stitch_totals import MedianTime, StitchTotals, totals_of
from halsted_ray.reporting.html_page import folded, percent, tile_section
from halsted_ray.reporting.stitch_words import in_words, proficiency_of, seconds_of, videos_without
from halsted_ray.reporting.terminal import clock

MOST_STITCHES = 1000
"""A row of the table is about 300 bytes of the page."""
LONG_LIST = 20
"""More videos than these are folded together."""
NUMBERS = ("#", "start", "stop", "handling", "driving", "withdrawal", "confidence")
"""Columns that are aligned to the right; times of phases are in seconds."""


def stitch_section(videos: Sequence[VideoStitches]) -> str:
    """Returns the tiles with the totals and a table per video; where there is no stitch, why there is none. '' where no
    video is mapped."""
    if not videos:
        return ""
    without = "; ".join(videos_without(videos))
    found = [video for video in videos if video.stitches]
    if not found:
        return f"<section><h2>Stitches</h2><p>{escape(without[0].upper() + without[1:])}.</p></section>"
    cards, left = [], MOST_STITCHES
    for video in found:
        if left > 0:
            cards.append(_card(video, left))
            left -= len(video.stitches)
    more = (
        f" The tables hold the first {MOST_STITCHES:,} of them; <code>halsted stitches</code> lists all."
        if left < 0
        else ""
    )
    tables = "".join(cards)
    if len(cards) > LONG_LIST:
        tables = folded(f"{len(cards):,} videos with stitches", tables, is_long=True)
    totals = totals_of([stitch for video in found for stitch in video.stitches])
    rest = f" {escape(without[0].upper() + without[1:])}." if without else ""
    return (
        "<section><h2>Stitches</h2><p>A stitch is needle handling, driving and withdrawal, found over the rows of the "
        "map. Phases are in seconds. The confidence is that of the least sure phase. Intervals take stitches for "
        f"independent, which those of one video are not.{rest}{more}</p>{_tiles(totals)}{tables}</section>"
    )


def _tiles(totals: StitchTotals) -> str:
    tiles = [(f"{totals.count:,}", "stitches", "")]
    if totals.high_share is not None:
        between = f"{percent(totals.high_low)}–{percent(totals.high_high)}"
        tiles.append((percent(totals.high_share), f"high proficiency of {totals.proficiency_n:,} (95%: {between})", ""))
    medians: tuple[tuple[str, MedianTime], ...] = (
        ("handling", totals.handling),
        ("driving", totals.driving),
        ("withdrawal", totals.withdrawal),
    )
    for name, time in medians:
        if time.n:
            value, _, interval = in_words(time).partition(" (")
            tiles.append((value, f"median {name}" + (f" ({interval}" if interval else ""), ""))
    return tile_section(tiles)


def _card(video: VideoStitches, most: int) -> str:
    """The table of one video, at most ``most`` rows, without columns in which no stitch has a value."""
    names = (*NUMBERS[:-1], "target", "direction", "extent", "proficiency", NUMBERS[-1])
    rows = [
        (
            str(index),
            clock(stitch.start_s),
            clock(stitch.stop_s),
            *map(seconds_of, (stitch.handling_s, stitch.driving_s, stitch.withdrawal_s)),
            stitch.target or "",
            stitch.direction or "",
            stitch.extent or "",
            proficiency_of(stitch.proficiency, stitch.proficiency_probability),
            f"{stitch.confidence:.2f}",
        )
        for index, stitch in enumerate(video.stitches[:most], 1)
    ]
    kept = [column for column in range(len(names)) if any(row[column] for row in rows)]
    aligned = ["" if name not in NUMBERS else ' class="n"' for name in names]
    header = "".join(f"<th{aligned[column]}>{names[column]}</th>" for column in kept)
    body = "".join(
        "<tr>" + "".join(f"<td{aligned[column]}>{escape(row[column])}</td>" for column in kept) + "</tr>"
        for row in rows
    )
    partly = "" if video.is_complete else "<span>parts of the video could not be mapped</span>"
    count = len(video.stitches)
    summary = (
        f'<span class="id">{escape(video.video_id)}</span> · {count:,} stitch{"es" * (count != 1)}'
        f"{f' · {partly}' if partly else ''}"
    )
    table = (
        f'<div class="card scroll" tabindex="0"><table><thead><tr>{header}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
    return folded(summary, table)
