"""The samples of an atlas, part by part, with the vectors of their windows: what training and evaluation start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from halsted_ray.atlas import Atlas
from halsted_ray.embedding.embed import EmbedProgress, embed
from halsted_ray.embedding.vector_names import open_vectors
from halsted_ray.errors import AtlasError
from halsted_ray.model.encoder_identity import EncoderIdentity
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.records import Window, WindowSpec
from halsted_ray.storage.vectors import sampling_name
from halsted_ray.taxonomy import Taxonomy
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

FIDELITY = "reference"
"""How frames are decoded: as mapping does by default, so that one store of vectors serves both."""


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

    The windows of the training part are shifted, chosen and weighted as the recipe says; the windows of other parts lie
    on the map's grid. Raises AtlasError where no video of the part is annotated.
    """
    tasks = tasks_to_learn(taxonomy, recipe.tasks)
    choices = (recipe.shifts_s, recipe.least_share, recipe.ai_weight) if part == "train" else ((0.0,), HALF_SHARE, 1.0)
    shifts_s, least_share, ai_weight = choices
    samples = {}
    for video in atlas.videos:
        if split.get(video.video_id) == part:
            clips = [clip for clip in atlas.clips if clip.video_id == video.video_id]
            samples[video.video_id] = label_windows(
                training_windows(video.duration_s, spec, shifts_s), clips, tasks, least_share, ai_weight
            )
    if not any(samples.values()):
        raise AtlasError(
            f"the atlas {atlas.name!r} has no annotated video in its {part!r} part ({len(samples)} videos, "
            f"{len(atlas.videos)} in all); give its split at least one"
        )
    return {video_id: of_video for video_id, of_video in samples.items() if of_video}


def unique_windows(samples: Sequence[LabelledWindow]) -> list[Window]:
    """The windows of ``samples``, each once, in their order."""
    return list(dict.fromkeys(sample.window for sample in samples))
