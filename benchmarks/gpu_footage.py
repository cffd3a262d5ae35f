"""An hour of footage in half a minute: a phantom minute, rendered once in short pieces on all cores, and repeated
packet by packet.

    .cache/1080p/minute.mp4    H.264 at 8 Mbit/s, three B-frames, a keyframe every 2 s
    .cache/720p/minute.mp4     H.264 at 4 Mbit/s
    .cache/hevc/minute.mp4     HEVC, 1080p at 5 Mbit/s
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from footage import CACHE, FPS, GOP_FRAMES, PROCEDURE, join

from halsted_ray.phantom.script import Deck, Script, dissection, suturing
from halsted_ray.phantom.write import write_video

PIECES, PIECE_S = 12, 5.0
SUTURING_PIECES = 4
"""The first third of a minute is suturing, the rest dissection."""


@dataclass(frozen=True)
class Kind:
    """How footage is encoded. ``bits_per_s`` is that of recorders in operating theatres."""

    width: int
    height: int
    codec: str
    bits_per_s: int


KINDS = {
    "1080p": Kind(1920, 1080, "libx264", 8_000_000),
    "720p": Kind(1280, 720, "libx264", 4_000_000),
    "hevc": Kind(1920, 1080, "libx265", 5_000_000),
}


def footage(name: str, minutes: int, cache: Path = CACHE) -> Path:
    """The path of a video of ``minutes`` of one of ``KINDS``, made where it is not there yet."""
    path = cache / name / f"{minutes}min.mp4"
    if not path.exists():
        join(path, [minute(name, cache)] * minutes)
    return path


def minute(name: str, cache: Path = CACHE) -> Path:
    """The path of the minute that is repeated."""
    path = cache / name / "minute.mp4"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        pieces = [path.with_name(f"piece{number}.mp4") for number in range(PIECES)]
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(PIECES, len(os.sched_getaffinity(0))), mp_context=context) as pool:
            for _ in pool.map(write_piece, pieces, range(PIECES), [name] * PIECES):
                pass
        join(path, pieces)
        for piece in pieces:
            piece.unlink()
    return path


def write_piece(path: Path, number: int, name: str) -> None:
    """Renders one piece of the minute."""
    kind = KINDS[name]
    fill = suturing if number < SUTURING_PIECES else dissection
    events = fill(Deck(np.random.default_rng([number, 11]), PROCEDURE), 0.0, PIECE_S)
    bits = str(kind.bits_per_s)
    options = {"crf": "-1", "b": bits, "maxrate": bits, "bufsize": bits}
    if kind.codec == "libx265":
        options["x265-params"] = f"log-level=error:pools=1:open-gop=0:keyint={GOP_FRAMES}:bframes=3"
    write_video(
        path,
        Script(number, PIECE_S, PROCEDURE, tuple(events)),
        kind.width,
        kind.height,
        FPS,
        gop=GOP_FRAMES,
        bframes=3,
        codec=kind.codec,
        preset="veryfast" if kind.codec == "libx264" else "superfast",
        options=options,
    )
