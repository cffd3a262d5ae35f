"""A data set judged as its literature does: on its published test part, with its figures, frame by frame.

Every fold's model answers for all windows of the map's fine grid, whatever is annotated there, so that no border of the
truth decides what it is asked. Each frame then has the answer of the window that it lies in.

Legend: V videos, N frames, W windows, K categories of a tag, T tools.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from halsted_ray.atlas import Atlas
from halsted_ray.atlas.contents import drawn_videos
from halsted_ray.atlas.groups import groups_of
from halsted_ray.atlas.split import split_by_video
from halsted_ray.embedding.embed import EmbedProgress, embed
from halsted_ray.embedding.vector_names import open_vectors
from halsted_ray.errors import AtlasError
from halsted_ray.evaluation import metrics
from halsted_ray.evaluation.frame_metrics import mean_average_precision
from halsted_ray.evaluation.json_values import Figures, without_nan
from halsted_ray.evaluation.phase_figures import (
    RELAXED_S,
    Neighbours,
    cholec80_neighbours,
    mean_and_sd,
    phase_tables,
)
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Clip, Video, Window, WindowSpec
from halsted_ray.storage.vectors import sampling_name
from halsted_ray.taxonomy import Tag, Task, Taxonomy
from halsted_ray.taxonomy.names import ABSENT_PRESENT
from halsted_ray.training.atlas_samples import FIDELITY
from halsted_ray.training.samples import training_windows

SEVERAL_FOLDS_VALIDATION = 0.2
"""Share of the published training part's groups that validates, where no validation part is published."""


@dataclass(frozen=True)
class Protocol:
    """How a data set is judged. ``step_s``: time between two judged frames. ``is_segmentation``: whether its literature
    gives segmental F1 and SAR-RARP50's score, and not the figures of phases."""

    step_s: float = 1.0
    is_segmentation: bool = False


PROTOCOLS = {"sar_rarp50": Protocol(0.1, is_segmentation=True)}
"""By the name of the taxonomy. Every other data set is judged once per second, as Cholec80."""


def published_splits(source: Atlas, folds: int, seed: int) -> tuple[list[dict[str, str]], str]:
    """(video_id → train, validation or test per fold, how they were drawn in words), with the published test part.

    One fold takes the release's own validation part, where it has one. Otherwise each fold draws its own out of the
    videos to learn from, by group and stratified. Raises AtlasError without a test part or videos to learn from.
    """
    annotated = {clip.video_id for clip in source.clips}
    split = {video_id: part for video_id, part in source.split.items() if video_id in annotated}
    test = {video_id: part for video_id, part in split.items() if part == "test"}
    synthetic = dict.fromkeys(sorted(drawn_videos(source.clips) & set(split)), "train")
    learning = sorted(set(split) - set(test) - set(synthetic))
    if not test or not learning:
        raise AtlasError(
            f"release {source.name!r} has {len(test)} annotated test videos and {len(learning)} to learn from; "
            "expected a data set with a published split (cholec80, sar-rarp50), or a release with --test 0.2: leave "
            "--split published out to cross-validate"
        )
    if folds == 1 and "validation" in split.values():
        return [split], f"published split of {source.name}"
    group_of, share = groups_of(source.videos), SEVERAL_FOLDS_VALIDATION
    drawn = [
        split_by_video(learning, source.clips, validation=share, seed=seed + n, group_of=group_of) | synthetic | test
        for n in range(folds)
    ]
    return drawn, f"published test part of {source.name}; validation drawn from its training part"


def literature_figures(
    source: Atlas,
    taxonomy: Taxonomy,
    models: Sequence[tuple[str, Mapping[str, str]]],
    encoder: str,
    spec: WindowSpec,
    embeddings: str,
    on_embed: EmbedProgress | None = None,
) -> Figures:
    """The literature's figures as JSON values. ``models``: (model, its split) per fold.

    ``folds``: per fold a dict of task → figures (``task_figures``); ``step_s``: time between two frames; ``window_s``:
    length of the windows that answer. A task of which several answers hold at once is not judged so: its figures are
    those of ``benchmarks``. Raises AtlasError where a video can't be decoded.
    """
    protocol = PROTOCOLS.get(taxonomy.name, Protocol())
    testing = {video_id for _, split in models for video_id, part in split.items() if part == "test"}
    videos = [video for video in source.videos if video.video_id in testing]
    windows = {
        video.video_id: [w for w in training_windows(video.duration_s, spec) if w.kind == "fine"] for video in videos
    }
    store = open_vectors(embeddings, encoder_identity(encoder), sampling_name(spec, FIDELITY))
    vectors = embed(videos, windows, encoder, store, spec, fidelity=FIDELITY, progress=on_embed)
    clips_of: dict[str, list[Clip]] = {}
    for clip in source.clips:
        clips_of.setdefault(clip.video_id, []).append(clip)
    folds = []
    for place, split in models:
        model = Halsted.load(place)
        tested = [video for video in videos if split.get(video.video_id) == "test"]
        folds.append(
            {
                task.name: task_figures(task, tested, clips_of, windows, vectors, model, protocol, taxonomy.name)
                for task in taxonomy.tasks
                if not task.several
            }
        )
    figures: Figures = without_nan({"step_s": protocol.step_s, "window_s": spec.fine_s, "folds": folds})
    return figures


