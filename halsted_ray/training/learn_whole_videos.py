"""Learns the refinement of a trained model (``halsted map --refine``) from the atlas's videos that are annotated whole,
and puts it beside the model's weights."""

from __future__ import annotations

from collections.abc import Mapping

from halsted_ray.atlas import Atlas
from halsted_ray.atlas.contents import drawn_videos
from halsted_ray.embedding.embed import EmbedProgress, embed
from halsted_ray.embedding.vector_names import open_vectors
from halsted_ray.model.encoder_identity import EncoderIdentity
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.model_file import read_stated_model
from halsted_ray.records import Video
from halsted_ray.refining.learn import annotated_sequences, learn_refinement
from halsted_ray.storage.vectors import sampling_name
from halsted_ray.training.atlas_samples import FIDELITY
from halsted_ray.training.samples import training_windows
from halsted_ray.video.presence import union

LEAST_ANNOTATED = 0.5
"""A video counts as annotated whole where its clips cover at least this share of it."""


def add_refinement(
    model: str,
    atlas: Atlas,
    split: Mapping[str, str],
    encoder: EncoderIdentity,
    embeddings: str,
    progress: EmbedProgress | None = None,
) -> None:
    """Learns the refinement of the model in the folder ``model`` and saves it there, unless it has one.

    The fine windows of the videos that are annotated whole are decoded and encoded where ``embeddings`` lacks them;
    else this takes about a minute of one core. Raises AtlasError where no training video is annotated whole.
    """
    if read_stated_model(model).refinement_digest:
        return
    trained = Halsted.load(model)
    spec = trained.config.windows
    drawn = drawn_videos(atlas.clips)  # one clip each: no order of clips to learn
    videos = {
        part: [
            video
            for video in atlas.videos
            if split.get(video.video_id) == part and video.video_id not in drawn and _is_whole(video, atlas)
        ]
        for part in ("train", "validation")
    }
    windows = {
        video.video_id: [window for window in training_windows(video.duration_s, spec) if window.kind == "fine"]
        for part in videos.values()
        for video in part
    }
    store = open_vectors(embeddings, encoder, sampling_name(spec, FIDELITY))
    listed = [video for part in videos.values() for video in part]
    vectors = embed(listed, windows, encoder.ref, store, spec, fidelity=FIDELITY, progress=progress) if listed else {}
    parts = {
        part: annotated_sequences(trained, {video.video_id: vectors[video.video_id] for video in own}, atlas.clips)
        for part, own in videos.items()
    }
    learn_refinement(trained, parts["train"], parts["validation"]).save(model)


def _is_whole(video: Video, atlas: Atlas) -> bool:
    spans = union((clip.start_s, clip.stop_s) for clip in atlas.clips if clip.video_id == video.video_id)
    return sum(stop_s - start_s for start_s, stop_s in spans) >= LEAST_ANNOTATED * video.duration_s
