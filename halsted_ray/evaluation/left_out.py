"""Leave one specialty out: a model learns from some specialties and is judged on another, so that its figures say what
it knows of surgery and not of one department's videos.

After the BSA study (arXiv 2603.12787), which reports how actions are recognised across specialties: accuracy and
macro-averaged F1, per specialty that was left out and as the mean over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from halsted_ray.errors import AtlasError
from halsted_ray.evaluation.json_values import without_nan
from halsted_ray.evaluation.predictions import NO_CATEGORY, TagPredictions, of_unit
from halsted_ray.records import JsonObject

LEAVE_OUT = ("specialty", "procedure")


def left_out_folds(
    video_ids: Iterable[str],
    operations: Mapping[str, Mapping[str, str]],
    group_of: Mapping[str, str],
    leave_out: str = "specialty",
) -> list[dict[str, str]]:
    """video_id → train, validation or test, per fold; a fold for each specialty (or procedure), in the order of names.

    All videos of one name test. Of each other name with several groups of videos, one group validates, another one in
    each fold; where no name has several, one group of the next name does. A video whose operation is not known only
    teaches. Videos of one group take one part: that of the first of them, so a group over two names is left out with
    the first. Raises AtlasError for fewer than three names.
    """
    assert leave_out in LEAVE_OUT
    name_of_group: dict[str, str] = {}
    members: dict[str, list[str]] = {}
    for video_id in sorted(video_ids):
        group = group_of.get(video_id, video_id)
        members.setdefault(group, []).append(video_id)
        name_of_group.setdefault(group, operations.get(video_id, {}).get(leave_out, ""))
    groups_of_name: dict[str, list[str]] = {}
    for group, name in name_of_group.items():
        groups_of_name.setdefault(name, []).append(group)
    names = sorted(name for name in groups_of_name if name)
    if len(names) < 3:
        raise AtlasError(
            f"the annotated videos name {len(names)} {leave_out} values ({', '.join(names) or 'none'}); to leave one "
            "out takes 3: one to test, the others to teach and to validate"
        )
    folds = []
    for number, left_out in enumerate(names):
        part = dict.fromkeys(name_of_group, "train") | dict.fromkeys(groups_of_name[left_out], "test")
        others = [name for name in names if name != left_out]
        several = [name for name in others if len(groups_of_name[name]) > 1] or [others[number % len(others)]]
        for name in several:
            part[groups_of_name[name][number % len(groups_of_name[name])]] = "validation"
        folds.append({video_id: part[group] for group, videos in members.items() for video_id in videos})
    return folds


def left_out_names(
    folds: Iterable[Mapping[str, str]], operations: Mapping[str, Mapping[str, str]], leave_out: str
) -> list[str]:
    """What each fold of ``left_out_folds`` leaves out."""
    return [
        next(
            name
            for video_id, part in sorted(fold.items())
            if part == "test" and (name := operations.get(video_id, {}).get(leave_out, ""))
        )
        for fold in folds
    ]


def left_out_figures(predictions: Sequence[TagPredictions], names: Sequence[str]) -> JsonObject:
    """method → tag → the name that was left out, and ``mean`` → accuracy, ``f1`` (macro, over the categories that occur
    in the truth) and how many answers ``n``, as JSON values. Annotated clips are judged, and windows where there are no
    clips. A tag whose true categories no training video has, such as the specialty itself, is left out."""
    found: JsonObject = {}
    for entry in of_unit(predictions, "clips") or of_unit(predictions, "grid"):
        truth_N, chosen_N = entry.targets.truth_N, entry.chosen_N
        if not entry.targets.in_training_N.any() or (chosen_N == NO_CATEGORY).all():
            continue
        of_tag = found.setdefault(entry.method, {}).setdefault(entry.targets.tag, {})
        of_tag[names[entry.targets.fold]] = {
            "accuracy": float(entry.right_N.mean()),
            "f1": macro_f1(truth_N, chosen_N),
            "n": len(truth_N),
        }
    for of_method in found.values():
        for of_tag in of_method.values():
            members = list(of_tag.values())
            of_tag["mean"] = {
                "accuracy": float(np.mean([one["accuracy"] for one in members])),
                "f1": float(np.mean([one["f1"] for one in members])),
                "n": sum(one["n"] for one in members),
            }
    told: JsonObject = without_nan(found)
    return told


def macro_f1(truth_N: np.ndarray, chosen_N: np.ndarray) -> float:
    """The mean over the categories in ``truth_N`` of 2 TP / (2 TP + FP + FN)."""
    scores = []
    for category in np.unique(truth_N):
        is_true_N, is_chosen_N = truth_N == category, chosen_N == category
        scores.append(2 * (is_true_N & is_chosen_N).sum() / (is_true_N.sum() + is_chosen_N.sum()))
    return float(np.mean(scores)) if scores else float("nan")
