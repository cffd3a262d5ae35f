"""The store of vectors: one per window, written once, read by training and by every later mapping.

    <location>/<encoder fingerprint>/<sampling>/<video_id>/<start_ms>-<stop_ms>-<digest8>.parquet

A file holds the windows that begin in one span of one video. What a window's vector depends on stands in its path
(encoder, sampling, video) or beside it (kind, start_s, stop_s), so a file is never changed: new windows of a span
come as another file. Each also says inside which encoder and sampling it is of. An hour of 2.5-s windows at D = 1408 is
4 MB.
"""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from halsted_ray.errors import ModelError, OutputError, StorageUnavailable, UnreadableVideo
from halsted_ray.records import WindowSpec, digest
from halsted_ray.video.storage import PATIENCE_S, filesystem, local_path, patiently

Key = tuple[str, float, float]
"""(kind, start_s, stop_s) of a window."""


def sampling_name(spec: WindowSpec, fidelity: str) -> str:
    """What decides a window's frames beside its times."""
    return f"{fidelity}-{spec.coarse_s:g}-{spec.fine_s:g}-{spec.frames}"


class EmbeddingStore:
    """Vectors of one encoder (``fingerprint``) over frames picked in one way (``sampling``), at an fsspec location."""

    def __init__(self, location: str, fingerprint: str, sampling: str):
        self.location = location
        self.stamp = {b"encoder": fingerprint.encode(), b"sampling": sampling.encode()}
        self.fs, root = filesystem(location)
        self.root = f"{root.rstrip('/')}/{fingerprint}/{sampling}"

    def get(self, video_id: str, start_s: float, stop_s: float) -> dict[Key, np.ndarray]:
        """(kind, start_s, stop_s) → float16 [D] of the windows that begin in ``[start_s, stop_s)``."""
        vectors: dict[Key, np.ndarray] = {}
        for path, first_ms, last_ms in self._files(video_id):
            if first_ms < stop_s * 1000 and start_s * 1000 < last_ms:
                data = read_whole(self.fs, path)
                vectors |= {
                    key: vector for key, vector in self._read(data, video_id).items() if start_s <= key[1] < stop_s
                }
        return vectors

    def put(self, video_id: str, start_s: float, stop_s: float, vectors: dict[Key, np.ndarray]) -> None:
        """Stores the vectors of windows that begin in ``[start_s, stop_s)``; whole or not at all."""
        if not vectors:
            return
        keys = sorted(vectors)
        rows_ND = np.stack([vectors[key] for key in keys]).astype(np.float16)
        values = pa.FixedSizeListArray.from_arrays(pa.array(rows_ND.ravel()), rows_ND.shape[1])
        table = pa.table(
            {
                "kind": [key[0] for key in keys],
                "start_s": [key[1] for key in keys],
                "stop_s": [key[2] for key in keys],
                "vector": values,
            }
        ).replace_schema_metadata(self.stamp)
        data = io.BytesIO()
        pq.write_table(table, data)
        # The windows name the file: a segment that is worked on twice overwrites it with the same bytes.
        name = f"{int(start_s * 1000):09d}-{int(np.ceil(stop_s * 1000)):09d}-{digest(*keys)[:8]}.parquet"
        write_whole(self.fs, f"{self.root}/{video_id}/{name}", data.getvalue())

    def holds(self, video_id: str) -> list[tuple[float, float]]:
        """The spans of a video that have vectors of some of their windows: one listing, nothing is read."""
        return [(first_ms / 1000, last_ms / 1000) for _, first_ms, last_ms in self._files(video_id)]

    def _read(self, data: bytes, video_id: str) -> dict[Key, np.ndarray]:
        table = pq.read_table(pa.BufferReader(data))
        stated = table.schema.metadata or {}
        for what, wanted in self.stamp.items():
            if stated.get(what, wanted) != wanted:  # a folder that was copied or renamed by hand
                raise ModelError(
                    f"video {video_id}: the vectors in {self.root!r} are of {what.decode()} {stated[what].decode()}, "
                    f"expected {wanted.decode()}; name another place for embeddings, or delete this folder"
                )
        column = table["vector"].combine_chunks()
        rows_ND = column.values.to_numpy(zero_copy_only=False).reshape(len(column), -1)
        keys = zip(*(table[name].to_pylist() for name in ("kind", "start_s", "stop_s")), strict=True)
        return {key: row.copy() for key, row in zip(keys, rows_ND, strict=True)}

    def _files(self, video_id: str) -> list[tuple[str, int, int]]:
        paths = listed(self.fs, f"{self.root}/{video_id}")
        names = ((path, os.path.basename(path).split("-")) for path in sorted(paths) if path.endswith(".parquet"))
        return [(path, int(parts[0]), int(parts[1])) for path, parts in names]


def write_whole(fs, path: str, data: bytes) -> None:
    """Writes a file so that no reader ever sees a part of it. Raises OutputError; waits for a remote store as long
    as reading does."""
    try:
        if "file" in fs.protocol:
            folder = os.path.dirname(path)
            os.makedirs(folder, exist_ok=True)
            handle, written = tempfile.mkstemp(prefix=".part-", dir=folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                os.chmod(written, 0o644)
                os.replace(written, path)
            except BaseException:
                os.unlink(written)
                raise
        else:
            patiently(lambda: fs.pipe_file(path, data), "the place to write to", PATIENCE_S)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise OutputError(
            f"can't write {path!r}: {error.strerror or error}; "
            + ("make room" if full else "name a place that can be written")
            + " and give the same command again"
        ) from error
    except (StorageUnavailable, UnreadableVideo) as error:
        raise OutputError(f"can't write {path!r}: {error}") from error


def read_whole(fs, path: str) -> bytes:
    """A file's bytes; waits for a remote store. Raises FileNotFoundError, StorageUnavailable."""
    if "file" in fs.protocol:
        return fs.cat_file(path)
    return _patiently(lambda: fs.cat_file(path), "a stored result")


def listed(fs, folder: str, deep: bool = False) -> list[str]:
    """Paths under ``folder``, none where it is not there; what other machines wrote is seen too. Waits likewise."""
    fs.invalidate_cache(folder)
    read = (lambda: fs.find(folder)) if deep else (lambda: fs.ls(folder, detail=False))
    try:
        return read() if "file" in fs.protocol else _patiently(read, "a listing")
    except (FileNotFoundError, NotADirectoryError):
        return []


def _patiently(read: Callable, what: str):
    def once():
        try:
            return read()
        except FileNotFoundError as error:
            return error  # an answer, not an outage

    found = patiently(once, what, PATIENCE_S)
    if isinstance(found, FileNotFoundError):
        raise found
    return found


def absolute(location: str) -> str:
    """Workers have a working directory of their own: a local path must not be relative."""
    path = local_path(location)
    return (os.path.abspath(os.path.expanduser(path)) if path is not None else location).rstrip("/")
