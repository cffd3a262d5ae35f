"""What a model is worth on the validation videos, which persons labelled and the model never learned from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from halsted_ray.atlas import Atlas
from halsted_ray.embedding.embed import EmbedProgress, embed
from halsted_ray.embedding.vector_names import open_vectors
from halsted_ray.errors import AtlasError
from halsted_ray.evaluation.predictions import KINDS_OF_UNIT, TagPredictions, of_unit, predict, tag_targets
from halsted_ray.evaluation.scoring import AccuracyCounts, score_tasks
from halsted_ray.mapping.workflow import needed_tasks
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Clip, Window, WindowSpec
from halsted_ray.selflabel.thresholds import PredictedTags
from halsted_ray.storage.vectors import WindowKey, sampling_name
from halsted_ray.taxonomy import Task, Taxonomy
from halsted_ray.training.atlas_samples import FIDELITY, JUDGED, labelled_windows, unique_windows
from halsted_ray.training.samples import build_samples, label_windows, training_windows, with_vectors

PART = "validation"
WINDOWS = WindowSpec(coarse_s=1.0, fine_s=1.0)
"""Paper, Methods: 1-s clips that do not overlap."""


@dataclass(frozen=True)
class ValidationPredictions:
    """A model's predictions for validation windows whose truth is known; row-aligned with the true tags.

    ``truth_N``: tag → category. It is empty for a window to which the task does not apply (suturing, for the actions
    of dissection): there every prediction is wrong. ``not_asked``: windows with a known truth that are left out, since
    by the model's own predictions the task does not apply to them.
    """

    predicted_N: list[PredictedTags]
    truth_N: list[Mapping[str, str]]
    videos: int
    not_asked: int

    @property
    def off_task(self) -> int:
        """Number of windows to which the task does not apply."""
        return sum(not truth for truth in self.truth_N)


def accuracy_of_tasks(
    model: Halsted, source: Atlas, encoder: str, embeddings: str, progress: EmbedProgress | None = None
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """(task → mean over its tags of exact match, the same by unit), on the validation videos.

    The first counts annotated clips and the model's own windows alike; the second tells them apart: ``clips`` and
    ``grid`` → task → accuracy. Raises AtlasError where no validation video is annotated, or a video can't be decoded.
    """
    spec, taxonomy = model.config.windows, model.taxonomy
    labelled = labelled_windows(manual_clips_only(source), PART, source.split, taxonomy, JUDGED, spec)
    windows = {video_id: unique_windows(samples) for video_id, samples in labelled.items()}
    vectors = vectors_of(source, windows, model, spec, encoder, embeddings, progress)
    labelled = with_vectors(labelled, vectors)
    samples = build_samples(labelled, vectors, model.vocabulary)
    # Row-aligned with the samples: ``build_samples`` takes videos by id, and their samples in order.
    kind_S = np.array([sample.window.kind for video_id in sorted(labelled) for sample in labelled[video_id]])
    unused_S = np.full(len(samples), "")
    predictions = predict(model, samples, tag_targets(samples, samples, taxonomy, 0, kind_S, unused_S))

    def by_task(of: Sequence[TagPredictions]) -> dict[str, float]:
        figures = score_tasks(AccuracyCounts.of(of), taxonomy)
        return {task: of_task["over_videos"] for task, of_task in figures["tasks"].items()}

    return by_task(predictions), {unit: by_task(of_unit(predictions, unit)) for unit in KINDS_OF_UNIT}


def predict_validation(
    model: Halsted, source: Atlas, task: Task, encoder: str, embeddings: str, progress: EmbedProgress | None = None
) -> ValidationPredictions:
    """The model's predictions of ``task`` for the 1-s windows to which, by its own predictions, the task applies.

    Raises AtlasError where no validation video shows the task, or a video can't be decoded.
    """
    clips_of: dict[str, list[Clip]] = {}
    for clip in manual_clips_only(source).clips:
        clips_of.setdefault(clip.video_id, []).append(clip)
    truth: dict[str, dict[Window, dict[str, str]]] = {}
    for video in source.videos_of(PART):
        fine_windows = [window for window in training_windows(video.duration_s, WINDOWS) if window.kind == "fine"]
        truth[video.video_id] = truth_of(fine_windows, clips_of.get(video.video_id, []), task, model.taxonomy)
    rows = [(video_id, window, tags) for video_id, of_video in truth.items() for window, tags in of_video.items()]
    if not any(tags for _, _, tags in rows):
        raise AtlasError(
            f"the atlas {source.name!r}: no validation video has a person's clip of task {task.name!r}, so nothing can "
            "say which of the model's labels are right; annotate one"
        )
    windows = {video_id: list(of_video) for video_id, of_video in truth.items() if of_video}
    vectors = vectors_of(source, windows, model, WINDOWS, encoder, embeddings, progress)
    rows = [row for row in rows if (row[1].kind, row[1].start_s, row[1].stop_s) in vectors[row[0]]]
    if not rows:
        raise AtlasError(
            f"the atlas {source.name!r}: every window of task {task.name!r} in its validation videos lacks too much of "
            "its time (damaged files); restore the files"
        )
    vectors_ND = np.stack(
        [vectors[video_id][window.kind, window.start_s, window.stop_s] for video_id, window, _ in rows]
    )
    predicted = predict_windows(model, task, vectors_ND)
    asked = np.flatnonzero(task_applies(predicted, task, model.taxonomy))
    return ValidationPredictions(
        [predicted[n] for n in asked], [rows[n][2] for n in asked], len(windows), len(predicted) - len(asked)
    )


def predict_windows(model: Halsted, task: Task, vectors_ND: np.ndarray) -> list[PredictedTags]:
    """Per window the model's predictions of ``task``, and of the tasks that decide whether ``task`` applies."""
    found: list[dict[str, tuple[str, float]]] = [{} for _ in vectors_ND]
    for needed in needed_tasks(model.taxonomy, [task]):
        for of_window, row in zip(found, model.tag(vectors_ND, needed.name, unit="grid"), strict=True):
            of_window |= row
    return list(found)


