"""The gate of the service: every upload is cleaned before anything else reads it.

    cleaning ──► ready | review        the clean copy is stored, the original's bytes are deleted
        └──────► failed                there is no clean copy; the original's bytes are deleted, too

These are the states of a video. The work is a job of the kind ``clean`` in the queue of ``jobs.py``. The bytes of the
original lie at ``StoredVideo.original``, which only that job opens; ``StoredVideo.place`` is where the clean copy comes
to lie, so everything else finds nothing there before.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select
from sqlalchemy.orm import Session

from halsted_ray.deidentify.certificate import signed
from halsted_ray.errors import UsageError
from halsted_ray.service.database import now_s
from halsted_ray.service.failure_causes import Cause, cause
from halsted_ray.service.tables import Certificate, Job, Secret, StoredVideo, Upload, queued_job

if TYPE_CHECKING:
    from halsted_ray.records import JsonObject

LEVELS = ("full", "metadata", "off")
"""full: what the file carries beside its picture goes, text in the picture is masked, spans out of the body become
black. metadata: the first of these alone. off: nothing is done to uploads, which only a site's operator can say."""
CLEAN_NAME = "clean.mp4"
WAITS_FOR_CLEANING = "waiting: the video is being cleaned"
WAITS_FOR_REVIEW = "waiting: somebody must accept first what was hidden in the video"
CANCELLED = "its cleaning was stopped; send the video again"


def clean_place(upload: Upload) -> str:
    """Where the clean copy of an upload comes to lie."""
    return f"{upload.place.rsplit('/', 1)[0]}/{CLEAN_NAME}"


def ask(session: Session, video: StoredVideo, user_id: str) -> None:
    """Within a transaction: enters the job that cleans a new video."""
    session.add(queued_job("clean", video, user_id))


def enter(session: Session, job: Job, certificate: JsonObject, clean: JsonObject, needs_review: bool) -> bool:
    """Within a transaction: the clean copy is stored. ``clean``: its size and what its probe said. False where the
    video was deleted meanwhile.

    ``needs_review``: maps wait until somebody has accepted what was hidden.
    """
    video = session.get(StoredVideo, (job.tenant_id, job.video_id), with_for_update=True)
    if video is None or not _is_of(session, job, video):
        return False
    for name, value in clean.items():
        setattr(video, name, value)
    black = certificate["black"]
    video.state = "review" if black["spans"] or black["masks"] else "ready"
    video.cleaning = summary_of(certificate)
    session.merge(
        Certificate(
            tenant_id=video.tenant_id, video_id=video.video_id, content=signed(certificate, signing_key(session))
        )
    )
    waits = needs_review and video.state == "review"
    for waiting in _waiting(session, video):
        waiting.reason, waiting.total_s = WAITS_FOR_REVIEW if waits else None, video.duration_s
    return True


def fail(session: Session, job: Job, reason: str, why: Cause | None) -> None:
    """Within a transaction: the video of a cleaning job has no clean copy, and the maps that wait for it fail."""
    video = session.get(StoredVideo, (job.tenant_id, job.video_id))
    if video is None or not _is_of(session, job, video):
        return
    video.state, video.reason, video.cause, video.size_bytes = "failed", reason, why, 0
    for waiting in _waiting(session, video):
        waiting.state, waiting.reason, waiting.finished_s = "failed", f"the video was not cleaned: {reason}", now_s()
        waiting.cause = cause("video-not-cleaned")


def accept(session: Session, video: StoredVideo, who: str) -> JsonObject:
    """Within a transaction: ``who`` has looked through what was hidden. The certificate, signed anew. Raises UsageError
    where there is none."""
    kept = session.get(Certificate, (video.tenant_id, video.video_id))
    if kept is None:
        raise UsageError("this video has no certificate: it was not cleaned here")
    if video.state == "review":
        video.state = "ready"
        kept.content = signed(kept.content | {"review": {"state": "accepted", "by": who}}, signing_key(session))
        for waiting in _waiting(session, video):
            waiting.reason = None
    return dict(kept.content)


def summary_of(certificate: JsonObject) -> dict[str, Any]:
    """What the page says of a cleaning: counts and kinds, no places in the picture."""
    looked, carried = certificate["looked_for"], certificate["removed"]["carried"]
    kinds = [kind for kind, count in carried["streams"].items() if count]
    kinds += [kind for kind in ("tags", "chapters") if carried[kind]]
    return {
        "level": "full" if looked["text"] or looked["spans"] else "metadata",
        "looked_for": [*(["text"] if looked["text"] else []), *looked["spans"]],
        "spans": len(certificate["black"]["spans"]),
        "boxes": len(certificate["black"]["masks"]),
        "removed": sorted(kinds),
        "sha256": certificate["after"]["sha256"],
    }


def signing_key(session: Session) -> Ed25519PrivateKey:
    """The site's key for certificates, which lies in its database: all replicas sign with the same one."""
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(session.get_one(Secret, "certificates").value))


def _is_of(session: Session, job: Job, video: StoredVideo) -> bool:
    """Whether ``job`` cleans what the video holds now. A video that was deleted and sent again while its first cleaning
    ran has a newer job, and the first one has no say any more."""
    if video.deleted_s is not None or video.state != "cleaning":
        return False
    newest = session.scalar(
        select(Job.job_id)
        .where(Job.tenant_id == video.tenant_id, Job.video_id == video.video_id, Job.kind == "clean")
        .order_by(Job.created_s.desc())
        .limit(1)
    )
    return newest == job.job_id


def _waiting(session: Session, video: StoredVideo) -> list[Job]:
    """The maps of a video that wait."""
    return list(
        session.scalars(
            select(Job).where(
                Job.tenant_id == video.tenant_id,
                Job.video_id == video.video_id,
                Job.kind == "map",
                Job.state == "queued",
            )
        )
    )
