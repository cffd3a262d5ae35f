"""Mapping, and decoding alone, against ``ray.data.read_videos``, which gives every frame that it keeps as a row.

It is used as well as it can be: it keeps the frames that are wanted (``fps``) and scales them as they are decoded
(``resize``). It still decodes and scales every frame, in one task per file, which holds the whole file in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from measuring import Answer, Peaks, Setting, ratio, timed, watched
from model import trained

from halsted_ray.compute.cluster import connected
from halsted_ray.compute.pools import size_pools
from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import WindowSpec
from halsted_ray.video.decode_process import DecodeProcess

MINUTES = 10
KEPT_FPS = 3
"""``fps`` is a whole number and becomes a stride. Fine windows ask for 3.2 frames/s; 3 are the stride of 10."""
SIZE = (112, 112)
SEGMENT_S = 60.0
SAME_LEVELS = 3.0
"""The mean difference, in grey levels, up to which pictures of two scalers show one frame."""


def measure(setting: Setting) -> list[dict]:
    """Wall time and CPU of both, their memory, and what each spilled to disk."""
    model = trained(setting.cache)
    with setting.place() as folder:
        place = Path(folder)
        archive = setting.archive(place / "archive", MINUTES)
        video = archive / "video.mp4"
        decoding = measure_decoding(video, MINUTES * 60.0 if not setting.quick else 300.0)
        theirs_s, (windows, their_mb) = timed(lambda: spilling(lambda: read_videos(video, model)))
        ours_s, (summary, our_mb) = timed(
            lambda: spilling(lambda: map_archive(str(archive), str(place / "out"), model))
        )
    rows = f"{summary.video_s / 60:g} min of video"
    return [
        *decoding,
        ratio(
            "mapping against ray.data.read_videos",
            theirs_s / ours_s,
            3,
            rows=f"{rows}, {windows} windows",
            why=f"{theirs_s:.0f} s (with its fps and resize, its best use) against {ours_s:.0f} s, start-up "
            "in both; decoding takes most of both, and there the ratio is that of reference against decord",
        ),
        ratio(
            "  spilled to disk", our_mb, 0, unit="MB", at_most=True, rows=rows, why=f"read_videos: {their_mb:.0f} MB"
        ),
    ]


def measure_decoding(video: Path, length_s: float) -> list[dict]:
    """The same frames at the same size from both, inside one started Ray: video-seconds per CPU-second."""
    times_s = np.arange(0.0, length_s, 1 / KEPT_FPS)
    with connected() as (cpus, gpus, cores):
        actors = size_pools(cpus, gpus, cores, cores).decoders.actors
        theirs = spent(lambda: decoded_by_read_videos(video))
        ours = {
            fidelity: spent(lambda fidelity=fidelity: decoded_here(video, times_s, fidelity, actors))
            for fidelity in ("exact", "reference")
        }
    their_s, their_peaks, their_frames = theirs
    results = []
    for fidelity, (our_s, our_peaks, our_frames) in ours.items():
        same = our_frames.shape == their_frames.shape and levels_apart(our_frames, their_frames) < SAME_LEVELS
        results.append(
            ratio(
                f"decoding at {fidelity} against ray.data.read_videos, per CPU-second",
                their_peaks.cpu_s / our_peaks.cpu_s,
                None,
                also=same,
                rows=f"{length_s / 60:g} min of video, {len(our_frames)} frames of {SIZE[1]}x{SIZE[0]}",
                why=f"{length_s / our_peaks.cpu_s:.1f} against {length_s / their_peaks.cpu_s:.1f} video-seconds per "
                f"CPU-second; {our_s:.0f} against {their_s:.0f} s; largest process {max(our_peaks.mb.values()):.0f} "
                f"against {max(their_peaks.mb.values()):.0f} MB; pictures {levels_apart(our_frames, their_frames):.1f} "
                "grey levels apart in the mean",
            )
        )
    return results


def spent(run: Callable[[], Answer]) -> tuple[float, Peaks, Answer]:
    """(seconds, memory and CPU of all processes, answer) of ``run``."""
    with watched() as peaks:
        seconds, answer = timed(run)
    return seconds, peaks, answer


def levels_apart(frames: np.ndarray, others: np.ndarray) -> float:
    """The mean difference of two runs' frames in grey levels."""
    count = min(len(frames), len(others))
    return float(np.abs(frames[:count].astype(np.int16) - others[:count]).mean())


