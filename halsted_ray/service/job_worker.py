"""The worker that does the jobs of the queue: it cleans uploads (``clean_upload``), copies videos for browsers
(``proxy_copy``), and maps videos with the batch
job's own pipeline, ``map_archive`` on one video.

The pipeline stages every segment that it finishes. So a job that another worker takes up again (its worker died, the
service was restarted) goes on where it was, with the model that it was begun with.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass, field

from halsted_ray.compute.progress import Progress
from halsted_ray.errors import HalstedError
from halsted_ray.service import playback
from halsted_ray.service.clean_upload import CleanRequest
from halsted_ray.service.failure_causes import cause, cause_of
from halsted_ray.service.job_process import (
    JobProcess,
    JobReport,
    JobResult,
    MapRequest,
    ProcessDied,
    Request,
    without_places,
)
from halsted_ray.service.jobs import Jobs
from halsted_ray.service.orphans import remove_orphans
from halsted_ray.service.proxy_copy import ProxyRequest
from halsted_ray.service.served_model import ModelSource
from halsted_ray.service.summaries import note_map
from halsted_ray.service.tables import Job, StoredVideo
from halsted_ray.service.uploads import Uploads
from halsted_ray.service.videos import Videos

logger = logging.getLogger(__name__)
IDLE_S = 0.5
"""How long to wait before looking for a job again."""
TIDY_EVERY_S = 300.0
"""How often expired uploads and deleted videos are removed."""


SWEEP_EVERY_S = 3600.0
"""How often the store is searched for what nobody owns; first when the worker starts."""


class NoRoom(Exception):
    """The disk has no room left for maps."""


class JobStopped(Exception):
    """The job was cancelled, or it belongs to another worker now."""


@dataclass
class JobWorker:
    """Does one job at a time. ``encoder``: where the encoder lies, if not where the model says. ``decoders`` and
    ``encoders``: the number of actors of a job. ``upload_days``: how long an upload is kept that gets no part.
    ``memory_mb``: of the process of a job. ``deidentify``: full or metadata, see ``cleaning.py``."""

    jobs: Jobs
    videos: Videos
    uploads: Uploads
    source: ModelSource
    encoder: str | None = None
    decoders: int = 1
    encoders: int = 1
    upload_days: float = 7.0
    memory_mb: int = 4096
    deidentify: str = "metadata"
    name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}")
    at_work: str | None = field(default=None, init=False)
    """The id of the job that is being done."""
    process: JobProcess = field(init=False)

    def __post_init__(self) -> None:
        self.process = JobProcess(self.memory_mb)

    def work(self, stop: threading.Event) -> None:
        """Does jobs until ``stop`` is set. Whatever goes wrong with one job, the worker goes on with the next job."""
        tidied_s = swept_s = -math.inf
        while not stop.is_set():
            try:
                if time.monotonic() - tidied_s > TIDY_EVERY_S:
                    tidied_s = time.monotonic()
                    self.tidy()
                if time.monotonic() - swept_s > SWEEP_EVERY_S:
                    swept_s = time.monotonic()
                    remove_orphans(self.uploads.database, self.uploads.store)
                if not self.work_once():
                    stop.wait(IDLE_S)
            except Exception:
                logger.exception("the mapping worker goes on after an error")
                stop.wait(5.0)

    def tidy(self) -> None:
        """Removes what has expired and what was deleted, and holds room for the database."""
        self.uploads.expire(self.upload_days * 86_400)
        self.videos.remove_originals()
        self.videos.purge()
        if self.uploads.database.ballast is not None:
            self.uploads.database.ballast.take()

    def work_once(self) -> bool:
        """Does the next job of the queue and returns True; returns False where no job waits, or no room is left."""
        if self.uploads.room.is_short:
            logger.warning("jobs wait: the disk of the store has no room for maps")
            return False
        job = self.jobs.claim(self.name)
        if job is None:
            return False
        self.work_on(job)
        return True

    def work_on(self, job: Job) -> None:
        """Does a job that this worker has claimed."""
        self.at_work = job.job_id
        with _Heartbeat(self.jobs, job.job_id, self.name) as heartbeat:
            result = self._do(job, heartbeat)
            if job.kind == "map" and result is not None and result.state == "done":
                self._note_map(job, result)
        self.at_work = None
        if result is None:
            self.jobs.give_up(job.job_id, self.name)
        elif result.state == "lost":
            pass  # the next try comes when the lease has run out, so that a fault of seconds can't use up all tries
        elif result.state == "queued":
            self.jobs.requeue(job.job_id, self.name, result.reason)
            time.sleep(IDLE_S)
        else:
            self.jobs.finish(job.job_id, self.name, result.state, result.outcome, result.reason, result.cause)
            if job.kind == "clean":
                self.videos.remove_originals()
            if job.kind == "proxy" and result.state != "done":
                self.videos.remove_unfinished_proxy(job.tenant_id, job.video_id)
        self.videos.purge()  # the video may have been deleted meanwhile

    def leave(self) -> None:
        """Called before this worker is taken away: another worker goes on with its job. That is not the job's fault, so
        the attempt does not count."""
        job_id, self.at_work = self.at_work, None
        if job_id is not None:
            self.jobs.refund_attempt(job_id, self.name)

    def _do(self, job: Job, heartbeat: _Heartbeat) -> JobResult | None:
        """Does the job; None where its process died. That and a job that is lost count as an attempt."""
        try:
            video = self.videos.get(job.tenant_id, job.video_id)
            work = {"clean": self._clean, "proxy": self._proxy, "map": self._map}[job.kind]
            return work(job, video, heartbeat)
        except JobStopped:
            return JobResult("cancelled", None, None)
        except NoRoom:
            return JobResult("queued", None, "waiting: the disk of the store has no room for maps")
        except ProcessDied:
            logger.warning("the process of job %s died", job.job_id)
            return None
        except HalstedError as error:
            logger.warning("job %s failed: %s", job.job_id, error)
            return JobResult("failed", None, without_places(error), cause=cause_of(error))
        except Exception:
            logger.exception("job %s failed", job.job_id)
            if job.kind == "clean":
                return JobResult("lost", None, None)  # it may pass, of the database say, and must not delete the video
            return JobResult(
                "failed", None, "an error of the service; its log has the traceback", cause=cause("service-error")
            )

    def _clean(self, job: Job, video: StoredVideo, heartbeat: _Heartbeat) -> JobResult:
        """Cleans an upload, and removes its original as soon as the clean copy is entered."""
        if video.state == "cleaning" and video.original is not None:
            place_of = self.uploads.store.location
            request = CleanRequest(
                original=place_of(job.tenant_id, video.original),
                out=place_of(job.tenant_id, video.place),
                level=self.deidentify,
                duration_s=video.duration_s,
            )
            result = self._run(job, heartbeat, request)
            if result.copy is None:
                return result
            self.jobs.enter_clean_copy(job.job_id, self.name, result.copy)
        self.videos.remove_originals()
        video = self.videos.get(job.tenant_id, job.video_id)
        self.jobs.update(job.job_id, self.name, done_s=video.duration_s, total_s=video.duration_s)
        return JobResult("done", video.cleaning["level"] if video.cleaning else None, None)

    def _note_map(self, job: Job, result: JobResult) -> None:
        """Writes the summary of a map before its job is done. A map without one is whole all the same."""
        try:
            outcome = result.outcome or "mapped"
            note_map(self.videos, job.tenant_id, job.video_id, outcome, result.reason, self.source().taxonomy)
        except Exception:
            logger.exception("the summary of job %s waits for the housekeeping", job.job_id)

    def _proxy(self, job: Job, video: StoredVideo, heartbeat: _Heartbeat) -> JobResult:
        """Makes the copy that browsers play. It counts as what the tenant keeps."""
        if video.playback == "making":
            request = ProxyRequest(
                original=self.videos.location(video),
                out=self.uploads.store.location(job.tenant_id, playback.proxy_place(video)),
                duration_s=video.duration_s,
            )
            result = self._run(job, heartbeat, request)
            if result.proxy is None:
                return result
            if result.proxy.size_bytes is not None:
                with self.uploads.database.reading() as session:
                    self.uploads.room.check_quota(session, job.tenant_id, result.proxy.size_bytes)
            self.jobs.enter_proxy(job.job_id, self.name, result.proxy.size_bytes)
        self.jobs.update(job.job_id, self.name, done_s=video.duration_s, total_s=video.duration_s)
        return JobResult("done", self.videos.get(job.tenant_id, job.video_id).playback, None)

    def _run(self, job: Job, heartbeat: _Heartbeat, request: Request) -> JobResult:
        """Does the work in the process of this worker."""
        recorder = _ProgressRecorder(self.jobs, job.job_id, self.name)

        def check(report: JobReport | None) -> None:
            heartbeat.check()
            if report is not None:
                recorder.record(report)
            if self.uploads.room.is_short:
                raise NoRoom

        return self.process.run(request, check)

    def _map(self, job: Job, video: StoredVideo, heartbeat: _Heartbeat) -> JobResult:
        model, version = job.model, job.model_version
        if model is None:
            served = self.source()
            model, version = served.path, served.version
        self.jobs.update(job.job_id, self.name, model=model, model_version=version)
        result = self._run(
            job,
            heartbeat,
            MapRequest(
                archive=self.videos.location(video),
                out=self.videos.maps_location(job.tenant_id, job.video_id),
                model=model,
                tasks=tuple(job.tasks),
                encoder=self.encoder,
                decoders=self.decoders,
                encoders=self.encoders,
                limits=self.uploads.limits,
            ),
        )
        if result.state in ("queued", "failed"):
            logger.warning("job %s: %s, %s", job.job_id, result.state, result.reason)
        if result.failed_segments is not None:  # the last report may be older than the end
            whole_s = video.duration_s
            self.jobs.update(
                job.job_id, self.name, done_s=whole_s, total_s=whole_s, failed_segments=result.failed_segments
            )
        return result


class _ProgressRecorder:
    """Writes to the database how far a job is."""

    def __init__(self, jobs: Jobs, job_id: str, worker: str) -> None:
        self.jobs, self.job_id, self.worker = jobs, job_id, worker
        self.last = JobReport()

    def record(self, report: JobReport) -> None:
        """Writes what is new in ``report``."""
        before, self.last = self.last, report
        if report.phase and report.phase != before.phase:
            self.jobs.update(self.job_id, self.worker, phase=report.phase)
        if report.waiting:
            if report.waiting != before.waiting:
                self.on_wait(report.waiting)
        elif report.progress is not None and report.progress != before.progress:
            self.on_progress(report.progress)

    def on_progress(self, progress: Progress) -> None:
        """Writes how much is done."""
        self.jobs.update(
            self.job_id,
            self.worker,
            done_s=progress.done_s,
            total_s=progress.total_s,
            rate=progress.rate,
            failed_segments=progress.failed_segments,
            reason=None,
        )

    def on_wait(self, message: str) -> None:
        """Writes why nothing moves."""
        logger.warning("job %s waits: %s", self.job_id, message)
        self.jobs.update(self.job_id, self.worker, reason=without_places(f"waiting: {message}"), rate=0.0)


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
