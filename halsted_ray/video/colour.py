"""From a decoded frame's numbers to RGB: which matrix, which range, which transfer.

What the stream says holds. Where it says nothing, the rules of the common players hold, since that is how the picture
was looked at: see ``colour_of``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from av import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

MATRICES: dict[int, str] = {
    0: "RGB",
    1: "BT.709",
    4: "FCC",
    5: "BT.601",
    6: "BT.601",
    7: "SMPTE 240M",
    9: "BT.2020",
    10: "BT.2020",
}
"""Matrices by their number in H.273. The two of BT.2020 (constant luminance or not) are read alike."""

BY_PRIMARIES: dict[int, str] = {
    ColorPrimaries.BT709: "BT.709",
    ColorPrimaries.BT470BG: "BT.601",
    ColorPrimaries.SMPTE170M: "BT.601",
    ColorPrimaries.BT2020: "BT.2020",
}

SWSCALE: dict[str, Colorspace | None] = {
    "RGB": None,
    "BT.709": Colorspace.ITU709,
    "FCC": Colorspace.FCC,
    "BT.601": Colorspace.ITU601,
    "SMPTE 240M": Colorspace.SMPTE240M,
    "BT.2020": Colorspace.BT2020,
}

LUMA: dict[str, tuple[float, float]] = {
    "BT.709": (0.2126, 0.0722),
    "FCC": (0.30, 0.11),
    "BT.601": (0.299, 0.114),
    "SMPTE 240M": (0.212, 0.087),
    "BT.2020": (0.2627, 0.0593),
}
"""The shares of red and blue in luma."""

TRANSFERS: dict[int, str] = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}
"""The transfers of high dynamic range. All others look alike on a screen, and are left as they are."""

LARGEST_SD_HEIGHT, LARGEST_SD_WIDTH = 576, 1279
"""A picture beyond either is HD: BT.709 where its stream names neither matrix nor primaries. Smaller pictures are
BT.601. mpv, VLC and the browsers decide so."""

LIMITED_GRAY = ("h264", "hevc", "av1", "vvc")
"""Codecs whose standard says that gray without a stated range is limited (16 to 235)."""


@dataclass(frozen=True)
class Colour:
    """How a frame's numbers stand for colours.

    ``matrix``: a key of ``SWSCALE``. ``full_range``: whether black is 0 and white the largest number, else 16 and 235
    (of 8 bits). ``transfer``: ``SDR``, ``PQ`` or ``HLG``. ``is_stated``: whether the stream names the matrix itself.
    """

    matrix: str
    full_range: bool
    transfer: str = "SDR"
    is_stated: bool = True
    is_gray: bool = False
    remark: str = ""


def colour_of(frame: VideoFrame, codec: str) -> Colour:
    """How the numbers of a frame stand for colours, by its own tags, and by rule where it has none.

    The matrix is the one that is tagged, else the one of the tagged primaries, else BT.709 for HD and BT.601 for
    smaller pictures. Without a tag the range is limited, full for the JPEG formats and for RGB. ``codec``: libavcodec's
    name of the decoder.
    """
    return _colour(
        frame.format.name,
        frame.colorspace,
        frame.color_range,
        frame.color_trc,
        frame.color_primaries,
        is_hd(frame.width, frame.height),
        codec,
    )


def is_hd(width: int, height: int) -> bool:
    """Whether a picture without tags is taken for BT.709."""
    return width > LARGEST_SD_WIDTH or height > LARGEST_SD_HEIGHT


@lru_cache(maxsize=256)
def _colour(pixels: str, matrix: int, value_range: int, trc: int, primaries: int, is_hd: bool, codec: str) -> Colour:
    transfer = TRANSFERS.get(trc, "SDR")
    if pixels.startswith(("rgb", "bgr", "gbr", "argb", "abgr", "pal8", "0rgb", "0bgr", "x2", "xyz", "bayer", "mono")):
        return Colour("RGB", True, transfer)
    if pixels.startswith(("gray", "ya")):
        limited = value_range == ColorRange.MPEG or (value_range != ColorRange.JPEG and codec in LIMITED_GRAY)
        return Colour("BT.601", not limited, transfer, is_gray=True)
    full = value_range == ColorRange.JPEG or pixels.startswith("yuvj")
    by_rule = BY_PRIMARIES.get(primaries, "BT.709" if is_hd else "BT.601")
    if (named := MATRICES.get(matrix)) not in (None, "RGB"):
        assert named is not None
        return Colour(named, full, transfer)
    remark = "" if matrix in (0, 2, 3) else f"its colour matrix (number {matrix} of H.273) is read as {by_rule}"
    return Colour(by_rule, full, transfer, is_stated=False, remark=remark)


def to_limits(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Gray of limited range stretched to 0 … 255: swscale takes all gray for full range."""
    return _STRETCH[image]


