"""Annotated clips become labelled windows, and those become the arrays that batches are cut from.

Legend: W windows, S samples (a window asked one task), L tokens of the longest answer, G tags of a task at most,
D encoder width.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import fsspec
import numpy as np
import safetensors
import safetensors.numpy

from halsted_ray.errors import AtlasError
from halsted_ray.model.vocabulary import PAD, Vocabulary
from halsted_ray.records import Clip, Window, WindowSpec
from halsted_ray.taxonomy import Task, Taxonomy

LEAST_SHARE = 0.02
"""A clip that covers less of a window teaches nothing worth a row."""
HALF_SHARE = 0.5


@dataclass(frozen=True)
class LabelledWindow:
    """A window asked one task, with the answer of one clip (or of several that say the same).

    ``weight``: share of the window that the answer covers, less where a model said so. ``judged``: whether it is the
    window's truth in an evaluation, that is the answer that covers most of it, and at least half.
    """

    window: Window
    task: str
    tags: tuple[tuple[str, str], ...]
    weight: float
    judged: bool


def training_windows(duration_s: float, spec: WindowSpec, shifts_s: Sequence[float] = (0.0,)) -> list[Window]:
    """Coarse and fine windows of a video, on the map's grid and on the same grid shifted by ``shifts_s``.

    A shifted grid holds whole windows only; its shift wraps around at the window's own length.
    """
    found: dict[Window, None] = {}
    for shift_s in shifts_s:
        for kind, length_s in (("coarse", spec.coarse_s), ("fine", spec.fine_s)):
            start_s = shift_s % length_s
            while start_s < duration_s:
                if not shift_s or start_s + length_s <= duration_s:
                    found[Window(kind, start_s, min(start_s + length_s, duration_s))] = None
                start_s += length_s
    return list(found)


def label_windows(
    windows: Sequence[Window],
    clips: Iterable[Clip],
    tasks: Iterable[Task],
    least_share: float = HALF_SHARE,
    ai_weight: float = 1.0,
) -> list[LabelledWindow]:
    """Samples of one video's windows, in the order of windows, tasks and falling weight.

    A coarse task (macro) is asked of coarse and of fine windows, and a window that holds two steps gives a sample
    of each, weighted by the share it covers, so that the model's probability of a step learns to be that share: the
    workflow opens a window for a task by it. A fine task is asked of fine windows, and only of the clip that covers
    at least ``least_share``. A share that a model's clip covers weighs ``ai_weight`` of one that a person's covers.
    """
    clips = list(clips)
    samples: list[LabelledWindow] = []
    for task in tasks:
        own = [clip for clip in clips if clip.task == task.name]
        if not own:
            continue
        asked = [window for window in windows if window.kind == "fine" or task.window == "coarse"]
        least = LEAST_SHARE if task.window == "coarse" else least_share
        starts_C, stops_C = (np.array([getattr(clip, name) for clip in own]) for name in ("start_s", "stop_s"))
        answers = [tuple(sorted(clip.tags.items())) for clip in own]
        for window in asked:
            overlap_C = np.minimum(stops_C, window.stop_s) - np.maximum(starts_C, window.start_s)
            shares: dict[tuple, float] = {}
            trusted: dict[tuple, float] = {}
            for c in np.flatnonzero(overlap_C > 0):
                share = overlap_C[c] / (window.stop_s - window.start_s)
                shares[answers[c]] = shares.get(answers[c], 0.0) + share
                weight = ai_weight if own[c].source == "ai" else 1.0
                trusted[answers[c]] = trusted.get(answers[c], 0.0) + weight * share
            ranked = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
            for rank, (tags, share) in enumerate(ranked):
                share = min(1.0, float(share))
                if share >= least - 1e-9:
                    weight = min(1.0, float(trusted[tags]))
                    samples.append(
                        LabelledWindow(window, task.name, tags, weight, rank == 0 and share >= HALF_SHARE - 1e-9)
                    )
    return samples


@dataclass(frozen=True)
class Samples:
    """Row-aligned arrays. ``window_S`` points into ``embeddings_WD`` and its ``video_W``, ``start_s_W``, ``stop_s_W``;
    ``video_W`` points into ``video_ids``. ``truth_SG`` is the category's index, -1 where the answer has no such tag."""

    embeddings_WD: np.ndarray
    video_W: np.ndarray
    start_s_W: np.ndarray
    stop_s_W: np.ndarray
    window_S: np.ndarray
    task_S: np.ndarray
    tokens_SL: np.ndarray
    truth_SG: np.ndarray
    weight_S: np.ndarray
    judged_S: np.ndarray
    video_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.window_S)

    def take(self, rows_S: np.ndarray) -> Samples:
        """The samples at ``rows_S`` (a mask or positions) with their windows, and no other's; ``video_ids`` stay."""
        windows_W, window_S = np.unique(self.window_S[rows_S], return_inverse=True)
        of_window, of_sample = (
            {name: values[rows] for name, values in vars(self).items() if name.endswith(suffix)}
            for rows, suffix in ((windows_W, ("_W", "_WD")), (rows_S, ("_S", "_SL", "_SG")))
        )
        return Samples(**of_window, **(of_sample | {"window_S": window_S}), video_ids=self.video_ids)

    def save(self, location: str) -> None:
        """One safetensors file at any fsspec location."""
        arrays = {name: np.ascontiguousarray(value) for name, value in vars(self).items() if name != "video_ids"}
        data = safetensors.numpy.save(arrays, metadata={"video_ids": json.dumps(self.video_ids)})
        with fsspec.open(location, "wb", auto_mkdir=True) as file:
            file.write(data)

    @classmethod
    def load(cls, location: str) -> Samples:
        with fsspec.open(location, "rb") as file:
            data = file.read()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        video_ids = tuple(json.loads(header["__metadata__"]["video_ids"]))
        return cls(**safetensors.numpy.load(data), video_ids=video_ids)


