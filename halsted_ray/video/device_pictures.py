"""From the planes that NVDEC gives out to the picture that a model looks at, on the device where the planes lie.

The same as ``pictures.PictureScaler`` on the CPU: the file's own matrix and range, the widened bilinear kernel, one
colour for two pixels beside each other, the same rounding. Only the small picture leaves the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from halsted_ray.video.colour import LUMA, Colour

CHROMA_LEFT = 0.25
"""A sample of colour lies at the left one of its two pixels, half a pixel of luma from their middle: so H.264 and HEVC
have it where the stream says nothing. libavcodec tells swscale what the stream says. PyAV does not tell us, so a stream
that says something else differs from the CPU by up to 0.8 grey levels at sharp edges of colour."""

ONE = 1 << 16


@dataclass(frozen=True)
class Planes:
    """One decoded picture: ``luma_HW`` and ``chroma_HWC`` (half as wide and high, Cb and Cr) on one device.

    uint8; or uint16, where a sample of 10 or 12 bits stands in the highest bits.
    """

    luma_HW: Tensor
    chroma_HWC: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return self.luma_HW.shape[0], self.luma_HW.shape[1]

    def cut(self, top: int, left: int, height: int, width: int) -> Planes:
        """A part of the picture; all four numbers are even."""
        return Planes(
            self.luma_HW[top : top + height, left : left + width],
            self.chroma_HWC[top // 2 : (top + height) // 2, left // 2 : (left + width) // 2],
        )


def to_rgb(planes: Planes, size: tuple[int, int], colour: Colour) -> Tensor:
    """uint8 [height, width, 3] RGB of ``size`` on the device of ``planes``.

    Y, Cb and Cr are rounded to 8 bits after scaling, then converted in whole numbers: see ``_Conversion``.
    """
    height, width = size
    y_HW = _scaled(planes.luma_HW[None], height, width)[0]
    # swscale makes one colour for each two pixels of a row of RGB.
    chroma_CHW = _scaled(planes.chroma_HWC.permute(2, 0, 1), height, (width + 1) // 2, CHROMA_LEFT)
    cb_HW, cr_HW = chroma_CHW.repeat_interleave(2, dim=2)[:, :, :width]
    to = _conversion(colour.matrix, colour.full_range)
    green_HW = _step(cb_HW, -to.green_cb) + _step(cr_HW, -to.green_cr)
    steps_HW3 = torch.stack([_step(cr_HW, to.red_cr), green_HW, _step(cb_HW, to.blue_cb)], dim=2)
    rgb_HW3 = (to.luma * (y_HW[:, :, None] + steps_HW3) + to.constant) >> 16
    return rgb_HW3.clamp(0, 255).to(torch.uint8)


def _scaled(planes_CHW: Tensor, height: int, width: int, left: float = 0.0) -> Tensor:
    """int32 [C, height, width], 0 to 255. ``left``: how far left of the middle of its pixels a sample lies, in pixels.

    Two products of float32 matrices: 1.3 GFLOP for 1080p at 224x224.
    """
    samples_CHW = planes_CHW.to(torch.float32)
    if planes_CHW.dtype == torch.uint16:
        samples_CHW = samples_CHW / 256
    rows_HH = _kernel(planes_CHW.shape[1], height, 0.0, planes_CHW.device)
    columns_WW = _kernel(planes_CHW.shape[2], width, left, planes_CHW.device)
    scaled_CHW = rows_HH @ (samples_CHW @ columns_WW.T)
    return (scaled_CHW + 0.5).floor().clamp(0, 255).to(torch.int32)


@lru_cache(maxsize=64)
def _kernel(samples: int, wanted: int, left: float, device: torch.device) -> Tensor:
    """float32 [wanted, samples]: the shares of the samples in each scaled one. The kernel is a triangle as wide as the
    scaled pixels are apart; what of it lies outside of the picture is taken from the sample at the edge."""
    ratio = samples / wanted
    radius = max(1.0, ratio)
    shares = np.zeros((wanted, samples), np.float64)
    for number in range(wanted):
        middle = (number + 0.5) * ratio - 0.5 + left
        places = np.arange(math.floor(middle - radius), math.ceil(middle + radius) + 1)
        np.add.at(shares[number], places.clip(0, samples - 1), np.maximum(0.0, 1.0 - np.abs(places - middle) / radius))
    return torch.from_numpy(shares / shares.sum(axis=1, keepdims=True)).to(torch.float32).to(device)


def _step(chroma_HW: Tensor, slope: int) -> Tensor:
    """By how many steps of luma a colour moves one of red, green and blue, rounded down."""
    return ((chroma_HW * slope) >> 16) - (slope >> 9)


@dataclass(frozen=True)
class _Conversion:
    """swscale's conversion to RGB of 8 bits, in 1/65536.

    It counts a colour in whole steps of luma, and adds these before it multiplies by ``luma``. For the limited range
    its constant makes a picture darker by 1.8 grey levels than H.273 has it. The encoder saw such pictures when it was
    trained, so the same constant is taken here.
    """

    luma: int
    red_cr: int
    blue_cb: int
    green_cb: int
    green_cr: int
    constant: int


@lru_cache(maxsize=64)
def _conversion(matrix: str, full_range: bool) -> _Conversion:
    red, blue = LUMA[matrix]
    green = 1 - red - blue
    luma = ONE if full_range else ONE * 255 // 219

    def in_steps(slope: float) -> int:
        return int(ONE * round(slope * ONE * (1.0 if full_range else 255 / 224)) + ONE // 2) // luma

    first_step, black = (384, 0) if full_range else (326, 16)
    return _Conversion(
        luma=luma,
        red_cr=in_steps(2 * (1 - red)),
        blue_cb=in_steps(2 * (1 - blue)),
        green_cb=in_steps(2 * (1 - blue) * blue / green),
        green_cr=in_steps(2 * (1 - red) * red / green),
        constant=luma * first_step - (384 + black) * ONE + ONE // 2,
    )
