"""The multi-stage workflow (paper, Methods): coarse windows first, fine windows where a coarse one asks for them.

    coarse windows → vectors → coarse tasks ──► can a fine task apply here?  (probability >= LEAST_PROBABILITY)
                                                  │ yes: its fine windows → vectors
        every fine window is asked the coarse task itself, and then the fine task that its own answer asks for
        (its answer also replaces the coarse window's for this tag: the edge of a step is found to a fine window)

The coarse window decides where to look; the fine window decides what is there. A coarse window that holds the end of
one step and the start of the next is sure of the step that fills the larger part (measured: 7 of 8 such windows gave it
a probability of 1.0), so its answer is not enough.

Which task asks for which answers stands in the taxonomy (``Task.when``). One segment in, its tags out, or many segments
side by side (``window_answers``); nothing here knows Ray. The tags of a window depend on nothing but its own frames,
the frames of its coarse window, and the model.

A window that lacks too many of its pictures (``video.presence``) is not asked, and what no window of a task answers for
that reason is told beside the tags. So is what a window does not answer because it is unlike all that the model has
learned (``model.novelty``): an unknown coarse window is not opened, and an unknown fine window gets no fine tags; the
answer of its coarse window to the coarse task stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from halsted_ray.embedding.batching import WindowEncoder
from halsted_ray.errors import ModelError
from halsted_ray.mapping.window_answers import (
    Encode,
    SegmentRun,
    SegmentWindows,
    Steps,
    WindowPrediction,
    ask,
    run_all,
)
from halsted_ray.model.encoder_identity import EncoderIdentity
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Prediction, Segment, Window, WindowSpec
from halsted_ray.storage.vectors import WindowKey
from halsted_ray.taxonomy import Task, Taxonomy
from halsted_ray.video.presence import LEAST_PRESENT, union
from halsted_ray.video.windows import windows_of

LEAST_PROBABILITY = 0.004
"""Where a coarse window gives less than this to the answer that a fine task asks for, none of its fine windows is
encoded for that task. Measured on 14 windows that hold two steps: 0.05 looked into 7 of them, 0.004 into 13, because a
model is taught to be sure of the step that fills the larger part of a window."""


@dataclass(frozen=True)
class SegmentPredictions:
    """What the workflow says about a segment.

    With ``needs_frames`` the stored vectors were not enough, and no other field is set.
    """

    tags: list[Prediction] = field(default_factory=list)
    new_vectors: dict[WindowKey, np.ndarray] = field(default_factory=dict)
    """Vectors that were made from frames, float16 [D] each."""
    used_vectors: int = 0
    """Number of stored vectors that were used."""
    passing_vectors: int = 0
    """Number of vectors that were made from frames and are not to be stored: their windows touch a gap."""
    unasked: tuple[tuple[str, float, float], ...] = ()
    """(task, start_s, stop_s) that a task was not asked, because too little of a window's time has a picture."""
    unknown: tuple[tuple[str, float, float], ...] = ()
    """(task, start_s, stop_s) that has no tags, because it is outside of what the model has learned."""
    needs_frames: bool = False


_WindowsOfTask = dict[str, set[Window]]
_Mapped = tuple[list[Prediction], _WindowsOfTask, _WindowsOfTask]
"""(tags, task → the windows that it would have been asked if they had enough pictures, task → the windows that it has
no tags for because they are unknown)"""


