"""The section of a page that shows economy of motion: what it must not be used for, and a table, folded."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from halsted_ray.reporting.html_page import folded, percent, table_card
from halsted_ray.sequences.economy import WARNING, VideoEconomy

MOST_VIDEOS = 1000
"""A row of the table is about 400 bytes of the page."""
LONG_TABLE = 20
"""A table of more videos is not unfolded for print."""
COLUMNS = (
    "video",
    "acting, min",
    "actions",
    "per minute",
    "median, s",
    "idle",
    "needle driven again",
    "direct path",
    "mean confidence",
)


def economy_section(videos: Sequence[VideoEconomy]) -> str:
    """Returns the warning, and a row per video in which somebody acts; '' where nobody does in any."""
    acting = [video for video in videos if video.actions]
    if not acting:
        return ""
    rows = [
        (
            f'<span class="id">{escape(video.video_id)}</span>',
            f"{video.acting_s / 60:.1f}",
            f"{video.actions:,}",
            _number(video.actions_per_min),
            _number(video.median_action_s),
            _share(video.idle_share),
            "" if video.repeated_attempts is None else f"{video.repeated_attempts:,}",
            _share(video.direct_path_share),
            _share(video.mean_confidence),
        )
        for video in acting[:MOST_VIDEOS]
    ]
    more = (
        f" The table holds the first {MOST_VIDEOS:,} of {len(acting):,} videos; <code>halsted economy</code> lists all."
        if len(acting) > MOST_VIDEOS
        else ""
    )
    count = f"{len(acting):,} video{'s' * (len(acting) != 1)}"
    table = folded(f"Figures of {count}", table_card(COLUMNS, rows, texts=("video",)), len(rows) > LONG_TABLE)
    return (
        f'<section><h2>Economy of motion</h2><p class="notice">{escape(WARNING)}</p>'
        f"<p>Counted over actions and phases of suturing in the map; no picture is looked at.{more}</p>"
        f"{table}</section>"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _share(value: float | None) -> str:
    return "" if value is None else percent(value)
