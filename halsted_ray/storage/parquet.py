"""Parquet files of others, read without allocating what they declare.

A column of one repeated value takes a few bytes for any number of rows: 600 bytes can unpack to a terabyte.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

VALUES_PER_BYTE = 64
"""The most values of one column per byte of the file. Columns of times, which rise, and of vectors have far fewer."""
SMALLEST_SHARE, SMALL_BYTES = 1 / 1032, 64 * 1024 * 1024
"""A file that unpacks to more than ``SMALL_BYTES`` has at least this share of it: no deflate stream is denser."""
LONGEST_VALUE = 1 << 20
"""Bytes of one text."""
ROWS_AT_ONCE = 10_000


def read_parquet(data: bytes) -> pa.Table:
    """The table in ``data``; columns of text as dictionaries, whose equal values are held once.

    Raises pa.ArrowInvalid where its footer declares more values or bytes than such a file can hold, or where a text is
    longer than ``LONGEST_VALUE``; pa.ArrowException or OSError where it is no Parquet file.
    """
    metadata = pq.read_metadata(pa.BufferReader(data))
    texts, unpacked = [], 0
    for number in range(metadata.num_columns):
        column = metadata.schema.column(number)
        chunks = [metadata.row_group(group).column(number) for group in range(metadata.num_row_groups)]
        unpacked += sum(chunk.total_uncompressed_size for chunk in chunks)
        values = max(metadata.num_rows, sum(chunk.num_values for chunk in chunks))
        if values > VALUES_PER_BYTE * len(data):
            raise pa.ArrowInvalid(
                f"column {column.path} declares {values:,} values in a file of {len(data):,} bytes; expected at most "
                f"{VALUES_PER_BYTE} per byte"
            )
        if column.physical_type == "BYTE_ARRAY":
            texts.append(column.path)
    if unpacked > SMALL_BYTES and unpacked * SMALLEST_SHARE > len(data):
        raise pa.ArrowInvalid(f"it declares {unpacked:,} bytes of pages in a file of {len(data):,} bytes")
    table = pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts).read()
    for name, column in zip(table.column_names, table.columns, strict=True):
        for chunk in column.chunks if pa.types.is_dictionary(column.type) else ():
            longest = max((len(value.as_buffer() or b"") for value in chunk.dictionary), default=0)
            if longest > LONGEST_VALUE:
                raise pa.ArrowInvalid(
                    f"column {name} holds a text of {longest:,} bytes; expected at most {LONGEST_VALUE:,}"
                )
    return table


def rows_of_table(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of ``table``, by column. Equal texts of a dictionary are one object."""
    for batch in table.to_batches(ROWS_AT_ONCE):
        columns = [_values(column) for column in batch.columns]
        for row in zip(*columns, strict=True):
            yield dict(zip(table.column_names, row, strict=True))


def _values(column: pa.Array) -> list[Any]:
    if not pa.types.is_dictionary(column.type):
        values: list[Any] = column.to_pylist()
        return values
    texts = column.dictionary.to_pylist()
    return [None if index is None else texts[index] for index in column.indices.to_pylist()]
