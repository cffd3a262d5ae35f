"""Reads BORIS's exports of events as TSV or CSV (boris.unito.it; boris/export_observation.py of olivierfriard/BORIS).

Aggregated events, a row per event with its start and its end (columns of versions 7 to 9):

    Observation id  Media file name  FPS  Subject  Behavior  Behavioral category  Behavior type  Start (s)  Stop (s)  …
    obs1            case1.mp4        25   …        Suturing  step                 STATE          1.000      9.500

Tabular events, a row per start and per end, below lines that describe the observation in older versions:

    Time   Media file path  Total length  FPS  Subject  Behavior  Behavioral category  Comment  Status
    1.000  case1.mp4        20.0          25   …        Suturing  step                          START

The behaviour's category is the tag. Where it names no tag, the behaviour decides, if it is a category of only one tag.
A point event has no span and is left out (its end is NA, or its start). A start without an end is left out.

BORIS counts the time of an observation: over all media files of its first player, one after another, plus its time
offset. So the offset and the lengths of the files before are taken off again; an observation of several files that does
not tell their lengths is left out. Modifiers and subjects are not read.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from halsted_ray.atlas.formats.clock_times import parse_time
from halsted_ray.atlas.formats.labelled_spans import LabelledSpans, SpanKey, meaning
from halsted_ray.atlas.formats.recording import ImportSettings, Recording, format_error, parse_number, read_table_text
from halsted_ray.atlas.formats.video_names import VideoNames
from halsted_ray.errors import AtlasError

MEDIA = ("media file name", "media file path", "media file")
STATUS = ("behavior type", "status")
MISSING = ("", "na", "nan", "none", "n/a")
ROUNDING_S = 0.0015
"""BORIS writes milliseconds."""
Row = dict[str, str]
"""One row by column, in lower case."""


class Event(NamedTuple):
    """A state event, in seconds of its observation."""

    line: int
    start_s: float
    stop_s: float
    row: Row


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the export at ``source``; one Recording per media file. Raises AtlasError for a table without the
    columns."""
    spans: dict[str, LabelledSpans] = {}
    first_line: dict[str, int] = {}
    length_s: dict[str, float] = {}
    events = list(events_of(source, settings))
    media_of_observation: dict[str, set[str]] = {}
    for event in events:
        media_of_observation.setdefault(event.row.get("observation id", ""), set()).add(named_media(event.row))
    for event in events:
        with settings.or_left_out():
            several = len(media_of_observation[event.row.get("observation id", "")]) > 1
            media, before_s = media_of(event, several, source)
            if not several and (total := event.row.get("total length", "")).lower() not in MISSING:
                length_s[media] = parse_number(total, source, event.line, "Total length")
            category, behavior = event.row.get("behavioral category", ""), event.row.get("behavior", "")
            said = meaning(category, behavior, source, event.line, settings.taxonomy)
            comment = event.row.get("comment start") or event.row.get("comment") or ""
            times = max(0.0, event.start_s - before_s), event.stop_s - before_s
            key = SpanKey(*times, said.task, "manual", settings.annotator, comment)
            first_line.setdefault(media, event.line)
            spans.setdefault(media, LabelledSpans(source)).add(key, said, 1.0, event.line)
    names, recordings = VideoNames(source, settings), []
    for media, own in spans.items():
        with settings.or_left_out(len(own.spans)):
            found = names.recording(media, own, first_line[media])
            recordings.append(replace(found, length_s=length_s.get(media)))
    return recordings


def events_of(source: str, settings: ImportSettings) -> Iterator[Event]:
    """Yields the state events; what has no span is left out. Raises AtlasError."""
    open_events: dict[tuple[str, ...], tuple[int, float, Row]] = {}
    for line, row in rows_of(source, settings):
        with settings.or_left_out():
            status = next((row[name].strip().upper() for name in STATUS if row.get(name)), "")
            if status.startswith("POINT"):
                raise format_error(
                    source, line, "a point event", "a state event, which has a start and an end", "point-event"
                )
            if "start (s)" in row or "start" in row:
                times = [row.get(f"{name} (s)", row.get(name, "")) for name in ("start", "stop")]
                if any(time.strip().lower() in MISSING for time in times):
                    raise format_error(source, line, times, "a start and an end", "point-event")
                start_s, stop_s = (
                    parse_time(time, source, line, name, settings)
                    for time, name in zip(times, ("Start (s)", "Stop (s)"), strict=True)
                )
                yield Event(line, start_s, stop_s, row)
                continue
            key = tuple(
                value
                for name, value in sorted(row.items())
                if name in ("observation id", "subject", "behavior") or name.startswith("modifier")
            )
            time_s = parse_time(row.get("time", ""), source, line, "Time", settings)
            if status == "START":
                if key in open_events:
                    earlier = open_events[key][0]
                    open_events[key] = line, time_s, row
                    raise format_error(
                        source, earlier, "START", "a STOP of this behaviour before its next START", "no-span"
                    )
                open_events[key] = line, time_s, row
            elif status == "STOP":
                if key not in open_events:
                    raise format_error(source, line, "STOP", "a START of this behaviour before", "no-span")
                first, start_s, started = open_events.pop(key)
                yield Event(first, start_s, time_s, started)
            else:
                raise format_error(source, line, status, "START, STOP or POINT")
    for line, _, _ in open_events.values():
        with settings.or_left_out():
            raise format_error(source, line, "START", "a STOP of this behaviour", "no-span")


