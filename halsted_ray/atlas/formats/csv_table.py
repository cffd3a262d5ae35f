"""The atlas's own CSV (RFC 4180, with commas), one line per tag of each sample. This text defines the layout.

``video_id`` names the video by its content. A table made by hand may have a column ``video`` instead (or the same in
``video_id``): a path inside the folder of the videos. ``read`` gives back exactly what ``write`` wrote. It also takes
what people and programs make of such a table:

    columns in any order and letter case, and others beside them, which are not read
    ``end_s``, ``end`` or ``stop`` for ``stop_s``, and ``start`` for ``start_s``
    ``model_version`` for ``annotator``, as the exported map has it; the map's rows of gaps and of unknown time are left
    out
    ``source_video``, ``operation`` or ``patient`` for ``group``: what the video was cut from, or who is in it
    no ``task``, where the tag says it; a column per tag (``step``, ``action``, …) for ``tag`` and ``category``
    semicolons or tabs between the fields, decimal commas, clock times (``clock_times``), Excel's first line ``sep=;``
    a byte-order mark, UTF-16, or else Windows-1252, which is said

Rows with the same span and task are one sample, whose confidence is the lowest of its rows.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.formats.clock_times import parse_time
from halsted_ray.atlas.formats.labelled_spans import LabelledSpans, Meaning, SpanKey, tag_named
from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    format_error,
    origin,
    parse_number,
    read_table_text,
    text_lines,
    write_text,
)
from halsted_ray.atlas.formats.video_names import VIDEO_ID, VideoNames
from halsted_ray.errors import TaxonomyError
from halsted_ray.records import SOURCES, UNKNOWN
from halsted_ray.taxonomy import Taxonomy

NEEDED = ("start_s", "stop_s", "task", "tag", "category")
DEFAULTS = {"source": "manual", "annotator": "", "confidence": "1.0", "specialty": "", "procedure": "", "caption": ""}
COLUMNS = ("video_id", *NEEDED, *DEFAULTS)
GROUP = "group"
"""The column of what the video was cut from: source video, operation or patient. A table may lack it."""
OTHER_NAMES = {
    "start": "start_s",
    "stop": "stop_s",
    "end": "stop_s",
    "end_s": "stop_s",
    "model_version": "annotator",
    "source_video": GROUP,
    "operation": GROUP,
    "patient": GROUP,
}
"""Another name of a column to its own name, for tables that lack the own name."""
NO_TAGS = ("gap", UNKNOWN)
"""The tags of a map's rows that say where nothing could be mapped, and what the model does not know
(``maps.table_schemas``)."""
OperationKey = tuple[str, str, str, str, str]
"""(column video_id or video, its value, specialty, procedure, group)."""


class Table:
    """The samples of a table by video, while its rows are read."""

    def __init__(self, file: str, settings: ImportSettings):
        self.file, self.settings = file, settings
        self.groups: dict[OperationKey, LabelledSpans] = {}
        self.first_line: dict[OperationKey, int] = {}
        self.decimal_comma = False
        self.known: dict[tuple[str, str, str], Meaning] = {}
        """(task, tag, category) as written, to what it says: looking a name up takes more than the rest of a row."""

    def add(self, row: Mapping[str, Any], column: str, line: int, pairs: list[tuple[str, str]]) -> None:
        """Adds the (tag, category) pairs of one row. Raises AtlasError."""
        key, confidence = self.span_of(row, line)
        said = [self.meaning_of(row, tag, category, line) for tag, category in pairs]
        operation = str(row["specialty"]), str(row["procedure"]), str(row.get(GROUP) or "").strip()
        group = (column, self.video_of(row, column, line), *operation)
        spans = self.groups.setdefault(group, LabelledSpans(self.file))
        self.first_line.setdefault(group, line)
        for one in said:
            spans.add(key._replace(task=one.task), one, confidence, line)

    def video_of(self, row: Mapping[str, Any], column: str, line: int) -> str:
        """Returns the row's video. Raises AtlasError where it names none."""
        video = str(row.get(column) or "").strip()
        if not video:
            raise format_error(self.file, line, video, "the name of a video", "no-video")
        return video

    def span_of(self, row: Mapping[str, Any], line: int) -> tuple[SpanKey, float]:
        """Returns (the row's span without its task, its confidence). Raises AtlasError."""
        start_s, stop_s = (
            parse_time(row[name], self.file, line, name, self.settings, self.decimal_comma)
            for name in ("start_s", "stop_s")
        )
        if not 0 <= start_s < stop_s:
            raise format_error(self.file, line, (start_s, stop_s), "0 <= start_s < stop_s", "no-span")
        confidence = parse_number(row["confidence"], self.file, line, "confidence", self.decimal_comma)
        if not 0 <= confidence <= 1:
            raise format_error(self.file, line, confidence, "a confidence of 0 to 1")
        source = str(row["source"]).strip().lower()
        if source not in SOURCES:
            raise format_error(self.file, line, row["source"], f"a source of {', '.join(SOURCES)}")
        annotator = str(row["annotator"]) or self.settings.annotator
        return SpanKey(start_s, stop_s, "", source, annotator, str(row["caption"])), confidence

    def meaning_of(self, row: Mapping[str, Any], tag: str, category: str, line: int) -> Meaning:
        """Returns what (tag, category) of a row says, in the taxonomy's spelling. Raises AtlasError."""
        taxonomy = self.settings.taxonomy
        task = str(row.get("task") or "").strip()
        if (task, tag, category) in self.known:
            return self.known[task, tag, category]
        try:
            task_name = task or taxonomy.task_of_tag(tag_named(tag, taxonomy) or tag).name
            said = Meaning(task_name, *taxonomy.canonical(task_name, tag, category))
        except TaxonomyError as error:
            expected = f"a task, one of its tags, and one of that tag's categories: {error}"
            raise format_error(self.file, line, (task, tag, category), expected, "unknown-label") from error
        self.known[task, tag, category] = said
        return said

    def recordings(self) -> list[Recording]:
        """Returns one Recording per video and operation."""
        names, found = VideoNames(self.file, self.settings), []
        for group, spans in self.groups.items():
            column, video, specialty, procedure, source = group
            line, operation = self.first_line[group], (specialty, procedure)
            if column == "video_id" and VIDEO_ID.fullmatch(video):
                own = spans.recording(origin(self.file, line), operation, video_id=video)
                found.append(replace(own, group=source))
                continue
            with self.settings.or_left_out(len(spans.spans)):
                found.append(replace(names.recording(video, spans, line, operation=operation), group=source))
        return found


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the table at ``source``; one Recording per video. Raises AtlasError for a table without the columns."""
    table = Table(source, settings)
    header: list[str] = []
    column, tag_columns = "", dict[str, str]()
    for line, cells, delimiter in rows_of(source, settings):
        if not header:
            header = column_names(cells)
            table.decimal_comma = delimiter != ","
            column, tag_columns = check_header(header, source, line, settings.taxonomy)
            continue
        with settings.or_left_out():
            if len(cells) > len(header) and any(cells[len(header) :]):
                raise format_error(source, line, f"{len(cells)} fields", f"{len(header)} fields")
            row = dict(zip(header, cells, strict=False))
            if missing := [
                name for name in (column, "start_s", "stop_s", "tag", "category") if name in header and name not in row
            ]:
                raise format_error(
                    source, line, f"{len(cells)} fields", f"{len(header)} fields ({missing[0]} is missing)"
                )
            row = {**DEFAULTS, **{name: cell for name, cell in row.items() if cell or name not in DEFAULTS}}
            if row.get("tag") in NO_TAGS:
                expected = "a tag; a gap says that the map has nothing here"
                raise format_error(source, line, row.get("category"), expected, row["tag"])
            pairs = [(tag, row[name].strip()) for name, tag in tag_columns.items() if row.get(name, "").strip()]
            pairs = pairs if tag_columns else [(row["tag"], row["category"])]
            if not pairs:
                expected = f"a category in one of the columns {', '.join(tag_columns)}"
                raise format_error(source, line, "none", expected, "no-label")
            table.add(row, column, line, pairs)
    if not header:
        raise format_error(source, 1, "", f"a header with video and {', '.join(NEEDED)}")
    return table.recordings()


def rows_of(source: str, settings: ImportSettings) -> Iterator[tuple[int, list[str], str]]:
    """Yields (line where it begins, fields, delimiter) of the rows of a table that are not blank, its header first.

    A line whose quotes are not closed, or closed in a later row, is left out alone. Raises AtlasError.
    """
    lines = text_lines(read_table_text(source, settings), keep_ends=True)
    first = lines[0].strip() if lines else ""
    at = 0
    if first.lower().startswith("sep="):
        delimiter, at = first[4:5] or "\t", 1
    else:
        delimiter = max(",;\t", key=first.lower().count)
    width = 0
    while at < len(lines):
        reader = csv.reader((lines[n] for n in range(at, len(lines))), delimiter=delimiter, strict=True)
        problem, cells = "", list[str]()
        try:
            cells = next(reader, [])
        except csv.Error as error:
            problem = str(error)
        if not problem and reader.line_num > 1 and width and len(cells) != width:
            problem = "a field that goes on in the next lines"
        if problem:
            with settings.or_left_out():
                expected = "RFC 4180: fields with commas or quotes in quotes"
                raise format_error(source, at + 1, problem, expected)
        elif any(cell.strip() for cell in cells):
            width = width or len(cells)
            yield at + 1, cells, delimiter
        at += 1 if problem else max(1, reader.line_num)


def column_names(header: list[str]) -> list[str]:
    """Returns the table's own names of the columns in a header."""
    names = [name.strip().lower() for name in header]
    return [OTHER_NAMES[name] if name in OTHER_NAMES and OTHER_NAMES[name] not in names else name for name in names]


