"""What a timeline draws: a lane per tag with its spans, and the truth's lane below it; the colour of each category."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from halsted_ray.records import UNKNOWN, Clip
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.video.presence import Span, union

PALETTE = ("#33658a", "#c8553d", "#588b8b", "#b98a2b", "#6d597a", "#6f9150", "#b56576", "#4a7c9d", "#a47148", "#78849a")
"""Muted colours that also differ in lightness: ``--c0`` to ``--c9`` of tokens.css. A tag with more categories gets
computed colours."""
ORDERED = ("#d3c1e0", "#9b7cb8", "#5f3d87")
"""From low to high, pale to dark: ``--o0`` to ``--o2`` of tokens.css as a light page has them. No colour says good or
bad."""
TOKENS = {shade: f"var(--c{index})" for index, shade in enumerate(PALETTE)} | {
    shade: f"var(--o{index})" for index, shade in enumerate(ORDERED)
}


@dataclass(frozen=True)
class LaneSpan:
    """``[start_s, stop_s)`` of one category."""

    start_s: float
    stop_s: float
    category: str
    confidence: float | None
    """None in a lane of the truth."""


@dataclass(frozen=True)
class Lane:
    """The spans of one tag, from the map or from the truth. ``gaps``: what of the tag's task could not be mapped, and
    what the model does not know (category ``unknown``)."""

    tag: str
    is_truth: bool
    spans: tuple[LaneSpan, ...]
    gaps: tuple[LaneSpan, ...] = ()


@dataclass(frozen=True)
class Timeline:
    """The lanes of one video. ``gaps``: spans that could not be mapped for some task; their category is the reason, or
    ``unknown`` where the model does not know what is there."""

    video_id: str
    duration_s: float
    lanes: tuple[Lane, ...]
    gaps: tuple[LaneSpan, ...]


def timeline(
    video: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], truth: Sequence[Clip] | None, taxonomy: Taxonomy
) -> Timeline:
    """Makes the lanes of one video, in the order of the taxonomy's tags; tags without any span are left out.

    ``video``: video_id and duration_s. ``rows``: the video's rows of the timeline table. ``truth``: its annotated
    clips, None for no lanes of the truth.
    """
    lanes = []
    for tag in taxonomy.tags:
        mapped = [row for row in rows if row["tag"] == tag.name and row["source"] not in ("gap", UNKNOWN)]
        spans = tuple(
            LaneSpan(row["start_s"], row["stop_s"], row["category"], row["confidence"])
            for row in sorted(mapped, key=lambda row: row["start_s"])
        )
        true_spans = tuple(
            LaneSpan(clip.start_s, clip.stop_s, clip.tags[tag.name], None)
            for clip in sorted(truth or (), key=lambda clip: clip.start_s)
            if tag.name in clip.tags
        )
        if spans or true_spans:
            task = taxonomy.task_of_tag(tag.name).name
            lanes.append(Lane(tag.name, False, spans, gap_spans(row for row in rows if row["task"] == task)))
            if truth is not None:
                lanes.append(Lane(tag.name, True, true_spans))
    gaps = gap_spans(rows)
    stops_s = [span.stop_s for lane in lanes for span in lane.spans] + [gap.stop_s for gap in gaps]
    duration_s = video["duration_s"] or max(stops_s, default=0.0)
    return Timeline(video["video_id"], duration_s, tuple(lanes), gaps)


def gap_spans(rows: Iterable[Mapping[str, Any]]) -> tuple[LaneSpan, ...]:
    """Returns the gaps and the unknown spans among ``rows`` in order of time. Tasks lose different windows for one gap;
    that is one span."""
    by_code: dict[str, list[Span]] = {}
    for row in rows:
        if row["source"] in ("gap", UNKNOWN):
            by_code.setdefault(row["category"], []).append((row["start_s"], row["stop_s"]))
    spans = [LaneSpan(*span, code, None) for code, of_code in by_code.items() for span in union(of_code)]
    return tuple(sorted(spans, key=lambda span: span.start_s))


def colour(tag: str, category: str, taxonomy: Taxonomy) -> str:
    """Returns the colour of a category as ``#rrggbb``, the same in every drawing. Proficiency has an ordered scale."""
    categories = taxonomy.tag(tag).categories
    roles = taxonomy.stitch
    if roles is not None and tag == roles.proficiency:
        # Low categories come before high ones, in the taxonomy's order.
        high = roles.high
        scale = sorted(categories, key=lambda name: name in high)
        place = scale.index(category)
        return ORDERED[round(place * (len(ORDERED) - 1) / max(len(scale) - 1, 1))]
    index = categories.index(category)
    if len(categories) <= len(PALETTE):
        return PALETTE[index]
    # The golden angle gives neighbours in the list very different hues; the lightness alternates too.
    rgb = colorsys.hls_to_rgb((0.58 + index * 0.381966) % 1.0, (0.42, 0.56, 0.66)[index % 3], 0.34)
    return "#" + "".join(f"{round(part * 255):02x}" for part in rgb)


def css_colour(tag: str, category: str, taxonomy: Taxonomy) -> str:
    """Returns ``colour`` for a page: the name of the token where it is one, so that a dark page has its own shade."""
    shade = colour(tag, category, taxonomy)
    return TOKENS.get(shade, shade)
