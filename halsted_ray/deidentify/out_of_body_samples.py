"""Single frames of the inside and the outside of the body to train on, drawn from random numbers, without a file.

Half of the frames are outside. Half of the inside is disturbed (``phantom.disturbed``), since that is where a detector
errs. Every frame is seen by a camera of its own: lens, border, light, colours, focus and noise are drawn anew.

Shapes: N frames, S = 64 pixels, H, W height and width of a frame in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor

import cv2
import numpy as np
from numpy.typing import NDArray

from halsted_ray.deidentify.out_of_body_net import SIZE
from halsted_ray.phantom.disturbed import DISTURBANCES
from halsted_ray.phantom.foreign import FOREIGN
from halsted_ray.phantom.interruptions import OUTSIDE_SHARE, make_interruptions, outside_spans
from halsted_ray.phantom.natural_tissue import natural_tissue
from halsted_ray.phantom.render import Renderer
from halsted_ray.phantom.room import SCENES
from halsted_ray.phantom.script import make_script

WIDTH_PX, HEIGHT_PX = 192, 108
"""Frames are drawn at this size and then scaled down, as a video is."""
FRAMES_A_SCRIPT = 10
"""Frames that share the tissue of one phantom; drawing that takes as long as 20 frames."""
FOREIGN_OUTSIDE = ("empty room", "desktop", "cartoon", "test card", "colour bars")
"""Foreign pictures that count as outside: whatever is no body may show a name."""
FADES, MOST_FAINT = 0.12, 0.1
"""Share of the frames in which two pictures fade into each other; how much of the outside is still called inside."""
SHARE_OF_SCENE = {
    "operating room": 0.22,
    "face": 0.14,
    "instrument table": 0.15,
    "drapes": 0.15,
    "hand": 0.12,
    "gauze": 0.09,
    "trocar": 0.09,
}
"""The rest of the outside is foreign pictures."""

Image = NDArray[np.uint8]


def drawn_frames(seed: int, count: int) -> tuple[Image, NDArray[np.bool_]]:
    """``count`` frames (uint8 [N, S, S, 3] RGB) and whether each is outside (bool [N]), from ``seed`` alone.

    Takes about 15 ms per frame.
    """
    rng = np.random.default_rng([seed, 83])
    frames, outside = [], []
    body: Callable[[], Image] = lambda: natural_tissue(rng, WIDTH_PX, HEIGHT_PX)  # noqa: E731
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for number in range(count):
            if number % FRAMES_A_SCRIPT == 0:
                renderer = _renderer(rng)
            inside = _phantom(rng, renderer) if rng.random() < 0.45 else body()
            is_outside = bool(rng.random() < 0.5)
            image = _outside(rng, inside) if is_outside else _inside(rng, inside)
            if rng.random() < FADES:  # one picture fades into the other
                least = OUTSIDE_SHARE if is_outside else 1 - MOST_FAINT
                weight, other = float(rng.uniform(least, 1)), inside if is_outside else _outside(rng, inside)
                image = (image * weight + other * (1 - weight)).astype(np.uint8)
            frames.append(_photographed(rng, image))
            outside.append(is_outside)
    finally:
        cv2.setNumThreads(threads)
    return np.stack(frames), np.array(outside)


def drawn_set(pool: Executor, seeds: Iterable[int], frames_a_seed: int = 200) -> tuple[Image, NDArray[np.bool_]]:
    """The frames of several seeds, drawn side by side in the processes of ``pool``."""
    seeds = list(seeds)
    parts = list(pool.map(drawn_frames, seeds, [frames_a_seed] * len(seeds)))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _renderer(rng: np.random.Generator) -> Renderer:
    script = make_script(int(rng.integers(1 << 31)), 120.0)
    return Renderer(script, WIDTH_PX, HEIGHT_PX, shifted=bool(rng.random() < 0.4))


def _phantom(rng: np.random.Generator, renderer: Renderer) -> Image:
    return renderer.frame(float(rng.uniform(0, 120)))


def _inside(rng: np.random.Generator, inside: Image) -> Image:
    if rng.random() < 0.5:
        return inside
    names = sorted(DISTURBANCES)
    scene = DISTURBANCES[names[rng.integers(len(names))]](rng, WIDTH_PX, HEIGHT_PX)
    return scene(inside, float(rng.uniform(0, 6)), float(rng.random()))


def _outside(rng: np.random.Generator, inside: Image) -> Image:
    chosen, names = rng.random(), list(SHARE_OF_SCENE)
    place = int(np.searchsorted(np.cumsum(list(SHARE_OF_SCENE.values())), chosen, side="right"))
    if place < len(names):
        image = SCENES[names[place]](rng, WIDTH_PX, HEIGHT_PX)(inside, float(rng.uniform(0, 10)), float(rng.random()))
    else:
        kind = FOREIGN_OUTSIDE[rng.integers(len(FOREIGN_OUTSIDE))]
        image = FOREIGN[kind](rng, WIDTH_PX, HEIGHT_PX)(float(rng.uniform(0, 10)))
    return image


def _photographed(rng: np.random.Generator, image: Image) -> Image:
    """The picture as some camera gives it, at the network's size."""
    seen: NDArray[np.floating] = image.astype(np.float32)
    if rng.random() < 0.5:
        grey = seen.mean(2, keepdims=True)
        seen = grey + (seen - grey) * rng.uniform(0.5, 1.4)
    seen = seen * rng.uniform(0.55, 1.35) * rng.uniform(0.84, 1.18, 3).astype(np.float32)
    seen = 255 * (np.clip(seen, 0, 255) / 255) ** rng.uniform(0.65, 1.5)
    height, width = seen.shape[:2]
    if rng.random() < 0.6:
        turn, zoom = float(rng.choice((0.0, rng.uniform(-180, 180)))), float(rng.uniform(1.0, 1.6))
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn, zoom)
        seen = cv2.warpAffine(seen, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
    if rng.random() < 0.3:
        seen = cv2.GaussianBlur(seen, (0, 0), rng.uniform(0.4, 2.0))
    x = np.linspace(-1, 1, width, dtype=np.float32)[None] * (width / height) - rng.uniform(-0.1, 0.1)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] - rng.uniform(-0.1, 0.1)
    radius = np.hypot(x, y)
    if rng.random() < 0.6:
        seen = seen * np.clip(1 - rng.uniform(0.1, 0.6) * (radius / 1.8) ** 2, 0, 1)[..., None]
    if rng.random() < 0.45:  # an endoscope's round picture
        seen = seen * np.clip((rng.uniform(0.85, 1.75) - radius) * height / 4, 0, 1)[..., None]
    seen = seen + rng.normal(0, rng.uniform(0, 10), (height, width, 1)) + rng.normal(0, rng.uniform(0, 4), seen.shape)
    if rng.random() < 0.25:  # bars beside or above a picture of another shape
        bar, level = float(rng.uniform(0.03, 0.2)), float(rng.choice((0, 0, 16, 30)))
        if rng.random() < 0.6:
            seen[:, : int(bar * width)] = seen[:, width - int(bar * width) :] = level
        else:
            seen[: int(bar * height)] = seen[height - int(bar * height) :] = level
    small = cv2.resize(np.clip(seen, 0, 255), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    small = small[:, ::-1] if rng.random() < 0.5 else small
    return np.asarray(np.clip(small + 0.5, 0, 255), np.uint8)


def drawn_timeline(seed: int, duration_s: float, rate_hz: float) -> tuple[Image, NDArray[np.bool_]]:
    """A whole phantom with out-of-body scenes: its frames (uint8 [N, S, S, 3] RGB) at ``rate_hz`` per second, and
    whether each is outside (bool [N]). Odd seeds are seen by the shifted camera. Takes about 8 ms per frame."""
    interruptions = make_interruptions(seed, duration_s)
    renderer = Renderer(
        make_script(seed, duration_s),
        WIDTH_PX,
        HEIGHT_PX,
        shifted=bool(seed % 2),
        interruptions=interruptions,
    )
    times_s = np.arange(0, duration_s, 1 / rate_hz)
    frames = [cv2.resize(renderer.frame(float(t_s)), (SIZE, SIZE), interpolation=cv2.INTER_AREA) for t_s in times_s]
    spans = outside_spans(interruptions)
    outside = [any(start_s <= t_s < stop_s for start_s, stop_s in spans) for t_s in times_s]
    return np.stack(frames).astype(np.uint8), np.array(outside)