def decoded_by_read_videos(video: Path) -> np.ndarray:
    """uint8 [N, H, W, 3]: the frames of ``video`` at ``KEPT_FPS``."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    rows = ray.data.read_videos(str(video), fps=KEPT_FPS, resize=SIZE)
    return np.concatenate([batch["frame"] for batch in rows.iter_batches(batch_size=None)])


def decoded_here(video: Path, times_s: np.ndarray, fidelity: str, actors: int) -> np.ndarray:
    """uint8 [N, H, W, 3]: the frames of ``video`` at ``times_s``, by segments in actors as the pipeline decodes."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    segments = np.split(times_s, np.searchsorted(times_s, np.arange(SEGMENT_S, times_s[-1], SEGMENT_S)))
    rows = ray.data.from_arrow([pa.table({"times_s": [segment.tolist()]}) for segment in segments])
    rows = rows.map_batches(
        ReadFrames,
        fn_constructor_args=(str(video), fidelity),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=2),
    )
    parts = [
        np.frombuffer(row.as_buffer(), np.uint8).reshape(-1, *SIZE, 3)
        for batch in rows.iter_batches(batch_size=None, batch_format="pyarrow")
        for row in batch["frames"]
    ]
    return np.concatenate(parts)


class ReadFrames:
    """Rows of times in, the frames at these times out, decoded as ``DecodeStage`` does."""

    def __init__(self, video: str, fidelity: str):
        self.video, self.fidelity = video, fidelity
        self.process = DecodeProcess()

    def __call__(self, table: pa.Table) -> pa.Table:
        """``times_s``: a list of seconds per row; ``frames``: the bytes of uint8 [T, H, W, 3] per row."""
        rows = [
            self.process.read_frames(self.video, np.array(times_s), SIZE, self.fidelity, deadline_s=600)
            for times_s in table["times_s"].to_pylist()
        ]
        return pa.table({"frames": pa.array([frames.images_NHWC.tobytes() for frames in rows], pa.large_binary())})


def spilling(run: Callable[[], Any]) -> tuple[Any, float]:
    """(result of ``run``, MB that Ray's object store wrote to disk meanwhile)."""
    import ray
    from ray._private.internal_api import memory_summary

    with connected():
        found = run()
        words = memory_summary(ray.get_runtime_context().gcs_address, stats_only=True).split()
        return found, float(words[words.index("Spilled") + 1]) if "Spilled" in words else 0.0


def read_videos(video: Path, model: str) -> int:
    """Tags a video from rows of single frames; returns the number of windows. A batch is 30 s: a coarse window and its
    fine windows."""
    import ray.data

    with connected() as (cpus, gpus, cores):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        pools = size_pools(cpus, gpus, cores, cores)
        rows = ray.data.read_videos(str(video), fps=KEPT_FPS, resize=SIZE).map_batches(
            TagFrames,
            fn_constructor_args=(model,),
            batch_size=int(WindowSpec().coarse_s * KEPT_FPS),
            num_cpus=pools.encoders.cpus,
            compute=ray.data.ActorPoolStrategy(size=1),
        )
        return sum(len(batch["answers"]) for batch in rows.iter_batches(batch_size=None))


class TagFrames:
    """A batch of frames in, the tags of its windows out."""

    def __init__(self, model: str):
        import torch

        torch.set_num_threads(1)
        self.model = Halsted.load(model)
        self.encoder = self.model.load_encoder()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list]:
        """``frame``: uint8 [N, H, W, 3] in; ``answers``: a text per window out."""
        frames, spec = batch["frame"], WindowSpec()
        windows = [(0.0, spec.coarse_s)] + [(n * spec.fine_s, spec.fine_s) for n in range(spec.fine_per_coarse)]
        picks = np.array([start_s + np.arange(spec.frames) * length_s / spec.frames for start_s, length_s in windows])
        vectors = self.encoder.encode(frames[np.minimum((picks * KEPT_FPS + 1e-6).astype(int), len(frames) - 1)])
        macro = self.model.tag(vectors, "macro", unit="grid")
        fine = ["micro" if answer["step"][0] == "Dissection" else "proficiency" for answer in macro[1:]]
        answers = self.model.tag(vectors[1:], fine, unit="grid")
        driving = [n for n, answer in enumerate(answers) if answer.get("phase", ("",))[0] == "Driving"]
        if driving:
            self.model.tag(vectors[1:][driving], "context", unit="grid")
        return {"answers": [str(answer) for answer in [*macro[:1], *answers]]}
