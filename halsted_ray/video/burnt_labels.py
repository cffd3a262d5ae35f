"""Words that are drawn into the pictures of a clip: what the map says of each moment, and that a model says so.

Drawn with Pillow, in the letters of DejaVu Sans, which matplotlib carries: both come with MLflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

FONT = ("mpl-data", "fonts", "ttf", "DejaVuSans.ttf")
LINES_PER_PICTURE = 30
"""A line of words takes so small a part of the picture's shorter side."""
LEAST_LINE_PX = 10
SHADE = 0.35
"""How much of the picture's brightness is left behind the words."""
MOST_LETTERS = 120


@dataclass(frozen=True)
class Label:
    """One line of words, shown for [start_s, stop_s) of the source."""

    start_s: float
    stop_s: float
    text: str


class LabelPainter:
    """Draws the labels of each moment at the lower left of a picture, ``footer`` as their last line.

    A block of words is drawn once and laid over all pictures that show the same words.
    """

    def __init__(self, labels: Sequence[Label], footer: str) -> None:
        self.labels, self.footer = labels, footer
        self._blocks: dict[tuple[tuple[str, ...], int, int], NDArray[np.uint8]] = {}

    def __call__(self, image_HWC: NDArray[np.uint8], at_s: float) -> None:
        """Draws on ``image_HWC`` (uint8, RGB) what is shown at ``at_s``."""
        words = (*(one.text for one in self.labels if one.start_s <= at_s < one.stop_s), self.footer)
        height, width = image_HWC.shape[:2]
        name = (words, height, width)
        if name not in self._blocks:
            self._blocks[name] = _drawn(words, height, width)
        block_HW = self._blocks[name]
        rows, columns = block_HW.shape
        below = image_HWC[height - rows :, :columns]
        letters = block_HW[..., None] / 255.0
        below[:] = np.rint(below * SHADE * (1 - letters) + 255.0 * letters).astype(np.uint8)


def _drawn(words: Sequence[str], height: int, width: int) -> NDArray[np.uint8]:
    """How much of each pixel letters cover: uint8 [rows, columns], no larger than the picture."""
    line_px = max(LEAST_LINE_PX, min(height, width) // LINES_PER_PICTURE)
    font = ImageFont.truetype(str(font_file()), round(line_px * 0.75))
    lines = [line[:MOST_LETTERS] for line in words]
    pad = line_px // 3
    columns = min(width, 2 * pad + max(round(font.getlength(line)) for line in lines))
    rows = min(height, 2 * pad + line_px * len(lines))
    block = Image.new("L", (columns, rows), 0)
    pen = ImageDraw.Draw(block)
    for number, line in enumerate(lines):
        pen.text((pad, pad + number * line_px), line, fill=255, font=font)
    return np.asarray(block)


def font_file() -> Path:
    """Where the letters lie. matplotlib is not imported for them: that takes a second."""
    found = find_spec("matplotlib")
    assert found is not None and found.submodule_search_locations, "MLflow brings matplotlib"
    return Path(found.submodule_search_locations[0]).joinpath(*FONT)
