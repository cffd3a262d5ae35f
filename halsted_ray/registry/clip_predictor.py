"""A table of clips in, their tags out: what a registered version answers, wherever it is loaded."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from halsted_ray.errors import UsageError, VideoError
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.video.decode_process import DecodeProcess

DEADLINE_PER_VIDEO_SECOND = 4.0
COLUMNS = ("uri", "start_s", "stop_s", "instruction")


class ClipPredictor:
    """Callable: DataFrame of ``COLUMNS`` -> DataFrame with a row each: ``task``; ``answer``, the text that the paper
    shows; ``tags``, a JSON object of tag -> {category, confidence}; ``error``, why a clip has no answer, else ''.

    A clip is any span of one video that can be opened at ``uri``; its 16 frames are spread evenly over it, as over
    a window of a map. Decodes one clip after another. Raises UsageError for a table or an instruction that is wrong.
    """

    def __init__(self, model: str, encoder: str | None = None):
        self.model = Halsted.load(model)
        self.encoder = Encoder.load(encoder or self.model.config.encoder_ref)
        self.model.check_encoder(self.encoder)
        self.decoder = DecodeProcess()

    def __call__(self, clips: pd.DataFrame) -> pd.DataFrame:
        if missing := [name for name in COLUMNS if name not in clips.columns]:
            raise UsageError(f"the table lacks {', '.join(missing)}; expected the columns {', '.join(COLUMNS)}")
        tasks = [self.model.taxonomy.task_of_instruction(text).name for text in clips["instruction"]]
        answers = []
        for task, uri, start_s, stop_s in zip(tasks, clips["uri"], clips["start_s"], clips["stop_s"], strict=True):
            try:
                vector_D = self._vector(uri, float(start_s), float(stop_s))
            except VideoError as error:
                answers.append({"task": task, "answer": "", "tags": "{}", "error": f"{error.code}: {error}"})
                continue
            row = self.model.tag(vector_D[None], task)[0]
            tags = {tag: {"category": category, "confidence": share} for tag, (category, share) in row.items()}
            text = self.model.text(task, {tag: category for tag, (category, _) in row.items()})
            answers.append({"task": task, "answer": text, "tags": json.dumps(tags, ensure_ascii=False), "error": ""})
        return pd.DataFrame(answers, columns=["task", "answer", "tags", "error"])

    def _vector(self, uri: str, start_s: float, stop_s: float) -> np.ndarray:
        if not 0 <= start_s < stop_s:
            raise UsageError(f"a clip from {start_s} to {stop_s} s; expected 0 <= start_s < stop_s")
        times_s = start_s + np.arange(self.encoder.frames) * ((stop_s - start_s) / self.encoder.frames)
        deadline_s = 60 + DEADLINE_PER_VIDEO_SECOND * (stop_s - start_s)
        frames = self.decoder.read_frames(uri, times_s, self.encoder.image_size, deadline_s=deadline_s)
        return self.encoder.encode(frames.images_NHWC[None])[0]
