"""Pictures that no model of surgery has learned: test pictures, cartoons, noise, fractals, an empty room, a desktop.

They judge whether a model says ``unknown`` (``model.novelty``). Like the phantoms they are drawn from a seed and a
time, so the same arguments give the same pixels.

Shapes: H, W height and width of a frame in pixels, T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Draw = Callable[[float], Image]
"""A time in seconds → the frame [H, W, 3] displayed then, RGB."""

BARS = ((191, 191, 191), (191, 191, 0), (0, 191, 191), (0, 191, 0), (191, 0, 191), (191, 0, 0), (0, 0, 191), (0, 0, 0))
"""The colours of 75% bars, from left to right (EBU Tech 3325's order, without the white bar's full level)."""


def colour_bars(rng: np.random.Generator, width: int, height: int) -> Draw:
    """Bars of a test generator with a grey ramp below them; the frame does not change."""
    image = np.zeros((height, width, 3), np.uint8)
    edges = np.linspace(0, width, len(BARS) + 1).astype(int)
    for colour, left, right in zip(BARS, edges, edges[1:], strict=False):
        image[:, left:right] = colour
    share = rng.uniform(0.6, 1.0)
    image[int(height * share) :] = np.linspace(0, 255, width).astype(np.uint8)[None, :, None]
    return lambda _t_s: image.copy()


def test_card(rng: np.random.Generator, width: int, height: int) -> Draw:
    """A grid with circles and a patch that moves along the lower edge, as generators draw it to show that they run."""
    image = np.full((height, width, 3), int(rng.integers(60, 160)), np.uint8)
    step = max(8, int(height / rng.integers(7, 15)))
    for x in range(0, width, step):
        cv2.line(image, (x, 0), (x, height), (255, 255, 255), 1)
    for y in range(0, height, step):
        cv2.line(image, (0, y), (width, y), (255, 255, 255), 1)
    cv2.circle(image, (width // 2, height // 2), int(height * 0.45), (255, 255, 255), 2)
    for n, colour in enumerate(BARS[:6]):
        left = width // 4 + n * width // 12
        cv2.rectangle(image, (left, height // 3), (left + width // 12, height // 2), colour, -1)

    def draw(t_s: float) -> Image:
        frame = image.copy()
        x = int(t_s * width / 4) % width
        cv2.rectangle(frame, (x, height - step), (x + step, height), (255, 255, 0), -1)
        return frame

    return draw


def no_signal(rng: np.random.Generator, width: int, height: int) -> Draw:
    """Black or blue, with the words that a recorder shows without an input."""
    image = np.full((height, width, 3), 0, np.uint8)
    if rng.random() < 0.5:
        image[:] = (0, 0, int(rng.integers(120, 220)))
    cv2.putText(image, "NO SIGNAL", (width // 4, height // 2), cv2.FONT_HERSHEY_SIMPLEX, height / 240, (230,) * 3, 2)
    return lambda _t_s: image.copy()


def camera_noise(rng: np.random.Generator, width: int, height: int) -> Draw:
    """A covered lens: a dark level with the sensor's noise amplified."""
    level, spread, seed = rng.uniform(5, 90), rng.uniform(6, 40), int(rng.integers(1 << 30))
    tint = rng.uniform(0.7, 1.3, 3)

    def draw(t_s: float) -> Image:
        grain = np.random.default_rng((seed, round(t_s * 1000)))
        noise = grain.normal(0, spread, (height, width, 3))
        return np.clip(level * tint + noise, 0, 255).astype(np.uint8)

    return draw


