"""Decoding and planning side by side: ours at each fidelity, raw PyAV, decord; 1080p30 H.264, one thread each.

    python benchmarks/decode.py                      60 s of footage made for the purpose
    python benchmarks/decode.py --video FILE         another file, its first minute
    python benchmarks/decode.py --hours 1            also: planning a file of that length, locally (and --s3 URL)

Prints a table and writes nothing. Frames a second are frames of the video gone over per CPU second, decoded or
not, so that fidelities compare; "x realtime" is the same per second of video.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import av
import numpy as np
from footage import repeat, write_minute

from halsted_ray.records import WindowSpec
from halsted_ray.video.plan import windows
from halsted_ray.video.probe import probe
from halsted_ray.video.readers import read_frames
from halsted_ray.video.sandbox import DecodeProcess

SIZE = (224, 224)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--video", type=Path, help="a local video file; default: footage made here")
    parser.add_argument("--seconds", type=int, default=60, help="seconds of it to decode (default 60)")
    parser.add_argument("--hours", type=float, default=0, help="also plan a file of this length")
    parser.add_argument("--s3", help="s3:// folder to put that file in and plan it from")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = arguments.video
        if video is None:
            video = Path(folder) / "minute.mp4"
            write_minute(video, arguments.seconds)
        decode_table(video, arguments.seconds)
        if arguments.hours:
            plan_table(Path(folder), video, arguments.hours, arguments.s3)


def decode_table(video: Path, seconds: int) -> None:
    found = probe(video)
    step_s = WindowSpec().fine_s / WindowSpec().frames
    times_s = np.arange(0, min(seconds, found.duration_s) - 1e-3, step_s)
    span_s = times_s[-1] + step_s
    print(f"{found.width}x{found.height} {found.codec} {found.fps:g} fps, {span_s:.0f} s, "
          f"{found.size_bytes * 8 / found.duration_s / 1e6:.1f} Mbit/s, "
          f"{len(times_s)} frames kept at {SIZE[0]}x{SIZE[1]}")
    print(f"{'':34}{'CPU s':>8}{'wall s':>8}{'frames/CPU s':>14}{'x realtime':>12}{'to raw PyAV':>13}")
    runs = {
        "raw PyAV, every frame, none kept": lambda: raw_pyav(video, span_s),
        "decord, get_batch": lambda: raw_decord(video, times_s),
        **{f"ours, {fidelity}": lambda fidelity=fidelity: read_frames(video, times_s, SIZE, fidelity)
           for fidelity in ("exact", "reference", "keyframes")},
    }
    base_s = None
    for name, run in runs.items():
        cpu_s, wall_s = min(timed(run) for _ in range(3))
        base_s = base_s or cpu_s
        print_row(name, cpu_s, wall_s, found.fps * span_s, span_s, base_s)
    with DecodeProcess() as process:
        process.probe(video)
        before_s = cpu_of(process.pid)
        (_, wall_s) = timed(lambda: process.read_frames(video, times_s, SIZE, "reference", deadline_s=300))
        cpu_s = cpu_of(process.pid) - before_s
        print_row("ours, reference, in its process", cpu_s, wall_s, found.fps * span_s, span_s, base_s)
        print(f"peak memory of the decoding process: {peak_mb(process.pid):.0f} MB")


def print_row(name: str, cpu_s: float, wall_s: float, frames: float, span_s: float, base_s: float) -> None:
    print(f"{name:34}{cpu_s:8.2f}{wall_s:8.2f}{frames / cpu_s:14.0f}{span_s / cpu_s:12.1f}{base_s / cpu_s:12.2f}x")


def timed(run) -> tuple[float, float]:
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu_s, time.perf_counter() - wall_s


def raw_pyav(video: Path, span_s: float) -> None:
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            if frame.time >= span_s:
                break


def raw_decord(video: Path, times_s: np.ndarray) -> None:
    import decord

    reader = decord.VideoReader(str(video), width=SIZE[1], height=SIZE[0], num_threads=1)
    rows = np.minimum(np.floor(times_s * reader.get_avg_fps() + 1e-6).astype(int), len(reader) - 1)
    for first in range(0, len(rows), 32):
        reader.get_batch(rows[first : first + 32]).asnumpy()


def cpu_of(pid: int) -> float:
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


def peak_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status") as file:
        return int(file.read().split("VmHWM:")[1].split()[0]) / 1024


def plan_table(folder: Path, minute: Path, hours: float, s3: str | None) -> None:
    path = folder / "long.mp4"
    repeat(path, minute, round(hours * 3600 / probe(minute).duration_s))
    size_bytes = path.stat().st_size
    locations = {"local": str(path)}
    if s3:
        import fsspec

        fs, key = fsspec.core.url_to_fs(f"{s3}/halsted-benchmark.mp4")
        fs.put_file(str(path), key)
        locations["S3"] = f"{s3}/halsted-benchmark.mp4"
    print(f"\nplanning a {hours:g}-hour file of {size_bytes / 1e9:.2f} GB")
    for name, location in locations.items():
        walls_s = []
        for _ in range(3):
            started_s = time.perf_counter()
            found = probe(location)
            coarse, fine = windows(found.duration_s, WindowSpec())
            walls_s.append(time.perf_counter() - started_s)
        share = found.read_bytes / size_bytes
        print(f"{name:8}{min(walls_s) * 1000:8.0f} ms  {len(coarse)} coarse and {len(fine)} fine windows"
              + (f", {found.read_bytes / 1e6:.2f} MB read ({share:.3%})" if found.read_bytes else ""))
    if s3:
        fs.rm_file(key)  # not rm: its bulk request needs a header that older gateways insist on and s3fs omits


if __name__ == "__main__":
    main()
