"""The 1080p30 H.264 video that benchmarks measure with: phantoms, since no real footage may be shipped.

It has the bit rate and the GOP of a recorder. Five minutes are rendered once, which takes 7 minutes of one core. Their
packets are repeated to make a video of any length.

    .cache/1920x1080/loop.mp4      30% of its time is suturing, one stretch on the grid of 30-s windows
    .cache/1920x1080/60min.mp4     the loop, 12 times
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import av
import numpy as np

from halsted_ray.phantom.script import Deck, Event, Script, dissection, suturing
from halsted_ray.phantom.write import write_video

CACHE = Path(__file__).parent / ".cache"
FPS, GOP_FRAMES = 30, 60
PROCEDURE = "Prostatectomy"
Fill = Callable[[Deck, float, float], list[Event]]
"""``fill(deck, start_s, stop_s)`` gives the events of a part."""
Parts = tuple[tuple[Fill, float], ...]
PARTS: Parts = ((suturing, 90.0), (dissection, 70.0), (dissection, 70.0), (dissection, 70.0))
"""The parts of the loop, and their lengths in seconds. Parts are rendered side by side."""
BITS_PER_S = {1920 * 1080: 8_000_000, 640 * 360: 1_300_000}
"""A recorder's 8 Mbit/s, and less for the small picture, which is only used to make long videos."""


def loop(width: int = 1920, height: int = 1080, parts: Parts = PARTS, cache: Path = CACHE) -> Path:
    """The path of the loop, which is rendered where it is not there yet."""
    path = cache / f"{width}x{height}" / "loop.mp4"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        pieces = [path.with_name(f"part{number}.mp4") for number in range(len(parts))]
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(len(parts), os.cpu_count() or 1), mp_context=context) as pool:
            for task in [
                pool.submit(write_part, piece, number, *part, width, height)
                for number, (piece, part) in enumerate(zip(pieces, parts, strict=True))
            ]:
                task.result()
        join(path, pieces)
        for piece in pieces:
            piece.unlink()
    return path


def long(minutes: float, width: int = 1920, height: int = 1080, parts: Parts = PARTS, cache: Path = CACHE) -> Path:
    """The path of a video of ``minutes``, which is a whole number of loops."""
    times = minutes * 60 / sum(length_s for _, length_s in parts)
    assert times == round(times), f"{minutes} min is no whole number of loops"
    path = cache / f"{width}x{height}" / f"{minutes:g}min.mp4"
    if not path.exists():
        join(path, [loop(width, height, parts, cache)] * round(times))
    return path


def write_part(path: Path, seed: int, fill: Fill, length_s: float, width: int, height: int) -> None:
    """Renders one part of the loop, with x264's usual three B-frames (one of them a reference) and a keyframe every
    2 s."""
    events = fill(Deck(np.random.default_rng([seed, 11]), PROCEDURE), 0.0, length_s)
    bits = str(BITS_PER_S.get(width * height, 500_000))
    made = path.with_name("." + path.name)
    write_video(
        made,
        Script(seed, length_s, PROCEDURE, tuple(events)),
        width,
        height,
        FPS,
        gop=GOP_FRAMES,
        bframes=3,
        options={"crf": "-1", "b": bits, "maxrate": bits, "bufsize": bits},
    )
    made.rename(path)


def join(path: Path, pieces: list[Path]) -> None:
    """Writes the packets of ``pieces`` one after another: a long file without a long encoding. All pieces are encoded
    with the same settings."""
    made = path.with_name("." + path.name)
    begin = 0
    with av.open(str(made), "w") as container:
        with av.open(str(pieces[0])) as source:
            stream = container.add_stream_from_template(source.streams.video[0])
        for piece in pieces:
            with av.open(str(piece)) as source:
                video = source.streams.video[0]
                for packet in source.demux(video):
                    if packet.size:
                        packet.pts, packet.dts, packet.stream = packet.pts + begin, packet.dts + begin, stream
                        container.mux(packet)
                begin += round(video.frames / FPS / video.time_base)
    made.rename(path)