def task_applies(predicted: Iterable[PredictedTags], task: Task, taxonomy: Taxonomy) -> list[bool]:
    """Per window whether the task applies (``Task.when``) by the model's own predictions, as in the workflow.

    Asked about a suturing window all the same, the model would name an action of dissection. Where the predictions lack
    the tag of a condition, the task does not apply.
    """
    conditions = [condition for needed in needed_tasks(taxonomy, [task]) for condition in needed.when]
    return [all(tag in tags and tags[tag][0] == category for tag, category in conditions) for tags in predicted]


def truth_of(
    windows: Sequence[Window], clips: Sequence[Clip], task: Task, taxonomy: Taxonomy
) -> dict[Window, dict[str, str]]:
    """Window → its true tags of the task, empty where a person saw something to which the task does not apply."""
    found: dict[Window, dict[str, str]] = {}
    for tag, category in task.when:
        for sample in label_windows(windows, clips, [taxonomy.task_of_tag(tag)]):
            if sample.judged and dict(sample.tags).get(tag, category) != category:
                found[sample.window] = {}
    for sample in label_windows(windows, clips, [task]):
        if sample.judged and task.tags[0].name in dict(sample.tags):
            found[sample.window] = dict(sample.tags)
    return found


def average(accuracy_of_task: Mapping[str, float]) -> float:
    """Mean over the tasks that could be measured (paper: "average accuracy across all tasks"); NaN without any."""
    known = [value for value in accuracy_of_task.values() if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def manual_clips_only(source: Atlas) -> Atlas:
    """The atlas with the clips that persons labelled, and no others."""
    return replace(source, clips=tuple(clip for clip in source.clips if clip.source == "manual"))


def vectors_of(
    source: Atlas,
    windows: Mapping[str, Sequence[Window]],
    model: Halsted,
    spec: WindowSpec,
    encoder: str,
    embeddings: str,
    progress: EmbedProgress | None,
) -> dict[str, dict[WindowKey, np.ndarray]]:
    """video_id → window → float16 [D], by the encoder at ``encoder``; missing vectors are made (``training.embed``)."""
    store = open_vectors(embeddings, encoder_identity(encoder), sampling_name(spec, FIDELITY))
    videos = [video for video in source.videos if video.video_id in windows]
    return embed(videos, windows, encoder, store, spec, fidelity=FIDELITY, progress=progress)
