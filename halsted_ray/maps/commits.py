"""Changes of the Delta tables of a mapped archive: a commit each, and a message that says what to do where it fails."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import asdict

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake
from deltalake.exceptions import DeltaError

from halsted_ray.errors import OutputError
from halsted_ray.maps.reading import one_line
from halsted_ray.maps.table_schemas import Provenance
from halsted_ray.storage.delta import open_table, storage_options


def commit_rows(uri: str, data: pa.Table, replaced: str | None, provenance: Provenance | None = None) -> int:
    """One commit that adds ``data`` and removes the rows that the predicate ``replaced`` selects; None removes nothing.
    A table that an earlier version of this package made gets the columns that it lacks. Returns the new version. Raises
    OutputError."""
    metadata = (
        {}
        if provenance is None
        else {
            name: ",".join(value) if isinstance(value, tuple) else str(value)
            for name, value in asdict(provenance).items()
            if value is not None
        }
    )
    try:
        write_deltalake(
            uri,
            data,
            mode="overwrite" if replaced else "append",
            predicate=replaced,
            schema_mode="merge",
            commit_properties=CommitProperties(custom_metadata=metadata),
            storage_options=storage_options(uri) or None,
        )
        return open_table(uri).version()
    except (DeltaError, OSError) as error:
        raise _not_committed(uri, error) from error


def sql_text(value: str) -> str:
    """``value`` as a text in a predicate. A task of somebody's own taxonomy may have a quotation mark in its name."""
    return "'" + value.replace("'", "''") + "'"


def sql_in(column: str, values: Iterable[str]) -> str:
    """The predicate of the rows whose ``column`` is one of ``values``."""
    return f"{column} IN ({', '.join(map(sql_text, values))})"


def delete_rows(uri: str, predicate: str) -> None:
    """One commit that removes the rows that ``predicate`` selects. Raises OutputError.

    By an overwrite with nothing: pyarrow can't filter the files that deltalake's own DELETE and MERGE write, whose text
    is of another type (string_view).
    """
    columns = pa.schema(open_table(uri).schema().to_arrow())
    commit_rows(uri, columns.empty_table(), replaced=predicate)


def _not_committed(uri: str, error: Exception) -> OutputError:
    """What to raise where the table at ``uri`` can't be changed."""
    message = one_line(error)
    is_full = any(f"os error {code}" in message for code in (errno.ENOSPC, errno.EDQUOT))
    return OutputError(
        f"can't commit to the table {uri!r}: {message}; what was published before stays; "
        + ("make room" if is_full else "make the place writable")
        + " and give the same command again"
    )
