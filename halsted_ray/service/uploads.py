"""Uploads: a video comes in parts, in any order and again after a break; the parts are joined and probed.

A process without network probes the content of what came; only after that it is a video, which is cleaned before
anything else reads it (``cleaning.py``). Its id is computed from the digests of its parts, so from all of its bytes,
and no second pass over them is needed. Nothing here reads a file as a whole, so no process needs more memory for a
longer video.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, delete, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from halsted_ray.errors import DecoderKilled, OutputError, StorageUnavailable, VideoError
from halsted_ray.service import audit, sent_in_error
from halsted_ray.service.database import Database, now_s
from halsted_ray.service.errors import NotFound, Rejected, StateConflict
from halsted_ray.service.object_store import MAX_PARTS, PART_BYTES, VIDEOS, ObjectStore, UploadEnded
from halsted_ray.service.signed_addresses import is_signed, signed_address
from halsted_ray.service.storage_room import StorageRoom, StorageUse
from halsted_ray.service.stored_videos import next_position, video_of_tenant
from halsted_ray.service.tables import StoredVideo, Upload, UploadPart, new_case_id
from halsted_ray.service.upload_content import content_id, digests_of
from halsted_ray.service.uploaded_videos import NewVideoRules, enter_video
from halsted_ray.service.users import Caller
from halsted_ray.storage.locations import filesystem
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.limits import VideoLimits
from halsted_ray.video.probe import Probe

log = logging.getLogger(__name__)
COMPLETING_S = 600.0
"""After this many seconds another request may complete an upload whose completion did not end: its replica died."""


@dataclass(frozen=True)
class Uploads:
    """The uploads of all tenants, over one database and one store.

    ``room``: what a tenant and the disk may hold. ``limits``: how long a video may be. ``rules``: what becomes of a new
    video. ``presign``: clients may put parts straight to the object store. ``link_s``: how many seconds an address
    holds.
    """

    database: Database
    store: ObjectStore
    room: StorageRoom
    limits: VideoLimits
    rules: NewVideoRules = NewVideoRules()
    presign: bool = False
    link_s: float = 3600.0

    def begin(
        self,
        caller: Caller,
        size_bytes: int | None = None,
        label: str | None = None,
        case_id: str | None = None,
        position: int | None = None,
    ) -> Upload:
        """A new upload. ``size_bytes``: of the file, where the client knows it. ``label``: the client's own id of the
        video. ``case_id``: the case that the video is another file of, which the caller may add to; None: a new case.
        ``position``: among the files of the case; None: behind all others. Raises Rejected for a size that can't be
        taken, QuotaExceeded, StoreFull, OutputError.

        The database knows of an upload before the store does: an upload whose beginning failed in between leaves
        nothing in the store that nobody would look for.
        """
        upload_id = secrets.token_hex(16)
        if size_bytes is not None and not 0 < size_bytes <= MAX_PARTS * PART_BYTES:
            raise Rejected(f"size_bytes: expected 1 to {MAX_PARTS * PART_BYTES}, got {size_bytes}").named(
                "upload-size", most=MAX_PARTS * PART_BYTES
            )
        # A name that the listing of an archive takes. What the file holds is told by its content.
        place = f"{VIDEOS}/{upload_id}/video.mp4"
        upload = Upload(
            upload_id=upload_id,
            tenant_id=caller.tenant_id,
            user_id=caller.user_id,
            state="open",
            place=place,
            store_ref="",
            size_bytes=size_bytes,
            label=label,
            case_id=case_id or new_case_id(),
            position=position,
            created_s=now_s(),
        )
        with self.database.writing() as session:
            self.room.check_new_upload(session, caller.tenant_id, size_bytes)
            if position is None:
                upload.position = next_position(session, caller.tenant_id, str(upload.case_id))
            session.add(upload)
            audit.record(session, caller.tenant_id, caller.actor, "upload.begin", upload_id)
        try:
            upload.store_ref = self.store.begin_upload(caller.tenant_id, place)
            self._note(upload, store_ref=upload.store_ref)
        except BaseException:
            with suppress(OutputError):
                self.store.abort_upload(caller.tenant_id, place, upload.store_ref)
            self._note(upload, state="aborted", reason="it could not be begun")
            raise
        return upload

    def use(self, tenant_id: str) -> StorageUse:
        """What the tenant keeps now, and may keep."""
        with self.database.reading() as session:
            return self.room.use(session, tenant_id)

    def get(self, tenant_id: str, upload_id: str) -> tuple[Upload, dict[int, UploadPart]]:
        """The upload, and its parts so far by number. Raises NotFound; OutputError where the store does not list the
        parts."""
        with self.database.reading() as session:
            upload = _own(session, tenant_id, upload_id)
            rows = session.scalars(select(UploadPart).where(UploadPart.upload_id == upload_id))
            parts = {part.number: part for part in rows}
        if upload.state == "open":
            direct = self.store.list_parts(tenant_id, upload.place, upload.store_ref)
            parts |= {
                number: UploadPart(upload_id=upload_id, number=number, size_bytes=size_bytes, sha256="", etag=etag)
                for number, (size_bytes, etag) in direct.items()
                if number not in parts or parts[number].etag.strip('"') != etag.strip('"')
            }
        return upload, dict(sorted(parts.items()))

    def put(self, tenant_id: str, upload_id: str, number: int, data: bytes, sha256: bytes | None = None) -> UploadPart:
        """Keeps one part; the same number again replaces it. ``sha256``: the digest that the client announced.

        Raises NotFound, StateConflict; Rejected for a wrong size, number or digest; StoreFull, OutputError.
        """
        with self.database.reading() as session:
            upload = _open(session, tenant_id, upload_id)
            self.room.check_more(session, upload, len(data))
        _check_number(upload, number)
        most = _part_bytes(upload, number)
        if not 0 < len(data) <= most:
            raise Rejected(f"part {number} of {len(data)} bytes: expected 1 to {most} bytes")
        digest = hashlib.sha256(data)
        if sha256 is not None and not hmac.compare_digest(digest.digest(), sha256):
            raise Rejected(
                f"part {number} has the SHA-256 {digest.hexdigest()}, not the one announced; send it again"
            ).named("part-damaged")
        # Two requests may send one part, and a third may complete the upload. What the database says of a part is
        # taken back before its bytes change, so that a digest never stands for other bytes, wherever this ends.
        with self.store.held(tenant_id, upload.place):
            self.store.check_open(tenant_id, upload.place)
            with self.database.reading() as session:
                _open(session, tenant_id, upload_id)
                is_known = session.get(UploadPart, (upload_id, number)) is not None
            if is_known and self.store.writes_in_place:
                with self.database.writing() as session:
                    session.execute(
                        delete(UploadPart).where(UploadPart.upload_id == upload_id, UploadPart.number == number)
                    )
            etag = self.store.put_part(tenant_id, upload.place, upload.store_ref, number, data)
            part = UploadPart(
                upload_id=upload_id, number=number, size_bytes=len(data), sha256=digest.hexdigest(), etag=etag
            )
            with self.database.writing() as session:
                _own(session, tenant_id, upload_id, "open").active_s = now_s()
                return session.merge(part)

    def address(self, tenant_id: str, upload_id: str, number: int, base: str) -> str:
        """A URL that takes part ``number`` by PUT without a key for ``link_s`` seconds: one of the object store where
        that is allowed, else one of this API, whose address is ``base``. Raises NotFound, StateConflict, Rejected."""
        with self.database.reading() as session:
            upload = _open(session, tenant_id, upload_id)
            self.room.check_more(session, upload, 1)
        _check_number(upload, number)
        if self.presign:
            self._note(upload, active_s=now_s())
            url = self.store.presign_part(tenant_id, upload.place, upload.store_ref, number, self.link_s)
            if url is not None:
                return url
        return signed_address(self.database, base, upload_id, number, self.link_s)

    def check_address(self, upload_id: str, number: int, expires_s: int, signature: str) -> str | None:
        """The tenant whose upload a signed address is for; None where it has expired or was never signed."""
        if not is_signed(self.database, upload_id, number, expires_s, signature):
            return None
        with self.database.reading() as session:
            upload = session.get(Upload, upload_id)
        return upload.tenant_id if upload else None

    def complete(self, caller: Caller, upload_id: str, etags: Mapping[int, str] | None = None) -> StoredVideo:
        """Joins the parts and returns the video that they make. ``etags``: the parts that the client says it sent.

        Sending the same file twice gives one video, and completing an upload twice gives the same answer. Every step
        may be repeated, so that after a passing failure (of the store, the database, the decoding process) the same
        request can be sent again at once.

        Raises Rejected where parts are missing, the size is not the announced one, or the file is no video; the
        upload has ended then, unless only parts are missing. Raises StateConflict where the upload had ended before
        or another request is completing it, StorageUnavailable and OutputError where the store fails now.
        """
        upload, parts = self.get(caller.tenant_id, upload_id)
        if upload.state == "complete":
            assert upload.video_id is not None  # written with the state
            with self.database.reading() as session:
                return video_of_tenant(session, caller.tenant_id, upload.video_id)
        if upload.state != "open":
            raise StateConflict(
                f"upload {upload_id!r} is {upload.state}{f' ({upload.reason})' if upload.reason else ''}; "
                "begin another one"
            ).named("upload-ended")
        self._check_parts(upload, parts, etags)
        self._claim(upload)
        with self._released_on_error(upload):
            # From here on no part is taken. What was on its way then has come when the upload is held.
            with self.store.held(caller.tenant_id, upload.place):
                parts = self.get(caller.tenant_id, upload_id)[1]
                self._check_parts(upload, parts, etags)
                self._keep_direct(upload, [part for part in parts.values() if not part.sha256])
                self._join(caller, upload, parts)
            return self._finish(caller, upload, parts)

    def abort(self, caller: Caller, upload_id: str) -> None:
        """Ends the upload and removes its bytes. Raises NotFound, StateConflict, and OutputError where the store does
        not remove the bytes: the upload is still open then, and can be aborted again."""
        with self.database.reading() as session:
            upload = _own(session, caller.tenant_id, upload_id, "open")
        self._claim(upload)
        with self._released_on_error(upload):
            self._end(caller, upload, "aborted", None)

    def expire(self, older_than_s: float) -> int:
        """Ends open uploads of which no part came for ``older_than_s`` seconds, and returns how many it ended. An
        upload that can't be ended now is left for the next time."""
        with self.database.reading() as session:
            last_s = func.coalesce(Upload.active_s, Upload.created_s)
            stale = session.scalars(select(Upload).where(Upload.state == "open", last_s < now_s() - older_than_s)).all()
        ended = 0
        for upload in stale:
            service = Caller(upload.tenant_id, upload.user_id, "service", "admin", "-")
            try:
                self._claim(upload)
                with self._released_on_error(upload):
                    self._end(service, upload, "aborted", "expired")
            except (StateConflict, OutputError) as error:
                log.warning("upload %s expired and could not be ended: %s", upload.upload_id, error)
            else:
                ended += 1
        return ended

    def _join(self, caller: Caller, upload: Upload, parts: Mapping[int, UploadPart]) -> None:
        """Has the store join the parts. Raises StateConflict where the store has dropped them."""
        size_bytes = sum(part.size_bytes for part in parts.values())
        etags = {number: part.etag for number, part in parts.items()}
        try:
            self.store.complete_upload(caller.tenant_id, upload.place, upload.store_ref, etags, size_bytes)
        except UploadEnded:
            self._end(caller, upload, "aborted", "the store has dropped its parts")
            raise StateConflict("the store has dropped the parts of this upload; begin another one").named(
                "upload-ended"
            ) from None

    def _finish(self, caller: Caller, upload: Upload, parts: Mapping[int, UploadPart]) -> StoredVideo:
        """Probes the file that was joined from ``parts`` and enters it as a video. Raises as ``complete`` does."""
        location = self.store.location(caller.tenant_id, upload.place)
        head = _head_of(location)
        if sent_in_error.names_a_patient(head):
            told = (
                "expected a video, got a DICOM file, whose header names the patient; take the video out of it with "
                "`halsted dicom import`, or send it to the site's DICOM receiver"
            )
            self._end(caller, upload, "rejected", f"unreadable: {told}")
            raise Rejected(f"this can't be mapped: {told}").named("sent-dicom")
        try:
            found = _probe(location)
            self.limits.check(found)
        except VideoError as error:
            if not error.permanent:
                raise
            kind = sent_in_error.kind_of(head)
            if error.code == "unreadable" and kind:
                told = f"expected a video, got {sent_in_error.WHAT_TO_DO[kind]}"
                self._end(caller, upload, "rejected", f"unreadable: {told}")
                raise Rejected(f"this can't be mapped: {told}").named("sent-no-video", what=kind) from None
            self._end(caller, upload, "rejected", f"{error.code}: {error}")
            raise Rejected(f"this can't be mapped: {error}").named("video-unusable", why=error.code) from None
        name = content_id(self._digests(upload, location, parts))
        return self._enter(caller, upload, name, sum(part.size_bytes for part in parts.values()), found)

    def _digests(self, upload: Upload, location: str, parts: Mapping[int, UploadPart]) -> list[str]:
        """The SHA-256 of each part in order. Those of parts that went straight to the object store are made from its
        bytes, and kept: a request that is repeated goes on there. Raises StorageUnavailable."""
        for made in digests_of(location, [part for part in parts.values() if not part.sha256]):
            with self.database.writing() as session:
                for number, digest in made.items():
                    parts[number].sha256 = digest
                    own = (UploadPart.upload_id == upload.upload_id, UploadPart.number == number)
                    session.execute(update(UploadPart).where(*own).values(sha256=digest))
                session.execute(update(Upload).where(Upload.upload_id == upload.upload_id).values(completing_s=now_s()))
        return [part.sha256 for part in parts.values()]

    def _enter(self, caller: Caller, upload: Upload, name: str, size_bytes: int, found: Probe) -> StoredVideo:
        """Enters the file as the tenant's video ``name`` and ends the upload. Where the tenant has the video already,
        the new copy of its bytes is removed."""
        with self.database.writing() as session:
            state = session.get_one(Upload, upload.upload_id, with_for_update=True).state
            if state == "complete":  # another request completed it: this request took longer than COMPLETING_S
                return video_of_tenant(session, caller.tenant_id, name)
            if state != "open":
                raise StateConflict(f"upload {upload.upload_id!r} is {state}; begin another one").named("upload-ended")
            video, superfluous = enter_video(session, upload, name, size_bytes, found, self.rules)
            ended = {"state": "complete", "video_id": name, "completing_s": None}
            session.execute(update(Upload).where(Upload.upload_id == upload.upload_id).values(**ended))
            more = {"upload": upload.upload_id, "size_bytes": size_bytes}
            audit.record(session, caller.tenant_id, caller.actor, "upload.complete", name, **more)
        if superfluous:
            try:
                self.store.remove(caller.tenant_id, superfluous.rsplit("/", 1)[0])
            except OutputError as error:  # the video is complete; these bytes go with it when it is deleted
                log.warning("upload %s is complete, but a second copy of its bytes stays: %s", upload.upload_id, error)
        return video

    def _check_parts(self, upload: Upload, parts: Mapping[int, UploadPart], etags: Mapping[int, str] | None) -> None:
        """Raises Rejected where the parts are not what the client named and announced."""
        named = etags or {}
        missing = sorted(set(range(1, max([*parts, *named], default=0) + 1)) - set(parts))
        if not parts or missing:
            raise Rejected(f"parts are missing: {missing[:20] or 'all'}; send them and complete again").named(
                "upload-parts"
            )
        wrong = [number for number, etag in named.items() if parts[number].etag.strip('"') != etag.strip('"')]
        if wrong or (etags is not None and set(etags) != set(parts)):
            differing = wrong or sorted(set(parts) - set(named))
            raise Rejected(
                f"the parts that were sent are not the parts that the request names: {differing[:20]}"
            ).named("upload-parts")
        last = max(parts)
        short = [number for number, part in parts.items() if number != last and part.size_bytes != PART_BYTES]
        if short:
            raise Rejected(
                f"parts {short[:20]} do not have {PART_BYTES} bytes; only the last part may be shorter"
            ).named("upload-parts")
        size_bytes = sum(part.size_bytes for part in parts.values())
        if upload.size_bytes is not None and size_bytes != upload.size_bytes:
            raise Rejected(
                f"{upload.size_bytes} bytes were announced, {size_bytes} came; send the missing parts"
            ).named("upload-parts")
        if upload.size_bytes is None:  # the parts that went straight to the object store were not counted yet
            with self.database.reading() as session:
                known = session.scalar(
                    select(func.coalesce(func.sum(UploadPart.size_bytes), 0)).where(
                        UploadPart.upload_id == upload.upload_id
                    )
                )
                self.room.check_quota(session, upload.tenant_id, size_bytes - int(known or 0))

    def _claim(self, upload: Upload) -> None:
        """From here on only this request may end the upload, and no part is taken. Raises StateConflict where another
        request does."""
        with self.database.writing() as session:
            free = (Upload.completing_s.is_(None)) | (Upload.completing_s < now_s() - COMPLETING_S)
            claimed = session.execute(
                update(Upload)
                .where(Upload.upload_id == upload.upload_id, Upload.state == "open", free)
                .values(completing_s=now_s())
            )
            if not cast(CursorResult[Any], claimed).rowcount:
                raise StateConflict(
                    "another request is completing this upload, or it has ended; ask for its state"
                ).named("upload-completing")

    def _keep_direct(self, upload: Upload, direct: Sequence[UploadPart]) -> None:
        """Notes the parts that clients put straight to the object store. The store forgets them when it joins them, so
        the database keeps them for every later try."""
        if not direct:
            return
        numbers = [part.number for part in direct]
        columns = ("upload_id", "number", "size_bytes", "sha256", "etag")
        with self.database.writing() as session:
            own = UploadPart.upload_id == upload.upload_id
            session.execute(delete(UploadPart).where(own, UploadPart.number.in_(numbers)))
            session.execute(insert(UploadPart), [{name: getattr(part, name) for name in columns} for part in direct])

    def _note(self, upload: Upload, **changes: Any) -> None:
        """Writes columns of an upload."""
        with self.database.writing() as session:
            session.execute(update(Upload).where(Upload.upload_id == upload.upload_id).values(**changes))

    @contextmanager
    def _released_on_error(self, upload: Upload) -> Iterator[None]:
        """Undoes ``_claim`` where the work in the block fails, so that the next try need not wait for COMPLETING_S."""
        try:
            yield
        except BaseException:
            try:
                self._note(upload, completing_s=None)
            except SQLAlchemyError as error:
                log.warning(
                    "upload %s waits %g s for another try: %s", upload.upload_id, COMPLETING_S, type(error).__name__
                )
            raise

    def _end(self, caller: Caller, upload: Upload, state: str, reason: str | None) -> None:
        """Ends the upload. The bytes are removed first: where the store fails, the upload stays open and can be ended
        again."""
        self.store.abort_upload(caller.tenant_id, upload.place, upload.store_ref)
        with self.database.writing() as session:
            session.execute(
                update(Upload)
                .where(Upload.upload_id == upload.upload_id)
                .values(state=state, reason=reason, completing_s=None)
            )
            audit.record(session, caller.tenant_id, caller.actor, f"upload.{state}", upload.upload_id)


