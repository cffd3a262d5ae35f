"""Answers become figures: per tag, task, specialty, procedure, source of label and video, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from halsted_ray.evaluation import metrics
from halsted_ray.evaluation.frame_metrics import average_precision, phase_metrics
from halsted_ray.evaluation.intervals import bootstrap, over_folds, ratio_of_sums
from halsted_ray.evaluation.map_accuracy import OVERLAPS, TOUCHING_S, without_nan
from halsted_ray.evaluation.metrics import Span
from halsted_ray.evaluation.predictions import MODEL, NO_CATEGORY, TagPredictions
from halsted_ray.taxonomy import Taxonomy

GROUPS = ("specialty", "procedure", "source", "window")
MISTAKES = 24
HOW = (
    "Each window is asked the task that its truth answers; a coarse task is asked of coarse and of fine windows. A map "
    "that is held against the truth (`halsted report --truth`) differs where the workflow asked a window nothing or "
    "another task, which counts as wrong there, and takes each tag from one kind of window."
)


@dataclass(frozen=True)
class Counts:
    """Right and asked of one method: K rows (a video in a fold, by source of label and kind of window) × T tags."""

    tags: tuple[str, ...]
    fold_K: np.ndarray
    video_K: np.ndarray
    source_K: np.ndarray
    window_K: np.ndarray
    right_KT: np.ndarray
    asked_KT: np.ndarray

    @classmethod
    def of(cls, answers: Sequence[TagPredictions]) -> Counts:
        tags = tuple(dict.fromkeys(entry.asked.tag for entry in answers))
        sums: dict[tuple, np.ndarray] = {}
        for entry in answers:
            asked, t = entry.asked, tags.index(entry.asked.tag)
            for *names, right in zip(asked.video_N, asked.source_N, asked.kind_N, entry.right_N, strict=True):
                row = sums.setdefault((asked.fold, *map(str, names)), np.zeros((2, len(tags))))
                row[:, t] += right, 1
        keys = sorted(sums)
        stacked = np.stack([sums[key] for key in keys]) if keys else np.zeros((0, 2, len(tags)))
        rows = (np.array([key[k] for key in keys]) for k in range(4))
        return cls(tags, *rows, stacked[:, 0], stacked[:, 1])

    def of_videos(self, tags: Sequence[str], keep_K: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(right, asked) [V, T] summed by video over folds, in the order of video ids."""
        columns = [self.tags.index(tag) for tag in tags if tag in self.tags]
        keep_K = np.ones(len(self.video_K), bool) if keep_K is None else keep_K
        videos, row_K = np.unique(self.video_K[keep_K], return_inverse=True)
        sums = np.zeros((2, len(videos), len(columns)))
        for side, values_KT in enumerate((self.right_KT, self.asked_KT)):
            np.add.at(sums[side], row_K, values_KT[keep_K][:, columns])
        return sums[0], sums[1]

    def accuracy(self, tags: Sequence[str], keep_K: np.ndarray | None = None) -> dict:
        """Mean over ``tags`` of exact match: mean over folds with its intervals, and the bootstrap over videos."""
        right_VT, asked_VT = self.of_videos(tags, keep_K)
        keep_K = np.ones(len(self.video_K), bool) if keep_K is None else keep_K
        columns = [self.tags.index(tag) for tag in tags if tag in self.tags]
        folds = [
            float(
                ratio_of_sums(
                    *(
                        values[keep_K & (self.fold_K == fold)][:, columns].sum(0)[None]
                        for values in (self.right_KT, self.asked_KT)
                    )
                )[0]
            )
            for fold in np.unique(self.fold_K)
        ]
        drawn = bootstrap(right_VT, asked_VT)
        return spread(folds) | {
            "bootstrap": [drawn.low, drawn.high],
            "over_videos": drawn.value,
            "videos": int(asked_VT.any(1).sum()),
            "samples": int(asked_VT.sum()),
        }


def spread(folds: Sequence[float]) -> dict:
    """Mean over folds with both intervals; one fold has a value and no interval."""
    normal, t = over_folds(folds), over_folds(folds, "t")
    return {"value": normal.value, "folds": list(folds), "normal": [normal.low, normal.high], "t": [t.low, t.high]}


