"""Reads the three Delta tables of a mapped archive."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import pyarrow as pa
from deltalake.exceptions import DeltaError

from halsted_ray.errors import OutputError, UsageError
from halsted_ray.maps.table_schemas import SEGMENTS_SCHEMA, TIMELINE_SCHEMA, VIDEOS_SCHEMA, ArchiveFile
from halsted_ray.records import TIMELINE_ORDER, VIDEO_SCHEMA, Video
from halsted_ray.storage.delta import is_table, native_files, open_table, table_uri

Filters: TypeAlias = Sequence[tuple[str, str, Any]]
"""Conditions (column, operator, value) that a row must all meet, as deltalake takes them."""


FEW_COMMITS = 8
"""Each commit of a history is a read of its own, and nearly always one of the newest names a run."""


def read_videos(out: str) -> dict[str, ArchiveFile]:
    """uri → entry, of all files that were ever listed for ``out``."""
    table = read_table(out, "videos", schema=VIDEOS_SCHEMA)
    if table is None:
        return {}
    entries = {}
    for row in table.to_pylist():
        video = Video(**{name: row[name] for name in VIDEO_SCHEMA.names})
        entries[video.uri] = ArchiveFile(
            video,
            row["stamp"],
            row["code"],
            row["reason"],
            row["copy_of"],
            bool(row["gone"]),
            row["probe_version"] or 0,
        )
    return entries


def read_segments(out: str, columns: list[str] | None = None, filters: Filters | None = None) -> pa.Table | None:
    """Rows of the segments table that meet ``filters``, None where nothing was published. A column of SEGMENTS_SCHEMA
    that the table does not have yet is null."""
    return read_table(out, "segments", columns, filters, schema=SEGMENTS_SCHEMA)


def read_timeline(out: str, version: int | None = None) -> pa.Table:
    """The maps at ``out``, rows in the order of ``records.TIMELINE_ORDER``; empty where every video failed.

    ``version``: an earlier Delta version of the table. Raises UsageError where nothing was mapped to ``out``.
    """
    table = read_table(out, "timeline", version=version, schema=TIMELINE_SCHEMA)
    if table is None:
        if not is_table(table_uri(out, "videos")):
            raise UsageError(f"{out!r} holds no maps: expected the tables of `halsted map`; map an archive to it first")
        table = TIMELINE_SCHEMA.empty_table()
    return table.sort_by([(name, "ascending") for name in TIMELINE_ORDER])


def timeline_version(out: str) -> str | None:
    """A name of what ``read_timeline`` reads now: the table's id and its Delta version; 'empty' where every video
    failed, None where nothing was mapped to ``out``."""
    uri = table_uri(out, "timeline")
    with _or_unreadable(uri):
        if not is_table(uri):
            return "empty" if is_table(table_uri(out, "videos")) else None
        table = open_table(uri)
        return f"{table.metadata().id}-{table.version()}"


def last_published(out: str) -> tuple[int, str]:
    """(time of the newest commit of a run to the timeline in ms since 1970, that run); (0, '') where there is none.

    A commit that only removes rows of replaced files or renames files names no run.
    """
    commit = commit_of_run(out)
    return (commit["timestamp"], commit["run_id"]) if commit else (0, "")


def commit_of_run(out: str) -> dict[str, Any]:
    """The newest commit of a run to the timeline, with the fields of its ``Provenance`` that are known, as text; empty
    where there is none."""
    uri = table_uri(out, "timeline")
    with _or_unreadable(uri):
        table = open_table(uri) if is_table(uri) else None
        for most in (FEW_COMMITS, None):
            for commit in table.history(most) if table else ():
                if "run_id" in commit:
                    return dict(commit)
    return {}


def segment_batches(out: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The segments table in pieces, because the whole may not fit in memory."""
    uri = table_uri(out, "segments")
    with _or_unreadable(uri):
        if is_table(uri):
            table = open_table(uri)
            yield from table.to_pyarrow_dataset(filesystem=native_files(table)).to_batches(columns=columns)


def read_table(
    out: str,
    name: str,
    columns: list[str] | None = None,
    filters: Filters | None = None,
    version: int | None = None,
    schema: pa.Schema | None = None,
) -> pa.Table | None:
    """Rows of the table ``name`` that meet ``filters``, None where there is no such table.

    ``schema``: the columns that the table has today. Those that are asked for (``columns``, default: all) and that an
    older table lacks are null. ``filters`` can't name them. Raises OutputError.
    """
    uri = table_uri(out, name)
    with _or_unreadable(uri):
        if not is_table(uri):
            return None
        table = open_table(uri, version)
        existing = {field.name for field in table.schema().fields}
        missing = {
            field.name: field
            for field in schema or ()
            if field.name not in existing and (columns is None or field.name in columns)
        }
        if columns is not None:
            columns = [column for column in columns if column not in missing]
        rows = table.to_pyarrow_table(columns=columns, filters=filters, filesystem=native_files(table))
        for field in missing.values():
            rows = rows.append_column(field, pa.nulls(len(rows), field.type))
        return rows


@contextmanager
def _or_unreadable(uri: str) -> Iterator[None]:
    """Raises OutputError where the block can't read the table at ``uri``."""
    try:
        yield
    except DeltaError as error:
        raise OutputError(
            f"can't read the table {uri!r}: {one_line(error)}; where a power cut left the newest file in its folder "
            "_delta_log empty, remove this file and give the same command again, else restore the folder from a backup"
        ) from error
    except OSError as error:
        raise OutputError(
            f"can't read the table {uri!r}: {one_line(error)}; check the place, the network and the credentials, then "
            "give the same command again"
        ) from error


def one_line(error: Exception) -> str:
    """The message of ``error`` without the colours and line breaks that deltalake puts into it."""
    return " ".join(re.sub(r"\x1b\[\d+m|↳", " ", str(error)).split())
