"""The models before and after a round of self-labelling: which to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from halsted_ray.evaluation.intervals import paired_test
from halsted_ray.evaluation.map_accuracy import without_nan
from halsted_ray.evaluation.model_comparison import compare_folds, compare_models, tasks_of
from halsted_ray.evaluation.predictions import REFERENCE, TagPredictions
from halsted_ray.evaluation.scoring import Counts
from halsted_ray.taxonomy import Taxonomy

AFTER = "v2"


def measure_gain(
    before: Sequence[TagPredictions],
    after: Sequence[TagPredictions],
    taxonomy: Taxonomy,
    operation_of_video: Mapping[str, Mapping[str, str]],
    task: str = "micro",
    labelled: Sequence[TagPredictions] = (),
) -> dict:
    """JSON values: ``folds`` and ``videos`` (``pairing``'s: difference with interval and p-values), ``sources`` (see
    ``by_source``), and ``keep``: ``v2`` only where its gain on ``task`` has an interval above zero, else ``v1``.
    ``labelled``: what ``after`` answers where a model labelled the held-out videos and not a person.

    Both answered the same windows of held-out videos; ValueError otherwise. With one fold alone the interval is the
    bootstrap's over videos. The labels that ``after`` learned must come from a model that did not learn from the
    held-out videos either, in each fold: else they carry the truth across.
    """
    folds = compare_folds(before, after, taxonomy)
    videos = compare_models(before, after, taxonomy, operation_of_video)
    several = len({entry.asked.fold for entry in after}) > 1
    unknown = {"value": None, "low": None, "high": None}  # no held-out window shows the task
    gain = folds.get(task, {}).get("difference", unknown) if several else videos["tasks"].get(task, unknown)
    return {
        "task": task,
        "over": "folds" if several else "videos",
        "gain": gain,
        "folds": folds,
        "videos": videos,
        "sources": by_source([*after, *labelled], taxonomy),
        "keep": AFTER if (gain["low"] or 0) > 0 else REFERENCE,
    }


def by_source(answers: Sequence[TagPredictions], taxonomy: Taxonomy) -> dict:
    """task (and ``mean``) → accuracy by fold where a person and where a model labelled the window, and the p-value of
    Wilcoxon's signed rank between them (paper: 89 % against 96 %, p = .25); {} where one source labelled all.

    Over the tags that both sources have: a model's macro samples name the step alone.
    """
    counts = Counts.of(answers)
    is_ai_K = counts.source_K == "ai"
    if is_ai_K.all() or not is_ai_K.any():
        return {}
    both = [
        tag
        for tag, *asked in zip(
            counts.tags, *(counts.asked_KT[rows_K].sum(0) for rows_K in (is_ai_K, ~is_ai_K)), strict=True
        )
        if all(asked)
    ]
    found = {}
    for name, tags in {**tasks_of(both, taxonomy), "mean": both}.items():
        manual, ai = (counts.accuracy(tags, rows_K)["folds"] for rows_K in (~is_ai_K, is_ai_K))
        found[name] = {"manual": manual, "ai": ai, "wilcoxon_p": paired_test(manual, ai)}
    return without_nan(found)


def by_action(reports: Sequence[Mapping]) -> dict[str, dict]:
    """Category → what became of the model's answers over all ``reports`` (of ``labelling.label_archive``), the
    commonest
    first: ``thresholds`` (one a report, None where no confidence is enough), ``precision`` of what they keep on
    validation (None where nothing), the archive's windows ``said``, ``kept``, ``dropped``, and ``clips`` made."""
    found: dict[str, dict] = {}
    for report in reports:
        for name, own in report.get("actions", {}).items():
            entry = found.setdefault(
                name,
                {"thresholds": [], "right": 0, "sure": 0, **dict.fromkeys(("said", "kept", "dropped", "clips"), 0)},
            )
            entry["thresholds"].append(own["threshold"])
            entry["right"] += own["validation"]["right"]
            entry["sure"] += own["validation"]["kept"]
            for count in ("said", "kept", "dropped", "clips"):
                entry[count] += own[count]
    for entry in found.values():
        right, sure = entry.pop("right"), entry.pop("sure")
        entry["precision"] = right / sure if sure else None
    return dict(sorted(found.items(), key=lambda item: (-item[1]["said"], item[0])))
