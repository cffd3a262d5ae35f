"""What the maps say at a moment, and where they say something."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from halsted_ray.errors import UsageError
from halsted_ray.maps.reading import read_table
from halsted_ray.maps.table_schemas import TIMELINE_SCHEMA
from halsted_ray.storage.vector_files import Span
from halsted_ray.video.presence import overlapping, union

COLUMNS = ["video_id", "start_s", "stop_s", "tag", "category", "source"]


def spans_where(out: str, conditions: Sequence[str]) -> dict[str, list[Span]]:
    """video_id → the spans [start_s, stop_s) in which the maps at ``out`` meet all ``conditions``.

    A condition is ``TAG=CATEGORY``, such as ``step=Suturing``. Raises UsageError for a condition of another form, for
    a place without maps, and for one that no row meets; OutputError.
    """
    found: dict[str, list[Span]] | None = None
    for condition in conditions:
        tag, equals, category = condition.partition("=")
        if not (tag and equals and category):
            raise UsageError(f"condition {condition!r}: expected TAG=CATEGORY, such as step=Suturing")
        filters = [("tag", "=", tag), ("category", "=", category), ("source", "=", "ai")]
        table = read_table(out, "timeline", COLUMNS, filters, schema=TIMELINE_SCHEMA)
        if table is None:
            raise UsageError(f"{out!r} holds no maps, so nothing is known of {condition!r}; leave the condition out")
        if not len(table):
            raise UsageError(
                f"no map at {out!r} says {condition!r}; check how tag and category are written (halsted show lists "
                "those of a video)"
            )
        own: dict[str, list[Span]] = {}
        for row in table.to_pylist():
            own.setdefault(row["video_id"], []).append((row["start_s"], row["stop_s"]))
        found = own if found is None else _both(found, own)
    return found or {}


def said_at(out: str, moments: Collection[tuple[str, float]]) -> dict[tuple[str, float], dict[str, str]]:
    """(video_id, second) → tag → category, what the maps at ``out`` say there, the longest row first.

    A moment of which no map says anything has an empty answer. Raises OutputError.
    """
    said: dict[tuple[str, float], dict[str, str]] = {moment: {} for moment in moments}
    video_ids = sorted({video_id for video_id, _ in moments})
    if not video_ids:
        return said
    filters = [("video_id", "in", video_ids), ("source", "=", "ai")]
    table = read_table(out, "timeline", COLUMNS, filters, schema=TIMELINE_SCHEMA)
    rows = [] if table is None else table.to_pylist()
    rows.sort(key=lambda row: (row["start_s"] - row["stop_s"], row["tag"]))
    of_video: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        of_video.setdefault(row["video_id"], []).append(row)
    for video_id, at_s in said:
        for row in of_video.get(video_id, ()):
            if row["start_s"] <= at_s < row["stop_s"]:
                said[video_id, at_s].setdefault(row["tag"], row["category"])
    return said


def _both(first: dict[str, list[Span]], second: dict[str, list[Span]]) -> dict[str, list[Span]]:
    """The spans in which both hold, in order."""
    found: dict[str, list[Span]] = {}
    for video_id in first.keys() & second.keys():
        others = union(second[video_id])
        spans = [
            (max(start_s, other[0]), min(stop_s, other[1]))
            for start_s, stop_s in sorted(first[video_id])
            for other in overlapping(others, (start_s, stop_s))
        ]
        if spans:
            found[video_id] = spans
    return found
