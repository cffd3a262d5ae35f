"""Shares: with whom the owner of a case shares it, as what, and until when."""

from __future__ import annotations

import secrets

from sqlalchemy import ColumnElement, delete, or_
from sqlalchemy.orm import Session

from halsted_ray.service.database import now_s
from halsted_ray.service.tables import Share, StoredVideo


def add_share(
    session: Session, video: StoredVideo, user_id: str, relation: str, granted_by: str, expires_s: float | None
) -> Share:
    """Within a transaction: a share in place of the user's earlier shares of the same kind."""
    session.execute(
        delete(Share).where(
            Share.tenant_id == video.tenant_id,
            Share.video_id == video.video_id,
            Share.user_id == user_id,
            Share.relation == relation,
        )
    )
    share = Share(
        share_id=secrets.token_hex(8),
        tenant_id=video.tenant_id,
        video_id=video.video_id,
        user_id=user_id,
        relation=relation,
        granted_by=granted_by,
        created_s=now_s(),
        expires_s=expires_s,
    )
    session.add(share)
    return share


def end_all(session: Session, video: StoredVideo) -> None:
    """Within a transaction: ends all shares of a video."""
    session.execute(delete(Share).where(Share.tenant_id == video.tenant_id, Share.video_id == video.video_id))


def is_running() -> ColumnElement[bool]:
    """The condition that a share has not expired."""
    return or_(Share.expires_s.is_(None), Share.expires_s > now_s())
