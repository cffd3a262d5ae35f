"""Annotated clips become labelled windows, and labelled windows become the arrays that batches are cut from.

Legend: W windows, S samples (one window and one task), L tokens of the longest answer, G tags of a task at most,
C clips, D encoder width.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import safetensors.numpy

from halsted_ray.errors import AtlasError
from halsted_ray.model.calibration import Unit
from halsted_ray.model.vocabulary import PAD, Vocabulary
from halsted_ray.records import SYNTHETIC, Clip, Window, WindowSpec
from halsted_ray.storage.files import read_file, write_atomically
from halsted_ray.storage.locations import filesystem
from halsted_ray.storage.vectors import WindowKey
from halsted_ray.taxonomy import Task, Taxonomy

LEAST_SHARE = 0.02
"""A clip that covers a smaller share of a coarse task's window gives no sample: it would teach next to nothing."""
HALF_SHARE = 0.5
TagPairs = tuple[tuple[str, str], ...]
"""((tag, category), …) in the order of the tags' names."""


@dataclass(frozen=True)
class LabelledWindow:
    """A sample: a window, a task, and the tags that one clip (or several clips with the same tags) gives the window.

    ``weight``: share of the window that these clips cover, less where a model labelled them or they are drawn.
    ``judged``: whether these tags are the window's truth in an evaluation: the tags that cover most of the window, and
    at least half of it.
    """

    window: Window
    task: str
    tags: TagPairs
    weight: float
    judged: bool


