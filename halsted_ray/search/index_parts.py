"""The files of an index: the moments of many videos, sorted by the nearest of some thousand centres.

    <digest>.centres.arrow    the centres, float32 [L, D], one record batch
    <digest>.part.arrow       L record batches, batch k with the moments whose nearest centre is k

A record batch is a list of an inverted file. A search reads the lists of the centres that are nearest to the question,
and leaves the others on the disk or on S3. A row of a list has the number of its video in the part, its times, and its
unit vector less the centre of its list, as ``code`` (int16 [D]) times ``scale``. Both files are Arrow IPC files,
uncompressed and bounds-checked: no memory is taken because a file claims a size, and nothing in them is run. No file is
changed after it was written.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.fs

from halsted_ray.errors import ModelError
from halsted_ray.storage.files import REQUESTS_AT_ONCE
from halsted_ray.storage.locations import filesystem, local_path

CODE_MAX = 32_767.0
DIGEST_BYTES = 1 << 20


@dataclass(frozen=True)
class MomentRows:
    """Rows of a part. ``video_N``: int32, the number of the video in its part. ``start_ms_N``, ``stop_ms_N``: int32.
    ``scale_N``: float32. ``code_ND``: int16; a vector is its list's centre plus code times scale."""

    video_N: np.ndarray
    start_ms_N: np.ndarray
    stop_ms_N: np.ndarray
    scale_N: np.ndarray
    code_ND: np.ndarray

    def __len__(self) -> int:
        return len(self.video_N)

    def take(self, rows: np.ndarray | slice) -> MomentRows:
        """These rows, in this order."""
        return MomentRows(
            self.video_N[rows], self.start_ms_N[rows], self.stop_ms_N[rows], self.scale_N[rows], self.code_ND[rows]
        )

    def with_videos(self, number_of: np.ndarray) -> MomentRows:
        """The same rows under other numbers: video v becomes ``number_of[v]``; rows of -1 are left out."""
        kept = self.take(number_of[self.video_N] >= 0)
        return MomentRows(
            number_of[kept.video_N].astype(np.int32), kept.start_ms_N, kept.stop_ms_N, kept.scale_N, kept.code_ND
        )

    @classmethod
    def joined(cls, parts: Sequence[MomentRows]) -> MomentRows:
        """All rows of ``parts``, one after another."""
        names = ("video_N", "start_ms_N", "stop_ms_N", "scale_N", "code_ND")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def coded(video: int, start_s_M: np.ndarray, stop_s_M: np.ndarray, rest_MD: np.ndarray) -> MomentRows:
    """The rows of one video's moments. ``rest_MD``: float32, unit vectors less the centres of their lists. These rests
    are shorter than the vectors, and so are the errors of their codes."""
    scale_M = np.maximum(np.abs(rest_MD).max(1), 1e-12).astype(np.float32) / np.float32(CODE_MAX)
    code_MD = np.rint(rest_MD / scale_M[:, None]).astype(np.int16)
    start_ms, stop_ms = (np.rint(times_s * 1000).astype(np.int32) for times_s in (start_s_M, stop_s_M))
    return MomentRows(np.full(len(rest_MD), video, np.int32), start_ms, stop_ms, scale_M, code_MD)


def sorted_by_list(rows: MomentRows, list_N: np.ndarray, lists: int) -> Iterator[MomentRows]:
    """``rows`` as the lists 0 to ``lists``, by the number of each row's list (int [N])."""
    order = np.argsort(list_N, kind="stable")
    edges = np.searchsorted(list_N[order], np.arange(lists + 1))
    for begin, end in zip(edges[:-1], edges[1:], strict=True):
        yield rows.take(order[begin:end])


def write_part(path: str, dim: int, lists: Iterator[MomentRows]) -> int:
    """Writes a local file of ``lists``; how many rows it has."""
    count = 0
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, _schema(dim)) as writer:
        for rows in lists:
            count += len(rows)
            codes = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows.code_ND).ravel()), dim)
            columns = [rows.video_N, rows.start_ms_N, rows.stop_ms_N, rows.scale_N]
            writer.write_batch(pa.record_batch([*(pa.array(column) for column in columns), codes], schema=_schema(dim)))
    return count


