"""What a model would add to an atlas: its own predictions for the videos of an archive, as far as it is trusted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from halsted_ray.atlas import Atlas
from halsted_ray.atlas.contents import drawn_videos
from halsted_ray.compute.progress import QUIET, RunObserver
from halsted_ray.errors import UsageError
from halsted_ray.evaluation.json_values import Figures
from halsted_ray.mapping.pipeline import Summary, map_archive
from halsted_ray.mapping.workflow import needed_tasks
from halsted_ray.maps.reading import read_segments, read_videos
from halsted_ray.maps.status import VideoStatus
from halsted_ray.maps.unknown import unknown_seconds
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Clip, Video
from halsted_ray.selflabel.merge import Label, TimeSpan, cut_overlaps, merge, subtract_spans
from halsted_ray.selflabel.thresholds import (
    CERTAINTY,
    PredictedTags,
    Threshold,
    Thresholds,
    is_trusted,
    thresholds_of_tags,
)
from halsted_ray.selflabel.validation import WINDOWS, accuracy_of_tasks, average, predict_validation, task_applies
from halsted_ray.storage.locations import absolute_location
from halsted_ray.taxonomy import Task, Taxonomy
from halsted_ray.video.presence import union

GATE = 0.80
"""Paper, Methods: a model labels nothing unless its average accuracy over all tasks is at least this."""
PRECISION = 0.9
"""The paper chooses thresholds on validation and names no target; here nine labels of ten are right."""


@dataclass(frozen=True)
class LabellingRules:
    """What a model must show on the validation videos before its predictions become labels. Raises UsageError.

    ``precision``: share of a category's labels that are right, with 90% certainty; it decides the thresholds.
    ``gate``: average accuracy over all tasks below which the model labels nothing. ``task``: what is labelled.
    """

    precision: float = PRECISION
    gate: float = GATE
    task: str = "micro"

    def __post_init__(self) -> None:
        if not 0 < self.precision < 1:
            raise UsageError(f"precision {self.precision:g}; expected more than 0, less than 1")
        if not 0 <= self.gate <= 1:
            raise UsageError(f"gate {self.gate:g}; expected 0 to 1")


@dataclass(frozen=True)
class VideoLabels:
    """The labels of one video.

    ``clips``: ready for the atlas. By category of the task's first tag: ``predicted`` windows, those ``kept`` as
    labels, and ``labels``, how many labels they became. ``kept_by_tag``: tag → kept windows that have a trusted
    category of it. ``not_asked``: windows to which, by the model's own predictions, the task does not apply.
    """

    clips: list[Clip]
    predicted: Counter[str]
    kept: Counter[str]
    labels: Counter[str]
    kept_by_tag: Counter[str]
    not_asked: int
    labelled_s: float


@dataclass(frozen=True)
class LabellingResult:
    """``report``: JSON values (``gate``, ``validation``, and the values of ``report_of``). ``clips``: the labels, with
    source ``ai``; ``videos``: the videos of the archive that could be mapped whole. ``thresholds``: by which the
    labels were kept, empty where the model did not pass the gate. ``head``: the atlas whose clips were left alone."""

    report: Figures
    clips: list[Clip]
    videos: list[Video]
    thresholds: Thresholds
    head: Atlas


def label_archive(
    model: str,
    source: Atlas,
    head: Atlas,
    archive: str,
    out: str,
    *,
    rules: LabellingRules,
    embeddings: str,
    encoder: str | None = None,
    observer: RunObserver = QUIET,
) -> LabellingResult:
    """Applies gate and thresholds on the validation videos of ``source``, then maps 1-s windows of ``archive`` to
    ``<out>/map`` and takes labels from there. Nothing is added to any atlas.

    The validation and test videos of ``head`` are left alone, and the videos in which a person labelled the task.
    ``encoder``: where the model's encoder lies, if not where the model says.
    """
    labeller, taxonomy = Halsted.load(model), source.load_taxonomy()
    task, encoder = taxonomy.task(rules.task), encoder or labeller.config.encoder_ref
    labeller.check_encoder(encoder_identity(encoder))  # before its vectors are stored under the model's encoder
    accuracy_of_task, by_unit = accuracy_of_tasks(labeller, source, encoder, embeddings)
    mean = average(accuracy_of_task)
    report: Figures = {
        "atlas": {"release": source.name, "version": source.version},
        "model": {"version": labeller.config.version, "digest": labeller.digest},
        "gate": {
            "least": rules.gate,
            "mean": mean,
            "tasks": accuracy_of_task,
            "units": by_unit,
            "passed": mean >= rules.gate,
        },
    }
    if not report["gate"]["passed"]:
        return LabellingResult(report, [], [], {}, head)

    validation = predict_validation(labeller, source, task, encoder, embeddings)
    tags = [tag.name for tag in task.tags]
    thresholds = thresholds_of_tags(validation.predicted_N, validation.truth_N, tags, rules.precision)
    report["validation"] = {
        "videos": validation.videos,
        "windows": len(validation.predicted_N),
        "others": validation.off_task,
        "elsewhere": validation.not_asked,
        "precision": rules.precision,
        "certainty": CERTAINTY,
    }
    if not any(math.isfinite(threshold.min_confidence) for threshold in thresholds[tags[0]].values()):
        return LabellingResult(report | report_of(thresholds, [], None, task), [], [], thresholds, head)

    maps = f"{absolute_location(out)}/map"
    summary = map_archive(
        archive,
        maps,
        model,
        [needed.name for needed in needed_tasks(taxonomy, [task])],
        encoder=encoder,
        embeddings=embeddings,
        windows=WINDOWS,
        without=videos_to_leave(head, task.name),
        observer=observer,
    )
    manual_spans = spans_of_persons(head)
    unknown_s = unknown_seconds(maps)
    found = [
        labels_of(video_id, predictions_of(maps, video_id, summary.recipe), task, taxonomy, thresholds, manual_spans)
        for video_id in (video["video_id"] for video in summary.videos if not is_all_unknown(video, unknown_s))
    ]
    report["unknown_s"] = sum(unknown_s.values())
    report |= report_of(thresholds, found, summary, task)
    report["atlas"]["labelled"] = head.version
    clips = [clip for of_video in found for clip in of_video.clips]
    return LabellingResult(report, clips, mapped_videos(maps), thresholds, head)


def videos_to_leave(head: Atlas, task: str) -> set[str]:
    """Videos that judge models, now or perhaps in the next release, videos in which a person labelled ``task``, and
    drawn videos."""
    by_hand = {clip.video_id for clip in head.clips if clip.source == "manual"}
    return (
        {video_id for video_id, part in head.split.items() if part != "train"}
        | {clip.video_id for clip in head.clips if clip.source == "manual" and clip.task == task}
        | {video_id for video_id in by_hand if video_id not in head.split}
        | drawn_videos(head.clips)
    )


def labels_of(
    video_id: str,
    predicted: Mapping[TimeSpan, PredictedTags],
    task: Task,
    taxonomy: Taxonomy,
    thresholds: Thresholds,
    manual_spans: Mapping[tuple[str, str], Sequence[TimeSpan]],
) -> VideoLabels:
    """The labels that the predictions for one video's windows become.

    They give clips of ``task``, and of the tasks that decide whether it applies (paper, Table 2: every micro-activity
    is a dissection, so its clip is a sample of the macro task too). ``manual_spans``: see ``spans_of_persons``; a
    clip keeps clear of what a person labelled of its task.
    """
    first_tag = task.tags[0].name
    applies = task_applies(predicted.values(), task, taxonomy)
    asked = [window for window, is_asked in zip(predicted.items(), applies, strict=True) if is_asked]
    labels = [
        Label(
            start_s,
            stop_s,
            {tag.name: tags[tag.name][0] for tag in task.tags if is_trusted(tags, tag.name, thresholds)},
            tags[first_tag][1],
        )
        for (start_s, stop_s), tags in asked
        if thresholds and is_trusted(tags, first_tag, thresholds)
    ]
    parts = cut_overlaps(merge(labels, first_tag), labels, first_tag)
    parts_of_task: dict[str, list[tuple[Label, Mapping[str, str]]]] = {task.name: [(part, part.tags) for part in parts]}
    implied: dict[str, dict[str, str]] = {}
    for name, category in task.when:
        implied.setdefault(taxonomy.task_of_tag(name).name, {})[name] = category
    for implied_task, tags_there in implied.items():
        parts_of_task[implied_task] = [(part, tags_there) for part in parts]
    clips = [
        Clip(video_id, part.start_s, part.stop_s, name, dict(tags), source="ai", confidence=part.confidence)
        for name, of_task in parts_of_task.items()
        for label, tags in of_task
        for part in subtract_spans(label, manual_spans.get((video_id, name), ()))
    ]
    return VideoLabels(
        clips=clips,
        predicted=Counter(tags[first_tag][0] for _, tags in asked if first_tag in tags),
        kept=Counter(label.tags[first_tag] for label in labels),
        labels=Counter(part.tags[first_tag] for part in parts),
        kept_by_tag=Counter(name for label in labels for name in label.tags),
        not_asked=len(predicted) - len(asked),
        labelled_s=sum(part.stop_s - part.start_s for part in parts),
    )


def labelled_tasks(taxonomy: Taxonomy, task: str) -> list[str]:
    """The names of the tasks of which labels of ``task`` are samples: its own, and those that decide whether it
    applies."""
    return [task, *dict.fromkeys(taxonomy.task_of_tag(tag).name for tag, _ in taxonomy.task(task).when)]


def is_all_unknown(video: VideoStatus, unknown_s: Mapping[str, float]) -> bool:
    """Whether a whole video is unknown to the model. The windows of it that look familiar teach nothing then."""
    return bool(video["duration_s"]) and unknown_s.get(video["video_id"], 0.0) >= video["duration_s"] - 1e-3


def predictions_of(maps: str, video_id: str, recipe: str) -> dict[TimeSpan, PredictedTags]:
    """(start_s, stop_s) of each window → the model's predictions in the map at ``maps``, in time order. Windows that
    are unknown to the model have none."""
    filters = [("video_id", "=", video_id), ("recipe", "=", recipe)]
    table = read_segments(maps, ["tags"], filters)
    found: dict[TimeSpan, dict[str, tuple[str, float]]] = {}
    for segment in table.to_pylist() if table is not None else ():
        for row in segment["tags"]:
            of_window = found.setdefault((row["start_s"], row["stop_s"]), {})
            of_window[row["tag"]] = row["category"], row["confidence"]
    return dict(sorted(found.items()))


def spans_of_persons(head: Atlas) -> dict[tuple[str, str], list[TimeSpan]]:
    """(video_id, task) → the time that persons labelled, in order and without overlap."""
    spans: dict[tuple[str, str], list[TimeSpan]] = {}
    for clip in head.clips:
        if clip.source == "manual":
            spans.setdefault((clip.video_id, clip.task), []).append((clip.start_s, clip.stop_s))
    return {key: union(own) for key, own in spans.items()}


def mapped_videos(maps: str) -> list[Video]:
    """The videos that are mapped whole."""
    return [entry.video for entry in read_videos(maps).values() if entry.is_mapped]


def report_of(thresholds: Thresholds, found: Sequence[VideoLabels], summary: Summary | None, task: Task) -> Figures:
    """What became of the predictions, as JSON values.

    ``actions``: category of the first tag → its ``threshold`` (None: no confidence is enough), what the threshold does
    on ``validation`` windows, and of the archive's windows those ``said``, ``kept``, ``dropped``, and the ``clips``
    made of them. ``others``: each other tag's one ``threshold``, and how many of the kept windows have the tag.
    ``elsewhere``: windows to which, by the model's own predictions, the task does not apply. ``videos``: state →
    number. ``labelled_s``: seconds of video that got a label. ``confidence``: mean of the clips. ``added``: task →
    samples.
    """
    predicted, kept, labels, kept_by_tag = (
        sum((getattr(of_video, name) for of_video in found), Counter[str]())
        for name in ("predicted", "kept", "labels", "kept_by_tag")
    )
    of_actions, unseen = thresholds[task.tags[0].name], Threshold(math.inf, 0, 0, 0)
    actions = {}
    for name in sorted({*of_actions, *predicted}, key=lambda name: (-predicted[name], name)):
        threshold = of_actions.get(name, unseen)
        actions[name] = {
            "threshold": none_if_infinite(threshold.min_confidence),
            "precision": threshold.precision if threshold.kept else None,
            "validation": {"said": threshold.predicted, "kept": threshold.kept, "right": threshold.right},
            "said": predicted[name],
            "kept": kept[name],
            "dropped": predicted[name] - kept[name],
            "clips": labels[name],
        }
    others = {}
    for tag in task.tags[1:]:
        shared = next((threshold.min_confidence for threshold in thresholds[tag.name].values()), math.inf)
        others[tag.name] = {"threshold": none_if_infinite(shared), "kept": kept_by_tag[tag.name]}
    clips = [clip for of_video in found for clip in of_video.clips]
    return {
        "actions": actions,
        "others": others,
        "videos": dict(Counter(video["status"] for video in summary.videos)) if summary else {},
        "elsewhere": sum(of_video.not_asked for of_video in found),
        "labelled_s": sum(of_video.labelled_s for of_video in found),
        "confidence": fmean(clip.confidence for clip in clips) if clips else None,
        "added": dict(Counter(clip.task for clip in clips)),
    }


def none_if_infinite(confidence: float) -> float | None:
    """JSON has no infinity: None takes its place, and says that no confidence is enough."""
    return confidence if math.isfinite(confidence) else None
