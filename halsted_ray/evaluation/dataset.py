"""The data that all folds of an evaluation share: every video's samples, with their vectors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
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
from halsted_ray.records import Clip
from halsted_ray.storage.vectors import sampling_name
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.training.atlas_samples import FIDELITY, JUDGED, filmed_clips, samples_of_videos, unique_windows
from halsted_ray.training.recipe import Recipe
from halsted_ray.training.samples import LabelledWindow, Samples, build_samples, with_vectors


@dataclass(frozen=True)
class EvaluationData:
    """What all folds share.

    ``training``: every video's samples as models learn from them (clips or windows or both, moved, chosen and weighted
    by the recipe); ``testing``: the same videos' clips and grid windows as models are judged on them. ``kind_S``
    (coarse, fine, clip) and ``source_S`` (manual, ai) are row-aligned with ``testing``. ``steps``: ``training`` and
    ``testing`` → vectors by grid and time step [W, G, T, D], row-aligned with the embeddings of each; empty without
    SAIS. ``sais_method``: the name of the form of SAIS (``sais.SAIS`` or ``SAIS_HEAD``). ``llama``:
    ``EvaluationPlan.llama``. ``config``: the folds' models but for their number; ``taxonomy``: as ``Taxonomy.to_dict``
    gives it.
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
    only_tested: Collection[str] = (),
) -> EvaluationData:
    """The samples of the videos ``video_ids``, with their vectors. A window that has no vector at ``embeddings`` yet
    is decoded and encoded. No model learns from the videos ``only_tested``, so their windows of training alone (moved,
    shifted) are not encoded. Raises AtlasError where a video can't be decoded."""
    spec = config.windows
    videos = [video for video in source.videos if video.video_id in video_ids]
    clips_of: dict[str, list[Clip]] = {}
    for clip in source.clips:
        clips_of.setdefault(clip.video_id, []).append(clip)
    learned = [video for video in videos if video.video_id not in only_tested]
    labelled = {
        "training": dict.fromkeys((video.video_id for video in videos), list[LabelledWindow]())
        | samples_of_videos(learned, source.clips, taxonomy, recipe, spec, "evaluated"),
        "testing": samples_of_videos(
            videos, filmed_clips(source.clips), taxonomy, replace(JUDGED, tasks=recipe.tasks), spec
        ),
    }
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


def source_of(sample: LabelledWindow, clips: Sequence[Clip]) -> str:
    """Who labelled a window: the source of that clip with the window's tags which covers most of it."""

    def covered_s(clip: Clip) -> float:
        return min(clip.stop_s, sample.window.stop_s) - max(clip.start_s, sample.window.start_s)

    same = [clip for clip in clips if clip.task == sample.task and tuple(sorted(clip.tags.items())) == sample.tags]
    return max(same, key=covered_s).source
