"""The paper's two comparisons on an atlas: with SAIS, and of the decoder with a Llama.

Both train every method on the same folds. The folds take the place of the paper's single split (SAIS), and are drawn as
the paper draws them (Llama). Published rows stand beside ours for orientation: they were measured on other videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from halsted_ray.atlas import Atlas, read_atlas
from halsted_ray.errors import AtlasError
from halsted_ray.evaluation.evaluation_plan import EvaluationPlan
from halsted_ray.evaluation.folds import draw_folds, operation_of_video, strategy_for
from halsted_ray.evaluation.intervals import over_folds, paired_test
from halsted_ray.evaluation.json_values import Figures, without_nan
from halsted_ray.evaluation.predictions import LLAMA, MODEL, TagPredictions, of_unit
from halsted_ray.evaluation.published import accuracy_of, auroc_of
from halsted_ray.evaluation.run_evaluation import Evaluation, evaluate, save_evaluation
from halsted_ray.records import SYNTHETIC
from halsted_ray.training.recipe import Recipe

SPECIALTIES = ("Bariatric", "General", "Gynecology")
"""Those of the paper's comparison with SAIS (Methods, Benchmarking against state-of-the-art model)."""
SAIS_TASK, LLAMA_TASK = "proficiency", "micro"
"""The tasks of the two comparisons: suturing phase and proficiency; action, arm and instrument."""
PAPER = "Kiyasseh 2026, arXiv 2603.22583"
PUBLISHED_SAIS: Sequence[Figures] = (
    {"method": "Halsted", "tag": "phase", "auroc": 1.00, "low": 1.00, "high": 1.00, "source": PAPER},
    {"method": "SAIS", "tag": "phase", "auroc": 0.68, "low": 0.65, "high": 0.72, "source": PAPER},
    # The interval stands so in the paper; its upper border lies below the value.
    {"method": "Halsted", "tag": "proficiency", "auroc": 0.78, "low": 0.73, "high": 0.77, "source": PAPER},
    {"method": "SAIS", "tag": "proficiency", "auroc": 0.73, "low": 0.70, "high": 0.74, "source": PAPER},
)
PUBLISHED_LLAMA: Sequence[Figures] = (
    {"method": "2 layers", "tag": "action", "accuracy": 0.703, "low": 0.646, "high": 0.761, "source": PAPER},
    # The interval stands so in the paper; it is not symmetric as the others are.
    {"method": "Llama-3.2-1B", "tag": "action", "accuracy": 0.709, "low": 0.680, "high": 0.970, "source": PAPER},
    {"method": "2 layers", "tag": "instrument", "accuracy": 0.764, "low": 0.670, "high": 0.860, "source": PAPER},
    {"method": "Llama-3.2-1B", "tag": "instrument", "accuracy": 0.814, "low": 0.628, "high": 0.999, "source": PAPER},
)


def compare_with_sais(
    atlas: str,
    out: str,
    recipe: Recipe,
    plan: EvaluationPlan,
    *,
    specialties: Sequence[str] = SPECIALTIES,
    **options: Any,
) -> Evaluation:
    """Trains and judges the recipe and the baselines of ``plan`` on suturing phase and proficiency of three
    specialties.

    ``plan``: its release, folds, strategy, seed, baselines and ``sais_encoder`` count. ``options``: as of ``evaluate``.
    The figures get ``benchmark``: ``name``, ``specialties``, ``published``, and ``methods``: method → tag → ``auroc``
    with its 95% interval (t over folds). Raises AtlasError where a specialty has no annotated video.
    """
    source = read_atlas(atlas, plan.release)
    require_task(source, SAIS_TASK)
    videos = videos_of_specialties(source, specialties)
    strategy = plan.strategy or strategy_for(videos)
    splits = tuple(draw_folds(videos, plan.folds, strategy, plan.seed))
    found = evaluate(
        atlas, out, replace(recipe, tasks=(SAIS_TASK,)), plan=replace(plan, splits=splits, strategy=None), **options
    )
    methods = {
        name: {tag: with_t(list(map(auroc_of, entries))) for tag, entries in by_tag(found.of(name)).items()}
        for name in found.figures["methods"]
    }
    return finished(
        found,
        out,
        {"name": "sais", "specialties": list(specialties), "published": list(PUBLISHED_SAIS), "methods": methods},
    )