class Workflow:
    """Callable on one segment; ``map_many`` maps many segments from their stored vectors. Keeps no state between calls.

    ``tasks`` are the names of the tasks whose tags are wanted (None: all). The tasks that they depend on are asked too
    and left out of the result. ``encoder``: its identity is enough where no frames are given. ``spec`` must be the
    model's, unless ``ask_every_window``: then every window of ``spec.fine_s`` is asked every wanted task and nothing
    else (self-labelling). ``least_present`` is the share of a window's time that must have a picture
    (``video.presence``). Raises TaxonomyError for an unknown task, and ModelError for an encoder or a number of frames
    that the model was not trained on.
    """

    def __init__(
        self,
        model: Halsted,
        encoder: WindowEncoder | EncoderIdentity,
        spec: WindowSpec | None = None,
        tasks: Sequence[str] | None = None,
        ask_every_window: bool = False,
        least_present: float = LEAST_PRESENT,
    ):
        model.check_encoder(encoder)
        self.least_present = least_present
        self.model, self.encoder = model, encoder
        self.spec = replace(spec, frames=encoder.frames) if spec else model.config.windows
        if self.spec.frames != encoder.frames:
            raise ModelError(
                f"windows of {self.spec.frames} frames don't fit an encoder of {encoder.frames} frames; "
                "use the encoder that the model was trained with"
            )
        taxonomy = model.taxonomy
        self.wanted = [taxonomy.task(name) for name in tasks or [task.name for task in taxonomy.tasks]]
        self.asked = (
            [replace(task, when=(), window="fine") for task in self.wanted]
            if ask_every_window
            else needed_tasks(taxonomy, self.wanted)
        )
        self.conditions = {
            (task.name, window): self._conditions(task, window) for task in self.asked for window in ("coarse", "fine")
        }

    def __call__(
        self,
        segment: Segment,
        images_NHWC: np.ndarray | None = None,
        vectors: Mapping[WindowKey, np.ndarray] | None = None,
        gaps: Iterable[tuple[float, float]] = (),
    ) -> SegmentPredictions:
        """Tags of the segment's windows, in order of time, task and tag.

        ``images_NHWC``: uint8, the frames at ``video.windows.frame_times_s(segment, spec)``; None to use only
        ``vectors``, which earlier runs stored. ``gaps``: the spans [start_s, stop_s) without picture, in order.

        A window with too little picture is not asked. Then a fine task has no answer in a fine window; where its coarse
        window was asked, that window's answer to the coarse task stands. Without an answer of the coarse window, no
        task that depends on the answer is asked in the fine windows.
        """
        run = self._begin(segment, images_NHWC, vectors or {}, list(gaps))
        run_all(self.model, [run])
        return self._predictions(run)

    def map_many(
        self, segments: Sequence[Segment], vectors: Sequence[Mapping[WindowKey, np.ndarray]]
    ) -> list[SegmentPredictions]:
        """As a call for each of ``segments`` with its stored ``vectors`` and no frames, with the same results.

        The segments go through the workflow in lockstep, so that the decoder answers all their windows of one step in
        one batch. One mapping may serve all segments of a video. Memory: about 0.2 MB per segment beside the vectors.
        """
        runs = [self._begin(segment, None, stored, []) for segment, stored in zip(segments, vectors, strict=True)]
        run_all(self.model, runs)
        return [self._predictions(run) for run in runs]

    def _begin(
        self,
        segment: Segment,
        images_NHWC: np.ndarray | None,
        stored: Mapping[WindowKey, np.ndarray],
        gaps: list[tuple[float, float]],
    ) -> SegmentRun[_Mapped]:
        windows = SegmentWindows(segment, self.spec, self.encoder, images_NHWC, stored, gaps, self.least_present)
        coarse, fine_of = windows_of(segment, self.spec)
        return SegmentRun(windows, self._map(coarse, [fine_of[n] for n in range(len(coarse))], windows))

    def _predictions(self, run: SegmentRun[_Mapped]) -> SegmentPredictions:
        if run.result is None:
            return SegmentPredictions(needs_frames=True)
        tags, unasked, unknown = run.result
        wanted = {task.name for task in self.wanted}
        tags = sorted((tag for tag in tags if tag.task in wanted), key=lambda t: (t.start_s, t.task, t.tag))
        return SegmentPredictions(
            tags,
            run.windows.new,
            run.windows.used,
            run.windows.passing,
            _spans(unasked, wanted),
            _spans(unknown, wanted),
        )

    def _map(self, coarse: list[Window], fine_of: list[list[Window]], of_segment: SegmentWindows) -> Steps[_Mapped]:
        """The tags of the windows ``coarse``, and of their fine windows ``fine_of[n]`` where a task looks at them; and
        what has none (``_Mapped``)."""
        numbers = [n for n, window in enumerate(coarse) if of_segment.can_ask(window)]
        lost: _WindowsOfTask = {}
        unknown: _WindowsOfTask = {}
        coarse_answers: dict[str, dict[int, WindowPrediction]] = {}  # coarse task → coarse window → answer
        for task in self.asked:
            if task.window == "coarse":
                answers = yield from ask(task, [coarse[n] for n in numbers])
                coarse_answers[task.name] = dict(zip(numbers, answers, strict=True))
                lost[task.name] = {window for n, window in enumerate(coarse) if n not in coarse_answers[task.name]}
                unknown[task.name] = {coarse[n] for n, answer in coarse_answers[task.name].items() if answer.unknown}
        closed = {n for of_window in coarse_answers.values() for n, answer in of_window.items() if answer.unknown}
        open_of: dict[str, set[Window]] = {}  # fine task → windows to ask it
        looked_at: list[tuple[int, Task]] = []  # (coarse window, fine task that its fine windows decide on)
        for task in self.asked:
            conditions = self.conditions[task.name, "coarse"]
            if task.window == "coarse" or (task.when and not conditions):
                continue
            opened, lost_to_task = open_of.setdefault(task.name, set()), lost.setdefault(task.name, set())
            unknown_to_task = unknown.setdefault(task.name, set())
            for n, fine in enumerate(fine_of):
                if n in closed:
                    unknown_to_task.update(fine)
                    continue
                if not conditions:
                    opened.update(filter(of_segment.can_ask, fine))
                elif n not in numbers:
                    lost_to_task.update(fine)
                    continue
                elif all(
                    coarse_answers[owner][n].probability(tag, category) >= LEAST_PROBABILITY
                    for owner, tag, category in conditions
                ):
                    looked_at.append((n, task))
                else:
                    continue
                lost_to_task.update(window for window in fine if not of_segment.can_ask(window))
        # coarse window → tag that its fine windows answer → the task that owns this tag
        refined: dict[int, dict[str, str]] = {n: {} for n, _ in looked_at}
        for n, task in looked_at:
            refined[n] |= {tag: owner for owner, tag, _ in self.conditions[task.name, "coarse"]}
        asked_in = {n: [window for window in fine_of[n] if of_segment.can_ask(window)] for n in refined}
        yield Encode(
            sorted(
                {w for windows in open_of.values() for w in windows} | {w for n in asked_in for w in asked_in[n]},
                key=_start_s,
            )
        )

        tags = []
        for name, of_window in coarse_answers.items():
            for n, answer in of_window.items():
                tags += [tag for tag in answer.tags(coarse[n], name) if tag.tag not in refined.get(n, {})]
        fine_answers: dict[str, dict[Window, WindowPrediction]] = {}
        for name in coarse_answers:
            fine_answers[name] = yield from self._refine(name, refined, asked_in)
        for name, of_window in coarse_answers.items():
            for n in refined:
                for window in fine_of[n] if n in of_window else ():
                    if window not in asked_in[n] or of_segment.unknown.get(window, False):
                        tags += [tag for tag in of_window[n].tags(window, name) if tag.tag in refined[n]]
        tags += [
            tag
            for name, of_fine in fine_answers.items()
            for window, answer in of_fine.items()
            for tag in answer.tags(window, name)
            if tag.tag in refined[_index_of(window, coarse)]
        ]
        for n, task in looked_at:
            unknown[task.name].update(window for window in asked_in[n] if of_segment.unknown[window])
            open_of[task.name].update(
                window
                for window in asked_in[n]
                if not of_segment.unknown[window]
                and all(
                    fine_answers[owner][window].chosen[tag][0] == category
                    for owner, tag, category in self.conditions[task.name, "coarse"]
                )
            )
        fine_tags = yield from self._ask_fine(open_of, lost, unknown)
        return tags + fine_tags, lost, unknown

    def _refine(
        self,
        name: str,
        refined: dict[int, dict[str, str]],
        asked_in: dict[int, list[Window]],
    ) -> Steps[dict[Window, WindowPrediction]]:
        """The answers of fine windows to the coarse task ``name``, for the coarse windows that are looked at."""
        windows = [window for n in sorted(refined) if name in refined[n].values() for window in asked_in[n]]
        answers = yield from ask(self.model.taxonomy.task(name), windows)
        return dict(zip(windows, answers, strict=True))

    def _ask_fine(
        self, open_of: dict[str, set[Window]], lost: _WindowsOfTask, unknown: _WindowsOfTask
    ) -> Steps[list[Prediction]]:
        """Tags of the fine tasks. A task that depends on the tag of another fine task is asked after it, and loses the
        windows that the other task lost or does not know."""
        answers: dict[str, dict[Window, WindowPrediction]] = {}
        waiting = [task for task in self.asked if task.window == "fine"]
        while waiting:
            task = next((t for t in waiting if all(o in answers for o, _, _ in self.conditions[t.name, "fine"])), None)
            if task is None:
                raise ModelError(
                    f"tasks {[t.name for t in waiting]} of taxonomy {self.model.taxonomy.name!r} wait "
                    "for each other; change their 'when'"
                )
            waiting.remove(task)
            conditions = self.conditions[task.name, "fine"]
            windows = set(open_of[task.name]) if task.name in open_of else set(answers[conditions[0][0]])
            for owner, tag, category in conditions:
                windows &= {w for w, answer in answers[owner].items() if answer.chosen[tag][0] == category}
                if task.name not in open_of:
                    lost.setdefault(task.name, set()).update(lost.get(owner, ()))
                    unknown.setdefault(task.name, set()).update(unknown.get(owner, ()))
            in_order = sorted(windows, key=_start_s)
            answered = dict(zip(in_order, (yield from ask(task, in_order)), strict=True))
            unknown.setdefault(task.name, set()).update(w for w, answer in answered.items() if answer.unknown)
            answers[task.name] = {w: answer for w, answer in answered.items() if not answer.unknown}
        return [
            tag
            for name, of_window in answers.items()
            for window, answer in of_window.items()
            for tag in answer.tags(window, name)
        ]

    def _conditions(self, task: Task, window: str) -> list[tuple[str, str, str]]:
        """(task that owns the tag, tag, category): the answers of tasks with this kind of window that ``task`` waits
        for."""
        owners = [(self.model.taxonomy.task_of_tag(tag), tag, category) for tag, category in task.when]
        return [(owner.name, tag, category) for owner, tag, category in owners if owner.window == window]


