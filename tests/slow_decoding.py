"""The stage of decoding as a run on a GPU has it, without a video: it takes its time on a core. Nothing here imports
torch, as nothing of the real stage does: an actor starts in seconds less."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from halsted_ray.embedding.decode_stage import DecodeOptions, DecodeStage
from halsted_ray.errors import ModelError
from halsted_ray.profiling import THREAD_PROFILE
from halsted_ray.records import Segment, WindowSpec
from halsted_ray.video.frames import collect

SPEC = WindowSpec(coarse_s=10.0, fine_s=2.5, frames=4)
PATIENCE_S = 240.0
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


@dataclass(frozen=True)
class SlowDecodeOptions(DecodeOptions):
    decode_s: float = 0.0
    seen: str = ""
    """Folder in which every actor leaves its process id."""
    fast_segments: int | None = None
    """Where this is a number, one actor of the run is so slow that the others decode so many segments while it decodes
    its first one, which it begins before the others begin any."""
    least_actors: int = 0
    """After ``free_segments`` of them, segments wait until there have been so many actors: beside other work a new
    machine takes longer to start than all segments take."""
    free_segments: int = 0


class _SlowDecoder:
    def __init__(self, decode_s: float):
        self.decode_s = decode_s

    def read_frames(self, uri, times_s, size, *_rest, **_named):
        with THREAD_PROFILE.stage("decode"):
            time.sleep(self.decode_s)
        return collect([(picture(float(time_s)), float(time_s)) for time_s in times_s], times_s, size)


class _Joined(_SlowDecoder):
    """Of a run with ``least_actors``."""

    def __init__(self, options: SlowDecodeOptions):
        super().__init__(options.decode_s)
        self.options, self.seen = options, Path(options.seen)

    def read_frames(self, *args, **named):
        if len(list(self.seen.glob("done-*"))) >= self.options.free_segments:
            wait_for(lambda: len(list(self.seen.glob("decode-*"))) >= self.options.least_actors)
        frames = super().read_frames(*args, **named)
        (self.seen / f"done-{uuid.uuid4().hex}").touch()
        return frames


class _Overtaken(_SlowDecoder):
    """Of a run with ``fast_segments``: its first segment ends when the other actors have decoded theirs, or after
    ``PATIENCE_S``, where these never come."""

    def __init__(self, seen: Path, fast_segments: int):
        super().__init__(0.0)
        self.seen, self.fast_segments = seen, fast_segments

    def read_frames(self, *args, **named):
        (self.seen / f"slow-{uuid.uuid4().hex}").touch()
        wait_for(lambda: len(list(self.seen.glob("fast-*"))) >= self.fast_segments)
        return super().read_frames(*args, **named)


class _Overtaking(_SlowDecoder):
    def __init__(self, seen: Path):
        super().__init__(0.0)
        self.seen = seen

    def read_frames(self, *args, **named):
        wait_for(lambda: any(self.seen.glob("slow-*")))
        frames = super().read_frames(*args, **named)
        (self.seen / f"fast-{uuid.uuid4().hex}").touch()
        return frames


def wait_for(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds, or after ``PATIENCE_S`` since this process first waited: a test that fails must
    end."""
    global _first_wait_s
    _first_wait_s = _first_wait_s or time.monotonic()
    while not condition() and time.monotonic() < _first_wait_s + PATIENCE_S:
        time.sleep(0.02)


_first_wait_s = 0.0


class SlowDecodeStage(DecodeStage):
    def __init__(self, options: SlowDecodeOptions):
        seen = Path(options.seen)
        decoder = _Joined(options) if options.least_actors else _SlowDecoder(options.decode_s)
        if options.fast_segments is not None:
            decoder = _Overtaking(seen)
            with suppress(FileExistsError):
                (seen / "first").touch(exist_ok=False)
                decoder = _Overtaken(seen, options.fast_segments)
        super().__init__(options, process=lambda memory_mb: decoder)
        (seen / f"decode-{os.getpid()}").touch()


class RefusingStage:
    def __init__(self, options):
        raise ModelError("the weights are not the stated ones")
