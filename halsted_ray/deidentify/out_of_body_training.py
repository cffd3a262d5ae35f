"""Trains the detector of the outside: on drawn pictures, and on the videos of an atlas with ``out_of_body`` labels.

Shapes: N frames, S = 64 pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from halsted_ray.atlas.atlas_table import read_atlas
from halsted_ray.atlas.contents import Atlas
from halsted_ray.deidentify.out_of_body import RATE_HZ, smoothed
from halsted_ray.deidentify.out_of_body_net import (
    SIZE,
    OutOfBodyDetector,
    OutOfBodyNet,
    SearchSettings,
    save_detector,
)
from halsted_ray.deidentify.out_of_body_samples import drawn_set, drawn_timeline
from halsted_ray.deidentify.out_of_body_thresholds import choose_thresholds
from halsted_ray.errors import AtlasError, TrainingError, UsageError, VideoError
from halsted_ray.processes import process_pool
from halsted_ray.records import Clip, Video
from halsted_ray.video.decode_process import DecodeProcess

log = logging.getLogger(__name__)

TASK, TAG, OUTSIDE, INSIDE = "out_of_body", "view", "Out of body", "In body"
"""The task, tag and categories of ``taxonomy/out_of_body.yaml``."""
BATCH, RATE, WEIGHT_DECAY, EPOCHS = 256, 2e-3, 1e-2, 10
DRAWN = 30_000
"""Drawn frames to train on."""
SEEDS_A_SET = 200
"""Frames per seed of the drawn set."""
VALIDATION_SEED, VALIDATION_VIDEOS, VALIDATION_S = 7_000_000, 24, 60.0
"""Phantoms whose smoothed scores set the thresholds."""
FRAMES_A_VIDEO = 600
"""Frames of each annotated video that are trained on, half of them outside where it has as many."""
EDGE_S = 0.25
"""Frames nearer to an annotated edge are not used: people mark edges to about a quarter of a second."""

Progress = Callable[[str], None]
Spans = list[tuple[float, float]]
"""(start_s, stop_s) of the spans of one video outside of the body."""


@dataclass(frozen=True)
class Trained:
    """What a training gave. ``recall``, ``precision``: of the validation videos' seconds, before spans are widened.
    ``frames``: how many it was trained on; ``videos``: of how many annotated videos."""

    detector: OutOfBodyDetector
    frames: int
    videos: int
    recall: float
    precision: float


def train_out_of_body(
    out: str,
    *,
    atlas: str | None = None,
    release: str | None = None,
    drawn: int = DRAWN,
    epochs: int = EPOCHS,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = lambda _said: None,
) -> Trained:
    """Trains a detector and writes it to the file ``out`` (half a megabyte).

    ``atlas``: a place with an atlas whose clips of the task ``out_of_body`` say when the camera is outside; the rest of
    a video that has such a clip counts as inside. Its training part is trained on, beside ``drawn`` drawn frames; its
    validation part sets the thresholds, and without one drawn videos do. ``workers``: processes that draw. The same
    arguments give the same detector on one machine.

    Takes about 10 minutes on a free core without an atlas. Raises AtlasError, OutputError, UsageError.
    """
    if drawn < 0 or epochs < 1 or (not drawn and not atlas):
        raise UsageError(f"drawn={drawn}, epochs={epochs}: expected 1 epoch or more, and drawn frames or an atlas")
    frames, outside, videos = [], [], 0
    held_out: list[tuple[Video, Spans]] = []
    if atlas:
        found = read_atlas(atlas, release)
        train, held_out = annotated_parts(found)
        videos = len(train)
        for number, (video, spans) in enumerate(train):
            progress(f"reading video {number + 1} of {videos}")
            some = annotated_frames(video, spans, np.random.default_rng([seed, number]))
            frames.append(some[0])
            outside.append(some[1])
    with process_pool(max(1, workers)) as pool:
        if drawn:
            progress(f"drawing {drawn:,} frames")
            seeds = range(seed * 100_000, seed * 100_000 + -(-drawn // SEEDS_A_SET))
            images, labels = drawn_set(pool, seeds, SEEDS_A_SET)
            frames.append(images[:drawn])
            outside.append(labels[:drawn])
        images, labels = np.concatenate(frames), np.concatenate(outside)
        net = fit(images, labels, epochs=epochs, seed=seed, progress=progress)
        progress("setting the thresholds")
        timelines = [annotated_timeline(video, spans) for video, spans in held_out]
        if not any(labels_N.any() for _, labels_N in timelines):
            timelines = drawn_timelines(pool, range(VALIDATION_SEED, VALIDATION_SEED + VALIDATION_VIDEOS))
    scorer = OutOfBodyDetector(net, SearchSettings())
    chosen = choose_thresholds([(smoothed(scorer.scores(shown)), outside_N) for shown, outside_N in timelines])
    trained_on = f"{len(images)} frames, {videos} annotated videos"
    detector = OutOfBodyDetector(net, SearchSettings(chosen.threshold, trained_on, chosen.edge_threshold))
    save_detector(detector, out)
    return Trained(detector, len(images), videos, chosen.recall, chosen.precision)


def fit(
    frames_NHWC: NDArray[np.uint8],
    outside_N: NDArray[np.bool_],
    *,
    epochs: int = EPOCHS,
    seed: int = 0,
    progress: Progress = lambda _said: None,
) -> OutOfBodyNet:
    """Trains a network on frames (uint8 [N, S, S, 3] RGB) and whether each is outside.

    Both classes weigh the same. Frames are mirrored, shifted in colour and made noisy anew in every epoch. Raises
    TrainingError where there are not both classes, or the loss is not finite.
    """
    if len(frames_NHWC) != len(outside_N) or frames_NHWC.shape[1:] != (SIZE, SIZE, 3):
        raise ValueError(f"expected [N, {SIZE}, {SIZE}, 3] frames and N labels, got {list(frames_NHWC.shape)}")
    if outside_N.all() or not outside_N.any():
        raise TrainingError(f"{outside_N.sum()} of {len(outside_N)} frames are outside; expected frames of both kinds")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = OutOfBodyNet().to(memory_format=torch.channels_last)
        chance = torch.Generator().manual_seed(seed)
        frames, outside = torch.from_numpy(frames_NHWC), torch.from_numpy(outside_N).float()
        steps = max(1, len(frames) // BATCH)
        optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * steps + 1)
        loss_of = nn.BCEWithLogitsLoss(pos_weight=(1 - outside).sum() / outside.sum())
        net.train()
        for epoch in range(epochs):
            order, total = torch.randperm(len(frames), generator=chance), 0.0
            for step in range(steps):
                rows = order[step * BATCH : (step + 1) * BATCH]
                seen = _varied(frames[rows].permute(0, 3, 1, 2).float() / 255, chance)
                loss = loss_of(net(seen), 0.98 * outside[rows] + 0.01)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += float(loss.detach())
            if not np.isfinite(total):
                raise TrainingError(f"the loss of epoch {epoch + 1} is not finite; use a lower rate")
            progress(f"epoch {epoch + 1} of {epochs}: loss {total / steps:.4f}")
    return net.eval()


def _varied(frames_NCHW: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
    """Frames mirrored, in other light and colours, with noise, and darker in a place."""
    count = len(frames_NCHW)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=chance)

    flipped = torch.where(draw(count, 1, 1, 1) < 0.5, frames_NCHW.flip(3), frames_NCHW)
    flipped = torch.where(draw(count, 1, 1, 1) < 0.5, flipped.flip(2), flipped)
    gain = (0.8 + 0.4 * draw(count, 1, 1, 1)) * (0.92 + 0.16 * draw(count, 3, 1, 1))
    noise = (draw(*frames_NCHW.shape) - 0.5) * 0.06 * draw(count, 1, 1, 1)
    return (flipped * gain + noise).clamp(0, 1).contiguous(memory_format=torch.channels_last)


def drawn_timelines(pool: Executor, seeds: Sequence[int]) -> list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Frames at ``RATE_HZ`` of whole phantoms, and whether each is outside."""
    count = len(seeds)
    return list(pool.map(drawn_timeline, seeds, [VALIDATION_S] * count, [RATE_HZ] * count))


