"""How the 21 instruments look: the shape of the tip, and two coloured bands on the shaft behind the tip.

The bands are a code by which people, too, can tell the instruments apart: every ordered pair of colours is one
instrument. A band is at least a twentieth of the picture's width long, a tip a tenth.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halsted_ray.phantom.painter import Colour, Painter, Point, shrunk

SHAFT = 0.10
"""Width of the shaft; this and the next two lengths are in heights of the picture."""
TIP = 0.20
"""Length of the tip."""
BAND = 0.10
"""Length of one coloured band."""
_COLOURS = {
    "b": (30, 70, 255),
    "g": (30, 215, 60),
    "y": (255, 235, 30),
    "w": (250, 250, 250),
    "p": (190, 50, 255),
    "c": (30, 235, 235),
}
_STEEL, _DARK, _GOLD = (205, 210, 220), (70, 72, 80), (225, 185, 80)

LOOKS: dict[str, tuple[str, Colour, str]] = {
    "Bipolar Dissector": ("dissector", _STEEL, "bg"),
    "Maryland Grasper": ("dissector", _GOLD, "gb"),
    "Bipolar Forceps": ("forceps", _STEEL, "by"),
    "Fenestrated Forceps": ("forceps", _STEEL, "yb"),
    "Cadiere Forceps": ("forceps", _GOLD, "bw"),
    "Prograsp Forceps": ("forceps", _GOLD, "wb"),
    "Bipolar Grasper": ("grasper", _STEEL, "bp"),
    "Fenestrated Grasper": ("grasper", _STEEL, "pb"),
    "Grasper": ("grasper", _GOLD, "gy"),
    "Monopolar Scissors": ("scissors", _STEEL, "yg"),
    "Scissors": ("scissors", _STEEL, "gw"),
    "Shears": ("scissors", _GOLD, "wg"),
    "Cautery Hook": ("hook", _STEEL, "gp"),
    "Hook Monopolar": ("hook", _GOLD, "pg"),
    "Cautery Spatula": ("spatula", _STEEL, "yw"),
    "Clip Applier": ("clipper", _STEEL, "wy"),
    "Clipper": ("clipper", _GOLD, "yp"),
    "Stapler": ("stapler", _DARK, "py"),
    "Vessel Sealer": ("sealer", _DARK, "wp"),
    "Needle Driver": ("driver", _GOLD, "pw"),
    "Suction": ("tube", _STEEL, "cy"),
    "Assistant": ("paddle", _STEEL, ""),
    "Plain": ("forceps", _DARK, ""),
}
"""Instrument → (shape of the tip, colour of the tip, colours of the bands from the tip backwards)."""
OTHER_MAKE_FADE = 0.45
"""Of another maker's instruments: how far the colour of a band is faded to grey. The order of the bands stays, so that
the instrument can still be known."""

Jaw = tuple[NDArray[np.float64], int]
"""(polygon [N, 2] from the hinge at x = 0 to the very tip, the way in which it swings open: −1, 0 or 1)."""


def _mirrored(points: ArrayLike) -> list[Jaw]:
    """An upper jaw and its mirror image, which open in opposite directions."""
    upper = np.asarray(points, float) * (TIP, TIP)
    return [(upper, -1), (upper * (1, -1), 1)]


# Points in lengths of the tip: the hinge at (0, 0), the very tip at (1, 0). The upper jaw has y <= 0.
_JAWS: dict[str, list[Jaw]] = {
    "dissector": _mirrored([(0, 0.02), (0, -0.20), (0.45, -0.26), (1.0, -0.02), (0.6, 0.0)]),
    "forceps": _mirrored([(0, 0.02), (0, -0.16), (0.95, -0.16), (1.0, 0.0)]),
    "grasper": _mirrored([(0, 0.02), (0.1, -0.25), (0.75, -0.33), (1.0, -0.18), (1.0, 0.0)]),
    "scissors": _mirrored([(-0.05, 0.12), (0, -0.22), (0.5, -0.20), (1.1, 0.03)]),
    "hook": [
        (np.array([(0, -0.08), (1.0, -0.08), (1.0, 0.08), (0, 0.08)]) * TIP, 0),
        (np.array([(0.82, -0.60), (1.02, -0.60), (1.02, 0.0), (0.82, 0.0)]) * TIP, 0),
    ],
    "spatula": [
        (np.array([(0, -0.09), (0.5, -0.09), (0.5, 0.09), (0, 0.09)]) * TIP, 0),
        (np.array([(0.42, -0.28), (0.92, -0.28), (1.05, 0.0), (0.92, 0.28), (0.42, 0.28)]) * TIP, 0),
    ],
    "clipper": _mirrored([(0, -0.02), (0.15, -0.36), (0.85, -0.40), (1.05, -0.10), (0.85, -0.14), (0.25, -0.10)]),
    "stapler": _mirrored([(-0.1, 0.02), (-0.1, -0.26), (1.5, -0.26), (1.6, -0.10), (1.5, 0.0)]),
    "sealer": _mirrored([(-0.1, 0.02), (0, -0.34), (0.9, -0.34), (1.05, 0.0)]),
    "driver": _mirrored([(0, 0.02), (0, -0.26), (0.9, -0.14), (1.0, 0.0)]),
    "tube": [
        (np.array([(0, -0.16), (1.0, -0.16), (1.0, 0.16), (0, 0.16)]) * TIP, 0),
        (np.array([(0.86, -0.10), (1.0, -0.10), (1.0, 0.10), (0.86, 0.10)]) * TIP, 0),
    ],
    "paddle": [(np.array([(0, 0), (0.9, -0.75), (1.15, 0.0), (0.9, 0.75)]) * TIP, 0)],
}
_REACH = 2.4


@lru_cache(maxsize=256)
def _parts(
    name: str, overreach: float, other_make: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[tuple[int, int, Colour]]]:
    """(points [N, 2], swing [N], parts for ``Painter.polys``) of an instrument.

    x runs along the instrument and is 0 at its very tip. ``swing`` says in which direction a point turns when the jaws
    open: −1, 0 or 1. ``other_make``: as of ``draw``.
    """
    family, colour, bands = LOOKS[name]
    points: list[tuple[float, float]] = []
    swing: list[int] = []
    parts: list[tuple[int, int, Colour]] = []

    def metal(tone: Colour) -> Colour:
        return (255 - tone[0], 255 - tone[1], 255 - tone[2]) if other_make else tone

    def band(tone: Colour) -> Colour:
        if not other_make:
            return tone
        grey = sum(tone) / 3
        red, green, blue = (round(value + OTHER_MAKE_FADE * (grey - value)) for value in tone)
        return red, green, blue

    def add(polygon: NDArray[np.float64], turn: int, tone: Colour) -> None:
        parts.append((len(points), len(points) + len(polygon), tone))
        points.extend((x, y) for x, y in shrunk(polygon, overreach))
        swing.extend([turn] * len(polygon))

    def box(x0: float, x1: float, y0: float, y1: float, tone: Colour) -> None:
        add(np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float), 0, tone)

    half = SHAFT / 2
    box(-_REACH, -TIP * 0.9, -half, half, metal((48, 50, 58)))
    box(-_REACH, -TIP * 0.9, -half * 0.55, -half * 0.1, metal((120, 124, 134)))
    if name == "Assistant":
        for i in range(4):
            box(-TIP - 0.14 - 0.16 * i, -TIP - 0.06 - 0.16 * i, -half, half, band((240, 240, 240)))
    for i, code in enumerate(bands):
        box(-TIP - 0.02 - BAND * (i + 1), -TIP - 0.02 - BAND * i, -half * 1.15, half * 1.15, band(_COLOURS[code]))
    box(-TIP - 0.025, -TIP + 0.025, -half * 0.8, half * 0.8, metal((150, 152, 160)))
    for polygon, turn in _JAWS[family]:
        dark = (int(colour[0] * 0.72), int(colour[1] * 0.72), int(colour[2] * 0.72))
        add(polygon - (TIP, 0), turn, metal(colour if turn <= 0 else dark))
    return np.asarray(points), np.asarray(swing, float), parts


def draw(painter: Painter, name: str, port: Point, tip: Point, opening: float, *, other_make: bool = False) -> None:
    """Draws the instrument ``name`` from its ``port`` to its very ``tip``, with the jaws open by ``opening`` (0 … 1 is
    0 … 80 degrees). ``other_make``: as another maker builds it, with dark metal where it was light, a light shaft, and
    faded bands."""
    points, swing, parts = _parts(name, painter.overreach, other_make)
    angle = swing * (opening * np.deg2rad(40))
    cos, sin = np.cos(angle), np.sin(angle)
    x = points[:, 0] + TIP
    own = np.empty_like(points)
    own[:, 0] = x * cos - points[:, 1] * sin - TIP
    own[:, 1] = x * sin + points[:, 1] * cos
    dx, dy = tip[0] - port[0], tip[1] - port[1]
    length = (dx * dx + dy * dy) ** 0.5 or 1e-6
    dx, dy = dx / length, dy / length
    painter.polys(own @ np.array([(dx, dy), (-dy, dx)]) + np.asarray(tip), parts)
