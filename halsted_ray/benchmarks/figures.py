"""The metrics of the benchmarks, from scores of frames. Shares are fractions.

Legend: N frames, K labels.
"""

from __future__ import annotations

import math

import numpy as np

from halsted_ray.benchmarks.labelled import JudgedFrames
from halsted_ray.evaluation.frame_metrics import by_component, mean_average_precision
from halsted_ray.evaluation.metrics import segmental_f1, spans_of
from halsted_ray.language.zero_shot import macro_f1

Figures = dict[str, float | None]


def figures_of(scores_NK: np.ndarray, frames: JudgedFrames, metric: str, segments: bool, labels: list[str]) -> Figures:
    """Figure → value, None where it does not exist (no label occurs).

    ``accuracy-f1``: ``accuracy`` and ``f1`` over all frames (the mean of the F1 of the labels that occur),
    ``accuracy_videos`` and ``f1_videos`` as means over videos, ``chance`` (one of K) and ``commonest``. With
    ``segments`` also ``f1_10`` and ``action_score``, SAR-RARP50's own. ``map``: mean average precision of the labels
    that occur, all frames pooled, and ``map_videos`` as ivtmetrics averages it; ``map-per-video``: ``map`` as
    ivtmetrics, ``map_pooled``, and of triplets ``map_instrument``, ``map_verb``, ``map_target``. ``chance`` is then the
    mean share of frames that have a label.
    """
    if metric == "accuracy-f1":
        found = single_label(scores_NK, frames)
        return found | (segment_score(scores_NK, frames) if segments else {})
    videos = of_videos(scores_NK, frames)
    pooled, per_video = (mean_average_precision(videos, pooling)[1] for pooling in ("pooled", "per_video"))
    occurs_K = frames.truth_NK.any(0)
    chance = float(frames.truth_NK.mean(0)[occurs_K].mean()) if occurs_K.any() else math.nan
    if metric == "map":
        return known({"map": pooled, "map_videos": per_video, "chance": chance})
    return known({"map": per_video, "map_pooled": pooled, "chance": chance, **of_components(videos, labels)})


def known(figures: dict[str, float]) -> Figures:
    """NaN becomes None."""
    return {name: None if math.isnan(value) else value for name, value in figures.items()}


def of_videos(scores_NK: np.ndarray, frames: JudgedFrames) -> list[tuple[np.ndarray, np.ndarray]]:
    """(scores, truth) of each video that has frames."""
    rows = [frames.video_N == number for number in np.unique(frames.video_N)]
    return [(scores_NK[own_N], frames.truth_NK[own_N]) for own_N in rows]


def single_label(scores_NK: np.ndarray, frames: JudgedFrames) -> Figures:
    """Accuracy and F1 of frames with one label each."""
    pairs = [(truth_NK.argmax(1), own_NK.argmax(1)) for own_NK, truth_NK in of_videos(scores_NK, frames)]
    truth_N, found_N = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return {
        "accuracy": float((truth_N == found_N).mean()),
        "f1": macro_f1(truth_N, found_N),
        "accuracy_videos": float(np.mean([(truth == found).mean() for truth, found in pairs])),
        "f1_videos": float(np.mean([macro_f1(truth, found) for truth, found in pairs])),
        "chance": 1 / scores_NK.shape[1],
        "commonest": float(np.bincount(truth_N).max() / len(truth_N)),
    }


def segment_score(scores_NK: np.ndarray, frames: JudgedFrames) -> Figures:
    """``f1_10``, mean over videos, and ``action_score``: the root of mean accuracy times it (SAR-RARP50's toolkit)."""
    pairs = [(truth_NK.argmax(1), own_NK.argmax(1)) for own_NK, truth_NK in of_videos(scores_NK, frames)]
    spans = [(spans_of(found.tolist()), spans_of(truth.tolist())) for truth, found in pairs]
    f1 = segmental_f1(spans, 0.1, "per_video")
    accuracy = float(np.mean([(truth == found).mean() for truth, found in pairs]))
    return {"f1_10": f1, "action_score": math.sqrt(accuracy * f1)}


def of_components(videos: list[tuple[np.ndarray, np.ndarray]], labels: list[str]) -> dict[str, float]:
    """Mean average precision of a triplet's parts: a part is scored by the best triplet that has it (ivtmetrics)."""
    parts = [label.split(", ") for label in labels]
    if any(len(own) != 3 for own in parts):
        return {}
    found = {}
    for place, name in enumerate(("instrument", "verb", "target")):
        values = sorted({own[place] for own in parts})
        component_K = [values.index(own[place]) for own in parts]
        own = [(by_component(scores, component_K), by_component(truth, component_K)) for scores, truth in videos]
        found[f"map_{name}"] = mean_average_precision(own, "per_video")[1]
    return found
