"""Bytes in the store that no upload and no video stands for: what a request that died half-way has left there.

Without this they would stay for ever: on S3 nobody aborts a multipart upload whose id was never written down, and its
parts are paid for and listed nowhere.
"""

from __future__ import annotations

import logging

from sqlalchemy import select

from halsted_ray.errors import OutputError
from halsted_ray.service.database import Database, now_s
from halsted_ray.service.object_store import VIDEOS, KeptUpload, ObjectStore
from halsted_ray.service.tables import StoredVideo, Upload

log = logging.getLogger(__name__)
ORPHAN_AFTER_S = 3600.0
"""What changed within this time may belong to a request that is under way."""


def remove_orphans(database: Database, store: ObjectStore, older_than_s: float = ORPHAN_AFTER_S) -> int:
    """Removes what no open upload and no video stands for, and has not changed for ``older_than_s`` seconds; returns
    how many uploads that were.

    A joined file is removed only where the database knows its upload. One that it does not know may be the video of a
    database that was put away: such files are counted in the log and stay. Raises OutputError where the store can't be
    listed; what it does not remove now is left for the next time.
    """
    removed = unknown = 0
    for kept in store.kept_uploads():
        if kept.changed_s > now_s() - older_than_s:
            continue
        with database.reading() as session:
            upload = session.get(Upload, kept.upload_id)
            folder = f"{VIDEOS}/{kept.upload_id}"
            is_video = session.scalar(
                select(StoredVideo.video_id).where(
                    StoredVideo.tenant_id == kept.tenant_id, StoredVideo.place.startswith(f"{folder}/")
                )
            )
        if is_video is not None and not kept.ref:
            continue
        if upload is not None and upload.state == "open" and (not kept.ref or kept.ref == upload.store_ref):
            continue
        if upload is None and kept.is_whole:
            unknown += 1
            continue
        try:
            _remove(store, kept)
        except OutputError as error:
            log.warning("what upload %s left in the store could not be removed: %s", kept.upload_id, error)
        else:
            removed += 1
    if unknown:
        log.warning("the store has %d videos that this database does not know; they stay", unknown)
    if removed:
        log.info("removed what %d uploads had left in the store", removed)
    return removed


def _remove(store: ObjectStore, kept: KeptUpload) -> None:
    folder = f"{VIDEOS}/{kept.upload_id}"
    if kept.ref:  # the parts alone: a file of the same upload may be a video
        store.drop_parts(kept.tenant_id, f"{folder}/video.mp4", kept.ref)
    else:
        store.remove(kept.tenant_id, folder)
