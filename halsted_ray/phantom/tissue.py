"""Pictures of tissue: the field of each procedure, and each organ that is stitched, drawn by formulas.

Lengths are in heights of the picture (x to the right from 0 to 16/9, y down from 0 to 1), so that tissue looks the same
at any resolution. A picture reaches ``MARGIN_X`` and ``MARGIN_Y`` beyond the frame, so that the camera can move.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from halsted_ray.phantom.painter import Colour

WIDTH = 16 / 9
MARGIN_X, MARGIN_Y = 0.34, 0.20
WOUND_X, WOUND_TOP, WOUND_BOTTOM = WIDTH / 2, 0.22, 0.80

Landmark = tuple[float, float, float, float, float, Colour, str]
"""A large structure in the field: x, y, half-axes rx and ry, rotation in degrees, colour, kind of pattern."""

_FIELDS: dict[str, tuple[Colour, str, list[Landmark]]] = {
    "Gastric Bypass": (
        (205, 165, 80),
        "lobes",
        [(0.30, 0.20, 0.42, 0.24, 20, (222, 120, 105), "rugae"), (1.50, 0.25, 0.30, 0.22, 0, (238, 175, 165), "folds")],
    ),
    "Atrial Closure": (
        (150, 45, 40),
        "fibres",
        [(0.35, 0.15, 0.40, 0.26, -10, (105, 35, 85), "smooth"), (1.50, 0.20, 0.24, 0.34, 0, (225, 190, 110), "lobes")],
    ),
    "IMA Harvest": (
        (165, 80, 75),
        "fibres",
        [
            (0.89, 0.04, 1.2, 0.07, 0, (235, 215, 200), "smooth"),
            (0.89, 0.24, 1.2, 0.05, 4, (235, 215, 200), "smooth"),
            (1.45, 0.45, 0.06, 0.60, 8, (90, 40, 110), "smooth"),
        ],
    ),
    "Mitral Stitching": (
        (140, 55, 50),
        "smooth",
        [
            (0.89, 0.10, 0.46, 0.20, 0, (240, 230, 205), "rings"),
            (0.12, 0.35, 0.18, 0.40, 0, (95, 30, 40), "fibres"),
            (1.66, 0.35, 0.18, 0.40, 0, (95, 30, 40), "fibres"),
        ],
    ),
    "Right Colectomy": ((210, 160, 95), "lobes", [(1.55, 0.35, 0.20, 0.62, 0, (190, 140, 120), "haustra")]),
    "Total Mesorectal Excision": (
        (205, 150, 90),
        "fibres",
        [(0.18, 0.35, 0.18, 0.62, 0, (215, 150, 140), "haustra"), (1.45, 0.12, 0.40, 0.20, 0, (80, 30, 35), "smooth")],
    ),
    "Laparoscopic Cholecystectomy": (
        (190, 120, 70),
        "lobes",
        [(0.35, 0.12, 0.62, 0.28, 8, (120, 50, 40), "smooth"), (1.30, 0.16, 0.26, 0.17, 25, (95, 135, 75), "smooth")],
    ),
    "Laparoscopic Hernia": (
        (225, 160, 150),
        "vessels",
        [(1.40, 0.22, 0.22, 0.18, 0, (60, 20, 25), "smooth"), (0.45, 0.25, 0.55, 0.045, 40, (240, 225, 205), "smooth")],
    ),
    "Endometriosis": (
        (220, 125, 125),
        "vessels",
        [
            (0.25, 0.18, 0.09, 0.07, 0, (60, 30, 40), "smooth"),
            (0.52, 0.10, 0.07, 0.06, 0, (60, 30, 40), "smooth"),
            (1.40, 0.20, 0.10, 0.07, 0, (60, 30, 40), "smooth"),
            (1.62, 0.42, 0.08, 0.07, 0, (60, 30, 40), "smooth"),
            (0.16, 0.48, 0.08, 0.06, 0, (60, 30, 40), "smooth"),
            (1.16, 0.08, 0.07, 0.06, 0, (60, 30, 40), "smooth"),
        ],
    ),
    "Hysterectomy": (
        (190, 100, 90),
        "vessels",
        [
            (0.89, 0.06, 0.36, 0.22, 0, (222, 105, 110), "smooth"),
            (0.28, 0.18, 0.34, 0.05, 18, (235, 170, 165), "smooth"),
            (1.50, 0.18, 0.34, 0.05, -18, (235, 170, 165), "smooth"),
        ],
    ),
    "Myomectomy": (
        (205, 85, 95),
        "smooth",
        [
            (0.32, 0.22, 0.24, 0.22, 0, (240, 200, 190), "rings"),
            (1.42, 0.20, 0.20, 0.19, 0, (240, 200, 190), "rings"),
            (0.89, 0.03, 0.15, 0.12, 0, (240, 200, 190), "rings"),
        ],
    ),
    "Pancreaticoduodenectomy": (
        (160, 95, 75),
        "fibres",
        [(0.95, 0.12, 0.75, 0.13, -6, (235, 190, 90), "lobes"), (0.12, 0.40, 0.24, 0.30, 0, (115, 45, 40), "smooth")],
    ),
    "Right Middle Lobectomy": (
        (200, 145, 150),
        "soot",
        [(1.52, 0.45, 0.34, 0.18, 0, (170, 75, 95), "soot"), (0.05, 0.40, 0.14, 0.7, 0, (225, 205, 190), "smooth")],
    ),
    "Right Upper Lobectomy": (
        (200, 145, 150),
        "soot",
        [(0.89, 0.02, 0.70, 0.20, 0, (170, 75, 95), "soot"), (0.05, 0.40, 0.14, 0.7, 0, (225, 205, 190), "smooth")],
    ),
    "Segmentectomy": (
        (200, 145, 150),
        "soot",
        [(0.22, 0.10, 0.62, 0.28, -35, (130, 60, 95), "soot"), (1.70, 0.40, 0.14, 0.7, 0, (225, 205, 190), "smooth")],
    ),
    "Prostatectomy": (
        (200, 120, 75),
        "fibres",
        [
            (0.89, 0.02, 0.62, 0.20, 0, (240, 215, 150), "vessels"),
            (0.05, 0.32, 0.20, 0.36, 0, (100, 40, 35), "smooth"),
            (1.73, 0.32, 0.20, 0.36, 0, (100, 40, 35), "smooth"),
        ],
    ),
}
"""Procedure → (colour of the ground, kind of its pattern, landmarks)."""

_ORGANS: dict[str, tuple[Colour, str]] = {
    "Bile Duct": ((110, 150, 60), "fibres"),
    "Small Intestine": ((245, 170, 160), "folds"),
    "Bladder": ((240, 215, 140), "vessels"),
    "Urethra": ((190, 60, 100), "rings"),
    "Colon": ((185, 135, 85), "haustra"),
    "Left Atrium": ((105, 35, 90), "rugae"),
    "Mitral Annulus": ((245, 238, 220), "rings"),
    "Pancreas": ((238, 180, 60), "lobes"),
    "Peritoneum": ((215, 195, 200), "smooth"),
    "Stomach": ((225, 100, 80), "rugae"),
    "Uterus": ((225, 95, 135), "soot"),
    "Vagina": ((150, 45, 60), "weave"),
}
"""Organ → (colour, kind of pattern)."""


def _noise(rng: np.random.Generator, rows: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Smooth noise [H, W] with ``rows`` waves down the picture, about N(0, 1); it does not depend on the resolution."""
    lattice = rng.standard_normal((rows, int(rows * 1.8))).astype(np.float32)
    return cv2.resize(lattice, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def _pattern(
    kind: str, x: NDArray[np.float32], y: NDArray[np.float32], rough: NDArray[np.float32]
) -> NDArray[np.floating]:
    """Relief [H, W] of a tissue at ``x`` [1, W] and ``y`` [H, 1], about −1 … 1; ``rough`` [H, W] is smooth noise."""
    if kind == "smooth":
        return 0.35 * rough
    if kind == "fibres":
        return 0.8 * np.sin(62 * y + 14 * x + 2.2 * rough)
    if kind == "vessels":
        return 0.7 - 2.4 * np.exp(-((9 * np.sin(9 * x + 5 * y + 2.0 * rough)) ** 2))
    if kind == "lobes":
        return 1.3 * np.tanh(2.5 * np.sin(30 * x + rough) * np.sin(34 * y + rough))
    if kind == "soot":
        return 0.7 - 2.2 * (np.sin(21 * x + 1.5 * rough) * np.sin(25 * y - 1.2 * rough) > 0.55)
    if kind == "rugae":
        return 1.0 * np.tanh(2 * np.sin(33 * (x - y) + 1.2 * rough))
    if kind == "folds":
        return 1.1 * np.tanh(2 * np.sin(44 * y + 0.9 * rough))
    if kind == "haustra":
        return 1.6 * np.abs(np.sin(15 * y + 0.5 * rough)) - 1.0
    if kind == "rings":
        return 1.1 * np.sin(36 * np.hypot(x - WOUND_X, y - 0.5) + 0.8 * rough)
    if kind == "weave":
        return 1.2 * np.sin(40 * x + 0.5 * rough) * np.sin(40 * y)
    raise AssertionError(kind)


class _Canvas:
    """The coordinates of a picture's pixels, and the noise on it, with its margins; ``sx`` and ``sy`` are pixels per
    height of the picture, across and down."""

    def __init__(self, rng: np.random.Generator, sx: float, sy: float):
        self.height, self.width = round((1 + 2 * MARGIN_Y) * sy), round((WIDTH + 2 * MARGIN_X) * sx)
        self.x = ((np.arange(self.width, dtype=np.float32) + 0.5) / sx - MARGIN_X)[None, :]
        self.y = ((np.arange(self.height, dtype=np.float32) + 0.5) / sy - MARGIN_Y)[:, None]
        shape = (self.height, self.width)
        self.rough = _noise(rng, 9, shape)
        self.shade = 0.07 * _noise(rng, 5, shape) + 0.05 * _noise(rng, 26, shape) + 0.035 * _noise(rng, 70, shape)
        self.gloss = _noise(rng, 34, shape)


def _lay(
    canvas: _Canvas,
    image: NDArray[np.float32],
    colour: ArrayLike,
    kind: str,
    cover: NDArray[np.floating],
    relief: NDArray[np.floating] | float,
) -> None:
    """Lays tissue of ``colour`` over ``image`` (HWC), as far as ``cover`` [H, W] (0 … 1) says.

    ``relief`` [H, W] makes it lighter or darker. Costs nothing for rows and columns where ``cover`` is 0.
    """
    rows, columns = np.flatnonzero(cover.any(axis=1)), np.flatnonzero(cover.any(axis=0))
    if not len(rows):
        return
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    x, y = canvas.x[:, box[1]], canvas.y[box[0]]
    shade = 1 + 0.16 * _pattern(kind, x, y, canvas.rough[box]) + canvas.shade[box]
    shade = shade + (relief[box] if isinstance(relief, np.ndarray) else relief)
    weight = cover[box][:, :, None]
    image[box] += weight * (shade[:, :, None] * np.asarray(colour, np.float32) - image[box])


def _landmark(canvas: _Canvas, image: NDArray[np.float32], landmark: Landmark, rng: np.random.Generator) -> None:
    """Lays a landmark over ``image``, with random differences of place, size, rotation and colour."""
    x, y, rx, ry, degrees, colour, kind = landmark
    x, y = x + rng.uniform(-0.05, 0.05), y + rng.uniform(-0.03, 0.03)
    rx, ry = rx * rng.uniform(0.92, 1.08), ry * rng.uniform(0.92, 1.08)
    angle = np.deg2rad(degrees + rng.uniform(-5, 5))
    dx, dy = canvas.x - x, canvas.y - y
    d = np.hypot((dx * np.cos(angle) + dy * np.sin(angle)) / rx, (dy * np.cos(angle) - dx * np.sin(angle)) / ry)
    d = d + 0.06 * canvas.rough
    softness = 0.012 / min(rx, ry)
    image *= 1 - 0.35 * np.clip((1.0 + 0.06 / min(rx, ry) - d) / (0.06 / min(rx, ry)), 0, 1)[:, :, None]
    cover = np.clip((1 - d) / softness, 0, 1)
    tint = np.asarray(colour) * rng.uniform(0.94, 1.06, 3)
    _lay(canvas, image, tint, kind, cover, 0.12 - 0.3 * np.clip(d, 0, 1) ** 2)


def _finish(canvas: _Canvas, image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The picture with the glossy spots of wet tissue, in 8 bits."""
    image += (np.clip((canvas.gloss - 1.75) * 4, 0, 1) * 120)[:, :, None]
    return np.clip(image, 0, 255).astype(np.uint8)


@lru_cache(maxsize=2)
def _ground(procedure: str, variant: int, sx: float, sy: float) -> tuple[_Canvas, NDArray[np.float16]]:
    """(canvas, picture) of a procedure's field without an organ."""
    rng = np.random.default_rng([variant, 23])
    canvas = _Canvas(rng, sx, sy)
    colour, kind, landmarks = _FIELDS[procedure]
    image = np.zeros((canvas.height, canvas.width, 3), np.float32)
    tint = np.asarray(colour) * rng.uniform(0.94, 1.06, 3)
    _lay(canvas, image, tint, kind, np.ones(image.shape[:2], np.float32), 0.0)
    for landmark in landmarks:
        _landmark(canvas, image, landmark, rng)
    return canvas, image.astype(np.float16)


def picture(procedure: str, variant: int, anatomy: str | None, sx: float, sy: float) -> NDArray[np.uint8]:
    """The field of ``procedure`` with the organs ``anatomy`` laid open for a stitch (None: without an organ).

    uint8 [(1 + 2·MARGIN_Y)·sy, (WIDTH + 2·MARGIN_X)·sx, 3] RGB. ``variant`` decides small differences of layout, tint
    and texture. A wound runs down the middle of an organ; of a pair of organs, the first lies to the left and the other
    to the right. Takes about 0.1 s at 640×360 and 1.5 s at 1080p, so callers keep pictures that they use again.
    """
    canvas, ground = _ground(procedure, variant, sx, sy)
    image = ground.astype(np.float32)
    if anatomy is None:
        return _finish(canvas, image)
    left, _, right = anatomy.partition("–")
    for organ, side in ((left, -1), (right or left, 1)):
        edge = WOUND_X + 0.006 * canvas.rough
        inside = 1 - ((np.abs(canvas.x - WOUND_X) / 0.50) ** 4 + (np.abs(canvas.y - 0.51) / 0.36) ** 4)
        cover = np.clip((inside + 0.05 * canvas.rough) * 18, 0, 1) * np.clip((canvas.x - edge) * side * 80 + 0.5, 0, 1)
        colour, kind = _ORGANS[organ]
        lip = -0.45 * np.exp(-(((canvas.x - edge) / 0.05) ** 2))
        _lay(canvas, image, colour, kind, cover, lip + 0.10 * np.clip(inside, 0, 1))
    along = np.clip(np.minimum(canvas.y - WOUND_TOP, WOUND_BOTTOM - canvas.y) * 30, 0, 1)
    gap = along * np.clip(1.4 - np.abs(canvas.x - WOUND_X - 0.006 * canvas.rough) / 0.020, 0, 1)
    image += gap[:, :, None] * (np.array([120, 8, 15], np.float32) - image)
    return _finish(canvas, image)