def check_header(header: list[str], source: str, line: int, taxonomy: Taxonomy) -> tuple[str, dict[str, str]]:
    """Returns (the column that names the video, column to tag for a table with a column per tag). Raises AtlasError."""
    tag_columns = {name: tag for name in header if (tag := tag_named(name, taxonomy))}
    by_tag = not {"tag", "category"} & set(header) and bool(tag_columns)
    if by_tag:  # the operation's tags are columns of the sample too
        needed: tuple[str, ...] = ("start_s", "stop_s")
    else:
        needed, tag_columns = ("start_s", "stop_s", "tag", "category"), {}
    if missing := [name for name in needed if name not in header]:
        raise format_error(source, line, header, f"a header with {', '.join(missing)} too")
    if twice := sorted({name for name in header if name and header.count(name) > 1 and name in COLUMNS}):
        raise format_error(source, line, header, f"one column {twice[0]}")
    column = next((name for name in ("video_id", "video") if name in header), None)
    if column is None:
        expected = "a column video_id (or video: a path inside the folder of the videos)"
        raise format_error(source, line, header, expected)
    return column, tag_columns


def write(atlas: Atlas, folder: str, with_files: bool = False) -> list[str]:
    """Writes samples.csv with numbers at full precision; returns its location. Raises OutputError.

    ``with_files`` adds the column ``uri``, which can contain a patient's name.
    """
    text = io.StringIO(newline="")
    group_of = {video.video_id: video.group for video in atlas.videos if video.group}
    more = (*((GROUP,) if group_of else ()), *(("uri",) if with_files else ()))
    writer = csv.DictWriter(text, (*COLUMNS, *more), lineterminator="\r\n")
    writer.writeheader()
    uri_of = {video.video_id: video.uri for video in atlas.videos}
    for clip in atlas.clips:
        row = {name: getattr(clip, name) for name in COLUMNS if name not in ("tag", "category")}
        if group_of:
            row[GROUP] = group_of.get(clip.video_id, "")
        if with_files:
            row["uri"] = uri_of.get(clip.video_id, "")
        for tag, category in clip.tags.items():
            writer.writerow({**row, "tag": tag, "category": category})
    return [write_text(folder, "samples.csv", text.getvalue())]
