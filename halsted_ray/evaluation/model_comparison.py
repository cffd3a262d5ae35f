"""Two models on the same test windows: is the second better, and how sure is that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from halsted_ray.evaluation.intervals import over_folds, paired_bootstrap, paired_test
from halsted_ray.evaluation.map_accuracy import without_nan
from halsted_ray.evaluation.predictions import TagPredictions
from halsted_ray.evaluation.scoring import Counts
from halsted_ray.taxonomy import Taxonomy


def compare_models(
    first: Sequence[TagPredictions],
    second: Sequence[TagPredictions],
    taxonomy: Taxonomy,
    operation_of_video: Mapping[str, Mapping[str, str]],
) -> dict:
    """``second − first`` by bootstrap over videos, as JSON values: ``mean`` (over all tags), ``tasks``, ``tags``,
    ``specialties``; each with value, low, high and p_worse (``intervals.PairedDifference``).

    Both are the answers of one model each. Raises ValueError where they answered other windows.
    """
    pair = counted(first, second)

    def difference(tags: Sequence[str], keep_K: np.ndarray | None = None) -> dict:
        (first_VT, asked_VT), (second_VT, _) = (counts.of_videos(tags, keep_K) for counts in pair)
        return asdict(paired_bootstrap(first_VT, second_VT, asked_VT))

    tags = pair[0].tags
    specialty_K = np.array([operation_of_video.get(str(v), {}).get("specialty", "") for v in pair[0].video_K])
    return without_nan(
        {
            "mean": difference(tags),
            "tasks": {name: difference(own) for name, own in tasks_of(tags, taxonomy).items()},
            "tags": {tag: difference([tag]) for tag in tags},
            "specialties": {
                str(name): difference(tags, specialty_K == name) for name in np.unique(specialty_K) if name
            },
        }
    )


def compare_folds(first: Sequence[TagPredictions], second: Sequence[TagPredictions], taxonomy: Taxonomy) -> dict:
    """task (and ``mean``) → accuracies of both by fold, their difference with its t interval, and the p-values of
    Wilcoxon's signed rank and of the paired t-test. Raises ValueError where they answered other windows."""
    pair = counted(first, second)
    found = {}
    for name, tags in {**tasks_of(pair[0].tags, taxonomy), "mean": pair[0].tags}.items():
        one, other = (counts.accuracy(tags)["folds"] for counts in pair)
        found[name] = {
            "first": one,
            "second": other,
            "difference": asdict(over_folds(np.subtract(other, one), "t")),
            "wilcoxon_p": paired_test(one, other),
            "t_p": paired_test(one, other, "t"),
        }
    return without_nan(found)


def counted(first: Sequence[TagPredictions], second: Sequence[TagPredictions]) -> tuple[Counts, Counts]:
    pair = Counts.of(first), Counts.of(second)
    one, other = pair
    if (
        one.tags != other.tags
        or not np.array_equal(one.video_K, other.video_K)
        or not np.array_equal(one.asked_KT, other.asked_KT)
    ):
        raise ValueError(
            f"the models answered other windows ({int(one.asked_KT.sum())} of {len(set(one.video_K))} videos against "
            f"{int(other.asked_KT.sum())} of {len(set(other.video_K))}); judge both on the same release and part"
        )
    return pair


def tasks_of(tags: Sequence[str], taxonomy: Taxonomy) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for tag in tags:
        found.setdefault(taxonomy.task_of_tag(tag).name, []).append(tag)
    return found
