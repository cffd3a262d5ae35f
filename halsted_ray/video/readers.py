"""Frames of one video at given times: the one question that everything behind asks of a video."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from halsted_ray.storage.ranges import RangeFile, open_source
from halsted_ray.video.frames import FIDELITIES, Frames, collect
from halsted_ray.video.pyav_reader import decode_rows as _pyav

__all__ = ["FIDELITIES", "READERS", "Frames", "check_request", "read_frames"]


def _decord(source: str | RangeFile, times_s, size, fidelity) -> Iterator[tuple[np.ndarray, float]]:
    from halsted_ray.video.decord_reader import decode_rows  # here: decord is slow to import and not the default

    if isinstance(source, RangeFile):
        raise ValueError("the reader 'decord' reads local files only, got a remote location; use the reader 'pyav'")
    return decode_rows(source, times_s, size, fidelity)


READERS = {"pyav": _pyav, "decord": _decord}
"""Name → ``decode_rows(source, times_s, size, fidelity)``, an iterator of (uint8 [H, W, 3], pts_s)."""


def read_frames(
    location: str | os.PathLike,
    times_s: np.ndarray,
    size: tuple[int, int] | None,
    fidelity: str = "reference",
    reader: str = "pyav",
) -> Frames:
    """The frames displayed at ``times_s`` (rising, seconds from the first displayed frame), scaled to ``size``.

    A frame is displayed from its pts until the next one's. ``size`` is (height, width) of the upright picture,
    None for the size it is shown at. Times past the last frame repeat it.

    Raises UnreadableVideo, CorruptSegment (with ``start_s`` and ``stop_s`` of the damage), StorageUnavailable;
    ValueError for a wrong argument.
    """
    times_s = check_request(times_s, size, fidelity, reader)
    return collect(READERS[reader](open_source(location), times_s, size, fidelity), len(times_s), size)


def check_request(times_s, size, fidelity: str, reader: str) -> np.ndarray:
    """``times_s`` as float64, or a ValueError that says which argument is wrong."""
    times_s = np.asarray(times_s, np.float64)
    if times_s.ndim != 1 or not np.all(np.isfinite(times_s)):
        raise ValueError(f"expected times_s as one row of finite seconds, got an array of shape {list(times_s.shape)}")
    if len(times_s) and (times_s[0] < 0 or np.any(np.diff(times_s) < 0)):
        raise ValueError("expected times_s to rise from 0 s on, got a negative or a falling one")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"expected size as (height, width) in pixels, got {size!r}")
    if fidelity not in FIDELITIES:
        raise ValueError(f"expected a fidelity of {', '.join(FIDELITIES)}, got {fidelity!r}")
    if reader not in READERS:
        raise ValueError(f"expected a reader of {', '.join(READERS)}, got {reader!r}")
    return times_s
