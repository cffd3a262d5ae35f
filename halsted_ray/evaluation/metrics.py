"""Metrics as pure functions of NumPy arrays and lists. Shares are fractions (0 to 1), not percent.

Where the original code of a metric raises or gives NaN for an empty input, the docstring says what is given here.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

CALIBRATION_BINS, LEAST_IN_BIN = 15, 50
"""Bins of equal count. In a bin of 20 a perfectly calibrated model has an error of .07 by chance alone."""


@dataclass(frozen=True)
class Span:
    """``label`` over ``[start, stop)``, in seconds or in frames."""

    label: Hashable
    start: float
    stop: float


@dataclass(frozen=True)
class Matches:
    """Counts of spans matched at one overlap threshold. They add up over videos, so that F1 can be pooled."""

    true_positives: int
    false_positives: int
    false_negatives: int

    def __add__(self, other: Matches) -> Matches:
        return Matches(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
        )

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); 1 where neither the truth nor the prediction has a span."""
        found_and_missed = 2 * self.true_positives + self.false_positives + self.false_negatives
        return 2 * self.true_positives / found_and_missed if found_and_missed else 1.0


def component_accuracy(
    predicted: Sequence[Mapping[str, str]], truth: Sequence[Mapping[str, str]]
) -> dict[str, tuple[int, int]]:
    """Exact match per tag: tag → (right, total), over samples whose truth has the tag; a missing prediction is wrong.

    The key ``""`` counts samples whose tags are all right. Source: paper, Methods, Evaluation ("the proportion of
    ground-truth component tags that perfectly match the tags generated").
    """
    if len(predicted) != len(truth):
        raise ValueError(f"{len(predicted)} predictions for {len(truth)} samples; expected as many")
    counts: dict[str, list[int]] = {}
    for prediction, expected in zip(predicted, truth, strict=True):
        rights = [prediction.get(tag) == category for tag, category in expected.items()]
        for tag, is_right in [*zip(expected, rights, strict=True), ("", all(rights))]:
            count = counts.setdefault(tag, [0, 0])
            count[0] += is_right
            count[1] += 1
    return {tag: (right, total) for tag, (right, total) in counts.items()}


def spans_of(labels: Sequence[Hashable], background: frozenset[Hashable] = frozenset()) -> list[Span]:
    """Maximal runs of one label in a sequence of frames; runs of ``background`` labels are dropped."""
    spans, start = [], 0
    for index in range(1, len(labels) + 1):
        if index == len(labels) or labels[index] != labels[start]:
            if labels[start] not in background:
                spans.append(Span(labels[start], start, index))
            start = index
    return spans


def match_spans(predicted: Sequence[Span], truth: Sequence[Span], overlap: float) -> Matches:
    """Matches at IoU >= ``overlap`` (0.1 for F1@10), both inputs in time order.

    Source: MS-TCN (Farha and Gall 2019), ``f_score`` of its eval.py; SAR-RARP50's ``_f1k`` is the same. Each predicted
    span takes the true span of its label with the largest IoU (the first of equals). Where another prediction has
    taken that true span already, or the IoU is too small, the prediction is a false positive: no second choice is
    tried. An empty side is counted here; the original raises for an empty truth.
    """
    if not 0 < overlap <= 1:
        raise ValueError(f"overlap={overlap}; expected a share in (0, 1], 0.1 for F1@10")
    starts, latest_stops = [span.start for span in truth], list(accumulate((span.stop for span in truth), max))
    taken = [False] * len(truth)
    hits = 0
    for span in predicted:
        best, best_iou = -1, 0.0
        # Only what shares time with it: a long video has thousands of spans on both sides.
        for index in range(bisect_right(latest_stops, span.start), bisect_left(starts, span.stop)):
            other = truth[index]
            if other.label != span.label:
                continue
            shared = min(span.stop, other.stop) - max(span.start, other.start)
            iou = shared / (max(span.stop, other.stop) - min(span.start, other.start))
            if iou > best_iou:
                best, best_iou = index, iou
        if best >= 0 and best_iou >= overlap and not taken[best]:
            taken[best] = True
            hits += 1
    return Matches(hits, len(predicted) - hits, len(truth) - hits)


def segmental_f1(videos: Sequence[tuple[Sequence[Span], Sequence[Span]]], overlap: float, pooling: str) -> float:
    """F1@k over videos of (predicted spans, true spans); NaN without videos.

    ``pooling`` is ``pooled`` (MS-TCN: counts are added over videos) or ``per_video`` (SAR-RARP50: F1 is averaged).
    """
    if pooling not in ("pooled", "per_video"):
        raise ValueError(f"pooling={pooling!r}; expected 'pooled' or 'per_video'")
    matches = [match_spans(predicted, truth, overlap) for predicted, truth in videos]
    if not matches:
        return math.nan
    if pooling == "pooled":
        return sum(matches, Matches(0, 0, 0)).f1
    return float(np.mean([match.f1 for match in matches]))


