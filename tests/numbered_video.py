"""Small real videos in which every frame shows its number, and which number a reader should show at a time."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer

from halsted_ray.phantom.frame_number import paint_frame_number, read_frame_number

WIDTH, HEIGHT = 320, 180


@dataclass(frozen=True)
class Numbered:
    """A video file and its truth: frame ``first + n`` is displayed from ``times_s[n]`` on, the first frame at 0 s."""

    path: Path
    times_s: np.ndarray
    first: int = 0
    longest_run: int = 3
    """The most frames in a row that no other frame refers to."""

    def number_at(self, time_s: float) -> int:
        """The number of the frame displayed at ``time_s``."""
        return self.first + int(np.searchsorted(self.times_s, time_s + 1e-6, side="right")) - 1


@dataclass(frozen=True)
class Recipe:
    """How to write a numbered video: the settings of codec and container."""

    suffix: str = ".mp4"
    codec: str = "libx264"
    frames: int = 180
    rate: int | Fraction = 30
    steps: tuple[int, ...] = ()
    """Ticks from each frame to the next, where the frame rate varies."""
    time_base: Fraction | None = None
    start_tick: int = 0
    gop: int = 30
    pix_fmt: str = "yuv420p"
    codec_options: dict[str, str] = field(default_factory=dict)
    mux_options: dict[str, str] = field(default_factory=dict)
    aspect: Fraction | None = None
    rotation_deg: int = 0
    size: tuple[int, int] = (HEIGHT, WIDTH)
    audio: bool = False


def picture(number: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """A moving gradient with the number on it: it is smooth, so it encodes fast, and no two pictures are equal."""
    height, width = size
    ramp = (np.arange(width)[None, :] + 3 * number) % 256
    image_HWC = np.repeat(np.broadcast_to(ramp, (height, width))[..., None], 3, axis=2).astype(np.uint8)
    image_HWC[:, :, 1] = (np.arange(height)[:, None] * 200 // height + 20).astype(np.uint8)
    paint_frame_number(image_HWC, number)
    return image_HWC


def _as_stored(number: int, recipe: Recipe) -> np.ndarray:
    """The picture as the file stores it: turned, where the container says to turn it (counter-clockwise) back."""
    turns = recipe.rotation_deg // 90
    upright = recipe.size[::-1] if turns % 2 else recipe.size
    return np.ascontiguousarray(np.rot90(picture(number, upright), -turns))


def write(path: Path, recipe: Recipe) -> Numbered:
    """Writes a numbered video to ``path``."""
    time_base = recipe.time_base or 1 / Fraction(recipe.rate)
    steps = recipe.steps or (1,) * recipe.frames
    ticks = recipe.start_tick + np.concatenate([[0], np.cumsum(steps[: recipe.frames - 1])]).astype(np.int64)
    with av.open(str(path), "w", options=recipe.mux_options) as container:
        stream = container.add_stream(recipe.codec, rate=recipe.rate)
        stream.height, stream.width = recipe.size
        stream.pix_fmt = recipe.pix_fmt
        stream.codec_context.gop_size = recipe.gop
        stream.codec_context.thread_count = 1
        stream.time_base = stream.codec_context.time_base = time_base
        fast = {"preset": "ultrafast"} if recipe.codec.startswith("libx26") else {}
        stream.options = {**fast, **recipe.codec_options}
        if recipe.aspect:
            stream.codec_context.sample_aspect_ratio = recipe.aspect
        if recipe.rotation_deg:
            stream.set_display_rotation(recipe.rotation_deg)
        sound = container.add_stream("aac", rate=48000) if recipe.audio else None
        for number, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(_as_stored(number, recipe), format="rgb24")
            frame.pts, frame.time_base = int(tick), time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            _write_silence(container, sound, float(ticks[-1] * time_base))
    seconds = (ticks - ticks[0]).astype(np.float64) * time_base.numerator / time_base.denominator
    return Numbered(path, seconds, longest_run=int(recipe.codec_options.get("bf", 3)))


def _write_silence(container: OutputContainer, stream: AudioStream, seconds: float) -> None:
    for number in range(int(seconds * 48000 // 1024)):
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 48000, number * 1024
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def trim_by_edit_list(video: Numbered, frames: int) -> Numbered:
    """A copy of an MP4 file whose edit list begins ``frames`` frames later, as cutting without encoding leaves it."""
    data = bytearray(video.path.read_bytes())
    at = data.index(b"elst") + 8
    (count,) = struct.unpack_from(">I", data, at)
    length, media_time = struct.unpack_from(">Ii", data, at + 4)
    assert count == 1 and media_time >= 0
    scale = data.index(b"mdhd") + 16
    (ticks_a_second,) = struct.unpack_from(">I", data, scale)
    (movie_ticks_a_second,) = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)
    cut_s = float(video.times_s[frames])
    struct.pack_into(
        ">Ii", data, at + 4, length - round(cut_s * movie_ticks_a_second), media_time + round(cut_s * ticks_a_second)
    )
    path = video.path.with_name(f"trimmed-{video.path.name}")
    path.write_bytes(data)
    return Numbered(path, video.times_s[frames:] - cut_s, first=frames, longest_run=video.longest_run)


def numbers_of(images_NHWC: np.ndarray) -> list[int]:
    """The numbers painted on the pictures."""
    return [read_frame_number(image_HWC) for image_HWC in images_NHWC]
