"""Reads HSA-27k (huggingface.co/datasets/halsted-ai/halsted-surgical-atlas), or any table with one row per clip.

A mapping says what each column means: ``hsa27k.yaml`` beside this file, unless ``ImportSettings.mapping`` names another
file. The shipped mapping is unverified, because the data set needs a log-in; the file says so too.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Any

import yaml

from halsted_ray.atlas.clip_files import source_of_clip_file
from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    format_error,
    json_of,
    matching_files,
    numbered_lines,
    parse_number,
    read_bytes,
    read_text,
)
from halsted_ray.errors import AtlasError, TaxonomyError, first_line
from halsted_ray.records import SOURCES, Clip
from halsted_ray.storage.locations import absolute_location
from halsted_ray.storage.parquet import read_parquet, rows_of_table

Mapping = dict[str, Any]
"""The content of a mapping file; its keys are ``KEYS``, and ``hsa27k.yaml`` explains them."""
Row = dict[str, Any]
"""One row of a table, by column."""
KEYS = (
    "verified",
    "table",
    "video",
    "group",
    "start_s",
    "stop_s",
    "tags",
    "source",
    "sources",
    "annotator",
    "confidence",
)


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the tables in the folder ``source``; one Recording per video. Raises AtlasError with the line at fault."""
    mapping = read_mapping(settings)
    folder = absolute_location(source)
    tables = matching_files(folder, mapping["table"])
    if not tables:
        raise AtlasError(
            f"{source}: no file fits {mapping['table']!r}; name the folder that holds the table, or change `table` in "
            "a copy of hsa27k.yaml and give the copy with --mapping"
        )
    videos = absolute_location(settings.videos) if settings.videos else folder
    clips_of: dict[str, list[Clip]] = {}
    first: dict[str, str] = {}
    origins: dict[str, list[str]] = {}
    group_of: dict[str, str] = {}
    for file in tables:
        for line, row in rows_of(file, settings):
            try:
                uri = f"{videos}/{mapping['video'].format(**row)}"
            except KeyError as error:
                raise format_error(
                    file, line, sorted(row), f"a column {error} (the mapping's `video` names it)"
                ) from None
            group_of.setdefault(uri, group_of_row(row, file, line, mapping))
            if "start_s" in mapping:
                for name in (mapping["start_s"], mapping["stop_s"]):
                    if name not in row:
                        raise format_error(file, line, sorted(row), f"a column {name!r} (the mapping names it)")
            with settings.or_left_out():
                clips = list(clips_of_row(row, file, line, mapping, settings))
                clips_of.setdefault(uri, []).extend(clips)
                first.setdefault(uri, f"{file}:{line}")
                origins.setdefault(uri, []).extend([f"{file}:{line}"] * len(clips))
    if "start_s" not in mapping and "group" not in mapping:
        group_of = sources_by_name(clips_of, settings)
    return [
        Recording(tuple(clips), first[uri], uri, group=group_of[uri], origins=tuple(origins[uri]))
        for uri, clips in clips_of.items()
    ]


def group_of_row(row: Row, file: str, line: int, mapping: Mapping) -> str:
    """Returns what the row's video was cut from, by the mapping's `group`; '' without one. Raises AtlasError."""
    if "group" not in mapping:
        return ""
    try:
        name = str(mapping["group"].format(**row)).strip()
    except KeyError as error:
        raise format_error(file, line, sorted(row), f"a column {error} (the mapping's `group` names it)") from None
    return f"hsa-27k {name}" if name else ""


def sources_by_name(uris: Iterable[str], settings: ImportSettings) -> dict[str, str]:
    """Returns uri to the source video, of files that are a clip each, by their names; and says what was found."""
    found = {uri: source_of_clip_file(uri) for uri in uris}
    named = sum(bool(source) for source in found.values())
    settings.notes.append(
        f"each clip is a file of its own; by their names {named} of {len(found)} files are clips of "
        f"{len({source for source in found.values() if source})} source videos, and each other file stands alone: "
        "where a column names the source video, name it with `group` in the mapping, so that no source video lies in "
        "two parts of a split"
    )
    return found


