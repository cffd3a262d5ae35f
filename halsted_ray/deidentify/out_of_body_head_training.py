"""Trains the head over stored vectors: on an atlas with ``out_of_body`` labels whose videos have vectors, on drawn
phantoms that go through the encoder, or on both.

Shapes: N windows, D width of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from halsted_ray.atlas.atlas_table import read_atlas
from halsted_ray.deidentify.out_of_body import RATE_HZ
from halsted_ray.deidentify.out_of_body_head import HeadNet, OutOfBodyHead, Source, save_head
from halsted_ray.deidentify.out_of_body_net import SearchSettings
from halsted_ray.deidentify.out_of_body_thresholds import Thresholds, choose_thresholds
from halsted_ray.deidentify.out_of_body_training import (
    VALIDATION_S,
    VALIDATION_SEED,
    VALIDATION_VIDEOS,
    Progress,
    Spans,
    annotated_parts,
    is_outside,
)
from halsted_ray.deidentify.out_of_body_vectors import at_samples
from halsted_ray.deidentify.out_of_body_windows import JudgedWindows, drawn_windows_of, outside_share
from halsted_ray.errors import TrainingError, UsageError
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.phantom.interruptions import make_interruptions, outside_spans
from halsted_ray.processes import process_pool
from halsted_ray.records import Video, WindowSpec
from halsted_ray.storage.vectors import VectorStore, sampling_name

BATCH, RATE, WEIGHT_DECAY, EPOCHS = 256, 2e-3, 1e-2, 30
WHOLE_SHARE = 0.5
"""A window of which this part is outside counts as outside for sure, and less in proportion: a span as long as a window
fills half of one."""
DRAWN_VIDEOS = 240
"""Phantoms to train on."""
TRAINING_SEED, TRAINING_S = 6_000_000, 30.0
"""Of the phantoms to train on. Short ones have more of the outside."""


@dataclass(frozen=True)
class TrainedHead:
    """What a training gave. ``windows``: how many it was trained on; ``videos``: of how many annotated videos;
    ``without_vectors``: ids of annotated videos that have none of these vectors, and so were left out; ``recall`` and
    ``precision``: of the validation videos' seconds, before spans are widened."""

    head: OutOfBodyHead
    windows: int
    videos: int
    without_vectors: tuple[str, ...]
    recall: float
    precision: float


@dataclass(frozen=True)
class Timeline:
    """All windows of a video with vectors, its spans outside, and its length."""

    windows: JudgedWindows
    spans: Spans
    duration_s: float


def train_on_vectors(
    out: str,
    *,
    store: VectorStore | None = None,
    source: Source | None = None,
    atlas: str | None = None,
    release: str | None = None,
    encoder: str | None = None,
    spec: WindowSpec | None = None,
    drawn: int = 0,
    epochs: int = EPOCHS,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = lambda _said: None,
) -> TrainedHead:
    """Trains a head and writes it to the file ``out``.

    ``store`` and ``source``: the vectors to learn from, and what they are. ``atlas``: a place with an atlas whose clips
    of the task ``out_of_body`` say when the camera is outside, as for ``train_out_of_body``: its training part is
    trained on, its validation part sets the thresholds. ``drawn``: phantoms to draw beside; these go through
    ``encoder``, over windows of ``spec``. Without validation videos with vectors, drawn ones set the thresholds.
    ``workers``: processes that draw. The same arguments give the same head on one machine.

    A drawn phantom costs 2 to 4 s of a core, those that set the thresholds 12 s each. Raises AtlasError, ModelError,
    OutputError, StorageUnavailable, TrainingError, UsageError.
    """
    drawing = _Drawing.of(encoder, spec, source) if encoder else None
    source = source or (drawing.source if drawing else None)
    if source is None or (atlas is None and not drawn) or (atlas is not None and store is None):
        raise UsageError("expected an atlas with a store of its vectors, an encoder with drawn phantoms, or both")
    train: list[Timeline] = []
    held_out: list[Timeline] = []
    lacking: list[str] = []
    if atlas is not None and store is not None:
        for timelines, part in zip((train, held_out), annotated_parts(read_atlas(atlas, release)), strict=True):
            found = stored_timelines(store, source, part)
            lacking += sorted({video.video_id for video, _ in part} - found.keys())
            timelines += found.values()
        if not train:
            raise UsageError(
                f"no labelled video of the training part of {atlas!r} has vectors of the encoder {source.fingerprint} "
                f"and the sampling {source.sampling} at {store.location!r}; embed the atlas's videos first"
            )
    parts = [timeline.windows for timeline in train]
    with process_pool(max(1, workers)) as pool:
        if drawn:
            progress(f"drawing {drawn:,} phantoms")
            seeds = range(TRAINING_SEED + seed * 100_000, TRAINING_SEED + seed * 100_000 + drawn)
            parts += _require(drawing).windows(pool, seeds, TRAINING_S, some=True)
        if not any(timeline.spans for timeline in held_out):
            progress("drawing the phantoms that set the thresholds")
            held_out = _require(drawing).timelines(
                pool, range(VALIDATION_SEED, VALIDATION_SEED + VALIDATION_VIDEOS), VALIDATION_S
            )
    windows = JudgedWindows.joined(parts)
    net = fit_head(windows.vectors_ND, windows.share_N, epochs=epochs, seed=seed, progress=progress)
    chosen = thresholds_for(net, source, held_out)
    trained_on = f"{len(windows)} windows, {len(train)} annotated videos, {drawn} drawn phantoms"
    head = OutOfBodyHead(net, source, SearchSettings(chosen.threshold, trained_on, chosen.edge_threshold))
    save_head(head, out)
    return TrainedHead(head, len(windows), len(train), tuple(lacking), chosen.recall, chosen.precision)


