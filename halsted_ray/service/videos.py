"""A tenant's videos: listed, read, their timelines, and deleted with everything that was made from them."""

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
from halsted_ray.service.object_store import ObjectStore
from halsted_ray.service.uploads import NotFound, video_of_tenant
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
    """The videos of all tenants, over one database and one store."""

    database: Database
    store: ObjectStore

    def get(self, tenant_id: str, video_id: str) -> StoredVideo:
        """The tenant's video. Raises NotFound."""
        with self.database.reading() as session:
            return video_of_tenant(session, tenant_id, video_id)

    def list_videos(self, tenant_id: str, after: str = "", limit: int = 100) -> list[StoredVideo]:
        """At most ``limit`` videos of the tenant in the order of their ids, beginning behind the id ``after``."""
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
        """Where the video's bytes lie, as ``halsted_ray`` opens them."""
        return self.store.location(video.tenant_id, video.place)

    def read(self, video: StoredVideo, start: int, stop: int) -> bytes:
        """The video's bytes [start, stop). Raises OutputError where the store does not give them."""
        fs, path = filesystem(self.location(video))
        try:
            return bytes(fs.cat_file(path, start=start, end=stop))
        except Exception as error:
            raise OutputError(f"video {video.video_id!r}: its bytes can't be read: {type(error).__name__}") from None

    def maps_location(self, tenant_id: str, video_id: str) -> str:
        """Where the maps and the vectors of a video lie: one place per video, so that all of it can be removed at
        once."""
        return self.store.location(tenant_id, f"maps/{video_id}")

    def timeline_rows(self, tenant_id: str, video_id: str) -> list[exports.Row]:
        """The timeline in order of time, with the columns ``exports.COLUMNS``. Raises NotFound where there is none."""
        self.get(tenant_id, video_id)
        try:
            table = read_timeline(self.maps_location(tenant_id, video_id))
        except UsageError:
            raise NotFound(f"video {video_id!r} is not mapped yet; ask for a map first") from None
        return exports.canonical_rows(table)

    def delete(self, caller: Caller, video_id: str) -> None:
        """Deletes a video for everybody and cancels its jobs. Its bytes are removed at once, or as soon as no running
        job reads them. Raises NotFound."""
        with self.database.writing() as session:
            video = video_of_tenant(session, caller.tenant_id, video_id)
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
        """Removes the bytes, maps, vectors and pictures of deleted videos that no job works on, and returns how many
        videos that were. A video that the store does not remove now is left for the next time."""
        with self.database.reading() as session:
            # All uploads of a deleted video, since the store may have failed to remove the bytes of a second upload.
            # This query comes before the query for the videos, so that it misses an upload that brings a video back
            # in this moment.
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


def render_timeline(rows: Iterable[exports.Row], format: str, kind: str = "captions") -> str:
    """``rows`` as a text in ``format`` (jsonl, csv, vtt, srt). ``kind``, of a VTT: captions, metadata or chapters."""
    suffix = {"captions": "", "metadata": ".metadata", "chapters": ".chapters"}[kind] if format == "vtt" else ""
    return exports.WRITERS[format][f"{suffix}.{format}"](list(rows))