_STRETCH = np.clip(np.rint((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)

REFERENCE_WHITE_NITS = 203.0
"""The brightness of a white sheet in HDR (BT.2408). It becomes white; what is brighter, mostly glints, is cut off."""

SCREEN_GAMMA = 2.4
"""Of the screen of standard range that the picture is made for (BT.1886)."""

_TO_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)
"""Linear RGB from BT.2020's primaries to BT.709's (BT.2087)."""


def to_standard_range(image_HWC: NDArray[np.uint8], transfer: str) -> NDArray[np.uint8]:
    """RGB of PQ or HLG with BT.2020's primaries as the RGB of standard range, for a screen of BT.709.

    Done after scaling, so that it costs a millisecond and not a pass over every pixel.
    """
    if transfer == "PQ":
        nits_HWC = _NITS_PQ[image_HWC]
    else:  # the light of the scene, by the curve of the screen: BT.2100's OOTF at 1000 nits
        scene_HWC = _LIGHT_HLG[image_HWC]
        luminance_HW1 = scene_HWC @ np.array([[0.2627], [0.6780], [0.0593]], np.float32)
        nits_HWC = np.asarray(1000 * scene_HWC * np.maximum(luminance_HW1, 1e-6) ** 0.2, np.float32)
    white_HWC = np.clip(nits_HWC @ _TO_709.T / REFERENCE_WHITE_NITS, 0, 1)
    return np.asarray(np.rint(255 * white_HWC ** (1 / SCREEN_GAMMA)), np.uint8)


def _pq_nits(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """SMPTE ST 2084: the brightness in nits of signals 0 … 1."""
    root = values ** (32 / 2523)
    above = np.maximum(root - 3424 / 4096, 0)
    return np.asarray(10000 * (above / (2413 / 128 - 2392 / 128 * root)) ** (16384 / 2610), np.float32)


def _hlg_light(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """ARIB STD-B67: the light of the scene, 0 … 1, of signals 0 … 1."""
    bright = (np.exp((values - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return np.asarray(np.where(values <= 0.5, values**2 / 3, bright), np.float32)


_NITS_PQ, _LIGHT_HLG = _pq_nits(np.arange(256) / 255), _hlg_light(np.arange(256) / 255)


def change_matrix(image_HWC: NDArray[np.uint8], used: str, right: str) -> NDArray[np.uint8]:
    """RGB that was computed by the matrix ``used``, as ``right`` gives it; for a reader that has one matrix only.

    Exact up to rounding, but for colours that the wrong matrix put beyond 0 or 255.
    """
    if used == right or "RGB" in (used, right):
        return image_HWC
    change = (_to_rgb(right) @ np.linalg.inv(_to_rgb(used))).astype(np.float32)
    return np.asarray(np.clip(np.rint(image_HWC.astype(np.float32) @ change.T), 0, 255), np.uint8)


def _to_rgb(matrix: str) -> NDArray[np.float64]:
    red, blue = LUMA[matrix]
    green = 1 - red - blue
    v, u = 2 * (1 - red), 2 * (1 - blue)
    return np.array([[1, 0, v], [1, -u * blue / green, -v * red / green], [1, u, 0]])
