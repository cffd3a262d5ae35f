"""The multi-stage workflow (paper, Methods): coarse windows first, fine ones where a coarse window asks for them.

    coarse windows → vectors → coarse tasks ──► is a fine task possible here?  (probability >= POSSIBLE)
                                                  │ yes: its fine windows → vectors
        every fine window answers the coarse task itself, and gets the fine task that its own answer asks for
        (its answer also replaces the coarse window's for that tag: a step's edge is found to a fine window)

The coarse window decides where to look, the fine one what it shows: a coarse window that holds the end of one step and
the start of the next is sure of the larger part (measured: of 8 such windows 7 gave it 1.0), so its word is not enough.

Which task asks for what stands in the taxonomy (``Task.when``). One segment in, its tags out; no Ray in here: the
archive's actors and the server call the same object. A window's tags depend on nothing but its own frames, its
coarse window's frames and the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from halsted_ray.errors import ModelError
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.profiling import PROCESS_PROFILE
from halsted_ray.records import Prediction, Segment, Window, WindowSpec
from halsted_ray.storage.vectors import WindowKey
from halsted_ray.taxonomy import Task, Taxonomy
from halsted_ray.video.windows import frame_rows, windows_of

POSSIBLE = 0.004
"""Below it a coarse window does not show what a fine task asks for, and none of its fine windows is encoded. Of 14
windows that hold both steps, 0.05 opened 7 and this opens 13: sure of the larger part is what they are taught to be."""


@dataclass(frozen=True)
class SegmentPredictions:
    """What a segment came to. With ``needs_frames`` the vectors at hand were not enough and nothing else is set."""

    tags: list[Prediction] = field(default_factory=list)
    new_vectors: dict[WindowKey, np.ndarray] = field(default_factory=dict)
    used_vectors: int = 0
    needs_frames: bool = False


class Workflow:
    """Callable on one segment. Keeps no state between calls.

    ``tasks``: names of the tasks whose tags are wanted (None: all). What they depend on is asked as well and left
    out of the answer; with ``alone`` it is not, and every fine window is asked every task whatever it shows
    (self-labelling). Without ``alone``, ``spec`` must be the model's. Raises TaxonomyError for an unknown task,
    ModelError for an encoder or a window length that the model was not trained on.
    """

    def __init__(
        self,
        model: Halsted,
        encoder: Encoder,
        spec: WindowSpec | None = None,
        tasks: Sequence[str] | None = None,
        alone: bool = False,
    ):
        model.check_encoder(encoder)
        self.model, self.encoder = model, encoder
        self.spec = spec or model.config.windows
        if self.spec.frames != encoder.frames:
            raise ModelError(f"windows of {self.spec.frames} frames don't fit an encoder of {encoder.frames}")
        taxonomy = model.taxonomy
        self.wanted = [taxonomy.task(name) for name in tasks or [task.name for task in taxonomy.tasks]]
        self.asked = (
            [replace(task, when=(), window="fine") for task in self.wanted]
            if alone
            else needed_tasks(taxonomy, self.wanted)
        )

    def __call__(
        self,
        segment: Segment,
        images_NHWC: np.ndarray | None = None,
        vectors: dict[WindowKey, np.ndarray] | None = None,
        gaps: Iterable[tuple[float, float]] = (),
    ) -> SegmentPredictions:
        """Tags of the segment's windows.

        ``images_NHWC``: uint8, the frames at ``plan.frame_times_s(segment, spec)``, or None to do with ``vectors``
        (of earlier runs) alone. Coarse windows that touch one of ``gaps`` ([start_s, stop_s) that did not decode)
        are left out, with their fine windows.
        """
        gaps = list(gaps)
        desk = _SegmentInference(self, segment, images_NHWC, vectors or {})
        coarse, fine_of = windows_of(segment, self.spec)
        kept = [n for n, w in enumerate(coarse) if not any(a < w.stop_s and w.start_s < b for a, b in gaps)]
        try:
            tags = self._map([coarse[n] for n in kept], [fine_of[n] for n in kept], desk)
        except _FramesNeeded:
            return SegmentPredictions(needs_frames=True)
        wanted = {task.name for task in self.wanted}
        tags = sorted((tag for tag in tags if tag.task in wanted), key=lambda t: (t.start_s, t.task, t.tag))
        return SegmentPredictions(tags, desk.new, desk.used)

    def _map(self, coarse: list[Window], fine_of: list[list[Window]], desk: _SegmentInference) -> list[Prediction]:
        shown = {task.name: desk.ask(task, coarse) for task in self.asked if task.window == "coarse"}
        open_of: dict[str, set[Window]] = {}  # fine task → windows to ask it
        looked_at: list[tuple[int, Task]] = []  # (coarse window, fine task that its fine windows decide on)
        for task in self.asked:
            conditions = self._conditions(task, "coarse")
            if task.window == "coarse" or (task.when and not conditions):
                continue
            opened = open_of.setdefault(task.name, set())
            for n, fine in enumerate(fine_of):
                chances = [shown[owner][n].chance(tag, category) for owner, tag, category in conditions]
                if not conditions:
                    opened.update(fine)
                elif all(chance >= POSSIBLE for chance in chances):
                    looked_at.append((n, task))
        refining = {n: {} for n, _ in looked_at}  # coarse window → tag that its fine windows answer → that tag's task
        for n, task in looked_at:
            refining[n] |= {tag: owner for owner, tag, _ in self._conditions(task, "coarse")}
        desk.encode(
            sorted(
                {w for windows in open_of.values() for w in windows} | {w for n in refining for w in fine_of[n]},
                key=_start_s,
            )
        )

        tags = [
            tag
            for name, answers in shown.items()
            for n, (window, answer) in enumerate(zip(coarse, answers, strict=True))
            for tag in answer.tags(window, name)
            if tag.tag not in refining.get(n, {})
        ]
        own = {name: self._own_answers(name, refining, fine_of, desk) for name in shown}
        tags += [
            tag
            for name, answers in own.items()
            for window, answer in answers.items()
            for tag in answer.tags(window, name)
            if tag.tag in refining[self._index_of(window, coarse)]
        ]
        for n, task in looked_at:
            open_of[task.name].update(
                window
                for window in fine_of[n]
                if all(
                    own[owner][window].chosen[tag][0] == category
                    for owner, tag, category in self._conditions(task, "coarse")
                )
            )
        return tags + self._ask_fine(open_of, desk)

    def _own_answers(
        self, name: str, refining: dict[int, dict[str, str]], fine_of: list[list[Window]], desk: _SegmentInference
    ) -> dict[Window, WindowPrediction]:
        """The answers of fine windows to a coarse task, where they are looked at."""
        windows = [window for n in sorted(refining) if name in refining[n].values() for window in fine_of[n]]
        return dict(zip(windows, desk.ask(self.model.taxonomy.task(name), windows), strict=True))

    def _ask_fine(self, open_of: dict[str, set[Window]], desk: _SegmentInference) -> list[Prediction]:
        """Tags of the fine tasks; a task that asks for another fine task's tag comes after it."""
        answers: dict[str, dict[Window, WindowPrediction]] = {}
        waiting = [task for task in self.asked if task.window == "fine"]
        while waiting:
            task = next((t for t in waiting if all(o in answers for o, _, _ in self._conditions(t, "fine"))), None)
            if task is None:
                raise ModelError(
                    f"tasks {[t.name for t in waiting]} of taxonomy {self.model.taxonomy.name!r} wait "
                    "for each other; change their 'when'"
                )
            waiting.remove(task)
            conditions = self._conditions(task, "fine")
            windows = set(open_of[task.name]) if task.name in open_of else set(answers[conditions[0][0]])
            for owner, tag, category in conditions:
                windows &= {w for w, answer in answers[owner].items() if answer.chosen[tag][0] == category}
            order = sorted(windows, key=_start_s)
            answers[task.name] = dict(zip(order, desk.ask(task, order), strict=True))
        return [
            tag
            for name, of_windows in answers.items()
            for window, answer in of_windows.items()
            for tag in answer.tags(window, name)
        ]

    def _conditions(self, task: Task, window: str) -> list[tuple[str, str, str]]:
        """(task that answers the tag, tag, category) of what ``task`` asks for, of tasks with this kind of window."""
        owners = [(self.model.taxonomy.task_of_tag(tag), tag, category) for tag, category in task.when]
        return [(owner.name, tag, category) for owner, tag, category in owners if owner.window == window]

    def _index_of(self, fine: Window, coarse: list[Window]) -> int:
        return next(n for n, window in enumerate(coarse) if window.start_s <= fine.start_s < window.stop_s)


