"""From which confidence on a prediction is right often enough to be a label.

Legend: N validation windows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CERTAINTY = 0.9
"""How certain it must be that labels are right as often as was asked for. Without it, on phantoms, thresholds whose own
share of right predictions on a dozen videos reached 90% kept labels of which 81% were right: the smallest threshold
that reaches a share is often chosen for its luck."""

PredictedTags = Mapping[str, tuple[str, float]]
"""What a model predicts for a window: tag → (category, confidence)."""
Thresholds = Mapping[str, Mapping[str, "Threshold"]]
"""Tag → category → its threshold."""


@dataclass(frozen=True)
class Threshold:
    """The threshold of one category, and what it does on the validation windows.

    ``min_confidence``: the smallest confidence that is trusted, infinite where no confidence is. ``predicted``:
    windows for which the category is predicted; ``kept``: those of them that reach the threshold; ``right``: those of
    the kept windows that are right.
    """

    min_confidence: float
    predicted: int
    kept: int
    right: int

    @property
    def precision(self) -> float:
        """Share of the kept windows that are right; NaN where no window is kept."""
        return self.right / self.kept if self.kept else math.nan


def threshold_per_category(
    category_N: Sequence[str],
    confidence_N: Sequence[float],
    right_N: Sequence[bool],
    precision: float,
    certainty: float = CERTAINTY,
) -> dict[str, Threshold]:
    """Category → the smallest confidence at or above which its predictions are right in a share ``precision`` of cases.

    "Are right" means with ``certainty``: the ``lower_bound`` of the share must reach ``precision``. The share need not
    rise with the confidence; the smallest threshold that reaches it counts, so that as many labels as possible are
    kept. Source: paper, Methods, self-labelling step 3 ("chosen on the validation set").
    """
    if not 0 < precision < 1:
        raise ValueError(f"precision={precision}; expected more than 0, less than 1")
    categories_N, confidences_N, rights_N = (
        np.asarray(category_N),
        np.asarray(confidence_N, float),
        np.asarray(right_N, bool),
    )
    found = {}
    for category in np.unique(categories_N):
        rows = np.flatnonzero(categories_N == category)
        rows = rows[np.argsort(-confidences_N[rows], kind="stable")]
        confidence, right, kept = confidences_N[rows], np.cumsum(rights_N[rows]), np.arange(1, len(rows) + 1)
        is_last_of_equals = np.append(confidence[1:] != confidence[:-1], True)  # equals are kept or dropped together
        reaching = np.flatnonzero(is_last_of_equals & (lower_bound(right, kept, certainty) >= precision))
        if len(reaching):
            last = reaching[-1]
            found[str(category)] = Threshold(float(confidence[last]), len(rows), int(kept[last]), int(right[last]))
        else:
            found[str(category)] = Threshold(math.inf, len(rows), 0, 0)
    return found


def lower_bound(
    right: float | np.ndarray, kept: float | np.ndarray, certainty: float = CERTAINTY
) -> float | np.ndarray:
    """The share of right predictions is at least this, with ``certainty``, where ``right`` of ``kept`` were seen.

    Wilson's score interval, one-sided (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927), as if the windows were
    independent. Numbers or arrays; ``kept`` is above 0.
    """
    z, share = NormalDist().inv_cdf(certainty), right / kept
    half = z * np.sqrt(share * (1 - share) / kept + z**2 / (4 * kept**2))
    bound: float | np.ndarray = (share + z**2 / (2 * kept) - half) / (1 + z**2 / kept)
    return bound


def shared_threshold(
    category_N: Sequence[str],
    confidence_N: Sequence[float],
    right_N: Sequence[bool],
    precision: float,
    certainty: float = CERTAINTY,
) -> dict[str, Threshold]:
    """Category → its threshold, with the same ``min_confidence`` for all categories.

    For tags whose categories have too few windows each to tell a good threshold from a lucky one.
    """
    categories_N, confidences_N, rights_N = (
        np.asarray(category_N),
        np.asarray(confidence_N, float),
        np.asarray(right_N, bool),
    )
    min_confidence = math.inf
    if len(categories_N):
        pooled = threshold_per_category(["any"] * len(category_N), confidence_N, right_N, precision, certainty)
        min_confidence = pooled["any"].min_confidence
    found = {}
    for category in np.unique(categories_N):
        is_own_N = categories_N == category
        is_kept_N = is_own_N & (confidences_N >= min_confidence)
        found[str(category)] = Threshold(
            min_confidence, int(is_own_N.sum()), int(is_kept_N.sum()), int((is_kept_N & rights_N).sum())
        )
    return found


def thresholds_of_tags(
    predicted_N: Sequence[PredictedTags],
    truth_N: Sequence[Mapping[str, str]],
    tags: Sequence[str],
    precision: float,
) -> dict[str, dict[str, Threshold]]:
    """Tag → category → its threshold, from predictions and true tags (tag → category) of the same windows.

    The first tag decides whether a window gets a label at all; each of its categories has a threshold of its own
    (``threshold_per_category``). The other tags are judged on the windows where the first tag is trusted. Each of them
    has one threshold for all of its categories (``shared_threshold``), and is left out of a label where it is not
    trusted itself. The paper says nothing of the other tags. On phantoms half of the instruments beside a trusted
    action were wrong, and 39% still were with a threshold for each of 27 instruments (benchmarks/selflabel.py).

    A truth that lacks a tag says nothing of it; an empty truth makes every prediction wrong. A prediction that lacks
    a tag counts nowhere for that tag; a window without the first tag gets no label.
    """
    found: dict[str, dict[str, Threshold]] = {}
    rows = list(zip(predicted_N, truth_N, strict=True))
    for tag in tags:
        known = [
            (predicted[tag], truth) for predicted, truth in rows if tag in predicted and (tag in truth or not truth)
        ]
        found[tag] = (threshold_per_category if tag == tags[0] else shared_threshold)(
            [category for (category, _), _ in known],
            [confidence for (_, confidence), _ in known],
            [truth.get(tag) == category for (category, _), truth in known],
            precision,
        )
        if tag == tags[0]:
            rows = [(predicted, truth) for predicted, truth in rows if is_trusted(predicted, tag, found)]
    return found


def is_trusted(predicted: PredictedTags, tag: str, thresholds: Thresholds) -> bool:
    """Whether the window's prediction of ``tag`` reaches the threshold of its category; a prediction that lacks the tag
    does not."""
    if tag not in predicted:
        return False
    category, confidence = predicted[tag]
    of_tag = thresholds[tag]
    return category in of_tag and confidence >= of_tag[category].min_confidence
