"""Predictions become figures: by tag, task, specialty, procedure, source of label and video, with their intervals.

Legend: N windows of one tag, K rows of ``AccuracyCounts``, T tags, V videos.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from halsted_ray.evaluation import metrics
from halsted_ray.evaluation.coverage import coverage
from halsted_ray.evaluation.frame_metrics import average_precision, phase_metrics
from halsted_ray.evaluation.intervals import bootstrap, over_folds, ratio_of_sums
from halsted_ray.evaluation.json_values import Figures, without_nan
from halsted_ray.evaluation.map_accuracy import OVERLAPS
from halsted_ray.evaluation.metrics import Span
from halsted_ray.evaluation.predictions import MODEL, NO_CATEGORY, TagPredictions, of_unit
from halsted_ray.maps.timeline import TOUCHING_S
from halsted_ray.taxonomy import Taxonomy

GROUPS = ("specialty", "procedure", "source", "window")
MISTAKES = 24
"""Mistakes that the figures list, at most."""
EXPLANATION = (
    "The model is asked about every window that has a truth, for the task of that truth; a coarse task is asked of "
    "coarse and of fine windows. The figures of a map against the truth (`halsted report --truth`) differ: a "
    "window for which the workflow asked nothing, or another task, counts as wrong there, and each tag is taken from "
    "one kind of window."
)
CLIP_EXPLANATION = (
    "The model is asked about each annotated clip over its own span, for the task of that clip, as in the paper; a "
    "clip of more than 60 s counts as several. Borders are given, so nothing is said of spans over time."
)


@dataclass(frozen=True)
class AccuracyCounts:
    """Right and all predictions of one method: a row is a video in a fold, by source of label and kind of window."""

    tags: tuple[str, ...]
    fold_K: np.ndarray
    video_K: np.ndarray
    source_K: np.ndarray
    window_K: np.ndarray
    right_KT: np.ndarray
    total_KT: np.ndarray

    @classmethod
    def of(cls, predictions: Sequence[TagPredictions]) -> AccuracyCounts:
        """Counts the predictions of one method."""
        tags = tuple(dict.fromkeys(entry.targets.tag for entry in predictions))
        sums: dict[tuple[int, str, str, str], np.ndarray] = {}
        for entry in predictions:
            targets, t = entry.targets, tags.index(entry.targets.tag)
            for video, source, kind, right in zip(
                targets.video_N, targets.source_N, targets.kind_N, entry.right_N, strict=True
            ):
                key = (targets.fold, str(video), str(source), str(kind))
                row = sums.setdefault(key, np.zeros((2, len(tags))))
                row[:, t] += right, 1
        keys = sorted(sums)
        stacked = np.stack([sums[key] for key in keys]) if keys else np.zeros((0, 2, len(tags)))
        folds, videos, sources, windows = (np.array([key[column] for key in keys]) for column in range(4))
        return cls(tags, folds, videos, sources, windows, stacked[:, 0], stacked[:, 1])

    def by_video(self, tags: Sequence[str], keep_K: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(right, total) [V, T] summed by video over folds, in the order of video ids. ``keep_K``: rows that count."""
        columns = [self.tags.index(tag) for tag in tags if tag in self.tags]
        keep_K = np.ones(len(self.video_K), bool) if keep_K is None else keep_K
        videos, row_K = np.unique(self.video_K[keep_K], return_inverse=True)
        sums = np.zeros((2, len(videos), len(columns)))
        for side, values_KT in enumerate((self.right_KT, self.total_KT)):
            np.add.at(sums[side], row_K, values_KT[keep_K][:, columns])
        return sums[0], sums[1]

    def accuracy(self, tags: Sequence[str], keep_K: np.ndarray | None = None) -> Figures:
        """Exact match, mean over ``tags``: the mean over folds with its intervals, and the bootstrap over videos.

        ``value``, ``folds``, ``normal`` and ``t`` as ``mean_over_folds``; ``over_videos`` with its interval
        ``bootstrap``; numbers of ``videos`` and ``samples``.
        """
        right_VT, total_VT = self.by_video(tags, keep_K)
        keep_K = np.ones(len(self.video_K), bool) if keep_K is None else keep_K
        columns = [self.tags.index(tag) for tag in tags if tag in self.tags]
        folds = []
        for fold in np.unique(self.fold_K):
            rows_K = keep_K & (self.fold_K == fold)
            right_T, total_T = (values_KT[rows_K][:, columns].sum(0) for values_KT in (self.right_KT, self.total_KT))
            folds.append(float(ratio_of_sums(right_T[None], total_T[None])[0]))
        interval = bootstrap(right_VT, total_VT)
        return mean_over_folds(folds) | {
            "bootstrap": [interval.low, interval.high],
            "over_videos": interval.value,
            "videos": int(total_VT.any(1).sum()),
            "samples": int(total_VT.sum()),
        }


