"""Cases: videos that are chapters of one operation, with one axis of time over all of them.

    <out>/cases   CASES_SCHEMA, a row per video of a case

Videos stay the unit that is decoded, tagged and published. A case is a view of them: the time of a case is the length
of the videos before, plus the time in the video.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa

from halsted_ray.errors import UsageError
from halsted_ray.maps.commits import commit_rows
from halsted_ray.maps.reading import read_table, read_videos
from halsted_ray.maps.table_schemas import TIMELINE_SCHEMA, ArchiveFile
from halsted_ray.maps.timeline import DECIMALS, TOUCHING_S
from halsted_ray.records import TIMELINE_ORDER, digest
from halsted_ray.storage.delta import table_uri
from halsted_ray.storage.locations import local_path
from halsted_ray.video.cases import CHAPTERS, FOLDER, NONE, doubtful_chapters, group_cases, is_csv

CASES_SCHEMA = pa.schema(
    [
        ("case_id", pa.string()),
        ("video_id", pa.string()),
        ("position", pa.int32()),
        ("offset_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("rule", pa.string()),
        ("archive", pa.string()),
    ]
)
"""``position`` counts from 1. ``offset_s`` is when the video begins on the axis of the case; ``duration_s`` is its
length, 0 where it can't be read. ``rule`` is what the cases were made by (``video.cases``), and ``archive`` is where
its paths begin."""

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
    archive: str = ""


def publish_cases(out: str, archive: str, rule: str | None, say: Callable[[str], None] = lambda message: None) -> int:
    """Groups the videos at ``out`` into cases, those of ``archive`` by ``rule``; the number of cases.

    None: by the rule of the run before, so that new chapters come to their case. Files of other archives keep the rule
    of their own archive, and no case spans two archives. A video whose file has copies is in the case that has most
    videos. Commits only where something is new. ``say`` is told where a rule makes no case, and where the rule of an
    earlier run can't be used any more: then its cases stay. Raises UsageError for a ``rule`` that can't be used,
    OutputError.
    """
    known = read_cases(out)
    entries = read_videos(out)
    rules = _rules_of_archives(known, archive, rule)
    cases: list[tuple[str, str, list[str]]] = []
    """(archive, key, uris in order) of each case."""
    kept: list[Chapter] = []
    uris_at: dict[str | None, list[str]] = {}
    for uri in entries:
        uris_at.setdefault(_archive_of(uri, rules), []).append(uri)
    for place, of_place in rules.items():
        uris = uris_at.get(place, [])
        try:
            found = group_cases(uris, of_place, place, strict=False)
        except UsageError as error:
            if rule and place == archive:
                raise
            kept += [c for c in known if (c.archive or archive) == place]
            say(f"{error}; until then the cases stay as they are, and new files are in none (--case-by none ends them)")
            continue
        if rule not in (None, NONE) and place == archive and not found:
            say(
                f"--case-by {rule}: no file of the archive is in a case by this rule; every file stays by itself, and "
                "later runs do not follow it"
            )
        cases += [(place, key, uris) for key, uris in found.items()]
    ids = {entry.video.video_id for entry in entries.values()}
    chapters = [chapter for chapter in kept if chapter.video_id in ids]
    taken = {chapter.video_id for chapter in chapters}
    # A video has one place. A copy of one chapter elsewhere must not take it out of its case.
    cases.sort(key=lambda case: (-len({entries[u].video.video_id for u in case[2]}), _copies(case[2], entries), *case))
    doubtful: dict[str, list[int]] = {}
    for place, key, uris in cases:
        position, offset_s, named_here = 0, 0.0, list[str]()
        named = ("case", key) if rules[place] in (FOLDER, CHAPTERS) else ("case", place, key)
        for uri in uris:
            video = entries[uri].video
            if video.video_id in taken:
                continue
            taken.add(video.video_id)
            named_here.append(uri)
            position += 1
            duration_s = 0.0 if entries[uri].code else video.duration_s
            chapters.append(
                Chapter(digest(*named), video.video_id, position, offset_s, duration_s, rules[place], place)
            )
            offset_s += duration_s
        if numbers := doubtful_chapters(named_here):
            doubtful[digest(*named)] = numbers
    if doubtful:
        case_id, numbers = next(iter(doubtful.items()))
        several = "1 case" if len(doubtful) == 1 else f"{len(doubtful):,} cases"
        say(
            f"in {several} a chapter is missing, or is there twice, by the numbers in the names of files (first: case "
            f"{case_id}, chapter {', '.join(map(str, numbers[:5]))}); the times of the case after it are shifted"
        )
    chapters.sort(key=lambda chapter: (chapter.case_id, chapter.position))
    if chapters != known:
        rows = pa.Table.from_pylist([asdict(chapter) for chapter in chapters], schema=CASES_SCHEMA)
        commit_rows(table_uri(out, "cases"), rows, replaced="true")
    return len({chapter.case_id for chapter in chapters})


def _rules_of_archives(known: Sequence[Chapter], archive: str, rule: str | None) -> dict[str, str]:
    """Archive → the rule of its files. ``rule`` is for ``archive`` and every folder in it; None: its former rule, or
    that of the archive that it lies in, or that of all other archives, but for a CSV file, which names its own files.
    """
    rules = {chapter.archive or archive: chapter.rule for chapter in known}
    if rule:
        return {place: its for place, its in rules.items() if not _lies_in(place, archive)} | {archive: rule}
    others = set(rules.values())
    if not any(_lies_in(archive, place) for place in rules) and len(others) == 1 and not is_csv(min(others)):
        rules[archive] = others.pop()
    return rules


def _archive_of(uri: str, archives: Iterable[str]) -> str | None:
    """The deepest of ``archives`` that holds the file ``uri``; None for none."""
    return max((place for place in archives if _lies_in(uri, place)), key=len, default=None)


def _lies_in(uri: str, place: str) -> bool:
    """Whether ``uri`` is ``place`` or lies below it."""
    path, root = local_path(uri) or uri, (local_path(place) or place).rstrip("/")
    return path == root or path.startswith(root + "/")


def _copies(uris: Iterable[str], entries: Mapping[str, ArchiveFile]) -> int:
    """How many files of ``uris`` are copies of another file."""
    return sum(bool(entries[uri].copy_of) for uri in uris)


def read_cases(out: str) -> list[Chapter]:
    """The chapters of all cases at ``out``, by case and position; none where no cases were made. Raises OutputError."""
    table = read_table(out, "cases")
    rows = table.to_pylist() if table is not None else []
    chapters = (Chapter(**{**row, "archive": row.get("archive") or ""}) for row in rows)
    return sorted(chapters, key=lambda chapter: (chapter.case_id, chapter.position))


def case_timeline(timeline: pa.Table, chapters: Sequence[Chapter], anew: Collection[str] = ()) -> pa.Table:
    """``timeline`` (TIMELINE_SCHEMA) with the rows of each case on the axis of the case.

    ``video_id`` is then the ``case_id`` and ``uri`` is empty. Rows that touch at the end of a chapter and agree are one
    row, but not at the beginning of the videos ``anew``, before which something is missing. What a map states once for
    a whole operation is stated once per case. Rows of videos in no case stay as they are. Rows in the order of
    ``records.TIMELINE_ORDER``.
    """
    if not chapters:
        return timeline
    chapter_of = {chapter.video_id: chapter for chapter in chapters}
    stretch_of = _stretches(chapters, anew)
    ends_s: dict[str, float] = {}
    for chapter in chapters:
        ends_s[chapter.case_id] = max(ends_s.get(chapter.case_id, 0.0), chapter.offset_s + chapter.duration_s)
    kept: list[Row] = []
    moved: dict[int, list[Row]] = {}
    stated: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in timeline.to_pylist():
        its = chapter_of.get(row["video_id"])
        if its is None:
            kept.append(row)
            continue
        times = {name: row[name] + its.offset_s for name in ("start_s", "stop_s")}
        on_axis = {**row, **times, "video_id": its.case_id, "uri": ""}
        if row.get("windows") is None:
            moved.setdefault(stretch_of[its.video_id], []).append(on_axis)
        else:
            stated.setdefault((its.case_id, row["task"]), {}).setdefault(its.video_id, []).append(on_axis)
    kept += [row for rows in moved.values() for row in _merged(rows)]
    for (case_id, _), of_video in stated.items():
        kept += _stated_once(list(of_video.values()), ends_s[case_id])
    order = [(name, "ascending") for name in TIMELINE_ORDER]
    return pa.Table.from_pylist(kept, schema=TIMELINE_SCHEMA).sort_by(order)


def _stretches(chapters: Iterable[Chapter], anew: Collection[str]) -> dict[str, int]:
    """video_id → the number of its stretch, in which rows go on from chapter to chapter of one case."""
    numbers, number = dict[str, int](), 0
    for chapter in sorted(chapters, key=lambda chapter: (chapter.case_id, chapter.position)):
        number += chapter.video_id in anew
        numbers[chapter.video_id] = number
    return numbers


def _stated_once(videos: Sequence[Sequence[Row]], end_s: float) -> list[Row]:
    """A row per tag in place of what the maps of a case's ``videos`` state of the whole operation: from 0 to the end of
    the case.

    Each video counts by its windows. Chosen is what one of the videos states of its tags together, so that no procedure
    meets another specialty; of another tag what a video says that agrees in all chosen tags, else nothing. A video that
    says otherwise in a tag counts nothing for ``confidence`` and ``share``, and its margin against it, so all three are
    rather too low.
    """
    by_tag: dict[str, list[Row]] = {}
    weights: dict[tuple[str, str], float] = {}
    for row in (row for rows in videos for row in rows):
        by_tag.setdefault(row["tag"], []).append(row)
        said = row["tag"], row["category"]
        weights[said] = weights.get(said, 0.0) + row["windows"] * row["confidence"]
    choices = sorted(
        (sorted((row["tag"], row["category"]) for row in rows) for rows in videos),
        key=lambda choice: (sum(weights[said] for said in choice) / len(choice), choice),
        reverse=True,
    )
    best: dict[str, str] = {}
    for choice in map(dict, choices):
        if all(choice.get(tag, category) == category for tag, category in best.items()):
            best |= choice
    return [_agreed(rows, best[tag], end_s) for tag, rows in by_tag.items() if tag in best]


def _agreed(rows: Sequence[Row], category: str, end_s: float) -> Row:
    """The row of one tag, with what ``rows`` say for ``category`` and against it."""
    agreeing = [row for row in rows if row["category"] == category]
    windows = sum(row["windows"] for row in rows)

    def mean(name: str, otherwise: float) -> float:
        values = (row["windows"] * row[name] * (1.0 if row["category"] == category else otherwise) for row in rows)
        return round(sum(values) / windows, DECIMALS) if windows else float(agreeing[0][name])

    return {
        **agreeing[0],
        "start_s": 0.0,
        "stop_s": end_s,
        "confidence": mean("confidence", 0.0),
        "windows": windows,
        "share": mean("share", 0.0),
        "margin": mean("margin", -1.0),
    }


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
        "unknown_s": sum(video["unknown_s"] or 0.0 for _, video in members),
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
