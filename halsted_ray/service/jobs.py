"""The queue of jobs (an upload to clean, a video to map or to copy for browsers), in the database, so that it survives
every process.

    queued ──► running ──► done | failed | cancelled
       ▲          │ the worker's lease ran out: another worker takes the job and goes on where the work was
       └──────────┘ the cluster has no room now: the job waits in the queue again

The queue is fair between tenants: the next job belongs to the tenant with the fewest running jobs; among tenants with
equally many, to the tenant whose last turn was the longest ago. Only one job at a time works on a video, and a video
is cleaned before it is mapped. A copy for browsers may be made beside a map.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import CursorResult, func, or_, select, update
from sqlalchemy.orm import Session

from halsted_ray.service import audit, cleaning, playback
from halsted_ray.service.clean_upload import CleanCopy
from halsted_ray.service.database import Database, lock_row, now_s
from halsted_ray.service.errors import NotFound, StateConflict
from halsted_ray.service.failure_causes import Cause, cause
from halsted_ray.service.stored_videos import video_of_tenant
from halsted_ray.service.summaries import note_failure
from halsted_ray.service.tables import Job, StoredVideo, queued_job
from halsted_ray.service.users import Caller

ENDS = ("done", "failed", "cancelled")
"""The states in which a job has ended."""
MAX_ATTEMPTS = 5
"""A job whose worker was lost this often is failed: it would end the next worker, too."""


class Jobs:
    """The queue. ``lease_s``: how many seconds a job belongs to its worker after the worker's last heartbeat.
    ``review_first``: a video in which something was hidden is mapped only after somebody has accepted that.
    ``proxies``: of ``playback.PROXIES``."""

    def __init__(
        self, database: Database, lease_s: float = 30.0, review_first: bool = False, proxies: str = "auto"
    ) -> None:
        self.database, self.lease_s, self.review_first, self.proxies = database, lease_s, review_first, proxies

    def submit(self, caller: Caller, video_id: str, tasks: Sequence[str]) -> Job:
        """A new job that maps the video for ``tasks``, or the job that already waits to do the same. It waits while
        the video is being cleaned. Raises NotFound, and StateConflict for a video that could not be cleaned."""
        with self.database.writing() as session:
            video = video_of_tenant(session, caller.tenant_id, video_id, is_held=True)
            if video.state == "failed":
                raise StateConflict(f"video {video_id!r} was not cleaned, so it can't be mapped: {video.reason}").named(
                    "not-cleaned"
                )
            waiting = session.scalars(
                select(Job).where(
                    Job.tenant_id == caller.tenant_id,
                    Job.video_id == video_id,
                    Job.kind == "map",
                    Job.state == "queued",
                    Job.cancel.is_(False),
                )
            ).all()
            same = next((job for job in waiting if job.tasks == list(tasks)), None)
            if same is not None:
                return same
            job = queued_job("map", video, caller.user_id, tasks, self._waits_for(video))
            session.add(job)
            audit.record(
                session, caller.tenant_id, caller.actor, "map.submit", video_id, job=job.job_id, tasks=list(tasks)
            )
        return job

    def submit_proxy(self, caller: Caller, video_id: str) -> Job:
        """The job that makes a copy of the video for browsers, a new one where none waits or runs. Raises NotFound, and
        StateConflict where the video needs no copy, has one, or is not there yet."""
        with self.database.writing() as session:
            video = video_of_tenant(session, caller.tenant_id, video_id, is_held=True)
            if video.state in ("cleaning", "failed"):
                raise StateConflict(
                    f"video {video_id!r} is {video.state!r}; a copy is made of a video that is ready"
                ).named("copy-not-ready")
            if video.playback in ("direct", "proxy"):
                raise StateConflict(
                    f"no copy of video {video_id!r} is needed: {playback.PLAYBACKS[playback.shown(video)]}"
                ).named("copy-not-needed")
            job = playback.newest_job(session, video) if video.playback == "making" else None
            if job is None:
                job = playback.begin(session, video, caller.user_id)
                audit.record_by(session, caller, "proxy.submit", video_id, job=job.job_id)
        return job

    def get(self, tenant_id: str, job_id: str) -> Job:
        """The tenant's job. Raises NotFound."""
        with self.database.reading() as session:
            return _own(session, tenant_id, job_id)

    def of_video(self, tenant_id: str, video_id: str) -> list[Job]:
        """The jobs that map a video, newest first."""
        with self.database.reading() as session:
            return list(
                session.scalars(
                    select(Job)
                    .where(Job.tenant_id == tenant_id, Job.video_id == video_id, Job.kind == "map")
                    .order_by(Job.created_s.desc())
                )
            )

    def newest(self, tenant_id: str, video_ids: Sequence[str], kind: str = "map") -> dict[str, Job]:
        """Video id → the newest job of that video and ``kind``, for those videos that have one."""
        with self.database.reading() as session:
            return {
                job.video_id: job
                for job in session.scalars(
                    select(Job)
                    .where(Job.tenant_id == tenant_id, Job.video_id.in_(video_ids), Job.kind == kind)
                    .order_by(Job.created_s)
                )
            }

    def cancel(self, caller: Caller, job_id: str) -> Job:
        """Cancels a job: at once if it waits, within some seconds if it runs. A job that has ended stays as it is.
        Raises NotFound, and StateConflict for the cleaning of a case under a legal hold: it would end the video."""
        with self.database.writing() as session:
            job = _own(session, caller.tenant_id, job_id)
            if job.state not in ENDS and not job.cancel:
                video = session.get(StoredVideo, (job.tenant_id, job.video_id))
                if job.kind == "clean" and video is not None and video.legal_hold:
                    raise StateConflict(
                        "this case is under a legal hold, and without its cleaning the video would go"
                    ).named("hold-cleaning")
                cancel(session, job)
                audit.record(session, caller.tenant_id, caller.actor, f"{job.kind}.cancel", job.video_id, job=job_id)
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
                    lost_often = cause("worker-lost", attempts=job.attempts)
                    if job.cancel:
                        _finish(session, job, "cancelled")
                    else:
                        _finish(session, job, "failed", None, f"its worker was lost {job.attempts} times", lost_often)
                else:
                    job.state, job.worker, job.lease_until_s, job.phase = "queued", None, None, None
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
        self,
        job_id: str,
        worker: str,
        state: str,
        outcome: str | None = None,
        reason: str | None = None,
        cause: Cause | None = None,
    ) -> None:
        """Ends a job in ``state``, if it still belongs to ``worker``. ``cause``: of a job that failed."""
        with self.database.writing() as session:
            job = session.get_one(Job, job_id)
            if job.worker == worker and job.state == "running":
                _finish(session, job, state, outcome, reason, cause)
                audit.record(session, job.tenant_id, "service", f"{job.kind}.{state}", job.video_id, job=job_id)

    def enter_clean_copy(self, job_id: str, worker: str, copy: CleanCopy) -> None:
        """Enters the clean copy that ``worker`` has stored, if the job is still its own. Raises NotFound where it is
        not, or where the video was deleted meanwhile."""
        with self.database.writing() as session:
            job = session.get_one(Job, job_id)
            is_own = job.worker == worker and job.state == "running"
            if not is_own or not cleaning.enter(session, job, copy.certificate, copy.clean, self.review_first):
                raise NotFound(f"no video {job.video_id!r} that is being cleaned")
            video = session.get_one(StoredVideo, (job.tenant_id, job.video_id))
            if self.proxies == "auto" and video.playback == "none":
                playback.begin(session, video, job.user_id)

    def enter_proxy(self, job_id: str, worker: str, size_bytes: int | None) -> None:
        """Enters the copy for browsers that ``worker`` has stored; None for a video that they play itself. Raises
        NotFound where the job is not its own any more, or where the video was deleted meanwhile."""
        with self.database.writing() as session:
            job = session.get_one(Job, job_id)
            is_own = job.worker == worker and job.state == "running"
            if not is_own or not playback.enter(session, job, size_bytes):
                raise NotFound(f"no video {job.video_id!r} of which a copy is made")

    def requeue(self, job_id: str, worker: str, reason: str | None) -> None:
        """Puts a job of ``worker`` back into the queue and does not count the attempt. A job that was cancelled
        meanwhile ends."""
        with self.database.writing() as session:
            job = session.get_one(Job, job_id)
            if job.worker != worker or job.state != "running":
                return
            job.attempts -= 1
            job.state, job.worker, job.lease_until_s, job.reason, job.phase = "queued", None, None, reason, None
            if job.cancel:
                cancel(session, job)

    def refund_attempt(self, job_id: str, worker: str) -> None:
        """Does not count the attempt that ``worker`` is making. The lease stays: the next worker must not begin
        before this one has left the video's maps."""
        with self.database.writing() as session:
            session.execute(
                update(Job)
                .where(Job.job_id == job_id, Job.worker == worker, Job.state == "running")
                .values(attempts=Job.attempts - 1)
            )

    def give_up(self, job_id: str, worker: str) -> None:
        """Ends the lease of ``worker``: what did the job has died, and the attempt counts."""
        self.update(job_id, worker, lease_until_s=0.0)

    def counts(self, kind: str) -> dict[str, int]:
        """State → number of jobs of ``kind``, of all tenants."""
        with self.database.reading() as session:
            rows = session.execute(select(Job.state, func.count()).where(Job.kind == kind).group_by(Job.state))
            return {state: count for state, count in rows}

    def open_count(self) -> int:
        """How many jobs wait or run, of all tenants."""
        with self.database.reading() as session:
            count = select(func.count()).select_from(Job).where(Job.state.in_(("queued", "running")))
            return session.scalar(count) or 0

    def done_s(self, kind: str) -> float:
        """Video-seconds that the jobs of all tenants have mapped or cleaned."""
        with self.database.reading() as session:
            total = select(func.coalesce(func.sum(Job.done_s), 0.0)).where(Job.kind == kind)
            return session.scalar(total) or 0.0

    def _waits_for(self, video: StoredVideo) -> str | None:
        """Why a map of the video has to wait, in words."""
        if video.state == "cleaning":
            return cleaning.WAITS_FOR_CLEANING
        return cleaning.WAITS_FOR_REVIEW if self.review_first and video.state == "review" else None

    def _next(self, session: Session) -> Job | None:
        """The job whose turn it is, see above."""
        running = session.execute(select(Job.tenant_id, Job.video_id, Job.kind).where(Job.state == "running")).all()
        busy = Counter(tenant_id for tenant_id, _, _ in running)
        worked = {(tenant_id, video_id) for tenant_id, video_id, kind in running if kind != "proxy"}
        copied = {(tenant_id, video_id) for tenant_id, video_id, kind in running if kind == "proxy"}
        # When each tenant had its last turn, so that tenants with equally many running jobs take turns.
        last = select(Job.tenant_id, func.max(Job.started_s)).where(Job.started_s.is_not(None)).group_by(Job.tenant_id)
        turns = {tenant_id: started_s or 0.0 for tenant_id, started_s in session.execute(last)}
        raw = select(StoredVideo.tenant_id, StoredVideo.video_id, StoredVideo.state).where(
            StoredVideo.state.in_(("cleaning", "review") if self.review_first else ("cleaning",))
        )
        states = {(tenant_id, video_id): state for tenant_id, video_id, state in session.execute(raw)}
        waiting = session.scalars(select(Job).where(Job.state == "queued", Job.cancel.is_(False))).all()

        def is_free(job: Job) -> bool:
            whose = (job.tenant_id, job.video_id)
            if job.kind == "proxy":
                return whose not in copied and states.get(whose) != "cleaning"
            return whose not in worked and (job.kind == "clean" or whose not in states)

        free = [job for job in waiting if is_free(job)]
        return min(
            free,
            default=None,
            # A job that was tried before waits behind those that came until then: a job that finds no room each time
            # must not keep them from their turn.
            key=lambda job: (
                busy[job.tenant_id],
                turns.get(job.tenant_id, 0.0),
                max(job.created_s, job.started_s or 0.0),
                job.job_id,
            ),
        )


