"""Reads and writes WebVTT (w3.org/TR/webvtt1) and SubRip: a cue per sample, a line per tag.

    00:00:02.000 --> 00:00:09.500
    step: Suturing
    annotator: ben

A line that is named after a tag gives the tag; a line without such a name is a label that must be a category of only
one tag, such as a chapter's title. ``annotator``, ``source``, ``confidence`` and ``caption`` are there where they are
not the usual ones. A value that would break a cue, such as one of several lines, is written as JSON, in quotes.

The map's own exports are read too (``maps.exports``): captions (``task · tag: category (0.97)``) and cues of metadata,
which are a model's; and its chapters. A file is named after its video: by its video_id, or by the video's name with
another extension. Times are whole milliseconds.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from typing import NamedTuple

from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.formats.labelled_spans import LabelledSpans, Meaning, SpanKey, meaning, tag_named
from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    format_error,
    is_file,
    json_of,
    matching_files,
    parse_number,
    read_table_text,
    text_lines,
    write_text,
)
from halsted_ray.atlas.formats.video_names import VideoNames
from halsted_ray.errors import AtlasError
from halsted_ray.records import SOURCES, UNKNOWN, Clip
from halsted_ray.storage.locations import absolute_location
from halsted_ray.taxonomy import Taxonomy

PER_S = 1000.0
"""Cues count milliseconds."""
TIMES = re.compile(
    r"\s*(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})[.,](\d{3})\s+-->\s+(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})[.,](\d{3})\b.*"
)
MAP_CAPTION = re.compile(r"[^·]* · (?P<tag>[^:]*): (?P<category>.*) \((?P<confidence>\d\.\d\d)\)")
PARTS = (".metadata", ".chapters")
"""What the map's exports add to the name of a video."""
MAP_GAPS = ("gap", "Not mapped", UNKNOWN, "Unknown")
DEFAULTS = {
    "source": "manual",
    "annotator": "",
    "confidence": "1.0",
    "caption": "",
    "specialty": "",
    "procedure of the operation": "",
}
"""What a cue says beside its tags, and the value that is not written."""


