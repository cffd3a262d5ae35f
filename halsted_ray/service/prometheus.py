"""What Prometheus reads at /metrics. Labels are routes and stages, never tenants, users or videos.

Whichever replica is asked answers for all of them: each one puts what it has counted into the database every ten
seconds, and the sum of these is shown. What a replica counted stays when it ends, so no sum ever falls.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter as Sums
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from halsted_ray.service.database import Database, Figures, lock, now_s

log = logging.getLogger(__name__)
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
NOTE_EVERY_S = 10.0
ENDED, ENDED_AFTER_S = "ended", 3600.0
"""The row that holds the sum of replicas that said nothing for so long."""
Samples = list[list]
"""[name, labels, value] of each series."""


class Metrics:
    """Of one replica, until ``text`` adds the others'. Figures of jobs come from the database and are the site's."""

    def __init__(self, database: Database):
        self.database, self.replica_id = database, uuid.uuid4().hex
        self.counted, self.states = CollectorRegistry(), CollectorRegistry()
        register = {"registry": self.counted}
        self.requests = Counter("halsted_requests", "Requests", ["method", "route", "status"], **register)
        self.request_s = Histogram(
            "halsted_request_seconds", "Time until the answer begins", ["route"], buckets=SECONDS, **register
        )
        self.clip_s = Histogram(
            "halsted_clip_seconds", "Time of a clip by stage", ["stage"], buckets=SECONDS, **register
        )
        self.batch = Histogram(
            "halsted_clip_batch", "Clips that shared a pass of the model", buckets=(1, 2, 4, 8, 16, 32, 64), **register
        )
        self.uploaded = Counter("halsted_uploaded_bytes", "Bytes of videos that came in parts", **register)
        self.jobs = Gauge("halsted_jobs", "Mapping jobs of the site", ["state"], registry=self.states)
        self.mapped_s = Gauge(
            "halsted_mapped_video_seconds", "Video-seconds that jobs have mapped", registry=self.states
        )

    def clip(self, answer: dict, total_s: float) -> None:
        """Counts one answer of ``ClipTagger``."""
        self.batch.observe(answer["batch"])
        for stage, seconds in {**answer["seconds"], "total": total_s}.items():
            self.clip_s.labels(stage).observe(seconds)

    def note(self) -> None:
        """Puts what was counted here into the database."""
        with self.database.writing() as session:
            session.merge(Figures(replica_id=self.replica_id, samples=self._samples(), at_s=now_s()))

    def keep_noting(self) -> None:
        """For a thread of its own, which ends with the process."""
        while True:
            try:
                self.note()
            except DBAPIError as error:
                log.warning("the figures were not kept: %s", type(error.orig).__name__)
            time.sleep(NOTE_EVERY_S)

    def text(self, jobs: Mapping[str, int], mapped_s: float) -> bytes:
        """Of all replicas, in Prometheus' text format."""
        for state in ("queued", "running", "done", "failed", "cancelled"):
            self.jobs.labels(state).set(jobs.get(state, 0))
        self.mapped_s.set(mapped_s)
        with self.database.reading() as session:
            others = session.scalars(select(Figures).where(Figures.replica_id != self.replica_id)).all()
        total = _sum([self._samples(), *(row.samples for row in others)])
        if any(row.at_s < now_s() - ENDED_AFTER_S and row.replica_id != ENDED for row in others):
            self._fold()
        shown = CollectorRegistry()
        shown.register(_Shown(self.counted, total))
        return generate_latest(shown) + generate_latest(self.states)

    def _samples(self) -> Samples:
        return [
            [sample.name, sample.labels, sample.value]
            for family in self.counted.collect()
            for sample in family.samples
            if not sample.name.endswith("_created")
        ]

    def _fold(self) -> None:
        """Adds up the rows of replicas that ended, so that their number does not grow with every restart."""
        with self.database.writing() as session:
            lock(session, "figures")
            rows = session.scalars(
                select(Figures).where((Figures.replica_id == ENDED) | (Figures.at_s < now_s() - ENDED_AFTER_S))
            ).all()
            samples = [
                [name, dict(labels), value] for (name, labels), value in _sum(row.samples for row in rows).items()
            ]
            for row in rows:
                session.delete(row)
            session.flush()
            session.add(Figures(replica_id=ENDED, samples=samples, at_s=now_s()))


def _sum(replicas: Iterable[Samples]) -> dict[tuple[str, tuple], float]:
    total: dict[tuple[str, tuple], float] = Sums()
    for samples in replicas:
        for name, labels, value in samples:
            total[name, tuple(sorted(labels.items()))] += value
    return total


class _Shown:
    """A collector: the families of one replica with the sums of all."""

    def __init__(self, families: CollectorRegistry, total: dict[tuple[str, tuple], float]):
        self.families, self.total = families, total

    def collect(self) -> Iterable[Metric]:
        for family in self.families.collect():
            suffixes = ("_total",) if family.type == "counter" else ("_bucket", "_count", "_sum")
            shown = Metric(family.name, family.documentation, family.type)
            for (name, labels), value in self.total.items():
                if name in {family.name + suffix for suffix in suffixes}:
                    shown.add_sample(name, dict(labels), value)
            yield shown
