"""The two stages of embedding as a run on a GPU has them, without a video and without a GPU: decoding takes its time on
a core, encoding takes its time on a device that computes whole batches."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from slow_encoder import SlowEncoder

from halsted_ray.embedding.decode_stage import DecodeOptions, DecodeStage
from halsted_ray.embedding.embed_stage import EmbedOptions, EmbedStage
from halsted_ray.errors import ModelError
from halsted_ray.profiling import THREAD_PROFILE
from halsted_ray.records import Segment, Window, WindowSpec
from halsted_ray.video.frames import collect

SPEC = WindowSpec(coarse_s=10.0, fine_s=2.5, frames=SlowEncoder.frames)
SEGMENT_S = 30.0
"""15 windows: three coarse and twelve fine ones."""


def segments(count: int) -> list[Segment]:
    """Segments of four videos, with the windows of the grid."""
    return [
        Segment(f"s{n}", f"v{n % 4}", "/nowhere", SEGMENT_S * (n // 4), SEGMENT_S * (n // 4 + 1), 10_000.0)
        for n in range(count)
    ]


def picture(time_s: float) -> np.ndarray:
    """The frame of a time: its vector tells the time."""
    return np.full((2, 2, 3), int(time_s * 8) % 251, np.uint8)


def expected(window: Window) -> np.ndarray:
    """The vector of a window, float16 [3]."""
    length_s = SPEC.coarse_s if window.kind == "coarse" else SPEC.fine_s
    times_s = window.start_s + np.arange(SPEC.frames) * length_s / SPEC.frames
    return SlowEncoder().encode(np.stack([picture(time_s) for time_s in times_s])[None])[0]


@dataclass(frozen=True)
class SlowDecodeOptions(DecodeOptions):
    decode_s: float = 0.0
    seen: str = ""
    """Folder in which every actor leaves its process id."""
    first_decode_s: float | None = None
    """How long a segment takes the first actor of the run, where that differs from the others."""


@dataclass(frozen=True)
class SlowEmbedOptions(EmbedOptions):
    batch_s: float = 0.0
    seen: str = ""
    options: dict = field(default_factory=dict)


class _SlowDecoder:
    def __init__(self, decode_s: float):
        self.decode_s = decode_s

    def read_frames(self, uri, times_s, size, *_rest, **_named):
        with THREAD_PROFILE.stage("decode"):
            time.sleep(self.decode_s)
        return collect([(picture(float(time_s)), float(time_s)) for time_s in times_s], times_s, size)


class SlowDecodeStage(DecodeStage):
    def __init__(self, options: SlowDecodeOptions):
        decode_s = options.decode_s
        if options.first_decode_s is not None:
            with suppress(FileExistsError):
                (Path(options.seen) / "first").touch(exist_ok=False)
                decode_s = options.first_decode_s
        super().__init__(options, process=lambda memory_mb: _SlowDecoder(decode_s))
        (Path(options.seen) / f"decode-{os.getpid()}").touch()


class SlowEmbedStage(EmbedStage):
    def __init__(self, options: SlowEmbedOptions):
        super().__init__(options, load=lambda ref, **_: SlowEncoder(options.batch_s))
        (Path(options.seen) / f"embed-{os.getpid()}").touch()


class RefusingStage:
    def __init__(self, options):
        raise ModelError("the weights are not the stated ones")
