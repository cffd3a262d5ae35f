"""Works off the queue of mapping jobs with the pipeline of the batch job: ``map_archive`` over one video.

What a job has finished is staged segment by segment, so a job that is taken up again (its worker died, the service
was restarted) goes on where it was, with the model that it was begun with.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass, field

from halsted_ray.errors import HalstedError, ResourceError
from halsted_ray.mapping.progress import Progress, RunObserver
from halsted_ray.service.database import Job, StoredVideo
from halsted_ray.service.jobs import Jobs
from halsted_ray.service.served_model import ModelSource
from halsted_ray.service.uploads import Uploads
from halsted_ray.service.videos import Videos

logger = logging.getLogger(__name__)
IDLE_S = 0.5
TIDY_EVERY_S = 300.0
NOTE_EVERY_S = 0.5


class Stopped(Exception):
    """The job was cancelled, or another worker has it by now."""


@dataclass
class JobWorker:
    """One worker: one job at a time. ``decoders`` and ``taggers``: actors of a job."""

    jobs: Jobs
    videos: Videos
    uploads: Uploads
    source: ModelSource
    encoder: str | None = None
    decoders: int = 1
    taggers: int = 1
    upload_days: float = 7.0
    name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}")
    at_work: str | None = field(default=None, init=False)
    """The job at hand."""

    def work(self, stop: threading.Event) -> None:
        """Until ``stop`` is set; whatever goes wrong with one job, the next one is tried."""
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
        """Does the next job, if there is one; False where there is none."""
        job = self.jobs.claim(self.name)
        if job is None:
            return False
        self.at_work = job.job_id
        with _Heart(self.jobs, job.job_id, self.name) as heart:
            state, outcome, reason = self._do(job, heart)
        self.at_work = None
        if state == "queued":
            self.jobs.put_back(job.job_id, self.name, reason)
            time.sleep(IDLE_S)
        else:
            self.jobs.finish(job.job_id, self.name, state, outcome, reason)
        self.videos.purge()  # the video may have been deleted meanwhile
        return True

    def leave(self) -> None:
        """Before this worker is taken away: another one goes on with its job, which is no fault of the job's."""
        job_id, self.at_work = self.at_work, None
        if job_id is not None:
            self.jobs.forgive(job_id, self.name)

    def _do(self, job: Job, heart: _Heart) -> tuple[str, str | None, str | None]:
        """(state, outcome, reason) of the job's end."""
        try:
            return self._map(job, self.videos.get(job.tenant_id, job.video_id), heart)
        except Stopped:
            return "cancelled", None, None
        except ResourceError as error:
            logger.warning("job %s waits: %s", job.job_id, error)
            return "queued", None, f"waiting: {_without_places(error)}"
        except HalstedError as error:
            logger.warning("job %s failed: %s", job.job_id, error)
            return "failed", None, _without_places(error)
        except Exception:
            logger.exception("job %s failed", job.job_id)
            return "failed", None, "an error of the service; its log has the trace"

    def _map(self, job: Job, video: StoredVideo, heart: _Heart) -> tuple[str, str | None, str | None]:
        from halsted_ray.compute.resources import ResourceRequest
        from halsted_ray.mapping.pipeline import map_archive

        model, version = job.model, job.model_version
        if model is None:
            release = self.source()
            model, version = release.path, release.version
        self.jobs.note(job.job_id, self.name, model=model, model_version=version)
        summary = map_archive(
            self.videos.location(video),
            self.videos.maps(job.tenant_id, job.video_id),
            model,
            job.tasks,
            encoder=self.encoder,
            resources=ResourceRequest(decoders=self.decoders, taggers=self.taggers, priority="high"),
            observer=_Notes(self.jobs, job.job_id, self.name, heart),
        )
        if summary.segments_before == summary.segments:  # nothing was left to do, so nothing told of progress
            self.jobs.note(job.job_id, self.name, done_s=video.duration_s, total_s=video.duration_s)
        (mapped,) = summary.videos
        if mapped["status"] == "failed":
            return "failed", "failed", mapped["reason"]
        return "done", mapped["status"], mapped["reason"] or None


class _Notes(RunObserver):
    """Writes down how far a job is, for who asked for it, and ends a run whose job is no longer this worker's."""

    def __init__(self, jobs: Jobs, job_id: str, worker: str, heart: _Heart):
        self.jobs, self.job_id, self.worker, self.heart = jobs, job_id, worker, heart
        self.noted_s, self.waiting = 0.0, ""

    def on_progress(self, progress: Progress) -> None:
        self.heart.check()
        if time.monotonic() - self.noted_s >= NOTE_EVERY_S or progress.done_s == progress.total_s:
            self.noted_s = time.monotonic()
            self.jobs.note(
                self.job_id,
                self.worker,
                done_s=progress.done_s,
                total_s=progress.total_s,
                rate=progress.rate,
                failed_segments=progress.failed_segments,
                reason=None,
            )

    def on_message(self, message: str) -> None:
        self.heart.check()

    def on_wait(self, message: str) -> None:
        self.heart.check()
        if message != self.waiting:
            self.waiting = message
            logger.warning("job %s waits: %s", self.job_id, message)
            self.jobs.note(self.job_id, self.worker, reason=_without_places(f"waiting: {message}"), rate=0.0)


class _Heart:
    """Renews a job's lease while it is worked on, and knows when the work must stop."""

    def __init__(self, jobs: Jobs, job_id: str, worker: str):
        self.jobs, self.job_id, self.worker = jobs, job_id, worker
        self._over, self._lost = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> _Heart:
        self._thread.start()
        return self

    def __exit__(self, *_exc) -> None:
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """Raises Stopped."""
        if self._lost.is_set():
            raise Stopped

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
                logger.warning("the database does not take the heartbeat of job %s", self.job_id)
                if time.monotonic() - last_s > self.jobs.lease_s:
                    self._lost.set()  # somebody else may have it by now
                    return


def _without_places(error: Exception | str) -> str:
    """A message for the caller: where the service keeps things is not theirs to know."""
    return " ".join("…" if "/" in word and len(word) > 3 else word for word in str(error).split())[:500]
