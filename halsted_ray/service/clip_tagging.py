"""Tags of a short clip: 16 frames, one vector, the tags of one task with the probability of every category.

The encoder, the model and the decoding process are the same as in the batch job. A clip that is exactly one window of a
video gets the tags that the batch job gives to that window.
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
from typing import TYPE_CHECKING, TypedDict, final

import numpy as np
from numpy.typing import NDArray

from halsted_ray.errors import TaxonomyError, UsageError
from halsted_ray.records import FRAMES_PER_WINDOW, UNKNOWN_REASON, Window
from halsted_ray.service.served_model import ModelSource, ModelStamp, ServedModel
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.video.clip_span import ClipSpan
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.presence import pictures_of

if TYPE_CHECKING:  # these import torch, which only the deployment that tags needs
    from halsted_ray.model.encoder import Encoder
    from halsted_ray.model.halsted import Halsted

logger = logging.getLogger(__name__)
DEADLINE_S = 60.0
"""How long probing a clip and decoding its frames may take together."""


class UnknownWords(TaxonomyError):
    """The model does not know the instruction. ``words``: unknown word → similar known words. ``nearest``: all known
    instructions, the most similar first."""

    def __init__(self, text: str, words: dict[str, list[str]], nearest: list[str]) -> None:
        super().__init__(f"unknown instruction {text!r}; expected one of {', '.join(map(repr, nearest))}")
        self.words, self.nearest = words, nearest


def task_of(taxonomy: Taxonomy, instruction: str) -> str:
    """The name of the task that ``instruction`` asks for. Raises UnknownWords."""
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
        # All of them, since there are only a few.
        close = get_close_matches(instruction.casefold(), known, len(known), 0.0)
        raise UnknownWords(instruction[:200], words, close) from None


@dataclass(frozen=True)
class LoadedModel:
    """A served model in memory, with its encoder."""

    served: ServedModel
    model: Halsted
    encoder: Encoder


@dataclass(frozen=True)
class DecodedClip:
    """16 frames of one clip (uint8, ``frames_THWC``), the task, and the model that will tag them.

    A clip keeps the model that it was decoded for: a model that is loaded meanwhile tags the later clips.
    """

    frames_THWC: NDArray[np.uint8]
    start_s: float
    stop_s: float
    task: str
    loaded: LoadedModel
    decode_s: float
    """How many seconds decoding took."""
    ready_s: float
    """When it was decoded, by this process's ``perf_counter``: from then on the clip waits for the model."""


class TagProbabilities(TypedDict):
    """One tag of a clip: its most probable category, and the probability of every category."""

    tag: str
    category: str
    confidence: float
    probabilities: dict[str, float]


@final
class ClipAnswer(TypedDict):
    """The tags of one clip. ``unknown``: why there are none, where the clip is outside of what the model has learned;
    else ''. ``seconds``: time by stage. ``batch``: how many clips shared the pass of the model."""

    model: ModelStamp
    task: str
    instruction: str
    start_s: float
    stop_s: float
    tags: list[TagProbabilities]
    unknown: str
    seconds: dict[str, float]
    batch: int


@final
class ClipRefusal(TypedDict):
    """Why a clip was not tagged, as a value, since it crosses a process. ``refused``: the code of the error."""

    refused: str
    message: str


