"""The samples of an atlas, part by part, with the vectors of their windows: what training and evaluation start from."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from halsted_ray.atlas import Atlas
from halsted_ray.atlas.contents import drawn_videos
from halsted_ray.embedding.embed import EmbedProgress, embed
from halsted_ray.embedding.vector_names import open_vectors
from halsted_ray.errors import AtlasError
from halsted_ray.model.encoder_identity import EncoderIdentity
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.records import SYNTHETIC, Clip, Video, Window, WindowSpec
from halsted_ray.storage.vectors import sampling_name
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.training.clip_samples import Jitter, clip_windows, clips_without_sample, loss_report
from halsted_ray.training.recipe import UNITS, Recipe
from halsted_ray.training.samples import (
    LabelledWindow,
    Samples,
    build_samples,
    label_windows,
    tasks_to_learn,
    training_windows,
    with_vectors,
)

log = logging.getLogger(__name__)

FIDELITY = "reference"
"""How frames are decoded: as mapping does by default, so that one store of vectors serves both."""
JUDGED = Recipe(units=UNITS)
"""Models are judged on both units, side by side: the paper's clips, and the windows that a map asks."""


def load_samples(
    source: Atlas,
    split: Mapping[str, str],
    taxonomy: Taxonomy,
    recipe: Recipe,
    spec: WindowSpec,
    encoder: EncoderIdentity,
    embeddings: str,
    progress: EmbedProgress | None = None,
    parts: Sequence[str] = ("train", "validation"),
) -> dict[str, Samples]:
    """Part of the split → its samples. A window that has no vector at ``embeddings`` yet is decoded and encoded.

    Samples of windows that lack too many pictures are left out, and a warning counts them (``embed``). Raises
    AtlasError where a part has no annotated video, or a video can't be decoded.
    """
    labelled = {part: labelled_windows(source, part, split, taxonomy, recipe, spec) for part in parts}
    windows = {video_id: unique_windows(samples) for part in labelled.values() for video_id, samples in part.items()}
    store = open_vectors(embeddings, encoder, sampling_name(spec, FIDELITY))
    videos = [video for video in source.videos if video.video_id in windows]
    vectors = embed(videos, windows, encoder.ref, store, spec, fidelity=FIDELITY, progress=progress)
    vocabulary = Vocabulary(taxonomy)
    return {
        part: build_samples(with_vectors(of_video, vectors), vectors, vocabulary) for part, of_video in labelled.items()
    }


def labelled_windows(
    atlas: Atlas, part: str, split: Mapping[str, str], taxonomy: Taxonomy, recipe: Recipe, spec: WindowSpec
) -> dict[str, list[LabelledWindow]]:
    """video_id → samples, of those videos of one part that have any.

    The samples of the training part are shifted, moved, chosen and weighted as the recipe says; other parts have the
    recipe's units as a person or a map sees them (``as_judged``). A warning counts the clips that give no sample.
    Raises AtlasError where no video of the part is annotated.
    """
    recipe, clips = (recipe, atlas.clips) if part == "train" else (as_judged(recipe), filmed_clips(atlas.clips))
    videos = [video for video in atlas.videos if split.get(video.video_id) == part]
    if part != "train" and (drawn := {video.video_id for video in videos} & drawn_videos(atlas.clips)):
        log.warning(
            "%d drawn videos are in the %s part and judge nothing: what is synthetic never does", len(drawn), part
        )
    samples = samples_of_videos(videos, clips, taxonomy, recipe, spec, part)
    if not any(samples.values()):
        raise AtlasError(
            f"the atlas {atlas.name!r} has no annotated video in its {part!r} part ({len(samples)} videos, "
            f"{len(atlas.videos)} in all); give its split at least one"
        )
    return {video_id: of_video for video_id, of_video in samples.items() if of_video}


def filmed_clips(clips: Iterable[Clip]) -> list[Clip]:
    """The clips of videos that were not drawn: what may judge a model."""
    return [clip for clip in clips if clip.source != SYNTHETIC]


def as_judged(recipe: Recipe) -> Recipe:
    """The recipe whose samples judge what ``recipe`` trains: the same units and tasks; clips as they were annotated,
    windows on the map's grid, nothing weighted."""
    return Recipe(units=recipe.units, tasks=recipe.tasks)


def samples_of_videos(
    videos: Sequence[Video],
    clips: Iterable[Clip],
    taxonomy: Taxonomy,
    recipe: Recipe,
    spec: WindowSpec,
    part: str | None = None,
) -> dict[str, list[LabelledWindow]]:
    """video_id → the samples that ``recipe`` makes of the clips of each of ``videos``; of clips first.

    ``part``: names the videos in a warning that counts the clips without a sample; None for no warning.
    """
    tasks = tasks_to_learn(taxonomy, recipe.tasks)
    clips_of: dict[str, list[Clip]] = {video.video_id: [] for video in videos}
    for clip in clips:
        if clip.video_id in clips_of:
            clips_of[clip.video_id].append(clip)
    jitter = Jitter(recipe.clip_copies, recipe.clip_jitter, recipe.seed)
    samples: dict[str, list[LabelledWindow]] = {}
    lost: Counter[str] = Counter()
    for video in videos:
        own, of_video = clips_of[video.video_id], samples.setdefault(video.video_id, [])
        if "clips" in recipe.units:
            of_video += clip_windows(own, tasks, video.duration_s, recipe.ai_weight, jitter, recipe.synthetic_weight)
        if "grid" in recipe.units:
            windows = training_windows(video.duration_s, spec, recipe.shifts_s)
            of_video += label_windows(
                windows, own, tasks, recipe.least_share, recipe.ai_weight, recipe.synthetic_weight
            )
        lost += clips_without_sample(own, tasks, of_video)
    if part and lost:
        log.warning("%s", loss_report(lost, sum(map(len, clips_of.values())), recipe.units, part))
    return samples


def learned_and_judged_windows(
    atlas: Atlas, taxonomy: Taxonomy, recipe: Recipe, spec: WindowSpec
) -> dict[str, list[Window]]:
    """video_id → the windows of a video that a model can learn from or be judged on, whatever part of a split the video
    is in: those that training, evaluation and promotion take, for every split and every fold.

    A video without annotated clips has none.
    """
    learned, judged = (
        samples_of_videos(atlas.videos, clips, taxonomy, of, spec)
        for of, clips in ((recipe, atlas.clips), (replace(JUDGED, tasks=recipe.tasks), filmed_clips(atlas.clips)))
    )
    return {video_id: unique_windows([*samples, *judged[video_id]]) for video_id, samples in learned.items()}


def unique_windows(samples: Sequence[LabelledWindow]) -> list[Window]:
    """The windows of ``samples``, each once, in their order."""
    return list(dict.fromkeys(sample.window for sample in samples))