class PartFile:
    """A part that is read list by list; close it when done. Threads may share it.

    Raises FileNotFoundError, and ModelError where the file is damaged or of another form than ``dim`` and ``lists``
    say.
    """

    def __init__(self, location: str, dim: int, lists: int, size_bytes: int | None = None):
        self.name = location.rsplit("/", 1)[-1]
        self.dim, self.is_local = dim, local_path(location) is not None
        self._file = _opened(location)
        self._lock = threading.Lock()
        if size_bytes is not None and self._file.size() != size_bytes:
            raise self._damaged(f"it has {self._file.size():,} bytes, expected {size_bytes:,}")
        try:
            self._reader = pa.ipc.open_file(self._file)
            found = (self._reader.num_record_batches, self._reader.schema)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        if found != (lists, _schema(dim)):
            raise self._damaged(f"it has {found[0]:,} lists, expected {lists:,} of width {dim}")

    def close(self) -> None:
        """Gives the file back."""
        self._file.close()

    def read(self, number: int) -> MomentRows:
        """One list."""
        try:
            if self.is_local:
                batch = self._reader.get_batch(number)
            else:
                with self._lock:
                    batch = self._reader.get_batch(number)
            batch.validate()
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        columns = [batch.column(place) for place in range(5)]
        if any(column.null_count for column in columns):
            raise self._damaged("it has values that are null")
        video, start, stop, scale = (column.to_numpy() for column in columns[:4])
        return MomentRows(video, start, stop, scale, columns[4].flatten().to_numpy().reshape(-1, self.dim))

    def _damaged(self, why: object) -> ModelError:
        return ModelError(
            f"the search index's file {self.name!r} can't be read ({why}); delete the folder .search beside the "
            "vectors, and give halsted search-index again"
        )


def read_lists(parts: Sequence[PartFile], numbers: Sequence[int]) -> Iterator[tuple[int, int, MomentRows]]:
    """(place in ``parts``, number, rows) of the lists ``numbers`` of all parts; several at once at a remote store."""
    wanted = [(place, number) for number in numbers for place in range(len(parts))]
    if all(part.is_local for part in parts):
        yield from ((place, number, parts[place].read(number)) for place, number in wanted)
        return
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        rows = pool.map(lambda one: parts[one[0]].read(one[1]), wanted)
        yield from ((place, number, found) for (place, number), found in zip(wanted, rows, strict=True))


def merged_lists(parts: Sequence[PartFile], number_of: Sequence[np.ndarray], lists: int) -> Iterator[MomentRows]:
    """The lists 0 to ``lists`` of several parts as those of one. ``number_of``: for each part, the new number of each
    of its videos, -1 for a video that is left out. Memory holds one list at a time."""
    for number in range(lists):
        found = [part.read(number).with_videos(numbers) for part, numbers in zip(parts, number_of, strict=True)]
        yield MomentRows.joined(found)


def file_digest(file: IO[bytes]) -> str:
    """32 hex digits computed from the content of a file."""
    found = hashlib.blake2b(digest_size=16)
    while data := file.read(DIGEST_BYTES):
        found.update(data)
    return found.hexdigest()


def open_parts(stack: ExitStack, locations: Sequence[tuple[str, int]], dim: int, lists: int) -> list[PartFile]:
    """The parts at ``locations`` (location, bytes), closed with ``stack``."""
    parts = []
    for location, size_bytes in locations:
        parts.append(PartFile(location, dim, lists, size_bytes))
        stack.callback(parts[-1].close)
    return parts


def _schema(dim: int) -> pa.Schema:
    whole = pa.int32()
    codes = pa.list_(pa.int16(), dim)
    return pa.schema(
        [("video", whole), ("start_ms", whole), ("stop_ms", whole), ("scale", pa.float32()), ("code", codes)]
    )


def _opened(location: str) -> pa.NativeFile:
    """A file that is read by ranges. It is not mapped into memory: a mapped file that another machine shortens or
    removes ends the process."""
    path = local_path(location)
    if path is not None:
        return pa.OSFile(path, "rb")
    from halsted_ray.storage.delta import native_s3  # here, since it imports deltalake

    native = native_s3(location)
    fs, place = filesystem(location)
    return (native or pa.fs.PyFileSystem(pa.fs.FSSpecHandler(fs))).open_input_file(place)