def _own(session: Session, tenant_id: str, upload_id: str, state: str | None = None) -> Upload:
    """The tenant's upload. Raises NotFound, and StateConflict where it is not in ``state``."""
    upload = session.get(Upload, upload_id)
    if upload is None or upload.tenant_id != tenant_id:
        raise NotFound(f"no upload {upload_id!r}")
    if state is not None and upload.state != state:
        raise StateConflict(f"upload {upload_id!r} is {upload.state}, expected {state}; begin another one").named(
            "upload-ended"
        )
    return upload


def _open(session: Session, tenant_id: str, upload_id: str) -> Upload:
    """The tenant's upload, which takes parts. Raises NotFound, StateConflict."""
    upload = _own(session, tenant_id, upload_id, "open")
    if upload.completing_s is not None and upload.completing_s >= now_s() - COMPLETING_S:
        raise StateConflict(f"upload {upload_id!r} takes no more parts while a request completes it").named(
            "upload-completing"
        )
    return upload


def _check_number(upload: Upload, number: int) -> None:
    """Raises Rejected for a part that the announced size leaves no room for."""
    count = MAX_PARTS if upload.size_bytes is None else -(-upload.size_bytes // PART_BYTES)
    if not 1 <= number <= count:
        announced = "" if upload.size_bytes is None else f", since {upload.size_bytes} bytes were announced"
        raise Rejected(f"part {number}: expected a number from 1 to {count}{announced}")


def _part_bytes(upload: Upload, number: int) -> int:
    """How many bytes part ``number`` may have."""
    return PART_BYTES if upload.size_bytes is None else min(PART_BYTES, upload.size_bytes - (number - 1) * PART_BYTES)


def _head_of(location: str) -> bytes:
    """The first bytes of the file. Raises StorageUnavailable."""
    fs, path = filesystem(location)
    try:
        return bytes(fs.cat_file(path, start=0, end=sent_in_error.HEAD_BYTES))
    except Exception as error:
        raise StorageUnavailable(
            f"could not read the first bytes of the file: {type(error).__name__}; complete the upload again"
        ) from None


def _probe(location: str) -> Probe:
    with DecodeProcess() as process:
        try:
            return process.probe(location)
        except DecoderKilled:  # the first time can be the fault of the machine
            return process.probe(location)
