"""The site's own table of identities: which patient and study a video is of, where it came as DICOM.

Administrators read it, one case at a time, and each look is an entry of the audit log. It goes with the case. Nothing
else of the service reads it: no export, no log, no error.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from halsted_ray.hospital.subject import Subject
from halsted_ray.service import audit
from halsted_ray.service.database import Database, now_s
from halsted_ray.service.stored_videos import video_of_tenant
from halsted_ray.service.tables import StoredVideo, VideoIdentity

if TYPE_CHECKING:
    from halsted_ray.service.cases import Case
    from halsted_ray.service.users import Caller


LONGEST = 1000
"""Letters of a value that are kept; a name of DICOM has at most 194."""


def add_identity(session: Session, caller: Caller, video_id: str, subject: Subject) -> None:
    """Within a transaction: notes whom a video is of; the same instance again replaces its row. The audit log says so,
    and whether the row says something else now. Raises NotFound where the video was deleted meanwhile."""
    video_of_tenant(session, caller.tenant_id, video_id, is_held=True)
    values = {name: _storable(value) for name, value in asdict(subject).items()}
    before = session.get(VideoIdentity, (caller.tenant_id, video_id, values["instance_uid"]))
    differs = before is not None and any(getattr(before, name) != value for name, value in values.items())
    audit.record_by(session, caller, "case.identity.enter", video_id, replaced=before is not None, changed=differs)
    session.merge(VideoIdentity(tenant_id=caller.tenant_id, video_id=video_id, received_s=now_s(), **values))


def read_identities(database: Database, case: Case) -> list[Subject]:
    """Whom the case is of: an entry per DICOM instance that held its video. The look is written into the audit log
    before anything is read."""
    with database.writing() as session:
        audit.record_by(session, case.caller, "case.identity", case.video_id)
    with database.reading() as session:
        rows = session.scalars(
            select(VideoIdentity)
            .where(VideoIdentity.tenant_id == case.video.tenant_id, VideoIdentity.video_id == case.video_id)
            .order_by(VideoIdentity.instance_uid)
        ).all()
    return [Subject(**{column.name: getattr(row, column.name) for column in fields(Subject)}) for row in rows]


def _storable(text: str) -> str:
    """``text`` without what a database refuses (zeros, halves of a character), and no longer than ``LONGEST``."""
    return text.replace("\0", "").encode(errors="replace").decode()[:LONGEST]


def forget_identities(session: Session, video: StoredVideo) -> None:
    """Within a transaction: removes whom a video is of."""
    session.execute(
        delete(VideoIdentity).where(
            VideoIdentity.tenant_id == video.tenant_id, VideoIdentity.video_id == video.video_id
        )
    )
