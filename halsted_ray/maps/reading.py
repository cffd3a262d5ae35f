"""TODO."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyarrow as pa

from halsted_ray.errors import OutputError, UsageError
from halsted_ray.maps.table_schemas import SEGMENTS_SCHEMA, TIMELINE_SCHEMA, ArchiveFile
from halsted_ray.records import VIDEO_SCHEMA, Video
from halsted_ray.storage.delta import is_table, native_files, open_table, table_uri


def read_videos(out: str) -> dict[str, ArchiveFile]:
    """uri → entry, of all files that were ever listed for ``out``."""
    table = read_table(out, "videos")
    if table is None:
        return {}
    entries = {}
    for row in table.to_pylist():
        video = Video(**{name: row[name] for name in VIDEO_SCHEMA.names})
        entries[video.uri] = ArchiveFile(video, row["stamp"], row["code"], row["reason"], row["copy_of"])
    return entries


def read_segments(out: str, columns: list[str] | None = None, filters: list | None = None) -> pa.Table | None:
    """Rows of the segments table, None where nothing was published. A column of SEGMENTS_SCHEMA that the table does not
    have yet is null."""
    return read_table(out, "segments", columns, filters, schema=SEGMENTS_SCHEMA)


def read_timeline(out: str, version: int | None = None) -> pa.Table:
    """The maps at ``out`` in order of video, time, task and tag; empty where every video failed.

    Raises UsageError where nothing was mapped to ``out``.
    """
    table = read_table(out, "timeline", version=version)
    if table is None:
        if not is_table(table_uri(out, "videos")):
            raise UsageError(f"{out!r} holds no maps: expected the tables of `halsted map`; map an archive to it first")
        table = TIMELINE_SCHEMA.empty_table()
    return table.sort_by([(name, "ascending") for name in ("video_id", "start_s", "task", "tag")])


def last_published(out: str) -> tuple[int, str]:
    """(when the timeline was last committed to, in ms since 1970, by which run); (0, '') where it never was."""
    uri = table_uri(out, "timeline")
    last = open_table(uri).history(1)[0] if is_table(uri) else {"timestamp": 0}
    return last["timestamp"], last.get("run_id", "")


def segment_batches(out: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The segments table piece by piece: whole, it may not fit in memory."""
    uri = table_uri(out, "segments")
    if is_table(uri):
        table = open_table(uri)
        yield from table.to_pyarrow_dataset(filesystem=native_files(table)).to_batches(columns=columns)


def read_table(
    out: str, name: str, columns=None, filters=None, version: int | None = None, schema: pa.Schema | None = None
) -> pa.Table | None:
    """``schema``: what the table has today; the columns of it that are asked for (default: all) and that an older table
    lacks are null."""
    uri = table_uri(out, name)
    try:
        if not is_table(uri):
            return None
        table = open_table(uri, version)
        there = {field.name for field in table.schema().fields}
        lacking = [
            field for field in schema or () if field.name not in there and field.name in (columns or schema.names)
        ]
        if columns is not None:
            columns = [column for column in columns if column not in {field.name for field in lacking}]
        found = table.to_pyarrow_table(columns=columns, filters=filters, filesystem=native_files(table))
        for field in lacking:
            found = found.append_column(field, pa.nulls(len(found), field.type))
        return found
    except OSError as error:
        raise OutputError(
            f"can't read the table {uri!r}: {one_line(error)}; check the place, the network and the credentials, then "
            "give the same command again"
        ) from error


def one_line(error: Exception) -> str:
    """deltalake's messages come in colours and several lines."""
    return " ".join(re.sub(r"\x1b\[\d+m|↳", " ", str(error)).split())
