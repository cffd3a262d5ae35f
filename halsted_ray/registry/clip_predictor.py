"""ClipPredictor takes a table of clips and returns their tags: what a registered version does where it is loaded."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from halsted_ray.errors import UsageError, VideoError
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import UNKNOWN, UNKNOWN_REASON, Window
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.presence import pictures_of

DEADLINE_PER_VIDEO_SECOND = 4.0
"""Seconds of decoding that a second of video may take, beside a minute per clip."""
COLUMNS = ("uri", "start_s", "stop_s", "instruction")


class ClipPredictor:
    """A callable from a table of clips to a table of their tags, one row per clip.

    The input has ``COLUMNS``: [start_s, stop_s) of the video at ``uri``, and one of the taxonomy's instructions. The
    encoder's frames are spread evenly over the clip, as over a window of a map. Clips are decoded one after another.

    The output has ``task``; ``answer``: the tags as text, as the paper shows them; ``tags``: a JSON object from tag to
    {category, confidence}; and ``error``: why a clip has no tags, '' for a clip that has. A clip that is outside of
    what the model has learned has none, and its error begins with ``unknown``.
    """

    def __init__(self, model: str, encoder: str | None = None):
        """Loads the model in the folder ``model``. ``encoder``: default the model's own reference.

        Raises ModelError where either can't be loaded, or the encoder is not the model's own.
        """
        self.model = Halsted.load(model)
        self.encoder = Encoder.load(encoder or self.model.config.encoder_ref)
        self.model.check_encoder(self.encoder)
        self.decoder = DecodeProcess()

    def __call__(self, clips: pd.DataFrame) -> pd.DataFrame:
        """Tags the clips. Raises UsageError for a missing column, a wrong span or an unknown instruction."""
        if missing := [name for name in COLUMNS if name not in clips.columns]:
            raise UsageError(f"the table lacks {', '.join(missing)}; expected the columns {', '.join(COLUMNS)}")
        tasks = [self.model.taxonomy.task_of_instruction(text).name for text in clips["instruction"]]
        rows = []
        for task, uri, start_s, stop_s in zip(tasks, clips["uri"], clips["start_s"], clips["stop_s"], strict=True):
            try:
                vector_D = self._vector(uri, float(start_s), float(stop_s))
            except VideoError as error:
                rows.append({"task": task, "answer": "", "tags": "{}", "error": f"{error.code}: {error}"})
                continue
            if self.model.is_unknown(vector_D[None])[0]:
                rows.append({"task": task, "answer": "", "tags": "{}", "error": f"{UNKNOWN}: {UNKNOWN_REASON}"})
                continue
            found = self.model.tag(vector_D[None], task, unit="clips")[0]
            tags = {tag: {"category": category, "confidence": share} for tag, (category, share) in found.items()}
            text = self.model.text(task, {tag: category for tag, (category, _) in found.items()})
            rows.append({"task": task, "answer": text, "tags": json.dumps(tags, ensure_ascii=False), "error": ""})
        return pd.DataFrame(rows, columns=["task", "answer", "tags", "error"])

    def _vector(self, uri: str, start_s: float, stop_s: float) -> np.ndarray:
        """Returns the clip's vector, float16 [dim]. Raises VideoError where the clip can't be decoded, or has too few
        pictures (``video.presence``)."""
        if not 0 <= start_s < stop_s:
            raise UsageError(f"got a clip from {start_s} to {stop_s} s; expected 0 <= start_s < stop_s")
        times_s = start_s + np.arange(self.encoder.frames) * ((stop_s - start_s) / self.encoder.frames)
        deadline_s = 60 + DEADLINE_PER_VIDEO_SECOND * (stop_s - start_s)
        frames = self.decoder.read_frames(uri, times_s, self.encoder.image_size, deadline_s=deadline_s)
        return self.encoder.encode(pictures_of(frames, Window("clip", start_s, stop_s))[None])[0]
