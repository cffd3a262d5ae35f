"""The stage of encoding as a run on a GPU has it, without a GPU: its device takes its time for a whole batch."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from slow_decoding import SPEC, picture
from slow_encoder import SlowEncoder

from halsted_ray.embedding.embed_stage import EmbedOptions, EmbedStage
from halsted_ray.records import Window

assert SPEC.frames == SlowEncoder.frames


def expected(window: Window) -> np.ndarray:
    """The vector of a window, float16 [3]."""
    length_s = SPEC.coarse_s if window.kind == "coarse" else SPEC.fine_s
    times_s = window.start_s + np.arange(SPEC.frames) * length_s / SPEC.frames
    return SlowEncoder().encode(np.stack([picture(time_s) for time_s in times_s])[None])[0]


@dataclass(frozen=True)
class SlowEmbedOptions(EmbedOptions):
    batch_s: float = 0.0
    seen: str = ""
    options: dict = field(default_factory=dict)


class SlowEmbedStage(EmbedStage):
    def __init__(self, options: SlowEmbedOptions):
        super().__init__(options, load=lambda ref, **_: SlowEncoder(options.batch_s))
        (Path(options.seen) / f"embed-{os.getpid()}").touch()
