"""A timeline as files that other programs read: CSV, JSON Lines, WebVTT, SubRip.

Rows in, text out, and back: what is written here is read back with times within 1 ms, also where lanes overlap and
whatever the spelling of a category. Times are seconds from the start of the stream, half-open; the canonical columns
name the end ``end_s``, as most tools do.

    csv     the canonical columns at full precision; also one table over all videos
    jsonl   the same, one object per line
    vtt     captions for people, ``.metadata.vtt`` with JSON cues for programs, ``.chapters.vtt`` for players
    srt     captions for people
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from halsted_ray.errors import UsageError
from halsted_ray.records import TIMELINE_ORDER, UNKNOWN
from halsted_ray.storage.files import write_atomically
from halsted_ray.storage.locations import filesystem

COLUMNS = ("video_id", "start_s", "end_s", "task", "tag", "category", "confidence", "source", "model_version")
CHAPTER_TAG = "step"
"""The lane that players show as chapters: its intervals are minutes long and don't overlap."""

Row: TypeAlias = dict[str, Any]
"""An interval of a timeline: values by the names of COLUMNS, times and confidence as floats, the rest as strings."""


def export(timeline: pa.Table, to: str, format: str, video_ids: Iterable[str] = ()) -> list[str]:
    """Writes ``timeline`` (table_schemas.TIMELINE_SCHEMA) under the folder or URL ``to``; returns the locations of the
    files.

    Each video has its own files, named by its ``video_id``; a video of ``video_ids`` without rows gets files without
    rows. csv and jsonl also write ``timeline.<format>`` over all videos. Raises UsageError for an unknown format,
    OutputError where ``to`` can't be written.
    """
    if format not in WRITERS:
        raise UsageError(f"unknown export format {format!r}; expected one of {', '.join(WRITERS)}")
    rows = canonical_rows(timeline)
    by_video: dict[str, list[Row]] = {video_id: [] for video_id in sorted(video_ids)}
    for row in rows:
        by_video.setdefault(row["video_id"], []).append(row)
    files = {
        f"{video_id}{suffix}": write(of_video)
        for video_id, of_video in by_video.items()
        for suffix, write in WRITERS[format].items()
    }
    if format in ("csv", "jsonl"):
        files[f"timeline.{format}"] = WRITERS[format][f".{format}"](rows)
    written = []
    for name, text in files.items():
        location = f"{to.rstrip('/')}/{name}"
        fs, path = filesystem(location)
        write_atomically(fs, path, text.encode())
        written.append(location)
    return written


def canonical_rows(timeline: pa.Table) -> list[Row]:
    """Rows with the keys of COLUMNS, in the order of ``records.TIMELINE_ORDER``."""
    timeline = timeline.sort_by([(name, "ascending") for name in TIMELINE_ORDER])
    renamed = timeline.rename_columns(["end_s" if name == "stop_s" else name for name in timeline.column_names])
    return renamed.select(list(COLUMNS)).to_pylist()


def write_csv(rows: Iterable[Row], columns: Sequence[str] = COLUMNS) -> str:
    """CSV by RFC 4180 with a header; numbers at full precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(
        {**row, **{name: repr(float(row[name])) for name in ("start_s", "end_s", "confidence")}} for row in rows
    )
    return text.getvalue()


def read_csv(text: str) -> list[Row]:
    """The rows that ``write_csv`` wrote. Raises UsageError where a column is missing."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    _check_columns(reader.fieldnames or (), "CSV")
    return [{**row, **{name: float(row[name]) for name in ("start_s", "end_s", "confidence")}} for row in reader]


def write_jsonl(rows: Iterable[Row], columns: Sequence[str] = COLUMNS) -> str:
    """JSON Lines: one object per row, with the keys ``columns``."""
    return "".join(json.dumps({name: row[name] for name in columns}, ensure_ascii=False) + "\n" for row in rows)


def read_jsonl(text: str) -> list[Row]:
    """The rows that ``write_jsonl`` wrote. Raises UsageError where a key is missing."""
    # Not splitlines(): it also cuts at U+2028 and the like, which JSON leaves unescaped inside strings.
    rows = [_json_row(line) for line in text.split("\n") if line.strip()]
    for row in rows:
        _check_columns(row, "JSON Lines")
    return rows


def write_metadata_vtt(rows: Iterable[Row], columns: Sequence[str] = COLUMNS) -> str:
    """WebVTT with one cue per row, whose text is the row as JSON; for ``<track kind="metadata">``."""
    # ">" is escaped, because "-->" may not stand in a cue.
    payloads = ((row, json.dumps({name: row[name] for name in columns}).replace(">", r"\u003e")) for row in rows)
    return _write_vtt((row["start_s"], row["end_s"], payload) for row, payload in payloads)


def read_metadata_vtt(text: str) -> list[Row]:
    """The rows of ``write_metadata_vtt``, with the times of the cues (whole milliseconds)."""
    return [{**_json_row(payload), "start_s": start_s, "end_s": end_s} for start_s, end_s, payload in _read_cues(text)]


