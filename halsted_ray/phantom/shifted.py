"""Another camera than the one that models learn from: other lens, light, colours and noise.

What happens in the video, and so its truth, stays the same. The instruments' other look is drawn by ``instruments``,
the stronger compression is the file's (``atlas.phantom_archive``).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

NOISE = 14.0
"""Deviation of the sensor's noise in grey levels, in the middle of the scale; it is half of that in the dark."""
NOISE_PICTURES = 8
"""Noise is drawn once and shown shifted by a random step: drawing it anew takes as long as the scene itself."""


class ShiftedCamera:
    """One camera, drawn from ``seed``: the same arguments give the same pictures. ``width``, ``height``: in pixels."""

    def __init__(self, seed: int, width: int, height: int):
        rng = np.random.default_rng([seed, 53])
        self._seed = seed
        self._map_x, self._map_y, radius = _lens(width, height, float(rng.uniform(0.16, 0.30)))
        light = np.clip(1.12 - float(rng.uniform(0.55, 0.8)) * radius**2, 0.08, 1)
        light[radius > 1.02] = 0  # outside of the endoscope's round picture
        self._light = np.repeat(np.rint(light * 255).astype(np.uint8)[:, :, None], 3, axis=2)
        self._colours = _levels(rng)
        self._blur = float(rng.uniform(0.9, 1.5)) * height / 360
        noise = rng.normal(0, NOISE, (NOISE_PICTURES, height, width, 1)) + rng.normal(
            0, NOISE / 3, (NOISE_PICTURES, height, width, 3)
        )
        self._noise = noise.astype(np.int8)

    def photograph(self, image: NDArray[np.uint8], t_s: float) -> NDArray[np.uint8]:
        """The scene ``image`` as this camera shows it at ``t_s``: uint8 [height, width, 3] RGB."""
        seen = cv2.remap(image, self._map_x, self._map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        seen = cv2.GaussianBlur(seen, (0, 0), self._blur)
        seen = cv2.LUT(cv2.multiply(seen, self._light, scale=1 / 255), self._colours)
        rng = np.random.default_rng([self._seed, 59, round(max(t_s, 0.0) * 1_000_000)])
        noise = self._noise[rng.integers(NOISE_PICTURES)]
        noise = np.roll(noise, (int(rng.integers(noise.shape[0])), int(rng.integers(noise.shape[1]))), (0, 1))
        bright = seen.astype(np.int16)
        return np.clip(bright + noise * (64 + bright) // 192, 0, 255).astype(np.uint8)


def _lens(
    width: int, height: int, barrel: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """(for each pixel the x and the y in the scene [H, W], the pixel's distance from the middle, 1 at the left and
    right border). ``barrel``: by which share of itself a place at the border is pushed inward."""
    x = ((np.arange(width) + 0.5) / width * 2 - 1)[None, :]
    y = ((np.arange(height) + 0.5) / height * 2 - 1)[:, None] * (9 / 16)
    radius = np.hypot(x, y)
    stretch = (1 + barrel * radius**2) / (1 + barrel * 0.35)
    map_x = (np.broadcast_to(x * stretch, radius.shape) + 1) / 2 * width - 0.5
    map_y = (np.broadcast_to(y * stretch, radius.shape) * (16 / 9) + 1) / 2 * height - 0.5
    return map_x.astype(np.float32), map_y.astype(np.float32), radius


def _levels(rng: np.random.Generator) -> NDArray[np.uint8]:
    """uint8 [1, 256, 3]: old → new level per channel: a cast to green or to blue, and another contrast."""
    cast = np.array([0.78, 1.12, 0.98]) if rng.random() < 0.5 else np.array([0.84, 0.98, 1.22])
    cast = cast * rng.uniform(0.95, 1.05, 3)
    gamma = float(rng.choice((0.72, 1.35)))
    levels = 255 * (np.arange(256.0)[:, None] / 255) ** gamma * cast + rng.uniform(0, 14)
    return np.clip(levels + 0.5, 0, 255).astype(np.uint8)[None]
