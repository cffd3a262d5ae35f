"""What becomes of a file that was uploaded whole: a new video of its tenant, or one more holder of a known video."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from halsted_ray.service import cleaning, playback
from halsted_ray.service.database import now_s
from halsted_ray.service.shares import add_share
from halsted_ray.service.tables import StoredVideo, Upload, new_case_id
from halsted_ray.service.users import DAY_S
from halsted_ray.video.probe import Probe


@dataclass(frozen=True)
class NewVideoRules:
    """``retention_days``: how long a new video is kept; None: for good. ``deidentify``: of ``cleaning.LEVELS``.
    ``proxies``: of ``playback.PROXIES``."""

    retention_days: float | None = None
    deidentify: str = "metadata"
    proxies: str = "auto"


def enter_video(
    session: Session, upload: Upload, name: str, size_bytes: int, found: Probe, rules: NewVideoRules
) -> tuple[StoredVideo, str | None]:
    """Within a transaction: enters the file of ``upload`` as the tenant's video ``name``, an id made from its content.
    Returns the video, and the place of bytes that nothing needs any more; None: there are none."""
    video = session.get(StoredVideo, (upload.tenant_id, name))
    if video is not None and video.deleted_s is None and video.state != "failed":
        if video.owner_id not in (None, upload.user_id):  # whoever has the whole file may see the case, too
            add_share(session, video, upload.user_id, "surgeon", upload.user_id, None)
        return video, upload.place
    # Deleted, and its bytes are about to be removed, or never cleaned; these are new bytes.
    superfluous = video.place if video is not None and video.place != cleaning.clean_place(upload) else None
    # Of a case whose cleaning failed only the bytes went: it stays whose it is, and as it is to be kept.
    kept = video if video is not None and video.deleted_s is None else None
    owner_id = (kept.owner_id if kept else None) or upload.user_id
    keep_until_s = None if rules.retention_days is None else now_s() + rules.retention_days * DAY_S
    is_raw = rules.deidentify != "off"
    entered = session.merge(
        StoredVideo(
            tenant_id=upload.tenant_id,
            video_id=name,
            place=cleaning.clean_place(upload) if is_raw else upload.place,
            original=upload.place if is_raw else None,
            state="cleaning" if is_raw else "ready",
            cleaning=None,
            reason=None,
            cause=None,
            size_bytes=size_bytes,
            duration_s=found.duration_s,
            width=found.width,
            height=found.height,
            fps=found.fps,
            codec=found.codec,
            created_s=now_s(),
            deleted_s=None,
            case_id=(kept.case_id if kept else upload.case_id) or new_case_id(),
            position=(kept.position if kept else upload.position) or 1,
            poster=None,
            owner_id=owner_id,
            consent=kept.consent if kept else "unknown",
            keep_until_s=kept.keep_until_s if kept else keep_until_s,
            legal_hold=kept.legal_hold if kept else False,
            playback=None if is_raw else playback.playback_of(found),
            proxy_bytes=None,
        )
    )
    if owner_id != upload.user_id:
        add_share(session, entered, upload.user_id, "surgeon", upload.user_id, None)
    if is_raw:
        cleaning.ask(session, entered, upload.user_id)
    elif rules.proxies == "auto" and entered.playback == "none":
        playback.begin(session, entered, upload.user_id)
    return entered, superfluous
