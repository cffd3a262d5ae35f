"""Phase recognition as its literature reports it: per video and phase, strict or relaxed at the borders of phases.

Definitions: Funke, Rivoir and Speidel 2023 ("Metrics Matter in Surgical Phase Recognition", arXiv 2305.13961), who show
how much the same predictions differ between conventions; so every figure here says its convention by its name.

Legend: V videos, P phases.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from halsted_ray.evaluation.frame_metrics import mean_known
from halsted_ray.evaluation.json_values import Figures
from halsted_ray.evaluation.metrics import Span, spans_of

RELAXED_S = 10.0
"""Seconds at the borders of a phase within which the phase beside it counts as right."""
MEASURES = ("precision", "recall", "jaccard")
Neighbours = Mapping[Hashable, tuple[frozenset[Hashable], frozenset[Hashable]]]
"""Phase → (phases that count as right at its start, phases that count as right at its end)."""


@dataclass(frozen=True)
class PhaseTables:
    """Per video and phase. A phase that a video's truth lacks is NaN there."""

    accuracy_V: np.ndarray
    precision_VP: np.ndarray
    recall_VP: np.ndarray
    jaccard_VP: np.ndarray

    def figures(self) -> Figures:
        """Accuracy over videos, and the other measures in both conventions, each as [mean, sd], NaN without videos.

        ``accuracy``: over videos. ``precision``, ``recall``, ``jaccard``: ``by_phase`` takes each phase's mean over
        videos, then mean and sd over phases (Cholec80's own scripts); ``by_video`` takes each video's mean over its
        phases, then mean and sd over videos. The sd is that of a sample (n − 1).
        """
        found: Figures = {"accuracy": mean_and_sd(self.accuracy_V), "videos": len(self.accuracy_V)}
        for name in MEASURES:
            table_VP: np.ndarray = getattr(self, f"{name}_VP")
            found[name] = {
                "by_phase": mean_and_sd(mean_known(table_VP)),
                "by_video": mean_and_sd(mean_known(table_VP.T)),
            }
        return found


def mean_and_sd(values: np.ndarray) -> list[float]:
    """[mean, standard deviation of a sample] of the values that are known; NaN for too few of them."""
    known = values[~np.isnan(values)]
    return [
        float(known.mean()) if len(known) else math.nan,
        float(known.std(ddof=1)) if len(known) > 1 else math.nan,
    ]


def phase_tables(
    videos: Sequence[tuple[Sequence[Hashable], Sequence[Hashable]]],
    phases: Sequence[Hashable],
    relaxed_frames: int = 0,
    neighbours: Neighbours | None = None,
) -> PhaseTables:
    """The tables of (predicted, true) labels per frame of each video; None is a frame without a prediction.

    ``relaxed_frames``: within so many frames of the start (end) of a stretch of one phase, a prediction also counts as
    right if it names a phase that may come before (after) it: by ``neighbours``, or else the phase that does come there
    in the truth. So a frame that is right by grace counts as a hit of both phases, as in the script that Cholec80's
    authors published, and precision and recall are cut at 1. That script has a fault: it looks for early changes at the
    end of a stretch and forgives at its start. Here the end is forgiven. Raises ValueError for unequal lengths.
    """
    accuracy: list[float] = []
    tables: dict[str, list[list[float]]] = {name: [] for name in MEASURES}
    for predicted, truth in videos:
        if len(predicted) != len(truth):
            raise ValueError(f"{len(predicted)} predicted frames for {len(truth)} true ones; expected as many")
        if not len(truth):
            continue
        right_N = np.array([label == true for label, true in zip(predicted, truth, strict=True)], bool)
        if relaxed_frames:
            right_N |= forgiven(predicted, truth, relaxed_frames, neighbours)
        accuracy.append(float(right_N.mean()))
        rows: dict[str, list[float]] = {name: [] for name in MEASURES}
        for phase in phases:
            named_N, true_N = (np.array([label == phase for label in labels], bool) for labels in (predicted, truth))
            hits = int(right_N[named_N | true_N].sum())
            for name, whole_N in (("precision", named_N), ("recall", true_N), ("jaccard", named_N | true_N)):
                whole = int(whole_N.sum())
                rows[name].append(math.nan if not true_N.any() else min(1.0, hits / whole) if whole else 0.0)
        for name, row in rows.items():
            tables[name].append(row)
    shape = len(accuracy), len(phases)
    return PhaseTables(np.array(accuracy), *(np.array(tables[name], float).reshape(shape) for name in MEASURES))


def forgiven(
    predicted: Sequence[Hashable], truth: Sequence[Hashable], frames: int, neighbours: Neighbours | None
) -> np.ndarray:
    """Which frames [N] a relaxed evaluation counts as right beside those that are."""
    found_N = np.zeros(len(truth), bool)
    spans = spans_of(truth)
    for n, span in enumerate(spans):
        before, after = around(spans, n) if neighbours is None else neighbours[span.label]
        start, stop = int(span.start), int(span.stop)
        for at in range(start, min(start + frames, stop)):
            found_N[at] |= predicted[at] in before
        for at in range(max(start, stop - frames), stop):
            found_N[at] |= predicted[at] in after
    return found_N


def around(spans: Sequence[Span], n: int) -> tuple[frozenset[Hashable], frozenset[Hashable]]:
    """The labels of the spans before and after span ``n``."""
    before = frozenset({spans[n - 1].label}) if n else frozenset[Hashable]()
    after = frozenset({spans[n + 1].label}) if n + 1 < len(spans) else frozenset[Hashable]()
    return before, after


def cholec80_neighbours(phases: Sequence[Hashable]) -> Neighbours:
    """The phases that Cholec80's authors forgive, of its seven ``phases`` in the order of an operation.

    At its start a phase may still be called the phase before it, the last two also the one before that. At its end it
    may already be called the next phase, from gallbladder dissection on also the one after that.
    """

    def near(n: int, steps: Sequence[int]) -> frozenset[Hashable]:
        return frozenset(phases[n + step] for step in steps if 0 <= n + step < len(phases))

    return {
        phase: (near(n, (-1, -2) if n >= 5 else (-1,)), near(n, (1, 2) if n >= 3 else (1,)))
        for n, phase in enumerate(phases)
    }