def score_predictions(
    answers: Sequence[TagPredictions],
    taxonomy: Taxonomy,
    operation_of_video: Mapping[str, Mapping[str, str]],
    method: str = MODEL,
) -> dict:
    """All figures as JSON values (NaN becomes None). ``operation_of_video``: video_id → specialty and procedure.

    ``methods``: method → ``tags`` (tag → accuracy with intervals, auroc, calibration_error, …), ``tasks`` (task → mean
    of its tags) and ``mean`` (of all tags). ``how``: in words. Of ``method`` alone: ``groups`` (``GROUPS`` → name →
    tasks and mean), ``videos`` (video_id → tasks, mean, calibration_error), ``confusion``, ``reliability``,
    ``mistakes`` (the surest wrong answers). The task of a group is the mean of those of its tags that occur there.
    """
    by_method: dict[str, list[TagPredictions]] = {}
    for entry in answers:
        by_method.setdefault(entry.method, []).append(entry)
    own = by_method.get(method, [])
    counts = Counts.of(own)
    found = {
        "how": HOW,
        "methods": {name: score_method(entries, taxonomy) for name, entries in by_method.items()},
        "groups": {group: score_group(counts, taxonomy, group, operation_of_video) for group in GROUPS},
        "videos": {
            str(video): {
                **score_tasks(counts, taxonomy, counts.video_K == video),
                **operation_of_video.get(str(video), {}),
                "calibration_error": calibration(own, str(video)),
            }
            for video in np.unique(counts.video_K)
        },
        "confusion": {tag: confusion(entries, taxonomy) for tag, entries in by_tag(own).items()},
        "reliability": {
            tag: metrics.reliability(
                *(np.concatenate([getattr(entry, name) for entry in entries]) for name in ("confidence_N", "right_N"))
            )
            for tag, entries in by_tag(own).items()
        },
        "calibration_error": calibration(own),
        "mistakes": mistakes(own, taxonomy),
    }
    return without_nan(found)


def score_method(answers: Sequence[TagPredictions], taxonomy: Taxonomy) -> dict:
    counts = Counts.of(answers)
    tags = {
        tag: {"task": entries[0].asked.task, "accuracy": counts.accuracy([tag]), **score_tag(entries, taxonomy)}
        for tag, entries in by_tag(answers).items()
    }
    for tag in tags.values():
        tag["relative_improvement"] = metrics.relative_improvement(tag["accuracy"]["value"], tag["chance"])
    return {"tags": tags, **score_tasks(counts, taxonomy)}


def score_tasks(counts: Counts, taxonomy: Taxonomy, keep_K: np.ndarray | None = None) -> dict:
    """``tasks``: task → accuracy over its tags that occur; ``mean``: over all tags that occur."""
    tasks = {}
    for task in taxonomy.tasks:
        found = counts.accuracy([tag.name for tag in task.tags], keep_K)
        if found["samples"]:
            tasks[task.name] = found
    return {"tasks": tasks, "mean": counts.accuracy(counts.tags, keep_K)}


def score_group(counts: Counts, taxonomy: Taxonomy, group: str, operation_of_video: Mapping) -> dict:
    if group in ("source", "window"):
        name_K = counts.source_K if group == "source" else counts.window_K
    else:
        name_K = np.array([operation_of_video.get(str(video), {}).get(group, "") for video in counts.video_K])
    return {str(name): score_tasks(counts, taxonomy, name_K == name) for name in np.unique(name_K) if name}


def score_tag(entries: Sequence[TagPredictions], taxonomy: Taxonomy) -> dict:
    """Everything but the accuracy, a value a fold with its intervals; for chance no spans and no curve."""
    tag = taxonomy.tag(entries[0].asked.tag)
    truth = np.concatenate([entry.asked.truth_N for entry in entries])
    each = {
        "auroc": [metrics.auroc_one_vs_rest(entry.scores_NK, entry.asked.truth_N) for entry in entries],
        "average_precision": [mean_ap(entry) for entry in entries],
        "calibration_error": [metrics.calibration_error(entry.confidence_N, entry.right_N) for entry in entries],
    }
    if all((entry.chosen_N != NO_CATEGORY).all() for entry in entries):
        lanes = [lanes_of(entry) for entry in entries]
        for name, overlap in OVERLAPS.items():
            for pooling, suffix in (("pooled", ""), ("per_video", "_per_video")):
                pairs = [[(predicted, true) for predicted, true, _ in fold] for fold in lanes]
                each[name + suffix] = [metrics.segmental_f1(fold, overlap, pooling) for fold in pairs]
        each["edit"] = [
            float(np.mean([metrics.edit_score([s.label for s in p], [s.label for s in t]) for p, t, _ in fold]))
            for fold in lanes
        ]
        phases = [phase_metrics([labels for _, _, labels in fold], range(len(tag.categories))) for fold in lanes]
        for name in ("precision", "recall", "jaccard"):
            each[f"{name}_per_video"] = [fold[name] for fold in phases]
    return {
        **{name: spread(values) for name, values in each.items()},
        "chance": metrics.uniform_chance(len(tag.categories)),
        "commonest": metrics.majority_share(truth.tolist()),
        "stratified_chance": metrics.stratified_chance(truth.tolist()),
        "categories": len(tag.categories),
        "samples": len(truth),
        "untaught": int(sum((~entry.asked.taught_N).sum() for entry in entries)),
    }


