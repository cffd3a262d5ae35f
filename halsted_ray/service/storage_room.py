"""How much a tenant may keep, and how much room the disk keeps free for the database and for deleting.

Uploads are refused before the disk is full, so that signing in, watching, aborting and deleting go on: each of these
writes to the database. Mapping stops at half of that reserve, so that maps don't eat what uploads left.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from halsted_ray.errors import UsageError
from halsted_ray.service import temporary_room
from halsted_ray.service.object_store import ObjectStore, StoreFull
from halsted_ray.service.tables import StoredVideo, Tenant, Upload, UploadPart
from halsted_ray.storage.locations import local_path

MOST_RESERVE_BYTES = 1024**3
RESERVE_SHARE = 0.05
"""Where the settings name no reserve: this share of the disk, and no more than ``MOST_RESERVE_BYTES``."""


class QuotaExceeded(UsageError):
    """The tenant may not keep so many bytes, or so many open uploads."""


@dataclass(frozen=True)
class StorageUse:
    """What one tenant keeps. ``quota_bytes``: what it may keep, None for no bound. ``upload_bytes``: of open uploads,
    each with the size that it announced or with what came, whichever is more."""

    quota_bytes: int | None
    video_bytes: int
    upload_bytes: int
    open_uploads: int

    @property
    def left_bytes(self) -> int | None:
        """What the quota leaves; None for no bound."""
        if self.quota_bytes is None:
            return None
        return max(0, self.quota_bytes - self.video_bytes - self.upload_bytes)


@dataclass(frozen=True)
class StorageRoom:
    """The bounds of a site. ``quota_bytes``: of each tenant that has no quota of its own. ``reserve_bytes``: what stays
    free on the disk of the store; None for a share of the disk. ``open_uploads``: of one tenant."""

    store: ObjectStore
    quota_bytes: int | None = None
    reserve_bytes: int | None = None
    open_uploads: int = 1000
    is_cleaned: bool = False
    """Whether a job makes a clean copy of each upload."""

    def use(self, session: Session, tenant_id: str) -> StorageUse:
        """What the tenant keeps now."""
        tenant = session.get(Tenant, tenant_id)
        own = tenant.quota_bytes if tenant else None
        kept = StoredVideo.size_bytes + func.coalesce(StoredVideo.proxy_bytes, 0)
        videos = select(func.coalesce(func.sum(kept), 0)).where(StoredVideo.tenant_id == tenant_id)
        sizes = session.execute(_open_sizes().where(Upload.tenant_id == tenant_id)).all()
        return StorageUse(
            quota_bytes=self.quota_bytes if own is None else own,
            video_bytes=int(session.scalar(videos) or 0),
            upload_bytes=sum(max(int(announced or 0), int(came)) for announced, came in sizes),
            open_uploads=len(sizes),
        )

    def check_new_upload(self, session: Session, tenant_id: str, size_bytes: int | None) -> None:
        """Raises QuotaExceeded or StoreFull where an upload of ``size_bytes`` (None: not announced) can't end well.

        The session writes: the tenant's row is held until it ends, so that two uploads don't take the same room.
        """
        session.get_one(Tenant, tenant_id, with_for_update=True)
        use = self.use(session, tenant_id)
        if use.open_uploads >= self.open_uploads:
            raise QuotaExceeded(
                f"{use.open_uploads} uploads are open, and at most {self.open_uploads} may be; complete or abort some"
            ).named("uploads-open", most=self.open_uploads)
        self._check_quota(use, size_bytes or 1)
        promised = session.execute(_open_sizes().where(Upload.size_bytes.is_not(None))).all()
        on_its_way = sum(max(0, int(announced or 0) - int(came)) for announced, came in promised)
        self.check_disk(size_bytes or 1, on_its_way)
        if self.is_cleaned:
            self.check_temporary(temporary_room.CLEANING_COPIES * (size_bytes or 0))

    def check_more(self, session: Session, upload: Upload, size_bytes: int) -> None:
        """Raises QuotaExceeded where ``size_bytes`` more of an upload that announced no size are too many, StoreFull
        where the disk has no room for them."""
        if upload.size_bytes is None:
            self.check_quota(session, upload.tenant_id, size_bytes)
        self.check_disk(size_bytes)

    def check_quota(self, session: Session, tenant_id: str, size_bytes: int) -> None:
        """Raises QuotaExceeded where the tenant may not keep ``size_bytes`` more."""
        self._check_quota(self.use(session, tenant_id), size_bytes)

    def check_disk(self, size_bytes: int, on_its_way_bytes: int = 0) -> None:
        """Raises StoreFull where ``size_bytes`` more would touch the reserve. ``on_its_way_bytes``: what other uploads
        have announced and not sent yet."""
        free = self.free_bytes
        if free is not None and size_bytes > free - on_its_way_bytes:
            raise StoreFull(
                f"the store has {max(0, free - on_its_way_bytes)} bytes free for uploads, {size_bytes} were asked for; "
                "make room (delete videos, abort uploads) and send it again, or ask the site's operator for a larger "
                "disk"
            ).named("store-full")

    def check_temporary(self, size_bytes: int) -> None:
        """Raises StoreFull where the folder of temporary files of this machine has no room for ``size_bytes``. Where
        the store is a folder nothing lies there."""
        if local_path(self.store.root) is not None:
            return
        free = max(0, temporary_room.free_bytes() - _reserve_of(Path(tempfile.gettempdir()), self.reserve_bytes))
        if size_bytes > free:
            raise StoreFull(
                f"the folder of temporary files has {free} bytes free for videos, {size_bytes} are needed while this "
                "one is stored and cleaned; send it again later, or ask the site's operator for more room in TMPDIR"
            ).named("store-full")

    @property
    def free_bytes(self) -> int | None:
        """The room that the disk has for uploads, beside the reserve; None where the store does not say."""
        free = self.store.free_bytes
        return None if free is None else max(0, free - self._reserve())

    @property
    def is_short(self) -> bool:
        """Whether so little is left that nothing but the database and deleting may have it."""
        free = self.store.free_bytes
        return free is not None and free < self._reserve() / 2

    def _check_quota(self, use: StorageUse, size_bytes: int) -> None:
        if use.left_bytes is not None and size_bytes > use.left_bytes:
            raise QuotaExceeded(
                f"this tenant may keep {use.quota_bytes} bytes and has {use.left_bytes} left ({use.video_bytes} of "
                f"videos, {use.upload_bytes} of open uploads); {size_bytes} were asked for: delete videos, abort "
                "uploads, or ask the site's operator for a larger quota"
            ).named("quota", left_bytes=use.left_bytes)

    def _reserve(self) -> int:
        return _reserve_of(Path(self.store.root), self.reserve_bytes)


def _reserve_of(place: Path, reserve_bytes: int | None) -> int:
    """What stays free on the disk of ``place``: ``reserve_bytes``, or a share of the disk."""
    if reserve_bytes is not None:
        return reserve_bytes
    while not place.exists():
        place = place.parent
    disk = os.statvfs(place)
    return min(MOST_RESERVE_BYTES, int(RESERVE_SHARE * disk.f_blocks * disk.f_frsize))


def _open_sizes() -> Select[int | None, int]:
    """(announced size, bytes that came) of each open upload."""
    came = func.coalesce(func.sum(UploadPart.size_bytes), 0)
    return (
        select(Upload.size_bytes, came)
        .outerjoin(UploadPart, UploadPart.upload_id == Upload.upload_id)
        .where(Upload.state == "open")
        .group_by(Upload.upload_id, Upload.size_bytes)
    )
