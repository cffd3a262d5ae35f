"""DICOM instances that clients store (STOW-RS): their video becomes an upload like any other, their header a row of
the site's own table of identities.

An instance lies in a file without a name while it comes: whatever ends the process, nothing of it stays.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from halsted_ray.errors import OutputError, UnreadableVideo, UsageError, VideoError
from halsted_ray.hospital.intake import Instance, read_instance, reading
from halsted_ray.records import JsonObject
from halsted_ray.service.case_identities import add_identity
from halsted_ray.service.database import Database
from halsted_ray.service.object_store import MAX_PARTS, PART_BYTES, StoreFull
from halsted_ray.service.storage_room import QuotaExceeded
from halsted_ray.service.tables import StoredVideo
from halsted_ray.service.uploads import Uploads
from halsted_ray.service.users import Caller
from halsted_ray.storage.locations import local_path
from halsted_ray.video.file_head import HEAD_BYTES, holds_dicom_stream, is_dicom, meta_uid

log = logging.getLogger(__name__)
NOT_PROCESSED, NOT_SUPPORTED, NO_ROOM, OTHER_STUDY, NOT_UNDERSTOOD = 0x0110, 0x0122, 0xA700, 0xC409, 0xC000
"""Failure reasons (PS3.18, I.2.2; the cause of ``OTHER_STUDY`` is within the range that PS3.4 leaves open)."""
LARGEST_BYTES = MAX_PARTS * PART_BYTES + (16 << 20)
"""Of an instance: its video fits into an upload."""
_UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True)
class Stored:
    """What became of one instance. ``failure``: a failure reason, None for an instance that is stored."""

    class_uid: str
    instance_uid: str
    video_id: str | None
    failure: int | None


class DicomInstances:
    """Takes instances into ``uploads``, and whom they are of into ``database``."""

    def __init__(self, database: Database, uploads: Uploads) -> None:
        self.database, self.uploads = database, uploads

    def new_file(self) -> BinaryIO:
        """A file without a name for an instance that comes: on the disk of the store where that is a folder, else
        where the machine keeps temporary files. Raises OutputError."""
        folder = local_path(self.uploads.store.root)
        try:
            if folder is not None:
                Path(folder).mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryFile(dir=folder)
        except OSError as error:
            raise OutputError(f"no place for the instance: {os.strerror(error.errno or 0)}") from None

    def check_room(self, caller: Caller, size_bytes: int, more_bytes: int) -> None:
        """Raises QuotaExceeded or StoreFull where an instance of so many bytes so far can't become an upload."""
        if size_bytes > LARGEST_BYTES:
            raise QuotaExceeded(f"expected an instance of at most {LARGEST_BYTES} bytes, got more")
        with self.database.reading() as session:
            self.uploads.room.check_quota(session, caller.tenant_id, size_bytes)
        self.uploads.room.check_disk(more_bytes)
        self.uploads.room.check_temporary(more_bytes)

    def take(self, caller: Caller, file: BinaryIO, study_uid: str | None = None) -> Stored:
        """Makes the video of an instance an upload and completes it. ``study_uid``: the study that the client named.

        What is wrong with the instance, or with the store now, is the failure reason of the result. Nothing of the
        header stands in a message or a log.
        """
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        head = os.pread(file.fileno(), HEAD_BYTES, 0)
        class_uid, instance_uid = (
            uid if _UID.fullmatch(uid) else "" for uid in (meta_uid(head, 0x02), meta_uid(head, 0x03))
        )
        video_id, failure = None, None
        try:
            if not holds_dicom_stream(head):
                failure = NOT_SUPPORTED if is_dicom(head) else NOT_UNDERSTOOD
            else:
                instance = read_instance(file)
                subject = instance.subject
                if study_uid is not None and subject.study_uid != study_uid:
                    failure = OTHER_STUDY
                elif (subject.class_uid, subject.instance_uid) != (class_uid, instance_uid):
                    failure = NOT_UNDERSTOOD
                else:
                    video_id = self._upload(caller, file, instance).video_id
                    with self.database.writing() as session:
                        add_identity(session, caller, video_id, subject)
        except (QuotaExceeded, StoreFull):
            failure = NO_ROOM
        except (OutputError, VideoError) as error:
            failure = NOT_UNDERSTOOD if isinstance(error, UnreadableVideo) else NOT_PROCESSED
        except UsageError:  # the content is no video that can be mapped
            failure = NOT_UNDERSTOOD
        if failure is not None:
            log.warning("an instance was not stored: failure reason 0x%04X", failure)
        return Stored(class_uid, instance_uid, None if failure is not None else video_id, failure)

    def _upload(self, caller: Caller, file: BinaryIO, instance: Instance) -> StoredVideo:
        """The stream of an instance as an upload of ``caller``: the same way as every other upload from here on."""
        size_bytes, fetch = instance.stream.size_bytes, instance.stream.reader(reading(file))
        upload = self.uploads.begin(caller, size_bytes)
        try:
            for number, start in enumerate(range(0, size_bytes, PART_BYTES), start=1):
                part = fetch(start, min(start + PART_BYTES, size_bytes))
                self.uploads.put(caller.tenant_id, upload.upload_id, number, part)
            return self.uploads.complete(caller, upload.upload_id)
        except BaseException:
            with suppress(UsageError, OutputError):  # it has ended already, or expires
                self.uploads.abort(caller, upload.upload_id)
            raise


def answer(results: Sequence[Stored], study_url: str = "") -> tuple[int, JsonObject]:
    """(HTTP status, Store Instances Response Module as DICOM JSON) of the results of one request (PS3.18, 10.5.3)."""
    stored = [result for result in results if result.failure is None]
    failed = [result for result in results if result.failure is not None and result.instance_uid]
    unknown = [result for result in results if result.failure is not None and not result.instance_uid]
    body: JsonObject = {"00081190": {"vr": "UR", **({"Value": [study_url]} if study_url else {})}}
    for tag, entries in (("00081199", stored), ("00081198", failed), ("0008119A", unknown)):
        if entries:
            body[tag] = {"vr": "SQ", "Value": [_item(entry) for entry in entries]}
    return (200 if not failed and not unknown else 202 if stored else 409), body


def _item(result: Stored) -> JsonObject:
    item: JsonObject = {}
    if result.class_uid:
        item["00081150"] = {"vr": "UI", "Value": [result.class_uid]}
    if result.instance_uid:
        item["00081155"] = {"vr": "UI", "Value": [result.instance_uid]}
    if result.failure is not None:
        item["00081197"] = {"vr": "US", "Value": [result.failure]}
    return item
