"""Every wanted video's samples, with their vectors: what all folds share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from halsted_ray.atlas import Atlas
from halsted_ray.evaluation.sais import SaisRecipe
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import ModelConfig
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.records import Clip, Window, WindowSpec
from halsted_ray.storage.vectors import VectorStore, sampling_name
from halsted_ray.taxonomy import Task, Taxonomy
from halsted_ray.training.atlas_samples import FIDELITY, unique_windows
from halsted_ray.training.embed import embed
from halsted_ray.training.recipe import Recipe
from halsted_ray.training.samples import (
    HALF_SHARE,
    LabelledWindow,
    Samples,
    build_samples,
    label_windows,
    tasks_to_learn,
    training_windows,
)


@dataclass(frozen=True)
class EvaluationData:
    """What all folds share: every video's samples, once as they teach and once as they judge.

    ``kind_S`` and ``source_S`` are row-aligned with ``judging``. ``steps``: ``learning`` and ``judging`` → vectors by
    time step [W, T, D], row-aligned with the embeddings of each; empty without SAIS.
    """

    learning: Samples
    judging: Samples
    kind_S: np.ndarray
    source_S: np.ndarray
    steps: Mapping[str, np.ndarray]
    config: ModelConfig
    taxonomy: Mapping
    recipe: Recipe
    baselines: tuple[str, ...]
    sais: SaisRecipe


def prepare_data(
    source: Atlas,
    taxonomy: Taxonomy,
    recipe: Recipe,
    spec: WindowSpec,
    frozen: Encoder,
    embeddings: str,
    wanted: set[str],
    whole_clips: bool,
    baselines: tuple[str, ...],
    sais: SaisRecipe,
    config: ModelConfig,
    on_embed,
) -> EvaluationData:
    """Every wanted video's samples with their vectors; what has no vector yet is decoded and encoded."""
    tasks = tasks_to_learn(taxonomy, recipe.tasks)
    clips_of: dict[str, list[Clip]] = {}
    for clip in source.clips:
        clips_of.setdefault(clip.video_id, []).append(clip)
    videos = [video for video in source.videos if video.video_id in wanted]
    labelled: dict[str, dict[str, list[LabelledWindow]]] = {"learning": {}, "judging": {}}
    for video in videos:
        clips = clips_of.get(video.video_id, [])
        for side, shifts_s, *choices in (
            ("learning", recipe.shifts_s, recipe.least_share, recipe.ai_weight),
            ("judging", (0.0,), HALF_SHARE, 1.0),
        ):
            labelled[side][video.video_id] = (
                clip_windows(clips, tasks, choices[-1])
                if whole_clips
                else label_windows(training_windows(video.duration_s, spec, shifts_s), clips, tasks, *choices)
            )
    windows = {
        video.video_id: unique_windows([s for side in labelled.values() for s in side[video.video_id]])
        for video in videos
    }
    vocabulary, sampling = Vocabulary(taxonomy), sampling_name(spec, FIDELITY)
    store = VectorStore(embeddings, frozen.fingerprint, sampling)
    vectors = embed(videos, windows, frozen.ref, store, spec, fidelity=FIDELITY, progress=on_embed)
    samples = {side: build_samples(own, vectors, vocabulary) for side, own in labelled.items()}
    steps = {}
    if "sais" in baselines:
        store = VectorStore(embeddings, frozen.fingerprint, f"{sampling}-steps")
        vectors = embed(videos, windows, frozen.ref, store, spec, fidelity=FIDELITY, steps=True, progress=on_embed)
        for side, own in labelled.items():
            rows_WX = build_samples(own, vectors, vocabulary).embeddings_WD
            steps[side] = rows_WX.reshape(len(rows_WX), -1, frozen.width)
    # Row-aligned with the samples: ``assemble`` takes videos by id and their samples in order.
    judged = [
        (video_id, sample) for video_id in sorted(labelled["judging"]) for sample in labelled["judging"][video_id]
    ]
    one_source = {clip.source for clip in source.clips}
    only = one_source.pop() if len(one_source) == 1 else None
    return EvaluationData(
        samples["learning"],
        samples["judging"],
        np.array([sample.window.kind for _, sample in judged]),
        np.array([only or source_of(sample, clips_of[video_id]) for video_id, sample in judged]),
        steps,
        config,
        taxonomy.to_dict(),
        recipe,
        baselines,
        sais,
    )


def clip_windows(clips: Sequence[Clip], tasks: Sequence[Task], ai_weight: float) -> list[LabelledWindow]:
    """Each clip of ``tasks`` as one window."""
    names = {task.name for task in tasks}
    return [
        LabelledWindow(
            Window("clip", clip.start_s, clip.stop_s),
            clip.task,
            tuple(sorted(clip.tags.items())),
            ai_weight if clip.source == "ai" else 1.0,
            True,
        )
        for clip in clips
        if clip.task in names
    ]


def source_of(sample: LabelledWindow, clips: Sequence[Clip]) -> str:
    """Of the clips that gave a window its answer, the source of the one that covers most of it."""

    def covered_s(clip: Clip) -> float:
        return min(clip.stop_s, sample.window.stop_s) - max(clip.start_s, sample.window.start_s)

    own = [clip for clip in clips if clip.task == sample.task and tuple(sorted(clip.tags.items())) == sample.tags]
    return max(own, key=covered_s).source