def task_figures(
    task: Task,
    videos: Sequence[Video],
    clips_of: Mapping[str, Sequence[Clip]],
    windows: Mapping[str, Sequence[Window]],
    vectors: Mapping[str, Mapping[tuple[str, float, float], np.ndarray]],
    model: Halsted,
    protocol: Protocol,
    data_set: str,
) -> Figures:
    """Figures of one task, of the frames that have a truth.

    ``phases``: tag → ``strict`` and ``relaxed`` figures (``PhaseTables.figures``), or for a segmentation its
    ``accuracy``, ``f1_10`` and ``score``, each [mean, sd] over videos. ``tools``: average precision of each tag of
    ``ABSENT_PRESENT`` and their mean, over all frames (``map``) and as the mean over videos (``map_by_video``).
    """
    single = [tag for tag in task.tags if tag.categories != ABSENT_PRESENT]
    tools = [tag for tag in task.tags if tag.categories == ABSENT_PRESENT]
    labels: dict[str, list[tuple[list[str | None], list[str | None]]]] = {tag.name: [] for tag in single}
    scores: list[tuple[np.ndarray, np.ndarray]] = []
    frames = unanswered = 0
    for video in videos:
        times_N = np.arange(0.0, video.duration_s, protocol.step_s)
        own = [w for w in windows[video.video_id] if (w.kind, w.start_s, w.stop_s) in vectors[video.video_id]]
        if not own:
            continue
        embeddings_WD = np.stack([vectors[video.video_id][w.kind, w.start_s, w.stop_s] for w in own])
        rows, shares = model.tag(embeddings_WD, task.name, unit="grid", return_probabilities=True)
        window_N = windows_at(own, times_N)
        truth = {tag.name: truth_at(clips_of.get(video.video_id, ()), task, tag, times_N) for tag in task.tags}
        known_N = np.array([any(of_tag[n] is not None for of_tag in truth.values()) for n in range(len(times_N))], bool)
        frames += int(known_N.sum())
        unanswered += int((known_N & (window_N < 0)).sum())
        for tag in single:
            judged = [n for n in range(len(times_N)) if truth[tag.name][n] is not None]
            if judged:
                predicted = [rows[window_N[n]][tag.name][0] if window_N[n] >= 0 else None for n in judged]
                labels[tag.name].append((predicted, [truth[tag.name][n] for n in judged]))
        judged = [n for n in range(len(times_N)) if all(truth[tag.name][n] is not None for tag in tools)]
        if tools and judged:
            scores.append(
                (
                    np.array([[present(shares, int(window_N[n]), tag) for tag in tools] for n in judged]),
                    np.array([[truth[tag.name][n] == "Present" for tag in tools] for n in judged]),
                )
            )
    found: Figures = {"frames": frames, "unanswered": unanswered}
    if single:
        found["phases"] = {
            tag.name: segmentation(labels[tag.name])
            if protocol.is_segmentation
            else strict_and_relaxed(labels[tag.name], tag, protocol, data_set)
            for tag in single
            if labels[tag.name]
        }
    if tools:
        each_T, mean = mean_average_precision(scores, "pooled")
        found["tools"] = {
            "map": mean,
            "map_by_video": mean_average_precision(scores)[1],
            "average_precision": {tag.name: float(value) for tag, value in zip(tools, each_T, strict=False)},
        }
    return found


def strict_and_relaxed(
    labels: Sequence[tuple[Sequence[str | None], Sequence[str | None]]], tag: Tag, protocol: Protocol, data_set: str
) -> Figures:
    """``strict`` and ``relaxed`` figures of phases."""
    neighbours: Neighbours | None = cholec80_neighbours(tag.categories) if data_set == "cholec80" else None
    frames = round(RELAXED_S / protocol.step_s)
    return {
        "strict": phase_tables(labels, tag.categories).figures(),
        "relaxed": phase_tables(labels, tag.categories, frames, neighbours).figures(),
    }


def segmentation(labels: Sequence[tuple[Sequence[str | None], Sequence[str | None]]]) -> Figures:
    """SAR-RARP50's own: [mean, sd] over videos of frame accuracy and F1@10, and the challenge's score, the root of the
    product of both means."""
    accuracy_V = np.array([np.mean([p == t for p, t in zip(*of_video, strict=True)]) for of_video in labels])
    f1_V = np.array(
        [
            metrics.match_spans(metrics.spans_of(predicted), metrics.spans_of(truth), 0.10).f1
            for predicted, truth in labels
        ]
    )
    accuracy, f1 = mean_and_sd(accuracy_V), mean_and_sd(f1_V)
    return {"accuracy": accuracy, "f1_10": f1, "score": math.sqrt(accuracy[0] * f1[0]), "videos": len(labels)}


def windows_at(windows: Sequence[Window], times_N: np.ndarray) -> np.ndarray:
    """The position [N] of the window that each time lies in; -1 where there is none. ``windows``: in rising order."""
    starts_W, stops_W = (np.array([getattr(window, name) for window in windows]) for name in ("start_s", "stop_s"))
    at_N = np.searchsorted(starts_W, times_N + 1e-9, side="right") - 1
    return np.where((at_N >= 0) & (times_N < stops_W[at_N.clip(0)]), at_N, -1)


def truth_at(clips: Sequence[Clip], task: Task, tag: Tag, times_N: np.ndarray) -> list[str | None]:
    """The category of ``tag`` at each time; None where no clip says it."""
    found: list[str | None] = [None] * len(times_N)
    for clip in clips:
        if clip.task == task.name and tag.name in clip.tags:
            first, stop = np.searchsorted(times_N, (clip.start_s - 1e-9, clip.stop_s - 1e-9))
            found[first:stop] = [clip.tags[tag.name]] * int(stop - first)
    return found


def present(shares: Sequence[Mapping[str, np.ndarray]], window: int, tag: Tag) -> float:
    """The probability that a tool is there; 0 for a frame without a window."""
    return float(shares[window][tag.name][tag.categories.index("Present")]) if window >= 0 else 0.0
