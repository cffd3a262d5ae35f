"""Pictures with the times at which they were shown, and the size at which a video is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

FIDELITIES = ("exact", "reference", "keyframes")
"""Which frame stands for a time. ``exact``: the frame displayed at that time. ``reference``: frames that no other frame
refers to are not decoded (1.8 times as fast), so it may be the reference frame displayed before that time.
``keyframes``: the last keyframe displayed by that time."""

FrameSize = tuple[int, int]
"""(height, width) of the upright picture, in pixels."""

FrameStream = Iterator[tuple[NDArray[np.uint8], float]]
"""Frames one by one: (uint8 [H, W, 3] RGB, its pts in seconds from the first displayed frame)."""


@dataclass(frozen=True)
class Frames:
    """N pictures of one video, each with the time at which it was displayed.

    ``images_NHWC``: uint8 [N, H, W, 3] RGB. ``pts_s``: float64 [N], seconds from the first displayed frame. Raises
    ValueError for other shapes or types.
    """

    images_NHWC: NDArray[np.uint8]
    pts_s: NDArray[np.float64]

    def __post_init__(self) -> None:
        images, pts_s = self.images_NHWC, self.pts_s
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise ValueError(f"expected uint8 images of shape [N, H, W, 3], got {images.dtype} {list(images.shape)}")
        if pts_s.shape != images.shape[:1] or pts_s.dtype != np.float64:
            raise ValueError(f"expected float64 times of shape [{len(images)}], got {pts_s.dtype} {list(pts_s.shape)}")

    def __len__(self) -> int:
        return len(self.images_NHWC)


def collect(rows: Iterable[tuple[NDArray[np.uint8], float]], count: int, size: FrameSize | None) -> Frames:
    """The ``count`` frames of a ``FrameStream`` as one array; ``size`` is theirs, None where it is not known yet."""
    images_NHWC = np.empty((count, *(size or (0, 0)), 3), np.uint8)
    pts_s = np.empty(count, np.float64)
    for number, (image_HWC, shown_s) in enumerate(rows):
        if number == 0 and size is None:
            images_NHWC = np.empty((count, *image_HWC.shape), np.uint8)
        images_NHWC[number] = image_HWC
        pts_s[number] = shown_s
    return Frames(images_NHWC, pts_s)


def display_size(width: int, height: int, sample_aspect: Fraction | None, rotation_deg: int) -> FrameSize:
    """The size at which a picture is shown: pixels that are not square are made square by widening, then the picture is
    turned upright. ``sample_aspect`` is a stored pixel's width by its height; None or 0 where the file does not say."""
    if sample_aspect and sample_aspect > 0:
        width = max(1, round(width * sample_aspect))
    return (width, height) if (rotation_deg // 90) % 2 else (height, width)