def rows_of(source: str, settings: ImportSettings) -> Iterator[tuple[int, Row]]:
    """Yields (line, row) below the header, with what lines before it say of the observation. Raises AtlasError."""
    text = read_table_text(source, settings)
    head = text[:20_000]
    delimiter = max("\t,;", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    about: Row = {}
    try:
        for cells in reader:
            filled = [cell.strip() for cell in cells]
            if not any(filled):
                continue
            names = [cell.lower() for cell in filled]
            if not header:
                if "behavior" in names and ({"time", "start (s)", "start"} & set(names)):
                    header = names
                elif re.fullmatch(r"player #1", names[0]) and len(filled) > 1:
                    about["media file"] = ";".join(filter(None, [about.get("media file", ""), filled[1]]))
                elif names[0] in ("observation id", "time offset (s)") and len(filled) > 1:
                    about[names[0]] = filled[1]
                continue
            yield reader.line_num, {**about, **dict(zip(header, filled, strict=False))}
    except csv.Error as error:
        raise format_error(
            source, reader.line_num, str(error), "RFC 4180: fields with commas or quotes in quotes"
        ) from error
    if not header:
        expected = "BORIS's events: a header with Behavior, and Start (s) and Stop (s), or Time (export as TSV or CSV)"
        raise format_error(source, 1, head[:80], expected)


def named_media(row: Row) -> str:
    """Returns the media file that a row names; '' for none."""
    return next((row[name] for name in MEDIA if row.get(name, "").lower() not in MISSING), "")


def media_of(event: Event, several: bool, source: str) -> tuple[str, float]:
    """Returns (the media file of an event, the observation's time at which that file begins).

    ``several``: whether rows of the observation name different files.

    Raises AtlasError where the event's file is not known, or where it begins at an unknown time.
    """
    row, line = event.row, event.line
    named = named_media(row)
    offset = row.get("time offset (s)", "")
    before_s = parse_time_offset(offset, source, line)
    whole = row.get("source", "")
    listed = whole.removeprefix("player #1:").split("|")[0] if whole.startswith("player #1:") else ""
    files = [file for file in (listed or named).split(";") if file]
    if len(files) < 2 and not several and not several_lengths(row):
        if not files and not named:
            raise format_error(source, line, named, "a media file", "no-video")
        return named or files[0], before_s
    lengths = [part for part in row.get("media duration (s)", "").split("|")[0].split(";") if part]
    try:
        seconds = [parse_number(length, source, line, "a length") for length in lengths]
    except AtlasError:
        seconds = []
    if len(seconds) != len(files):
        expected = (
            "the lengths of the observation's media files (column Media duration (s)): export with a newer version"
        )
        raise format_error(source, line, "several media files", expected, "several-media")
    for file, length_s in zip(files, seconds, strict=True):
        if event.start_s < before_s + length_s - ROUNDING_S:
            if event.stop_s > before_s + length_s + ROUNDING_S:
                expected = "an event inside one media file; this one goes on in the next file"
                raise format_error(source, line, (event.start_s, event.stop_s), expected, "several-media")
            return file, before_s
        before_s += length_s
    raise format_error(source, line, event.start_s, "a time inside the media files", "several-media")


def several_lengths(row: Row) -> bool:
    """Returns whether a row lists the lengths or frame rates of several media files."""
    return any(";" in row.get(name, "") for name in ("media duration (s)", "fps", "fps (frame/s)"))


def parse_time_offset(text: str, source: str, line: int) -> float:
    """Returns the observation's time offset in seconds, 0 where there is none. Raises AtlasError."""
    return 0.0 if text.lower() in MISSING else parse_number(text, source, line, "Time offset (s)")