def mean_over_folds(folds: Sequence[float]) -> Figures:
    """``value`` (the mean), ``folds``, and the mean's intervals ``normal`` and ``t``, which one fold alone lacks."""
    normal, t = over_folds(folds), over_folds(folds, "t")
    return {"value": normal.value, "folds": list(folds), "normal": [normal.low, normal.high], "t": [t.low, t.high]}


def score_predictions(
    predictions: Sequence[TagPredictions],
    taxonomy: Taxonomy,
    operation_of_video: Mapping[str, Mapping[str, str]],
    method: str = MODEL,
) -> Figures:
    """All figures of both protocols as JSON values (NaN becomes None): those of the map's windows, and under ``clips``
    the same of the annotated clips (the paper's protocol).

    ``operation_of_video``: video_id → specialty and procedure. The figures are those of ``score_unit``; clips have none
    of spans over time. Each tag has ``counts`` and ``errors`` in ``windows``, ``clips`` and ``videos``, in both
    protocols alike (``count_errors``): the windows of one clip are right or wrong together, so the clips and videos say
    how much a figure rests on.
    """
    grid, clips = of_unit(predictions, "grid"), of_unit(predictions, "clips")
    methods = list(dict.fromkeys(entry.method for entry in predictions))
    figures: Figures = without_nan(
        {
            "how": EXPLANATION,
            **score_unit(grid, taxonomy, operation_of_video, method, methods),
            "clips": {
                "how": CLIP_EXPLANATION,
                **score_unit(clips, taxonomy, operation_of_video, method, methods),
            },
        }
    )
    for name in methods:
        of_method = [[entry for entry in unit if entry.method == name] for unit in (grid, clips)]
        errors = count_errors(*of_method)
        for block in (figures, figures["clips"]):
            for tag, entry in block["methods"][name]["tags"].items():
                entry |= errors[tag]
    return figures


def count_errors(grid: Sequence[TagPredictions], clips: Sequence[TagPredictions]) -> dict[str, Figures]:
    """Tag → ``counts`` and ``errors``, each of ``windows``, ``clips`` and ``videos``, of one method.

    A video has an error where any of its windows or clips is wrong. Of chance the errors are those to expect.
    """
    windows_of, clips_of = by_tag(grid), by_tag(clips)
    found: dict[str, Figures] = {}
    for tag in {**windows_of, **clips_of}:
        counts, errors, videos, wrong = {}, {}, set[str](), set[str]()
        for unit, entries in (("windows", windows_of.get(tag, [])), ("clips", clips_of.get(tag, []))):
            counts[unit] = sum(len(entry.right_N) for entry in entries)
            errors[unit] = round(sum(float((1 - entry.right_N).sum()) for entry in entries), 6)
            for entry in entries:
                videos.update(map(str, entry.targets.video_N))
                wrong.update(map(str, entry.targets.video_N[entry.right_N < 1]))
        found[tag] = {"counts": counts | {"videos": len(videos)}, "errors": errors | {"videos": len(wrong)}}
    return found


