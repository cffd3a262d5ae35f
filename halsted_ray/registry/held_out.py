"""Measures one model on the frozen test videos of an atlas: its predictions, its speed, and its training videos."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from halsted_ray.atlas import Atlas
from halsted_ray.embedding.embed import embed
from halsted_ray.embedding.vector_names import open_vectors
from halsted_ray.evaluation.folds import operation_of_video
from halsted_ray.evaluation.migration import Migration, require_bridge
from halsted_ray.evaluation.predictions import TagPredictions, predict, tag_targets
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.records import WindowSpec
from halsted_ray.storage.vectors import sampling_name
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.training.atlas_samples import FIDELITY, JUDGED, labelled_windows, unique_windows
from halsted_ray.training.samples import LabelledWindow, build_samples, with_vectors

PART = "test"
TIMING_ROUNDS = 5
TIMED_WINDOWS = 512


@dataclass(frozen=True)
class HeldOutResult:
    """What ``HeldOutBenchmark.measure`` found about one model.

    ``windows_per_s``: windows tagged per second from their vectors. ``learned_test_videos``: the test videos that the
    model was trained or chosen on; None where its training videos are not known.
    """

    predictions: list[TagPredictions]
    windows_per_s: float
    learned_test_videos: tuple[str, ...] | None


@dataclass(frozen=True)
class HeldOutBenchmark:
    """The test clips and windows of an atlas with their labels. Every model is measured on the same ones.

    A model must serve both: clips are the paper's unit, windows are what a map asks. They count alike in the gate.

    ``labelled``: by video_id. ``store``: where the vectors of windows are kept.
    """

    atlas: Atlas
    taxonomy: Taxonomy
    operations: Mapping[str, Mapping[str, str]]
    """video_id to the operation's specialty and procedure."""
    spec: WindowSpec
    labelled: Mapping[str, list[LabelledWindow]]
    store: str

    @classmethod
    def of(cls, atlas: Atlas, spec: WindowSpec, store: str | None = None) -> HeldOutBenchmark:
        """Makes the benchmark from the annotated clips and the windows of ``spec``.

        ``store``: default ``embeddings`` in the archive.

        Raises AtlasError where the atlas has no test video.
        """
        taxonomy = atlas.load_taxonomy()
        labelled = labelled_windows(atlas, PART, atlas.split, taxonomy, JUDGED, spec)
        judged = {video_id: [sample for sample in own if sample.judged] for video_id, own in sorted(labelled.items())}
        return cls(
            atlas,
            taxonomy,
            operation_of_video(atlas.clips),
            spec,
            judged,
            store or f"{atlas.root.rstrip('/')}/embeddings",
        )

    def measure(
        self,
        model: Halsted,
        learned: set[str] | None,
        migration: Migration | None = None,
        progress: Callable[[float, float], None] | None = None,
    ) -> HeldOutResult:
        """Measures ``model`` in the same way as ``halsted evaluate``.

        ``learned``: the videos that it was trained or chosen on, None where they are not known. ``migration``: from the
        model's taxonomy to the atlas's, where they differ. ``progress`` is called with (seconds of video read, all).

        Raises TaxonomyError where the taxonomies differ and no migration bridges them, AtlasError where a video can't
        be decoded.
        """
        require_bridge(model.taxonomy, self.taxonomy, migration, model.config.version, self.atlas.name)
        encoder = encoder_identity(model.config.encoder_ref)
        model.check_encoder(encoder)
        store = open_vectors(self.store, encoder, sampling_name(self.spec, FIDELITY))
        windows = {video_id: unique_windows(own) for video_id, own in self.labelled.items()}
        videos = [video for video in self.atlas.videos if video.video_id in windows]
        vectors = embed(
            videos, windows, model.config.encoder_ref, store, self.spec, fidelity=FIDELITY, progress=progress
        )
        labelled = with_vectors(self.labelled, vectors)
        test = build_samples(labelled, vectors, Vocabulary(self.taxonomy))
        # ``build_samples`` takes videos by id and their samples in order, which is the order here.
        kind_S = np.array([sample.window.kind for own in labelled.values() for sample in own])
        asked = tag_targets(test, test, self.taxonomy, 0, kind_S, np.full(len(test), ""))
        predictions = predict(model, test, asked, taxonomy=self.taxonomy, migration=migration)
        known = {task.name for task in model.taxonomy.tasks}
        tasks = [self.taxonomy.tasks[k].name for k in test.task_S]
        rows = [n for n, task in enumerate(tasks) if task in known]
        rate = 1 / seconds_per_window(model, test.embeddings_WD[test.window_S[rows]], [tasks[n] for n in rows])
        return HeldOutResult(predictions, rate, None if learned is None else tuple(sorted(learned & set(windows))))


def seconds_per_window(model: Halsted, rows_ND: np.ndarray, tasks: list[str]) -> float:
    """Returns the time to tag one window from its vector: the best of some rounds, since other load only adds time."""
    take = np.resize(np.arange(len(rows_ND)), min(TIMED_WINDOWS, max(len(rows_ND), model.rows_per_pass)))
    timed = []
    for _ in range(TIMING_ROUNDS):
        started_s = time.perf_counter()
        model.tag(rows_ND[take], [tasks[n] for n in take], unit="grid")
        timed.append((time.perf_counter() - started_s) / len(take))
    return min(timed)
