"""What a model or a baseline answered on test windows, one tag at a time: all that figures are made of.

Legend: N windows of one tag, K its categories, S samples, G tags of a task at most, D encoder width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from halsted_ray.model.halsted import Halsted
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.training.samples import Samples

NONE = -1
"""No category: chance names none."""
MODEL = "halsted"


@dataclass(frozen=True)
class Asked:
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
class Answers:
    """What ``method`` answered where it was ``asked``.

    ``chosen_N``: category of its own run, each tag after its own earlier tags. ``confidence_N``: calibrated
    probability of that. ``right_N``: 1 or 0; for chance the probability to be right. ``scores_NK``: probabilities with
    the true earlier tags given, for what ranks (AUROC, average precision).
    """

    method: str
    asked: Asked
    chosen_N: np.ndarray
    confidence_N: np.ndarray
    right_N: np.ndarray
    scores_NK: np.ndarray

    @classmethod
    def of_scores(cls, method: str, asked: Asked, scores_NK: np.ndarray) -> Answers:
        """Answers of a method that judges each tag by itself: the most probable category."""
        chosen_N = scores_NK.argmax(1)
        confidence_N = scores_NK[np.arange(len(chosen_N)), chosen_N]
        return cls(method, asked, chosen_N, confidence_N, (chosen_N == asked.truth_N).astype(float), scores_NK)


def asked_of(
    test: Samples, train: Samples, taxonomy: Taxonomy, fold: int, kind_S: np.ndarray, source_S: np.ndarray
) -> list[Asked]:
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
            found.append(Asked(
                fold, task.name, tag.name, rows, video_S[rows], kind_S[rows], start_s_S[rows], stop_s_S[rows],
                source_S[rows], truth_N, np.isin(truth_N, taught),
            ))
    return found


def answers_of_model(model: Halsted, test: Samples, asked: Sequence[Asked], method: str = MODEL) -> list[Answers]:
    """What ``model`` answers: one greedy run for the answers, one with the truth given for the ranking."""
    taxonomy = model.taxonomy
    tasks = [taxonomy.tasks[k].name for k in test.task_S]
    truth = [
        {tag.name: tag.categories[c] for tag, c in zip(taxonomy.tasks[k].tags, row, strict=False) if c >= 0}
        for k, row in zip(test.task_S, test.truth_SG, strict=True)
    ]
    embeddings_ND = test.embeddings_WD[test.window_S]
    said = model.tag(embeddings_ND, tasks)
    _, forced = model.tag(embeddings_ND, tasks, return_probabilities=True, given=truth)
    found = []
    for of_tag in asked:
        index = {category: k for k, category in enumerate(taxonomy.tag(of_tag.tag).categories)}
        own = [said[row][of_tag.tag] for row in of_tag.row_N]
        chosen_N = np.array([index[category] for category, _ in own])
        found.append(Answers(
            method, of_tag, chosen_N, np.array([confidence for _, confidence in own]),
            (chosen_N == of_tag.truth_N).astype(float), np.stack([forced[row][of_tag.tag] for row in of_tag.row_N]),
        ))
    return found


def table(answers: Sequence[Answers], taxonomy: Taxonomy) -> pa.Table:
    """All answers as rows: method, fold, video_id, start_s, stop_s, task, tag, source, truth, category, confidence."""
    parts = []
    for entry in answers:
        asked, names = entry.asked, np.array([*taxonomy.tag(entry.asked.tag).categories, ""])
        count = len(asked.row_N)
        parts.append(pa.table({
            "method": [entry.method] * count, "fold": np.full(count, asked.fold), "video_id": asked.video_N,
            "start_s": asked.start_s_N, "stop_s": asked.stop_s_N, "task": [asked.task] * count,
            "tag": [asked.tag] * count, "source": asked.source_N, "truth": names[asked.truth_N],
            "category": names[entry.chosen_N], "confidence": entry.confidence_N.astype(float),
            "right": entry.right_N, "scores": list(entry.scores_NK.astype(np.float32)),
        }))
    return pa.concat_tables(parts)
