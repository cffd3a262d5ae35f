"""What Prometheus reads at /metrics. Labels are routes and stages, never tenants, users or videos."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Of one replica; figures of jobs come from the database and are the site's."""

    def __init__(self):
        self.registry = CollectorRegistry()
        register = {"registry": self.registry}
        self.requests = Counter("halsted_requests", "Requests", ["method", "route", "status"], **register)
        self.request_s = Histogram("halsted_request_seconds", "Time until the answer begins", ["route"],
                                   buckets=SECONDS, **register)
        self.clip_s = Histogram("halsted_clip_seconds", "Time of a clip by stage", ["stage"], buckets=SECONDS,
                                **register)
        self.batch = Histogram("halsted_clip_batch", "Clips that shared a pass of the model",
                               buckets=(1, 2, 4, 8, 16, 32, 64), **register)
        self.uploaded = Counter("halsted_uploaded_bytes", "Bytes of videos that came in parts", **register)
        self.jobs = Gauge("halsted_jobs", "Mapping jobs of the site", ["state"], **register)
        self.mapped_s = Gauge("halsted_mapped_video_seconds", "Video-seconds that jobs have mapped", **register)

    def clip(self, answer: dict, total_s: float) -> None:
        """Counts one answer of ``ClipTagger``."""
        self.batch.observe(answer["batch"])
        for stage, seconds in {**answer["seconds"], "total": total_s}.items():
            self.clip_s.labels(stage).observe(seconds)

    def text(self, jobs: Mapping[str, int], mapped_s: float) -> bytes:
        for state in ("queued", "running", "done", "failed", "cancelled"):
            self.jobs.labels(state).set(jobs.get(state, 0))
        self.mapped_s.set(mapped_s)
        return generate_latest(self.registry)
