"""What a model is worth on the validation videos, which it never learned from and which persons labelled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from halsted_ray.atlas import Atlas
from halsted_ray.errors import AtlasError
from halsted_ray.evaluation.predictions import predict, tag_targets
from halsted_ray.evaluation.scoring import Counts, score_tasks
from halsted_ray.mapping.workflow import needed_tasks
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Clip, Window, WindowSpec
from halsted_ray.storage.vectors import VectorStore, sampling_name
from halsted_ray.taxonomy import Task, Taxonomy
from halsted_ray.training.atlas_samples import FIDELITY, labelled_windows, unique_windows
from halsted_ray.training.embed import embed
from halsted_ray.training.recipe import PAPER
from halsted_ray.training.samples import build_samples, label_windows, training_windows

PART = "validation"
WINDOWS = WindowSpec(coarse_s=1.0, fine_s=1.0)
"""Paper, Methods: 1-s clips that don't overlap."""

Progress = Callable[[float, float], None] | None


Said = Mapping[str, tuple[str, float]]
"""What a model answers about a window: tag → (category, confidence)."""


@dataclass(frozen=True)
class ValidationPredictions:
    """Answers about the validation windows whose truth is known; row-aligned. ``truth_N``: tag → category; empty for a
    window in which the task's question makes no sense (suturing, asked for a dissection's action): whatever is said
    of it is wrong. ``elsewhere``: windows of known truth that are not among them, since the model itself says that
    the question makes no sense there."""

    said_N: list[Said]
    truth_N: list[Mapping[str, str]]
    videos: int
    elsewhere: int

    @property
    def others(self) -> int:
        return sum(not truth for truth in self.truth_N)


def accuracy_of_tasks(
    model: Halsted, source: Atlas, encoder: str, embeddings: str, progress: Progress = None
) -> dict[str, float]:
    """Task → mean over its tags of exact match, on the model's own windows of the validation videos.

    Raises AtlasError where no validation video is annotated, or one can't be decoded.
    """
    spec, taxonomy = model.config.windows, model.taxonomy
    labelled = labelled_windows(manual_clips_only(source), PART, source.split, taxonomy, PAPER, spec)
    windows = {video_id: unique_windows(samples) for video_id, samples in labelled.items()}
    samples = build_samples(
        labelled, vectors_of(source, windows, model, spec, encoder, embeddings, progress), model.vocabulary
    )
    unused_S = np.full(len(samples), "")
    asked = tag_targets(samples, samples, taxonomy, 0, unused_S, unused_S)
    figures = score_tasks(Counts.of(predict(model, samples, asked)), taxonomy)
    return {task: of_task["over_videos"] for task, of_task in figures["tasks"].items()}


def predict_validation(
    model: Halsted, source: Atlas, task: Task, encoder: str, embeddings: str, progress: Progress = None
) -> ValidationPredictions:
    """The model's answers to ``task`` about 1-s windows, where its own answers call for it. Raises AtlasError where no
    validation video shows the task."""
    clips_of: dict[str, list[Clip]] = {}
    for clip in manual_clips_only(source).clips:
        clips_of.setdefault(clip.video_id, []).append(clip)
    truth: dict[str, dict[Window, dict[str, str]]] = {}
    for video in source.videos_of(PART):
        windows = [window for window in training_windows(video.duration_s, WINDOWS) if window.kind == "fine"]
        truth[video.video_id] = truth_of(windows, clips_of.get(video.video_id, []), task, model.taxonomy)
    asked = [(video_id, window, answer) for video_id, own in truth.items() for window, answer in own.items()]
    if not any(answer for _, _, answer in asked):
        raise AtlasError(
            f"the atlas {source.name!r}: no validation video has a person's clip of task {task.name!r}, so nothing can "
            "say which of the model's labels are right; annotate one"
        )
    windows = {video_id: list(own) for video_id, own in truth.items() if own}
    vectors = vectors_of(source, windows, model, WINDOWS, encoder, embeddings, progress)
    said = predict_windows(
        model,
        task,
        np.stack([vectors[video_id][window.kind, window.start_s, window.stop_s] for video_id, window, _ in asked]),
    )
    called = np.flatnonzero(task_applies(said, task, model.taxonomy))
    return ValidationPredictions(
        [said[n] for n in called], [asked[n][2] for n in called], len(windows), len(said) - len(called)
    )


def predict_windows(model: Halsted, task: Task, vectors_ND: np.ndarray) -> list[Said]:
    """What the model says of each window: the tags of ``task``, and of the tasks that call for it."""
    said: list[dict[str, tuple[str, float]]] = [{} for _ in vectors_ND]
    for needed in needed_tasks(model.taxonomy, [task]):
        for own, row in zip(said, model.tag(vectors_ND, needed.name), strict=True):
            own |= row
    return said


def task_applies(said: Iterable[Said], task: Task, taxonomy: Taxonomy) -> list[bool]:
    """Whether the model's own answers about each window call for the question (``Task.when``), as in the workflow:
    asked of suturing, it would name a dissection's action all the same."""
    conditions = [condition for needed in needed_tasks(taxonomy, [task]) for condition in needed.when]
    return [all(own[tag][0] == category for tag, category in conditions) for own in said]


def truth_of(windows: Sequence[Window], clips: Sequence[Clip], task: Task, taxonomy: Taxonomy) -> dict:
    """Window → tags of the task, empty where a person saw what the task must not be asked of."""
    found: dict[Window, dict[str, str]] = {}
    for tag, category in task.when:
        for sample in label_windows(windows, clips, [taxonomy.task_of_tag(tag)]):
            if sample.judged and dict(sample.tags).get(tag, category) != category:
                found[sample.window] = {}
    for sample in label_windows(windows, clips, [task]):
        if sample.judged and task.tags[0].name in dict(sample.tags):
            found[sample.window] = dict(sample.tags)
    return found


def average(accuracy_of_task: dict[str, float]) -> float:
    """Mean over the tasks that could be measured (paper: "average accuracy across all tasks")."""
    known = [value for value in accuracy_of_task.values() if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def manual_clips_only(source: Atlas) -> Atlas:
    return replace(source, clips=tuple(clip for clip in source.clips if clip.source == "manual"))


def vectors_of(
    source: Atlas,
    windows: dict[str, list[Window]],
    model: Halsted,
    spec: WindowSpec,
    encoder: str,
    embeddings: str,
    progress: Progress,
) -> dict:
    store = VectorStore(embeddings, model.config.encoder_fingerprint, sampling_name(spec, FIDELITY))
    videos = [video for video in source.videos if video.video_id in windows]
    return embed(videos, windows, encoder, store, spec, fidelity=FIDELITY, progress=progress)
