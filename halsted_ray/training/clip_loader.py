"""Phantom clips for pretraining: worker processes render into shared memory, and the trainer reads from there.

Rendering a clip takes about as long as learning from it. So clips lie in a reservoir of slots, where each clip is seen
a few times before a newer clip takes its slot. How often depends on how fast both sides run; the run counts it.
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
"""(rng, size, window_s, frames) -> (frames uint8 [T, H, W, 3], tag name → category); workers import it by name."""


@dataclass(frozen=True)
class ClipLoaderSpec:
    """What is rendered: clips of ``frames`` pictures of ``size`` × ``size`` pixels.

    ``seed`` 2k is for training and 2k+1 for validation, so the two never share a clip. ``coarse_share``: share of clips
    that last ``coarse_s``; the others last ``fine_s``.
    """

    draw: DrawClip
    seed: int
    size: int
    frames: int
    coarse_share: float
    fine_s: float = 2.5
    coarse_s: float = 30.0
    degrade: bool = True
    """Make some clips as a camera and a codec would: softer, noisier, blocky."""


class ClipLoader:
    """A reservoir of ``slots`` clips that ``workers`` processes keep renewing until ``close``.

    ``first``: number of the first clip, so that a resumed run renders new clips. ``nice``: added to the processes'
    niceness, so that they yield to the trainer.
    """

    def __init__(
        self, spec: ClipLoaderSpec, taxonomy: Taxonomy, slots: int, workers: int, first: int = 0, nice: int = 0
    ) -> None:
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
        """Number of the newest clip plus one; clips of earlier runs count too."""
        return max(self.first, int(self.serials.max()) + 1)

    def wait(self, clips: int, limit_s: float = 600) -> None:
        """Blocks until ``clips`` slots are filled; HalstedError when a worker died or ``limit_s`` passed."""
        deadline = time.monotonic() + limit_s
        while int((self.serials >= 0).sum()) < clips:
            dead = [p.exitcode for p in self.processes if not p.is_alive()]
            if dead or time.monotonic() > deadline:
                raise HalstedError(
                    f"clip loader: {int((self.serials >= 0).sum())} of {clips} clips after {limit_s} s at most; exit "
                    f"codes of dead workers: {dead}; see their traceback above"
                )
            time.sleep(0.05)

    def batch(self, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """(pixels uint8 [count, T, H, W, 3], labels int64 [count, tags], −1 where a tag does not apply)."""
        filled = torch.nonzero(self.serials >= 0).squeeze(1)
        slots = filled[torch.from_numpy(rng.choice(len(filled), count, replace=len(filled) < count))]
        before = self.serials[slots]
        pixels, labels = self.pixels[slots], self.labels[slots]
        is_torn = (before != self.serials[slots]) | (before < 0)  # a worker replaced the clip while it was copied
        labels[is_torn] = -1
        return pixels, labels

    def close(self) -> None:
        """Ends the worker processes."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join()


def tag_names(taxonomy: Taxonomy) -> list[str]:
    """Every tag of every task, in the taxonomy's order: the columns of ``labels``."""
    return [tag.name for task in taxonomy.tasks for tag in task.tags]


def tag_sizes(taxonomy: Taxonomy) -> list[int]:
    """Number of categories of each tag, in the order of ``tag_names``."""
    return [len(tag.categories) for task in taxonomy.tasks for tag in task.tags]


def clip_of(spec: ClipLoaderSpec, taxonomy: Taxonomy, number: int) -> tuple[np.ndarray, list[int]]:
    """(frames uint8 [T, H, W, 3], category index of each tag or −1) of clip ``number``.

    The same arguments always give the same clip.
    """
    rng = np.random.default_rng([spec.seed, number])
    window_s = spec.coarse_s if rng.random() < spec.coarse_share else spec.fine_s
    frames, tags = spec.draw(rng, spec.size, window_s, spec.frames)
    if spec.degrade:
        frames = _degraded(frames, rng)
    labels = [
        tag.categories.index(tags[tag.name]) if tag.name in tags else -1 for task in taxonomy.tasks for tag in task.tags
    ]
    return frames, labels


def _degraded(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half of the clips stay clean; a sixth each is blurred a little, noisy, or shows the blocks of JPEG."""
    kind = rng.integers(6)
    if kind == 0:
        return np.stack([cv2.GaussianBlur(frame, (3, 3), float(rng.uniform(0.4, 0.9))) for frame in frames])
    if kind == 1:
        noise = rng.normal(0, rng.uniform(1, 4), (*frames.shape[:3], 1)).astype(np.float32)
        return np.clip(frames + noise, 0, 255).astype(np.uint8)
    if kind == 2:
        quality = int(rng.integers(60, 95))
        return np.stack([_through_jpeg(frame, quality) for frame in frames])
    return frames


def _through_jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    """The frame as JPEG of this quality shows it."""
    decoded = cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    assert decoded is not None, "a JPEG that OpenCV itself has just written"
    return decoded


def _render(
    spec: ClipLoaderSpec,
    taxonomy: Taxonomy,
    pixels: torch.Tensor,
    labels: torch.Tensor,
    serials: torch.Tensor,
    numbers: range,
    nice: int,
) -> None:
    """Body of a worker: puts clip ``number`` into slot ``number % slots``, for each of ``numbers``, until killed."""
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
        if os.getppid() != parent:  # the trainer was killed, so nobody reads any more
            return
