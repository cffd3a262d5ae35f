"""Gives every window a vector: decodes, encodes and stores those windows that the store does not hold yet.

Processes work side by side, each with its own decoder (in a process that can be killed) and its own encoder. The frames
of a window are the frames that mapping takes, so training and mapping share one store.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from halsted_ray.errors import AtlasError, VideoError
from halsted_ray.model.encoder import Encoder
from halsted_ray.processes import process_pool
from halsted_ray.records import Video, Window, WindowSpec
from halsted_ray.storage.vectors import VectorStore, WindowKey
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.frames import Frames
from halsted_ray.video.presence import LEAST_PRESENT, is_asked, missing_s, stand_ins

log = logging.getLogger(__name__)

NAMED = 10
"""Videos with damage that a warning names; it counts the others."""
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


@dataclass
class Embedded:
    """What came of an EmbedTask: (kind, start_s, stop_s) → float16 [D]."""

    whole: dict[WindowKey, np.ndarray] = field(default_factory=dict)
    """Of windows that have all their pictures: these are stored."""
    mended: dict[WindowKey, np.ndarray] = field(default_factory=dict)
    """Of windows that lack some pictures, made from those that are there. They are not stored, so that they do not
    stand in the way where the file is whole again."""
    left_out: list[WindowKey] = field(default_factory=list)
    """Windows that lack too many pictures (``video.presence``)."""


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
    """video_id → (kind, start_s, stop_s) → float16 [D], of ``windows`` (video_id → windows).

    A window that lacks more pictures than ``video.presence`` allows is left out (``samples.with_vectors``); a window
    that lacks fewer is made from the others. One warning says how many there are of either, and in which videos.
    With ``steps`` a window's vector is its ``Encoder.encode_steps``, flattened; these vectors need a store of their
    own (another ``sampling``). ``workers``: processes, by default one per core. ``progress`` is called whenever a span
    that had to be decoded is done. Raises AtlasError that names the video where a span of a video can't be read at
    all: a model must not silently learn from fewer videos. Raises OutputError where a vector can't be stored. Whatever
    ends this ends the decoding at once; what is stored stays.
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
    damaged: dict[str, Embedded] = {}
    workers = min(len(jobs), workers or os.cpu_count() or 1)
    with process_pool(workers, start_worker, (encoder_ref,)) as pool:
        tasks = {pool.submit(run_task, job, spec, fidelity, steps): job for job in jobs}
        try:
            for task in as_completed(tasks):
                job = tasks[task]
                found = task.result()
                store.put(job.video.video_id, job.start_s, job.stop_s, found.whole)
                vectors[job.video.video_id] |= found.whole | found.mended
                if found.mended or found.left_out:
                    of_video = damaged.setdefault(job.video.video_id, Embedded())
                    of_video.mended |= found.mended
                    of_video.left_out += found.left_out
                done_s += seconds[job]
                if progress:
                    progress(done_s, sum(seconds.values()))
        except VideoError as error:
            raise AtlasError(
                f"video {job.video.video_id}, [{job.start_s}, {job.stop_s}) s: {error.code}: {error}; "
                "a video of an atlas must be readable: restore the file, or take its clips out of the atlas"
            ) from error
    if damaged:
        log.warning("%s", damage_report(damaged))
    return vectors


def damage_report(damaged: Mapping[str, Embedded]) -> str:
    """How many windows of which videos lack pictures, in one sentence."""
    mended = sum(len(found.mended) for found in damaged.values())
    left_out = sum(len(found.left_out) for found in damaged.values())
    names = sorted(damaged)
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return (
        f"{len(names):,} videos have damaged spans: {mended:,} windows are made from their remaining pictures, "
        f"{left_out:,} windows lack more than {1 - LEAST_PRESENT:.0%} of their time and are left out; restore the "
        f"files to use them whole: {', '.join(names[:NAMED])}{more}"
    )


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


def run_task(job: EmbedTask, spec: WindowSpec, fidelity: str, steps: bool) -> Embedded:
    """Decodes the task's span and encodes its windows. Raises VideoError."""
    encoder: Encoder = WORKER["encoder"]
    encode = encoder.encode_steps if steps else encoder.encode
    times_WT = np.stack([frame_times_s(window, job.video.duration_s, spec) for window in job.windows])
    times_s, rows = np.unique(times_WT, return_inverse=True)
    frames: Frames = WORKER["decoder"].read_frames(
        job.video.uri,
        times_s,
        encoder.image_size,
        fidelity,
        deadline_s=60 + DEADLINE_PER_VIDEO_SECOND * (times_s[-1] - times_s[0]),
    )
    missing = [(span.start_s, span.stop_s) for span in frames.missing]
    found = Embedded()
    for window, row_T in zip(job.windows, rows.reshape(times_WT.shape), strict=True):
        key, present_T = (window.kind, window.start_s, window.stop_s), frames.present_N[row_T]
        is_whole = missing_s(window, missing) == 0 and bool(present_T.all())
        if not is_whole and not is_asked(window, missing, present_T, LEAST_PRESENT):
            found.left_out.append(key)
            continue
        row_T = row_T if is_whole else row_T[stand_ins(present_T)]
        (found.whole if is_whole else found.mended)[key] = encode(frames.images_NHWC[row_T][None])[0].ravel()
    return found
