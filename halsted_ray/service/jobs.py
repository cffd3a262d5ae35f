"""Mapping jobs: a queue in the database that survives every process.

    queued ──► running ──► done | failed | cancelled
       ▲          │ the worker's lease ran out: another one takes it up, and the pipeline goes on where it was
       └──────────┘ the cluster has no room now: back in the queue

Fair between tenants: the next job is one of the tenant with the fewest jobs running, of those the one that waited
longest for its turn. One job at a time works on a video.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from halsted_ray.service import audit
from halsted_ray.service.database import Database, Job, StoredVideo, lock, now_s
from halsted_ray.service.uploads import NotThere, own_video
from halsted_ray.service.users import Caller

ENDS = ("done", "failed", "cancelled")
MAX_ATTEMPTS = 5
"""A job that took its worker with it this often will do so again."""


class Jobs:
    """The queue. ``lease_s``: how long a worker's word holds."""

    def __init__(self, database: Database, lease_s: float = 30.0):
        self.database, self.lease_s = database, lease_s

    def submit(self, caller: Caller, video_id: str, tasks: Sequence[str]) -> Job:
        """A new job for the video, or the one that is waiting for the same tasks. Raises NotThere."""
        with self.database.writing() as session:
            video = own_video(session, caller.tenant_id, video_id)
            waiting = session.scalars(
                select(Job).where(
                    Job.tenant_id == caller.tenant_id,
                    Job.video_id == video_id,
                    Job.state == "queued",
                    Job.cancel.is_(False),
                )
            ).all()
            same = next((job for job in waiting if job.tasks == list(tasks)), None)
            if same is not None:
                return same
            job = Job(
                job_id=secrets.token_hex(8),
                tenant_id=caller.tenant_id,
                user_id=caller.user_id,
                video_id=video_id,
                tasks=list(tasks),
                state="queued",
                total_s=video.duration_s,
                done_s=0.0,
                rate=0.0,
                failed_segments=0,
                cancel=False,
                attempts=0,
                created_s=now_s(),
            )
            session.add(job)
            audit.record(
                session, caller.tenant_id, caller.actor, "map.submit", video_id, job=job.job_id, tasks=list(tasks)
            )
        return job

    def get(self, tenant_id: str, job_id: str) -> Job:
        with self.database.reading() as session:
            return _own(session, tenant_id, job_id)

    def of_video(self, tenant_id: str, video_id: str) -> list[Job]:
        """Newest first."""
        with self.database.reading() as session:
            return list(
                session.scalars(
                    select(Job)
                    .where(Job.tenant_id == tenant_id, Job.video_id == video_id)
                    .order_by(Job.created_s.desc())
                )
            )

    def newest(self, tenant_id: str, video_ids: Sequence[str]) -> dict[str, Job]:
        """Video → the newest of its jobs."""
        with self.database.reading() as session:
            return {
                job.video_id: job
                for job in session.scalars(
                    select(Job).where(Job.tenant_id == tenant_id, Job.video_id.in_(video_ids)).order_by(Job.created_s)
                )
            }

    def cancel(self, caller: Caller, job_id: str) -> Job:
        """Cancelled at once where it waits, after the segment at hand where it runs. One that ended stays."""
        with self.database.writing() as session:
            job = _own(session, caller.tenant_id, job_id)
            if job.state not in ENDS and not job.cancel:
                cancel(job)
                audit.record(session, caller.tenant_id, caller.actor, "map.cancel", job.video_id, job=job_id)
        return job

    def claim(self, worker: str) -> Job | None:
        """The job that ``worker`` shall do next, now its own for ``lease_s``; None where there is nothing to do."""
        with self.database.writing() as session:
            lock(session, "jobs")
            lost = session.scalars(select(Job).where(Job.state == "running", Job.lease_until_s < now_s())).all()
            for job in lost:
                if job.cancel or job.attempts >= MAX_ATTEMPTS:
                    _finish(
                        job,
                        "cancelled" if job.cancel else "failed",
                        None,
                        None if job.cancel else f"its worker was lost {job.attempts} times",
                    )
                else:
                    job.state, job.worker, job.lease_until_s = "queued", None, None
            session.flush()
            job = self._next(session)
            if job is not None:
                job.state, job.worker, job.lease_until_s = "running", worker, now_s() + self.lease_s
                job.attempts += 1
                job.started_s = now_s()
                job.rate = 0.0  # the rate of an earlier attempt says nothing about this attempt
        return job

    def heartbeat(self, job_id: str, worker: str) -> bool:
        """Renews the lease. False where the work must stop: it was cancelled, or is somebody else's by now."""
        with self.database.writing() as session:
            kept = session.execute(
                update(Job)
                .where(
                    Job.job_id == job_id,
                    Job.worker == worker,
                    Job.state == "running",
                    Job.cancel.is_(False),
                )
                .values(lease_until_s=now_s() + self.lease_s)
            )
        return bool(kept.rowcount)

    def note(self, job_id: str, worker: str, **changes) -> None:
        """Progress, and with which model: ``done_s``, ``total_s``, ``rate``, ``failed_segments``, ``model`` …"""
        with self.database.writing() as session:
            session.execute(update(Job).where(Job.job_id == job_id, Job.worker == worker).values(**changes))

    def finish(
        self, job_id: str, worker: str, state: str, outcome: str | None = None, reason: str | None = None
    ) -> None:
        with self.database.writing() as session:
            job = session.get_one(Job, job_id)
            if job.worker == worker and job.state == "running":
                _finish(job, state, outcome, reason)
                audit.record(session, job.tenant_id, "service", f"map.{state}", job.video_id, job=job_id)

    def put_back(self, job_id: str, worker: str, reason: str) -> None:
        """Into the queue again, without counting the attempt; one that was cancelled meanwhile ends."""
        with self.database.writing() as session:
            job = session.get_one(Job, job_id)
            if job.worker != worker or job.state != "running":
                return
            job.attempts -= 1
            job.state, job.worker, job.lease_until_s, job.reason = "queued", None, None, reason
            if job.cancel:
                cancel(job)

    def forgive(self, job_id: str, worker: str) -> None:
        """The attempt at hand does not count. The lease stays: whoever goes on must find the place free."""
        with self.database.writing() as session:
            session.execute(
                update(Job)
                .where(Job.job_id == job_id, Job.worker == worker, Job.state == "running")
                .values(attempts=Job.attempts - 1)
            )

    def counts(self) -> dict[str, int]:
        """State → jobs, of all tenants."""
        with self.database.reading() as session:
            return {
                state: count for state, count in session.execute(select(Job.state, func.count()).group_by(Job.state))
            }

    def _next(self, session: Session) -> Job | None:
        running = session.execute(select(Job.tenant_id, Job.video_id).where(Job.state == "running")).all()
        busy = Counter(tenant_id for tenant_id, _ in running)
        videos = {tuple(row) for row in running}
        # When each tenant had its last turn, so that tenants with equally many running take turns.
        last = select(Job.tenant_id, func.max(Job.started_s)).where(Job.started_s.is_not(None)).group_by(Job.tenant_id)
        turns = {tenant_id: started_s for tenant_id, started_s in session.execute(last)}
        waiting = session.scalars(select(Job).where(Job.state == "queued", Job.cancel.is_(False))).all()
        free = [job for job in waiting if (job.tenant_id, job.video_id) not in videos]
        return min(
            free,
            default=None,
            key=lambda job: (busy[job.tenant_id], turns.get(job.tenant_id, 0.0), job.created_s, job.job_id),
        )


def cancel(job: Job) -> None:
    """Within a transaction: a job that waits ends now, one that runs is told at its next heartbeat."""
    job.cancel = True
    if job.state == "queued":
        _finish(job, "cancelled", None, None)


def deleted_videos(session: Session) -> list[StoredVideo]:
    """Whose bytes can go: nobody works on them any more."""
    working = (
        select(Job.job_id)
        .where(
            Job.tenant_id == StoredVideo.tenant_id,
            Job.video_id == StoredVideo.video_id,
            Job.state == "running",
            or_(Job.lease_until_s.is_(None), Job.lease_until_s >= now_s()),
        )
        .exists()
    )
    return list(session.scalars(select(StoredVideo).where(StoredVideo.deleted_s.is_not(None), ~working)))


def _finish(job: Job, state: str, outcome: str | None, reason: str | None) -> None:
    job.state, job.outcome, job.reason = state, outcome, reason
    job.finished_s, job.lease_until_s, job.worker = now_s(), None, None


def _own(session: Session, tenant_id: str, job_id: str) -> Job:
    job = session.get(Job, job_id)
    if job is None or job.tenant_id != tenant_id:
        raise NotThere(f"no job {job_id!r}")
    return job
