"""Sets a detector's two thresholds on validation videos that it was not trained on, by rules that are fixed beforehand.

Shapes: N samples of a video, K whole seconds of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from halsted_ray.deidentify.out_of_body import PAD_S, RATE_HZ, outside_runs
from halsted_ray.errors import TrainingError

PEAK_SHARE = 0.6
"""``threshold`` is this share of the lowest peak of a validation span: an unseen span may peak lower."""
HIDDEN = 0.9999
"""Share of the validation videos' outside that is hidden once spans are widened by ``PAD_S``."""
LEAST_THRESHOLD, MOST_THRESHOLD = 0.1, 0.5
"""A lower threshold would black out much of the body for a few frames; a higher one gives recall away for nothing."""
STEP = 0.01
"""Thresholds at the edges are tried in such steps."""
FRAMES_A_SECOND = round(RATE_HZ)

Scored = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""(smoothed scores [N], whether each sample is outside [N]) of one video at ``RATE_HZ``."""


@dataclass(frozen=True)
class Thresholds:
    """``threshold``, ``edge_threshold``: as of ``SearchSettings``. ``recall``, ``precision``: of the validation videos'
    seconds with these, before spans are widened."""

    threshold: float
    edge_threshold: float
    recall: float
    precision: float


def by_second(values_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """What at least half of the samples of each second reach: [K]. A last second that is not whole is left out."""
    whole = len(values_N) // FRAMES_A_SECOND * FRAMES_A_SECOND
    seconds = np.sort(values_N[:whole].reshape(-1, FRAMES_A_SECOND), axis=1)
    return np.asarray(seconds[:, FRAMES_A_SECOND // 2], np.float64)


def choose_thresholds(videos: list[Scored]) -> Thresholds:
    """The thresholds for a detector that gives these scores, both within the limits.

    ``threshold`` is the part ``PEAK_SHARE`` of the lowest peak of all spans outside. ``edge_threshold`` is the largest,
    up to ``threshold``, with which spans that are widened by ``PAD_S`` hide the share ``HIDDEN`` of the outside, or the
    least one. Raises TrainingError where nothing is outside.
    """
    outside_N = np.concatenate([outside_N for _, outside_N in videos])
    if not outside_N.any():
        raise TrainingError("no validation frame is outside of the body; thresholds can't be set")
    peaks = [
        float(scores_N[first:stop].max())
        for scores_N, outside_N in videos
        for first, stop in outside_runs(outside_N.astype(float), 0.5)
    ]
    threshold = _within_limits(PEAK_SHARE * min(peaks))
    steps = np.arange(threshold, LEAST_THRESHOLD - 1e-9, -STEP)
    hides = (
        np.concatenate([widened(flagged(scores_N, threshold, float(step))) for scores_N, _ in videos])[outside_N].mean()
        for step in steps
    )
    edge_threshold = next((float(step) for step, hidden in zip(steps, hides, strict=True) if hidden >= HIDDEN), 0.0)
    edge_threshold = _within_limits(edge_threshold)
    true_K = np.concatenate([by_second(outside_N.astype(float)) >= 0.5 for _, outside_N in videos])
    found_K = np.concatenate(
        [by_second(flagged(scores_N, threshold, edge_threshold).astype(float)) >= 0.5 for scores_N, _ in videos]
    )
    both = float((true_K & found_K).sum())
    return Thresholds(
        threshold, edge_threshold, both / max(1.0, float(true_K.sum())), both / max(1.0, float(found_K.sum()))
    )


def _within_limits(threshold: float) -> float:
    return round(float(np.clip(threshold, LEAST_THRESHOLD, MOST_THRESHOLD)), 4)


def widened(found_N: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Samples that lie in a span, widened by ``PAD_S``: bool [N]."""
    reach = round(PAD_S * RATE_HZ)
    return np.convolve(found_N, np.ones(2 * reach + 1), "same")[: len(found_N)] > 0.5


def flagged(scores_N: NDArray[np.float64], threshold: float, edge_threshold: float) -> NDArray[np.bool_]:
    """Which samples lie in a span: bool [N]."""
    found_N = np.zeros(len(scores_N), bool)
    for first, stop in outside_runs(scores_N, threshold, edge_threshold):
        found_N[first:stop] = True
    return found_N
