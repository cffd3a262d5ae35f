"""A case's annotations enter the site's atlas as manual samples, and leave it with the case.

The atlas refers to the video where it lies in the service's store: no picture is copied, so that deleting the case
deletes all of them. A sample names its annotator by the id of the user, never by a name; the commit names the case, the
revision of its annotations and the models whose maps were corrected.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from halsted_ray.atlas import add_samples, withdraw_samples
from halsted_ray.atlas.commits import Change as AtlasChange
from halsted_ray.errors import AtlasError, OutputError
from halsted_ray.records import Clip, Video, digest
from halsted_ray.service import audit
from halsted_ray.service.annotation_samples import agreed, clips_of_spans
from halsted_ray.service.annotation_tables import AtlasEntry
from halsted_ray.service.annotations import Annotations, Layer
from halsted_ray.service.database import Database
from halsted_ray.service.errors import NotFound, StateConflict
from halsted_ray.service.tables import StoredVideo
from halsted_ray.storage.locations import filesystem
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.video.identity import video_id as identified

if TYPE_CHECKING:
    from halsted_ray.service.cases import Case
    from halsted_ray.service.videos import Videos

log = logging.getLogger(__name__)
TRIES = 3
"""How often a commit is made before another writer of the atlas is told of."""


@dataclass(frozen=True)
class Committed:
    """``version``: of the atlas with these samples. ``samples``: how many of this case it holds. ``disputed``: spans
    that are not among them, since two people contradict each other in them. ``revision``: of the annotations."""

    version: int
    samples: int
    disputed: int
    revision: int


@dataclass(frozen=True)
class AtlasEntries:
    """``location``: the archive of the site's atlas; None where the site has none."""

    database: Database
    videos: Videos
    location: str | None

    def commit(self, case: Case, taxonomy: Taxonomy) -> Committed:
        """Puts what people agree on in a case into the atlas, in the place of what was committed of it before: one
        commit, or none where nothing has changed. ``taxonomy``: of the annotations.

        Raises StateConflict where the site has no atlas, nothing is annotated or the consent is withdrawn; AtlasError
        where the atlas is in another taxonomy; OutputError where it can't be written.
        """
        location = self.location
        if location is None:
            raise StateConflict("this site has no atlas; its operator names one by HALSTED_ATLAS").named("no-atlas")
        if case.video.consent == "withdrawn":
            raise StateConflict("the consent is withdrawn: nothing of this case enters the atlas").named(
                "atlas-consent"
            )
        layer = Annotations(self.database).read(case)
        if not layer.revision:
            raise StateConflict("nobody has annotated this case; correct its map first").named("atlas-nothing")
        video = self._video(case.video)
        spans = agreed(layer.spans)
        clips = clips_of_spans(video.video_id, video.duration_s, spans, taxonomy)
        annotators = self._announce(case, video.video_id, layer)
        change = AtlasChange(
            case.caller.user_id,
            f"case {case.video_id} revision {layer.revision}",
            f"corrected maps of: {', '.join(sorted({one.model_version or 'unknown' for one in layer.changes}))}",
            "annotate",
        )
        for tries_left in reversed(range(TRIES)):
            try:
                version = add_samples(
                    location,
                    clips,
                    change,
                    videos=[video],
                    taxonomy=taxonomy,
                    is_replaced=_is_of(video.video_id, annotators),
                )
                break
            except OutputError:
                if not tries_left:
                    raise
        kept = [span for span in layer.spans if not span.is_rejected]
        done = Committed(version, len(clips), len(kept) - len(spans), layer.revision)
        self._note(case, done, video.video_id, annotators)
        return done

    def withdraw_due(self) -> int:
        """Takes the samples of deleted cases, and of cases whose consent was withdrawn, out of the atlas; returns of
        how many cases that was. A case whose samples can't be taken out now is left for the next time."""
        with self.database.reading() as session:
            due = session.scalars(select(AtlasEntry).where(AtlasEntry.is_withdrawn)).all()
        withdrawn = 0
        for entry in due:
            if self.location is None:
                log.error("samples of case %s stay in an atlas that HALSTED_ATLAS no longer names", entry.video_id)
                continue
            change = AtlasChange("service", f"case {entry.video_id}", "deleted, or its consent withdrawn", "withdraw")
            try:
                withdraw_samples(self.location, _is_of(entry.atlas_video_id, entry.annotators), change)
                if other := self._same_file(entry):
                    add_samples(self.location, (), change, videos=[self._video(other)])
            except (AtlasError, OutputError) as error:
                log.warning("case %s could not be taken out of the atlas: %s", entry.video_id, error)
                continue
            with self.database.writing() as session:
                still = session.get(AtlasEntry, (entry.tenant_id, entry.video_id))
                if still is not None and still.is_withdrawn:
                    session.delete(still)
                    audit.record(session, entry.tenant_id, "service", "annotation.withdraw", entry.video_id)
            withdrawn += 1
        return withdrawn

    def _video(self, stored: StoredVideo) -> Video:
        """The video as the atlas knows it: by the id that the whole pipeline computes, in the group of its case."""
        uri = self.videos.location(stored)
        try:
            name = identified(*filesystem(uri))
        except OSError as error:
            raise OutputError(f"video {stored.video_id!r}: its bytes can't be read: {type(error).__name__}") from None
        facts = (stored.size_bytes, stored.duration_s, stored.width, stored.height, stored.fps, stored.codec)
        return Video(name, uri, *facts, group=digest("case", stored.tenant_id, stored.case_id))

    def _same_file(self, entry: AtlasEntry) -> StoredVideo | None:
        """Another tenant's video of the same content whose samples are in the atlas, None where there is none. The
        atlas refers to one place per content, so that has to be a place that stays."""
        with self.database.reading() as session:
            return session.scalar(
                select(StoredVideo)
                .join(
                    AtlasEntry,
                    (AtlasEntry.tenant_id == StoredVideo.tenant_id) & (AtlasEntry.video_id == StoredVideo.video_id),
                )
                .where(
                    AtlasEntry.atlas_video_id == entry.atlas_video_id,
                    AtlasEntry.tenant_id != entry.tenant_id,
                    AtlasEntry.is_withdrawn.is_(False),
                    StoredVideo.deleted_s.is_(None),
                )
                .limit(1)
            )

    def _announce(self, case: Case, atlas_video_id: str, layer: Layer) -> list[str]:
        """Notes before the commit that samples of the case are in the atlas, so that no deletion misses them; returns
        all whose samples may be there."""
        with self.database.writing() as session:
            if not _is_there(session, case):
                raise NotFound(f"no video {case.video_id!r}")
            entry = session.get(AtlasEntry, (case.video.tenant_id, case.video_id))
            before = entry.annotators if entry else []
            annotators = sorted({*before, *(change.author_id for change in layer.changes)})
            session.merge(_entry(case, atlas_video_id, annotators, layer.revision, entry.version if entry else -1))
        return annotators

    def _note(self, case: Case, done: Committed, atlas_video_id: str, annotators: list[str]) -> None:
        """Notes what was committed; where the case went meanwhile, its samples are due to be taken out again."""
        with self.database.writing() as session:
            entry = _entry(case, atlas_video_id, annotators, done.revision, done.version)
            entry.is_withdrawn = not _is_there(session, case)
            session.merge(entry)
            audit.record_by(
                session,
                case.caller,
                "annotation.commit",
                case.video_id,
                revision=done.revision,
                version=done.version,
                samples=done.samples,
            )


def withdraw_from_atlas(session: Session, video: StoredVideo) -> None:
    """Within a transaction: has the housekeeping take all samples of a video out of the atlas."""
    session.execute(
        update(AtlasEntry)
        .where(AtlasEntry.tenant_id == video.tenant_id, AtlasEntry.video_id == video.video_id)
        .values(is_withdrawn=True)
    )


def _is_there(session: Session, case: Case) -> bool:
    video = session.get(StoredVideo, (case.video.tenant_id, case.video_id))
    return video is not None and video.deleted_s is None and video.consent != "withdrawn"


def _entry(case: Case, atlas_video_id: str, annotators: list[str], revision: int, version: int) -> AtlasEntry:
    return AtlasEntry(
        tenant_id=case.video.tenant_id,
        video_id=case.video_id,
        atlas_video_id=atlas_video_id,
        annotators=annotators,
        revision=revision,
        version=version,
        is_withdrawn=False,
    )


def _is_of(video_id: str, annotators: Collection[str]) -> Callable[[Clip], bool]:
    """Whether a sample of the atlas was committed of a case: by its video and its annotators."""
    return lambda clip: clip.source == "manual" and clip.video_id == video_id and clip.annotator in annotators