def training_windows(duration_s: float, spec: WindowSpec, shifts_s: Sequence[float] = (0.0,)) -> list[Window]:
    """Coarse and fine windows of a video, on the map's grid and on the same grid shifted by each of ``shifts_s``.

    A shifted grid holds whole windows only; a shift longer than a window wraps around at the window's length.
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
    synthetic_weight: float = 1.0,
) -> list[LabelledWindow]:
    """Samples of one video's windows, in the order of tasks, windows and falling share.

    A coarse task (macro) gives samples of coarse and of fine windows. A window that holds two steps gives a sample of
    each, weighted by the share of the window that it covers. So the model's probability of a step learns to be that
    share, and the workflow opens a window for a task by this probability. A fine task gives samples of fine windows
    only, and only of a clip that covers at least ``least_share`` of the window. What a model labelled weighs
    ``ai_weight`` times what a person labelled, what is drawn ``synthetic_weight`` times.
    """
    clips = list(clips)
    weights = {"ai": ai_weight, SYNTHETIC: synthetic_weight}
    samples: list[LabelledWindow] = []
    for task in tasks:
        own = [clip for clip in clips if clip.task == task.name]
        if not own:
            continue
        least = LEAST_SHARE if task.window == "coarse" else least_share
        starts_C, stops_C = (np.array([getattr(clip, name) for clip in own]) for name in ("start_s", "stop_s"))
        tags_of_clip: list[TagPairs] = [tuple(sorted(clip.tags.items())) for clip in own]
        for window in windows:
            if window.kind != "fine" and task.window != "coarse":
                continue
            overlap_C = np.minimum(stops_C, window.stop_s) - np.maximum(starts_C, window.start_s)
            shares: dict[TagPairs, float] = {}
            weighted_shares: dict[TagPairs, float] = {}
            for c in np.flatnonzero(overlap_C > 0):
                tags, share = tags_of_clip[c], overlap_C[c] / (window.stop_s - window.start_s)
                shares[tags] = shares.get(tags, 0.0) + share
                weight = weights.get(own[c].source, 1.0)
                weighted_shares[tags] = weighted_shares.get(tags, 0.0) + weight * share
            ranked = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
            for rank, (tags, share) in enumerate(ranked):
                share = min(1.0, float(share))
                if share >= least - 1e-9:
                    weight = min(1.0, float(weighted_shares[tags]))
                    is_judged = rank == 0 and share >= HALF_SHARE - 1e-9
                    samples.append(LabelledWindow(window, task.name, tags, weight, is_judged))
    return samples


@dataclass(frozen=True)
class Samples:
    """The samples of some videos, as row-aligned arrays.

    ``window_S`` points into ``embeddings_WD``, ``video_W``, ``start_s_W``, ``stop_s_W`` and ``of_clip_W``; ``video_W``
    points into ``video_ids``. ``of_clip_W``: whether a window is a clip over its own span and not one of the grid.
    ``task_S``: index of the task in the taxonomy. ``tokens_SL``: the answer's tokens, padded.
    ``truth_SG``: index of each tag's category, -1 where the sample has no such tag.
    """

    embeddings_WD: np.ndarray
    video_W: np.ndarray
    start_s_W: np.ndarray
    stop_s_W: np.ndarray
    of_clip_W: np.ndarray
    window_S: np.ndarray
    task_S: np.ndarray
    tokens_SL: np.ndarray
    truth_SG: np.ndarray
    weight_S: np.ndarray
    judged_S: np.ndarray
    video_ids: tuple[str, ...]

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.window_S)

    def units(self, rows_S: np.ndarray) -> list[Unit]:
        """The unit of each of the samples at ``rows_S``."""
        return ["clips" if of_clip else "grid" for of_clip in self.of_clip_W[self.window_S[rows_S]].tolist()]

    def take(self, rows_S: np.ndarray) -> Samples:
        """The samples at ``rows_S`` (a mask or positions) with their windows alone; ``video_ids`` stay all."""
        windows_W, window_S = np.unique(self.window_S[rows_S], return_inverse=True)
        of_window, of_sample = (
            {name: values[rows] for name, values in vars(self).items() if name.endswith(suffix)}
            for rows, suffix in ((windows_W, ("_W", "_WD")), (rows_S, ("_S", "_SL", "_SG")))
        )
        return Samples(**of_window, **(of_sample | {"window_S": window_S}), video_ids=self.video_ids)

    def save(self, location: str) -> None:
        """Writes one safetensors file to any fsspec location. Raises OutputError."""
        arrays = {name: np.ascontiguousarray(value) for name, value in vars(self).items() if name != "video_ids"}
        data = safetensors.numpy.save(arrays, metadata={"video_ids": json.dumps(self.video_ids)})
        fs, path = filesystem(location)
        write_atomically(fs, path, data)

    @classmethod
    def load(cls, location: str) -> Samples:
        """Reads what ``save`` wrote. Raises FileNotFoundError, StorageUnavailable."""
        fs, path = filesystem(location)
        data = read_file(fs, path)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        video_ids = tuple(json.loads(header["__metadata__"]["video_ids"]))
        return cls(**safetensors.numpy.load(data), video_ids=video_ids)


def build_samples(
    labelled: Mapping[str, Sequence[LabelledWindow]],
    vectors: Mapping[str, Mapping[WindowKey, np.ndarray]],
    vocabulary: Vocabulary,
) -> Samples:
    """Arrays of all samples (``labelled``: video_id → samples) with the vectors of their windows.

    ``vectors``: video_id → (kind, start_s, stop_s) → float16 [D]. Videos come in the order of their ids, and the
    samples of a video in the order of ``labelled``. Raises AtlasError where there is no sample, or a window has no
    vector.
    """
    taxonomy = vocabulary.taxonomy
    videos = sorted(video_id for video_id, samples in labelled.items() if samples)
    if not videos:
        raise AtlasError("the atlas gives no sample: none of its clips covers a window; check the clips' times")
    encoded: dict[tuple[str, TagPairs], tuple[list[int], list[int]]] = {}
    window_rows: dict[tuple[int, Window], int] = {}
    embeddings_W: list[np.ndarray] = []
    window_S, task_S, tokens_SL, truth_SG, weight_S, judged_S = [], [], [], [], [], []
    for number, video_id in enumerate(videos):
        for sample in labelled[video_id]:
            key = (number, sample.window)
            if key not in window_rows:
                window_rows[key] = len(embeddings_W)
                embeddings_W.append(vector_of(vectors, video_id, sample.window))
            if (sample.task, sample.tags) not in encoded:
                encoded[sample.task, sample.tags] = encode_tags(sample, taxonomy.task(sample.task), vocabulary)
            tokens_L, truth_G = encoded[sample.task, sample.tags]
            window_S.append(window_rows[key])
            task_S.append(vocabulary.task_ids[sample.task])
            tokens_SL.append(tokens_L)
            truth_SG.append(truth_G)
            weight_S.append(sample.weight)
            judged_S.append(sample.judged)
    return Samples(
        embeddings_WD=np.stack(embeddings_W).astype(np.float16),
        video_W=np.array([number for number, _ in window_rows], np.int32),
        start_s_W=np.array([window.start_s for _, window in window_rows]),
        stop_s_W=np.array([window.stop_s for _, window in window_rows]),
        of_clip_W=np.array([window.kind == "clip" for _, window in window_rows], bool),
        window_S=np.array(window_S, np.int64),
        task_S=np.array(task_S, np.int64),
        tokens_SL=np.array(tokens_SL, np.int32),
        truth_SG=np.array(truth_SG, np.int32),
        weight_S=np.array(weight_S, np.float32),
        judged_S=np.array(judged_S, bool),
        video_ids=tuple(videos),
    )


def with_vectors(
    labelled: Mapping[str, Sequence[LabelledWindow]], vectors: Mapping[str, Mapping[WindowKey, np.ndarray]]
) -> dict[str, list[LabelledWindow]]:
    """The samples of windows that have a vector: ``embed`` leaves out windows that lack too many pictures."""
    return {
        video_id: [s for s in samples if (s.window.kind, s.window.start_s, s.window.stop_s) in vectors[video_id]]
        for video_id, samples in labelled.items()
    }


def vector_of(vectors: Mapping[str, Mapping[WindowKey, np.ndarray]], video_id: str, window: Window) -> np.ndarray:
    """The vector [D] of one window. Raises AtlasError where it is missing, or holds a value that is not finite."""
    vector = vectors.get(video_id, {}).get((window.kind, window.start_s, window.stop_s))
    if vector is None:
        raise AtlasError(
            f"video {video_id}: no embedding of its {window.kind} window [{window.start_s}, {window.stop_s}) s; "
            "the video could not be decoded there: fix it, or take it out of the atlas"
        )
    if not np.isfinite(vector).all():
        raise AtlasError(
            f"video {video_id}: the embedding of its {window.kind} window [{window.start_s}, {window.stop_s}) s holds "
            "a value that is not finite; delete the video's folder in the embedding store, and the same command makes "
            "it anew"
        )
    return vector


def encode_tags(sample: LabelledWindow, task: Task, vocabulary: Vocabulary) -> tuple[list[int], list[int]]:
    """(token ids padded to the longest answer [L], category index of each tag [G]) of a sample's tags."""
    tags = dict(sample.tags)
    tokens = vocabulary.encode(task.name, tags)
    most_tags = max(len(other.tags) for other in vocabulary.taxonomy.tasks)
    truth = [vocabulary.category_index(task, tag.name, tags[tag.name]) if tag.name in tags else -1 for tag in task.tags]
    return tokens + [PAD] * (vocabulary.length - len(tokens)), truth + [-1] * (most_tags - len(truth))


def tasks_to_learn(taxonomy: Taxonomy, names: Sequence[str]) -> tuple[Task, ...]:
    """The tasks named in ``names``, in the taxonomy's order; all tasks for no names. Raises TaxonomyError."""
    chosen = {taxonomy.task(name).name for name in names}
    return tuple(task for task in taxonomy.tasks if not chosen or task.name in chosen)
