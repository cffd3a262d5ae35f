"""Pictures with the times at which they were shown, and how a decoded frame is scaled for the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from halsted_ray.video.container import check_picture

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


SCALING = Interpolation.BILINEAR | Interpolation.ACCURATE_RND
"""swscale widens the bilinear kernel where it shrinks a picture, so it averages and does not alias. The kernel is
fixed, because another kernel would give the encoder other input. (Area costs the same and blurs more at these
ratios.)"""


class PictureScaler:
    """Turns frames upright and scales them to ``size``: the whole picture, not a crop.

    Keeps one swscale context for all frames, since building a context costs more than using it.
    """

    def __init__(self, size: FrameSize, rotation_deg: int):
        self.height, self.width = size
        self._turns = (rotation_deg // 90) % 4
        self._reformatter = VideoReformatter()

    def to_rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """The frame as uint8 [height, width, 3] RGB. Raises UnreadableVideo for a picture beyond the limit."""
        check_picture(frame.width, frame.height)  # a stream may change its size half-way
        height, width = (self.width, self.height) if self._turns % 2 else (self.height, self.width)
        small = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=SCALING, threads=1
        )
        small_HWC = np.asarray(small.to_ndarray(), np.uint8)
        return np.ascontiguousarray(np.rot90(small_HWC, self._turns)) if self._turns else small_HWC


def display_size(width: int, height: int, sample_aspect: Fraction | None, rotation_deg: int) -> FrameSize:
    """The size at which a picture is shown: pixels that are not square are made square by widening, then the picture is
    turned upright. ``sample_aspect`` is a stored pixel's width by its height; None or 0 where the file does not say."""
    if sample_aspect and sample_aspect > 0:
        width = max(1, round(width * sample_aspect))
    return (width, height) if (rotation_deg // 90) % 2 else (height, width)