@dataclass(frozen=True)
class WindowPrediction:
    """One task's answer about one window, with the probability of every category."""

    chosen: dict[str, tuple[str, float]]
    probabilities: dict[str, np.ndarray]
    categories: dict[str, tuple[str, ...]]

    def chance(self, tag: str, category: str) -> float:
        return float(self.probabilities[tag][self.categories[tag].index(category)])

    def tags(self, window: Window, task: str) -> list[Prediction]:
        return [
            Prediction(window.start_s, window.stop_s, task, tag, category, confidence)
            for tag, (category, confidence) in self.chosen.items()
        ]


class _FramesNeeded(Exception):
    """A vector is missing and there are no frames to make it from."""


class _SegmentInference:
    """What is at hand for one segment: frames, vectors known and made, and the model to ask."""

    def __init__(
        self, workflow: Workflow, segment: Segment, images_NHWC: np.ndarray | None, vectors: dict[WindowKey, np.ndarray]
    ):
        self.workflow, self.segment, self.images_NHWC = workflow, segment, images_NHWC
        self.known = vectors
        self.new: dict[WindowKey, np.ndarray] = {}
        self.used = 0
        self.vectors: dict[Window, np.ndarray] = {}

    def encode(self, windows: Iterable[Window]) -> None:
        """Vectors of ``windows``, from the store or from frames; all that are missing in one batch."""
        missing = []
        for window in dict.fromkeys(windows):
            if window in self.vectors:
                continue
            key = (window.kind, window.start_s, window.stop_s)
            if key in self.known:
                self.vectors[window] = self.known[key]
                self.used += 1
            else:
                missing.append((window, key))
        if not missing:
            return
        if self.images_NHWC is None:
            raise _FramesNeeded
        with PROCESS_PROFILE.stage("encode"):
            rows = np.stack([frame_rows(window, self.segment, self.workflow.spec) for window, _ in missing])
            vectors_ND = self.workflow.encoder.encode(self.images_NHWC[rows])
        for (window, key), vector in zip(missing, vectors_ND, strict=True):
            self.vectors[window] = self.new[key] = vector

    def ask(self, task: Task, windows: Sequence[Window]) -> list[WindowPrediction]:
        if not windows:
            return []
        self.encode(windows)
        with PROCESS_PROFILE.stage("generate"):
            rows, distributions = self.workflow.model.tag(
                np.stack([self.vectors[window] for window in windows]), task.name, return_probabilities=True
            )
        categories = {tag.name: tag.categories for tag in task.tags}
        return [WindowPrediction(row, shares, categories) for row, shares in zip(rows, distributions, strict=True)]


def needed_tasks(taxonomy: Taxonomy, wanted: Sequence[Task]) -> list[Task]:
    """``wanted`` and the tasks whose tags they ask for, in the taxonomy's order."""
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
    """Names of the tasks that a person asked for, by name ('all' or None: every one) or by instruction."""
    if instruction is not None:
        return [taxonomy.task_of_instruction(instruction).name]
    if tasks is None or tasks == "all" or list(tasks) == ["all"]:
        return [task.name for task in taxonomy.tasks]
    asked = {taxonomy.task(name).name for name in ([tasks] if isinstance(tasks, str) else tasks)}
    return [task.name for task in taxonomy.tasks if task.name in asked]


def _start_s(window: Window) -> float:
    return window.start_s
