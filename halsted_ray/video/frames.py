"""Pictures with the times at which they were really shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from halsted_ray.video.container import check_picture

FIDELITIES = ("exact", "reference", "keyframes")
"""``exact``: the frame displayed at the time. ``reference``: frames that no other frame needs are not decoded
(1.8 times as fast), so the frame may be the reference frame shown before it. ``keyframes``: key frames only."""


@dataclass(frozen=True)
class Frames:
    """``images_NHWC`` uint8 RGB; ``pts_s`` float64 [N], seconds from the first displayed frame, of what is in each."""

    images_NHWC: np.ndarray
    pts_s: np.ndarray

    def __post_init__(self):
        images, pts_s = self.images_NHWC, self.pts_s
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise ValueError(f"expected uint8 images of shape [N, H, W, 3], got {images.dtype} {list(images.shape)}")
        if pts_s.shape != images.shape[:1] or pts_s.dtype != np.float64:
            raise ValueError(f"expected float64 times of shape [{len(images)}], got {pts_s.dtype} {list(pts_s.shape)}")

    def __len__(self) -> int:
        return len(self.images_NHWC)


def collect(rows: Iterable[tuple[np.ndarray, float]], count: int, size: tuple[int, int] | None) -> Frames:
    """``count`` rows of (uint8 [H, W, 3], pts_s) as Frames."""
    images_NHWC = np.empty((count, *(size or (0, 0)), 3), np.uint8)
    pts_s = np.empty(count, np.float64)
    for number, (image_HWC, shown_s) in enumerate(rows):
        if number == 0 and size is None:
            images_NHWC = np.empty((count, *image_HWC.shape), np.uint8)
        images_NHWC[number] = image_HWC
        pts_s[number] = shown_s
    return Frames(images_NHWC, pts_s)


SCALING = Interpolation.BILINEAR | Interpolation.ACCURATE_RND
"""swscale widens the bilinear kernel when it shrinks, so it averages and does not alias; fixed, because another
kernel is another input to the encoder. (Area costs the same and blurs more at these ratios.)"""


class PictureScaler:
    """Scales frames to ``size`` = (height, width) of the upright picture; the whole picture, not a crop.

    Keeps one swscale context for all frames: building one costs more than using it.
    """

    def __init__(self, size: tuple[int, int], rotation_deg: int):
        self.height, self.width = size
        self._turns = (rotation_deg // 90) % 4
        self._reformatter = VideoReformatter()

    def to_rgb(self, frame) -> np.ndarray:
        """uint8 [height, width, 3]."""
        check_picture(frame.width, frame.height)  # a stream may change its size half-way
        height, width = (self.width, self.height) if self._turns % 2 else (self.height, self.width)
        small = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=SCALING, threads=1
        ).to_ndarray()
        return np.ascontiguousarray(np.rot90(small, self._turns)) if self._turns else small


def display_size(width: int, height: int, sample_aspect, rotation_deg: int) -> tuple[int, int]:
    """(height, width) as shown: anamorphic pixels made square by widening, then turned upright."""
    if sample_aspect and sample_aspect > 0:
        width = max(1, round(width * sample_aspect))
    return (width, height) if (rotation_deg // 90) % 2 else (height, width)