def edit_distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Levenshtein distance: insertions, deletions, substitutions, cost 1 each. O(len × len)."""
    row = np.arange(len(second) + 1)
    codes: dict[Hashable, int] = {}
    second_codes = np.array([codes.setdefault(label, len(codes)) for label in second], dtype=np.int64)
    steps = np.arange(len(second) + 1)
    for label in first:
        differs = second_codes != codes.setdefault(label, len(codes))
        best = np.minimum(row + 1, np.concatenate(([row[0] + 1], row[:-1] + differs)))
        row = np.minimum.accumulate(best - steps) + steps  # insertions, left to right
    return int(row[-1])


def edit_score(predicted: Sequence[Hashable], truth: Sequence[Hashable]) -> float:
    """1 − Levenshtein distance / length of the longer side, over the labels of spans in time order.

    Source: MS-TCN's ``edit_score``, as a fraction. 1 where both sides are empty (the original: NaN), 0 where one is.
    """
    longer = max(len(predicted), len(truth))
    return 1.0 - edit_distance(predicted, truth) / longer if longer else 1.0


def auroc(scores_N: np.ndarray, positive_N: np.ndarray) -> float:
    """Area under the ROC curve of one class: P(score of a positive > score of a negative), ties count one half.

    NaN when all samples are of one class. Rank formula (Mann-Whitney U), O(N log N).
    """
    scores_N, positive_N = np.asarray(scores_N, dtype=np.float64), np.asarray(positive_N, dtype=bool)
    positives = int(positive_N.sum())
    negatives = len(positive_N) - positives
    if not positives or not negatives:
        return math.nan
    _, inverse, counts = np.unique(scores_N, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = mean_rank[inverse][positive_N].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def auroc_one_vs_rest(scores_NK: np.ndarray, truth_N: np.ndarray) -> float:
    """Mean AUROC of the classes that occur in ``truth_N``; NaN (not 0.5) where fewer than two classes occur."""
    present = np.unique(truth_N)
    if len(present) < 2:
        return math.nan
    return float(np.mean([auroc(np.asarray(scores_NK)[:, k], np.asarray(truth_N) == k) for k in present]))


def calibration_error(confidence_N: np.ndarray, right_N: np.ndarray) -> float:
    """Adaptive calibration error (Nixon et al. 2019): mean of |accuracy − confidence| over bins of equal count.

    There are CALIBRATION_BINS bins at most, with LEAST_IN_BIN predictions at least where there are so many. Equal
    confidences share a bin: an order among them would be invented. NaN without samples. Bins of equal width would hold
    few predictions each where a tag has few windows, and then show chance.
    """
    confidence_N, right_N = np.asarray(confidence_N, dtype=np.float64), np.asarray(right_N, dtype=np.float64)
    if not len(confidence_N):
        return math.nan
    order = np.argsort(confidence_N, kind="stable")
    ranked_N, bins = confidence_N[order], max(1, min(CALIBRATION_BINS, len(order) // LEAST_IN_BIN))
    cuts = np.searchsorted(ranked_N, ranked_N[np.arange(1, bins) * len(order) // bins - 1], side="right")
    gaps = (right_N[order] - ranked_N).cumsum()[np.append(cuts, len(order)) - 1]
    return float(np.abs(np.diff(gaps, prepend=0.0)).sum() / len(order))


def reliability(confidence_N: np.ndarray, right_N: np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """``count``, mean ``confidence`` and ``accuracy`` of each equal-width bin that holds a sample.

    Source: the reliability diagram of Guo et al. 2017; bins are (a, b], and 0 belongs to the first.
    """
    confidence_N, right_N = np.asarray(confidence_N, dtype=np.float64), np.asarray(right_N, dtype=np.float64)
    bin_N = np.clip(np.ceil(confidence_N * bins).astype(int) - 1, 0, bins - 1)
    return [
        {"count": int(own.sum()), "confidence": float(confidence_N[own].mean()), "accuracy": float(right_N[own].mean())}
        for own in (bin_N == b for b in range(bins))
        if own.any()
    ]


def uniform_chance(categories: int) -> float:
    """Accuracy of a uniform guess among ``categories`` (paper, Table 1)."""
    return 1.0 / categories


def majority_share(labels: Sequence[Hashable]) -> float:
    """Accuracy of always predicting the commonest label; NaN without labels."""
    return max(Counter(labels).values()) / len(labels) if len(labels) else math.nan


def stratified_chance(labels: Sequence[Hashable]) -> float:
    """Accuracy of guessing with the labels' own frequencies: sum of squared shares; NaN without labels."""
    return sum((count / len(labels)) ** 2 for count in Counter(labels).values()) if len(labels) else math.nan


def relative_improvement(accuracy: float, chance: float) -> float:
    """accuracy / chance: a ratio, as in the paper's Table 1 (5.5× for 68.6% over 12.5%)."""
    return accuracy / chance
