"""A tenant's videos: listed, read, their timelines, and deleted with everything that was made from them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake.exceptions import DeltaError
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from halsted_ray.errors import OutputError, StorageUnavailable, UsageError
from halsted_ray.maps import exports
from halsted_ray.maps.reading import read_timeline, timeline_version
from halsted_ray.maps.stitch_table import VideoStitches, asked_tasks, stitches_of_timeline
from halsted_ray.service import audit, cleaning, links, playback, shares
from halsted_ray.service.annotations import forget_annotations
from halsted_ray.service.atlas_entries import withdraw_from_atlas
from halsted_ray.service.case_descriptions import forget_of_video
from halsted_ray.service.case_identities import forget_identities
from halsted_ray.service.comments import forget_comments
from halsted_ray.service.database import Database, now_s
from halsted_ray.service.errors import NotFound, StateConflict
from halsted_ray.service.jobs import cancel, deleted_videos
from halsted_ray.service.object_store import ObjectStore
from halsted_ray.service.stored_videos import video_of_tenant
from halsted_ray.service.summaries import forget_summary
from halsted_ray.service.tables import Certificate, Job, StoredVideo, Upload
from halsted_ray.service.users import Caller
from halsted_ray.storage.locations import filesystem
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.taxonomy.parsing import shipped_of_digest

if TYPE_CHECKING:
    from halsted_ray.records import JsonObject

log = logging.getLogger(__name__)
FORMATS = {
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "csv": "text/csv",
    "vtt": "text/vtt",
    "srt": "application/x-subrip",
}
"""Format of a timeline → its media type."""


class NotMapped(NotFound):
    """The video is there, and has no map yet."""


@dataclass(frozen=True)
class Videos:
    """The videos of all tenants, over one database and one store."""

    database: Database
    store: ObjectStore

    def get(self, tenant_id: str, video_id: str) -> StoredVideo:
        """The tenant's video. Raises NotFound."""
        with self.database.reading() as session:
            return video_of_tenant(session, tenant_id, video_id)

    def among(self, names: Collection[tuple[str, ...]]) -> set[tuple[str, ...]]:
        """Those of ``names`` (tenant, video) that are there and not deleted."""
        with self.database.reading() as session:
            found = {name: session.get(StoredVideo, name) for name in names}
        return {name for name, video in found.items() if video is not None and video.deleted_s is None}

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
        """Where the video's clean bytes lie, as ``halsted_ray`` opens them. Raises StateConflict where there are none
        yet, or none at all."""
        if video.state == "cleaning":
            raise StateConflict(f"video {video.video_id!r} is being cleaned; ask again when its state is ready").named(
                "being-cleaned"
            )
        if video.state == "failed":
            raise StateConflict(
                f"video {video.video_id!r} was not cleaned, so nobody can see it: {video.reason}"
            ).named("not-cleaned")
        return self.store.location(video.tenant_id, video.place)

    def certificate(self, video: StoredVideo) -> JsonObject:
        """What was removed from the video, signed by the site. Raises NotFound where it was not cleaned here."""
        with self.database.reading() as session:
            kept = session.get(Certificate, (video.tenant_id, video.video_id))
        if kept is None or video.cleaning is None:
            raise NotFound(f"video {video.video_id!r} has no certificate: it is not cleaned, or not yet")
        return dict(kept.content)

    def accept_hidden(self, caller: Caller, video_id: str) -> JsonObject:
        """Notes that the caller has looked through what was hidden; the certificate, signed anew. Raises NotFound."""
        with self.database.writing() as session:
            video = video_of_tenant(session, caller.tenant_id, video_id, is_held=True)
            if video.cleaning is None:
                raise NotFound(f"video {video_id!r} has no certificate: it is not cleaned, or not yet")
            is_open = video.state == "review"
            certificate = cleaning.accept(session, video, caller.name)
            if is_open:
                audit.record_by(session, caller, "certificate.accept", video_id)
        return certificate

    def remove_originals(self) -> int:
        """Removes the bytes as they came of all videos that are cleaned or failed, and returns how many that were. What
        the store does not remove now is left for the next time."""
        done = (StoredVideo.original.is_not(None), StoredVideo.state != "cleaning", StoredVideo.deleted_s.is_(None))
        with self.database.reading() as session:
            found = session.scalars(select(StoredVideo).where(*done)).all()
        removed = 0
        for video in found:
            assert video.original is not None  # the query says so
            place = video.original.rsplit("/", 1)[0] if video.state == "failed" else video.original
            try:
                self.store.remove(video.tenant_id, place)
            except OutputError as error:
                log.warning("the original of video %s could not be removed: %s", video.video_id, error)
                continue
            removed += 1
            with self.database.writing() as session:
                own = (StoredVideo.tenant_id == video.tenant_id, StoredVideo.video_id == video.video_id)
                session.execute(
                    update(StoredVideo).where(*own, StoredVideo.original == video.original).values(original=None)
                )
        return removed

    def remove_unfinished_proxy(self, tenant_id: str, video_id: str) -> None:
        """Removes what a job has left that made no copy for browsers. What the store does not remove now goes with the
        next copy, or with the case."""
        with self.database.reading() as session:
            video = session.get(StoredVideo, (tenant_id, video_id))
        if video is None or video.playback in ("making", "proxy"):
            return
        for place in (playback.unfinished_place(video), playback.proxy_place(video)):
            try:
                self.store.remove(tenant_id, place)
            except OutputError as error:
                log.warning("an unfinished copy of video %s could not be removed: %s", video_id, error)

    def read(self, video: StoredVideo, start: int, stop: int, of_proxy: bool = False) -> bytes:
        """The bytes [start, stop) of the video, or of its copy for browsers. Raises OutputError where the store does
        not give them."""
        location = self.location(video)  # 409 while it is being cleaned
        if of_proxy:
            location = self.store.location(video.tenant_id, playback.proxy_place(video))
        fs, path = filesystem(location)
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
        return exports.canonical_rows(self.timeline(tenant_id, video_id))

    def stitches(self, tenant_id: str, video_id: str, served: Callable[[], Taxonomy]) -> VideoStitches:
        """The stitches in the map of a video. ``served`` gives the taxonomy of the model that is served now; it is
        asked where the taxonomy of the map does not ship. Raises NotFound where there is no map, StateConflict where
        the taxonomy of the map is known no more."""
        table = self.timeline(tenant_id, video_id)
        asked = {video_id: self.asked(tenant_id, video_id)}
        is_own = any(shipped_of_digest(digest) is None for digest in table["taxonomy_digest"].unique().to_pylist())
        try:
            [found] = stitches_of_timeline(table, asked, served() if is_own else None)
        except UsageError:
            raise StateConflict(
                f"the map of video {video_id!r} is in a taxonomy that this service has no more; map the video again"
            ).named("map-old") from None
        return found

    def asked(self, tenant_id: str, video_id: str) -> set[str]:
        """The tasks that some segment of the video was asked. Raises NotFound where the video is deleted meanwhile."""
        with self._not_deleted(tenant_id, video_id):
            return set().union(*asked_tasks(self.maps_location(tenant_id, video_id)).values())

    def timeline(self, tenant_id: str, video_id: str) -> pa.Table:
        """The rows of a video's map, with this tenant's id of the video (TIMELINE_SCHEMA). Raises NotFound where there
        is none."""
        self.get(tenant_id, video_id)
        try:
            with self._not_deleted(tenant_id, video_id):
                table = read_timeline(self.maps_location(tenant_id, video_id))
        except NotFound:
            raise
        except UsageError:
            raise NotMapped(f"video {video_id!r} is not mapped yet; ask for a map first").named("not-mapped") from None
        if not len(table):  # a half-removed map reads as an empty map
            self.get(tenant_id, video_id)
        # The pipeline names a video by samples of its bytes, and this tenant's video has the id of all of them.
        place = table.schema.names.index("video_id")
        return table.set_column(place, "video_id", pa.array([video_id] * len(table), pa.string()))

    def timeline_version(self, tenant_id: str, video_id: str) -> str:
        """The name of the published timeline: another one wherever the timeline may be another. Raises NotFound where
        the video is not there or nothing was published yet."""
        self.get(tenant_id, video_id)
        with self._not_deleted(tenant_id, video_id):
            version = timeline_version(self.maps_location(tenant_id, video_id))
        if version is None:
            raise NotMapped(f"video {video_id!r} is not mapped yet; ask for a map first").named("not-mapped")
        return version

    @contextmanager
    def _not_deleted(self, tenant_id: str, video_id: str) -> Iterator[None]:
        """Around what reads a video's files: where it fails because somebody deletes the video, it raises NotFound."""
        try:
            yield
        except (DeltaError, OSError, pa.ArrowException, OutputError, StorageUnavailable):
            self.get(tenant_id, video_id)
            raise

    def delete(self, caller: Caller, video_id: str) -> None:
        """Deletes a video for everybody and cancels its jobs. Its bytes are removed at once, or as soon as no running
        job reads them. Raises NotFound, and StateConflict where it is under a legal hold."""
        with self.database.writing() as session:
            self.mark_deleted(session, caller, video_of_tenant(session, caller.tenant_id, video_id, is_held=True))
        self.purge()

    def mark_deleted(self, session: Session, caller: Caller, video: StoredVideo, reason: str = "asked") -> None:
        """Within a transaction: deletes a video for everybody, ends its shares and links, removes what people said
        about it and cancels its jobs. ``reason``: asked, or due where its time has come. Raises StateConflict where it
        is under a legal hold."""
        check_deletable(video)
        video.deleted_s = now_s()
        shares.end_all(session, video)
        links.end_all(session, video)
        forget_identities(session, video)
        forget_annotations(session, video)
        forget_comments(session, video)
        withdraw_from_atlas(session, video)
        forget_of_video(session, video)
        forget_summary(session, video)
        for job in session.scalars(
            select(Job).where(
                Job.tenant_id == video.tenant_id,
                Job.video_id == video.video_id,
                Job.state.in_(("queued", "running")),
            )
        ):
            cancel(session, job)
        audit.record_by(session, caller, "video.delete", video.video_id, reason=reason)

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
                    whose = (Certificate.tenant_id == video.tenant_id, Certificate.video_id == video.video_id)
                    session.execute(delete(Certificate).where(*whose))
                    forget_summary(session, still)  # a job may have written it after the video was deleted
                    session.delete(still)
                    audit.record(session, video.tenant_id, "service", "video.purge", video.video_id)
        self.database.empty_log()  # it held whose these videos were
        return purged


def check_deletable(video: StoredVideo) -> None:
    """Raises StateConflict where the video is under a legal hold."""
    if video.legal_hold:
        raise StateConflict(
            f"video {video.video_id!r} is under a legal hold; an administrator ends the hold first"
        ).named("legal-hold")


def render_timeline(rows: Iterable[exports.Row], format: str, kind: str = "captions") -> str:
    """``rows`` as a text in ``format`` (jsonl, csv, vtt, srt). ``kind``, of a VTT: captions, metadata or chapters."""
    suffix = {"captions": "", "metadata": ".metadata", "chapters": ".chapters"}[kind] if format == "vtt" else ""
    return exports.WRITERS[format][f"{suffix}.{format}"](list(rows))