def mean_ap(entry: TagPredictions) -> float:
    """Mean over the categories that occur; NaN for one alone, as AUROC: whatever is said, it is all of the truth."""
    present = np.unique(entry.asked.truth_N)
    if len(present) < 2:
        return math.nan
    return float(np.mean([average_precision(entry.scores_NK[:, k], entry.asked.truth_N == k) for k in present]))


def lanes_of(entry: TagPredictions) -> list[tuple[list[Span], list[Span], tuple]]:
    """Per video (predicted spans, true spans, (predicted, true) labels) over its finest windows, in time order.

    Windows that touch and share a label are one span; where no window has a truth, a span ends.
    """
    asked = entry.asked
    finest = "fine" if (asked.kind_N == "fine").any() else asked.kind_N[0]
    found = []
    for video in np.unique(asked.video_N):
        rows = np.flatnonzero((asked.video_N == video) & (asked.kind_N == finest))
        rows = rows[np.argsort(asked.start_s_N[rows], kind="stable")]
        if len(rows):
            sides = entry.chosen_N[rows].tolist(), asked.truth_N[rows].tolist()
            bounds = list(zip(asked.start_s_N[rows].tolist(), asked.stop_s_N[rows].tolist(), strict=True))
            found.append((*(runs(side, bounds) for side in sides), sides))
    return found


def runs(labels: Sequence[int], bounds: Sequence[tuple[float, float]]) -> list[Span]:
    spans: list[Span] = []
    for label, (start_s, stop_s) in zip(labels, bounds, strict=True):
        if spans and spans[-1].label == label and start_s - spans[-1].stop <= TOUCHING_S:
            spans[-1] = Span(label, spans[-1].start, stop_s)
        else:
            spans.append(Span(label, start_s, stop_s))
    return spans


def by_tag(answers: Sequence[TagPredictions]) -> dict[str, list[TagPredictions]]:
    found: dict[str, list[TagPredictions]] = {}
    for entry in answers:
        found.setdefault(entry.asked.tag, []).append(entry)
    return found


def calibration(answers: Sequence[TagPredictions], video: str | None = None) -> float:
    """Expected calibration error over all tags; of one video where one is named."""
    sides = [[], []]
    for entry in answers:
        own = slice(None) if video is None else entry.asked.video_N == video
        for side, values in zip(sides, (entry.confidence_N, entry.right_N), strict=True):
            side.append(values[own])
    return metrics.calibration_error(*(np.concatenate(side) for side in sides)) if answers else math.nan


def confusion(entries: Sequence[TagPredictions], taxonomy: Taxonomy) -> dict:
    """``counts`` [K, K + 1]: truth by answer; the last column, no answer, is empty here."""
    categories = taxonomy.tag(entries[0].asked.tag).categories
    counts = np.zeros((len(categories), len(categories) + 1), np.int64)
    for entry in entries:
        np.add.at(counts, (entry.asked.truth_N, entry.chosen_N), 1)
    return {"categories": list(categories), "counts": counts.tolist()}


def mistakes(answers: Sequence[TagPredictions], taxonomy: Taxonomy, most: int = MISTAKES) -> list[dict]:
    """The surest wrong answers about categories that were taught, the tags taking turns; each span and tag once."""
    lines: list[list[dict]] = []
    for tag, entries in by_tag(answers).items():
        names, worst = taxonomy.tag(tag).categories, {}
        for entry in entries:
            asked = entry.asked
            for n in np.flatnonzero((entry.right_N == 0) & asked.taught_N & (entry.chosen_N != NO_CATEGORY)):
                found = {
                    "video_id": str(asked.video_N[n]),
                    "start_s": float(asked.start_s_N[n]),
                    "stop_s": float(asked.stop_s_N[n]),
                    "fold": asked.fold,
                    "task": asked.task,
                    "tag": tag,
                    "truth": names[asked.truth_N[n]],
                    "said": names[entry.chosen_N[n]],
                    "confidence": float(entry.confidence_N[n]),
                }
                key = found["video_id"], found["start_s"]
                if key not in worst or worst[key]["confidence"] < found["confidence"]:
                    worst[key] = found
        lines.append(sorted(worst.values(), key=lambda one: (-one["confidence"], one["video_id"], one["start_s"])))
    turns = [line[k] for k in range(most) for line in lines if k < len(line)]
    return turns[:most]
