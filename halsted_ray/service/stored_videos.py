"""The videos of a tenant in the database, as uploads, cases and jobs look them up."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from halsted_ray.service.errors import NotFound
from halsted_ray.service.tables import StoredVideo, Upload


def next_position(session: Session, tenant_id: str, case_id: str) -> int:
    """The position behind those of all files of a case, with those that are on their way."""
    videos = select(func.max(StoredVideo.position)).where(
        StoredVideo.tenant_id == tenant_id, StoredVideo.case_id == case_id, StoredVideo.deleted_s.is_(None)
    )
    uploads = select(func.max(Upload.position)).where(
        Upload.tenant_id == tenant_id, Upload.case_id == case_id, Upload.state.in_(("open", "complete"))
    )
    return max(session.scalar(videos) or 0, session.scalar(uploads) or 0) + 1


def video_of_tenant(session: Session, tenant_id: str, video_id: str, is_held: bool = False) -> StoredVideo:
    """The tenant's video. Raises NotFound for a video of another tenant, a deleted video, and an unknown id.

    ``is_held``: nobody else changes or deletes it until the transaction ends. Whoever adds something that goes with the
    video asks for that: what is added while another transaction deletes the video would stay, and belong to whoever
    uploads the same file next. A transaction that holds several videos holds all of them before its first audit entry.
    """
    video = session.get(StoredVideo, (tenant_id, video_id), with_for_update=True if is_held else None)
    if video is None or video.deleted_s is not None:
        raise NotFound(f"no video {video_id!r}")
    return video
