"""Decoding inside Ray, with its start, against PyAV in plain processes: one hour of 1080p on the same cores, at the
same fidelity, with the same frames scaled to model size."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import av
import numpy as np
from measuring import Setting, ratio, timed

from halsted_ray.compute.cluster import connected
from halsted_ray.compute.pools import size_pools
from halsted_ray.embedding.decode_stage import DecodeOptions, DecodeStage
from halsted_ray.embedding.stage_schemas import segments_table
from halsted_ray.mapping.inventory import take_inventory
from halsted_ray.records import Segment, WindowSpec
from halsted_ray.video.archive import list_videos
from halsted_ray.video.windows import segments as segments_of

SIZE = (112, 112)
MINUTES, RAW_MINUTES = 60, 10
CORES = len(os.sched_getaffinity(0))


def measure(setting: Setting) -> list[dict]:
    """The rate inside Ray divided by that of plain PyAV."""
    raw = setting.video(RAW_MINUTES)
    raw_s, seconds = timed(lambda: raw_pyav(raw, CORES))
    with setting.place() as folder:
        archive = setting.archive(Path(folder) / "archive", MINUTES)
        inside_s, (video_s, frames) = timed(lambda: inside_ray(archive, Path(folder) / "out"))
    raw_rate, rate = seconds / raw_s, video_s / inside_s
    return [
        ratio(
            "decoding inside Ray against raw PyAV",
            rate / raw_rate,
            0.9,
            rows=f"{video_s / 60:g} min of video, {frames} frames kept",
            why=f"{rate:.1f} against {raw_rate:.1f} times realtime on {CORES} cores; "
            "both decode reference frames and scale those at the windows' times",
        )
    ]


def raw_pyav(video: Path, processes: int) -> float:
    """Decodes ``video`` with PyAV and returns its length in seconds. Each process takes an equal part on one thread."""
    with av.open(str(video)) as container:
        length_s = container.duration / 1e6
    edges_s = np.linspace(0, length_s, processes + 1)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.starmap(decode_span, [(video, *edges_s[n : n + 2]) for n in range(processes)])
    return length_s


def decode_span(video: Path, start_s: float, stop_s: float) -> None:
    """PyAV as its manual shows it: seek, decode, and scale the frame that is shown at each wanted time."""
    step_s = WindowSpec().fine_s / WindowSpec().frames
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        stream.codec_context.skip_frame = "NONREF"
        container.seek(int(start_s / stream.time_base), stream=stream)
        wanted_s, shown = start_s, None
        for frame in container.decode(stream):
            while shown is not None and wanted_s < min(frame.time, stop_s):
                shown.reformat(width=SIZE[1], height=SIZE[0], format="rgb24").to_ndarray()
                wanted_s += step_s
            shown = frame
            if frame.time >= stop_s:
                break


def inside_ray(archive: Path, out: Path) -> tuple[float, int]:
    """(seconds of video, frames) that the pipeline's own stage decodes, from the listing of the archive on."""
    import ray.data

    (entry,) = take_inventory(list_videos(archive))
    spec = WindowSpec()
    found = segments_of(entry.video, spec, 60.0, "benchmark")
    options = decode_options(str(out), spec)
    with connected() as (cpus, gpus, cores):
        ray.data.DataContext.get_current().enable_progress_bars = False
        pools = size_pools(cpus, gpus, cores, len(found))
        rows = ray.data.from_arrow([segments_table([segment]) for segment in found]).map_batches(
            DecodeStage,
            fn_constructor_args=(options,),
            batch_size=1,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=pools.decoders.cpus,
            compute=ray.data.ActorPoolStrategy(size=pools.decoders.actors, max_tasks_in_flight_per_actor=2),
        )
        frames = sum(
            len(row.as_buffer()) // (SIZE[0] * SIZE[1] * 3)
            for batch in rows.iter_batches(batch_size=None, batch_format="pyarrow")
            for row in batch["frames"]
        )
    return entry.video.duration_s, frames


def decode_options(out: str, spec: WindowSpec) -> DecodeOptions:
    """How the pipeline decodes by default."""
    return DecodeOptions(out, "benchmark", spec, SIZE)


def alone(video: Path, cores: int) -> float:
    """How many times as fast as real time the decoding stage is in plain processes, without Ray."""
    (entry,) = take_inventory(list_videos(video))
    found = segments_of(entry.video, WindowSpec(), 60.0, "benchmark")
    with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(cores) as pool:
        started_s = time.perf_counter()
        pool.starmap(decode_segments, [(found[n::cores], folder) for n in range(cores)], chunksize=1)
        return entry.video.duration_s / (time.perf_counter() - started_s)


def decode_segments(found: list[Segment], folder: str) -> None:
    """Decodes segments one by one, as a decoding actor does."""
    stage = DecodeStage(decode_options(folder, WindowSpec()))
    for segment in found:
        stage(segments_table([segment]))
