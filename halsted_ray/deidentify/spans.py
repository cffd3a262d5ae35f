"""What is to become black: spans of time, and boxes of the picture for a span of time.

All times are in seconds from the first displayed frame, and spans are half open: [start_s, stop_s).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """A stretch of a video whose whole picture becomes black. ``reason`` is one of a few words, such as
    ``out-of-body``; ``score`` is how sure the finder is, from 0 to 1."""

    start_s: float
    stop_s: float
    reason: str
    score: float

    def __post_init__(self) -> None:
        if not 0 <= self.start_s < self.stop_s:
            raise ValueError(
                f"span [{self.start_s}, {self.stop_s}) s: expected 0 <= start < stop, counted from the first frame"
            )


@dataclass(frozen=True)
class Box:
    """A rectangle of the stored picture, in pixels from its upper left corner: columns [x, x + width), rows
    [y, y + height)."""

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if min(self.x, self.y) < 0 or min(self.width, self.height) <= 0:
            raise ValueError(
                f"box {self.x},{self.y},{self.width},{self.height}: expected x,y,width,height in pixels, x and y from "
                "0, width and height above 0"
            )

    def padded(self, pixels: int) -> Box:
        """The box with ``pixels`` more on each side, as far as the picture's upper left edges allow."""
        x, y = max(0, self.x - pixels), max(0, self.y - pixels)
        return Box(x, y, self.x + self.width + pixels - x, self.y + self.height + pixels - y)

    def hull(self, other: Box) -> Box:
        """The smallest box that holds both."""
        x, y = min(self.x, other.x), min(self.y, other.y)
        right = max(self.x + self.width, other.x + other.width)
        bottom = max(self.y + self.height, other.y + other.height)
        return Box(x, y, right - x, bottom - y)

    def overlap(self, other: Box) -> float:
        """The area that both share, as a part of the smaller one's area: 0 to 1."""
        width = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        height = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        if width <= 0 or height <= 0:
            return 0.0
        return width * height / min(self.width * self.height, other.width * other.height)


@dataclass(frozen=True)
class Mask:
    """A box that becomes black from ``start_s`` to ``stop_s``. ``reason``: ``text``, or ``recorder`` for a fixed mask;
    ``score`` is how sure the finder is, from 0 to 1."""

    start_s: float
    stop_s: float
    box: Box
    reason: str
    score: float = 1.0


def merged(spans: Iterable[tuple[float, float]], gap_s: float = 0.0) -> list[tuple[float, float]]:
    """``[start_s, stop_s)`` pairs in order, those that touch or lie at most ``gap_s`` apart joined."""
    joined: list[tuple[float, float]] = []
    for start_s, stop_s in sorted(spans):
        if joined and start_s - joined[-1][1] <= gap_s:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop_s))
        else:
            joined.append((start_s, stop_s))
    return joined
