"""From which confidence on an answer is right often enough to be a label."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CERTAINTY = 0.9
"""How certain it must be that labels are as often right as was asked for. On phantoms the smallest threshold whose own
share reaches 90% on a dozen videos kept labels that are right in 81%: it is chosen for its luck."""


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
    said_N: Sequence[str],
    confidence_N: Sequence[float],
    right_N: Sequence[bool],
    precision: float,
    certainty: float = CERTAINTY,
) -> dict[str, Threshold]:
    """Category → the smallest confidence at or above which its answers are right in ``precision`` of cases or more,
    as far as these can tell: the ``lower_bound`` of their share reaches it.

    The precision need not rise with the confidence; the smallest threshold that reaches it counts, so that as many
    labels as possible are kept. Source: paper, Methods, self-labelling step 3 ("chosen on the validation set").
    """
    if not 0 < precision < 1:
        raise ValueError(f"precision={precision}; expected more than 0, less than 1")
    said_N, confidence_N, right_N = np.asarray(said_N), np.asarray(confidence_N, float), np.asarray(right_N, bool)
    found = {}
    for category in np.unique(said_N):
        own = np.flatnonzero(said_N == category)
        own = own[np.argsort(-confidence_N[own], kind="stable")]
        confidence, right, kept = confidence_N[own], np.cumsum(right_N[own]), np.arange(1, len(own) + 1)
        whole = np.append(confidence[1:] != confidence[:-1], True)  # equal confidences are kept or dropped together
        reached = np.flatnonzero(whole & (lower_bound(right, kept, certainty) >= precision))
        last = reached[-1] if len(reached) else None
        found[str(category)] = (
            Threshold(math.inf, len(own), 0, 0)
            if last is None
            else Threshold(float(confidence[last]), len(own), int(kept[last]), int(right[last]))
        )
    return found


def lower_bound(right, kept, certainty: float = CERTAINTY):
    """What a share of which ``right`` of ``kept`` were seen is at least, with this certainty: Wilson's score interval,
    one-sided (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927), as if the cases had nothing to do with each other. Numbers
    or arrays, ``kept`` above 0."""
    z, share = NormalDist().inv_cdf(certainty), right / kept
    half = z * np.sqrt(share * (1 - share) / kept + z**2 / (4 * kept**2))
    return (share + z**2 / (2 * kept) - half) / (1 + z**2 / kept)


def common_threshold(
    said_N: Sequence[str],
    confidence_N: Sequence[float],
    right_N: Sequence[bool],
    precision: float,
    certainty: float = CERTAINTY,
) -> dict[str, Threshold]:
    """Category → its threshold, as ``thresholds``, but with the same ``least`` for all: where each category alone has
    too few windows to tell which of them are right for more than luck."""
    said_N, confidence_N, right_N = np.asarray(said_N), np.asarray(confidence_N, float), np.asarray(right_N, bool)
    least = (
        thresholds(["any"] * len(said_N), confidence_N, right_N, precision, certainty)["any"].least
        if len(said_N)
        else math.inf
    )
    found = {}
    for category in np.unique(said_N):
        own_N = said_N == category
        kept_N = own_N & (confidence_N >= least)
        found[str(category)] = Threshold(least, int(own_N.sum()), int(kept_N.sum()), int((kept_N & right_N).sum()))
    return found


def thresholds_of_tags(
    said_N: Sequence[Mapping[str, tuple[str, float]]],
    truth_N: Sequence[Mapping[str, str]],
    tags: Sequence[str],
    precision: float,
) -> dict[str, dict[str, Threshold]]:
    """Tag → category → its threshold, from answers (tag → category and confidence) and truths.

    The first tag makes a label or not, each of its categories by a threshold of its own (``thresholds``). Each other
    tag is judged where the first is trusted, by one threshold for all of its categories (``common_threshold``), and is
    left out of a label where it is not trusted itself. The paper is silent about the others; on phantoms half of the
    instruments that came with a trusted action were wrong, and of those with a threshold for each of 27 categories
    still 39% (benchmarks/selflabel.py). A truth that lacks a tag says nothing of it, and one that is empty makes every
    answer wrong. An answer that lacks a tag counts nowhere for it; without the first tag it is no label.
    """
    found: dict[str, dict[str, Threshold]] = {}
    rows = list(zip(said_N, truth_N, strict=True))
    for tag in tags:
        known = [(said[tag], truth) for said, truth in rows if tag in said and (tag in truth or not truth)]
        found[tag] = (thresholds if tag == tags[0] else common_threshold)(
            [category for (category, _), _ in known],
            [confidence for (_, confidence), _ in known],
            [truth.get(tag) == category for (category, _), truth in known],
            precision,
        )
        if tag == tags[0]:
            rows = [(said, truth) for said, truth in rows if is_trusted(said, tag, found)]
    return found


def is_trusted(said: Mapping[str, tuple[str, float]], tag: str, found: Mapping[str, Mapping[str, Threshold]]) -> bool:
    """Whether the answer ``said`` names a category of ``tag`` with at least the confidence of its threshold; an answer
    that lacks the tag does not."""
    if tag not in said:
        return False
    category, confidence = said[tag]
    return category in found[tag] and confidence >= found[tag][category].least
