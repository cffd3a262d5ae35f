"""What a workflow asks for while it maps a segment, and how that is answered for one segment or for many in lockstep.

The workflow of a segment is a generator: it yields ``Encode`` and ``Ask``, and is sent the answers. ``run_all`` drives
the generators of any number of segments side by side. What they ask at the same step is one batch of the decoder, which
answers windows of all tasks together:

    segment 1   Encode  Ask(macro, 2)  Encode  Ask(macro, 24)  Ask(micro, 24)
    segment 2   Encode  Ask(macro, 2)  Encode  Ask(macro, 24)  Ask(proficiency, 24)  Ask(context, 9)
                             └── one batch ──┘      └── one batch ──┘   …

An answer does not depend on the other windows of its batch (``model.generation``), so a segment's tags are the same
alone and beside others.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar, cast

import numpy as np

from halsted_ray.embedding.batching import WindowEncoder
from halsted_ray.embedding.embed_stage import encode_windows
from halsted_ray.model.encoder_identity import EncoderIdentity
from halsted_ray.model.halsted import Halsted
from halsted_ray.profiling import THREAD_PROFILE
from halsted_ray.records import Prediction, Segment, Window, WindowSpec
from halsted_ray.storage.vectors import WindowKey
from halsted_ray.taxonomy import Task
from halsted_ray.video.presence import Span, is_asked
from halsted_ray.video.windows import frame_rows, frame_times_s, has_picture

Result = TypeVar("Result")


@dataclass(frozen=True)
class Encode:
    """A request: the vectors of ``windows`` will be needed, so those that are missing are made in one batch."""

    windows: Sequence[Window]


@dataclass(frozen=True)
class Ask:
    """A request: the answer of each of ``windows`` (at least one) to ``task``."""

    task: Task
    windows: Sequence[Window]


@dataclass(frozen=True)
class WindowPrediction:
    """The answer of one window to one task."""

    chosen: dict[str, tuple[str, float]]
    """tag → (category, confidence)"""
    probabilities: dict[str, np.ndarray]
    """tag → float [C], the probability of each of its categories"""
    categories: dict[str, tuple[str, ...]]
    """tag → its C categories"""
    unknown: bool = False
    """Whether the window is outside of what the model has learned (``model.novelty``): then the answer is void."""

    def probability(self, tag: str, category: str) -> float:
        """Probability of ``category`` for ``tag``."""
        return float(self.probabilities[tag][self.categories[tag].index(category)])

    def tags(self, window: Window, task: str) -> list[Prediction]:
        """One prediction per tag of ``task``; none where the window is unknown."""
        if self.unknown:
            return []
        return [
            Prediction(window.start_s, window.stop_s, task, tag, category, confidence)
            for tag, (category, confidence) in self.chosen.items()
        ]


Steps: TypeAlias = Generator[Encode | Ask, list[WindowPrediction], Result]
"""The workflow of a segment: yields requests, is sent the answers (none to ``Encode``), and returns ``Result``."""


def ask(task: Task, windows: Sequence[Window]) -> Steps[list[WindowPrediction]]:
    """The answer of each window to ``task``; asks nothing where there is no window."""
    if not windows:
        return []
    answers = yield Ask(task, windows)
    return answers


class FramesNeeded(Exception):
    """A vector is missing and there are no frames to make it from."""


class SegmentWindows:
    """The windows of one segment while it is mapped: its frames, and its stored and new vectors.

    ``images_NHWC``: uint8, the frames at ``video.windows.frame_times_s(segment, spec)``, or None. ``stored``: vectors
    float16 [D]. ``gaps``: the spans without picture, in order. ``encoder`` makes vectors of frames; where there are no
    frames, its identity is enough.
    """

    def __init__(
        self,
        segment: Segment,
        spec: WindowSpec,
        encoder: WindowEncoder | EncoderIdentity,
        images_NHWC: np.ndarray | None,
        stored: Mapping[WindowKey, np.ndarray],
        gaps: list[Span],
        least_present: float,
    ):
        self.segment, self.spec, self.encoder, self.images_NHWC = segment, spec, encoder, images_NHWC
        self.stored, self.gaps, self.least_present = stored, gaps, least_present
        self.present_T = has_picture(frame_times_s(segment, spec), gaps)
        self.new: dict[WindowKey, np.ndarray] = {}
        self.used = self.passing = 0
        self.vectors: dict[Window, np.ndarray] = {}
        self.unknown: dict[Window, bool] = {}
        """Of the windows that were asked so far: whether they are outside of what the model has learned."""

    def can_ask(self, window: Window) -> bool:
        """Whether enough of the window's time has a picture."""
        if not self.touches_gap(window):
            return True
        present_T = self.present_T[frame_rows([window], self.segment, self.spec)[0]]
        return is_asked(window, self.gaps, present_T, self.least_present)

    def touches_gap(self, window: Window) -> bool:
        """Whether some of the window's time has no picture."""
        return bool(self.gaps) and any(
            start_s < window.stop_s and window.start_s < stop_s for start_s, stop_s in self.gaps
        )

    def encode(self, windows: Iterable[Window]) -> None:
        """Gets the vectors of ``windows``, from the store or from frames; all that are missing in one batch.

        A vector of a window that touches a gap is not among the ``new`` ones, even where the gap lies between two of
        its frames: the store holds vectors of whole windows alone. So a file that is whole is not mapped by a vector
        that a damaged copy gave, and a segment that is mapped from stored vectors alone has no gap. Raises
        FramesNeeded.
        """
        missing = []
        for window in dict.fromkeys(windows):
            if window in self.vectors:
                continue
            key = (window.kind, window.start_s, window.stop_s)
            if key in self.stored:
                self.vectors[window] = self.stored[key]
                self.used += 1
            else:
                missing.append((window, key))
        if not missing:
            return
        if self.images_NHWC is None:
            raise FramesNeeded
        vectors_ND = encode_windows(
            cast(WindowEncoder, self.encoder),
            self.segment,
            self.images_NHWC,
            [window for window, _ in missing],
            self.spec,
            self.present_T,
        )
        for (window, key), vector in zip(missing, vectors_ND, strict=True):
            self.vectors[window] = vector
            if self.touches_gap(window):
                self.passing += 1
            else:
                self.new[key] = vector


