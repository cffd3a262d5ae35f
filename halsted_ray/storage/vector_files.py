"""The files of the store of vectors: what their names say, and what is in them.

    <video_id>/<start_ms>-<stop_ms>-<digest>.parquet                             a span file
    <video_id>_<generation>-<start_ms>-<stop_ms>-<runs>-<windows>-<digest>.arrow      a packed file

A span file holds the windows of one span of one video, as one ``put`` stored them. A packed file holds all windows of
one video: an Arrow IPC file of one record batch, uncompressed, so that its vectors are used where they lie in memory.
Both kinds of file state the encoder and the sampling in their metadata, in case a folder was renamed by hand; a packed
file also states its video and its spans.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from halsted_ray.errors import ModelError
from halsted_ray.records import digest

WindowKey = tuple[str, float, float]
"""(kind, start_s, stop_s) of a window."""
Span = tuple[float, float]
"""[start_s, stop_s)."""
Stamp = Mapping[bytes, bytes]
"""What every file of one folder states: ``encoder`` and ``sampling``."""

SPAN_FILE = re.compile(r"(?P<start>\d+)-(?P<stop>\d+)-[0-9a-f]+\.parquet")
PACKED_FILE = re.compile(
    r"(?P<video>.+)_(?P<generation>\d+)-(?P<start>\d+)-(?P<stop>\d+)-(?P<runs>\d+)-(?P<windows>\d+)-(?P<content>[0-9a-f]+)\.arrow"
)
ARROW_MAGIC_BYTES = 8
"""What stands in an Arrow IPC file before its schema."""


class StoredFile(NamedTuple):
    """A file of vectors, by its name alone. Later ones in order of ``rank`` win where two hold the same window."""

    video_id: str
    path: str
    start_s: float
    stop_s: float
    generation: int = 0
    """Of a packed file: higher than that of every file that it was made from. 0: a span file."""
    runs: int = 1
    """How many spans without a gap between them the file holds. Where it is 1, this span is [start_s, stop_s)."""
    windows: int = 0
    """0 where the name does not say it."""
    content: str = ""
    """``VideoVectors.content`` of a packed file; '' for a span file."""

    @property
    def is_packed(self) -> bool:
        """Whether this is a packed file."""
        return self.generation > 0

    @property
    def rank(self) -> tuple[bool, int, str]:
        """Span files come after packed files, so that what was stored last is what is read."""
        return (not self.is_packed, self.generation, self.path)


def stored_file(path: str) -> StoredFile | None:
    """The file of vectors at ``path``; None for any other file, or a folder."""
    before, _, name = path.rpartition("/")
    if name.endswith(".parquet"):
        if match := SPAN_FILE.fullmatch(name):
            folder = before.rpartition("/")[2]
            return StoredFile(folder, path, int(match["start"]) / 1000, int(match["stop"]) / 1000)
    elif name.endswith(".arrow") and (match := PACKED_FILE.fullmatch(name)):
        video, generation, start_ms, stop_ms, runs, windows, content = match.groups()
        start_s, stop_s = int(start_ms) / 1000, int(stop_ms) / 1000
        return StoredFile(video, path, start_s, stop_s, int(generation), int(runs), int(windows), content)
    return None


@dataclass(frozen=True)
class VideoVectors:
    """Stored vectors of one video, in order of their windows' start. ``vectors_ND`` may be read-only."""

    video_id: str
    kinds: list[str]
    start_s_N: np.ndarray
    stop_s_N: np.ndarray
    """float64 [N]."""
    vectors_ND: np.ndarray
    """float16 [N, D]."""
    spans: list[Span]
    """What was asked for when these vectors were made: all windows that begin in these spans, or some of them."""

    def __len__(self) -> int:
        return len(self.kinds)

    @cached_property
    def keys(self) -> list[WindowKey]:
        """The window of each row."""
        return list(zip(self.kinds, self.start_s_N.tolist(), self.stop_s_N.tolist(), strict=True))

    def between(self, start_s: float, stop_s: float) -> dict[WindowKey, np.ndarray]:
        """WindowKey → float16 [D], of the windows that begin in ``[start_s, stop_s)``. The vectors are copies."""
        rows = np.flatnonzero((self.start_s_N >= start_s) & (self.start_s_N < stop_s))
        return {
            (self.kinds[row], float(self.start_s_N[row]), float(self.stop_s_N[row])): self.vectors_ND[row].copy()
            for row in rows.tolist()
        }

    def content(self) -> str:
        """16 hex digits computed from everything in it."""
        found = hashlib.blake2b(repr((self.video_id, self.spans, self.keys)).encode(), digest_size=8)
        found.update(np.ascontiguousarray(self.vectors_ND).data)
        return found.hexdigest()


def merged(video_id: str, parts: Sequence[VideoVectors]) -> VideoVectors:
    """All windows of ``parts``, each once, in order of start, kind and stop. Where two parts hold a window, the later
    one's vector is taken."""
    place: dict[WindowKey, tuple[int, int]] = {}
    for number, part in enumerate(parts):
        place |= {key: (number, row) for row, key in enumerate(part.keys)}
    keys = sorted(place, key=lambda key: (key[1], key[0], key[2]))
    dims = {part.vectors_ND.shape[1] for part in parts}
    assert len(dims) <= 1, f"vectors of one encoder have one width, got {sorted(dims)}"
    vectors_ND = np.empty((len(keys), *dims), np.float16)
    for row, key in enumerate(keys):
        number, at = place[key]
        vectors_ND[row] = parts[number].vectors_ND[at]
    starts_s, stops_s = (np.array([key[field] for key in keys], np.float64) for field in (1, 2))
    spans = joined(span for part in parts for span in part.spans)
    return VideoVectors(video_id, [key[0] for key in keys], starts_s, stops_s, vectors_ND, spans)


