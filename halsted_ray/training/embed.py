"""Gives every window a vector: decodes, encodes and stores those windows that the store does not hold yet.

Processes work side by side, each with its own decoder (in a process that can be killed) and its own encoder. The frames
of a window are the frames that mapping takes, so training and mapping share one store.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from halsted_ray.errors import AtlasError, VideoError
from halsted_ray.model.encoder import Encoder
from halsted_ray.processes import process_pool
from halsted_ray.records import Video, Window, WindowSpec
from halsted_ray.storage.vectors import VectorStore, WindowKey
from halsted_ray.video.decode_process import DecodeProcess

SPAN_S = 120.0
"""Decoded at once: 120 s on the fine grid (6.4 frames per second) are 29 MB at 112×112, 116 MB at 224×224."""
DEADLINE_PER_VIDEO_SECOND = 4.0
"""Seconds that decoding one second of video may take, beside a minute for the start."""
EmbedProgress = Callable[[float, float], None]
"""Called with (video-seconds done, video-seconds in all) of what had to be decoded."""


@dataclass(frozen=True)
class EmbedTask:
    """The windows of one video that begin in ``[start_s, stop_s)`` and have no vector yet."""

    video: Video
    start_s: float
    stop_s: float
    windows: tuple[Window, ...]


def embed(
    videos: Sequence[Video],
    windows: Mapping[str, Sequence[Window]],
    encoder_ref: str,
    store: VectorStore,
    spec: WindowSpec,
    *,
    fidelity: str = "reference",
    steps: bool = False,
    workers: int | None = None,
    progress: EmbedProgress | None = None,
) -> dict[str, dict[WindowKey, np.ndarray]]:
    """video_id → (kind, start_s, stop_s) → float16 [D], of all ``windows`` (video_id → windows).

    With ``steps`` a window's vector is its ``Encoder.encode_steps``, flattened; these vectors need a store of their
    own (another ``sampling``). ``workers``: processes, by default one per core. ``progress`` is called whenever a span
    that had to be decoded is done. Raises AtlasError that names the video where a video can't be decoded: a model must
    not silently learn from fewer videos. Raises OutputError where a vector can't be stored. Whatever ends this ends the
    decoding at once; what is stored stays.
    """
    vectors: dict[str, dict[WindowKey, np.ndarray]] = {}
    jobs = []
    for video in videos:
        have = vectors[video.video_id] = {}
        for start_s, wanted in sorted(windows_by_span(windows[video.video_id]).items()):
            stop_s = start_s + SPAN_S
            have |= store.get(video.video_id, start_s, stop_s)
            missing = tuple(w for w in wanted if (w.kind, w.start_s, w.stop_s) not in have)
            if missing:
                jobs.append(EmbedTask(video, start_s, stop_s, missing))
    if not jobs:
        return vectors
    seconds = {job: min(job.stop_s, job.video.duration_s) - job.start_s for job in jobs}
    done_s = 0.0
    workers = min(len(jobs), workers or os.cpu_count() or 1)
    with process_pool(workers, start_worker, (encoder_ref,)) as pool:
        tasks = {pool.submit(run_task, job, spec, fidelity, steps): job for job in jobs}
        try:
            for task in as_completed(tasks):
                job = tasks[task]
                found = task.result()
                store.put(job.video.video_id, job.start_s, job.stop_s, found)
                vectors[job.video.video_id] |= found
                done_s += seconds[job]
                if progress:
                    progress(done_s, sum(seconds.values()))
        except VideoError as error:
            raise AtlasError(
                f"video {job.video.video_id}, [{job.start_s}, {job.stop_s}) s: {error.code}: {error}; "
                "a video of an atlas must be readable: restore the file, or take its clips out of the atlas"
            ) from error
    return vectors


def windows_by_span(windows: Sequence[Window]) -> dict[float, list[Window]]:
    """Start of each span of ``SPAN_S`` → the windows that begin in it."""
    spans: dict[float, list[Window]] = {}
    for window in windows:
        spans.setdefault(window.start_s // SPAN_S * SPAN_S, []).append(window)
    return spans


def frame_times_s(window: Window, duration_s: float, spec: WindowSpec) -> np.ndarray:
    """float64 [frames]: when the window's frames are shown.

    A frame past the video's end is replaced by the last frame on the fine grid.
    """
    lengths_s = {"coarse": spec.coarse_s, "fine": spec.fine_s, "clip": window.stop_s - window.start_s}
    length_s = lengths_s[window.kind]
    step_s = spec.fine_s / spec.frames
    last_s = window.start_s + (math.ceil((duration_s - window.start_s) / step_s) - 1) * step_s
    return np.minimum(window.start_s + np.arange(spec.frames) * (length_s / spec.frames), last_s)


WORKER: dict[str, Any] = {}
"""The decoder and the encoder of this process (``start_worker``)."""


def start_worker(encoder_ref: str) -> None:
    """Loads the encoder and starts the decoder of this process, for ``run_task``; it computes on one thread."""
    torch.set_num_threads(1)
    WORKER["encoder"] = Encoder.load(encoder_ref)
    WORKER["decoder"] = DecodeProcess()


def run_task(job: EmbedTask, spec: WindowSpec, fidelity: str, steps: bool) -> dict[WindowKey, np.ndarray]:
    """Decodes the task's span and encodes its windows: (kind, start_s, stop_s) → float16 [D]. Raises VideoError."""
    encoder: Encoder = WORKER["encoder"]
    encode = encoder.encode_steps if steps else encoder.encode
    times_WT = np.stack([frame_times_s(window, job.video.duration_s, spec) for window in job.windows])
    times_s, rows = np.unique(times_WT, return_inverse=True)
    frames = (
        WORKER["decoder"]
        .read_frames(
            job.video.uri,
            times_s,
            encoder.image_size,
            fidelity,
            deadline_s=60 + DEADLINE_PER_VIDEO_SECOND * (times_s[-1] - times_s[0]),
        )
        .require_whole()
    )
    vectors = {}
    for window, row_T in zip(job.windows, rows.reshape(times_WT.shape), strict=True):
        vectors[window.kind, window.start_s, window.stop_s] = encode(frames.images_NHWC[row_T][None])[0].ravel()
    return vectors
