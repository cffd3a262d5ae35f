"""Phantom clips for pretraining: worker processes render into shared memory, the trainer reads what is there.

A clip costs about as much to render as to learn from, so clips live in a reservoir: each is seen a few times before
a newer one takes its slot. How often depends on how fast both sides run, and is counted.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from halsted_ray.errors import HalstedError
from halsted_ray.taxonomy import Taxonomy

DrawClip = Callable[[np.random.Generator, int, float, int], tuple[np.ndarray, dict[str, str]]]
"""(rng, size, window_s, frames) -> (frames uint8 [T, H, W, 3], tag name → category); importable by name."""


@dataclass(frozen=True)
class ClipLoaderSpec:
    """What is rendered. ``seed`` 2k is for training and 2k+1 for validation, so the two never share a clip."""

    draw: DrawClip
    seed: int
    size: int
    frames: int
    coarse_share: float
    fine_s: float = 2.5
    coarse_s: float = 30.0
    spoil: bool = True
    """Leave some clips as a camera and a codec would: softer, noisier, blocky."""


class ClipLoader:
    """A reservoir of ``slots`` clips, kept fresh by ``workers`` processes until ``close``.

    ``first``: number of the first clip, so that a resumed run renders new ones.
    """

    def __init__(
        self, spec: ClipLoaderSpec, taxonomy: Taxonomy, slots: int, workers: int, first: int = 0, nice: int = 0
    ):
        self.tags = tag_names(taxonomy)
        self.pixels = torch.zeros((slots, spec.frames, spec.size, spec.size, 3), dtype=torch.uint8).share_memory_()
        self.labels = torch.full((slots, len(self.tags)), -1, dtype=torch.int64).share_memory_()
        self.serials = torch.full((slots,), -1, dtype=torch.int64).share_memory_()
        self.first, self.slots = first, slots
        context = multiprocessing.get_context("spawn")
        self.processes = [
            context.Process(
                target=_render,
                daemon=True,
                args=(spec, taxonomy, self.pixels, self.labels, self.serials, range(first + w, 1 << 60, workers), nice),
            )
            for w in range(workers)
        ]
        for process in self.processes:
            process.start()

    @property
    def rendered(self) -> int:
        """Number of the newest clip plus one; counts clips of earlier runs too."""
        return max(self.first, int(self.serials.max()) + 1)

    def wait(self, clips: int, limit_s: float = 600) -> None:
        """Blocks until ``clips`` slots are filled; HalstedError when a worker died or ``limit_s`` passed."""
        deadline = time.monotonic() + limit_s
        while int((self.serials >= 0).sum()) < clips:
            dead = [p.exitcode for p in self.processes if not p.is_alive()]
            if dead or time.monotonic() > deadline:
                raise HalstedError(
                    f"clip feed: {int((self.serials >= 0).sum())} of {clips} clips after {limit_s} s at most; exit "
                    f"codes of dead workers: {dead}; see their traceback above"
                )
            time.sleep(0.05)

    def batch(self, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """(pixels uint8 [count, T, H, W, 3], labels int64 [count, tags], −1 where a tag does not apply)."""
        filled = torch.nonzero(self.serials >= 0).squeeze(1)
        slots = filled[torch.from_numpy(rng.choice(len(filled), count, replace=len(filled) < count))]
        before = self.serials[slots]
        pixels, labels = self.pixels[slots], self.labels[slots]
        torn = (before != self.serials[slots]) | (before < 0)  # a worker replaced it while it was copied
        labels[torn] = -1
        return pixels, labels

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join()


def tag_names(taxonomy: Taxonomy) -> list[str]:
    """Every tag of every task, in the taxonomy's order: the columns of ``labels``."""
    return [tag.name for task in taxonomy.tasks for tag in task.tags]


def tag_sizes(taxonomy: Taxonomy) -> list[int]:
    return [len(tag.categories) for task in taxonomy.tasks for tag in task.tags]


def clip_of(spec: ClipLoaderSpec, taxonomy: Taxonomy, number: int) -> tuple[np.ndarray, list[int]]:
    """Clip ``number`` of a feed and its labels: a function of its arguments alone."""
    rng = np.random.default_rng([spec.seed, number])
    window_s = spec.coarse_s if rng.random() < spec.coarse_share else spec.fine_s
    frames, tags = spec.draw(rng, spec.size, window_s, spec.frames)
    if spec.spoil:
        frames = _spoiled(frames, rng)
    labels = [
        tag.categories.index(tags[tag.name]) if tag.name in tags else -1 for task in taxonomy.tasks for tag in task.tags
    ]
    return frames, labels


def _spoiled(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A third of the clips stay clean; the others are blurred a little, noisy, or carry JPEG's blocks."""
    kind = rng.integers(6)
    if kind == 0:
        return np.stack([cv2.GaussianBlur(frame, (3, 3), float(rng.uniform(0.4, 0.9))) for frame in frames])
    if kind == 1:
        noise = rng.normal(0, rng.uniform(1, 4), (*frames.shape[:3], 1)).astype(np.float32)
        return np.clip(frames + noise, 0, 255).astype(np.uint8)
    if kind == 2:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 95))]
        return np.stack([cv2.imdecode(cv2.imencode(".jpg", frame, quality)[1], cv2.IMREAD_COLOR) for frame in frames])
    return frames


def _render(spec: ClipLoaderSpec, taxonomy: Taxonomy, pixels, labels, serials, numbers: range, nice: int) -> None:
    """Body of a worker: fills slot ``number % slots`` with clip ``number``, for ever."""
    os.nice(nice)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    parent = os.getppid()
    for number in numbers:
        frames, tags = clip_of(spec, taxonomy, number)
        slot = number % len(serials)
        serials[slot] = -1
        pixels[slot] = torch.from_numpy(np.ascontiguousarray(frames))
        labels[slot] = torch.tensor(tags)
        serials[slot] = number
        if os.getppid() != parent:  # the trainer was killed; nobody reads any more
            return