def score_unit(
    predictions: Sequence[TagPredictions],
    taxonomy: Taxonomy,
    operation_of_video: Mapping[str, Mapping[str, str]],
    method: str,
    methods: Sequence[str],
) -> Figures:
    """The figures of the clips alone, or of the windows alone.

    ``methods``: method → ``tags`` (tag → accuracy with intervals, auroc, calibration_error, …), ``tasks`` (task → mean
    of its tags), ``mean`` (of all tags) and ``false_alarms``. Of ``method`` alone: ``groups`` (``GROUPS`` → name →
    tasks and mean), ``videos`` (video_id → tasks, mean, calibration_error), ``confusion``, ``reliability``,
    ``coverage``, ``mistakes`` (the wrong predictions with the highest confidence). A group's task is the mean over its
    tags that occur in the group. Without predictions a method has no tags, and a mean of NaN.
    """
    by_method: dict[str, list[TagPredictions]] = {name: [] for name in methods}
    for entry in predictions:
        by_method[entry.method].append(entry)
    own = by_method.get(method, [])
    counts = AccuracyCounts.of(own)
    return {
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
        "coverage": {
            tag: coverage(*confidences(entries), np.concatenate([entry.targets.video_N for entry in entries]))
            for tag, entries in by_tag(own).items()
        },
        "reliability": {tag: metrics.reliability(*confidences(entries)) for tag, entries in by_tag(own).items()},
        "calibration_error": calibration(own),
        "mistakes": mistakes(own, taxonomy),
    }


def score_method(predictions: Sequence[TagPredictions], taxonomy: Taxonomy) -> Figures:
    """``tags``, ``tasks``, ``mean`` and ``false_alarms`` of one method (``score_unit``)."""
    counts = AccuracyCounts.of(predictions)
    tags = {
        tag: {"task": entries[0].targets.task, "accuracy": counts.accuracy([tag]), **score_tag(entries, taxonomy)}
        for tag, entries in by_tag(predictions).items()
    }
    for tag in tags.values():
        tag["relative_improvement"] = metrics.relative_improvement(tag["accuracy"]["value"], tag["chance"])
    return {"tags": tags, **score_tasks(counts, taxonomy), "false_alarms": false_alarms(predictions, taxonomy)}


def false_alarms(predictions: Sequence[TagPredictions], taxonomy: Taxonomy) -> Figures:
    """Task → how often it would be asked where the truth is something else.

    ``elsewhere``: windows whose truth rules the task out; ``alarms``: those of them where the method's own answer calls
    for the task, and their ``share``; ``videos``: the number of videos with an alarm.

    Such a window has no truth of the task's own tags (a window of suturing has no action), so no accuracy counts what
    the task would say there; its condition's tag (``Task.when``: the step) tells. Fine windows count where there are
    any. Tasks without a condition, and conditions without a prediction, are left out.
    """
    entries_of, found = by_tag(predictions), {}
    for task in taxonomy.tasks:
        elsewhere, alarms, videos = 0, 0, set[str]()
        for tag, category in task.when:
            wanted = taxonomy.tag(tag).categories.index(category)
            for entry in entries_of.get(tag, []):
                kept_N = entry.targets.kind_N == finest_kind(entry.targets.kind_N)
                is_elsewhere_N = kept_N & (entry.targets.truth_N != wanted)
                is_alarm_N = is_elsewhere_N & (entry.chosen_N == wanted)
                elsewhere, alarms = elsewhere + int(is_elsewhere_N.sum()), alarms + int(is_alarm_N.sum())
                videos.update(map(str, entry.targets.video_N[is_alarm_N]))
        if elsewhere:
            found[task.name] = {
                "elsewhere": elsewhere,
                "alarms": alarms,
                "share": alarms / elsewhere,
                "videos": len(videos),
            }
    return found


def finest_kind(kind_N: np.ndarray) -> str:
    """``fine`` where any of the windows is, else the kind of the first. ``kind_N`` has at least one."""
    return "fine" if (kind_N == "fine").any() else str(kind_N[0])


def score_tasks(counts: AccuracyCounts, taxonomy: Taxonomy, keep_K: np.ndarray | None = None) -> Figures:
    """``tasks``: task → accuracy over its tags that occur; ``mean``: over all tags that occur."""
    tasks = {}
    for task in taxonomy.tasks:
        found = counts.accuracy([tag.name for tag in task.tags], keep_K)
        if found["samples"]:
            tasks[task.name] = found
    return {"tasks": tasks, "mean": counts.accuracy(counts.tags, keep_K)}


