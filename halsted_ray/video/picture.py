"""From a decoded frame to pixels at model size: scaled, turned upright, RGB."""

from __future__ import annotations

import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from halsted_ray.video.container import check_picture

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