def fit_head(
    vectors_ND: NDArray[np.floating],
    share_N: NDArray[np.float64],
    *,
    epochs: int = EPOCHS,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _said: None,
) -> HeadNet:
    """Trains a head on vectors [N, D] and which part of each window is outside [N].

    Inside and outside weigh the same. Raises TrainingError where there are not both, or the loss is not finite.
    """
    targets = np.clip(share_N / WHOLE_SHARE, 0, 1)
    if not 0 < targets.mean() < 1:
        raise TrainingError(f"{np.count_nonzero(targets)} of {len(targets)} windows are outside; expected both kinds")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vectors, target = torch.from_numpy(vectors_ND.astype(np.float32)), torch.from_numpy(targets).float()
        net = HeadNet(vectors.shape[1])
        net.get_buffer("mean").copy_(vectors.mean(0))
        net.get_buffer("deviation").copy_(vectors.std(0).clamp_min(1e-4))
        chance = torch.Generator().manual_seed(seed)
        steps = max(1, len(vectors) // BATCH)
        optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * steps + 1)
        loss_of = nn.BCEWithLogitsLoss(pos_weight=(1 - target).sum() / target.sum())
        net.train()
        for epoch in range(epochs):
            order, total = torch.randperm(len(vectors), generator=chance), 0.0
            for step in range(steps):
                rows = order[step * BATCH : (step + 1) * BATCH]
                loss = loss_of(net(vectors[rows]), 0.98 * target[rows] + 0.01)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += float(loss.detach())
            if not np.isfinite(total):
                raise TrainingError(f"the loss of epoch {epoch + 1} is not finite; look at the vectors")
            progress(f"epoch {epoch + 1} of {epochs}: loss {total / steps:.4f}")
    return net.eval()


def thresholds_for(net: HeadNet, source: Source, timelines: Sequence[Timeline]) -> Thresholds:
    """The thresholds that the rules of ``choose_thresholds`` give for whole videos: each window's score counts for the
    samples in it. Raises TrainingError where nothing is outside."""
    scorer = OutOfBodyHead(net, source, SearchSettings())
    scored = []
    for timeline in timelines:
        cells, duration_s = timeline.windows, timeline.duration_s
        scores_N = scorer.scores(cells.vectors_ND)
        times_s = np.arange(0, duration_s, 1 / RATE_HZ)
        scored.append(
            (
                at_samples(cells.start_s_N, cells.stop_s_N, scores_N, duration_s),
                is_outside(times_s, list(timeline.spans)),
            )
        )
    return choose_thresholds(scored)


def stored_timelines(
    store: VectorStore, source: Source, annotated: Sequence[tuple[Video, Spans]]
) -> dict[str, Timeline]:
    """video_id → the windows of each of ``annotated`` (a video, its spans outside) that has some in ``store``."""
    of_video, timelines = {video.video_id: (video, spans) for video, spans in annotated}, {}
    for found in store.read_videos(of_video):
        rows = np.array([row for row, kind in enumerate(found.kinds) if kind == source.kind], int)
        if not len(rows):
            continue
        video, spans = of_video[found.video_id]
        starts_s, stops_s = found.start_s_N[rows], found.stop_s_N[rows]
        share_N = outside_share(starts_s, stops_s, spans)
        cells = JudgedWindows(starts_s, stops_s, np.array(found.vectors_ND[rows]), share_N)
        timelines[found.video_id] = Timeline(cells, spans, video.duration_s)
    return timelines


@dataclass(frozen=True)
class _Drawing:
    """What draws phantoms through an encoder."""

    ref: str
    spec: WindowSpec
    source: Source

    @classmethod
    def of(cls, ref: str, spec: WindowSpec | None, source: Source | None) -> _Drawing:
        """Raises ModelError where the encoder is not the one of ``source``, or its windows are others."""
        identity = encoder_identity(ref)
        spec = identity.windows(spec)
        own = source_of(identity.fingerprint, spec)
        if source is not None and source != own:
            raise UsageError(
                f"the stored vectors are of {source}, and phantoms would be drawn for {own}; name the encoder and the "
                "windows of the stored vectors"
            )
        return cls(ref, spec, own)

    def windows(self, pool: Executor, seeds: Sequence[int], lasts_s: float, *, some: bool) -> list[JudgedWindows]:
        return drawn_windows_of(pool, self.ref, self.spec, self.source.kind, seeds, lasts_s, some)

    def timelines(self, pool: Executor, seeds: Sequence[int], lasts_s: float) -> list[Timeline]:
        parts = self.windows(pool, seeds, lasts_s, some=False)
        return [
            Timeline(part, outside_spans(make_interruptions(seed, lasts_s)), lasts_s)
            for seed, part in zip(seeds, parts, strict=True)
        ]


def _require(drawing: _Drawing | None) -> _Drawing:
    if drawing is None:
        raise UsageError(
            "no validation video with labels has vectors, so drawn phantoms must set the thresholds; name the encoder "
            "that made the vectors, or give the atlas validation videos with an outside"
        )
    return drawing


def source_of(fingerprint: str, spec: WindowSpec, fidelity: str = "reference") -> Source:
    """The finest windows of the grid ``spec`` of an encoder, as ``halsted embed`` stores them."""
    kind = "coarse" if spec.coarse_s == spec.fine_s else "fine"
    return Source(fingerprint, sampling_name(spec, fidelity), kind, spec.fine_s)
