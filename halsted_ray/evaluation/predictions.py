"""What a model or a baseline answered on test windows, one tag at a time: all that figures are made of.

Legend: N windows of one tag, K its categories, S samples, G tags of a task at most, D encoder width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from halsted_ray.evaluation.migration import Migration, reading
from halsted_ray.model.halsted import Halsted
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.training.samples import Samples

NO_CATEGORY = -1
"""No category: chance names none."""
MODEL = "halsted"
REFERENCE = "v1"
"""The model that another one is compared with: before a round of self-labelling, say."""


@dataclass(frozen=True)
class TagTargets:
    """The test windows of one fold that have a truth for ``tag``. ``row_N`` points into the samples they came from.

    ``taught_N``: whether the fold's training part has the true category; a category that it lacks (the only videos of
    a procedure are held out) can't be answered rightly, and counts as wrong all the same.
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
    taught_N: np.ndarray


@dataclass(frozen=True)
class TagPredictions:
    """What ``method`` answered where it was ``asked``.

    ``chosen_N``: category of its own run, each tag after its own earlier tags. ``confidence_N``: calibrated
    probability of that. ``right_N``: 1 or 0; for chance the probability to be right. ``scores_NK``: probabilities with
    the true earlier tags given, for what ranks (AUROC, average precision).
    """

    method: str
    asked: TagTargets
    chosen_N: np.ndarray
    confidence_N: np.ndarray
    right_N: np.ndarray
    scores_NK: np.ndarray

    @classmethod
    def of_scores(cls, method: str, asked: TagTargets, scores_NK: np.ndarray) -> TagPredictions:
        """Answers of a method that judges each tag by itself: the most probable category."""
        chosen_N = scores_NK.argmax(1)
        confidence_N = scores_NK[np.arange(len(chosen_N)), chosen_N]
        return cls(method, asked, chosen_N, confidence_N, (chosen_N == asked.truth_N).astype(float), scores_NK)


def tag_targets(
    test: Samples, train: Samples, taxonomy: Taxonomy, fold: int, kind_S: np.ndarray, source_S: np.ndarray
) -> list[TagTargets]:
    """The questions of a fold's test part, one entry a tag that any of its judged samples has."""
    found = []
    video_S = np.array(test.video_ids)[test.video_W][test.window_S]
    start_s_S, stop_s_S = test.start_s_W[test.window_S], test.stop_s_W[test.window_S]
    for k, task in enumerate(taxonomy.tasks):
        for g, tag in enumerate(task.tags):
            rows = np.flatnonzero(test.judged_S & (test.task_S == k) & (test.truth_SG[:, g] >= 0))
            if not len(rows):
                continue
            truth_N = test.truth_SG[rows, g].astype(np.int64)
            taught = np.unique(train.truth_SG[train.task_S == k, g])
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
                    np.isin(truth_N, taught),
                )
            )
    return found


def predict(
    model: Halsted,
    test: Samples,
    asked: Sequence[TagTargets],
    method: str = MODEL,
    taxonomy: Taxonomy | None = None,
    migration: Migration | None = None,
) -> list[TagPredictions]:
    """What ``model`` answers: one greedy run for the answers, one with the truth given for the ranking.

    ``taxonomy``: that of ``test`` and ``asked`` where it is not the model's own; then ``migration`` says how the
    model's categories read in it, and tags that the model does not know are left out.
    """
    ours, theirs = taxonomy or model.taxonomy, model.taxonomy
    tags_of = {task.name: {tag.name: tag for tag in task.tags} for task in theirs.tasks}
    asked = [of_tag for of_tag in asked if of_tag.tag in tags_of.get(of_tag.task, {})]
    if not asked:
        return []
    reading_OK = {of_tag.tag: reading(theirs.tag(of_tag.tag), ours.tag(of_tag.tag), migration) for of_tag in asked}
    rows = np.unique(np.concatenate([of_tag.row_N for of_tag in asked]))
    tasks = [ours.tasks[k] for k in test.task_S[rows]]
    truth = []
    for task, row in zip(tasks, test.truth_SG[rows], strict=True):
        known = [
            (tag.name, reading_OK[tag.name][:, c])
            for tag, c in zip(task.tags, row, strict=False)
            if c >= 0 and tag.name in reading_OK
        ]
        truth.append({tag: theirs.tag(tag).categories[own_O.argmax()] for tag, own_O in known if own_O.any()})
    names, embeddings_ND = [task.name for task in tasks], test.embeddings_WD[test.window_S[rows]]
    said = model.tag(embeddings_ND, names)
    _, forced = model.tag(embeddings_ND, names, return_probabilities=True, given=truth)
    found = []
    for of_tag in asked:
        index = {category: o for o, category in enumerate(theirs.tag(of_tag.tag).categories)}
        places = np.searchsorted(rows, of_tag.row_N)
        own = [said[place][of_tag.tag] for place in places]
        read_NK = reading_OK[of_tag.tag][[index[category] for category, _ in own]]
        chosen_N = np.where(read_NK.any(1), read_NK.argmax(1), NO_CATEGORY)
        found.append(
            TagPredictions(
                method,
                of_tag,
                chosen_N,
                np.array([confidence for _, confidence in own]),
                (chosen_N == of_tag.truth_N).astype(float),
                np.stack([forced[place][of_tag.tag] for place in places]) @ reading_OK[of_tag.tag],
            )
        )
    return found


def predictions_table(answers: Sequence[TagPredictions], taxonomy: Taxonomy) -> pa.Table:
    """All answers as rows: method, fold, video_id, start_s, stop_s, task, tag, source, truth, category, confidence."""
    parts = []
    for entry in answers:
        asked, names = entry.asked, np.array([*taxonomy.tag(entry.asked.tag).categories, ""])
        count = len(asked.row_N)
        parts.append(
            pa.table(
                {
                    "method": [entry.method] * count,
                    "fold": np.full(count, asked.fold),
                    "video_id": asked.video_N,
                    "start_s": asked.start_s_N,
                    "stop_s": asked.stop_s_N,
                    "task": [asked.task] * count,
                    "tag": [asked.tag] * count,
                    "source": asked.source_N,
                    "truth": names[asked.truth_N],
                    "category": names[entry.chosen_N],
                    "confidence": entry.confidence_N.astype(float),
                    "right": entry.right_N,
                    "scores": list(entry.scores_NK.astype(np.float32)),
                }
            )
        )
    return pa.concat_tables(parts)