def annotated_parts(atlas: Atlas) -> tuple[list[tuple[Video, Spans]], list[tuple[Video, Spans]]]:
    """(video, its spans outside) of the training part, and of the validation part."""
    of_video: dict[str, list[Clip]] = {}
    for clip in atlas.clips:
        if clip.task == TASK:
            of_video.setdefault(clip.video_id, []).append(clip)
    if not of_video:
        raise AtlasError(
            f"the atlas at {atlas.root!r} has no clip of the task {TASK!r}; import labels with the taxonomy "
            f"{TASK!r} (one clip per span, {TAG}: {OUTSIDE})"
        )
    parts: dict[str, list[tuple[Video, Spans]]] = {"train": [], "validation": []}
    for video in atlas.videos:
        part = atlas.split.get(video.video_id, "train")
        if video.video_id in of_video and part in parts:
            spans = [(clip.start_s, clip.stop_s) for clip in of_video[video.video_id] if clip.tags.get(TAG) != INSIDE]
            parts[part].append((video, sorted(spans)))
    if not parts["train"]:
        raise AtlasError(f"no video with {TASK!r} labels is in the training part of the atlas at {atlas.root!r}")
    return parts["train"], parts["validation"]


def is_outside(times_s: NDArray[np.float64], spans: Spans) -> NDArray[np.bool_]:
    """bool [N]: which times lie in one of ``spans``."""
    outside = np.zeros(len(times_s), bool)
    for start_s, stop_s in spans:
        outside |= (times_s >= start_s) & (times_s < stop_s)
    return outside


def annotated_frames(
    video: Video, spans: Spans, rng: np.random.Generator, count: int = FRAMES_A_VIDEO
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Up to ``count`` frames of an annotated video and whether each is outside, none near an edge.

    A video that can't be read gives no frame, and a warning.
    """
    times_s = np.sort(rng.uniform(0, video.duration_s, max(count * 8, 64)))
    outside = is_outside(times_s, spans)
    edges = np.array([edge for span in spans for edge in span] or [-1e9])
    clear = np.abs(times_s[:, None] - edges[None]).min(1) > EDGE_S
    kept = np.concatenate(
        [
            rows[np.sort(rng.permutation(len(rows))[: count // 2])]
            for rows in (np.flatnonzero(clear & outside), np.flatnonzero(clear & ~outside))
        ]
    )
    return _read(video, np.sort(times_s[kept]), spans)


def annotated_timeline(video: Video, spans: Spans) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Frames of a whole annotated video at ``RATE_HZ``, and whether each is outside; 350 MB for an hour."""
    return _read(video, np.arange(0, video.duration_s, 1 / RATE_HZ), spans)


def _read(video: Video, times_s: NDArray[np.float64], spans: Spans) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    try:
        with DecodeProcess() as decoder:
            frames = decoder.read_frames(video.uri, times_s, (SIZE, SIZE), deadline_s=60.0 + 10.0 * video.duration_s)
    except VideoError as error:
        log.warning("video %s is left out of the training: %s", video.video_id, error)
        return np.zeros((0, SIZE, SIZE, 3), np.uint8), np.zeros(0, bool)
    kept = frames.present_N
    return frames.images_NHWC[kept], is_outside(frames.pts_s[kept], spans)
