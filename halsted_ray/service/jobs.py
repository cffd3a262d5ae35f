"""The queue of mapping jobs, in the database, so that it survives every process.

    queued ──► running ──► done | failed | cancelled
       ▲          │ the worker's lease ran out: another worker takes the job and goes on where the work was
       └──────────┘ the cluster has no room now: the job waits in the queue again

The queue is fair between tenants: the next job belongs to the tenant with the fewest running jobs; among tenants with
equally many, to the tenant whose last turn was the longest ago. Only one job at a time works on a video.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import CursorResult, func, or_, select, update
from sqlalchemy.orm import Session

from halsted_ray.service import audit
from halsted_ray.service.database import Database, Job, StoredVideo, lock_row, now_s
from halsted_ray.service.uploads import NotFound, video_of_tenant
from halsted_ray.service.users import Caller

ENDS = ("done", "failed", "cancelled")
"""The states in which a job has ended."""
MAX_ATTEMPTS = 5
"""A job whose worker was lost this often is failed: it would end the next worker, too."""


class Jobs:
    """The queue. ``lease_s``: how many seconds a job belongs to its worker after the worker's last heartbeat."""

    def __init__(self, database: Database, lease_s: float = 30.0) -> None:
        self.database, self.lease_s = database, lease_s

    def submit(self, caller: Caller, video_id: str, tasks: Sequence[str]) -> Job:
        """A new job that maps the video for ``tasks``, or the job that already waits to do the same. Raises
        NotFound."""
        with self.database.writing() as session:
            video = video_of_tenant(session, caller.tenant_id, video_id)
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
        """The tenant's job. Raises NotFound."""
        with self.database.reading() as session:
            return _own(session, tenant_id, job_id)

    def of_video(self, tenant_id: str, video_id: str) -> list[Job]:
        """The jobs of a video, newest first."""
        with self.database.reading() as session:
            return list(
                session.scalars(
                    select(Job)
                    .where(Job.tenant_id == tenant_id, Job.video_id == video_id)
                    .order_by(Job.created_s.desc())
                )
            )

    def newest(self, tenant_id: str, video_ids: Sequence[str]) -> dict[str, Job]:
        """Video id → the newest job of that video, for those videos that have one."""
        with self.database.reading() as session:
            return {
                job.video_id: job
                for job in session.scalars(
                    select(Job).where(Job.tenant_id == tenant_id, Job.video_id.in_(video_ids)).order_by(Job.created_s)
                )
            }

    def cancel(self, caller: Caller, job_id: str) -> Job:
        """Cancels a job: at once if it waits, after the segment it is working on if it runs. A job that has ended stays
        as it is. Raises NotFound."""
        with self.database.writing() as session:
            job = _own(session, caller.tenant_id, job_id)
            if job.state not in ENDS and not job.cancel:
                cancel(job)
                audit.record(session, caller.tenant_id, caller.actor, "map.cancel", job.video_id, job=job_id)
        return job

    def claim(self, worker: str) -> Job | None:
        """The job that ``worker`` shall do next, which belongs to it for ``lease_s`` now; None where no job waits.

        Jobs whose workers were lost go back into the queue first.
        """
        with self.database.writing() as session:
            lock_row(session, "jobs")
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
            claimed = self._next(session)
            if claimed is not None:
                claimed.state, claimed.worker, claimed.lease_until_s = "running", worker, now_s() + self.lease_s
                claimed.attempts += 1
                claimed.started_s = now_s()
                claimed.rate = 0.0  # the rate of an earlier attempt says nothing about this attempt
        return claimed

    def heartbeat(self, job_id: str, worker: str) -> bool:
        """Extends the lease. False where ``worker`` must stop: the job was cancelled, or another worker has it now."""
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
        return bool(cast(CursorResult[Any], kept).rowcount)

    def update(self, job_id: str, worker: str, **changes: Any) -> None:
        """Writes columns of a job while it belongs to ``worker``: its progress, its model, why it waits."""
        with self.database.writing() as session:
            session.execute(update(Job).where(Job.job_id == job_id, Job.worker == worker).values(**changes))

    def finish(
        self, job_id: str, worker: str, state: str, outcome: str | None = None, reason: str | None = None
    ) -> None:
        """Ends a job in ``state``, if it still belongs to ``worker``."""
        with self.database.writing() as session:
            job = session.get_one(Job, job_id)
            if job.worker == worker and job.state == "running":
                _finish(job, state, outcome, reason)
                audit.record(session, job.tenant_id, "service", f"map.{state}", job.video_id, job=job_id)

    def requeue(self, job_id: str, worker: str, reason: str | None) -> None:
        """Puts a job of ``worker`` back into the queue and does not count the attempt. A job that was cancelled
        meanwhile ends."""
        with self.database.writing() as session:
            job = session.get_one(Job, job_id)
            if job.worker != worker or job.state != "running":
                return
            job.attempts -= 1
            job.state, job.worker, job.lease_until_s, job.reason = "queued", None, None, reason
            if job.cancel:
                cancel(job)

    def refund_attempt(self, job_id: str, worker: str) -> None:
        """Does not count the attempt that ``worker`` is making. The lease stays: the next worker must not begin
        before this one has left the video's maps."""
        with self.database.writing() as session:
            session.execute(
                update(Job)
                .where(Job.job_id == job_id, Job.worker == worker, Job.state == "running")
                .values(attempts=Job.attempts - 1)
            )

    def counts(self) -> dict[str, int]:
        """State → number of jobs, of all tenants."""
        with self.database.reading() as session:
            rows = session.execute(select(Job.state, func.count()).group_by(Job.state))
            return {state: count for state, count in rows}

    def mapped_s(self) -> float:
        """Video-seconds that the jobs of all tenants have mapped."""
        with self.database.reading() as session:
            return session.scalar(select(func.coalesce(func.sum(Job.done_s), 0.0))) or 0.0

    def _next(self, session: Session) -> Job | None:
        """The job whose turn it is, see above."""
        running = session.execute(select(Job.tenant_id, Job.video_id).where(Job.state == "running")).all()
        busy = Counter(tenant_id for tenant_id, _ in running)
        videos = {(tenant_id, video_id) for tenant_id, video_id in running}
        # When each tenant had its last turn, so that tenants with equally many running jobs take turns.
        last = select(Job.tenant_id, func.max(Job.started_s)).where(Job.started_s.is_not(None)).group_by(Job.tenant_id)
        turns = {tenant_id: started_s or 0.0 for tenant_id, started_s in session.execute(last)}
        waiting = session.scalars(select(Job).where(Job.state == "queued", Job.cancel.is_(False))).all()
        free = [job for job in waiting if (job.tenant_id, job.video_id) not in videos]
        return min(
            free,
            default=None,
            key=lambda job: (busy[job.tenant_id], turns.get(job.tenant_id, 0.0), job.created_s, job.job_id),
        )


def cancel(job: Job) -> None:
    """Within a transaction: ends a job that waits. A job that runs is told at its next heartbeat."""
    job.cancel = True
    if job.state == "queued":
        _finish(job, "cancelled", None, None)


def deleted_videos(session: Session) -> list[StoredVideo]:
    """The deleted videos whose bytes can be removed: no job works on them any more."""
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
    """The tenant's job. Raises NotFound."""
    job = session.get(Job, job_id)
    if job is None or job.tenant_id != tenant_id:
        raise NotFound(f"no job {job_id!r}")
    return job