def read_mapping(settings: ImportSettings) -> Mapping:
    """Reads and checks the mapping file. Raises AtlasError for a file that is no mapping or names unknown tags."""
    name = settings.mapping or "hsa27k.yaml"
    text = (
        read_text(settings.mapping)
        if settings.mapping
        else resources.files("halsted_ray.atlas.formats").joinpath("hsa27k.yaml").read_text("utf-8")
    )
    try:
        mapping = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise AtlasError(f"{name}: not well-formed YAML: {error}") from error
    if not isinstance(mapping, dict) or not {"table", "video", "tags"} <= set(mapping):
        # Not the value: aliases of YAML can make a few lines as long as they like when they are printed.
        got = sorted(map(str, mapping)) if isinstance(mapping, dict) else type(mapping).__name__
        raise format_error(name, 1, got, "the keys table, video and tags, as in hsa27k.yaml")
    for key, kind in (("table", str), ("video", str), ("tags", dict)):
        if not isinstance(mapping[key], kind):
            raise format_error(name, 1, type(mapping[key]).__name__, f"{key}: a {kind.__name__}, as in hsa27k.yaml")
    if unknown := sorted(set(mapping) - set(KEYS)):
        raise format_error(name, 1, unknown, f"keys of {', '.join(KEYS)}")
    for tag in mapping["tags"]:
        try:
            settings.taxonomy.tag(tag)
        except TaxonomyError as error:
            line = next(n for n, part in enumerate(text.splitlines(), 1) if tag in part)
            raise format_error(name, line, tag, f"a tag: {error}") from error
    return mapping


def clips_of_row(row: Row, file: str, line: int, mapping: Mapping, settings: ImportSettings) -> Iterator[Clip]:
    """Yields one sample per task that the row has tags of. Raises AtlasError."""
    start_s, stop_s = 0.0, math.inf
    if "start_s" in mapping:
        start_s, stop_s = (parse_number(row[mapping[name]], file, line, name) for name in ("start_s", "stop_s"))
        if not 0 <= start_s < stop_s:
            raise format_error(file, line, (start_s, stop_s), "0 <= start < end, in seconds", "no-span")
    said = str(cell(row, mapping, "source") or "manual").strip().lower()
    sources = mapping.get("sources") or {name: name for name in SOURCES}
    if said not in sources:
        raise format_error(file, line, said, f"a source of {', '.join(sources)} (the mapping's `sources`)")
    confidence = cell(row, mapping, "confidence")
    for task in settings.taxonomy.tasks:
        tags = {}
        for tag in task.tags:
            value = cell(row, mapping["tags"], tag.name)
            if value not in (None, ""):
                try:
                    tags[tag.name] = settings.taxonomy.canonical(task, tag.name, str(value))[1]
                except TaxonomyError as error:
                    raise format_error(
                        file, line, value, f"a category of {tag.name!r}: {error}", "unknown-label"
                    ) from error
        if tags:
            yield Clip(
                "",
                start_s,
                stop_s,
                task.name,
                tags,
                sources[said],
                str(cell(row, mapping, "annotator") or settings.annotator),
                1.0 if confidence in (None, "") else parse_number(confidence, file, line, "the confidence"),
            )


def cell(row: Row, mapping: Mapping, name: str) -> Any:
    """Returns the value of the column that ``mapping`` gives for ``name``; None where either is missing."""
    return row.get(mapping[name]) if name in mapping else None


def rows_of(file: str, settings: ImportSettings) -> Iterator[tuple[int, Row]]:
    """Yields (line, row) of a table; for Parquet (number of the row, row). A row that breaks the format is left out.

    Raises AtlasError for a file that is no table.
    """
    suffix = file.rsplit(".", 1)[-1].lower()
    if suffix in ("csv", "tsv"):
        reader = csv.DictReader(io.StringIO(read_text(file), newline=""), delimiter="\t" if suffix == "tsv" else ",")
        for row in reader:
            if None in row or None in row.values():
                with settings.or_left_out():
                    expected = f"{len(reader.fieldnames or ())} fields"
                    raise format_error(file, reader.line_num, list(row.values()), expected)
                continue
            yield reader.line_num, row
    elif suffix == "jsonl":
        for line, text in numbered_lines(file):
            said: Row | None = None
            with settings.or_left_out():
                try:
                    said = dict(json_of(text))
                except (TypeError, ValueError) as error:
                    raise format_error(file, line, text[:80], f"one JSON object per line ({error})") from error
            if said is not None:
                yield line, said
    elif suffix == "parquet":
        import pyarrow

        try:
            table = read_parquet(read_bytes(file))
        except (pyarrow.ArrowException, OSError) as error:
            raise AtlasError(f"{file}: no Parquet file that can be read: {first_line(error)}") from error
        yield from enumerate(rows_of_table(table), 1)
    else:
        raise AtlasError(f"{file}: expected a table as .csv, .tsv, .jsonl or .parquet")