def score_group(
    counts: AccuracyCounts,
    taxonomy: Taxonomy,
    group: str,
    operation_of_video: Mapping[str, Mapping[str, str]],
) -> Figures:
    """Name of each member of a group of ``GROUPS`` (each specialty, say) → its tasks and mean."""
    if group in ("source", "window"):
        name_K = counts.source_K if group == "source" else counts.window_K
    else:
        name_K = np.array([operation_of_video.get(str(video), {}).get(group, "") for video in counts.video_K])
    return {str(name): score_tasks(counts, taxonomy, name_K == name) for name in np.unique(name_K) if name}


def score_tag(entries: Sequence[TagPredictions], taxonomy: Taxonomy) -> Figures:
    """Everything of a tag but its accuracy. ``entries``: one per fold.

    What is measured per fold comes with its intervals (``mean_over_folds``). A method that names no category (chance)
    has no figures of spans and phases, and neither have clips, whose borders are given.
    """
    tag = taxonomy.tag(entries[0].targets.tag)
    truth = np.concatenate([entry.targets.truth_N for entry in entries])
    of_folds: dict[str, list[float]] = {
        "auroc": [metrics.auroc_one_vs_rest(entry.scores_NK, entry.targets.truth_N) for entry in entries],
        "average_precision": [mean_ap(entry) for entry in entries],
        "calibration_error": [metrics.calibration_error(entry.confidence_N, entry.right_N) for entry in entries],
    }
    is_timeline = all((entry.targets.kind_N != "clip").all() for entry in entries)
    if is_timeline and all((entry.chosen_N != NO_CATEGORY).all() for entry in entries):
        lanes = [lanes_of(entry) for entry in entries]
        for name, overlap in OVERLAPS.items():
            for pooling, suffix in (("pooled", ""), ("per_video", "_per_video")):
                of_folds[name + suffix] = [
                    metrics.segmental_f1([(lane.predicted, lane.true) for lane in fold], overlap, pooling)
                    for fold in lanes
                ]
        of_folds["edit"] = [
            float(
                np.mean(
                    [
                        metrics.edit_score([span.label for span in lane.predicted], [span.label for span in lane.true])
                        for lane in fold
                    ]
                )
            )
            for fold in lanes
        ]
        phases = [phase_metrics([lane.labels for lane in fold], range(len(tag.categories))) for fold in lanes]
        for name in ("precision", "recall", "jaccard"):
            of_folds[f"{name}_per_video"] = [fold[name] for fold in phases]
    return {
        **{name: mean_over_folds(values) for name, values in of_folds.items()},
        "chance": metrics.uniform_chance(len(tag.categories)),
        "commonest": metrics.majority_share(truth.tolist()),
        "stratified_chance": metrics.stratified_chance(truth.tolist()),
        "categories": len(tag.categories),
        "samples": len(truth),
        "untaught": int(sum((~entry.targets.in_training_N).sum() for entry in entries)),
    }


def mean_ap(entry: TagPredictions) -> float:
    """Mean average precision of the categories that occur. NaN where only one occurs, as for AUROC: with one category
    every ranking is perfect."""
    present = np.unique(entry.targets.truth_N)
    if len(present) < 2:
        return math.nan
    return float(np.mean([average_precision(entry.scores_NK[:, k], entry.targets.truth_N == k) for k in present]))


@dataclass(frozen=True)
class TagLane:
    """One tag of one video in time order: predicted and true spans, and (predicted, true) labels per window."""

    predicted: list[Span]
    true: list[Span]
    labels: tuple[list[int], list[int]]


def lanes_of(entry: TagPredictions) -> list[TagLane]:
    """The lane of each video, over its finest windows.

    Windows that touch and share a label are one span; where no window has a truth, a span ends.
    """
    targets = entry.targets
    finest = finest_kind(targets.kind_N)
    found = []
    for video in np.unique(targets.video_N):
        rows = np.flatnonzero((targets.video_N == video) & (targets.kind_N == finest))
        rows = rows[np.argsort(targets.start_s_N[rows], kind="stable")]
        if len(rows):
            predicted, true = entry.chosen_N[rows].tolist(), targets.truth_N[rows].tolist()
            bounds = list(zip(targets.start_s_N[rows].tolist(), targets.stop_s_N[rows].tolist(), strict=True))
            found.append(
                TagLane(spans_of_windows(predicted, bounds), spans_of_windows(true, bounds), (predicted, true))
            )
    return found


