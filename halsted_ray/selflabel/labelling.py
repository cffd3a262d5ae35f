"""What a model would add to an atlas: its own answers about an archive, as far as they can be trusted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from halsted_ray.atlas import Atlas
from halsted_ray.mapping.pipeline import Summary, map_archive
from halsted_ray.mapping.progress import QUIET, RunObserver
from halsted_ray.mapping.workflow import needed_tasks
from halsted_ray.maps.reading import read_segments, read_videos
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Clip, Video
from halsted_ray.selflabel.merge import Label, TimeSpan, apart, merge, union, without
from halsted_ray.selflabel.thresholds import CERTAINTY, Threshold, is_trusted, thresholds_of_tags
from halsted_ray.selflabel.validation import WINDOWS, Said, accuracy_of_tasks, average, predict_validation, task_applies
from halsted_ray.storage.locations import absolute_location
from halsted_ray.taxonomy import Task, Taxonomy

Trusted = Mapping[str, Mapping[str, Threshold]]
"""Tag → category → from which confidence on (``thresholds_of_tags``)."""


@dataclass(frozen=True)
class VideoLabels:
    """The labels of one video: clips ready for the atlas, per action the windows said, kept, and clips made, per tag
    the kept windows that have it, and how many windows lie ``elsewhere``: the model's own answers don't call for the
    task there."""

    clips: list[Clip]
    said: Counter
    kept: Counter
    made: Counter
    tags: Counter
    elsewhere: int
    label_s: float


@dataclass(frozen=True)
class LabellingResult:
    """``report``: JSON values (``gate``, ``validation``, and see ``report_of``). ``clips``: the labels, source ``ai``;
    ``videos``: of the archive, those that could be mapped whole. ``head``: the atlas whose videos and persons' clips
    were left alone."""

    report: dict
    clips: list[Clip]
    videos: list[Video]
    trusted: Trusted
    head: Atlas


def label_archive(
    model: str,
    source: Atlas,
    head: Atlas,
    archive: str,
    out: str,
    *,
    precision: float,
    gate: float,
    task: str,
    embeddings: str,
    encoder: str | None = None,
    observer: RunObserver = QUIET,
) -> LabellingResult:
    """Gate and thresholds on the validation videos of ``source``, then a map of 1-s windows of ``archive`` in
    ``<out>/map``, and its labels. Nothing is added to any atlas.

    Validation and test videos of ``head`` are left alone, and those in which a person labelled ``task``.
    """
    labeller, taxonomy = Halsted.load(model), source.load_taxonomy()
    asked, encoder = taxonomy.task(task), encoder or labeller.config.encoder_ref
    labeller.check_encoder(Encoder.load(encoder))  # before its vectors are stored under the model's encoder
    tasks = accuracy_of_tasks(labeller, source, encoder, embeddings)
    report = {
        "atlas": {"release": source.name, "version": source.version},
        "model": {"version": labeller.config.version, "digest": labeller.digest},
        "gate": {"least": gate, "mean": average(tasks), "tasks": tasks, "passed": average(tasks) >= gate},
    }
    if not report["gate"]["passed"]:
        return LabellingResult(report, [], [], {}, head)
    judged = predict_validation(labeller, source, asked, encoder, embeddings)
    tag = asked.tags[0].name
    trusted = thresholds_of_tags(judged.said_N, judged.truth_N, [tag.name for tag in asked.tags], precision)
    report["validation"] = {
        "videos": judged.videos,
        "windows": len(judged.said_N),
        "others": judged.others,
        "elsewhere": judged.elsewhere,
        "precision": precision,
        "certainty": CERTAINTY,
    }
    if not any(math.isfinite(threshold.least) for threshold in trusted[tag].values()):
        return LabellingResult(report | report_of(trusted, [], None, asked), [], [], trusted, head)

    place = f"{absolute_location(out)}/map"
    tasks = [needed.name for needed in needed_tasks(taxonomy, [asked])]
    summary = map_archive(
        archive,
        place,
        model,
        tasks,
        encoder=encoder,
        embeddings=embeddings,
        windows=WINDOWS,
        without=not_to_label(head, asked.name),
        observer=observer,
    )
    persons = spans_of_persons(head)
    found = [
        labels_of(video_id, windows_at(place, video_id, summary.recipe), asked, taxonomy, trusted, persons)
        for video_id in (video["video_id"] for video in summary.videos)
    ]
    report |= report_of(trusted, found, summary, asked)
    report["atlas"]["labelled"] = head.version
    return LabellingResult(
        report, [clip for labelled in found for clip in labelled.clips], videos_at(place), trusted, head
    )


def not_to_label(head: Atlas, task: str) -> set[str]:
    """Videos that judge models, now or perhaps in the next release, and those in which a person labelled ``task``."""
    by_hand = {clip.video_id for clip in head.clips if clip.source == "manual"}
    return (
        {video_id for video_id, part in head.split.items() if part != "train"}
        | {clip.video_id for clip in head.clips if clip.source == "manual" and clip.task == task}
        | {video_id for video_id in by_hand if video_id not in head.split}
    )


def labels_of(
    video_id: str,
    said: Mapping[TimeSpan, Said],
    task: Task,
    taxonomy: Taxonomy,
    trusted: Trusted,
    persons: Mapping[tuple[str, str], Sequence[TimeSpan]],
) -> VideoLabels:
    """What becomes of the answers about one video's windows: clips of ``task``, and of the tasks whose tags it asks
    for (paper, Table 2: every micro-activity is a dissection, so its clip is a sample of the macro task too).
    ``persons``: see ``spans_of_persons``."""
    tag = task.tags[0].name
    asked = [
        window
        for window, called in zip(said.items(), task_applies(said.values(), task, taxonomy), strict=True)
        if called
    ]
    labels = [
        Label(
            *span,
            {each.name: own[each.name][0] for each in task.tags if is_trusted(own, each.name, trusted)},
            own[tag][1],
        )
        for span, own in asked
        if trusted and is_trusted(own, tag, trusted)
    ]
    parts = apart(merge(labels, tag), labels, tag)
    made = {task.name: [(part, part.tags) for part in parts]}
    implied: dict[str, dict[str, str]] = {}
    for name, category in task.when:
        implied.setdefault(taxonomy.task_of_tag(name).name, {})[name] = category
    for owner, tags in implied.items():
        made[owner] = [(part, tags) for part in parts]
    clips = [
        Clip(video_id, part.start_s, part.stop_s, name, dict(tags), source="ai", confidence=part.confidence)
        for name, own in made.items()
        for label, tags in own
        for part in without(label, persons.get((video_id, name), ()))
    ]
    return VideoLabels(
        clips,
        Counter(own[tag][0] for _, own in asked if tag in own),
        *(Counter(label.tags[tag] for label in some) for some in (labels, parts)),
        Counter(name for label in labels for name in label.tags),
        len(said) - len(asked),
        sum(part.stop_s - part.start_s for part in parts),
    )


def windows_at(place: str, video_id: str, recipe: str) -> dict[TimeSpan, Said]:
    """The model's answers about a video's windows, in order of time."""
    filters = [("video_id", "=", video_id), ("recipe", "=", recipe)]
    table = read_segments(place, ["tags"], filters)
    answers: dict[TimeSpan, dict[str, tuple[str, float]]] = {}
    for row in table.to_pylist() if table is not None else ():
        for said in row["tags"]:
            own = answers.setdefault((said["start_s"], said["stop_s"]), {})
            own[said["tag"]] = said["category"], said["confidence"]
    return dict(sorted(answers.items()))


def spans_of_persons(head: Atlas) -> dict[tuple[str, str], list[TimeSpan]]:
    """(video_id, task) → the time that persons labelled."""
    spans: dict[tuple[str, str], list[TimeSpan]] = {}
    for clip in head.clips:
        if clip.source == "manual":
            spans.setdefault((clip.video_id, clip.task), []).append((clip.start_s, clip.stop_s))
    return {lane: union(own) for lane, own in spans.items()}


def videos_at(place: str) -> list[Video]:
    return [entry.video for entry in read_videos(place).values() if entry.is_mapped]


def report_of(trusted: Trusted, found: Sequence[VideoLabels], summary: Summary | None, task: Task) -> dict:
    """``actions``: category → its ``threshold`` (None: none is sure enough), where that comes from, and the archive's
    windows said, kept, dropped, and ``clips`` made of them; ``others``: each other tag's one ``threshold``, and how
    many of the kept windows have it; ``elsewhere``: windows that the model's own answers don't call the task for;
    ``videos``: state → number; ``added``: task → samples."""
    said, kept, made, tags = (
        sum((getattr(labelled, name) for labelled in found), Counter()) for name in ("said", "kept", "made", "tags")
    )
    of_actions, unseen = trusted[task.tags[0].name], Threshold(math.inf, 0, 0, 0)
    actions = {}
    for name in sorted({*of_actions, *said}, key=lambda name: (-said[name], name)):
        threshold = of_actions.get(name, unseen)
        actions[name] = {
            "threshold": threshold.least if math.isfinite(threshold.least) else None,
            "precision": threshold.precision if threshold.kept else None,
            "validation": {"said": threshold.said, "kept": threshold.kept, "right": threshold.right},
            "said": said[name],
            "kept": kept[name],
            "dropped": said[name] - kept[name],
            "clips": made[name],
        }
    others = {}
    for tag in task.tags[1:]:
        least = next((threshold.least for threshold in trusted[tag.name].values()), math.inf)
        others[tag.name] = {"threshold": least if math.isfinite(least) else None, "kept": tags[tag.name]}
    clips = [clip for labelled in found for clip in labelled.clips]
    return {
        "actions": actions,
        "others": others,
        "videos": dict(Counter(video["status"] for video in summary.videos)) if summary else {},
        "elsewhere": sum(labelled.elsewhere for labelled in found),
        "labelled_s": sum(labelled.label_s for labelled in found),
        "confidence": fmean(clip.confidence for clip in clips) if clips else None,
        "added": dict(Counter(clip.task for clip in clips)),
    }
