"""What a model or a baseline predicts on test windows, one tag at a time: all figures are computed from this.

Legend: N windows of one tag, K categories of the tag, O categories of the same tag in the model's own taxonomy,
S samples, G tags of a task at most, D encoder width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from halsted_ray.evaluation.migration import Migration, category_matrix
from halsted_ray.taxonomy import Task, Taxonomy

if TYPE_CHECKING:  # a report needs the names of the methods, and no PyTorch
    from halsted_ray.model.halsted import Halsted
    from halsted_ray.training.samples import Samples

NO_CATEGORY = -1
"""In the place of a category where a method names none, as the method ``chance``."""
MODEL = "halsted"
"""The method's name of the model that is evaluated."""
REFERENCE = "v1"
"""The method's name of the model that it is compared with, such as the model before a round of self-labelling."""
LLAMA = "llama"
"""The method's name of a Llama that writes its answers as text (``llama_answers``)."""


KINDS_OF_UNIT: Mapping[str, tuple[str, ...]] = {"clips": ("clip",), "grid": ("coarse", "fine")}
"""Unit of a recipe (``training.recipe.UNITS``) → the kinds of its windows."""


@dataclass(frozen=True)
class TagTargets:
    """The test windows of one fold that have a truth for ``tag``. ``row_N`` points into the samples they came from.

    ``kind_N``: coarse, fine or clip. ``source_N``: who labelled the window, ``manual`` or ``ai``. ``in_training_N``:
    whether the fold's training part has the true category. A category that it lacks (the only videos of a procedure
    are held out) can't be predicted rightly, and counts as wrong all the same.
    """

    fold: int
    task: str
    tag: str
    row_N: np.ndarray
    video_N: np.ndarray
    kind_N: np.ndarray
    start_s_N: np.ndarray
    stop_s_N: np.ndarray
    source_N: np.ndarray
    truth_N: np.ndarray
    in_training_N: np.ndarray

    def take(self, rows_N: np.ndarray) -> TagTargets:
        """The targets at ``rows_N``, a mask or positions."""
        return replace(self, **{name: value[rows_N] for name, value in vars(self).items() if name.endswith("_N")})


@dataclass(frozen=True)
class TagPredictions:
    """What ``method`` predicts for ``targets``.

    ``chosen_N``: the category of the method's own run, in which each tag follows the method's own earlier tags.
    ``confidence_N``: calibrated probability of that category. ``right_N``: 1 or 0; for chance the probability to be
    right. ``scores_NK``: probabilities with the true earlier tags given, for metrics that rank (AUROC, average
    precision).
    """

    method: str
    targets: TagTargets
    chosen_N: np.ndarray
    confidence_N: np.ndarray
    right_N: np.ndarray
    scores_NK: np.ndarray

    def take(self, rows_N: np.ndarray) -> TagPredictions:
        """The predictions at ``rows_N``, a mask or positions."""
        rows = {name: value[rows_N] for name, value in vars(self).items() if name.endswith(("_N", "_NK"))}
        return replace(self, targets=self.targets.take(rows_N), **rows)

    @classmethod
    def from_scores(cls, method: str, targets: TagTargets, scores_NK: np.ndarray) -> TagPredictions:
        """The predictions of a method that looks at each tag by itself: the category with the highest score."""
        chosen_N = scores_NK.argmax(1)
        confidence_N = scores_NK[np.arange(len(chosen_N)), chosen_N]
        return cls(method, targets, chosen_N, confidence_N, (chosen_N == targets.truth_N).astype(float), scores_NK)


def of_unit(predictions: Sequence[TagPredictions], unit: str) -> list[TagPredictions]:
    """The predictions of one unit, ``clips`` or ``grid``; an entry that has none is left out."""
    kept = [entry.take(np.isin(entry.targets.kind_N, KINDS_OF_UNIT[unit])) for entry in predictions]
    return [entry for entry in kept if len(entry.targets.row_N)]


def tag_targets(
    test: Samples, train: Samples, taxonomy: Taxonomy, fold: int, kind_S: np.ndarray, source_S: np.ndarray
) -> list[TagTargets]:
    """The targets of a fold's test part, one entry for each tag that any of its judged samples has.

    ``kind_S`` and ``source_S``: kind of window and source of the label, row-aligned with ``test``.
    """
    found = []
    video_S = np.array(test.video_ids)[test.video_W][test.window_S]
    start_s_S, stop_s_S = test.start_s_W[test.window_S], test.stop_s_W[test.window_S]
    for k, task in enumerate(taxonomy.tasks):
        for g, tag in enumerate(task.tags):
            rows = np.flatnonzero(test.judged_S & (test.task_S == k) & (test.truth_SG[:, g] >= 0))
            if not len(rows):
                continue
            truth_N = test.truth_SG[rows, g].astype(np.int64)
            learned = np.unique(train.truth_SG[train.task_S == k, g])
            found.append(
                TagTargets(
                    fold,
                    task.name,
                    tag.name,
                    rows,
                    video_S[rows],
                    kind_S[rows],
                    start_s_S[rows],
                    stop_s_S[rows],
                    source_S[rows],
                    truth_N,
                    np.isin(truth_N, learned),
                )
            )
    return found


