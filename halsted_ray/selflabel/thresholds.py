"""From which confidence on an answer is right often enough to be a label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Threshold:
    """Of one category. ``least``: the smallest confidence that is trusted, infinite where none is.

    ``said``: validation windows with this answer; ``kept`` of them reach ``least``, and ``right`` of those are right.
    """

    least: float
    said: int
    kept: int
    right: int

    @property
    def precision(self) -> float:
        """On the validation windows that reach it; NaN where none does."""
        return self.right / self.kept if self.kept else math.nan


def thresholds(
    said_N: Sequence[str], confidence_N: Sequence[float], right_N: Sequence[bool], precision: float
) -> dict[str, Threshold]:
    """Category → the smallest confidence at or above which at least ``precision`` of its answers are right.

    The precision need not rise with the confidence; the smallest threshold that reaches it counts, so that as many
    labels as possible are kept. Source: paper, Methods, self-labelling step 3 ("chosen on the validation set").
    """
    if not 0 < precision <= 1:
        raise ValueError(f"precision={precision}; expected more than 0, 1 at most")
    said_N, confidence_N, right_N = np.asarray(said_N), np.asarray(confidence_N, float), np.asarray(right_N, bool)
    found = {}
    for category in np.unique(said_N):
        own = np.flatnonzero(said_N == category)
        own = own[np.argsort(-confidence_N[own], kind="stable")]
        confidence, right, kept = confidence_N[own], np.cumsum(right_N[own]), np.arange(1, len(own) + 1)
        whole = np.append(confidence[1:] != confidence[:-1], True)  # equal confidences are kept or dropped together
        reached = np.flatnonzero(whole & (right >= precision * kept - 1e-9))
        last = reached[-1] if len(reached) else None
        found[str(category)] = (
            Threshold(math.inf, len(own), 0, 0) if last is None
            else Threshold(float(confidence[last]), len(own), int(kept[last]), int(right[last]))
        )
    return found
