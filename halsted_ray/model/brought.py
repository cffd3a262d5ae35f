"""Vectors that someone brings instead of an encoder: a folder that stands where an encoder's folder would stand.

    <folder>/halsted-vectors.json      name and digest as the user gave them, width, digests of rows
    <folder>/rows/<video_id>.parquet   ``time_s`` and ``vector``, in order of time

What a window's vector is (``pooled``): the mean of the rows whose times lie in its span. A row stands for the time
until the next row, so a span between two rows has the vector of the earlier one.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from halsted_ray.errors import ModelError, StorageUnavailable
from halsted_ray.records import Window, digest
from halsted_ray.storage.files import read_file, read_json, write_atomically, write_json
from halsted_ray.storage.locations import filesystem

VECTORS_FILE = "halsted-vectors.json"
BROUGHT = "vectors"
"""``EncoderIdentity.family`` of brought vectors."""
LARGEST = float(np.finfo(np.float16).max)
"""Vectors are stored in float16."""


@dataclass(frozen=True)
class BroughtVectors:
    """What ``halsted-vectors.json`` says. ``rows``: video_id → digest of its rows."""

    name: str
    digest: str
    dim: int
    rows: Mapping[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """16 hex digits over the name, the digest and the width: the identity of the vectors."""
        return digest("brought vectors", self.name, self.digest, self.dim)


@dataclass(frozen=True)
class Rows:
    """The rows of one video: float64 [N] seconds from its start, increasing, and float [N, D]."""

    time_s_N: np.ndarray
    vectors_ND: np.ndarray

    def digest(self) -> str:
        """16 hex digits over times and vectors."""
        found = hashlib.sha256(np.ascontiguousarray(self.time_s_N, np.float64).tobytes())
        found.update(np.ascontiguousarray(self.vectors_ND, np.float32).tobytes())
        return found.hexdigest()[:16]

    def pooled(self, window: Window) -> np.ndarray:
        """float16 [D], the vector of a window. Raises ModelError where the window lies before the first row."""
        first, stop = np.searchsorted(self.time_s_N, (window.start_s, window.stop_s))
        if first == stop:  # the row that still stands when the window begins
            first = max(int(np.searchsorted(self.time_s_N, window.start_s, side="right")) - 1, 0)
            stop = first + 1
        vector: np.ndarray = self.vectors_ND[first:stop].mean(0, dtype=np.float64).astype(np.float16)
        return vector


def read_brought(place: str) -> BroughtVectors | None:
    """As ``brought_at``, of a place that may as well hold an encoder: None too where it can't be read, since whoever
    loads the encoder says why. Raises ModelError for a damaged file."""
    try:
        return brought_at(place)
    except (OSError, StorageUnavailable):
        return None


def brought_at(place: str) -> BroughtVectors | None:
    """What lies at ``place``; None where no brought vectors lie there. Raises ModelError for a damaged file, and
    OSError or StorageUnavailable where this can't be told: who writes there must not take that for nothing."""
    try:
        stated = read_json(f"{place.rstrip('/')}/{VECTORS_FILE}")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ModelError(f"{place!r}: {VECTORS_FILE} is not JSON: {error}; import the vectors again") from error
    try:
        return BroughtVectors(**stated)
    except TypeError as error:
        raise ModelError(f"{place!r}: {VECTORS_FILE} has other keys than expected: {error}") from error


def write_brought(place: str, brought: BroughtVectors) -> None:
    """Writes ``halsted-vectors.json``. Raises OutputError."""
    write_json(f"{place.rstrip('/')}/{VECTORS_FILE}", asdict(brought))


def write_rows(place: str, video_id: str, rows: Rows) -> None:
    """Keeps the rows of one video, in float32. Raises OutputError."""
    values = np.ascontiguousarray(rows.vectors_ND, np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    data = io.BytesIO()
    pq.write_table(pa.table({"time_s": rows.time_s_N, "vector": vectors}), data, use_dictionary=False)
    fs, path = filesystem(f"{place.rstrip('/')}/rows/{video_id}.parquet")
    write_atomically(fs, path, data.getvalue())


def read_rows(place: str, video_id: str) -> Rows:
    """The rows of one video. Raises ModelError where none were brought."""
    fs, path = filesystem(f"{place.rstrip('/')}/rows/{video_id}.parquet")
    try:
        table = pq.read_table(pa.BufferReader(read_file(fs, path)))
    except FileNotFoundError as error:
        raise ModelError(
            f"video {video_id}: no vectors of it at {place!r}, and brought vectors can't be made here; import them: "
            "halsted embeddings import"
        ) from error
    column = table["vector"].combine_chunks()
    return Rows(table["time_s"].to_numpy(), column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1))
