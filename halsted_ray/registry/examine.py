"""One model on the frozen test videos of an atlas: what it got right, how sure it was, how quick."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import yaml

from halsted_ray.atlas import Atlas
from halsted_ray.embeddings import EmbeddingStore, sampling_name
from halsted_ray.errors import TaxonomyError, UsageError
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import WindowSpec
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.training.embed import embed
from halsted_ray.training.recipe import PAPER
from halsted_ray.training.run import FIDELITY, in_order, labelled_windows
from halsted_ray.training.samples import Labelled
from halsted_ray.video.storage import filesystem

ROUNDS = 5
TIMED_WINDOWS = 512


@dataclass(frozen=True)
class Migration:
    """How the answers of one taxonomy read in another: ``categories`` maps tag → old category → new one."""

    old: str
    new: str
    reason: str
    categories: Mapping[str, Mapping[str, str]]

    @classmethod
    def read(cls, location: str) -> Migration:
        """From a YAML file with ``from``, ``to`` (taxonomy digests), ``reason`` and ``categories``."""
        fs, path = filesystem(location)
        try:
            stated = yaml.safe_load(fs.cat_file(path))
            return cls(stated["from"], stated["to"], stated["reason"], stated["categories"])
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise UsageError(f"the migration {location!r} can't be read: {error!r}; expected YAML with 'from', 'to' "
                             "(taxonomy digests), 'reason' and 'categories' (tag: {old: new})") from error

    def rename(self, tag: str, category: str) -> str:
        return self.categories.get(tag, {}).get(category, category)


@dataclass(frozen=True)
class Examined:
    """V test videos, T tags of the taxonomy, N answers (one a window and tag whose truth is known).

    ``learned_test_videos``: of the test videos those that the model learned from, None where that is not known.
    """

    videos: tuple[str, ...]
    specialties: tuple[str, ...]
    """Of each video, '' where the atlas does not say."""
    tags: tuple[str, ...]
    tasks: tuple[str, ...]
    """Of each tag."""
    right_VT: np.ndarray
    asked_VT: np.ndarray
    confidence_N: np.ndarray
    right_N: np.ndarray
    windows_per_s: float
    learned_test_videos: tuple[str, ...] | None

    def of_tags(self, counted_VT: np.ndarray | None = None) -> dict[str, float]:
        """Tag → exact match over the windows of all videos; tags that nobody asked are left out."""
        counted_VT = np.ones(self.asked_VT.shape, bool) if counted_VT is None else counted_VT
        right_T = np.where(counted_VT, self.right_VT, 0).sum(0)
        asked_T = np.where(counted_VT, self.asked_VT, 0).sum(0)
        return {tag: float(right_T[t] / asked_T[t]) for t, tag in enumerate(self.tags) if asked_T[t]}

    def of_tasks(self, counted_VT: np.ndarray | None = None) -> dict[str, float]:
        """Task → mean of its tags' exact match."""
        of_tags = self.of_tags(counted_VT)
        task_of = dict(zip(self.tags, self.tasks, strict=True))
        return {task: statistics.fmean(value for tag, value in of_tags.items() if task_of[tag] == task)
                for task in dict.fromkeys(task_of[tag] for tag in of_tags)}