def cancel(session: Session, job: Job) -> None:
    """Within a transaction: ends a job that waits. A job that runs is told at its next heartbeat."""
    job.cancel = True
    if job.state == "queued":
        _finish(session, job, "cancelled")


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


def _finish(
    session: Session,
    job: Job,
    state: str,
    outcome: str | None = None,
    reason: str | None = None,
    why: Cause | None = None,
) -> None:
    if job.kind == "clean" and state == "failed":
        cleaning.fail(session, job, reason or "", why)
    if job.kind == "clean" and state == "cancelled":
        cleaning.fail(session, job, cleaning.CANCELLED, cause("cleaning-stopped"))
    if job.kind == "proxy" and state in ("failed", "cancelled"):
        playback.fail(session, job)
    if job.kind == "map" and state == "failed":
        note_failure(session, job.tenant_id, job.video_id, reason, why)
    job.state, job.outcome, job.reason, job.cause = state, outcome, reason, why
    job.finished_s, job.lease_until_s, job.worker, job.phase = now_s(), None, None, None


def _own(session: Session, tenant_id: str, job_id: str) -> Job:
    """The tenant's job. Raises NotFound."""
    job = session.get(Job, job_id)
    if job is None or job.tenant_id != tenant_id:
        raise NotFound(f"no job {job_id!r}")
    return job
