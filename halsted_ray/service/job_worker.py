"""The worker that does the mapping jobs of the queue with the batch job's own pipeline: ``map_archive`` on one video.

The pipeline stages every segment that it finishes. So a job that another worker takes up again (its worker died, the
service was restarted) goes on where it was, with the model that it was begun with.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass, field

from halsted_ray.compute.progress import Progress, RunObserver
from halsted_ray.errors import HalstedError, ResourceError
from halsted_ray.service.database import Job, StoredVideo
from halsted_ray.service.jobs import Jobs
from halsted_ray.service.served_model import ModelSource
from halsted_ray.service.uploads import Uploads
from halsted_ray.service.videos import Videos

logger = logging.getLogger(__name__)
IDLE_S = 0.5
"""How long to wait before looking for a job again."""
TIDY_EVERY_S = 300.0
"""How often expired uploads and deleted videos are removed."""
SAVE_EVERY_S = 0.5
"""How often a job's progress is written to the database."""


class JobStopped(Exception):
    """The job was cancelled, or it belongs to another worker now."""


@dataclass
class JobWorker:
    """Does one job at a time. ``encoder``: where the encoder lies, if not where the model says. ``decoders`` and
    ``encoders``: the number of actors of a job. ``upload_days``: how long an open upload is kept."""

    jobs: Jobs
    videos: Videos
    uploads: Uploads
    source: ModelSource
    encoder: str | None = None
    decoders: int = 1
    encoders: int = 1
    upload_days: float = 7.0
    name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}")
    at_work: str | None = field(default=None, init=False)
    """The id of the job that is being done."""

    def work(self, stop: threading.Event) -> None:
        """Does jobs until ``stop`` is set. Whatever goes wrong with one job, the worker goes on with the next job."""
        tidied_s = 0.0
        while not stop.is_set():
            try:
                if time.monotonic() - tidied_s > TIDY_EVERY_S:
                    tidied_s = time.monotonic()
                    self.uploads.expire(self.upload_days * 86_400)
                    self.videos.purge()
                if not self.work_once():
                    stop.wait(IDLE_S)
            except Exception:
                logger.exception("the mapping worker goes on after an error")
                stop.wait(5.0)

    def work_once(self) -> bool:
        """Does the next job of the queue and returns True; returns False where no job waits."""
        job = self.jobs.claim(self.name)
        if job is None:
            return False
        self.at_work = job.job_id
        with _Heartbeat(self.jobs, job.job_id, self.name) as heartbeat:
            state, outcome, reason = self._do(job, heartbeat)
        self.at_work = None
        if state == "queued":
            self.jobs.requeue(job.job_id, self.name, reason)
            time.sleep(IDLE_S)
        else:
            self.jobs.finish(job.job_id, self.name, state, outcome, reason)
        self.videos.purge()  # the video may have been deleted meanwhile
        return True

    def leave(self) -> None:
        """Called before this worker is taken away: another worker goes on with its job. That is not the job's fault, so
        the attempt does not count."""
        job_id, self.at_work = self.at_work, None
        if job_id is not None:
            self.jobs.refund_attempt(job_id, self.name)

    def _do(self, job: Job, heartbeat: _Heartbeat) -> tuple[str, str | None, str | None]:
        """Does the job and returns its (state, outcome, reason)."""
        try:
            return self._map(job, self.videos.get(job.tenant_id, job.video_id), heartbeat)
        except JobStopped:
            return "cancelled", None, None
        except ResourceError as error:
            logger.warning("job %s waits: %s", job.job_id, error)
            return "queued", None, f"waiting: {_without_places(error)}"
        except HalstedError as error:
            logger.warning("job %s failed: %s", job.job_id, error)
            return "failed", None, _without_places(error)
        except Exception:
            logger.exception("job %s failed", job.job_id)
            return "failed", None, "an error of the service; its log has the traceback"

    def _map(self, job: Job, video: StoredVideo, heartbeat: _Heartbeat) -> tuple[str, str | None, str | None]:
        from halsted_ray.compute.resources import ResourceRequest
        from halsted_ray.mapping.pipeline import map_archive

        model, version = job.model, job.model_version
        if model is None:
            served = self.source()
            model, version = served.path, served.version
        self.jobs.update(job.job_id, self.name, model=model, model_version=version)
        summary = map_archive(
            self.videos.location(video),
            self.videos.maps_location(job.tenant_id, job.video_id),
            model,
            job.tasks,
            encoder=self.encoder,
            settle_s=0,  # an upload is whole before there is a job
            resources=ResourceRequest(decoders=self.decoders, encoders=self.encoders, priority="high"),
            observer=_ProgressRecorder(self.jobs, job.job_id, self.name, heartbeat),
        )
        if summary.segments_before == summary.segments:  # nothing was left to do, so no progress was reported
            self.jobs.update(job.job_id, self.name, done_s=video.duration_s, total_s=video.duration_s)
        (mapped,) = summary.videos
        if mapped["status"] == "failed":
            return "failed", "failed", mapped["reason"]
        return "done", mapped["status"], mapped["reason"] or None


class _ProgressRecorder(RunObserver):
    """Writes a job's progress to the database, and ends a run whose job no longer belongs to this worker."""

    def __init__(self, jobs: Jobs, job_id: str, worker: str, heartbeat: _Heartbeat) -> None:
        self.jobs, self.job_id, self.worker, self.heartbeat = jobs, job_id, worker, heartbeat
        self.saved_s, self.waiting = 0.0, ""

    def on_progress(self, progress: Progress) -> None:
        self.heartbeat.check()
        if time.monotonic() - self.saved_s >= SAVE_EVERY_S or progress.done_s == progress.total_s:
            self.saved_s = time.monotonic()
            self.jobs.update(
                self.job_id,
                self.worker,
                done_s=progress.done_s,
                total_s=progress.total_s,
                rate=progress.rate,
                failed_segments=progress.failed_segments,
                reason=None,
            )

    def on_message(self, message: str) -> None:
        self.heartbeat.check()

    def on_wait(self, message: str) -> None:
        self.heartbeat.check()
        if message != self.waiting:
            self.waiting = message
            logger.warning("job %s waits: %s", self.job_id, message)
            self.jobs.update(self.job_id, self.worker, reason=_without_places(f"waiting: {message}"), rate=0.0)


class _Heartbeat:
    """Extends a job's lease from a thread while the job is done, and knows when the work must stop."""

    def __init__(self, jobs: Jobs, job_id: str, worker: str) -> None:
        self.jobs, self.job_id, self.worker = jobs, job_id, worker
        self._over, self._lost = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> _Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """Raises JobStopped where the work must stop."""
        if self._lost.is_set():
            raise JobStopped

    def _beat(self) -> None:
        pause_s = min(1.0, self.jobs.lease_s / 6)
        last_s = time.monotonic()
        while not self._over.wait(pause_s):
            try:
                if not self.jobs.heartbeat(self.job_id, self.worker):
                    self._lost.set()
                    return
                last_s = time.monotonic()
            except Exception:
                logger.warning("the heartbeat of job %s could not be written to the database", self.job_id)
                if time.monotonic() - last_s > self.jobs.lease_s:
                    self._lost.set()  # another worker may have the job by now
                    return


def _without_places(error: Exception | str) -> str:
    """The message without paths: the user who asked for a job must not learn where the service keeps its files."""
    return " ".join("…" if "/" in word and len(word) > 3 else word for word in str(error).split())[:500]
