"""Draws antialiased shapes on a picture. Lengths are in heights of the picture: x runs from 0 to 16/9, y from 0 to 1.

Pixels need not be square. Every shape is a filled polygon, so a picture that is drawn into a square looks like a wide
picture that was squeezed into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

_TURN = np.linspace(0, 2 * np.pi, 18, endpoint=False)
CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
Colour = tuple[int, int, int]
"""Red, green and blue, 0 … 255."""
Point = Sequence[float] | NDArray[np.float64]
"""(x, y) in heights of the picture."""

_OVERREACH_PIXELS = 0.7


def shrunk(points: NDArray[np.float64], by: float) -> NDArray[np.float64]:
    """A convex polygon [N, 2] with every side moved inward by ``by``; by less where the polygon is too thin."""
    side = np.roll(points, -1, axis=0) - points
    side /= np.maximum(np.hypot(side[:, 0], side[:, 1]), 1e-9)[:, None]
    before = np.roll(side, 1, axis=0)
    # Where two sides meet, the corner moves along both by 1 / sin of the angle between them.
    turn = before[:, 0] * side[:, 1] - before[:, 1] * side[:, 0]
    step = (side - before) * (by / np.maximum(np.abs(turn), 0.35))[:, None]
    centre = points.mean(axis=0)
    reach = np.hypot(*(points - centre).T)[:, None]
    size = np.hypot(step[:, 0], step[:, 1])[:, None]
    return points + step * np.minimum(1, 0.4 * reach / np.maximum(size, 1e-9))


class Painter:
    """Draws on ``image`` (uint8 HWC RGB), in place. A point p is shown at ``(p * zoom + shift) * scale`` pixels.

    OpenCV's antialiased fill reaches about 0.7 pixel beyond its polygon (measured). Shapes are drawn thinner by that
    much. Otherwise a thread in a picture of 112 pixels would look twice as bold as in a large picture scaled down.
    """

    def __init__(self, image: NDArray[np.uint8], scale: NDArray[np.float64], zoom: float, shift: NDArray[np.float64]):
        self.image = image
        self.scale = scale
        self._k = scale * (zoom * 16)
        # cv2 takes whole coordinates at pixel centres, hence the half pixel.
        self._b = (shift * scale - 0.5) * 16
        self._over = _OVERREACH_PIXELS / (scale * zoom)
        self._area = float(scale[0] * scale[1]) * zoom
        self.overreach = round(_OVERREACH_PIXELS / float(np.sqrt(scale[0] * scale[1])), 4)

    def poly(self, points: ArrayLike, colour: Colour) -> None:
        """Draws a convex polygon [N, 2]."""
        pixels = (shrunk(np.asarray(points, float), self.overreach) * self._k + self._b).astype(np.int32)
        cv2.fillConvexPoly(self.image, pixels, colour, cv2.LINE_AA, 4)

    def shape(self, points: ArrayLike, colour: Colour) -> None:
        """Draws any polygon [N, 2], without making it thinner."""
        pixels = (np.asarray(points) * self._k + self._b).astype(np.int32)
        cv2.fillPoly(self.image, [pixels], colour, cv2.LINE_AA, 4)

    def polys(self, points: NDArray[np.float64], parts: list[tuple[int, int, Colour]]) -> None:
        """Draws many convex polygons without making them thinner: ``points[start:stop]`` in each part's colour."""
        pixels = (points * self._k + self._b).astype(np.int32)
        for start, stop, colour in parts:
            cv2.fillConvexPoly(self.image, pixels[start:stop], colour, cv2.LINE_AA, 4)

    def disc(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """Draws an ellipse around (x, y) with the half-axes ``rx`` and ``ry``."""
        rx, ry = max(rx - self._over[0], 0.3 * rx), max(ry - self._over[1], 0.3 * ry)
        pixels = ((CIRCLE * (rx, ry) + (x, y)) * self._k + self._b).astype(np.int32)
        cv2.fillConvexPoly(self.image, pixels, colour, cv2.LINE_AA, 4)

    def bar(self, a: Point, b: Point, width: float, colour: Colour) -> None:
        """Draws a straight band of ``width`` from ``a`` to ``b``."""
        dx, dy = b[0] - a[0], b[1] - a[1]
        length = (dx * dx + dy * dy) ** 0.5 or 1e-6
        dx, dy = dx / length, dy / length
        # Pixels across the band per unit of its width, on pixels that need not be square.
        across = self._area / float(np.hypot(dx * self.scale[0], dy * self.scale[1]))
        half = max(width / 2 - _OVERREACH_PIXELS / across, 0.15 * width)
        nx, ny = -dy * half, dx * half
        ex, ey = dx * min(self.overreach, length / 3), dy * min(self.overreach, length / 3)
        corners = np.array(
            (
                (a[0] + nx + ex, a[1] + ny + ey),
                (b[0] + nx - ex, b[1] + ny - ey),
                (b[0] - nx - ex, b[1] - ny - ey),
                (a[0] - nx + ex, a[1] - ny + ey),
            )
        )
        cv2.fillConvexPoly(self.image, (corners * self._k + self._b).astype(np.int32), colour, cv2.LINE_AA, 4)

    def band(self, points: ArrayLike, width: float, colour: Colour) -> None:
        """Draws a curved band of ``width`` along ``points`` [N, 2]."""
        points = np.asarray(points, float)
        # As np.gradient does it, which takes three times as long for so few points.
        along = np.empty_like(points)
        along[0], along[-1] = points[1] - points[0], points[-1] - points[-2]
        along[1:-1] = (points[2:] - points[:-2]) / 2
        along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
        across = along[:, ::-1] * (-1, 1) * max(width / 2 - self.overreach, 0.15 * width)
        self.shape(np.concatenate([points + across, (points - across)[::-1]]), colour)

    def cloud(self, x: float, y: float, rx: float, ry: float, colour: Colour, strength: float) -> None:
        """Draws a soft translucent spot around (x, y), densest (``strength``, 0 … 1) in its middle."""
        cx, cy = (np.array((x, y)) * self._k + self._b) / 16
        width, height = int(rx * self._k[0] / 8) | 1, int(ry * self._k[1] / 8) | 1
        left, top = round(cx - width / 2), round(cy - height / 2)
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + width, self.image.shape[1]), min(top + height, self.image.shape[0])
        if x1 <= x0 or y1 <= y0:
            return
        keep, add = _sprite(width, height, colour, round(strength * 10))
        part, box = self.image[y0:y1, x0:x1], np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        cv2.multiply(part, keep[box], dst=part, scale=1 / 255)
        cv2.add(part, add[box], dst=part)


@lru_cache(maxsize=24)  # up to 4 MB each at 1080p
def _sprite(width: int, height: int, colour: Colour, tenths: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(how much of the picture beneath stays, the light that is added), both uint8 [height, width, 3]."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    cover = np.clip(1 - np.hypot(x, y), 0, 1) ** 0.8 * (tenths / 10)
    cover = cover[:, :, None].astype(np.float32)
    keep = np.repeat(255 * (1 - cover), 3, axis=2)
    return np.rint(keep).astype(np.uint8), np.rint(cover * np.asarray(colour, np.float32)).astype(np.uint8)