def build_samples(
    labelled: Mapping[str, Sequence[LabelledWindow]],
    vectors: Mapping[str, Mapping[tuple[str, float, float], np.ndarray]],
    vocabulary: Vocabulary,
) -> Samples:
    """Arrays of all samples (``labelled``: video_id → samples) with the vectors of their windows.

    ``vectors``: video_id → (kind, start_s, stop_s) → float16 [D]. Raises AtlasError when there is no sample, or a
    window has no vector.
    """
    taxonomy = vocabulary.taxonomy
    videos = sorted(video_id for video_id, samples in labelled.items() if samples)
    if not videos:
        raise AtlasError("the atlas gives no sample: none of its clips covers a window; check the clips' times")
    answers = {}
    rows: dict[tuple[int, Window], int] = {}
    windows, window_S, task_S, tokens_SL, truth_SG, weight_S, judged_S = [], [], [], [], [], [], []
    for number, video_id in enumerate(videos):
        for sample in labelled[video_id]:
            key = (number, sample.window)
            if key not in rows:
                rows[key] = len(windows)
                windows.append(vector_of(vectors, video_id, sample.window))
            answer = answers.get((sample.task, sample.tags))
            if answer is None:
                answer = answers[sample.task, sample.tags] = encoded(sample, taxonomy.task(sample.task), vocabulary)
            window_S.append(rows[key])
            task_S.append(vocabulary.task_ids[sample.task])
            tokens_SL.append(answer[0])
            truth_SG.append(answer[1])
            weight_S.append(sample.weight)
            judged_S.append(sample.judged)
    return Samples(
        embeddings_WD=np.stack(windows).astype(np.float16),
        video_W=np.array([number for number, _ in rows], np.int32),
        start_s_W=np.array([window.start_s for _, window in rows]),
        stop_s_W=np.array([window.stop_s for _, window in rows]),
        window_S=np.array(window_S, np.int64),
        task_S=np.array(task_S, np.int64),
        tokens_SL=np.array(tokens_SL, np.int32),
        truth_SG=np.array(truth_SG, np.int32),
        weight_S=np.array(weight_S, np.float32),
        judged_S=np.array(judged_S, bool),
        video_ids=tuple(videos),
    )


def vector_of(vectors: Mapping, video_id: str, window: Window) -> np.ndarray:
    found = vectors.get(video_id, {}).get((window.kind, window.start_s, window.stop_s))
    if found is None:
        raise AtlasError(
            f"video {video_id}: no embedding of its {window.kind} window [{window.start_s}, {window.stop_s}) s; "
            "the video could not be decoded there: fix it, or take it out of the atlas"
        )
    if not np.isfinite(found).all():
        raise AtlasError(
            f"video {video_id}: the embedding of its {window.kind} window [{window.start_s}, {window.stop_s}) s holds "
            "a value that is not finite; delete the video's folder in the embedding store, it is made again"
        )
    return found


def encoded(sample: LabelledWindow, task: Task, vocabulary: Vocabulary) -> tuple[list[int], list[int]]:
    """(token ids padded to the longest answer, category index of each tag) of a sample's answer."""
    tags = dict(sample.tags)
    tokens = vocabulary.encode(task.name, tags)
    width = max(len(other.tags) for other in vocabulary.taxonomy.tasks)
    truth = [vocabulary.category_index(task, tag.name, tags[tag.name]) if tag.name in tags else -1 for tag in task.tags]
    return tokens + [PAD] * (vocabulary.length - len(tokens)), truth + [-1] * (width - len(truth))


def tasks_to_learn(taxonomy: Taxonomy, names: Sequence[str]) -> tuple[Task, ...]:
    """The tasks by name, in the taxonomy's order; all for no names. Raises TaxonomyError."""
    chosen = {taxonomy.task(name).name for name in names}
    return tuple(task for task in taxonomy.tasks if not chosen or task.name in chosen)