@dataclass(frozen=True)
class Bench:
    """The test windows of an atlas with their truth; every model is asked the same."""

    atlas: Atlas
    taxonomy: Taxonomy
    spec: WindowSpec
    truth: dict[str, list[Labelled]]
    """video_id → the samples that judge."""
    store: str

    @classmethod
    def of(cls, atlas: Atlas, spec: WindowSpec, store: str | None = None) -> Bench:
        """Raises AtlasError when the atlas has no test video."""
        taxonomy = atlas.load_taxonomy()
        labelled = labelled_windows(atlas, "test", atlas.split, taxonomy, PAPER, spec)
        judged = {video_id: [sample for sample in own if sample.judged] for video_id, own in labelled.items()}
        return cls(atlas, taxonomy, spec, judged, store or f"{atlas.root.rstrip('/')}/embeddings")

    def examine(self, model: Halsted, learned: set[str] | None, migration: Migration | None = None,
                progress: Callable[[float, float], None] | None = None) -> Examined:
        """What ``model`` answers. ``learned``: the videos it was trained or chosen on, None where not known.

        Raises TaxonomyError when its taxonomy is another than the atlas's and no ``migration`` leads there, AtlasError
        when a video can't be decoded.
        """
        self._check_taxonomy(model, migration)
        encoder = model.load_encoder()
        store = EmbeddingStore(self.store, encoder.fingerprint, sampling_name(self.spec, FIDELITY))
        windows = {video_id: in_order(samples) for video_id, samples in self.truth.items()}
        videos = [video for video in self.atlas.videos if video.video_id in windows]
        vectors = embed(videos, windows, model.config.encoder_ref, store, self.spec, fidelity=FIDELITY,
                        progress=progress)
        known = {task.name for task in model.taxonomy.tasks}
        asked = [(v, sample) for v, video in enumerate(videos) for sample in self.truth[video.video_id]
                 if sample.task in known]
        rows_ND = np.stack([vectors[videos[v].video_id][s.window.kind, s.window.start_s, s.window.stop_s]
                            for v, s in asked])
        answers = model.tag(rows_ND, [sample.task for _, sample in asked])
        tags = [tag.name for tag in self.taxonomy.tags]
        right_VT, asked_VT = np.zeros((2, len(videos), len(tags)))
        confidences, rights = [], []
        for (v, sample), answer in zip(asked, answers, strict=True):
            for tag, category in sample.tags:
                if tag not in answer:
                    continue
                given, confidence = answer[tag]
                right = (migration.rename(tag, given) if migration else given) == category
                asked_VT[v, tags.index(tag)] += 1
                right_VT[v, tags.index(tag)] += right
                confidences.append(confidence)
                rights.append(right)
        ids = [video.video_id for video in videos]
        return Examined(
            tuple(ids), tuple(self._specialty(video_id) for video_id in ids), tuple(tags),
            tuple(self.taxonomy.task_of_tag(tag).name for tag in tags), right_VT, asked_VT, np.array(confidences),
            np.array(rights, bool), 1 / seconds_per_window(model, rows_ND, [sample.task for _, sample in asked]),
            None if learned is None else tuple(sorted(learned & set(ids))),
        )

    def _check_taxonomy(self, model: Halsted, migration: Migration | None) -> None:
        theirs, ours = model.taxonomy.digest, self.taxonomy.digest
        if theirs != ours and (migration is None or (migration.old, migration.new) != (theirs, ours)):
            raise TaxonomyError(
                f"model {model.config.version!r} has taxonomy {model.taxonomy.name!r} {theirs}, the atlas "
                f"{self.atlas.name!r} has {self.taxonomy.name!r} {ours}"
                + (f", and the migration leads from {migration.old} to {migration.new}" if migration else "")
                + f"; name a migration from {theirs} to {ours} (--migration), or an atlas of the model's taxonomy"
            )

    def _specialty(self, video_id: str) -> str:
        return next((clip.tags["specialty"] for clip in self.atlas.clips
                     if clip.video_id == video_id and "specialty" in clip.tags), "")


def seconds_per_window(model: Halsted, rows_ND: np.ndarray, tasks: list[str]) -> float:
    """Time to tag a window from its vector: the quickest of some rounds, since all else is other load."""
    take = np.resize(np.arange(len(rows_ND)), min(TIMED_WINDOWS, max(len(rows_ND), model.rows_per_pass)))
    timed = []
    for _ in range(ROUNDS):
        started_s = time.perf_counter()
        model.tag(rows_ND[take], [tasks[n] for n in take])
        timed.append((time.perf_counter() - started_s) / len(take))
    return min(timed)
