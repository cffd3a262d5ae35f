"""The id of a video, computed from its bytes: a renamed, moved or copied file keeps its id."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from halsted_ray.errors import UnreadableVideo
from halsted_ray.storage.retry import PATIENCE_S, with_retries

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
    byte. Two files that differ in size or in any of these blocks have different ids. Two recordings that agree in all
    of them do not occur; but a copy that is damaged between the blocks keeps the id of the whole file.

    Raises OSError.
    """
    size_bytes = fs.size(path)
    digest = hashlib.sha256(str(size_bytes).encode())
    spans = block_spans(size_bytes)
    starts, stops = [start for start, _ in spans], [stop for _, stop in spans]
    blocks = fs.cat_ranges([path] * len(spans), starts, stops, on_error="raise")
    for data, start, stop in zip(blocks, starts, stops, strict=True):
        if len(data) != stop - start:
            raise OSError(f"short read: asked for bytes [{start}, {stop}), got {len(data)}")
        digest.update(data)
    return digest.hexdigest()[:16], blocks[0] if blocks else b""


def block_spans(size_bytes: int) -> list[tuple[int, int]]:
    """``[start, stop)`` of each block of bytes that the id depends on; blocks of a small file touch, never overlap."""
    if size_bytes <= BLOCKS * BLOCK_BYTES:
        return [(0, size_bytes)] if size_bytes else []
    last_start = size_bytes - BLOCK_BYTES
    starts = [last_start * n // (BLOCKS - 1) for n in range(BLOCKS)]
    return [(start, start + BLOCK_BYTES) for start in starts]
