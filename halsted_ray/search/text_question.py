"""Questions in words: a model of video and text puts moments and sentences into one space (``language``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from halsted_ray.errors import UsageError
from halsted_ray.registry.references import resolve
from halsted_ray.search.moments import VideoMoments, cells_of
from halsted_ray.storage.vector_files import VideoVectors
from halsted_ray.storage.vectors import VectorStore

if TYPE_CHECKING:  # they import torch, and a search by example needs none
    from halsted_ray.language.contrast_model import VideoTextModel
    from halsted_ray.language.text_encoder import TextEncoder

CLIP_S = 10.0
"""Windows of so many seconds are one clip, as the model learned clips: an hour has 360 moments."""
LONGEST_TEXT = 500


@dataclass(frozen=True)
class ByText:
    """Moments as a model of video and text projects them. Their vectors have length 1."""

    model: VideoTextModel
    is_centred: bool = False

    @property
    def name(self) -> str:
        """Names the index: one for each model."""
        return f"text-{self.model.digest}"

    def moments(self, found: VideoVectors) -> VideoMoments:
        """The moments of one video. Raises ModelError for vectors of another width than the model learned from."""
        cells = cells_of(found, CLIP_S)
        vectors = [found.vectors_ND[rows].astype(np.float32) for rows in cells.rows]
        projected_MD = self.model.embed_clips(vectors) if vectors else np.zeros((0, self.model.dim), np.float32)
        return VideoMoments(found.video_id, cells.start_s_M, cells.stop_s_M, projected_MD)

    def fits(self, store: VectorStore) -> bool:
        """Whether the vectors of a store are of the encoder that the model learned from."""
        return store.encoder.partition("-")[0] == self.model.encoder_fingerprint

    def check(self, store: VectorStore) -> None:
        """Raises ModelError where the vectors of a store are of another encoder than the model learned from."""
        self.model.check(encoder_fingerprint=store.encoder.partition("-")[0])


@dataclass(frozen=True)
class TextSearch:
    """A model of video and text with its text encoder."""

    by_text: ByText
    encoder: TextEncoder

    @classmethod
    def load(cls, folder: str, text_encoder: str | None = None) -> TextSearch:
        """The model in ``folder``, which may be a version of the registry.

        ``text_encoder``: the folder of its encoder, None for the default that a package carries. Raises ModelError
        where they do not belong together, RegistryError, UsageError for a missing package.
        """
        from halsted_ray.language.contrast_model import load_video_text
        from halsted_ray.language.text_encoder import load_text_encoder

        encoder = load_text_encoder(text_encoder)
        return cls(ByText(load_video_text(resolve(folder), text_fingerprint=encoder.fingerprint)), encoder)

    def vector(self, text: str) -> np.ndarray:
        """float32 [dim], at length 1. Raises UsageError for no words, and for too many."""
        words = " ".join(text.split())
        if not words or len(words) > LONGEST_TEXT:
            raise UsageError(f"text: expected 1 to {LONGEST_TEXT} letters, got {len(words):,}; say it in fewer words")
        vector_D: np.ndarray = self.model.embed_text(self.encoder.encode([words]))[0]
        return vector_D

    @property
    def model(self) -> VideoTextModel:
        """The model alone."""
        return self.by_text.model
