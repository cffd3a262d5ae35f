"""A timeline as files that other programs read: CSV, JSON Lines, WebVTT, SubRip.

Rows in, text out, and back: what is written here is read again within 1 ms, overlapping lanes and
categories of any spelling included. Times are seconds from the stream's start, half-open; the canonical
columns name the end ``end_s`` as most tools do.

    csv     the canonical columns, full precision; also one table over all videos
    jsonl   the same, one object a line
    vtt     captions for people, ``.metadata.vtt`` with JSON cues for programs, ``.chapters.vtt`` for players
    srt     captions for people
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

from halsted_ray.errors import UsageError
from halsted_ray.records import TIMELINE_ORDER
from halsted_ray.storage.files import write_atomically
from halsted_ray.storage.locations import filesystem

COLUMNS = ("video_id", "start_s", "end_s", "task", "tag", "category", "confidence", "source", "model_version")
CHAPTER_TAG = "step"
"""The lane that players show as chapters: minutes long, and without overlaps."""

Row = dict[str, object]


def export(timeline: pa.Table, to: str, format: str, video_ids: Iterable[str] = ()) -> list[str]:
    """Writes ``timeline`` (records.TIMELINE_SCHEMA) under the folder or URL ``to``; returns what was written.

    One file a video, named by its ``video_id``; a video of ``video_ids`` without rows gets an empty one.
    csv and jsonl also write ``timeline.<format>`` over all of them. Raises UsageError for an unknown format,
    OutputError when ``to`` can't be written.
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
        write_atomically(*filesystem(location), text.encode())
        written.append(location)
    return written


def canonical_rows(timeline: pa.Table) -> list[Row]:
    """Rows with the keys of COLUMNS, in the order of ``records.TIMELINE_ORDER``."""
    timeline = timeline.sort_by([(name, "ascending") for name in TIMELINE_ORDER])
    renamed = timeline.rename_columns(["end_s" if name == "stop_s" else name for name in timeline.column_names])
    return renamed.select(list(COLUMNS)).to_pylist()


def write_csv(rows: Iterable[Row]) -> str:
    """RFC 4180 with a header; numbers at full precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(
        {**row, **{name: repr(float(row[name])) for name in ("start_s", "end_s", "confidence")}} for row in rows
    )
    return text.getvalue()


def read_csv(text: str) -> list[Row]:
    """What ``write_csv`` wrote, numbers as floats. Raises UsageError when a column is missing."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    _check_columns(reader.fieldnames or (), "CSV")
    return [{**row, **{name: float(row[name]) for name in ("start_s", "end_s", "confidence")}} for row in reader]


def write_jsonl(rows: Iterable[Row]) -> str:
    return "".join(json.dumps({name: row[name] for name in COLUMNS}, ensure_ascii=False) + "\n" for row in rows)


def read_jsonl(text: str) -> list[Row]:
    """What ``write_jsonl`` wrote. Raises UsageError when a key is missing."""
    # Not splitlines(): JSON leaves U+2028 and its like unescaped inside strings, and splitlines cuts there.
    rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    for row in rows:
        _check_columns(row, "JSON Lines")
    return rows


def write_metadata_vtt(rows: Iterable[Row]) -> str:
    """One cue a row whose text is the row's JSON; for ``<track kind="metadata">``."""
    # ">" is escaped, since "-->" may not stand in a cue.
    payloads = ((row, json.dumps({name: row[name] for name in COLUMNS}).replace(">", r"\u003e")) for row in rows)
    return _write_vtt((row["start_s"], row["end_s"], payload) for row, payload in payloads)


def read_metadata_vtt(text: str) -> list[Row]:
    """The rows of ``write_metadata_vtt``, with the times of the cues (whole milliseconds)."""
    return [{**json.loads(payload), "start_s": start_s, "end_s": end_s} for start_s, end_s, payload in _read_cues(text)]


def write_caption_vtt(rows: Iterable[Row]) -> str:
    return _write_vtt((row["start_s"], row["end_s"], _escape(_caption(row))) for row in rows)


def write_chapter_vtt(rows: Iterable[Row]) -> str:
    """The steps, and the gaps between them, as a chapters track."""
    titles = (
        (row["start_s"], row["end_s"], row["category"] if row["tag"] == CHAPTER_TAG else "Not mapped")
        for row in rows
        if row["tag"] in (CHAPTER_TAG, "gap")
    )
    # A span that failed is a gap of every task, and one chapter.
    return _write_vtt((start_s, end_s, _escape(title)) for start_s, end_s, title in dict.fromkeys(titles))


def write_srt(rows: Iterable[Row]) -> str:
    return "\n".join(
        f"{number}\n{_cue_times(row['start_s'], row['end_s'], ',')}\n{_caption(row)}\n"
        for number, row in enumerate(rows, start=1)
    )


def read_captions(text: str) -> list[Row]:
    """Rows of an SRT or caption VTT file: times, task, tag, category, and confidence to a hundredth."""
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
        at = next((index for index, line in enumerate(lines) if _CUE_TIMES.match(line)), None)
        if at is not None:
            parts = [int(part or 0) for part in _CUE_TIMES.match(lines[at]).groups()]
            yield _seconds(parts[:4]), _seconds(parts[4:]), "\n".join(lines[at + 1 :])


def _seconds(parts: list[int]) -> float:
    hours, minutes, seconds, milliseconds = parts
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def _cue_times(start_s: float, end_s: float, point: str) -> str:
    start_ms, end_ms = round(start_s * 1000), round(end_s * 1000)
    if end_ms <= start_ms:  # players drop a cue that does not end after it starts
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


def _check_columns(names: Iterable[str], kind: str) -> None:
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise UsageError(f"this {kind} has no {', '.join(missing)}; expected the columns {', '.join(COLUMNS)}")
