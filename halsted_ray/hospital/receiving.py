"""Receives DICOM videos by C-STORE, and takes each into an archive as ``intake`` takes a file.

A video goes to the disk while it comes, into a private folder beside the table of identities, and from there into the
archive: ``<archive>/<study>/<video>.mp4``, where the study's id says nothing of the patient. The sender is answered
when stream and row are on the disk. A sender that got no answer sends again, and what was there is not copied twice.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import sqlite3
import ssl
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halsted_ray.errors import OutputError, UsageError, VideoError
from halsted_ray.hospital.extra import needs_dicom
from halsted_ray.hospital.identities import Identities
from halsted_ray.hospital.intake import archive_folder, check_opens, read_instance, take_instance
from halsted_ray.hospital.studies import Studies
from halsted_ray.storage.files import make_local_folder
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.file_head import VIDEO_CLASSES, VIDEO_SYNTAXES

if TYPE_CHECKING:
    from halsted_ray.hospital.connections import BoundedServer, BrokenBound, ReceiverLimits
    from halsted_ray.hospital.study_mapping import StudyMapper

log = logging.getLogger(__name__)
CLASSES = (*VIDEO_CLASSES, "1.2.840.10008.5.1.4.1.1.7.4", "1.2.840.10008.5.1.4.1.1.3.1")
"""What is received: video, true colour multi-frame secondary capture, ultrasound multi-frame."""
VERIFICATION = "1.2.840.10008.1.1"
FRAGMENTABLE = [f"{syntax}.1" for syntax, codec in VIDEO_SYNTAXES.items() if codec != "HEVC"]
SUCCESS, NO_ROOM, OTHER_CLASS, NOT_UNDERSTOOD, NOT_PROCESSED = 0x0000, 0xA700, 0xA900, 0xC000, 0x0110
"""Statuses of C-STORE (PS3.4, B.2.3; PS3.7, C)."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")
IDLE_S = 0.5
"""The pause between two looks for a study that is complete."""
TELL_EVERY_S = 60.0
"""How often refused associations are told of, together."""
LAST_S = 10.0
"""How long an instance that has come may take to be stored when the receiver is stopped."""


@dataclass(frozen=True)
class Listening:
    """Where a receiver listens, and for whom. ``allowed``: the AE titles that may send; empty: all."""

    host: str = "127.0.0.1"
    port: int = 11112
    title: str = "HALSTED"
    allowed: tuple[str, ...] = ()
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True)
class Receiver:
    """Takes instances into ``archive``; their headers go to ``identities``, and their studies to ``studies``."""

    archive: Path
    identities: Identities
    studies: Studies
    limits: ReceiverLimits
    spool: Path

    @cached_property
    def callers(self) -> RefusedCallers:
        """Those who were not allowed to send."""
        return RefusedCallers(self.studies)

    def store(self, event: Any) -> int:
        """Handles one C-STORE: the status that the sender gets."""
        event.assoc.dul.socket.begin_instance()
        request, path = event.request, event.request._dataset_path
        instance_uid = str(request.AffectedSOPInstanceUID)
        try:
            status, reason = self._take(path, str(request.AffectedSOPClassUID), instance_uid)
        except Exception as error:  # a bug; its message could hold a value of the header
            status, reason = NOT_PROCESSED, f"an error of the receiver ({type(error).__name__})"
        finally:
            if path is not None:
                path.unlink(missing_ok=True)
        if status != SUCCESS:
            self._refuse(instance_uid, status, reason)
        return status

    def broken(self, association: Any, error: BrokenBound) -> None:
        """Notes that a connection was closed; in the list too, where that was in the middle of an instance."""
        message = association.dimse.message
        instance_uid = getattr(getattr(message, "command_set", None), "AffectedSOPInstanceUID", "")
        if instance_uid:
            self._refuse(str(instance_uid), error.status, str(error))
        else:
            log.warning("a connection was closed: %s", error)

    def _take(self, path: Path | None, class_uid: str, instance_uid: str) -> tuple[int, str]:
        if path is None:
            return NOT_UNDERSTOOD, "expected a data set, got none"
        try:
            with open(path, "rb") as file:
                instance = read_instance(file)
            subject = instance.subject
            if (subject.class_uid, subject.instance_uid) != (class_uid, instance_uid):
                return OTHER_CLASS, "expected the SOP class and instance of the request in the data set, got others"
            free = os.statvfs(self.spool)
            if free.f_bavail * free.f_frsize < instance.stream.size_bytes + self.limits.reserve_bytes:
                return NO_ROOM, "the disk has no room for this video; make room, then send again"
            with DecodeProcess() as process:  # one for each: a stream that keeps it busy makes no other sender wait
                check_opens(path, process)
            key = self.studies.key_of(subject.study_uid)
            taken = take_instance(path, instance, str(self.archive / key), self.identities)
            self.studies.add_video(key, taken.video_id, instance_uid)
        except VideoError as error:
            return NOT_UNDERSTOOD, str(error)
        except OutputError as error:
            return NO_ROOM, str(error)
        except sqlite3.Error as error:
            return NO_ROOM, f"the list of studies can't be written ({type(error).__name__}); make room"
        log.info("study %s: video %s %s", key, taken.video_id, "received" if taken.is_new else "was there")
        return SUCCESS, ""

    def _refuse(self, instance_uid: str, status: int, reason: str) -> None:
        try:
            number = self.studies.refuse(instance_uid, status, reason)
        except sqlite3.Error as error:
            log.error("the list of refusals can't be written: %s", type(error).__name__)
            number = 0
        log.warning("refusal %d with status 0x%04X: %s", number, status, reason)