def joined(spans: Iterable[Span]) -> list[Span]:
    """``spans`` in order, those that touch or overlap as one."""
    found: list[Span] = []
    for start_s, stop_s in sorted(spans):
        if found and start_s <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], stop_s))
        else:
            found.append((start_s, stop_s))
    return found


def span_file(
    stamp: Stamp, start_s: float, stop_s: float, vectors: Mapping[WindowKey, np.ndarray]
) -> tuple[str, bytes]:
    """(name, content) of the span file of ``vectors``. It is named by its windows, so a segment that is encoded twice
    overwrites it with the same bytes."""
    keys = sorted(vectors)
    rows_ND = np.stack([vectors[key] for key in keys]).astype(np.float16)
    kinds, starts_s, stops_s = zip(*keys, strict=True)
    table = _table(kinds, np.array(starts_s, np.float64), np.array(stops_s, np.float64), rows_ND)
    data = io.BytesIO()
    # Half floats of vectors hardly repeat: a dictionary of them would take half as much again, and twice the time.
    pq.write_table(table.replace_schema_metadata(dict(stamp)), data, use_dictionary=["kind"])
    name = f"{int(start_s * 1000):09d}-{int(np.ceil(stop_s * 1000)):09d}-{digest(*keys)[:8]}.parquet"
    return name, data.getvalue()


def packed_file(stamp: Stamp, found: VideoVectors, generation: int) -> tuple[str, bytes]:
    """(name, content) of the packed file of one video. ``found``: as ``merged`` gives it."""
    # Whole milliseconds already, since they come from the names of files.
    first_ms, last_ms = round(found.spans[0][0] * 1000), round(found.spans[-1][1] * 1000)
    span = f"{first_ms:09d}-{last_ms:09d}-{len(found.spans)}"
    name = f"{found.video_id}_{generation:06d}-{span}-{len(found)}-{found.content()}.arrow"
    table = _table(found.kinds, found.start_s_N, found.stop_s_N, found.vectors_ND)
    stated = {**stamp, b"video_id": found.video_id.encode(), b"spans": json.dumps(found.spans).encode()}
    out = pa.BufferOutputStream()
    with pa.ipc.new_file(out, table.schema.with_metadata(stated)) as writer:
        writer.write_table(table)
    return name, out.getvalue().to_pybytes()


def read_vectors(file: StoredFile, data: bytes | pa.Buffer, stamp: Stamp, root: str) -> VideoVectors:
    """The vectors in a file with the content ``data``; those of a packed file without a copy of them.

    Raises ModelError where the file is of another encoder, sampling or video than its place says, or is damaged.
    """
    buffer = data if isinstance(data, pa.Buffer) else pa.py_buffer(data)
    try:
        table = pa.ipc.open_file(buffer).read_all() if file.is_packed else pq.read_table(pa.BufferReader(buffer))
        table.validate()  # Arrow believes the lengths that a file states; a view behind its end would be read
    except (pa.ArrowException, OSError) as error:
        raise ModelError(
            f"video {file.video_id}: {file.path!r} holds no vectors that can be read ({error}); delete this file, and "
            "its vectors are made again"
        ) from error
    check_stamp(file, table.schema.metadata, stamp, root)
    column = table["vector"]
    column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # which copies one chunk too
    vectors_ND = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    starts_s, stops_s = (table[name].to_numpy() for name in ("start_s", "stop_s"))
    spans = _stated_spans(table.schema.metadata) if file.is_packed else [(file.start_s, file.stop_s)]
    return VideoVectors(file.video_id, table["kind"].to_pylist(), starts_s, stops_s, vectors_ND, spans)


def read_spans(file: StoredFile, head: bytes, stamp: Stamp, root: str) -> list[Span]:
    """The spans that a packed file states, from its first bytes. Raises as ``read_vectors``, and ArrowInvalid where
    ``head`` does not hold the whole schema."""
    stated = pa.ipc.read_schema(pa.py_buffer(head[ARROW_MAGIC_BYTES:])).metadata
    check_stamp(file, stated, stamp, root)
    return _stated_spans(stated)


def check_stamp(file: StoredFile, stated: Mapping[bytes, bytes] | None, stamp: Stamp, root: str) -> None:
    """Raises ModelError where a file states another encoder, sampling or video than its place says."""
    expected = {**stamp, b"video_id": file.video_id.encode()}
    for what, wanted in expected.items():
        found = (stated or {}).get(what, wanted)
        if found != wanted:  # a folder or file that was copied or renamed by hand
            raise ModelError(
                f"video {file.video_id}: the vectors in {root!r} are of {what.decode()} {found.decode()}, "
                f"expected {wanted.decode()}; name another place for embeddings, or delete this folder"
            )


def _stated_spans(stated: Mapping[bytes, bytes]) -> list[Span]:
    return [(start_s, stop_s) for start_s, stop_s in json.loads(stated[b"spans"])]


def _table(kinds: Sequence[str], starts_s: np.ndarray, stops_s: np.ndarray, vectors_ND: np.ndarray) -> pa.Table:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.ravel()), vectors_ND.shape[1])
    return pa.table({"kind": pa.array(kinds, pa.string()), "start_s": starts_s, "stop_s": stops_s, "vector": vectors})
