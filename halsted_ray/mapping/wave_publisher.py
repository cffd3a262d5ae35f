"""Publishes the waves of a run beside the mapping, so that the cluster does not wait for it."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from halsted_ray.mapping.work_list import Wave
from halsted_ray.maps.publishing import TimelineOf, publish
from halsted_ray.maps.staging import Staging
from halsted_ray.maps.table_schemas import Provenance
from halsted_ray.storage.vectors import VectorStore


class WavePublisher:
    """One thread that publishes finished waves, as a context manager. It also packs the vectors of their videos, which
    have come to ``vectors``, and those that an earlier version left there in small files. ``timeline_of`` makes the
    timeline of each video (default: as ``publish`` does)."""

    def __init__(
        self,
        out: str,
        staging: Staging,
        provenance: Provenance,
        vectors: VectorStore,
        timeline_of: TimelineOf | None = None,
    ):
        self.out, self.staging, self.provenance, self.vectors = out, staging, provenance, vectors
        self.timeline_of = timeline_of
        self.version: int | None = None
        """The newest version of the timeline that this run published, None where there is none."""
        self._pool = ThreadPoolExecutor(1, "publish")
        self._running: deque[Future[int | None]] = deque()

    def __enter__(self) -> WavePublisher:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def start(self, wave: Wave) -> None:
        """Has a wave published, all of whose segments are finished, after the waves before it. Raises OutputError where
        a wave before it could not be published."""
        while self._running and self._running[0].done():
            self._take()
        self._running.append(self._pool.submit(self._publish, wave))

    def wait(self) -> None:
        """Returns when all waves that were started are published. Raises OutputError."""
        while self._running:
            self._take()

    def _publish(self, wave: Wave) -> int | None:
        # Before the staged results are removed: a run that is killed here finds the same videos again.
        self.vectors.pack(of_video.video.video_id for of_video in wave.pending)
        return publish(
            self.out,
            self.staging,
            wave.planned,
            self.provenance,
            run_goes_on=True,
            timeline_of=self.timeline_of,
        )

    def _take(self) -> None:
        version = self._running.popleft().result()
        self.version = self.version if version is None else version
