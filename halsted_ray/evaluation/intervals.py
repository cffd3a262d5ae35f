"""How sure a figure is: intervals over folds and over videos, and tests between two models.

The unit that is drawn is the fold or the video, never the window: the windows of a video are alike, and an interval
over windows would be far too narrow.

Legend: V videos, T tags, B draws.

SciPy's statistics take a second of a core to import, so only what needs them imports them: reports and the state of a
map do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
"""Of a confidence interval."""
DRAWS = 2000
"""Of the bootstrap."""


@dataclass(frozen=True)
class ConfidenceInterval:
    """``value`` with the borders of its confidence interval; the borders are NaN where too few values were measured."""

    value: float
    low: float
    high: float


def over_folds(values: Sequence[float], kind: str = "normal", level: float = LEVEL) -> ConfidenceInterval:
    """Mean of one value per fold, ± z (``normal``) or t with n − 1 degrees of freedom (``t``) times the standard error.

    Several of the paper's intervals are symmetric about the mean, which fits ``normal``; with five folds ``t`` is
    honest (2.78 against 1.96 standard errors). Values that are NaN (a fold without the tag) are left out.
    """
    if kind not in ("normal", "t"):
        raise ValueError(f"kind={kind!r}; expected 'normal' or 't'")
    known = np.array([value for value in values if not math.isnan(value)])
    if len(known) < 2:
        return ConfidenceInterval(float(known[0]) if len(known) else math.nan, math.nan, math.nan)
    from scipy import stats

    error = known.std(ddof=1) / math.sqrt(len(known))
    reach = stats.norm.ppf(0.5 + level / 2) if kind == "normal" else stats.t.ppf(0.5 + level / 2, len(known) - 1)
    return ConfidenceInterval(
        float(known.mean()), float(known.mean() - reach * error), float(known.mean() + reach * error)
    )


def bootstrap(
    right_VT: np.ndarray, total_VT: np.ndarray, *, level: float = LEVEL, draws: int = DRAWS, seed: int = 0
) -> ConfidenceInterval:
    """Accuracy with an interval from videos drawn with replacement. ``right_VT``, ``total_VT``: counts of predictions
    that are right, and of all.

    The figure is the mean over tags of right / total over all drawn videos (for one tag its accuracy); the borders are
    percentiles of ``draws`` draws. The same seed gives the same interval. The borders are NaN with fewer than two
    videos that have a prediction.
    """
    right_VT, total_VT = right_VT[total_VT.any(1)], total_VT[total_VT.any(1)]
    figure = ratio_of_sums(right_VT.sum(0)[None], total_VT.sum(0)[None])[0]
    if len(total_VT) < 2:
        return ConfidenceInterval(float(figure), math.nan, math.nan)
    drawn_B = resampled(right_VT, total_VT, draws, seed)
    return ConfidenceInterval(float(figure), *percentiles(drawn_B, level))


@dataclass(frozen=True)
class PairedDifference:
    """``second − first`` of two models on the same videos. ``p_worse``: share of draws with a difference below 0."""

    value: float
    low: float
    high: float
    p_worse: float


def paired_bootstrap(
    first_VT: np.ndarray,
    second_VT: np.ndarray,
    total_VT: np.ndarray,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> PairedDifference:
    """Difference of two models' accuracies (see ``bootstrap``); each draw takes the same videos for both models."""
    has_any_V = total_VT.any(1)
    first_VT, second_VT, total_VT = first_VT[has_any_V], second_VT[has_any_V], total_VT[has_any_V]
    value = float(
        np.subtract(*(ratio_of_sums(right.sum(0)[None], total_VT.sum(0)[None])[0] for right in (second_VT, first_VT)))
    )
    if len(total_VT) < 2:
        return PairedDifference(value, math.nan, math.nan, math.nan)
    drawn_B = resampled(second_VT, total_VT, draws, seed) - resampled(first_VT, total_VT, draws, seed)
    return PairedDifference(value, *percentiles(drawn_B, level), float(np.nanmean(drawn_B < 0)))


def paired_test(first: Sequence[float], second: Sequence[float], test: str = "wilcoxon") -> float:
    """Two-sided p-value of the hypothesis that paired values (folds, videos) do not differ; NaN for less than 2 pairs.

    ``wilcoxon``: signed rank (the paper's test for self-labelling), zeros dropped; with n pairs its p is at least
    2^(1 − n), .0625 for five folds. ``t``: paired t-test. Pairs with a NaN are left out; 1 where no pair differs.
    """
    if test not in ("wilcoxon", "t"):
        raise ValueError(f"test={test!r}; expected 'wilcoxon' or 't'")
    if len(first) != len(second):
        raise ValueError(f"{len(first)} values against {len(second)}; expected pairs")
    differences = np.asarray(second, float) - np.asarray(first, float)
    differences = differences[~np.isnan(differences)]
    if len(differences) < 2:
        return math.nan
    if not differences.any():
        return 1.0
    from scipy import stats

    if test == "wilcoxon":
        return float(stats.wilcoxon(differences[differences != 0]).pvalue)
    alike = np.allclose(differences, differences[0], rtol=1e-9, atol=0)  # SciPy would divide by rounding errors
    return 0.0 if alike else float(stats.ttest_1samp(differences, 0).pvalue)


def resampled(right_VT: np.ndarray, total_VT: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """[draws] the figure (``ratio_of_sums``) of each of ``draws`` sets of videos, drawn with replacement."""
    videos = len(total_VT)
    times_BV = np.random.default_rng(seed).multinomial(videos, np.full(videos, 1 / videos), size=draws)
    return ratio_of_sums(times_BV @ right_VT, times_BV @ total_VT)


def ratio_of_sums(right_BT: np.ndarray, total_BT: np.ndarray) -> np.ndarray:
    """[B] mean over tags of right / total. A tag without a prediction does not count; NaN where no tag has one."""
    known_BT = total_BT > 0
    share_BT = np.where(known_BT, right_BT / np.maximum(total_BT, 1), 0)
    tags_B = known_BT.sum(1)
    return np.where(tags_B > 0, share_BT.sum(1) / np.maximum(tags_B, 1), np.nan)


def percentiles(drawn_B: np.ndarray, level: float) -> tuple[float, float]:
    """The borders that hold the middle ``level`` of the values; NaN where no value is known."""
    known = drawn_B[~np.isnan(drawn_B)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.quantile(known, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)
