"""Labels for clips by sentences alone, without training on any of them, and how right they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from halsted_ray.atlas import Atlas
from halsted_ray.embedding.embed import EmbedProgress, embed
from halsted_ray.embedding.segments import window_key
from halsted_ray.embedding.vector_names import open_vectors
from halsted_ray.errors import AtlasError
from halsted_ray.evaluation.frame_metrics import average_precision
from halsted_ray.language.captioned_clips import windows_of_span
from halsted_ray.language.contrast_model import VideoTextModel
from halsted_ray.language.prompts import JOINED, LabelPrompts
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.records import Clip, Window
from halsted_ray.storage.vectors import sampling_name
from halsted_ray.training.atlas_samples import FIDELITY


@dataclass(frozen=True)
class LabelledClips:
    """Clips with their vectors and what is true of them. ``truth_NK``: bool, one column per label of the prompts."""

    vectors: list[np.ndarray]
    """float16 [W, D] of each clip."""
    truth_NK: np.ndarray
    video_ids: tuple[str, ...]
    """Of each clip."""
    left_out: int
    """Clips whose category is none of the labels, or without a picture."""


@dataclass(frozen=True)
class ZeroShotFigures:
    """Of clips with one label: ``accuracy``, and ``f1`` as the mean over the labels that occur; ``chance`` is one of K,
    ``commonest`` the share of the commonest label. Of clips with several: ``map``, the mean over labels of the average
    precision, whose ``chance`` is the mean share of clips that have a label. What does not apply is None."""

    labels: int
    clips: int
    videos: int
    left_out: int
    accuracy: float | None
    f1: float | None
    map: float | None
    chance: float
    commonest: float


def labelled_clips(
    atlas: Atlas,
    part: str,
    prompts: LabelPrompts,
    model: VideoTextModel,
    embeddings: str,
    on_embed: EmbedProgress | None = None,
) -> LabelledClips:
    """The clips of one part of the atlas that a person labelled with the prompts' tag, with the vectors of their fine
    windows from ``embeddings``; those that are missing are decoded and encoded.

    Raises AtlasError where there is no such clip, ModelError where the encoder is not the model's.
    """
    videos = {video.video_id: video for video in atlas.videos_of(part)}
    clips = [
        clip
        for clip in atlas.clips
        if clip.video_id in videos
        and clip.task == prompts.task
        and prompts.tag in clip.tags
        and clip.source == "manual"
    ]
    if not clips:
        raise AtlasError(
            f"the atlas {atlas.name!r} has no clip with the tag {prompts.tag!r} in its {part!r} part "
            f"({len(videos)} videos); name another part or release"
        )
    identity = encoder_identity(model.config.encoder_ref)
    model.check(identity.fingerprint)
    spec = model.config.windows
    windows = [windows_of_span(c.start_s, c.stop_s, videos[c.video_id].duration_s, spec) for c in clips]
    wanted: dict[str, dict[Window, None]] = {}
    for clip, own in zip(clips, windows, strict=True):
        wanted.setdefault(clip.video_id, {}).update(dict.fromkeys(own))
    store = open_vectors(embeddings, identity, sampling_name(spec, FIDELITY))
    found = embed(
        [videos[video_id] for video_id in wanted],
        {video_id: list(own) for video_id, own in wanted.items()},
        identity.ref,
        store,
        spec,
        fidelity=FIDELITY,
        progress=on_embed,
    )
    vectors, truth, ids = [], [], []
    for clip, own in zip(clips, windows, strict=True):
        held = [found[clip.video_id][key] for w in own if (key := window_key(w)) in found[clip.video_id]]
        true_K = truth_of(clip, prompts)
        if held and any(true_K):
            vectors.append(np.stack(held))
            truth.append(true_K)
            ids.append(clip.video_id)
    if not vectors:
        labels = ", ".join(prompts.labels[:5])
        raise AtlasError(f"none of {len(clips)} clips has one of the labels {labels}…; name the categories that occur")
    return LabelledClips(vectors, np.array(truth, bool), tuple(ids), len(clips) - len(vectors))


def truth_of(clip: Clip, prompts: LabelPrompts) -> list[bool]:
    """Which labels are true of a clip: its category, and of multi-label prompts the parts that the category joins."""
    category = clip.tags[prompts.tag]
    own = {category, *category.split(JOINED)} if prompts.is_multi_label else {category}
    return [label in own for label in prompts.labels]


def zero_shot(model: VideoTextModel, clips: LabelledClips, labels_KD: np.ndarray, multi: bool) -> ZeroShotFigures:
    """The figures of ``clips`` against the vectors of the labels (``LabelPrompts.vectors``)."""
    scores_NK = model.embed_clips(clips.vectors) @ labels_KD.T
    return figures_of(scores_NK, clips, multi)


def figures_of(scores_NK: np.ndarray, clips: LabelledClips, multi: bool) -> ZeroShotFigures:
    """The figures of any scores, one row per clip and one column per label."""
    truth_NK, labels = clips.truth_NK, scores_NK.shape[1]
    counts = len(clips.vectors), len(set(clips.video_ids)), clips.left_out
    if multi:
        occurs_K = truth_NK.any(0)
        each = [average_precision(scores_NK[:, k], truth_NK[:, k]) for k in np.flatnonzero(occurs_K)]
        shares_K = truth_NK.mean(0)[occurs_K]
        return ZeroShotFigures(
            labels, *counts, None, None, float(np.mean(each)), float(shares_K.mean()), float(shares_K.max())
        )
    truth_N, found_N = truth_NK.argmax(1), scores_NK.argmax(1)
    commonest = Counter(truth_N.tolist()).most_common(1)[0][1] / len(truth_N)
    accuracy = float((truth_N == found_N).mean())
    return ZeroShotFigures(labels, *counts, accuracy, macro_f1(truth_N, found_N), None, 1 / labels, commonest)


def macro_f1(truth_N: Sequence[int] | np.ndarray, found_N: Sequence[int] | np.ndarray) -> float:
    """Mean over the labels that occur in the truth of the harmonic mean of precision and recall, as SurgLaVi counts."""
    truth_N, found_N = np.asarray(truth_N), np.asarray(found_N)
    each = [
        2 * ((truth_N == k) & (found_N == k)).sum() / ((truth_N == k).sum() + (found_N == k).sum())
        for k in np.unique(truth_N)
    ]
    return float(np.mean(each))
