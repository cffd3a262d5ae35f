"""The data that all folds of an evaluation share: every video's samples, with their vectors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from halsted_ray.atlas import Atlas
from halsted_ray.embedding.embed import EmbedProgress, embed
from halsted_ray.embedding.vector_names import open_vectors
from halsted_ray.evaluation.evaluation_plan import EvaluationPlan
from halsted_ray.evaluation.sais import SAIS, SAIS_HEAD, SaisRecipe
from halsted_ray.evaluation.sais_features import sais_features
from halsted_ray.model.encoder_identity import EncoderIdentity
from halsted_ray.model.halsted import ModelConfig
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.records import Clip, Window
from halsted_ray.storage.vectors import sampling_name
from halsted_ray.taxonomy import Task, Taxonomy
from halsted_ray.training.atlas_samples import FIDELITY, unique_windows
from halsted_ray.training.recipe import Recipe
from halsted_ray.training.samples import (
    HALF_SHARE,
    LabelledWindow,
    Samples,
    build_samples,
    label_windows,
    tasks_to_learn,
    training_windows,
    with_vectors,
)


@dataclass(frozen=True)
class EvaluationData:
    """What all folds share.

    ``training``: every video's samples as models learn from them (windows shifted, chosen and weighted by the recipe);
    ``testing``: the same videos' samples as models are judged on them. ``kind_S`` (coarse, fine, clip) and ``source_S``
    (manual, ai) are row-aligned with ``testing``. ``steps``: ``training`` and ``testing`` → vectors by grid
    and time step [W, G, T, D], row-aligned with the embeddings of each; empty without SAIS. ``sais_method``: the name
    of the form of SAIS (``sais.SAIS`` or ``SAIS_HEAD``). ``llama``: ``EvaluationPlan.llama``.
    ``config``: the folds' models but for their number; ``taxonomy``: as ``Taxonomy.to_dict`` gives it.
    """

    training: Samples
    testing: Samples
    kind_S: np.ndarray
    source_S: np.ndarray
    steps: Mapping[str, np.ndarray]
    config: ModelConfig
    taxonomy: Mapping[str, Any]
    recipe: Recipe
    baselines: tuple[str, ...]
    sais: SaisRecipe
    sais_method: str = SAIS_HEAD
    llama: str | None = None


def prepare_data(
    source: Atlas,
    taxonomy: Taxonomy,
    recipe: Recipe,
    plan: EvaluationPlan,
    encoder: EncoderIdentity,
    config: ModelConfig,
    embeddings: str,
    video_ids: Collection[str],
    on_embed: EmbedProgress | None,
) -> EvaluationData:
    """The samples of the videos ``video_ids``, with their vectors. A window that has no vector at ``embeddings`` yet
    is decoded and encoded. Raises AtlasError where a video can't be decoded."""
    spec = config.windows
    clips_of: dict[str, list[Clip]] = {}
    for clip in source.clips:
        clips_of.setdefault(clip.video_id, []).append(clip)
    videos = [video for video in source.videos if video.video_id in video_ids]
    labelled: dict[str, dict[str, list[LabelledWindow]]] = {"training": {}, "testing": {}}
    tasks = tasks_to_learn(taxonomy, recipe.tasks)
    for side, shifts_s, least_share, ai_weight in (
        ("training", recipe.shifts_s, recipe.least_share, recipe.ai_weight),
        ("testing", (0.0,), HALF_SHARE, 1.0),
    ):
        for video in videos:
            clips = clips_of.get(video.video_id, [])
            if plan.whole_clips:
                samples = clip_windows(clips, tasks, ai_weight)
            else:
                windows = training_windows(video.duration_s, spec, shifts_s)
                samples = label_windows(windows, clips, tasks, least_share, ai_weight)
            labelled[side][video.video_id] = samples
    windows_of = {
        video.video_id: unique_windows([s for of_video in labelled.values() for s in of_video[video.video_id]])
        for video in videos
    }
    vocabulary, sampling = Vocabulary(taxonomy), sampling_name(spec, FIDELITY)
    store = open_vectors(embeddings, encoder, sampling)
    vectors = embed(videos, windows_of, encoder.ref, store, spec, fidelity=FIDELITY, progress=on_embed)
    labelled = {side: with_vectors(of_video, vectors) for side, of_video in labelled.items()}
    features = None
    if "sais" in plan.baselines:
        shifted_too = {video_id: unique_windows(samples) for video_id, samples in labelled["testing"].items()}
        features = sais_features(
            videos, windows_of, shifted_too, encoder, plan.sais_encoder, embeddings, spec, on_embed
        )
        labelled = {side: with_vectors(of_video, features.grids[0]) for side, of_video in labelled.items()}
    samples_of = {side: build_samples(of_video, vectors, vocabulary) for side, of_video in labelled.items()}
    steps = {}
    if features is not None:
        for side, grids in (("training", 1), ("testing", len(features.grids))):
            steps[side] = features.of(labelled[side], vocabulary, grids)
    # Row-aligned with ``testing``: ``build_samples`` takes videos by id, and their samples in order.
    tested = [
        (video_id, sample) for video_id in sorted(labelled["testing"]) for sample in labelled["testing"][video_id]
    ]
    sources = {clip.source for clip in source.clips}
    only_source = sources.pop() if len(sources) == 1 else None
    return EvaluationData(
        training=samples_of["training"],
        testing=samples_of["testing"],
        kind_S=np.array([sample.window.kind for _, sample in tested]),
        source_S=np.array([only_source or source_of(sample, clips_of[video_id]) for video_id, sample in tested]),
        steps=steps,
        config=config,
        taxonomy=taxonomy.to_dict(),
        recipe=recipe,
        baselines=plan.baselines,
        sais=plan.sais,
        sais_method=SAIS if plan.sais_encoder else SAIS_HEAD,
        llama=plan.llama,
    )


def clip_windows(clips: Sequence[Clip], tasks: Sequence[Task], ai_weight: float) -> list[LabelledWindow]:
    """Each clip of ``tasks`` as one window, whatever its length."""
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
    """Who labelled a window: the source of that clip with the window's tags which covers most of it."""

    def covered_s(clip: Clip) -> float:
        return min(clip.stop_s, sample.window.stop_s) - max(clip.start_s, sample.window.start_s)

    same = [clip for clip in clips if clip.task == sample.task and tuple(sorted(clip.tags.items())) == sample.tags]
    return max(same, key=covered_s).source