class SegmentRun(Generic[Result]):
    """One segment on its way through the workflow.

    ``result`` is what the workflow returned; ``needs_frames`` that it stopped, because a vector is missing. While it is
    under way, ``asked`` is the request that waits for an answer.
    """

    def __init__(self, windows: SegmentWindows, steps: Steps[Result]):
        self.windows, self.steps = windows, steps
        self.asked: Ask | None = None
        self.needs_frames = False
        self.result: Result | None = None

    def advance(self, answers: list[WindowPrediction] | None = None) -> None:
        """Goes on to the next ``Ask``, whose windows then have vectors, or to the end. ``answers``: to the last one."""
        self.asked = None
        try:
            request = next(self.steps) if answers is None else self.steps.send(answers)
            while isinstance(request, Encode):
                self.windows.encode(request.windows)
                request = self.steps.send([])
            self.windows.encode(request.windows)
            self.asked = request
        except StopIteration as finished:
            self.result = finished.value
        except FramesNeeded:
            self.needs_frames = True
            self.steps.close()


def run_all(model: Halsted, runs: Sequence[SegmentRun[Any]]) -> None:
    """Runs every segment of ``runs`` to its end, all of them in lockstep."""
    for run in runs:
        run.advance()
    waiting = [(run, run.asked) for run in runs if run.asked]
    while waiting:
        with THREAD_PROFILE.stage("generate"):
            answers = _answers(model, waiting)
        at = 0
        for run, asked in waiting:
            run.advance(answers[at : at + len(asked.windows)])
            at += len(asked.windows)
        waiting = [(run, run.asked) for run, _ in waiting if run.asked]


def _answers(model: Halsted, waiting: Sequence[tuple[SegmentRun[Any], Ask]]) -> list[WindowPrediction]:
    """The answers of all windows that ``waiting`` asks, in this order, from one call of the model."""
    vectors_ND = np.stack([run.windows.vectors[window] for run, asked in waiting for window in asked.windows])
    tasks = [asked.task for _, asked in waiting for _ in asked.windows]
    same = all(task is tasks[0] for task in tasks)
    names = tasks[0].name if same else [task.name for task in tasks]
    _judge_known(model, waiting)
    unknown = [run.windows.unknown[window] for run, asked in waiting for window in asked.windows]
    rows, distributions = model.tag(vectors_ND, names, unit="grid", return_probabilities=True)
    categories = {
        task.name: {tag.name: tag.categories for tag in task.tags} for task in {t.name: t for t in tasks}.values()
    }
    return [
        WindowPrediction(row, probabilities, categories[task.name], is_unknown)
        for row, probabilities, task, is_unknown in zip(rows, distributions, tasks, unknown, strict=True)
    ]


def _judge_known(model: Halsted, waiting: Sequence[tuple[SegmentRun[Any], Ask]]) -> None:
    """Notes in each run which of the windows that it asks are unknown; a window is judged once for all its tasks."""
    new = [
        (run.windows, window)
        for run, asked in waiting
        for window in dict.fromkeys(asked.windows)
        if window not in run.windows.unknown
    ]
    if new:
        unknown_N = model.is_unknown(np.stack([windows.vectors[window] for windows, window in new]))
        for (windows, window), is_unknown in zip(new, unknown_N.tolist(), strict=True):
            windows.unknown[window] = is_unknown
