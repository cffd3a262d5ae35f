"""Decoding 1080p30 H.264 in one thread: this package at each fidelity, against PyAV and decord decoding every frame.

Rates are frames of the video per CPU second, whether they were decoded or skipped, so that fidelities compare.
"""

from __future__ import annotations

import time
from pathlib import Path

import av
import numpy as np
from footage import loop
from measuring import Entry, Setting, ratio

from halsted_ray.records import WindowSpec
from halsted_ray.video.frames import Frames
from halsted_ray.video.readers import read_frames

SIZE = (224, 224)
SECONDS, REPEATS = 60, 3


def measure(setting: Setting) -> list[Entry]:
    """The rates of ``reference`` and ``keyframes`` against the other ways, and whether frames of one time are equal."""
    video = loop(cache=setting.cache)
    seconds = 10 if setting.quick else SECONDS
    times_s = np.arange(0, seconds, WindowSpec().fine_s / WindowSpec().frames)
    runs = {
        "raw PyAV": lambda: raw_pyav(video, seconds),
        "decord": lambda: raw_decord(video, times_s),
        **{
            fidelity: lambda fidelity=fidelity: read_frames(video, times_s, SIZE, fidelity)
            for fidelity in ("exact", "reference", "keyframes")
        },
    }
    cpu_s: dict[str, list[float]] = {name: [] for name in runs}
    found: dict[str, Frames] = {}
    for _ in range(REPEATS):  # in turns, so that a busy machine slows all ways alike
        for name, run in runs.items():
            started_s = time.process_time()
            found[name] = run()
            cpu_s[name].append(time.process_time() - started_s)
    rates = {name: 30 * seconds / min(values) for name, values in cpu_s.items()}
    exact, reference = found["exact"], found["reference"]
    same_time = exact.pts_s == reference.pts_s
    same = np.all(exact.images_NHWC[same_time] == reference.images_NHWC[same_time])
    rows = f"{30 * seconds} frames, {len(times_s)} kept"
    fastest = rates["reference"]
    against = {name: f"{fastest:.0f} against {rate:.0f} frames per CPU-second" for name, rate in rates.items()}
    return [
        ratio(
            "decoding: reference against exact",
            fastest / rates["exact"],
            1.7,
            rows=rows,
            why=f"{against['exact']}: exact leaves out unreferenced frames too, unless one is wanted",
        ),
        ratio("decoding: reference against decord", fastest / rates["decord"], 1.7, rows=rows, why=against["decord"]),
        ratio(
            "decoding: reference against PyAV, every frame",
            fastest / rates["raw PyAV"],
            1.7,
            rows=rows,
            why=f"{against['raw PyAV']}, which keeps and converts none",
        ),
        ratio("decoding: keyframes against PyAV, every frame", rates["keyframes"] / rates["raw PyAV"], None, rows=rows),
        ratio(
            "  frames of one time that are identical",
            float(same),
            1,
            unit="of 1",
            rows=f"{same_time.sum()} of {len(times_s)} frames",
        ),
    ]


def raw_pyav(video: Path, seconds: float) -> None:
    """Decodes every frame by PyAV, and keeps none."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            if frame.time >= seconds:
                break


def raw_decord(video: Path, times_s: np.ndarray) -> None:
    """Decodes and scales the frames at ``times_s`` by decord."""
    import decord

    reader = decord.VideoReader(str(video), width=SIZE[1], height=SIZE[0], num_threads=1)
    rows = np.floor(times_s * reader.get_avg_fps() + 1e-6).astype(int)
    for first in range(0, len(rows), 32):
        reader.get_batch(rows[first : first + 32]).asnumpy()