def spans_of_windows(labels: Sequence[int], bounds: Sequence[tuple[float, float]]) -> list[Span]:
    """Maximal spans of one label. ``bounds``: (start_s, stop_s) of each window, in time order."""
    spans: list[Span] = []
    for label, (start_s, stop_s) in zip(labels, bounds, strict=True):
        if spans and spans[-1].label == label and start_s - spans[-1].stop <= TOUCHING_S:
            spans[-1] = Span(label, spans[-1].start, stop_s)
        else:
            spans.append(Span(label, start_s, stop_s))
    return spans


def by_tag(predictions: Sequence[TagPredictions]) -> dict[str, list[TagPredictions]]:
    """Tag → its predictions, one entry per fold."""
    found: dict[str, list[TagPredictions]] = {}
    for entry in predictions:
        found.setdefault(entry.targets.tag, []).append(entry)
    return found


def confidences(entries: Sequence[TagPredictions], video: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(confidence, right) of all predictions of ``entries``; with ``video``, of that video alone."""
    kept = [slice(None) if video is None else entry.targets.video_N == video for entry in entries]
    return (
        np.concatenate([entry.confidence_N[rows] for entry, rows in zip(entries, kept, strict=True)]),
        np.concatenate([entry.right_N[rows] for entry, rows in zip(entries, kept, strict=True)]),
    )


def calibration(predictions: Sequence[TagPredictions], video: str | None = None) -> float:
    """``metrics.calibration_error`` over all tags; with ``video``, of that video alone. NaN without predictions."""
    return metrics.calibration_error(*confidences(predictions, video)) if predictions else math.nan


def confusion(entries: Sequence[TagPredictions], taxonomy: Taxonomy) -> Figures:
    """``counts`` [K, K + 1] of one tag: truth by prediction; the last column, no prediction, is empty here."""
    categories = taxonomy.tag(entries[0].targets.tag).categories
    counts = np.zeros((len(categories), len(categories) + 1), np.int64)
    for entry in entries:
        np.add.at(counts, (entry.targets.truth_N, entry.chosen_N), 1)
    return {"categories": list(categories), "counts": counts.tolist()}


def mistakes(predictions: Sequence[TagPredictions], taxonomy: Taxonomy, most: int = MISTAKES) -> list[Figures]:
    """The wrong predictions with the highest confidence, ``most`` at most; the tags take turns.

    Only categories that the training part has count. Each window comes once per tag.
    """
    of_tags: list[list[Figures]] = []
    for tag, entries in by_tag(predictions).items():
        names = taxonomy.tag(tag).categories
        surest: dict[tuple[str, float], Figures] = {}
        for entry in entries:
            targets = entry.targets
            is_wrong_N = (entry.right_N == 0) & targets.in_training_N & (entry.chosen_N != NO_CATEGORY)
            for n in np.flatnonzero(is_wrong_N):
                mistake = {
                    "video_id": str(targets.video_N[n]),
                    "start_s": float(targets.start_s_N[n]),
                    "stop_s": float(targets.stop_s_N[n]),
                    "fold": targets.fold,
                    "task": targets.task,
                    "tag": tag,
                    "truth": names[targets.truth_N[n]],
                    "said": names[entry.chosen_N[n]],
                    "confidence": float(entry.confidence_N[n]),
                }
                key = str(targets.video_N[n]), float(targets.start_s_N[n])
                if key not in surest or surest[key]["confidence"] < mistake["confidence"]:
                    surest[key] = mistake
        of_tags.append(
            sorted(surest.values(), key=lambda entry: (-entry["confidence"], entry["video_id"], entry["start_s"]))
        )
    turns = [of_tag[k] for k in range(most) for of_tag in of_tags if k < len(of_tag)]
    return turns[:most]
