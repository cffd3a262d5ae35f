"""What confidences are worth: accuracy over coverage, and the calibration error by tag with an interval.

Legend: N predictions of one tag.
"""

from __future__ import annotations

import math

import numpy as np

from halsted_ray.evaluation.intervals import LEVEL, percentiles
from halsted_ray.evaluation.json_values import Figures
from halsted_ray.evaluation.metrics import calibration_error

POINTS = 101
"""Of a curve in the figures, at most."""
DRAWS = 300
"""Sets of videos for an interval."""


def coverage(confidence_N: np.ndarray, right_N: np.ndarray, video_N: np.ndarray) -> Figures:
    """How accurate a tag's surest predictions are, and whether confidences say how often they are right.

    ``coverage`` and ``accuracy``: the curve (``risk_coverage``), POINTS at most; ``aurc`` (``area_under_risk``);
    ``calibration_error`` (``metrics.calibration_error``), with the borders ``low`` and ``high`` of its interval from
    videos drawn with replacement, NaN with fewer than two videos.
    """
    covered, risk = risk_coverage(confidence_N, right_N)
    shown = np.unique(np.linspace(0, len(covered) - 1, min(POINTS, len(covered))).round().astype(int))
    rows_of = [np.flatnonzero(video_N == video) for video in np.unique(video_N)]
    low = high = math.nan
    if len(rows_of) > 1:
        rng = np.random.default_rng(0)
        drawn = (
            np.concatenate([rows_of[v] for v in rng.integers(len(rows_of), size=len(rows_of))]) for _ in range(DRAWS)
        )
        errors = np.array([calibration_error(confidence_N[rows], right_N[rows]) for rows in drawn])
        low, high = percentiles(errors, LEVEL)
    return {
        "coverage": covered[shown].tolist(),
        "accuracy": (1 - risk[shown]).tolist(),
        "aurc": area_under_risk(confidence_N, right_N),
        "calibration_error": calibration_error(confidence_N, right_N),
        "low": low,
        "high": high,
    }


def risk_coverage(confidence_N: np.ndarray, right_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(coverage, risk): the share of predictions that are kept when the least sure are left out first, and the share of
    the kept ones that are wrong. One point per distinct confidence, the surest first.

    Source: El-Yaniv and Wiener, 2010.
    """
    order = np.argsort(-confidence_N, kind="stable")
    kept = np.arange(1, len(order) + 1)
    risk = np.cumsum(1.0 - right_N[order]) / kept
    # Equal confidences are kept together: an order among them would be invented.
    last = np.flatnonzero(np.append(np.diff(confidence_N[order]) != 0, True)) if len(order) else np.zeros(0, int)
    return kept[last] / max(1, len(order)), risk[last]


def area_under_risk(confidence_N: np.ndarray, right_N: np.ndarray) -> float:
    """AURC: the mean risk over all coverages (Geifman et al., 2019), lower is better. NaN without predictions.

    Between two points the risk is that of the later one, whose predictions can't be told apart.
    """
    covered, risk = risk_coverage(confidence_N, right_N)
    return float((np.diff(covered, prepend=0.0) * risk).sum()) if len(covered) else math.nan
