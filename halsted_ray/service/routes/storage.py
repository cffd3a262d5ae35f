"""/v1/storage: what the caller's tenant keeps, and how much room is left."""

from __future__ import annotations

from fastapi import APIRouter

from halsted_ray.service import schemas
from halsted_ray.service.deps import Components, Reader

router = APIRouter(prefix="/v1/storage")


@router.get("")
def show_storage(caller: Reader, components: Components) -> schemas.StorageShown:
    """The quota of the tenant, what its videos and open uploads take of it, and what is left."""
    uploads = components.uploads
    use = uploads.use(caller.tenant_id)
    return schemas.StorageShown(
        quota_bytes=use.quota_bytes,
        video_bytes=use.video_bytes,
        upload_bytes=use.upload_bytes,
        open_uploads=use.open_uploads,
        most_open_uploads=uploads.room.open_uploads,
        left_bytes=use.left_bytes,
        disk_bytes=uploads.room.free_bytes,
        longest_video_s=uploads.limits.hours * 3600,
    )
