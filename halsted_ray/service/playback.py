"""Whether browsers play a video, and the copy that is made where they do not.

    none ──► making ──► proxy        a job of the kind ``proxy`` writes a copy beside the video (``proxy_copy.py``)
      ▲         │
      └─────────┘ the job failed or was cancelled

``StoredVideo.playback`` is direct where browsers play the video itself, else one of these. The map, the clip and every
other look still read the video itself. The copy goes with the case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from halsted_ray.service.tables import Job, StoredVideo, queued_job
from halsted_ray.video.playable import PLAYED_CODECS, plays_itself

if TYPE_CHECKING:
    from halsted_ray.video.probe import Probe

Playback = Literal["direct", "proxy", "making", "none"]
PLAYBACKS: dict[Playback, str] = {
    "direct": "browsers play the video itself",
    "proxy": "browsers play a copy of it",
    "making": "a copy is being made",
    "none": "browsers do not play it, and there is no copy yet",
}
PROXIES = ("auto", "off")
"""auto: a copy is made as soon as a video is ready that browsers do not play. off: only where somebody asks for it."""
PROXY_NAME, UNFINISHED_NAME = "proxy.mp4", "unfinished-proxy.mp4"
"""Of the copy beside the video, and of what becomes the copy while it is written in a store that is a folder."""


def playback_of(probe: Probe) -> Playback:
    """``direct`` or ``none``, by what the video is."""
    return "direct" if plays_itself(probe.codec, probe.pixel_format, probe.container) else "none"


def shown(video: StoredVideo) -> Playback:
    """One of ``PLAYBACKS``. A video that came before the service looked at this is judged by its codec alone."""
    if video.playback:
        return cast(Playback, video.playback)
    return "direct" if video.codec in PLAYED_CODECS else "none"


def proxy_place(video: StoredVideo) -> str:
    """Where the copy of a video lies, within the tenant's storage."""
    return f"{video.place.rsplit('/', 1)[0]}/{PROXY_NAME}"


def unfinished_place(video: StoredVideo) -> str:
    """Where a job writes the copy of a video, in a store that is a folder."""
    return f"{video.place.rsplit('/', 1)[0]}/{UNFINISHED_NAME}"


def begin(session: Session, video: StoredVideo, user_id: str) -> Job:
    """Within a transaction: enters the job that makes a copy of a video that is ready."""
    job = queued_job("proxy", video, user_id)
    session.add(job)
    video.playback = "making"
    return job


def enter(session: Session, job: Job, size_bytes: int | None) -> bool:
    """Within a transaction: the copy is stored; None for a video that browsers play itself. False where the video was
    deleted meanwhile, or another job makes its copy now."""
    video = session.get(StoredVideo, (job.tenant_id, job.video_id), with_for_update=True)
    if video is None or not _is_of(session, job, video):
        return False
    video.playback, video.proxy_bytes = ("direct", None) if size_bytes is None else ("proxy", size_bytes)
    return True


def fail(session: Session, job: Job) -> None:
    """Within a transaction: there is no copy, and somebody may ask for one again."""
    video = session.get(StoredVideo, (job.tenant_id, job.video_id))
    if video is not None and _is_of(session, job, video):
        video.playback = "none"


def _is_of(session: Session, job: Job, video: StoredVideo) -> bool:
    """Whether ``job`` makes the copy of what the video holds now: a video can be deleted and sent again meanwhile."""
    newest = newest_job(session, video)
    is_open = video.deleted_s is None and video.playback == "making"
    return is_open and newest is not None and newest.job_id == job.job_id


def newest_job(session: Session, video: StoredVideo) -> Job | None:
    """The newest job that makes a copy of the video."""
    return session.scalar(
        select(Job)
        .where(Job.tenant_id == video.tenant_id, Job.video_id == video.video_id, Job.kind == "proxy")
        .order_by(Job.created_s.desc())
        .limit(1)
    )