def snow(rng: np.random.Generator, width: int, height: int) -> Draw:
    """The picture of a receiver without a station: every pixel black, white or between, at random."""
    seed, grain_px = int(rng.integers(1 << 30)), int(rng.integers(1, 4))

    def draw(t_s: float) -> Image:
        drawn = np.random.default_rng((seed, round(t_s * 1000)))
        small = drawn.integers(0, 256, (-(-height // grain_px), -(-width // grain_px)), np.uint8)
        grey = np.kron(small, np.ones((grain_px, grain_px), np.uint8))[:height, :width]
        return np.repeat(grey[..., None], 3, 2)

    return draw


def cartoon(rng: np.random.Generator, width: int, height: int) -> Draw:
    """Flat shapes with black outlines that move over a sky and a meadow, as in a drawn film."""
    sky, meadow = rng.integers(120, 256, 3).tolist(), rng.integers(40, 220, 3).tolist()
    count = int(rng.integers(3, 8))
    colours = rng.integers(30, 256, (count, 3)).tolist()
    at, speed = rng.uniform(0, 1, (count, 2)), rng.uniform(-0.3, 0.3, (count, 2))
    radius, corners = rng.uniform(0.06, 0.2, count) * height, rng.integers(3, 9, count)

    def draw(t_s: float) -> Image:
        image = np.zeros((height, width, 3), np.uint8)
        image[:] = sky
        image[int(height * 0.65) :] = meadow
        for n in range(count):
            x, y = ((at[n] + speed[n] * t_s) % 1.0) * (width, height)
            angles = np.arange(corners[n]) * 2 * np.pi / corners[n] + t_s
            points = np.stack([x + radius[n] * np.cos(angles), y + radius[n] * np.sin(angles)], 1).astype(np.int32)
            cv2.fillPoly(image, [points], colours[n], cv2.LINE_AA)
            cv2.polylines(image, [points], True, (0, 0, 0), 3, cv2.LINE_AA)
            cv2.circle(image, (int(x), int(y)), max(2, int(radius[n] / 6)), (255, 255, 255), -1, cv2.LINE_AA)
        return image

    return draw


def fractal(rng: np.random.Generator, width: int, height: int) -> Draw:
    """A flight into an edge of the Mandelbrot set, coloured by the number of steps until a point escapes."""
    centres = ((-0.743643, 0.131825), (-0.1011, 0.9563), (0.2925755, 0.0149977), (-1.25066, 0.02012))
    centre = complex(*centres[int(rng.integers(len(centres)))])
    phase, span, speed = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.002, 1.5), rng.uniform(0.02, 0.2)
    small_w, small_h = max(2, width // 2), max(2, height // 2)  # half the resolution: a quarter of the work

    def draw(t_s: float) -> Image:
        reach = span * np.exp(-speed * t_s)
        x = np.linspace(-reach, reach, small_w) * width / height
        y = np.linspace(-reach, reach, small_h)
        c = centre + x[None] + 1j * y[:, None]
        z, steps = np.zeros_like(c), np.zeros(c.shape)
        for _ in range(40):
            inside = np.abs(z) <= 2
            steps += inside
            z = np.where(inside, z * z + c, z)
        image = (127.5 + 127.5 * np.cos(0.35 * steps[..., None] + phase)).astype(np.uint8)
        return np.asarray(cv2.resize(image, (width, height)), np.uint8)

    return draw


def empty_room(rng: np.random.Generator, width: int, height: int) -> Draw:
    """An operating room without people, seen by a camera on its wall: floor, walls, lamp and table, with the sensor's
    noise."""
    wall, floor, table = (int(rng.integers(*span)) for span in ((140, 225), (70, 150), (60, 200)))
    tint, seed = rng.uniform(0.85, 1.1, 3), int(rng.integers(1 << 30))
    left, right, top, bottom = rng.uniform(0.15, 0.3), rng.uniform(0.7, 0.85), rng.uniform(0.1, 0.2), 0.6
    corners = [(int(x * width), int(y * height)) for x in (left, right) for y in (top, bottom)]
    grey = np.full((height, width), wall, np.uint8)
    (x0, y0), (_, y1), (x1, _), _ = corners
    cv2.fillPoly(grey, [np.array([(0, height), (x0, y1), (x1, y1), (width, height)], np.int32)], floor)
    cv2.fillPoly(grey, [np.array([(0, 0), (x0, y0), (x1, y0), (width, 0)], np.int32)], min(255, wall + 25))
    cv2.rectangle(grey, (x0, y0), (x1, y1), max(0, wall - 20), -1)
    for x, y in corners:
        cv2.line(grey, (x, y), (0 if x == x0 else width, 0 if y == y0 else height), wall // 2, 2)
    middle = int(rng.uniform(0.4, 0.6) * width)
    cv2.rectangle(grey, (middle - width // 9, int(0.62 * height)), (middle + width // 9, int(0.72 * height)), table, -1)
    cv2.line(grey, (middle, int(0.72 * height)), (middle, int(0.9 * height)), table // 2, 6)
    cv2.line(grey, (middle, 0), (middle + width // 20, int(0.25 * height)), wall // 3, 3)
    cv2.circle(grey, (middle + width // 20, int(0.27 * height)), height // 12, 245, -1)
    image = np.clip(grey[..., None] * tint, 0, 255)

    def draw(t_s: float) -> Image:
        noise = np.random.default_rng((seed, round(t_s * 1000))).normal(0, 3, (height, width, 1))
        return np.clip(image + noise, 0, 255).astype(np.uint8)

    return draw


def desktop(rng: np.random.Generator, width: int, height: int) -> Draw:
    """A computer's screen: windows full of lines of text, and a pointer that moves."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:] = rng.integers(20, 160, 3)
    for _ in range(int(rng.integers(2, 5))):
        left, top = int(rng.uniform(0, 0.5) * width), int(rng.uniform(0, 0.5) * height)
        right, bottom = left + int(rng.uniform(0.3, 0.5) * width), top + int(rng.uniform(0.3, 0.5) * height)
        cv2.rectangle(image, (left, top), (right, bottom), (250, 250, 250), -1)
        cv2.rectangle(image, (left, top), (right, top + height // 24), (70, 90, 140), -1)
        for y in range(top + height // 12, bottom - 4, max(5, height // 36)):
            word = left + 6
            while word < right - 12:
                length = int(rng.integers(6, 40))
                cv2.line(image, (word, y), (min(right - 6, word + length), y), (40, 40, 40), 2)
                word += length + 8

    def draw(t_s: float) -> Image:
        frame = image.copy()
        x, y = int(width * (0.5 + 0.4 * np.sin(0.7 * t_s))), int(height * (0.5 + 0.4 * np.cos(0.4 * t_s)))
        cv2.fillPoly(frame, [np.array([(x, y), (x + 10, y + 4), (x + 4, y + 10)], np.int32)], (0, 0, 0))
        return frame

    return draw


FOREIGN: dict[str, Callable[[np.random.Generator, int, int], Draw]] = {
    "colour bars": colour_bars,
    "test card": test_card,
    "no signal": no_signal,
    "camera noise": camera_noise,
    "snow": snow,
    "cartoon": cartoon,
    "fractal": fractal,
    "empty room": empty_room,
    "desktop": desktop,
}
"""Kind of picture → what makes it from (random numbers, width, height)."""


def foreign_frames(kind: str, seed: int, times_s: Sequence[float], width: int, height: int) -> Image:
    """The frames [T, H, W, 3] of the scene ``seed`` of a ``kind`` of ``FOREIGN``, displayed at ``times_s``."""
    draw = FOREIGN[kind](np.random.default_rng(seed), width, height)
    return np.stack([draw(t_s) for t_s in times_s])


def write_foreign_video(
    path: str | Path, kind: str, seed: int, duration_s: float, width: int = 384, height: int = 216, fps: int = 15
) -> None:
    """Writes such a scene as an H.264 video; the suffix of ``path`` decides the container. Memory: one frame."""
    draw = FOREIGN[kind](np.random.default_rng(seed), width, height)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "veryfast", "threads": "1"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for n in range(round(duration_s * fps)):
            frame = av.VideoFrame.from_ndarray(draw(n / fps), format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
