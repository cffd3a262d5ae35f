"""What is known of a tenant's videos: listed, their timelines, and everything of one gone."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select

from halsted_ray.errors import OutputError, UsageError
from halsted_ray.maps import exports
from halsted_ray.maps.reading import read_timeline
from halsted_ray.service import audit
from halsted_ray.service.database import Database, Job, StoredVideo, Upload, now_s
from halsted_ray.service.jobs import cancel, deleted_videos
from halsted_ray.service.object_store import FolderStore, S3Store
from halsted_ray.service.uploads import NotThere, own_video
from halsted_ray.service.users import Caller
from halsted_ray.storage.locations import filesystem

log = logging.getLogger(__name__)
FORMATS = {
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "csv": "text/csv",
    "vtt": "text/vtt",
    "srt": "application/x-subrip",
}
"""Format of a timeline → its media type."""


@dataclass(frozen=True)
class Videos:
    database: Database
    store: FolderStore | S3Store

    def get(self, tenant_id: str, video_id: str) -> StoredVideo:
        """Raises NotThere."""
        with self.database.reading() as session:
            return own_video(session, tenant_id, video_id)

    def list(self, tenant_id: str, after: str = "", limit: int = 100) -> list[StoredVideo]:
        with self.database.reading() as session:
            return list(
                session.scalars(
                    select(StoredVideo)
                    .where(
                        StoredVideo.tenant_id == tenant_id,
                        StoredVideo.deleted_s.is_(None),
                        StoredVideo.video_id > after,
                    )
                    .order_by(StoredVideo.video_id)
                    .limit(limit)
                )
            )

    def location(self, video: StoredVideo) -> str:
        return self.store.location(video.tenant_id, video.place)

    def read(self, video: StoredVideo, start: int, stop: int) -> bytes:
        """Its bytes [start, stop). Raises OutputError where the store does not give them."""
        fs, path = filesystem(self.location(video))
        try:
            return fs.cat_file(path, start=start, end=stop)
        except Exception as error:
            raise OutputError(f"video {video.video_id!r}: its bytes can't be read: {type(error).__name__}") from None

    def maps(self, tenant_id: str, video_id: str) -> str:
        """Where a video's maps lie, with its vectors: one place a video, so that all of it can go at once."""
        return self.store.location(tenant_id, f"maps/{video_id}")

    def rows(self, tenant_id: str, video_id: str) -> list[exports.Row]:
        """The timeline in order of time, columns as in ``exports.COLUMNS``. Raises NotThere where there is none."""
        self.get(tenant_id, video_id)
        try:
            table = read_timeline(self.maps(tenant_id, video_id))
        except UsageError:
            raise NotThere(f"video {video_id!r} is not mapped yet; ask for a map first") from None
        return exports.canonical_rows(table)

    def delete(self, caller: Caller, video_id: str) -> None:
        """From now on it is gone for everybody; its bytes go at once, or as soon as a running job lets go."""
        with self.database.writing() as session:
            video = own_video(session, caller.tenant_id, video_id)
            video.deleted_s = now_s()
            for job in session.scalars(
                select(Job).where(
                    Job.tenant_id == caller.tenant_id, Job.video_id == video_id, Job.state.in_(("queued", "running"))
                )
            ):
                cancel(job)
            audit.record(session, caller.tenant_id, caller.actor, "video.delete", video_id)
        self.purge()

    def purge(self) -> int:
        """Removes the bytes, maps, vectors and pictures of deleted videos that nobody works on; gives how many. A
        video that the store does not remove now is left for the next time."""
        with self.database.reading() as session:
            # Every upload of a deleted video, since the store may have failed to remove the bytes of a second one.
            # Asked for before the videos, so that an upload that brings a video back in this moment is not among them.
            uploads = session.execute(
                select(Upload.tenant_id, Upload.video_id, Upload.place)
                .join(
                    StoredVideo, (StoredVideo.tenant_id == Upload.tenant_id) & (StoredVideo.video_id == Upload.video_id)
                )
                .where(StoredVideo.deleted_s.is_not(None), Upload.state == "complete")
            ).all()
            gone = deleted_videos(session)
        purged = 0
        for video in gone:
            sent = {place for *whose, place in uploads if whose == [video.tenant_id, video.video_id]}
            try:
                for place in sorted(sent | {video.place}):
                    self.store.remove(video.tenant_id, place.rsplit("/", 1)[0])
                self.store.remove(video.tenant_id, f"maps/{video.video_id}")
            except OutputError as error:
                log.warning("deleted video %s could not be removed: %s", video.video_id, error)
                continue
            purged += 1
            with self.database.writing() as session:
                still = session.get(StoredVideo, (video.tenant_id, video.video_id))
                if still is not None and still.deleted_s is not None:
                    session.delete(still)
                    audit.record(session, video.tenant_id, "service", "video.purge", video.video_id)
        return purged


def render(rows: Iterable[exports.Row], format: str, kind: str = "captions") -> str:
    """``rows`` as text. ``kind`` of a VTT: captions, metadata, chapters."""
    suffix = {"captions": "", "metadata": ".metadata", "chapters": ".chapters"}[kind] if format == "vtt" else ""
    return exports.WRITERS[format][f"{suffix}.{format}"](list(rows))