def write_caption_vtt(rows: Iterable[Row]) -> str:
    """WebVTT with one caption per row: ``task · tag: category (0.97)``."""
    return _write_vtt((row["start_s"], row["end_s"], _escape(_caption(row))) for row in rows)


def write_chapter_vtt(rows: Iterable[Row]) -> str:
    """WebVTT with the steps, and the gaps and unknown spans between them, as chapters."""
    rows = list(rows)
    # Other tasks can lose more than the task of the steps, and their gaps would lie over its chapters.
    tasks = {row["task"] for row in rows if row["tag"] == CHAPTER_TAG} or {row["task"] for row in rows}
    others = {"gap": "Not mapped", UNKNOWN: "Unknown"}
    titles = (
        (row["start_s"], row["end_s"], others.get(row["tag"]) or row["category"])
        for row in rows
        if row["tag"] in (CHAPTER_TAG, *others) and row["task"] in tasks
    )
    # A span that failed has a gap row per task and must become a single chapter.
    return _write_vtt((start_s, end_s, _escape(title)) for start_s, end_s, title in dict.fromkeys(titles))


def write_srt(rows: Iterable[Row]) -> str:
    """SubRip with one caption per row: ``task · tag: category (0.97)``."""
    return "\n".join(
        f"{number}\n{_cue_times(row['start_s'], row['end_s'], ',')}\n{_caption(row)}\n"
        for number, row in enumerate(rows, start=1)
    )


def read_captions(text: str) -> list[Row]:
    """Rows of an SRT file or a WebVTT file of captions: times, task, tag, category, and confidence to a hundredth.

    Raises UsageError for a cue of another form.
    """
    unescape = _unescape if text.startswith("WEBVTT") else str
    rows = []
    for start_s, end_s, payload in _read_cues(text):
        match = _CAPTION.fullmatch(unescape(payload))
        if not match:
            raise UsageError(f"the cue at {start_s} s reads {payload!r}; expected 'task · tag: category (0.97)'")
        rows.append({"start_s": start_s, "end_s": end_s, **match.groupdict(), "confidence": float(match["confidence"])})
    return rows


WRITERS: dict[str, dict[str, Callable[[Iterable[Row]], str]]] = {
    "csv": {".csv": write_csv},
    "jsonl": {".jsonl": write_jsonl},
    "vtt": {".vtt": write_caption_vtt, ".metadata.vtt": write_metadata_vtt, ".chapters.vtt": write_chapter_vtt},
    "srt": {".srt": write_srt},
}

_CAPTION = re.compile(r"(?P<task>.*?) · (?P<tag>.*?): (?P<category>.*) \((?P<confidence>\d\.\d\d)\)", re.DOTALL)
_CUE_TIMES = re.compile(r"(?:(\d+):)?(\d\d):(\d\d)[.,](\d{3}) --> (?:(\d+):)?(\d\d):(\d\d)[.,](\d{3})")


def _caption(row: Row) -> str:
    return f"{row['task']} · {row['tag']}: {row['category']} ({row['confidence']:.2f})"


def _write_vtt(cues: Iterable[tuple[float, float, str]]) -> str:
    blocks = (f"{_cue_times(start_s, end_s, '.')}\n{payload}\n" for start_s, end_s, payload in cues)
    return "\n".join(["WEBVTT\n", *blocks])


def _read_cues(text: str) -> Iterator[tuple[float, float, str]]:
    for block in re.split(r"\n{2,}", text.replace("\r\n", "\n").strip("\n")):
        lines = block.split("\n")
        for number, line in enumerate(lines):
            if times := _CUE_TIMES.match(line):
                parts = [int(part or 0) for part in times.groups()]
                yield _seconds(parts[:4]), _seconds(parts[4:]), "\n".join(lines[number + 1 :])
                break


def _seconds(parts: list[int]) -> float:
    hours, minutes, seconds, milliseconds = parts
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def _cue_times(start_s: float, end_s: float, point: str) -> str:
    start_ms, end_ms = round(start_s * 1000), round(end_s * 1000)
    if end_ms <= start_ms:  # players drop a cue that does not end after its start
        start_ms = int(start_s * 1000)
        end_ms = start_ms + 1
    return f"{_clock(start_ms, point)} --> {_clock(end_ms, point)}"


def _clock(time_ms: int, point: str) -> str:
    seconds, milliseconds = divmod(time_ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{milliseconds:03d}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _json_row(text: str) -> Row:
    try:
        row: Row = json.loads(text)
    except (ValueError, RecursionError) as error:  # also digits without end, and brackets that are too deep
        raise UsageError(f"{text[:80]!r} is no row of a map ({type(error).__name__}); expected a JSON object") from None
    if not isinstance(row, dict):
        raise UsageError(f"{text[:80]!r} is no row of a map; expected a JSON object")
    return row


def _check_columns(names: Iterable[str], kind: str) -> None:
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise UsageError(f"this {kind} has no {', '.join(missing)}; expected the columns {', '.join(COLUMNS)}")