def compare_with_llama(
    atlas: str, out: str, recipe: Recipe, plan: EvaluationPlan, llama: str, **options: Any
) -> Evaluation:
    """Trains and judges the recipe's decoder and the Llama in the folder ``llama`` on the micro task, fold by fold.

    ``plan`` and ``options``: as of ``compare_with_sais``. The figures get ``benchmark``: ``name``, ``published``,
    ``methods`` (method → tag → ``accuracy`` with its 95% interval, t over folds) and ``p`` (tag → p-values of the
    paired ``t`` test and of ``wilcoxon``). Raises AtlasError, ModelError.
    """
    require_task(read_atlas(atlas, plan.release), LLAMA_TASK)
    found = evaluate(atlas, out, replace(recipe, tasks=(LLAMA_TASK,)), plan=replace(plan, llama=llama), **options)
    entries_of = {name: by_tag(found.of(name)) for name in (MODEL, LLAMA)}
    shares = {
        name: {tag: list(map(accuracy_of, entries)) for tag, entries in of_tags.items()}
        for name, of_tags in entries_of.items()
    }
    p = {
        tag: {test: paired_test(values, shares[LLAMA][tag], test) for test in ("t", "wilcoxon")}
        for tag, values in shares[MODEL].items()
    }
    methods = {name: {tag: with_t(values) for tag, values in of_tags.items()} for name, of_tags in shares.items()}
    return finished(found, out, {"name": "llama", "published": list(PUBLISHED_LLAMA), "methods": methods, "p": p})


def require_task(source: Atlas, name: str) -> None:
    """Raises AtlasError where the atlas's taxonomy lacks the task."""
    known = [task.name for task in source.load_taxonomy().tasks]
    if name not in known:
        raise AtlasError(
            f"the taxonomy {source.taxonomy!r} of release {source.name!r} has the tasks {', '.join(known)}; expected "
            f"{name!r}, which this comparison is about"
        )


def videos_of_specialties(source: Atlas, specialties: Sequence[str]) -> dict[str, str]:
    """video_id → procedure of the videos of ``specialties`` that have a clip of SAIS's task.

    Raises AtlasError where a specialty has none.
    """
    operations = operation_of_video(source.clips)
    annotated = {clip.video_id for clip in source.clips if clip.task == SAIS_TASK and clip.source != SYNTHETIC}
    specialty_of = {video: operations.get(video, {}).get("specialty", "") for video in annotated}
    if missing := sorted(set(specialties) - set(specialty_of.values())):
        there = ", ".join(sorted(set(specialty_of.values()) - {""})) or "none"
        raise AtlasError(
            f"release {source.name!r} has no video of {', '.join(missing)} with clips of {SAIS_TASK!r}; found {there}: "
            "name specialties that it has (--specialties)"
        )
    return {
        video: operations[video].get("procedure", "")
        for video in sorted(annotated)
        if specialty_of[video] in specialties
    }


def by_tag(predictions: Sequence[TagPredictions]) -> dict[str, list[TagPredictions]]:
    """Tag → its predictions by fold, of annotated clips alone."""
    found: dict[str, list[TagPredictions]] = {}
    for entry in of_unit(predictions, "clips"):
        found.setdefault(entry.targets.tag, []).append(entry)
    return found


def with_t(values: Sequence[float]) -> Figures:
    """``value``, ``low`` and ``high`` (95%, t over folds), and the values of the ``folds``."""
    interval = over_folds(values, "t")
    return {"value": interval.value, "low": interval.low, "high": interval.high, "folds": list(values)}


def finished(found: Evaluation, out: str, benchmark: Figures) -> Evaluation:
    """``found`` with the figures of its comparison, saved."""
    found.figures["benchmark"] = without_nan(benchmark)
    save_evaluation(out, found.figures, found.predictions, found.taxonomy)
    return found
