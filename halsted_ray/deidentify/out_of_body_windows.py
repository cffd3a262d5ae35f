"""Windows of drawn phantoms as an encoder's vectors, with how much of each lies outside of the body.

What ``halsted embed`` would store of a phantom's file, but drawn at ``DRAWN_HZ`` and without a codec between: writing,
reading and drawing 25 frames a second takes three times as long.

Shapes: N windows, D width of a vector, T frames, H, W, C height, width and channels of a frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from halsted_ray.deidentify.out_of_body_samples import HEIGHT_PX, WIDTH_PX
from halsted_ray.model.encoder import Encoder
from halsted_ray.phantom.interruptions import Interruption, make_interruptions, outside_spans
from halsted_ray.phantom.render import Renderer
from halsted_ray.phantom.script import make_script
from halsted_ray.records import Window, WindowSpec
from halsted_ray.video.windows import window_times_s, windows

DRAWN_HZ = 16.0
"""Frames a second that are drawn. A window that asks for more frames gets some of them twice."""
NEAR_S = 1.5
"""Windows this near to an interruption are all taken."""
PLAIN_SHARE = 0.25
"""Share that is taken of the other windows, where only some are wanted."""

Spans = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class JudgedWindows:
    """Windows of videos, in order. ``start_s_N``, ``stop_s_N``: float64 [N]. ``vectors_ND``: float16. ``share_N``:
    float64 [N], which part of each lies outside of the body, 0 to 1."""

    start_s_N: NDArray[np.float64]
    stop_s_N: NDArray[np.float64]
    vectors_ND: NDArray[np.float16]
    share_N: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.share_N)

    @classmethod
    def joined(cls, parts: Sequence[JudgedWindows]) -> JudgedWindows:
        """All windows of ``parts``."""
        return cls(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("start_s_N", "stop_s_N", "vectors_ND", "share_N")
            )
        )


def outside_share(start_s_N: NDArray[np.float64], stop_s_N: NDArray[np.float64], spans: Spans) -> NDArray[np.float64]:
    """Which part of each window lies in ``spans``, none of which lies over another: float64 [N], 0 to 1."""
    inside_N = np.zeros(len(start_s_N))
    for start_s, stop_s in spans:
        inside_N += np.clip(np.minimum(stop_s_N, stop_s) - np.maximum(start_s_N, start_s), 0, None)
    return np.asarray(np.clip(inside_N / np.maximum(stop_s_N - start_s_N, 1e-9), 0, 1))


def drawn_windows(
    encoder_ref: str, spec: WindowSpec, kind: str, seed: int, duration_s: float, *, some: bool = False
) -> JudgedWindows:
    """The windows of one phantom with out-of-body scenes, of the given kind of the grid ``spec``.

    ``some``: all windows near interruptions, and ``PLAIN_SHARE`` of the others. Odd seeds are seen by the shifted
    camera. Takes 0.15 s of a core per second of windows, beside the encoder. Raises ModelError.
    """
    encoder = _encoder(encoder_ref)
    interruptions = make_interruptions(seed, duration_s)
    shifted = bool(seed % 2)
    script = make_script(seed, duration_s)
    renderer = Renderer(script, WIDTH_PX, HEIGHT_PX, shifted=shifted, interruptions=interruptions)
    cells = windows(duration_s, spec)[0 if kind == "coarse" else 1]
    if some:
        cells = _chosen(cells, interruptions, seed)
    height, width = encoder.image_size
    vectors = []
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)

    @lru_cache(maxsize=64)
    def frame(number: int) -> NDArray[np.uint8]:
        drawn = renderer.frame(number / DRAWN_HZ)
        return np.asarray(cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA), np.uint8)

    try:
        for cell in cells:
            clip_THWC = np.stack([frame(int(t_s * DRAWN_HZ)) for t_s in window_times_s(cell, duration_s, spec)])
            vectors.append(encoder.encode(clip_THWC[None])[0])
    finally:
        cv2.setNumThreads(threads)
    starts_s, stops_s = (np.array([getattr(cell, edge) for cell in cells], float) for edge in ("start_s", "stop_s"))
    share_N = outside_share(starts_s, stops_s, outside_spans(interruptions))
    return JudgedWindows(starts_s, stops_s, np.stack(vectors), share_N)


def drawn_windows_of(
    pool: Executor, encoder_ref: str, spec: WindowSpec, kind: str, seeds: Iterable[int], duration_s: float, some: bool
) -> list[JudgedWindows]:
    """``drawn_windows`` of each seed, side by side in the processes of ``pool``."""
    tasks = [pool.submit(drawn_windows, encoder_ref, spec, kind, seed, duration_s, some=some) for seed in seeds]
    return [task.result() for task in tasks]


def _chosen(cells: Sequence[Window], interruptions: Sequence[Interruption], seed: int) -> list[Window]:
    chance = np.random.default_rng([seed, 89]).random(len(cells))
    return [
        cell
        for cell, drawn in zip(cells, chance.tolist(), strict=True)
        if drawn < PLAIN_SHARE
        or any(
            cell.start_s < piece.shown[1] + NEAR_S and cell.stop_s > piece.shown[0] - NEAR_S for piece in interruptions
        )
    ]


@lru_cache(maxsize=1)
def _encoder(ref: str) -> Encoder:
    torch.set_num_threads(1)
    return Encoder.load(ref, device="cpu")
