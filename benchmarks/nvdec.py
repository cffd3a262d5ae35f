"""Measures NVDEC on this machine's GPU: rates by fidelity and number of sessions, and how near it is to the CPU.

    python benchmarks/nvdec.py                             a minute of 1080p H.264, which is made first
    python benchmarks/nvdec.py --video FILE --sessions 1,4,7,10
    python benchmarks/nvdec.py --seconds 10 --size 640x360    a short try

Needs PyAV, torch with CUDA and PyNvVideoCodec, but no Ray. For each fidelity and number of sessions it prints the
frames of the video that were got through per second, by all sessions together, each in a process of its own as in a
run, which is started once; beside it the same on one core. Then the largest and mean difference of the pictures, and
whether the times are the same. First of all, how long a process takes until its first picture. Ends with all results as
one line of JSON, and with code 1 where NVDEC was not used or the pictures are not alike.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halsted_ray.video import nvdec_library
from halsted_ray.video.container import VideoFile
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.frames import Frames
from halsted_ray.video.nvdec_slots import gpus_here
from halsted_ray.video.probe import probe

PICTURE = (224, 224)
WANTED_PER_S = 3.2
"""Frames a second that a model of 5-s windows asks for."""
MOST = 1.5
"""Grey levels: the mean difference that the reader promises at most."""
DEADLINE_S = 300.0


def main(words: list[str] | None = None) -> int:
    """Measures and prints; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--video", help="a file; by default one is made")
    parser.add_argument("--seconds", type=float, default=60.0, help="how much of the video is read (default 60)")
    parser.add_argument("--size", default="1920x1080", help="of the video that is made (default 1920x1080)")
    parser.add_argument("--sessions", default="1,2,4,7,8,10", help="how many sessions side by side")
    parser.add_argument("--gpu", default="0", help="as CUDA_VISIBLE_DEVICES names it (default 0)")
    options = parser.parse_args(words)
    if why := nvdec_library.problem():
        print(f"NVDEC can't be used here: {why}")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        video = options.video or made(Path(folder, "video.mp4"), options.size, options.seconds)
        return measure(video, options.seconds, [int(count) for count in options.sessions.split(",")], options.gpu)


def measure(video: str, seconds: float, sessions: list[int], gpu: str) -> int:
    """Prints all numbers of one video; 0 where NVDEC decoded it and its pictures are those of the CPU."""
    import torch

    found = probe(video)
    with VideoFile(video) as opened:
        rate = float(opened.stream.average_rate or 30)
        what = f"{opened.stream.codec_context.name} {opened.first_frame.width}x{opened.first_frame.height}"
    times_s = np.arange(0, min(seconds, found.duration_s) - 0.5, 1 / WANTED_PER_S)
    frames = rate * float(times_s[-1])
    print(
        f"{torch.cuda.get_device_name(0)}, torch {torch.__version__}, {what} at {rate:g} frames/s, {times_s[-1]:.0f} s"
    )
    print("slots:", ", ".join(f"{at.name}: {at.sessions}" for at in gpus_here()) or "none listed by the driver")
    results: dict[str, Any] = {"device": torch.cuda.get_device_name(0), "video": what, "rates": []}
    is_sound = True
    with ExitStack() as stack:
        processes = [stack.enter_context(DecodeProcess(gpu=gpu)) for _ in range(max(sessions))]
        for name, starting in (("one", processes[:1]), ("the others side by side", processes[1:])):
            began_s = time.perf_counter()
            read_all(starting, video, times_s[:1], "exact")
            results[f"start_s, {name}"] = time.perf_counter() - began_s
            print(f"first picture of {name} after {results[f'start_s, {name}']:.1f} s", flush=True)
        core = stack.enter_context(DecodeProcess())
        core.probe(video)  # the process is there
        for fidelity in ("exact", "reference"):
            began_s = time.perf_counter()
            expected = core.read_frames(video, times_s, PICTURE, fidelity, deadline_s=DEADLINE_S)
            on_core = frames / (time.perf_counter() - began_s)
            print(f"{fidelity}, one core: {on_core:,.0f} frames/s", flush=True)
            for count in sessions:
                row, got = race(processes[:count], video, times_s, fidelity, frames)
                results["rates"].append({"fidelity": fidelity, "sessions": count, "core": on_core, **row})
                print(
                    f"{fidelity}, {count} sessions: {row['frames_per_s']:,.0f} frames/s, "
                    f"{row['frames_per_s'] / on_core:.1f} cores {row['fallbacks'] or ''}",
                    flush=True,
                )
                is_sound = is_sound and not row["fallbacks"]
            is_sound = compare(got, expected, fidelity, results) and is_sound
    print(json.dumps(results))
    return 0 if is_sound else 1


def race(
    processes: list[DecodeProcess], video: str, times_s: NDArray[np.float64], fidelity: str, frames: float
) -> tuple[dict[str, Any], Frames]:
    """(rate and fallbacks of the processes side by side, what the first of them gave). Processes that have started are
    not started again: torch alone takes seconds to import."""
    began_s = time.perf_counter()
    answers = read_all(processes, video, times_s, fidelity)
    took_s = time.perf_counter() - began_s
    return {
        "frames_per_s": len(processes) * frames / took_s,
        "fallbacks": sorted({process.fallback for process in processes} - {""}),
    }, answers[0]


def read_all(processes: list[DecodeProcess], video: str, times_s: NDArray[np.float64], fidelity: str) -> list[Frames]:
    """What each of the processes gives, all at the same time."""

    def read(process: DecodeProcess) -> Frames:
        return process.read_frames(video, times_s, PICTURE, fidelity, "nvdec", deadline_s=DEADLINE_S)

    with ThreadPoolExecutor(max(1, len(processes))) as pool:
        return list(pool.map(read, processes))


def compare(got: Frames, expected: Frames, fidelity: str, results: dict[str, Any]) -> bool:
    """Prints how near NVDEC's answer is to the CPU's; whether it is near enough."""
    same_times = np.array_equal(got.pts_s, expected.pts_s, equal_nan=True)
    off = np.abs(got.images_NHWC.astype(np.int16) - expected.images_NHWC)
    results[fidelity] = {"mean": float(off.mean()), "largest": int(off.max()), "same_times": same_times}
    print(
        f"{fidelity}: difference {off.mean():.3f} grey levels in the mean, {off.max()} at most; "
        f"same times: {same_times}"
    )
    return same_times and float(off.mean()) < MOST


def made(path: Path, size: str, seconds: float) -> str:
    """A video of moving shapes with B-frames, 8 Mbit/s, a keyframe every 2 s."""
    import av

    width, height = map(int, size.split("x"))
    base_HWC = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    still_HWC = base_HWC.repeat(8, axis=0).repeat(8, axis=1)
    options = {"preset": "veryfast", "b": "8M", "bf": "3", "g": "60"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = still_HWC.shape[1], still_HWC.shape[0], "yuv420p"
        for number in range(round(30 * (seconds + 1))):
            image_HWC = np.ascontiguousarray(np.roll(still_HWC, 3 * number, axis=1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image_HWC, format="rgb24")))
        container.mux(stream.encode(None))
    return str(path)


if __name__ == "__main__":
    sys.exit(main())
