"""Publishes the waves of a run, each beside the mapping of the next wave, so that the cluster does not wait for it."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from halsted_ray.mapping.work_list import Wave
from halsted_ray.maps.publishing import publish
from halsted_ray.maps.staging import Staging
from halsted_ray.maps.table_schemas import Provenance
from halsted_ray.storage.vectors import VectorStore


class WavePublisher:
    """One thread that publishes finished waves, as a context manager. It also packs the vectors of their videos, which
    have come to ``vectors``, and those that an earlier version left there in small files."""

    def __init__(self, out: str, staging: Staging, provenance: Provenance, vectors: VectorStore):
        self.out, self.staging, self.provenance, self.vectors = out, staging, provenance, vectors
        self.version: int | None = None
        """The newest version of the timeline that this run published, None where there is none."""
        self._pool = ThreadPoolExecutor(1, "publish")
        self._running: Future[int | None] | None = None

    def __enter__(self) -> WavePublisher:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._pool.shutdown()

    def start(self, wave: Wave) -> None:
        """Begins to publish a wave, all of whose segments are finished. The wave before must have been waited for."""
        assert self._running is None, "the wave before is still being published"
        self._running = self._pool.submit(self._publish, wave)

    def wait(self) -> None:
        """Returns when the wave that was started is published. Raises OutputError."""
        if self._running is not None:
            version = self._running.result()
            self._running = None
            self.version = self.version if version is None else version

    def _publish(self, wave: Wave) -> int | None:
        # Before the staged results are removed: a run that is killed here finds the same videos again.
        self.vectors.pack(wave.planned)
        return publish(self.out, self.staging, wave.planned, self.provenance, run_goes_on=True)
