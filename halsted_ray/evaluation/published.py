"""What the paper's figures and ROC curves show, computed from predictions and clips.

The paper's unit is the annotated clip, so predictions of the map's windows are left out.

Legend: N clips of one tag, K its categories.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from halsted_ray.evaluation import metrics
from halsted_ray.evaluation.json_values import Figures, without_nan
from halsted_ray.evaluation.predictions import TagPredictions, of_unit
from halsted_ray.records import Clip

CURVE_POINTS = 101
"""Points of a ROC curve that is drawn: at false-alarm rates of 0, 0.01, … 1."""
DURATION_EDGES_S = tuple(float(edge) for edge in range(0, 21))
"""Borders of the bins of clip lengths: the paper's clips last 1 to 20 s. Longer clips share a last bin."""


def published_figures(
    predictions: Sequence[TagPredictions],
    operation_of_video: Mapping[str, Mapping[str, str]],
    clips: Sequence[Clip],
    categories_of: Mapping[str, Sequence[str]],
) -> Figures:
    """JSON values (NaN becomes None), of the predictions of one method: ``specialties`` (Fig. 2a and b: tag → specialty
    → ``accuracy`` and ``auroc``), ``categories`` (Fig. 2c: tag → category → accuracy), ``roc`` (``roc_curves``) and
    ``durations`` (Fig. 9). ``categories_of``: the categories of each tag.

    Every accuracy and AUROC has its ``value``, standard ``error`` and number of ``samples`` (``mean_and_error``).
    """
    by_tag: dict[str, list[TagPredictions]] = {}
    for entry in of_unit(predictions, "clips"):
        by_tag.setdefault(entry.targets.tag, []).append(entry)
    found = {
        "specialties": {tag: by_specialty(entries, operation_of_video) for tag, entries in by_tag.items()},
        "categories": {tag: by_category(entries, categories_of[tag]) for tag, entries in by_tag.items()},
        "roc": {tag: roc_curves(entries, categories_of[tag]) for tag, entries in by_tag.items()},
        "durations": durations(clips, operation_of_video),
    }
    figures: Figures = without_nan(found)
    return figures


def by_specialty(
    entries: Sequence[TagPredictions], operation_of_video: Mapping[str, Mapping[str, str]]
) -> dict[str, Figures]:
    """Specialty → ``accuracy`` and ``auroc`` of one tag. Videos of unknown specialty are left out."""
    names_of = [
        np.array([operation_of_video.get(str(video), {}).get("specialty", "") for video in entry.targets.video_N])
        for entry in entries
    ]
    names = sorted({str(name) for of_entry in names_of for name in np.unique(of_entry)} - {""})
    found = {}
    for name in names:
        own = [entry.take(of_entry == name) for entry, of_entry in zip(entries, names_of, strict=True)]
        own = [entry for entry in own if len(entry.right_N)]
        found[name] = {"accuracy": mean_and_error(own, accuracy_of), "auroc": mean_and_error(own, auroc_of)}
    return found


def by_category(entries: Sequence[TagPredictions], categories: Sequence[str]) -> dict[str, Figures]:
    """Category → the share of its clips that are rightly named. Categories without a clip are left out."""
    found = {}
    for k, name in enumerate(categories):
        own = [entry.take(entry.targets.truth_N == k) for entry in entries]
        own = [entry for entry in own if len(entry.right_N)]
        if own:
            found[name] = mean_and_error(own, accuracy_of)
    return found


def accuracy_of(entry: TagPredictions) -> float:
    """The share that is right."""
    return float(entry.right_N.mean())


def auroc_of(entry: TagPredictions) -> float:
    """AUROC, mean over the categories that occur."""
    return metrics.auroc_one_vs_rest(entry.scores_NK, entry.targets.truth_N)


def mean_and_error(entries: Sequence[TagPredictions], measure: Callable[[TagPredictions], float]) -> Figures:
    """``value``, ``error`` and ``samples``: mean over folds and its standard error. With one fold the error is that of
    the mean over videos, and ``over`` says which of both; NaN where there is one of them alone."""
    of_folds = [value for value in map(measure, entries) if not math.isnan(value)]
    over, values = "folds", of_folds
    if len(entries) == 1:
        (entry,) = entries
        over = "videos"
        parts = [entry.take(entry.targets.video_N == video) for video in np.unique(entry.targets.video_N)]
        values = [value for value in map(measure, parts) if not math.isnan(value)]
    return {
        "value": float(np.mean(of_folds)) if of_folds else math.nan,
        "error": float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan,
        "over": over,
        "samples": int(sum(len(entry.right_N) for entry in entries)),
    }


def roc_curve(scores_N: np.ndarray, positive_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(false-alarm rates, hit rates) of one category, from (0, 0) to (1, 1), a point per different score.

    Both kinds must occur. The area below, by trapezoids, is ``metrics.auroc``.
    """
    order = np.argsort(-scores_N, kind="stable")
    is_last = np.append(np.diff(scores_N[order]) != 0, True)  # ties are one point
    hits, alarms = np.cumsum(positive_N[order])[is_last], np.cumsum(~positive_N[order])[is_last]
    return np.append(0.0, alarms / alarms[-1]), np.append(0.0, hits / hits[-1])


def roc_curves(entries: Sequence[TagPredictions], categories: Sequence[str]) -> Figures:
    """``alarms``: false-alarm rates of ``CURVE_POINTS`` points; ``macro``: mean hit rates there; ``auroc``: the mean
    over folds of the mean over categories; ``categories``: category → its ``hits`` and ``auroc``.

    A category's curve is the mean of its folds' curves. A fold in which all or none of the clips are of the category
    does not count; a category without any fold is left out.
    """
    alarms = np.linspace(0.0, 1.0, CURVE_POINTS)
    found: dict[str, Figures] = {}
    for k, name in enumerate(categories):
        curves, areas = [], []
        for entry in entries:
            positive_N = entry.targets.truth_N == k
            if positive_N.any() and not positive_N.all():
                of_fold = roc_curve(entry.scores_NK[:, k], positive_N)
                curves.append(np.interp(alarms, *of_fold))
                curves[-1][0] = of_fold[1][of_fold[0] == 0].max()  # a curve may rise at a rate of 0
                areas.append(metrics.auroc(entry.scores_NK[:, k], positive_N))
        if curves:
            found[name] = {"hits": np.mean(curves, 0).round(4).tolist(), "auroc": float(np.mean(areas))}
    macro = np.mean([of_category["hits"] for of_category in found.values()], 0).round(4).tolist() if found else []
    of_folds = [value for value in map(auroc_of, entries) if not math.isnan(value)]
    return {
        "alarms": alarms.round(4).tolist(),
        "macro": macro,
        "auroc": float(np.mean(of_folds)) if of_folds else math.nan,
        "categories": found,
    }


def durations(clips: Sequence[Clip], operation_of_video: Mapping[str, Mapping[str, str]]) -> Figures:
    """``edges_s``: borders of the bins; ``counts``: task → specialty → number of clips per bin, and one more of longer
    clips at the end."""
    counts: dict[str, dict[str, list[int]]] = {}
    for clip in clips:
        specialty = clip.specialty or operation_of_video.get(clip.video_id, {}).get("specialty", "") or "unknown"
        bins = counts.setdefault(clip.task, {}).setdefault(specialty, [0] * len(DURATION_EDGES_S))
        bins[min(int(clip.stop_s - clip.start_s), len(DURATION_EDGES_S) - 1)] += 1
    return {"edges_s": list(DURATION_EDGES_S), "counts": counts}
