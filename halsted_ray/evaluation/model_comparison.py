"""Two models on the same test windows: is the second better, and how sure is that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from halsted_ray.evaluation.intervals import over_folds, paired_bootstrap, paired_test
from halsted_ray.evaluation.json_values import Figures, without_nan
from halsted_ray.evaluation.predictions import TagPredictions
from halsted_ray.evaluation.scoring import AccuracyCounts
from halsted_ray.taxonomy import Taxonomy


def compare_models(
    first: Sequence[TagPredictions],
    second: Sequence[TagPredictions],
    taxonomy: Taxonomy,
    operation_of_video: Mapping[str, Mapping[str, str]],
) -> Figures:
    """``second − first`` by bootstrap over videos, as JSON values: ``mean`` (over all tags), ``tasks``, ``tags``,
    ``specialties``; each with value, low, high and p_worse (``intervals.PairedDifference``).

    ``first`` and ``second`` are the predictions of one model each. Raises ValueError where their windows differ.
    """
    first_counts, second_counts = paired_counts(first, second)

    def difference(tags: Sequence[str], keep_K: np.ndarray | None = None) -> Figures:
        first_VT, total_VT = first_counts.by_video(tags, keep_K)
        second_VT, _ = second_counts.by_video(tags, keep_K)
        return asdict(paired_bootstrap(first_VT, second_VT, total_VT))

    tags = first_counts.tags
    specialty_K = np.array([operation_of_video.get(str(v), {}).get("specialty", "") for v in first_counts.video_K])
    figures: Figures = without_nan(
        {
            "mean": difference(tags),
            "tasks": {name: difference(of_task) for name, of_task in tags_by_task(tags, taxonomy).items()},
            "tags": {tag: difference([tag]) for tag in tags},
            "specialties": {
                str(name): difference(tags, specialty_K == name) for name in np.unique(specialty_K) if name
            },
        }
    )
    return figures


def compare_folds(first: Sequence[TagPredictions], second: Sequence[TagPredictions], taxonomy: Taxonomy) -> Figures:
    """task (and ``mean``) → accuracies of both models by fold, their difference with its t interval, and the p-values
    of Wilcoxon's signed rank and of the paired t-test. Raises ValueError where their windows differ."""
    first_counts, second_counts = paired_counts(first, second)
    found = {}
    for name, tags in {**tags_by_task(first_counts.tags, taxonomy), "mean": first_counts.tags}.items():
        of_first, of_second = first_counts.accuracy(tags)["folds"], second_counts.accuracy(tags)["folds"]
        found[name] = {
            "first": of_first,
            "second": of_second,
            "difference": asdict(over_folds(np.subtract(of_second, of_first).tolist(), "t")),
            "wilcoxon_p": paired_test(of_first, of_second),
            "t_p": paired_test(of_first, of_second, "t"),
        }
    figures: Figures = without_nan(found)
    return figures


def paired_counts(
    first: Sequence[TagPredictions], second: Sequence[TagPredictions]
) -> tuple[AccuracyCounts, AccuracyCounts]:
    """The counts of both models. Raises ValueError unless they predicted the same windows."""
    first_counts, second_counts = AccuracyCounts.of(first), AccuracyCounts.of(second)
    if (
        first_counts.tags != second_counts.tags
        or not np.array_equal(first_counts.video_K, second_counts.video_K)
        or not np.array_equal(first_counts.total_KT, second_counts.total_KT)
    ):
        raise ValueError(
            f"the models predicted other windows ({int(first_counts.total_KT.sum())} of "
            f"{len(set(first_counts.video_K))} videos against {int(second_counts.total_KT.sum())} of "
            f"{len(set(second_counts.video_K))}); judge both on the same release and part"
        )
    return first_counts, second_counts


def tags_by_task(tags: Sequence[str], taxonomy: Taxonomy) -> dict[str, list[str]]:
    """Task → the tags of ``tags`` that belong to it."""
    found: dict[str, list[str]] = {}
    for tag in tags:
        found.setdefault(taxonomy.task_of_tag(tag).name, []).append(tag)
    return found