def receive(
    listening: Listening,
    archive: str,
    identities: Identities,
    mapper: StudyMapper | None = None,
    limits: ReceiverLimits | None = None,
) -> None:
    """Receives until the process is stopped (KeyboardInterrupt), and maps complete studies meanwhile.

    Raises UsageError where the address is taken, beyond loopback without ``allowed``, or where another receiver uses
    the table, OutputError where the archive or the table can't be written.
    """
    needs_dicom()
    from halsted_ray.hospital.connections import ReceiverLimits

    if listening.host not in LOOPBACK and not listening.allowed:
        raise UsageError(
            f"--host {listening.host}: beyond loopback expected the AE titles that may send; name each with --allow"
        )
    folder = archive_folder(archive)
    studies = Studies(identities)
    with _spool_of(identities) as spool:
        make_local_folder(folder)
        studies.take_back()
        receiver = Receiver(folder, identities, studies, limits or ReceiverLimits(), spool)
        with serving(listening, receiver) as server:
            log.info("%s listens at %s:%d", listening.title, *server.server_address[:2])
            while True:
                receiver.callers.tell()
                if mapper is None or not mapper.map_next():
                    time.sleep(IDLE_S)


class RefusedCallers:
    """Counts senders whose association was refused: a line of the log for the first one, then one for all of a
    minute, so that nobody fills a disk with them. A sender's title is its own word, so nothing repeats it."""

    def __init__(self, studies: Studies) -> None:
        self._studies, self._lock = studies, threading.Lock()
        self._untold, self._told_s = 0, -math.inf

    def add(self, _event: object = None) -> None:
        """Counts one."""
        with self._lock:
            self._untold += 1
        self.tell()

    def tell(self, now: bool = False) -> None:
        """Says how many there were since the last line, where that is a minute ago, or ``now``."""
        with self._lock:
            if not self._untold or not (now or time.monotonic() - self._told_s >= TELL_EVERY_S):
                return
            count, self._untold, self._told_s = self._untold, 0, time.monotonic()
        log.warning("refused associations: %d; check the AE titles of sender (--allow) and receiver (--aet)", count)
        try:
            self._studies.refuse_callers(count)
        except sqlite3.Error as error:
            log.error("the list of refusals can't be written: %s", type(error).__name__)


@contextmanager
def serving(listening: Listening, receiver: Receiver) -> Iterator[BoundedServer]:
    """A server that accepts in a thread of its own. At the end, instances that have come are stored. Raises
    UsageError."""
    with _library_settings():
        server = _start_server(listening, receiver)
        try:
            yield server
        finally:
            receiver.callers.tell(now=True)
            working = server.active_associations
            server.shutdown()
            for association in working:
                association.join(LAST_S)


@contextmanager
def _library_settings() -> Iterator[None]:
    """What pynetdicom and pydicom are told for the whole process, and told back at the end: instances lie on the disk
    while they come, and no log holds values of requests and headers."""
    from pynetdicom import _config

    loggers = [logging.getLogger(name) for name in ("pynetdicom", "pydicom")]
    before = _config.STORE_RECV_CHUNKED_DATASET, _config.LOG_HANDLER_LEVEL, [one.propagate for one in loggers]
    silent = logging.NullHandler()
    _config.STORE_RECV_CHUNKED_DATASET, _config.LOG_HANDLER_LEVEL = True, "none"
    for one in loggers:
        one.addHandler(silent)
        one.propagate = False
    try:
        yield
    finally:
        _config.STORE_RECV_CHUNKED_DATASET, _config.LOG_HANDLER_LEVEL, propagating = before
        for one, propagates in zip(loggers, propagating, strict=True):
            one.removeHandler(silent)
            one.propagate = propagates


def _start_server(listening: Listening, receiver: Receiver) -> BoundedServer:
    from pynetdicom import evt
    from pynetdicom.ae import ApplicationEntity

    from halsted_ray.hospital.connections import PDU_BYTES, BoundedServer

    try:
        entity = ApplicationEntity(listening.title)
        entity.require_calling_aet = list(listening.allowed)
    except ValueError:
        raise UsageError("AE titles: expected 1 to 16 letters, digits and spaces each, got another one") from None
    entity.require_called_aet = True
    entity.maximum_associations = receiver.limits.associations
    entity.maximum_pdu_size = PDU_BYTES
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = receiver.limits.silence_s
    for sop_class in CLASSES:
        entity.add_supported_context(sop_class, [*VIDEO_SYNTAXES, *FRAGMENTABLE])
    entity.add_supported_context(VERIFICATION)
    try:
        server: BoundedServer = entity.make_server(
            (listening.host, listening.port),
            ssl_context=listening.tls,
            evt_handlers=[(evt.EVT_C_STORE, receiver.store), (evt.EVT_REJECTED, receiver.callers.add)],
            server_class=BoundedServer,
            limits=receiver.limits,
            spool=receiver.spool,
            on_broken=receiver.broken,
        )
    except OSError as error:
        raise UsageError(
            f"can't listen at {listening.host}:{listening.port}: {error.strerror}; name another --port or --host"
        ) from None
    threading.Thread(target=server.serve_forever, name="dicom", daemon=True).start()
    return server


@contextmanager
def _spool_of(identities: Identities) -> Iterator[Path]:
    """The private folder in which instances lie while they come, empty. Raises UsageError where a receiver uses it."""
    from halsted_ray.hospital.connections import sweep

    spool = identities.path.with_name(f"{identities.path.name}.receiving")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings hold values
        spool.mkdir(mode=0o700, exist_ok=True)
        with open(spool / "lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    "another receiver uses this table of identities; stop it, or name another --identities"
                ) from None
            before, tempfile.tempdir = tempfile.tempdir, str(spool)  # where pynetdicom lets instances lie
            sweep(spool)
            try:
                yield spool
            finally:
                tempfile.tempdir = before
                sweep(spool)
