"""The metrics that Prometheus reads at /metrics. Labels are routes and stages, never tenants, users or videos.

Whichever replica is asked answers for all replicas: every ten seconds each replica writes what it has counted to the
database, and /metrics shows the sums. What a replica counted is kept when the replica ends, so no sum ever falls.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from halsted_ray.service.clip_tagging import ClipAnswer
from halsted_ray.service.database import Database, lock_row, now_s
from halsted_ray.service.tables import ReplicaMetrics

log = logging.getLogger(__name__)
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""The upper bounds of the histograms' buckets."""
SAVE_EVERY_S = 10.0
ENDED, ENDED_AFTER_S = "ended", 3600.0
"""The id of the row that holds the sum of all ended replicas. A replica that wrote nothing for so long has ended."""
Sample: TypeAlias = tuple[str, dict[str, str], float]
"""(name, labels, value) of one series. As JSON in the database it is a list."""
Series: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""(name, sorted labels)."""


class Metrics:
    """The metrics of one replica; ``render`` adds the metrics of the other replicas.

    The metrics of jobs come from the database and are the whole site's.
    """

    def __init__(self, database: Database) -> None:
        self.database, self.replica_id = database, uuid.uuid4().hex
        self.counted, self.states = CollectorRegistry(), CollectorRegistry()
        self.requests = Counter("halsted_requests", "Requests", ["method", "route", "status"], registry=self.counted)
        self.request_s = Histogram(
            "halsted_request_seconds",
            "Time until the answer begins",
            ["route"],
            buckets=SECONDS,
            registry=self.counted,
        )
        self.clip_s = Histogram(
            "halsted_clip_seconds", "Time of a clip by stage", ["stage"], buckets=SECONDS, registry=self.counted
        )
        self.batch = Histogram(
            "halsted_clip_batch",
            "Clips that shared a pass of the model",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.counted,
        )
        self.uploaded = Counter("halsted_uploaded_bytes", "Bytes of videos that came in parts", registry=self.counted)
        self.jobs = Gauge("halsted_jobs", "Mapping jobs of the site", ["state"], registry=self.states)
        self.cleanings = Gauge("halsted_cleanings", "Uploads to clean, of the site", ["state"], registry=self.states)
        self.proxies = Gauge("halsted_proxies", "Copies for browsers, of the site", ["state"], registry=self.states)
        self.cleaned_s = Gauge("halsted_cleaned_video_seconds", "Video-seconds that were cleaned", registry=self.states)
        self.mapped_s = Gauge(
            "halsted_mapped_video_seconds", "Video-seconds that jobs have mapped", registry=self.states
        )

    def observe_clip(self, answer: ClipAnswer, total_s: float) -> None:
        """Counts one tagged clip, whose answer took ``total_s`` seconds."""
        self.batch.observe(answer["batch"])
        for stage, seconds in {**answer["seconds"], "total": total_s}.items():
            self.clip_s.labels(stage).observe(seconds)

    def save(self) -> None:
        """Writes what this replica has counted to the database."""
        with self.database.writing() as session:
            session.merge(ReplicaMetrics(replica_id=self.replica_id, samples=self._samples(), at_s=now_s()))

    def save_forever(self, tell: Callable[[int], None] = lambda _: None) -> None:
        """Calls ``save`` every ten seconds, and ``tell`` with the number of replicas that share the requests: for a
        thread of its own, which ends with the process."""
        while True:
            try:
                self.save()
                tell(self.replicas())
            except DBAPIError as error:
                log.warning("the metrics were not written to the database or read there: %s", type(error.orig).__name__)
            time.sleep(SAVE_EVERY_S)

    def replicas(self) -> int:
        """How many replicas have written what they counted within the last three times, with this one."""
        with self.database.reading() as session:
            others = session.scalar(
                select(func.count())
                .select_from(ReplicaMetrics)
                .where(
                    ReplicaMetrics.replica_id.not_in((self.replica_id, ENDED)),
                    ReplicaMetrics.at_s > now_s() - 3 * SAVE_EVERY_S,
                )
            )
        return 1 + (others or 0)

    def render(
        self,
        jobs: Mapping[str, int],
        mapped_s: float,
        cleanings: Mapping[str, int],
        cleaned_s: float,
        proxies: Mapping[str, int],
    ) -> bytes:
        """The metrics of all replicas in Prometheus' text format.

        ``jobs``, ``cleanings``, ``proxies``: state → number of jobs that map, that clean, and that copy for browsers.
        ``mapped_s``, ``cleaned_s``: video-seconds that the first two have done.
        """
        for state in ("queued", "running", "done", "failed", "cancelled"):
            self.jobs.labels(state).set(jobs.get(state, 0))
            self.cleanings.labels(state).set(cleanings.get(state, 0))
            self.proxies.labels(state).set(proxies.get(state, 0))
        self.mapped_s.set(mapped_s)
        self.cleaned_s.set(cleaned_s)
        with self.database.reading() as session:
            others = session.scalars(select(ReplicaMetrics).where(ReplicaMetrics.replica_id != self.replica_id)).all()
        sums = _sum([self._samples(), *(row.samples for row in others)])
        if any(row.at_s < now_s() - ENDED_AFTER_S and row.replica_id != ENDED for row in others):
            self._fold()
        shown = CollectorRegistry()
        shown.register(_SumCollector(self.counted, sums))
        return generate_latest(shown) + generate_latest(self.states)

    def _samples(self) -> list[Sample]:
        return [
            (sample.name, sample.labels, sample.value)
            for family in self.counted.collect()
            for sample in family.samples
            if not sample.name.endswith("_created")
        ]

    def _fold(self) -> None:
        """Adds the rows of ended replicas up to one row, so that their number does not grow with every restart."""
        with self.database.writing() as session:
            lock_row(session, "figures")
            rows = session.scalars(
                select(ReplicaMetrics).where(
                    (ReplicaMetrics.replica_id == ENDED) | (ReplicaMetrics.at_s < now_s() - ENDED_AFTER_S)
                )
            ).all()
            samples = [
                [name, dict(labels), value] for (name, labels), value in _sum(row.samples for row in rows).items()
            ]
            for row in rows:
                session.delete(row)
            session.flush()
            session.add(ReplicaMetrics(replica_id=ENDED, samples=samples, at_s=now_s()))


def _sum(replicas: Iterable[Iterable[Sample]]) -> dict[Series, float]:
    """Series → sum of its values over the replicas."""
    sums: defaultdict[Series, float] = defaultdict(float)
    for samples in replicas:
        for name, labels, value in samples:
            sums[name, tuple(sorted(labels.items()))] += value
    return dict(sums)


class _SumCollector(Collector):
    """Shows the metric families of one replica with the sums over all replicas."""

    def __init__(self, families: CollectorRegistry, sums: dict[Series, float]) -> None:
        self.families, self.sums = families, sums

    def collect(self) -> Iterable[Metric]:
        for family in self.families.collect():
            suffixes = ("_total",) if family.type == "counter" else ("_bucket", "_count", "_sum")
            shown = Metric(family.name, family.documentation, family.type)
            for (name, labels), value in self.sums.items():
                if name in {family.name + suffix for suffix in suffixes}:
                    shown.add_sample(name, dict(labels), value)
            yield shown
