"""The store of vectors: one vector per window, written once, read by training and by every later mapping.

    <location>/<encoder_name>/<sampling>/<video_id>/<start_ms>-<stop_ms>-<digest8>.parquet

A file holds the windows that begin in one span of one video. Its path says what the vectors depend on: the encoder, the
sampling of frames, the video. Each row says which window it is (kind, start_s, stop_s). So a file is never changed: new
windows of a span are written to another file. The file's own metadata repeats encoder and sampling, in case a folder
was renamed by hand. An hour of 2.5-s windows at D = 1408 takes 4 MB.
"""

from __future__ import annotations

import io
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from halsted_ray.errors import ModelError
from halsted_ray.records import PICTURES, WindowSpec, digest
from halsted_ray.storage.files import list_folder, read_file, write_atomically
from halsted_ray.storage.locations import filesystem

WindowKey = tuple[str, float, float]
"""(kind, start_s, stop_s) of a window."""


def sampling_name(spec: WindowSpec, fidelity: str, eye: str = "left") -> str:
    """The name of everything beside its times that decides which frames a window has, and what is seen on them.

    ``fidelity`` is one of ``video.frames.FIDELITIES``, ``eye`` one of ``video.geometry.EYES``.
    """
    name = f"{fidelity}-{spec.coarse_s:g}-{spec.fine_s:g}-{spec.frames}-{PICTURES}"
    return name if eye == "left" else f"{name}-{eye}"


def encoder_name(fingerprint: str, precision: str) -> str:
    """The name of what computed vectors: the encoder's fingerprint, and the precision where that is not fp32.

    ``precision`` is one of ``model.precision.PRECISIONS``. A ``VectorStore`` is opened under this name.
    """
    return fingerprint if precision == "fp32" else f"{fingerprint}-{precision}"


class VectorStore:
    """The vectors of one encoder (``fingerprint``) over frames picked in one way (``sampling_name``), at a location."""

    def __init__(self, location: str, fingerprint: str, sampling: str):
        self.location = location
        self.stamp = {b"encoder": fingerprint.encode(), b"sampling": sampling.encode()}
        self.fs, root = filesystem(location)
        self.root = f"{root.rstrip('/')}/{fingerprint}/{sampling}"

    def get(self, video_id: str, start_s: float, stop_s: float) -> dict[WindowKey, np.ndarray]:
        """WindowKey → float16 [D], for the stored windows of a video that begin in ``[start_s, stop_s)``.

        Raises StorageUnavailable, and ModelError where the files are of another encoder or sampling.
        """
        vectors: dict[WindowKey, np.ndarray] = {}
        for path, first_ms, last_ms in self._files(video_id):
            if first_ms < stop_s * 1000 and start_s * 1000 < last_ms:
                data = read_file(self.fs, path)
                vectors |= {
                    key: vector for key, vector in self._read(data, video_id).items() if start_s <= key[1] < stop_s
                }
        return vectors

    def put(self, video_id: str, start_s: float, stop_s: float, vectors: dict[WindowKey, np.ndarray]) -> None:
        """Stores the vectors (float [D]) of windows that begin in ``[start_s, stop_s)``; all of them or none.

        Raises OutputError.
        """
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
        # The file is named by its windows, so a segment that is encoded twice overwrites it with the same bytes.
        name = f"{int(start_s * 1000):09d}-{int(np.ceil(stop_s * 1000)):09d}-{digest(*keys)[:8]}.parquet"
        write_atomically(self.fs, f"{self.root}/{video_id}/{name}", data.getvalue())

    def holds(self, video_id: str) -> list[tuple[float, float]]:
        """The spans [start_s, stop_s) of a video of which some windows are stored, told by one listing.

        Raises StorageUnavailable.
        """
        return [(first_ms / 1000, last_ms / 1000) for _, first_ms, last_ms in self._files(video_id)]

    def _read(self, data: bytes, video_id: str) -> dict[WindowKey, np.ndarray]:
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
        """(path, start_ms, stop_ms) of the files of one video, in order of their spans."""
        paths = list_folder(self.fs, f"{self.root}/{video_id}")
        names = ((path, os.path.basename(path).split("-")) for path in sorted(paths) if path.endswith(".parquet"))
        return [(path, int(parts[0]), int(parts[1])) for path, parts in names]
