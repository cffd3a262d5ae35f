"""Cases: videos that are chapters of one operation, with one axis of time over all of them.

    <out>/cases   CASES_SCHEMA, a row per video of a case

Videos stay the unit that is decoded, tagged and published. A case is a view of them: the time of a case is the length
of the videos before, plus the time in the video.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa

from halsted_ray.maps.commits import commit_rows
from halsted_ray.maps.reading import read_table, read_videos
from halsted_ray.maps.table_schemas import TIMELINE_SCHEMA
from halsted_ray.maps.timeline import DECIMALS
from halsted_ray.records import TIMELINE_ORDER, digest
from halsted_ray.storage.delta import table_uri
from halsted_ray.video.cases import NONE, group_cases

CASES_SCHEMA = pa.schema(
    [
        ("case_id", pa.string()),
        ("video_id", pa.string()),
        ("position", pa.int32()),
        ("offset_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("rule", pa.string()),
    ]
)
"""``position`` counts from 1. ``offset_s`` is when the video begins on the axis of the case; ``duration_s`` is its
length, 0 where it can't be read. ``rule`` is what the cases were made by (``video.cases``)."""

TOUCHING_S = 1e-6
"""Two rows of one lane that are nearer than this are one row: sums of lengths are not exact."""

Row = dict[str, Any]
"""A row of a timeline, by column."""


@dataclass(frozen=True)
class Chapter:
    """One video of a case: a row of CASES_SCHEMA."""

    case_id: str
    video_id: str
    position: int
    offset_s: float
    duration_s: float
    rule: str


def publish_cases(out: str, archive: str, rule: str | None) -> int:
    """Groups all videos at ``out`` into cases by ``rule``; the number of cases.

    None: by the rule of the run before, so that new chapters come to their case. ``archive``: where paths in a pattern
    or a CSV file begin. Commits only where something is new. Raises UsageError for a rule that can't be used,
    OutputError.
    """
    known = read_cases(out)
    rule = rule or next((chapter.rule for chapter in known), NONE)
    entries = read_videos(out)
    if not rule.lower().endswith(".csv"):  # a CSV file may name the copy
        entries = {uri: entry for uri, entry in entries.items() if not entry.copy_of}
    chapters: list[Chapter] = []
    taken: set[str] = set()
    for key, uris in group_cases(entries, rule, archive, strict=False).items():
        position, offset_s = 0, 0.0
        for uri in uris:
            video = entries[uri].video
            if video.video_id in taken:  # a video has one place
                continue
            taken.add(video.video_id)
            position += 1
            duration_s = 0.0 if entries[uri].code else video.duration_s
            chapters.append(Chapter(digest("case", key), video.video_id, position, offset_s, duration_s, rule))
            offset_s += duration_s
    chapters.sort(key=lambda chapter: (chapter.case_id, chapter.position))
    if chapters != known:
        rows = pa.Table.from_pylist([asdict(chapter) for chapter in chapters], schema=CASES_SCHEMA)
        commit_rows(table_uri(out, "cases"), rows, replaced="true")
    return len({chapter.case_id for chapter in chapters})


def read_cases(out: str) -> list[Chapter]:
    """The chapters of all cases at ``out``, by case and position; none where no cases were made. Raises OutputError."""
    table = read_table(out, "cases")
    rows = table.to_pylist() if table is not None else []
    return sorted((Chapter(**row) for row in rows), key=lambda chapter: (chapter.case_id, chapter.position))


def case_timeline(timeline: pa.Table, chapters: Sequence[Chapter]) -> pa.Table:
    """``timeline`` (TIMELINE_SCHEMA) with the rows of each case on the axis of the case.

    ``video_id`` is then the ``case_id`` and ``uri`` is empty. Rows that touch at the end of a chapter and agree are one
    row. Rows of videos in no case stay as they are. Rows in the order of ``records.TIMELINE_ORDER``.
    """
    if not chapters:
        return timeline
    chapter_of = {chapter.video_id: chapter for chapter in chapters}
    kept, moved = [], []
    for row in timeline.to_pylist():
        chapter = chapter_of.get(row["video_id"])
        if chapter is None:
            kept.append(row)
            continue
        times = {name: row[name] + chapter.offset_s for name in ("start_s", "stop_s")}
        moved.append({**row, **times, "video_id": chapter.case_id, "uri": ""})
    rows = pa.Table.from_pylist([*kept, *_merged(moved)], schema=TIMELINE_SCHEMA)
    return rows.sort_by([(name, "ascending") for name in TIMELINE_ORDER])


def case_statuses(videos: Iterable[Mapping[str, Any]], chapters: Sequence[Chapter]) -> list[dict[str, Any]]:
    """``videos`` (of ``status.status_of``) with one row per case in place of its videos.

    ``video_id`` is then the ``case_id``, ``uri`` is empty, and ``videos`` says how many videos it has (1 for a video in
    no case). A case is mapped where all of its videos are, failed where all failed, pending where any is pending, else
    partial. ``reason`` is that of the first video that is not mapped whole, with its position.
    """
    of_video = {video["video_id"]: dict(video) for video in videos}
    shown = []
    for case_id, group in groupby(chapters, key=lambda chapter: chapter.case_id):
        members = [(c, of_video.pop(c.video_id)) for c in group if c.video_id in of_video]
        if members:
            shown.append(_case_status(case_id, members))
    return sorted([*({**video, "videos": 1} for video in of_video.values()), *shown], key=lambda row: row["uri"])


def _case_status(case_id: str, members: Sequence[tuple[Chapter, dict[str, Any]]]) -> dict[str, Any]:
    statuses = {video["status"] for _, video in members}
    word = statuses.pop() if len(statuses) == 1 else "pending" if "pending" in statuses else "partial"
    chapter, worst = next(((c, video) for c, video in members if video["reason"]), (members[0][0], None))
    unread = worst is not None and worst["duration_s"] is None
    reason = "" if worst is None else f"video {chapter.position} of {len(members)}: {worst['reason']}"
    return {
        "video_id": case_id,
        "uri": "",
        "status": word,
        "duration_s": sum(video["duration_s"] or 0.0 for _, video in members) or None,
        **{
            name: sum(video[name] for _, video in members)
            for name in ("segments", "segments_done", "segments_failed", "copies")
        },
        "missing_s": sum(video["missing_s"] or 0.0 for _, video in members),
        "code": worst["code"] if worst else "",
        "reason": f"{reason}; the times of the case do not count this video" if unread else reason,
        "gone": any(video["gone"] for _, video in members),
        "videos": len(members),
    }


def _merged(rows: list[Row]) -> list[Row]:
    """``rows`` of cases; rows that touch and agree in everything but time and confidence become one row, whose
    confidence is the mean by length."""

    def lane(row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in TIMELINE_SCHEMA.names if name not in ("start_s", "stop_s", "confidence"))

    merged: list[Row] = []
    for _, group in groupby(sorted(rows, key=lambda row: (lane(row), row["start_s"])), key=lane):
        last: Row | None = None
        for row in group:
            if last is None or row["start_s"] - last["stop_s"] > TOUCHING_S:
                last = dict(row)
                merged.append(last)
                continue
            before_s, after_s = last["stop_s"] - last["start_s"], row["stop_s"] - row["start_s"]
            mean = (last["confidence"] * before_s + row["confidence"] * after_s) / (before_s + after_s)
            last |= {"stop_s": max(last["stop_s"], row["stop_s"]), "confidence": round(mean, DECIMALS)}
    return merged
