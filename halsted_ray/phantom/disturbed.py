"""Views inside the body that look least like it: smoke, blood or fog on the lens, darkness, glare, tissue too close.

They are what a detector of the outside is most easily wrong about. Each takes the picture of the body as it would be
and gives what the camera shows instead. Lengths are in heights of the picture.

Shapes: H, W height and width of a frame in pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from halsted_ray.phantom.instruments import LOOKS, draw
from halsted_ray.phantom.painter import Painter
from halsted_ray.phantom.room import Image, Scene
from halsted_ray.phantom.tissue import WIDTH


def _clouds(rng: np.random.Generator, width: int, height: int, rows: int) -> NDArray[np.float32]:
    """Smooth noise [H, W] from 0 to 1, whose right edge goes on at its left: it can be rolled without a seam."""
    lattice = np.tile(rng.random((rows, int(rows * 1.8)), np.float32), (1, 3))
    noise = cv2.resize(lattice, (3 * width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(noise[:, width : 2 * width], 0, 1)


def _mixed(image: Image, cover: NDArray[np.floating], colour: NDArray[np.floating]) -> Image:
    cover = cover[..., None].astype(np.float32)
    return np.clip(image * (1 - cover) + cover * colour.astype(np.float32), 0, 255).astype(np.uint8)


def smoke(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Smoke that thickens and thins, up to a grey picture."""
    first, second = _clouds(rng, width, height, 4), _clouds(rng, width, height, 6)
    dense, level, pace = (
        float(rng.uniform(0.4, 0.97)),
        rng.uniform(110, 225) * rng.uniform(0.94, 1.03, 3),
        rng.uniform(0.2, 1),
    )

    def scene(inside: Image, t_s: float, share: float) -> Image:
        shift = int(pace * t_s * width * 0.3) % width
        cover = 0.6 + 0.4 * (np.roll(first, shift, 1) + np.roll(second, -shift // 2, 1) - 1)
        return _mixed(inside, np.clip(cover * dense * np.sin(np.pi * np.clip(share, 0.15, 0.85)), 0, 1), level)

    return scene


def dense_smoke(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Smoke before all of the picture, grey or brown, in which little of the body is left to see."""
    first, second = _clouds(rng, width, height, 3), _clouds(rng, width, height, 5)
    least, most = float(rng.uniform(0.6, 0.85)), float(rng.uniform(0.88, 0.97))
    level, pace = rng.uniform(90, 235) * rng.uniform((0.97, 0.9, 0.8), (1.06, 1.03, 1.05)), float(rng.uniform(0.1, 1))

    def scene(inside: Image, t_s: float, _share: float) -> Image:
        shift = int(pace * t_s * width * 0.3) % width
        cover = least + (most - least) * (0.5 * np.roll(first, shift, 1) + 0.5 * np.roll(second, -shift // 2, 1))
        lit = (0.85 + 0.3 * np.roll(second, shift // 3, 1))[..., None] * level
        return _mixed(inside, cover, lit)

    return scene


def blood_on_lens(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Blood that covers a part of the lens, or all of it: dark red, out of focus."""
    field, least = _clouds(rng, width, height, int(rng.integers(3, 7))), float(rng.uniform(0.15, 0.6))
    colour, dense = np.array([rng.uniform(70, 170), rng.uniform(0, 25), rng.uniform(0, 30)]), float(rng.uniform(0.6, 1))
    cover = cv2.GaussianBlur(np.clip((field - least) * 6, 0, 1), (0, 0), height / 40 + 0.3) * dense

    def scene(inside: Image, _t_s: float, _share: float) -> Image:
        return _mixed(inside, cover, colour)

    return scene


def fog(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Condensed water on a cold lens: a blurred and pale picture."""
    sigma, pale = rng.uniform(0.01, 0.06) * height, float(rng.uniform(0.05, 0.5))
    level = rng.uniform(120, 210) * np.array([1.0, rng.uniform(0.85, 1.0), rng.uniform(0.8, 1.0)])

    def scene(inside: Image, _t_s: float, _share: float) -> Image:
        blurred = np.asarray(cv2.GaussianBlur(inside, (0, 0), max(0.3, sigma)), np.uint8)
        return _mixed(blurred, np.full(inside.shape[:2], pale), level)

    return scene


def darkness(rng: np.random.Generator, width: int, height: int) -> Scene:
    """No light: black, with the sensor's noise."""
    left, noise, seed = float(rng.uniform(0, 0.12)), float(rng.uniform(0, 7)), int(rng.integers(1 << 30))

    def scene(inside: Image, t_s: float, _share: float) -> Image:
        grain = np.random.default_rng((seed, round(max(t_s, 0) * 1000))).normal(0, noise, inside.shape)
        return np.clip(inside * left + grain, 0, 255).astype(np.uint8)

    return scene


def close_tissue(rng: np.random.Generator, width: int, height: int) -> Scene:
    """The lens on the tissue: a blurred, glossy surface, brightest where the light is nearest."""
    zoom, x, y = float(rng.uniform(2.5, 8)), float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.15, 0.6))
    red, sigma, bright = rng.uniform(0.9, 1.5), float(rng.uniform(0.01, 0.05)) * height, float(rng.uniform(0.6, 1.5))
    gx = np.linspace(-1, 1, width, dtype=np.float32)[None] - float(rng.uniform(-0.4, 0.4))
    gy = np.linspace(-1, 1, height, dtype=np.float32)[:, None] - float(rng.uniform(-0.4, 0.4))
    light = np.exp(-(gx**2 + gy**2) * float(rng.uniform(0.3, 1.6)))[..., None]
    tint = np.array([red, 0.9 / red**0.5, 0.85 / red**0.5], np.float32)

    def scene(inside: Image, t_s: float, _share: float) -> Image:
        matrix = np.array(
            [[zoom, 0, (0.5 - x * zoom + 0.05 * np.sin(t_s)) * width], [0, zoom, (0.5 - y * zoom) * height]]
        )
        near = cv2.warpAffine(inside, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
        near = cv2.GaussianBlur(near, (0, 0), max(0.3, sigma))
        return np.clip(near * tint * (0.35 + bright * light), 0, 255).astype(np.uint8)

    return scene


def white_balance(rng: np.random.Generator, width: int, height: int) -> Scene:
    """A wrong white balance and exposure, which a camera corrects within seconds."""
    gain = rng.uniform(0.6, 1.5, 3) * rng.uniform(0.6, 1.4)

    def scene(inside: Image, _t_s: float, share: float) -> Image:
        return np.clip(inside * (1 + (gain - 1) * (1 - 0.5 * share)), 0, 255).astype(np.uint8)

    return scene


def glare(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Too much light: tissue burnt out to white around glints."""
    gain, spots = (
        float(rng.uniform(1.4, 3.5)),
        rng.uniform((0.1, 0.1, 0.05), (WIDTH - 0.1, 0.9, 0.4), (int(rng.integers(1, 6)), 3)),
    )

    def scene(inside: Image, t_s: float, _share: float) -> Image:
        image = np.clip(inside * gain, 0, 255).astype(np.uint8)
        p = Painter(image, np.array([width / WIDTH, float(height)]), 1.0, np.zeros(2))
        for x, y, size in spots:
            p.cloud(x + 0.03 * np.sin(t_s), y, size, 0.7 * size, (255, 252, 245), 1.0)
        return image

    return scene


def large_instrument(rng: np.random.Generator, width: int, height: int) -> Scene:
    """An instrument so close to the lens that it fills much of the picture, out of focus."""
    zoom, name = float(rng.uniform(2.5, 7)), sorted(LOOKS)[rng.integers(len(LOOKS))]
    turn, x, y = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.4, 1.4)), float(rng.uniform(0.2, 0.8))
    other, sigma = bool(rng.random() < 0.5), float(rng.uniform(0.003, 0.03)) * height

    def scene(inside: Image, t_s: float, _share: float) -> Image:
        image = inside.copy()
        at = np.array([x + 0.08 * np.sin(1.3 * t_s), y + 0.05 * np.sin(1.9 * t_s)]) / zoom
        p = Painter(image, np.array([width / WIDTH, float(height)]), zoom, np.zeros(2))
        draw(p, name, at + np.array([np.cos(turn), np.sin(turn)]), at, 0.3, other_make=other)
        return np.asarray(cv2.GaussianBlur(image, (0, 0), max(0.3, sigma)), np.uint8)

    return scene


def fluorescence(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Near-infrared light: a grey or black picture in which the dye glows green."""
    green, level = _clouds(rng, width, height, 4), float(rng.uniform(0.1, 0.6))
    glow = np.clip((green - rng.uniform(0.4, 0.7)) * 4, 0, 1)
    colour = np.array([rng.uniform(0, 60), rng.uniform(180, 255), rng.uniform(40, 140)])

    def scene(inside: Image, _t_s: float, _share: float) -> Image:
        grey = np.repeat((inside.mean(2) * level)[..., None], 3, 2)
        return _mixed(grey.astype(np.uint8), glow * 0.8, colour)

    return scene


DISTURBANCES: dict[str, Callable[[np.random.Generator, int, int], Scene]] = {
    "smoke": smoke,
    "dense smoke": dense_smoke,
    "blood on the lens": blood_on_lens,
    "fog": fog,
    "darkness": darkness,
    "close tissue": close_tissue,
    "white balance": white_balance,
    "glare": glare,
    "large instrument": large_instrument,
    "fluorescence": fluorescence,
}
"""Name of a view → what makes it from (random numbers, width, height)."""
