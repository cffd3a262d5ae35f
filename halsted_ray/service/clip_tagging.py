"""A short clip and an instruction: 16 frames, one vector, the tags of one task with all their probabilities.

The same encoder, model and decoding process as the batch job; a clip that is one window of a video gets the tags
that the batch job gives to that window.
"""

from __future__ import annotations

import logging
import queue
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from halsted_ray.errors import TaxonomyError, UsageError
from halsted_ray.records import FRAMES_PER_WINDOW
from halsted_ray.service.served_model import ModelSource, Release
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.probe import Probe

logger = logging.getLogger(__name__)
DEADLINE_S = 30.0


class UnknownWords(TaxonomyError):
    """An instruction that the model does not know. ``words``: unknown word → known words like it; ``nearest``:
    instructions like it."""

    def __init__(self, text: str, words: dict[str, list[str]], nearest: list[str]):
        super().__init__(f"unknown instruction {text!r}; expected one of {', '.join(map(repr, nearest))}")
        self.words, self.nearest = words, nearest


def task_of(taxonomy: Taxonomy, instruction: str) -> str:
    """The task that ``instruction`` asks for. Raises UnknownWords."""
    try:
        return taxonomy.task_of_instruction(instruction).name
    except TaxonomyError:
        known = [task.instruction for task in taxonomy.tasks]
        vocabulary = sorted({word for text in known for word in text.casefold().split()})
        words = {
            word: get_close_matches(word, vocabulary, 3, 0.5) or vocabulary
            for word in re.findall(r"\S+", instruction.casefold())
            if word not in vocabulary
        }
        # The nearest first, and none left out: there are a handful.
        close = get_close_matches(instruction.casefold(), known, len(known), 0.0)
        raise UnknownWords(instruction[:200], words, close) from None


@dataclass(frozen=True)
class Loaded:
    """A release in memory."""

    release: Release
    model: object
    encoder: object


@dataclass(frozen=True)
class DecodedClip:
    """16 frames of one clip, and what they are to be asked with which model: a model that is swapped in meanwhile
    answers the next ones."""

    frames_THWC: np.ndarray
    start_s: float
    stop_s: float
    task: str
    loaded: Loaded
    decode_s: float
    ready_s: float
    """When it was decoded, on this process's ``perf_counter``: from then on it waits for the model."""


class ClipTagger:
    """One model in memory. ``read`` is for many threads at once, ``answer`` for one batch at a time."""

    def __init__(
        self,
        source: ModelSource,
        encoder: str | None = None,
        device: str = "cpu",
        decoders: int = 2,
        longest_s: float = 60.0,
    ):
        self.source, self.encoder_ref, self.device, self.longest_s = source, encoder, device, longest_s
        self._processes: queue.SimpleQueue[DecodeProcess] = queue.SimpleQueue()
        for _ in range(decoders):
            self._processes.put(DecodeProcess())
        self.loaded = self._load(source(), None)

    def refresh(self) -> bool:
        """Takes a new version where the source has one; the one before serves until it is loaded, and goes on
        serving where it can't be loaded. True where the model changed."""
        try:
            release = self.source()
            if release.digest == self.loaded.release.digest:
                return False
            self.loaded = self._load(release, self.loaded)
        except UsageError as error:
            logger.warning(
                "a new model can't be taken, version %s goes on serving: %s", self.loaded.release.version, error
            )
            return False
        logger.info("serving version %s (%s) now", release.version, release.digest)
        return True

    def read(
        self, location: str, instruction: str, start_s: float | None = None, stop_s: float | None = None
    ) -> DecodedClip:
        """Frames of ``[start_s, stop_s)`` (default: all of it) of the video at ``location``. Raises UnknownWords,
        UsageError for a span outside, VideoError."""
        loaded = self.loaded
        task = task_of(loaded.release.taxonomy, instruction)
        started_s = time.perf_counter()
        with self._process() as process:
            found = process.probe(location, deadline_s=DEADLINE_S)
            start_s, stop_s = self._span(found, start_s, stop_s)
            times_s = start_s + np.arange(FRAMES_PER_WINDOW) * ((stop_s - start_s) / FRAMES_PER_WINDOW)
            frames = process.read_frames(location, times_s, loaded.encoder.image_size, deadline_s=DEADLINE_S)
        ready_s = time.perf_counter()
        return DecodedClip(frames.images_NHWC, start_s, stop_s, task, loaded, ready_s - started_s, ready_s)

    def answer(self, clips: Sequence[DecodedClip]) -> list[dict]:
        """One answer a clip, in their order; clips of one model share its passes."""
        answers: list[dict] = [{}] * len(clips)
        for loaded in {id(clip.loaded): clip.loaded for clip in clips}.values():
            rows = [n for n, clip in enumerate(clips) if clip.loaded is loaded]
            started_s = time.perf_counter()
            vectors_ND = loaded.encoder.encode(np.stack([clips[n].frames_THWC for n in rows]))
            encoded_s = time.perf_counter()
            tags, shares = loaded.model.tag(vectors_ND, [clips[n].task for n in rows], return_probabilities=True)
            tagged_s = time.perf_counter()
            for n, row, share in zip(rows, tags, shares, strict=True):
                seconds = {
                    "decode": clips[n].decode_s,
                    "queue": started_s - clips[n].ready_s,
                    "encode": encoded_s - started_s,
                    "tag": tagged_s - encoded_s,
                }
                answers[n] = _answer(clips[n], row, share, seconds, len(rows))
        return answers

    def close(self) -> None:
        while not self._processes.empty():
            self._processes.get().close()

    def _load(self, release: Release, before: Loaded | None) -> Loaded:
        from halsted_ray.model.encoder import Encoder
        from halsted_ray.model.halsted import Halsted

        model = Halsted.load(release.path, self.device)
        if before is not None and before.encoder.fingerprint == release.encoder_fingerprint:
            encoder = before.encoder
        else:
            encoder = Encoder.load(self.encoder_ref or release.encoder_ref, device=self.device)
        model.check_encoder(encoder)
        return Loaded(release, model, encoder)

    def _span(self, found: Probe, start_s: float | None, stop_s: float | None) -> tuple[float, float]:
        first_s, last_s = start_s or 0.0, found.duration_s if stop_s is None else min(stop_s, found.duration_s)
        if not 0 <= first_s < last_s:
            raise UsageError(
                f"start_s={start_s}, stop_s={stop_s}: expected a span of the {found.duration_s:.3f} s "
                "that the video lasts"
            )
        if last_s - first_s > self.longest_s:
            raise UsageError(
                f"a clip has at most {self.longest_s:g} s, got {last_s - first_s:.1f} s; give start_s and "
                "stop_s, or upload the video and ask for a map"
            )
        return first_s, last_s

    @contextmanager
    def _process(self) -> Iterator[DecodeProcess]:
        process = self._processes.get()
        try:
            yield process
        finally:
            self._processes.put(process)


def _answer(clip: DecodedClip, row: dict, shares: dict, seconds: dict[str, float], batch: int) -> dict:
    taxonomy = clip.loaded.release.taxonomy
    task = taxonomy.task(clip.task)
    return {
        "model": clip.loaded.release.stamp,
        "task": task.name,
        "instruction": task.instruction,
        "start_s": clip.start_s,
        "stop_s": clip.stop_s,
        "tags": [
            {
                "tag": tag.name,
                "category": row[tag.name][0],
                "confidence": row[tag.name][1],
                "probabilities": dict(zip(tag.categories, map(float, shares[tag.name]), strict=True)),
            }
            for tag in task.tags
        ],
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "batch": batch,
    }
