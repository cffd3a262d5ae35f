"""The captions of one part of an atlas with their vectors, as a model of video and text is measured on them."""

from __future__ import annotations

from halsted_ray.atlas import Atlas
from halsted_ray.atlas.captions import captions_for_training
from halsted_ray.embedding.embed import EmbedProgress
from halsted_ray.errors import AtlasError
from halsted_ray.language.captioned_clips import CaptionedClips, load_captioned_clips
from halsted_ray.language.contrast_model import VideoTextModel
from halsted_ray.language.text_encoder import load_text_encoder
from halsted_ray.model.encoder_identity import encoder_identity


def held_out_captions(
    atlas: Atlas,
    part: str,
    model: VideoTextModel,
    embeddings: str,
    progress: EmbedProgress | None = None,
    text_encoder: str | None = None,
) -> CaptionedClips:
    """The captions of the videos of ``part``, with the vectors that ``model`` takes.

    ``embeddings``: where vectors of windows are kept. ``text_encoder``: a folder in place of the model's own. Raises
    AtlasError where the part has no captions, ModelError where an encoder is not the model's.
    """
    held_out = {video.video_id for video in atlas.videos_of(part)}
    captions = [caption for caption in captions_for_training(atlas) if caption.video_id in held_out]
    if not captions:
        raise AtlasError(f"the atlas {atlas.name!r} has no captions in its {part!r} part; name another part or release")
    texts = load_text_encoder(text_encoder or model.config.text_ref or None)
    identity = encoder_identity(model.config.encoder_ref)
    model.check(identity.fingerprint, texts.fingerprint)
    return load_captioned_clips(atlas, captions, identity, texts, model.config.windows, embeddings, progress)
