"""Metrics of other benchmarks, frame by frame: mean average precision of many labels at once, phases of a video.

Pure functions like the functions of ``metrics``; shares are fractions.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np


def average_precision(scores_N: np.ndarray, positive_N: np.ndarray) -> float:
    """Area under the precision-recall steps: sum over falling thresholds of (recall gained) × precision.

    Source: scikit-learn's ``average_precision_score``, which ivtmetrics calls. Samples of one score are one
    threshold. NaN where no sample is positive.
    """
    scores_N, positive_N = np.asarray(scores_N, dtype=np.float64), np.asarray(positive_N, dtype=bool)
    if not positive_N.any():
        return math.nan
    order = np.argsort(-scores_N, kind="stable")
    hits = np.cumsum(positive_N[order])
    last = np.append(np.flatnonzero(np.diff(scores_N[order])), len(order) - 1)
    gained = np.diff(hits[last], prepend=0)
    return float((gained * hits[last] / (last + 1)).sum() / hits[-1])


def mean_average_precision(
    videos: Sequence[tuple[np.ndarray, np.ndarray]], pooling: str = "per_video"
) -> tuple[np.ndarray, float]:
    """(AP of each class [K], their mean) over videos of (scores [frames, K], truth [frames, K] of 0 and 1).

    Source: ivtmetrics (Nwoye and Padoy 2022): ``per_video`` is its ``compute_video_AP`` (a class's mean over videos,
    then the mean over classes), ``pooled`` its ``compute_global_AP``. A class without a positive is NaN and does not
    count, as ivtmetrics intends; scikit-learn 1.9 gives 0 for such a class, and ivtmetrics 0.1.5 then counts that 0.
    """
    if pooling not in ("pooled", "per_video"):
        raise ValueError(f"pooling={pooling!r}; expected 'pooled' or 'per_video'")
    if not len(videos):
        return np.zeros(0), math.nan
    if pooling == "pooled":
        scores, truths = zip(*videos, strict=True)
        videos = [(np.concatenate(scores), np.concatenate(truths))]
    each_VK = np.array(
        [
            [average_precision(scores_NK[:, k], truth_NK[:, k]) for k in range(scores_NK.shape[1])]
            for scores_NK, truth_NK in videos
        ]
    )
    classes_K = mean_known(each_VK)
    return classes_K, float(mean_known(classes_K[:, None])[0])


def by_component(values_NK: np.ndarray, component_K: Sequence[int]) -> np.ndarray:
    """[N, components]: the largest value of the classes that share a component, for scores and truth alike.

    Source: ivtmetrics' ``Disentangle``: a triplet's instrument is scored by the best triplet with that instrument.
    """
    components_K = np.asarray(component_K)
    return np.stack([values_NK[:, components_K == c].max(1) for c in np.unique(components_K)], axis=1)


def phase_metrics(
    videos: Sequence[tuple[Sequence[Hashable], Sequence[Hashable]]], phases: Sequence[Hashable]
) -> dict[str, float]:
    """``accuracy``, ``precision``, ``recall``, ``jaccard`` of (predicted, true) label per frame and video.

    Source: TeCNO (Czempiel et al. 2020), strict, without a tolerance at borders (Funke et al. 2023, "Metrics
    Matter"). Accuracy: mean over videos of the share of frames that are right. The others are computed for each phase
    and video; then the mean is taken over the videos whose truth has the phase, and over the phases. A phase that a
    video has and the prediction never names has precision 0. NaN without frames.
    """
    accuracy: list[float] = []
    phases_of_video: dict[str, list[list[float]]] = {"precision": [], "recall": [], "jaccard": []}
    for predicted, truth in videos:
        if len(predicted) != len(truth):
            raise ValueError(f"{len(predicted)} predicted frames for {len(truth)} true ones; expected as many")
        if not len(truth):
            continue
        pairs = list(zip(predicted, truth, strict=True))
        accuracy.append(sum(label == true_label for label, true_label in pairs) / len(pairs))
        rows: dict[str, list[float]] = {name: [] for name in phases_of_video}
        for phase in phases:
            hits = sum(label == phase == true_label for label, true_label in pairs)
            named, true = sum(label == phase for label, _ in pairs), sum(label == phase for _, label in pairs)
            for name, whole in (("precision", named), ("recall", true), ("jaccard", named + true - hits)):
                rows[name].append(math.nan if not true else hits / whole if whole else 0.0)
        for name, row in rows.items():
            phases_of_video[name].append(row)
    if not accuracy:
        return {"accuracy": math.nan, **dict.fromkeys(phases_of_video, math.nan)}
    means = {name: mean_known(mean_known(np.array(table))[:, None]) for name, table in phases_of_video.items()}
    return {"accuracy": float(np.mean(accuracy)), **{name: float(mean[0]) for name, mean in means.items()}}


def mean_known(values_VK: np.ndarray) -> np.ndarray:
    """[K] mean over the first axis of the values that are not NaN; NaN where all values are."""
    known_VK = ~np.isnan(values_VK)
    total_K, count_K = np.where(known_VK, values_VK, 0).sum(0), known_VK.sum(0)
    return np.where(count_K > 0, total_K / np.maximum(count_K, 1), np.nan)