def predict(
    model: Halsted,
    test: Samples,
    targets: Sequence[TagTargets],
    method: str = MODEL,
    taxonomy: Taxonomy | None = None,
    migration: Migration | None = None,
) -> list[TagPredictions]:
    """What ``model`` predicts: one greedy run for the categories, one run with the true tags given for the ranking.

    ``taxonomy``: the taxonomy of ``test`` and ``targets`` where it is not the model's own; then ``migration`` says
    how the model's categories read in it. Tags that the model does not know are left out.
    """
    ours, theirs = taxonomy or model.taxonomy, model.taxonomy
    tags_of_task = {task.name: {tag.name for tag in task.tags} for task in theirs.tasks}
    targets = [of_tag for of_tag in targets if of_tag.tag in tags_of_task.get(of_tag.task, ())]
    if not targets:
        return []
    matrix_OK = {
        of_tag.tag: category_matrix(theirs.tag(of_tag.tag), ours.tag(of_tag.tag), migration) for of_tag in targets
    }
    rows = np.unique(np.concatenate([of_tag.row_N for of_tag in targets]))
    tasks = [ours.tasks[k] for k in test.task_S[rows]]
    truth = [
        true_tags(task, truth_G, theirs, matrix_OK) for task, truth_G in zip(tasks, test.truth_SG[rows], strict=True)
    ]
    names, embeddings_ND = [task.name for task in tasks], test.embeddings_WD[test.window_S[rows]]
    units = test.units(rows)
    predicted = model.tag(embeddings_ND, names, unit=units)
    _, probabilities = model.tag(embeddings_ND, names, unit=units, return_probabilities=True, given=truth)
    found = []
    for of_tag in targets:
        index = {category: o for o, category in enumerate(theirs.tag(of_tag.tag).categories)}
        places = np.searchsorted(rows, of_tag.row_N)
        own = [predicted[place][of_tag.tag] for place in places]
        chosen_NK = matrix_OK[of_tag.tag][[index[category] for category, _ in own]]
        chosen_N = np.where(chosen_NK.any(1), chosen_NK.argmax(1), NO_CATEGORY)
        found.append(
            TagPredictions(
                method,
                of_tag,
                chosen_N,
                np.array([confidence for _, confidence in own]),
                (chosen_N == of_tag.truth_N).astype(float),
                np.stack([probabilities[place][of_tag.tag] for place in places]) @ matrix_OK[of_tag.tag],
            )
        )
    return found


def true_tags(task: Task, truth_G: np.ndarray, theirs: Taxonomy, matrix_OK: Mapping[str, np.ndarray]) -> dict[str, str]:
    """A sample's true tags in the model's taxonomy ``theirs``; tags and categories that it lacks are left out."""
    found = {}
    for tag, category in zip(task.tags, truth_G, strict=False):
        if category >= 0 and tag.name in matrix_OK:
            own_O = matrix_OK[tag.name][:, category]
            if own_O.any():
                found[tag.name] = theirs.tag(tag.name).categories[own_O.argmax()]
    return found


def predictions_table(predictions: Sequence[TagPredictions], taxonomy: Taxonomy) -> pa.Table:
    """All predictions as rows: method, fold, video_id, kind, start_s, stop_s, task, tag, source, truth, category,
    confidence, right and scores. ``category`` is empty where the method names none."""
    parts = []
    for entry in predictions:
        targets, names = entry.targets, np.array([*taxonomy.tag(entry.targets.tag).categories, ""])
        count = len(targets.row_N)
        parts.append(
            pa.table(
                {
                    "method": [entry.method] * count,
                    "fold": np.full(count, targets.fold),
                    "video_id": targets.video_N,
                    "kind": targets.kind_N,
                    "start_s": targets.start_s_N,
                    "stop_s": targets.stop_s_N,
                    "task": [targets.task] * count,
                    "tag": [targets.tag] * count,
                    "source": targets.source_N,
                    "truth": names[targets.truth_N],
                    "category": names[entry.chosen_N],
                    "confidence": entry.confidence_N.astype(float),
                    "right": entry.right_N,
                    "scores": list(entry.scores_NK.astype(np.float32)),
                }
            )
        )
    return pa.concat_tables(parts)
