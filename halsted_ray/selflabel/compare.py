"""The models before and after a round of self-labelling: which to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from halsted_ray.evaluation.answers import Answers
from halsted_ray.evaluation.compare import without_nan
from halsted_ray.evaluation.figures import Counts
from halsted_ray.evaluation.intervals import paired_test
from halsted_ray.evaluation.pairing import compare_folds, compare_models, tasks_of
from halsted_ray.taxonomy import Taxonomy

BEFORE, AFTER = "v1", "v2"


def compare(
    before: Sequence[Answers], after: Sequence[Answers], taxonomy: Taxonomy,
    operation_of_video: Mapping[str, Mapping[str, str]], task: str = "micro",
) -> dict:
    """JSON values: ``folds`` and ``videos`` (``pairing``'s: difference with interval and p-values), ``sources`` (see
    ``by_source``), and ``keep``: ``v2`` only where its gain on ``task`` has an interval above zero, else ``v1``.

    Both answered the same windows of held-out videos; ValueError otherwise. With one fold alone the interval is the
    bootstrap's over videos. The labels that ``after`` learned must come from a model that did not learn from the
    held-out videos either, in each fold: else they carry the truth across.
    """
    folds = compare_folds(before, after, taxonomy)
    videos = compare_models(before, after, taxonomy, operation_of_video)
    several = len({entry.asked.fold for entry in after}) > 1
    gain = folds[task]["difference"] if several else videos["tasks"][task]
    return {
        "task": task, "over": "folds" if several else "videos", "gain": gain, "folds": folds, "videos": videos,
        "sources": by_source(after, taxonomy), "keep": AFTER if (gain["low"] or 0) > 0 else BEFORE,
    }


def by_source(answers: Sequence[Answers], taxonomy: Taxonomy) -> dict:
    """task (and ``mean``) → accuracy by fold where a person and where a model labelled the window, and the p-value of
    Wilcoxon's signed rank between them (paper: 89 % against 96 %, p = .25); {} where one source labelled all."""
    counts = Counts.of(answers)
    if set(counts.source_K.tolist()) != {"manual", "ai"}:
        return {}
    found = {}
    for name, tags in {**tasks_of(counts.tags, taxonomy), "mean": counts.tags}.items():
        manual, ai = (counts.accuracy(tags, counts.source_K == source)["folds"] for source in ("manual", "ai"))
        found[name] = {"manual": manual, "ai": ai, "wilcoxon_p": paired_test(manual, ai)}
    return without_nan(found)