def needed_tasks(taxonomy: Taxonomy, wanted: Sequence[Task]) -> list[Task]:
    """``wanted`` and the tasks whose tags they depend on, in the taxonomy's order."""
    names = {task.name for task in wanted}
    queue = list(wanted)
    while queue:
        for tag, _ in queue.pop().when:
            owner = taxonomy.task_of_tag(tag)
            if owner.name not in names:
                names.add(owner.name)
                queue.append(owner)
    return [task for task in taxonomy.tasks if task.name in names]


def wanted_tasks(taxonomy: Taxonomy, tasks: str | Sequence[str] | None, instruction: str | None) -> list[str]:
    """Names of the tasks that a person asked for, by name ('all' or None: every task) or by an instruction in words.

    Raises TaxonomyError for an unknown name or instruction.
    """
    if instruction is not None:
        return [taxonomy.task_of_instruction(instruction).name]
    if tasks is None or tasks == "all" or list(tasks) == ["all"]:
        return [task.name for task in taxonomy.tasks]
    asked = {taxonomy.task(name).name for name in ([tasks] if isinstance(tasks, str) else tasks)}
    return [task.name for task in taxonomy.tasks if task.name in asked]


def _spans(of_task: _WindowsOfTask, wanted: set[str]) -> tuple[tuple[str, float, float], ...]:
    """(task, start_s, stop_s) of the windows of each of the tasks ``wanted``; windows that touch are one span."""
    return tuple(
        (name, *span)
        for name, windows in sorted(of_task.items())
        if name in wanted
        for span in union((window.start_s, window.stop_s) for window in windows)
    )


def _index_of(fine: Window, coarse: list[Window]) -> int:
    """Number of the coarse window that holds the window ``fine``."""
    return next(n for n, window in enumerate(coarse) if window.start_s <= fine.start_s < window.stop_s)


def _start_s(window: Window) -> float:
    return window.start_s
