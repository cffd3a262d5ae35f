"""The id of a video, computed from its bytes: a renamed, moved or copied file keeps its id."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from halsted_ray.errors import UnreadableVideo
from halsted_ray.storage.ranges import RangeFile
from halsted_ray.storage.retry import PATIENCE_S, with_retries
from halsted_ray.video.encapsulated import find_stream, read_at_of
from halsted_ray.video.file_head import holds_dicom_stream

if TYPE_CHECKING:
    import fsspec

BLOCK_BYTES = 64 * 1024
BLOCKS = 15
"""The head, the tail and 13 blocks between them: 983,040 bytes at most, so an archive of 1,000 videos is named by
reading 1 GB."""


def video_id(fs: fsspec.AbstractFileSystem, path: str) -> str:
    """The id of the video in the file at ``path`` of ``fs``: 16 hex digits. As ``identify``."""
    return identify(fs, path)[0]


def file_info(fs: fsspec.AbstractFileSystem, path: str) -> dict[str, Any]:
    """What ``fs`` knows of the file at ``path``, such as its ``size``. Whoever reads a pipe waits for ever, so this is
    asked before. Raises UnreadableVideo for what is no file, and as ``with_retries`` does."""
    info: dict[str, Any] = with_retries(lambda: fs.info(path), "its size", PATIENCE_S)
    if info["type"] == "directory":
        raise UnreadableVideo("expected a file, got a folder; name a file in it")
    if info["type"] != "file":
        raise UnreadableVideo("expected a file, got a pipe, a device or the like; remove it from the archive")
    return info


def identify(fs: fsspec.AbstractFileSystem, path: str) -> tuple[str, bytes]:
    """(the id of the video in the file at ``path`` of ``fs``, 16 hex digits; the file's first 64 KiB).

    The id depends on the size of the file, and on 15 blocks of its content, spread evenly from the first to the last
    byte; of a DICOM file with a video, on those of the stream in it. Two files that differ in size or in any of these
    blocks have different ids. Two recordings that agree in all of them do not occur; but a copy that is damaged between
    the blocks keeps the id of the whole file.

    Raises OSError.
    """
    size_bytes = fs.size(path)
    spans = block_spans(size_bytes)
    starts, stops = [start for start, _ in spans], [stop for _, stop in spans]
    blocks = fs.cat_ranges([path] * len(spans), starts, stops, on_error="raise")
    head = blocks[0] if blocks else b""
    if holds_dicom_stream(head) and (name := _id_of_stream(fs, path, size_bytes)):
        return name, head
    return _digest_of(size_bytes, blocks, spans), head


def _id_of_stream(fs: fsspec.AbstractFileSystem, path: str, size_bytes: int) -> str:
    """The id of the video stream in a DICOM file, '' where it is not found: probing then says why.

    It is the id of the same stream as a file of its own, so that a recording which lies in an archive in both forms is
    mapped once, and no id depends on the header.
    """
    # At every fragment a length is read, and a request for each would take hours of a file over a network.
    file = RangeFile(lambda start, stop: _bytes_of(fs, path, start, stop), size_bytes)
    try:
        stream = find_stream(read_at_of(file), size_bytes)
    except UnreadableVideo:
        return ""
    spans = block_spans(stream.size_bytes)
    fetch = stream.reader(lambda at, count: _bytes_of(fs, path, at, at + count))
    return _digest_of(stream.size_bytes, [fetch(start, stop) for start, stop in spans], spans)


def _bytes_of(fs: fsspec.AbstractFileSystem, path: str, start: int, stop: int) -> bytes:
    data: bytes = fs.cat_file(path, start=start, end=stop)
    return data


def _digest_of(size_bytes: int, blocks: Sequence[bytes], spans: Sequence[tuple[int, int]]) -> str:
    digest = hashlib.sha256(str(size_bytes).encode())
    for data, (start, stop) in zip(blocks, spans, strict=True):
        if len(data) != stop - start:
            raise OSError(f"short read: asked for bytes [{start}, {stop}), got {len(data)}")
        digest.update(data)
    return digest.hexdigest()[:16]


def block_spans(size_bytes: int) -> list[tuple[int, int]]:
    """``[start, stop)`` of each block of bytes that the id depends on; blocks of a small file touch, never overlap."""
    if size_bytes <= BLOCKS * BLOCK_BYTES:
        return [(0, size_bytes)] if size_bytes else []
    last_start = size_bytes - BLOCK_BYTES
    starts = [last_start * n // (BLOCKS - 1) for n in range(BLOCKS)]
    return [(start, start + BLOCK_BYTES) for start in starts]
