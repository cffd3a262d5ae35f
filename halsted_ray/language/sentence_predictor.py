"""SentencePredictor takes a table of sentences and returns their vectors: what a registered version does."""

from __future__ import annotations

import json

import pandas as pd

from halsted_ray.errors import UsageError
from halsted_ray.language.contrast_model import load_video_text
from halsted_ray.language.text_encoder import load_text_encoder


class SentencePredictor:
    """A callable from a table with the column ``text`` to one with ``vector``, a JSON list of ``dim`` numbers."""

    def __init__(self, model: str, text_encoder: str | None = None):
        """Loads the model in the folder ``model``. ``text_encoder``: default the model's own.

        Raises ModelError where either can't be loaded, or the text encoder is not the model's own.
        """
        self.model = load_video_text(model)
        self.texts = load_text_encoder(text_encoder or self.model.config.text_ref or None)
        self.model.check(text_fingerprint=self.texts.fingerprint)

    def __call__(self, sentences: pd.DataFrame) -> pd.DataFrame:
        """The vectors, one row per sentence. Raises UsageError for a missing column."""
        if "text" not in sentences.columns:
            raise UsageError("the table lacks the column text")
        vectors_ND = self.model.embed_text(self.texts.encode([str(text) for text in sentences["text"]]))
        return pd.DataFrame({"vector": [json.dumps(row) for row in vectors_ND.tolist()]})