class Cue(NamedTuple):
    """One cue. ``start`` and ``stop``: milliseconds. ``lines``: of its text, without escapes."""

    line: int
    start: int
    stop: int
    lines: list[str]


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the file, or the folder of .vtt and .srt files, at ``source``; one Recording each. Raises AtlasError."""
    files = [source]
    if not is_file(source):
        folder = absolute_location(source)
        files = [*matching_files(folder, "*.vtt"), *matching_files(folder, "*.srt")]
    if not files:
        raise AtlasError(f"{source}: no .vtt or .srt file here; give an existing file, or the folder that holds them")
    names, recordings = VideoNames(files[0], settings), []
    for file in files:
        names.source = file
        groups: dict[tuple[str, str], LabelledSpans] = {}
        for cue in cues_of(read_table_text(file, settings), file, settings):
            with settings.or_left_out():
                add_cue(groups, cue, file, settings)
        for operation, spans in groups.items():
            with settings.or_left_out(len(spans.spans)):
                name = posixpath.splitext(posixpath.basename(absolute_location(file)))[0]
                for part in PARTS:
                    name = name.removesuffix(part)
                recordings.append(names.recording(name, spans, 1, PER_S, operation))
    return recordings


def cues_of(text: str, file: str, settings: ImportSettings) -> Iterator[Cue]:
    """Yields the cues of a file. Blocks without times, such as notes and styles, are skipped.

    Raises AtlasError for a file without any cue.
    """
    lines = text_lines(text)
    is_vtt = lines[0].startswith("WEBVTT") if lines else False
    found = False
    n = 0
    while n < len(lines):
        if "-->" not in lines[n]:
            n += 1
            continue
        at, n = n + 1, n + 1
        payload = []
        while n < len(lines) and lines[n].strip() and "-->" not in lines[n]:
            payload.append(lines[n])
            n += 1
        found = True
        times = TIMES.fullmatch(lines[at - 1])
        with settings.or_left_out():
            if not times:
                raise format_error(file, at, lines[at - 1][:60], "00:00:02.000 --> 00:00:09.500", "no-span")
            parts = [int(part or 0) for part in times.groups()]
            start, stop = (((h * 60 + m) * 60 + s) * 1000 + ms for h, m, s, ms in (parts[:4], parts[4:]))
            yield Cue(at, start, stop, [unescape(line) if is_vtt else line for line in payload])
    if not found:
        raise format_error(file, 1, text[:40], "cues of WebVTT or SubRip: lines with -->")


def unescape(line: str) -> str:
    """Returns a line of WebVTT without tags and escapes."""
    return re.sub(r"<[^>]*>", "", line).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def add_cue(groups: dict[tuple[str, str], LabelledSpans], cue: Cue, file: str, settings: ImportSettings) -> None:
    """Adds the labels of one cue. Raises AtlasError."""
    said = dict(DEFAULTS)
    labels: list[Meaning] = []
    for line in said_lines(cue):
        if caption := MAP_CAPTION.fullmatch(line):
            said |= {"source": "ai", "confidence": caption["confidence"]}
            line = f"{caption['tag']}: {caption['category']}"
        name, separator, value = line.partition(": ")
        if separator and value.startswith('"'):
            try:
                value = str(json_of(value))
            except ValueError as error:
                raise format_error(file, cue.line, line[:80], f"JSON in quotes ({error})") from error
        if value in MAP_GAPS or name in MAP_GAPS:
            raise format_error(file, cue.line, line, "a tag; a gap says that the map has nothing here", "gap")
        if separator and tag_named(name, settings.taxonomy):
            labels.append(meaning(name, value, file, cue.line, settings.taxonomy))
        elif separator and name in DEFAULTS:
            said[name] = value
        else:
            labels.append(meaning("", line.strip(), file, cue.line, settings.taxonomy))
    if not labels:
        raise format_error(file, cue.line, "\n".join(cue.lines)[:60], "at least one label in the cue", "no-label")
    if said["source"] not in SOURCES:
        raise format_error(file, cue.line, said["source"], f"a source of {', '.join(SOURCES)}")
    confidence = parse_number(said["confidence"], file, cue.line, "the confidence")
    operation = said["specialty"], said["procedure of the operation"]
    spans = groups.setdefault(operation, LabelledSpans(file))
    annotator = said["annotator"] or settings.annotator
    for one in labels:
        spans.add(
            SpanKey(cue.start, cue.stop, one.task, said["source"], annotator, said["caption"]),
            one,
            confidence,
            cue.line,
        )


def said_lines(cue: Cue) -> Iterator[str]:
    """Yields the lines of a cue; those that a cue of metadata stands for."""
    whole = "\n".join(cue.lines)
    if whole.startswith("{"):
        try:
            row = json_of(whole)
        except ValueError:
            row = None
        if isinstance(row, dict) and "tag" in row and "category" in row:
            own = {"source": "source", "confidence": "confidence", "model_version": "annotator"}
            yield from (f"{name}: {json.dumps(str(row[key]))}" for key, name in own.items() if key in row)
            yield f"{row['tag']}: {json.dumps(str(row['category']))}"
            return
    yield from (line for line in cue.lines if line.strip())


def write_vtt(atlas: Atlas, folder: str, with_files: bool = False) -> list[str]:
    """Writes one .vtt file per video that has samples, named by its video_id; returns the files. Raises OutputError."""
    return write(atlas, folder, "vtt")


def write_srt(atlas: Atlas, folder: str, with_files: bool = False) -> list[str]:
    """Writes one .srt file per video that has samples, named by its video_id; returns the files. Raises OutputError."""
    return write(atlas, folder, "srt")


def write(atlas: Atlas, folder: str, kind: str) -> list[str]:
    """Writes one file per video that has samples; no file of either kind holds the name of a video."""
    clips_of: dict[str, list[Clip]] = {}
    for clip in atlas.clips:
        clips_of.setdefault(clip.video_id, []).append(clip)
    terms = atlas.load_taxonomy()
    return [
        write_text(folder, f"{video_id}.{kind}", document(clips, terms, kind == "vtt"))
        for video_id, clips in sorted(clips_of.items())
    ]


def document(clips: list[Clip], taxonomy: Taxonomy, is_vtt: bool) -> str:
    """Returns the file of one video."""
    blocks = ["WEBVTT"] if is_vtt else []
    for number, clip in enumerate(clips, 1):
        start = round(clip.start_s * PER_S)
        stop = max(start + 1, round(clip.stop_s * PER_S))
        times = f"{clock(start, '.' if is_vtt else ',')} --> {clock(stop, '.' if is_vtt else ',')}"
        lines = [f"{tag}: {written(category)}" for tag, category in clip.tags.items()]
        own = {
            "source": clip.source,
            "annotator": clip.annotator,
            "confidence": repr(float(clip.confidence)),
            "caption": clip.caption,
            "specialty": clip.specialty,
            "procedure of the operation": clip.procedure,
        }
        tags = {tag.name for tag in taxonomy.tags}  # the operation's specialty is a tag in the paper's taxonomy
        lines += [
            f"{name}: {written(value)}" for name, value in own.items() if value != DEFAULTS[name] and name not in tags
        ]
        if is_vtt:
            lines = [line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for line in lines]
        blocks.append("\n".join([*([] if is_vtt else [str(number)]), times, *lines]))
    return "\n\n".join(blocks) + "\n"


def written(value: str) -> str:
    """Returns a value as it may stand in a cue: as it is, or as JSON."""
    if value == value.strip() and value and value[0] not in '"{' and not re.search(r"[\r\n\0]|-->", value):
        return value
    return json.dumps(value, ensure_ascii=False).replace("-->", "--\\u003e").replace("\0", "\\u0000")


def clock(time_ms: int, point: str) -> str:
    """Returns a time as cues have it."""
    seconds, milliseconds = divmod(time_ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{milliseconds:03d}"
