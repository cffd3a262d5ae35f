"""The models before and after a round of self-labelling: which to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from halsted_ray.evaluation.intervals import paired_test
from halsted_ray.evaluation.json_values import Figures, without_nan
from halsted_ray.evaluation.model_comparison import compare_folds, compare_models, tags_by_task
from halsted_ray.evaluation.predictions import KINDS_OF_UNIT, REFERENCE, TagPredictions, of_unit
from halsted_ray.evaluation.scoring import AccuracyCounts
from halsted_ray.taxonomy import Taxonomy


def model_after(rounds: int) -> str:
    """The model after so many rounds of self-labelling, ``v2`` after one; ``REFERENCE`` (``v1``) is the model before
    them."""
    return f"v{rounds + 1}"


def measure_gain(
    before: Sequence[TagPredictions],
    after: Sequence[TagPredictions],
    taxonomy: Taxonomy,
    operation_of_video: Mapping[str, Mapping[str, str]],
    task: str = "micro",
    labelled: Sequence[TagPredictions] = (),
    rounds: int = 1,
) -> Figures:
    """``folds`` and ``videos`` (differences by ``model_comparison``), ``sources`` (``by_source``), the ``gain`` on
    ``task``, the name of the model ``after`` the rounds, and which model to ``keep``, as JSON values. ``units``: folds
    and videos once more, of ``clips`` and of the ``grid``'s windows alone; the others count both alike.

    ``keep`` is ``after`` only where its gain has an interval above zero, else ``v1``. With one fold alone the interval
    is the bootstrap's over videos. ``labelled``: predictions of ``after`` for held-out windows that a model labelled
    and not a person.

    Both models predicted the same windows of held-out videos; ValueError otherwise. In each fold, the labels that
    ``after`` learned must come from a model that did not learn from the held-out videos: else they carry the truth
    across.
    """
    folds = compare_folds(before, after, taxonomy)
    videos = compare_models(before, after, taxonomy, operation_of_video)
    has_several_folds = len({entry.targets.fold for entry in after}) > 1
    unknown = {"value": None, "low": None, "high": None}  # no held-out window shows the task
    gain = folds.get(task, {}).get("difference", unknown) if has_several_folds else videos["tasks"].get(task, unknown)
    sides = {unit: (of_unit(before, unit), of_unit(after, unit)) for unit in KINDS_OF_UNIT}
    return {
        "task": task,
        "after": model_after(rounds),
        "over": "folds" if has_several_folds else "videos",
        "gain": gain,
        "folds": folds,
        "videos": videos,
        "units": {
            unit: {
                "folds": compare_folds(*both, taxonomy),
                "videos": compare_models(*both, taxonomy, operation_of_video),
            }
            for unit, both in sides.items()
            if both[0]
        },
        "sources": by_source([*after, *labelled], taxonomy),
        "keep": model_after(rounds) if (gain["low"] or 0) > 0 else REFERENCE,
    }


def by_source(predictions: Sequence[TagPredictions], taxonomy: Taxonomy) -> Figures:
    """task (and ``mean``) → accuracy by fold on windows that a person labelled (``manual``) and that a model labelled
    (``ai``), and the p-value of Wilcoxon's signed rank between them (paper: 89 % against 96 %, p = .25).

    {} where one source labelled all windows. Only tags that both sources have count: a model's macro samples have the
    tag ``step`` alone.
    """
    counts = AccuracyCounts.of(predictions)
    is_ai_K = counts.source_K == "ai"
    if is_ai_K.all() or not is_ai_K.any():
        return {}
    ai_total_T, manual_total_T = (counts.total_KT[rows_K].sum(0) for rows_K in (is_ai_K, ~is_ai_K))
    tags_of_both = [
        tag for tag, ai, manual in zip(counts.tags, ai_total_T, manual_total_T, strict=True) if ai and manual
    ]
    found = {}
    for name, tags in {**tags_by_task(tags_of_both, taxonomy), "mean": tags_of_both}.items():
        manual, ai = (counts.accuracy(tags, rows_K)["folds"] for rows_K in (~is_ai_K, is_ai_K))
        found[name] = {"manual": manual, "ai": ai, "wilcoxon_p": paired_test(manual, ai)}
    figures: Figures = without_nan(found)
    return figures


def by_action(reports: Sequence[Mapping[str, Any]]) -> dict[str, Figures]:
    """Action → what became of the model's predictions over all ``reports`` (of ``labelling.label_archive``), the
    commonest action first.

    ``thresholds``: one per report, None where no confidence is enough. ``precision``: share of the kept validation
    windows that are right, None where no window is kept. Of the archive's windows: ``said``, ``kept``, ``dropped``, and
    the ``clips`` made of them.
    """
    found: dict[str, Figures] = {}
    for report in reports:
        for name, of_action in report.get("actions", {}).items():
            entry = found.setdefault(
                name,
                {"thresholds": [], "right": 0, "sure": 0, **dict.fromkeys(("said", "kept", "dropped", "clips"), 0)},
            )
            entry["thresholds"].append(of_action["threshold"])
            entry["right"] += of_action["validation"]["right"]
            entry["sure"] += of_action["validation"]["kept"]
            for count in ("said", "kept", "dropped", "clips"):
                entry[count] += of_action[count]
    for entry in found.values():
        right, sure = entry.pop("right"), entry.pop("sure")
        entry["precision"] = right / sure if sure else None
    return dict(sorted(found.items(), key=lambda item: (-item[1]["said"], item[0])))
