"""Frames with black boxes: a new picture in the same pixel format, whose other samples are those of the old one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from av import VideoFrame
from numpy.typing import NDArray

from halsted_ray.deidentify.spans import Box

PLANAR = {
    f"{family}{layout}p{depth}": (
        {"420": (1, 1), "422": (1, 0), "444": (0, 0)}[layout],
        int(depth.removesuffix("le") or 8),
    )
    for family in ("yuv", "yuvj")
    for layout in ("420", "422", "444")
    for depth in ("", "10le")
    if family == "yuv" or not depth
}
"""Pixel format → ((log2 of the columns, log2 of the rows that share a colour sample), bits of a sample)."""
FULL_RANGE = 2
"""libavutil's AVCOL_RANGE_JPEG."""


def with_black(frame: VideoFrame, boxes: Sequence[Box] | None) -> VideoFrame:
    """A copy of ``frame`` with ``boxes`` black; None makes the whole frame black. Other pixel formats than those of
    ``PLANAR`` become yuv420p.

    A colour sample belongs to up to four pixels, so a box grows to whole samples. The frame itself is left alone: the
    decoder may need it for other frames.
    """
    if frame.format.name not in PLANAR:
        frame = frame.reformat(format="yuv420p", threads=1)
    (shift_x, shift_y), depth = PLANAR[frame.format.name]
    black = VideoFrame(frame.width, frame.height, frame.format.name)
    is_full = frame.format.name.startswith("yuvj") or int(frame.color_range) == FULL_RANGE
    for number, (plane, target) in enumerate(zip(frame.planes, black.planes, strict=True)):
        samples = _samples(plane, depth).copy()
        dark = (0 if is_full else 16 << depth - 8) if number == 0 else 128 << depth - 8
        if boxes is None:
            samples[:] = dark
        columns, rows = (0, 0) if number == 0 else (shift_x, shift_y)
        for box in boxes or ():
            left, right = box.x >> shift_x << shift_x, -(-(box.x + box.width) >> shift_x << shift_x)
            top, bottom = box.y >> shift_y << shift_y, -(-(box.y + box.height) >> shift_y << shift_y)
            samples[top >> rows : bottom >> rows, left >> columns : right >> columns] = dark
        stored = _samples(target, depth)
        stored[:] = samples
    black.color_range, black.colorspace = frame.color_range, frame.colorspace
    return black


def _samples(plane: Any, depth: int) -> NDArray[Any]:
    """The samples of a plane, [rows, columns], without the padding of its lines."""
    kind = np.uint8 if depth == 8 else np.uint16
    lines = np.frombuffer(plane, kind).reshape(-1, plane.line_size // np.dtype(kind).itemsize)
    return lines[: plane.height, : plane.width]
