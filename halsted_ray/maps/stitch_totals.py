"""Totals of stitches with intervals: how many, how long each phase takes, what share is of high proficiency."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, median

from halsted_ray.maps.stitches import Stitch

LEVEL = 0.95
"""Of every interval."""


@dataclass(frozen=True)
class MedianTime:
    """The median of ``n`` times in seconds with its interval; None where there are too few for it."""

    n: int
    median_s: float | None
    low_s: float | None
    high_s: float | None


@dataclass(frozen=True)
class StitchTotals:
    """``handling``, ``driving``, ``withdrawal``: over the stitches that show the phase. ``high_share``: of the
    ``proficiency_n`` stitches whose proficiency the map states; the share and its interval are None where that is 0.

    The intervals take stitches for independent. Stitches of one surgeon or video are alike, so an interval over a few
    videos is too narrow.
    """

    count: int
    handling: MedianTime
    driving: MedianTime
    withdrawal: MedianTime
    high_share: float | None
    high_low: float | None
    high_high: float | None
    proficiency_n: int


def totals_of(stitches: Iterable[Stitch]) -> StitchTotals:
    """The totals of ``stitches``, of one video or of many."""
    stitches = list(stitches)
    rated = [stitch.is_high for stitch in stitches if stitch.is_high is not None]
    low, high = wilson(sum(rated), len(rated)) if rated else (None, None)
    return StitchTotals(
        len(stitches),
        median_time([stitch.handling_s for stitch in stitches if stitch.handling_s]),
        median_time([stitch.driving_s for stitch in stitches]),
        median_time([stitch.withdrawal_s for stitch in stitches if stitch.withdrawal_s]),
        sum(rated) / len(rated) if rated else None,
        low,
        high,
        len(rated),
    )


def median_time(times_s: Sequence[float]) -> MedianTime:
    """The median, and the two order statistics that hold the true median with a certainty of ``LEVEL`` or more.

    They need at least 6 times; no form of the distribution is supposed.
    """
    n = len(times_s)
    if not n:
        return MedianTime(0, None, None, None)
    ordered = sorted(times_s)
    k = _rank(n)
    low_s, high_s = (ordered[k - 1], ordered[n - k]) if k else (None, None)
    return MedianTime(n, median(ordered), low_s, high_s)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's interval of the share ``hits`` / ``n`` (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927); ``n`` above 0."""
    z, share = NormalDist().inv_cdf(0.5 + LEVEL / 2), hits / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def _rank(n: int) -> int:
    """The largest k so that the k-th smallest and the k-th largest of n values hold the median with a certainty of
    ``LEVEL``: that of a binomial with one half. 0 where no k does."""
    tail, k, share = 0.0, 0, 0.5**n if n < 1000 else 0.0
    if not share:  # the exact terms are too small for a float, and the normal limit differs by less than one rank
        return max(0, math.floor((n - NormalDist().inv_cdf(0.5 + LEVEL / 2) * math.sqrt(n)) / 2))
    for i in range(n // 2 + 1):
        tail += math.comb(n, i) * share
        if 2 * tail > 1 - LEVEL:
            break
        k = i + 1
    return k
