"""Which video a file is, from its bytes: a renamed, moved or copied file keeps its id."""

from __future__ import annotations

import hashlib

BLOCK_BYTES = 64 * 1024
BLOCKS = 15
"""Head, tail and 13 between: 983,040 bytes at most, so an archive of 1,000 videos is named by reading 1 GB."""


def video_id(fs, path: str) -> str:
    """16 hex digits of the file at ``path`` of an fsspec file system.

    They depend on the size and 15 blocks of content spread evenly from the first to the last byte. Two files that
    differ in size or in any of these blocks differ in id; two recordings that agree in all of them don't occur,
    but a copy damaged between the blocks keeps the id of the whole one.
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
    return digest.hexdigest()[:16]


def block_spans(size_bytes: int) -> list[tuple[int, int]]:
    """``[start, stop)`` of the bytes that count; neighbouring blocks of a small file touch but don't overlap."""
    if size_bytes <= BLOCKS * BLOCK_BYTES:
        return [(0, size_bytes)] if size_bytes else []
    last_start = size_bytes - BLOCK_BYTES
    starts = [last_start * n // (BLOCKS - 1) for n in range(BLOCKS)]
    return [(start, start + BLOCK_BYTES) for start in starts]