class ClipTagger:
    """Tags clips with one model in memory. Many threads may call ``read`` at once, only one thread ``answer``.

    ``encoder``: where the encoder lies, if not where the model says. ``decoders``: number of decoding processes.
    ``longest_s``: the longest clip that is taken.
    """

    def __init__(
        self,
        source: ModelSource,
        encoder: str | None = None,
        device: str = "cpu",
        decoders: int = 2,
        longest_s: float = 60.0,
    ) -> None:
        self.source, self.encoder_ref, self.device, self.longest_s = source, encoder, device, longest_s
        self._processes: queue.SimpleQueue[DecodeProcess] = queue.SimpleQueue()
        for _ in range(decoders):
            self._processes.put(DecodeProcess())
        self.loaded = self._load(source(), None)

    def refresh(self) -> bool:
        """Loads a new model where the source has one, and returns whether the model changed. The model before serves
        until the new model is loaded, and goes on serving where the new model can't be loaded."""
        try:
            served = self.source()
            if served.digest == self.loaded.served.digest:
                return False
            self.loaded = self._load(served, self.loaded)
        except UsageError as error:
            logger.warning(
                "the new model can't be loaded, version %s is still served: %s", self.loaded.served.version, error
            )
            return False
        logger.info("version %s (%s) is served now", served.version, served.digest)
        return True

    def read(
        self, location: str, instruction: str, start_s: float | None = None, stop_s: float | None = None
    ) -> DecodedClip:
        """Decodes the frames of [start_s, stop_s) of the video at ``location``; by default of the whole video.

        Raises UnknownWords, VideoError (also where the span has too few pictures, see ``video.presence``), and
        UsageError for a span that is too long or outside the video.
        """
        loaded = self.loaded
        task = task_of(loaded.served.taxonomy, instruction)
        started_s = time.perf_counter()
        span, size = ClipSpan(start_s, stop_s, self.longest_s, FRAMES_PER_WINDOW), loaded.encoder.image_size
        with self._process() as process:
            first_s, last_s, frames = process.read_clip(location, span, size, deadline_s=DEADLINE_S)
        ready_s = time.perf_counter()
        images_NHWC = pictures_of(frames, Window("clip", first_s, last_s))
        return DecodedClip(images_NHWC, first_s, last_s, task, loaded, ready_s - started_s, ready_s)

    def answer(self, clips: Sequence[DecodedClip]) -> list[ClipAnswer]:
        """One answer per clip, in the order of ``clips``. Clips of one model share its passes."""
        answers: dict[int, ClipAnswer] = {}
        for loaded in {id(clip.loaded): clip.loaded for clip in clips}.values():
            rows = [n for n, clip in enumerate(clips) if clip.loaded is loaded]
            started_s = time.perf_counter()
            vectors_ND = loaded.encoder.encode(np.stack([clips[n].frames_THWC for n in rows]))
            encoded_s = time.perf_counter()
            tasks = [clips[n].task for n in rows]
            tags, shares = loaded.model.tag(vectors_ND, tasks, unit="clips", return_probabilities=True)
            unknown = loaded.model.is_unknown(vectors_ND).tolist()
            tagged_s = time.perf_counter()
            for n, row, share, is_unknown in zip(rows, tags, shares, unknown, strict=True):
                seconds = {
                    "decode": clips[n].decode_s,
                    "queue": started_s - clips[n].ready_s,
                    "encode": encoded_s - started_s,
                    "tag": tagged_s - encoded_s,
                }
                answers[n] = _answer(clips[n], row, share, is_unknown, seconds, len(rows))
        return [answers[n] for n in range(len(clips))]

    def close(self) -> None:
        """Ends the decoding processes."""
        while not self._processes.empty():
            self._processes.get().close()

    def _load(self, served: ServedModel, before: LoadedModel | None) -> LoadedModel:
        """Loads a model. The encoder stays where it is the same as ``before``. Raises ModelError."""
        from halsted_ray.model.encoder import Encoder
        from halsted_ray.model.halsted import Halsted

        model = Halsted.load(served.path, self.device)
        if before is not None and before.encoder.fingerprint == served.encoder_fingerprint:
            encoder = before.encoder
        else:
            encoder = Encoder.load(self.encoder_ref or served.encoder_ref, device=self.device)
        model.check_encoder(encoder)
        return LoadedModel(served, model, encoder)

    @contextmanager
    def _process(self) -> Iterator[DecodeProcess]:
        """A decoding process that no other thread uses; waits for one."""
        process = self._processes.get()
        try:
            yield process
        finally:
            self._processes.put(process)


def _answer(
    clip: DecodedClip,
    row: dict[str, tuple[str, float]],
    shares: dict[str, NDArray[np.float64]],
    is_unknown: bool,
    seconds: dict[str, float],
    batch: int,
) -> ClipAnswer:
    """``row``: tag → (category, confidence). ``shares``: tag → probabilities in the taxonomy's order."""
    taxonomy = clip.loaded.served.taxonomy
    task = taxonomy.task(clip.task)
    return {
        "model": clip.loaded.served.stamp,
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
            for tag in ([] if is_unknown else task.tags)
        ],
        "unknown": UNKNOWN_REASON if is_unknown else "",
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "batch": batch,
    }
