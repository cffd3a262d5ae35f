"""Tissue of smooth shapes, soft light and glints, seen by an endoscope at random: nearer to real pictures than a field.

The fields of ``tissue`` are flat and known by their pattern. A detector that has seen only them takes real tissue for
something else, so it is trained on these pictures too. Nothing happens in them.

Shapes: H, W height and width of a frame in pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from halsted_ray.phantom.tissue import WIDTH

_TONES = (
    (120, 35, 40),
    (150, 60, 60),
    (200, 110, 100),
    (225, 150, 135),
    (225, 185, 110),
    (215, 165, 80),
    (190, 130, 105),
    (235, 205, 185),
    (160, 90, 110),
    (95, 25, 35),
    (140, 120, 70),
    (205, 180, 175),
)
"""Liver, muscle, bowel, fat, fascia, vein, gall bladder, lung."""


def _fractal(rng: np.random.Generator, width: int, height: int, rows: int, octaves: int) -> NDArray[np.float32]:
    """Noise [H, W] of ``octaves`` sizes, about N(0, 1); ``rows``: waves down the picture of the largest."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        lattice = rng.standard_normal((rows * 2**octave + 2, int(rows * 2**octave * 1.8) + 2)).astype(np.float32)
        total += 0.55**octave * cv2.resize(lattice, (width, height), interpolation=cv2.INTER_CUBIC)
    return total / float(total.std() + 1e-6)


def natural_tissue(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    """One picture [H, W, 3] RGB of two to five tissues that bulge, with vessels, glints, and light from the camera.

    Takes about 4 ms at 192×108.
    """
    image: NDArray[np.floating] = np.zeros((height, width, 3), np.float32)
    image[:] = _TONES[rng.integers(len(_TONES))]
    relief: NDArray[np.floating] = 0.35 * _fractal(rng, width, height, 2, 3)
    x = np.linspace(0, WIDTH, width, dtype=np.float32)[None]
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    for _ in range(int(rng.integers(1, 5))):
        cx, cy, rx, ry = rng.uniform((0, 0, 0.15, 0.1), (WIDTH, 1, 0.9, 0.6))
        turn, rough = rng.uniform(0, np.pi), _fractal(rng, width, height, 2, 2)
        dx, dy = x - cx, y - cy
        d = np.hypot((dx * np.cos(turn) + dy * np.sin(turn)) / rx, (dy * np.cos(turn) - dx * np.sin(turn)) / ry)
        d = d + 0.22 * rough
        cover = np.clip((1 - d) / 0.05, 0, 1)[..., None]
        tone = np.asarray(_TONES[rng.integers(len(_TONES))], np.float32) * rng.uniform(0.8, 1.1)
        image *= 1 - 0.5 * np.exp(-(((d - 1.03) / 0.08) ** 2))[..., None]  # the shadow beside it
        image = image * (1 - cover) + cover * tone
        relief = relief * (1 - cover[..., 0]) + cover[..., 0] * (1.5 * np.sqrt(np.clip(1 - d * d, 0, 1)) + 0.2 * rough)
    if rng.random() < 0.6:
        vein = np.exp(-((9 * _fractal(rng, width, height, 2, 3)) ** 2))[..., None] * rng.uniform(0.2, 0.8)
        image = image * (1 - vein) + vein * np.array([130, 25, 35], np.float32)
    image *= 1 + rng.uniform(0.02, 0.1) * _fractal(rng, width, height, 12, 3)[..., None]
    gy, gx = np.gradient(cv2.GaussianBlur(relief, (0, 0), height / 90 + 0.3), 1 / height, WIDTH / width)
    facing = 1 / np.sqrt(1 + 0.06 * (gx**2 + gy**2))
    at = rng.uniform((0.4, 0.2), (WIDTH - 0.4, 0.8))
    away = np.hypot(x - at[0], y - at[1])
    light = np.exp(-(away**2) * rng.uniform(0.2, 1.4)) * facing ** rng.uniform(1, 3)
    image *= (0.15 + 1.0 * light)[..., None] * rng.uniform(0.6, 1.25)
    gloss = np.clip((_fractal(rng, width, height, 18, 2) * facing**4 - rng.uniform(1.7, 3.0)) * 3, 0, 1)
    image += (gloss * light * 320)[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)
