"""The script that a user would write to map a video without this package's pipeline, which is measured against it.

For one window after another, decord reads the 16 frames, ``VideoMAEModel`` turns them into a vector, and the decoder
answers token by token without a cache. One process, libraries at their defaults.

    python benchmarks/script.py VIDEO MODEL
"""

from __future__ import annotations

import sys
import time
from importlib.resources import files

import decord
import numpy as np
import torch
from transformers import VideoMAEModel

from halsted_ray.model.generation import generate_token_by_token
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.vocabulary import parse

ENCODER = files("halsted_ray.model") / "weights" / "tiny"
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


class Script:
    """Maps one video. ``rows`` are then (start_s, stop_s, task, tag, category); ``seconds`` says what reading, encoding
    and each task took.

    Windows are read one by one, so that the time of a coarse window is decoded a second time for its fine windows. With
    ``once``, decord is asked for the frames of a coarse window and of its fine windows together.
    """

    def __init__(self, video: str, model: str, once: bool = False):
        self.once = once
        self.model = Halsted.load(model)
        self.encoder = VideoMAEModel.from_pretrained(str(ENCODER), dtype=torch.float32).eval()
        size = self.encoder.config.image_size
        self.reader = decord.VideoReader(video, width=size, height=size)
        self.fps = self.reader.get_avg_fps()
        self.duration_s = len(self.reader) / self.fps
        self.frame_of: dict[int, np.ndarray] = {}
        self.rows: list[tuple] = []
        self.seconds: dict[str, float] = {}

    def run(self) -> list[tuple]:
        """Maps the video; returns ``rows``."""
        coarse_s, fine_s = self.model.config.windows.coarse_s, self.model.config.windows.fine_s
        for start_s in np.arange(0, self.duration_s, coarse_s):
            stop_s = min(start_s + coarse_s, self.duration_s)
            if self.once:
                self.read_ahead(start_s, coarse_s, fine_s)
            answer = self.ask("macro", self.vector(start_s, coarse_s))
            self.keep(start_s, stop_s, "macro", {tag: answer[tag] for tag in ("specialty", "procedure")})
            for first_s in np.arange(start_s, stop_s, fine_s):
                self.map_fine(first_s, min(first_s + fine_s, self.duration_s), self.vector(first_s, fine_s))
        return self.rows

    def map_fine(self, start_s: float, stop_s: float, vector: torch.Tensor) -> None:
        """Asks a fine window for its step, and then the tasks that belong to this step."""
        step = self.ask("macro", vector)["step"]
        self.keep(start_s, stop_s, "macro", {"step": step})
        if step == "Dissection":
            self.keep(start_s, stop_s, "micro", self.ask("micro", vector))
        else:
            answer = self.ask("proficiency", vector)
            self.keep(start_s, stop_s, "proficiency", answer)
            if answer["phase"] == "Driving":
                self.keep(start_s, stop_s, "context", self.ask("context", vector))

    def vector(self, start_s: float, length_s: float) -> torch.Tensor:
        """Float [1, D] of the window that begins at ``start_s``."""
        started_s = time.perf_counter()
        numbers = self.numbers(start_s, length_s, 16)
        frames = torch.from_numpy(
            np.stack([self.frame_of[n] for n in numbers]) if self.once else self.reader.get_batch(numbers).asnumpy()
        )
        self.spend("decode", started_s)
        started_s = time.perf_counter()
        with torch.inference_mode():
            pixels = (frames.permute(0, 3, 1, 2) / 255 - MEAN) / STD
            vector = self.encoder(pixel_values=pixels[None]).last_hidden_state.mean(1)
        self.spend("encode", started_s)
        return vector

    def numbers(self, start_s: float, length_s: float, count: int) -> np.ndarray:
        """Numbers of the frames that are shown at ``count`` times spread over a window."""
        times_s = start_s + np.arange(count) * length_s / count
        return np.minimum((times_s * self.fps + 1e-6).astype(int), len(self.reader) - 1)

    def read_ahead(self, start_s: float, coarse_s: float, fine_s: float) -> None:
        """Reads the frames of a coarse window and of all fine windows in it."""
        started_s = time.perf_counter()
        numbers = np.unique(self.numbers(start_s, coarse_s, round(16 * coarse_s / fine_s)))
        self.frame_of = dict(zip(numbers, self.reader.get_batch(numbers).asnumpy(), strict=True))
        self.spend("decode", started_s)

    def ask(self, task: str, vector: torch.Tensor) -> dict[str, str]:
        """tag → category, as the decoder answers ``task``."""
        started_s = time.perf_counter()
        tasks = torch.tensor([self.model.vocabulary.task_ids[task]])
        (ids,) = generate_token_by_token(
            self.model.decoder, self.model.vocabulary, self.model.grammars["grid"], vector, tasks
        )
        self.spend(task, started_s)
        return parse(self.model.vocabulary.text(ids), self.model.taxonomy, task).tags

    def keep(self, start_s: float, stop_s: float, task: str, tags: dict[str, str]) -> None:
        """Adds the tags of a window to ``rows``."""
        self.rows += [(float(start_s), float(stop_s), task, tag, category) for tag, category in tags.items()]

    def spend(self, on: str, started_s: float) -> None:
        """Adds the time since ``started_s`` to ``seconds``."""
        self.seconds[on] = self.seconds.get(on, 0.0) + time.perf_counter() - started_s


if __name__ == "__main__":
    for row in Script(*sys.argv[1:]).run():
        print(*row, sep="\t")
