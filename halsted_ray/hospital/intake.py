"""From DICOM files to plain videos: the stream is copied bit by bit, and the header goes to the table of identities.

A video is named by its id, and is in the archive as a whole or not at all. Memory does not grow with its length.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from halsted_ray.errors import DecoderKilled, OutputError, UnreadableVideo, UsageError, VideoError
from halsted_ray.hospital.extra import needs_dicom
from halsted_ray.hospital.identities import Identities, Identity
from halsted_ray.hospital.subject import Subject
from halsted_ray.records import JsonObject
from halsted_ray.storage.files import make_local_folder
from halsted_ray.storage.locations import filesystem, local_path
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.encapsulated import EncapsulatedStream, ReadAt, find_stream
from halsted_ray.video.file_head import HEAD_BYTES, holds_dicom_stream
from halsted_ray.video.identity import video_id

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

COPIED_BYTES = 4 * 1024 * 1024
"""How much of a stream is in memory at once."""
LARGEST_VALUE_BYTES = 64 * 1024
"""A larger value of a header (an icon, a curve) is not kept."""
LARGEST_HEADER_BYTES = 1024 * 1024
"""A file with more before its video stream is refused."""
IN_USE = 0xFFFF
"""How a record of a DICOMDIR says that it counts; 0 says that it was deleted."""


@dataclass(frozen=True)
class Taken:
    """What became of one DICOM file: the id of its video, and whether the archive did not have it before."""

    video_id: str
    is_new: bool


@dataclass(frozen=True)
class Refused:
    """A DICOM video that could not be taken. ``reason`` is without its name; ``path`` is for a private list alone."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Intake:
    """``taken``: the videos. ``others``: how many files are no DICOM video. ``refused``: what could not be taken."""

    taken: list[Taken]
    others: int
    refused: list[Refused]


def take_in(source: str, archive: str, identities: Identities) -> Intake:
    """Takes the DICOM videos of ``source`` into the folder ``archive``: of a file, of a folder with all below it, or of
    the files that a DICOMDIR lists. Files that were taken before are not copied again.

    Raises UsageError where there is nothing at ``source``, where ``archive`` is a bucket or holds the
    DICOM files itself; OutputError where ``archive`` can't be written.
    """
    needs_dicom()
    check_apart(source, archive)
    taken: list[Taken] = []
    refused: list[Refused] = []
    others = 0
    files = _files_of(Path(source))
    make_local_folder(archive)
    with DecodeProcess() as process:
        for path, is_inside in files:
            if not is_inside:
                reason = "expected a file beside or below the DICOMDIR, got one elsewhere; copy the whole disc"
                refused.append(Refused(path, reason))
                continue
            try:
                with open(path, "rb") as file:
                    is_video = holds_dicom_stream(file.read(HEAD_BYTES))
                if is_video:
                    taken.append(take_file(path, archive, identities, process))
                else:
                    others += 1
            except VideoError as error:
                refused.append(Refused(path, str(error)))
            except FileNotFoundError:
                reason = "expected a file that is listed, got none; copy the whole disc or folder, then run again"
                refused.append(Refused(path, reason))
            except OSError as error:
                refused.append(Refused(path, f"expected a file that can be read, got {type(error).__name__}"))
    return Intake(taken, others, refused)


def archive_folder(archive: str) -> Path:
    """The archive as a folder. Raises UsageError where it is none of this machine."""
    place = local_path(archive)
    if place is None:
        raise UsageError(
            f"--out {archive!r}: expected a folder of this machine, got another place; name a folder, and copy it to "
            "that place afterwards"
        )
    return Path(place)


def check_apart(source: str, archive: str) -> None:
    """Raises UsageError where the archive is no folder of this machine, or where it holds the DICOM files: their names
    and headers say who the patient is."""
    files, folder = Path(source).resolve(), archive_folder(archive).resolve()
    if files == folder or folder in files.parents:
        raise UsageError(
            f"--out {archive!r}: expected a folder of its own, got the folder of the DICOM files; name another one, "
            "since the names and headers of these files say who the patient is"
        )


@dataclass(frozen=True)
class Instance:
    """A DICOM video: whom it is about, all of its header but the pixels as DICOM JSON, and where its stream lies."""

    subject: Subject
    header: JsonObject
    stream: EncapsulatedStream


def read_instance(file: BinaryIO) -> Instance:
    """What the DICOM file ``file`` holds. Raises UnreadableVideo; no message holds a value of the header.

    The lengths of the header are followed before pydicom reads a value: a length that lies is refused, and no more than
    ``LARGEST_HEADER_BYTES`` are ever in memory.
    """
    needs_dicom()
    stream = find_stream(reading(file), os.fstat(file.fileno()).st_size)
    if stream.spans[0][0] > LARGEST_HEADER_BYTES:
        raise UnreadableVideo(
            f"expected a DICOM header of at most {LARGEST_HEADER_BYTES >> 20} MiB before the video stream, got a "
            "larger one; export the video again without embedded files"
        )
    subject, header = read_header(file)
    return Instance(subject, header, stream)


def reading(file: BinaryIO) -> ReadAt:
    """Reads of ``file`` at any place."""
    return lambda at, count: os.pread(file.fileno(), count, at)


def take_file(path: Path, archive: str, identities: Identities, process: DecodeProcess) -> Taken:
    """Takes the video of one DICOM file into the folder ``archive``. ``process`` opens the stream, so that one that no
    player opens is not taken. Raises VideoError, OutputError."""
    with open(path, "rb") as file:
        instance = read_instance(file)
        if not _is_there(_place_of(path, file, instance, archive), instance):
            check_opens(path, process)
    return take_instance(path, instance, archive, identities)


def take_instance(path: Path, instance: Instance, archive: str, identities: Identities) -> Taken:
    """As ``take_file``, of a file that ``read_instance`` has read and ``check_opens`` has opened."""
    stream = instance.stream
    with open(path, "rb", buffering=0) as file:
        place = _place_of(path, file, instance, archive)
        name, fetch = place.stem, stream.reader(reading(file))
        # First the row: a video without one would be a video of nobody, a row without a video is mended by a rerun.
        identities.add(Identity(name, instance.subject, instance.header))
        if _is_there(place, instance):
            return Taken(name, is_new=False)
        make_local_folder(archive)
        try:
            handle, written = tempfile.mkstemp(prefix=".part-", dir=archive)
            try:
                with os.fdopen(handle, "wb") as copy:
                    for start in range(0, stream.size_bytes, COPIED_BYTES):
                        copy.write(fetch(start, min(start + COPIED_BYTES, stream.size_bytes)))
                    copy.flush()
                    os.fsync(copy.fileno())
                os.replace(written, place)
            except BaseException:
                os.unlink(written)
                raise
        except OSError as error:
            raise OutputError(f"can't write to the archive: {error.strerror}; make room, then run again") from None
    return Taken(name, is_new=True)


def _place_of(path: Path, file: BinaryIO, instance: Instance, archive: str) -> Path:
    """Where the video of the DICOM file ``file`` at ``path`` is kept: under its id."""
    fetch = instance.stream.reader(reading(file))
    return Path(archive) / f"{video_id(*filesystem(str(path)))}{_suffix(fetch(0, min(16, instance.stream.size_bytes)))}"


def _is_there(place: Path, instance: Instance) -> bool:
    return place.exists() and place.stat().st_size == instance.stream.size_bytes


def check_opens(path: Path, process: DecodeProcess) -> None:
    """Raises VideoError where the stream of a DICOM file is in no container that is known, or has no frame that
    decodes."""
    try:
        process.probe(path)
    except DecoderKilled:  # the first time can be the fault of the machine
        process.probe(path)


def read_header(file: BinaryIO) -> tuple[Subject, JsonObject]:
    """(patient, study and instance of a DICOM file; its header as DICOM JSON). Raises UnreadableVideo; no message holds
    a value of the header."""
    import pydicom

    try:
        file.seek(0)
        found = pydicom.dcmread(file, stop_before_pixels=True)
        return _subject_of(found), {**_as_json(found.file_meta), **_as_json(found)}
    except Exception as error:  # whatever a damaged header makes pydicom raise
        raise UnreadableVideo(
            f"expected a DICOM header that pydicom reads, got {type(error).__name__}; send the file again"
        ) from None


def _as_json(found: Dataset) -> JsonObject:
    """``found`` as DICOM JSON. An element whose value has no meaning under its value representation stands there as an
    element of unknown representation (UN) without a value. pydicom's own way turns on strict reading for all threads,
    leaves the element out and logs its value."""
    kept: JsonObject = {}
    for tag in found.keys():
        try:
            element = found[tag]
            if element.VR == "SQ":
                converted: JsonObject = {"vr": "SQ", "Value": [_as_json(item) for item in element.value]}
            else:
                converted = element.to_json_dict(
                    bulk_data_element_handler=lambda large: "", bulk_data_threshold=LARGEST_VALUE_BYTES
                )
            json.dumps(converted)
        except Exception:  # noqa: BLE001, S112  what one of thousands of kinds of damage makes pydicom raise
            converted = {"vr": "UN"}
        kept[f"{tag:08X}"] = converted
    return kept


def _subject_of(found: Dataset) -> Subject:
    def text(keyword: str) -> str:
        value = found.get(keyword)
        return "" if value is None else str(value)

    return Subject(
        study_uid=text("StudyInstanceUID"),
        series_uid=text("SeriesInstanceUID"),
        instance_uid=text("SOPInstanceUID"),
        class_uid=text("SOPClassUID"),
        patient_id=text("PatientID"),
        patient_name=text("PatientName"),
        birth_date=text("PatientBirthDate"),
        sex=text("PatientSex"),
        accession_number=text("AccessionNumber"),
        study_id=text("StudyID"),
        study_date=text("StudyDate"),
        study_time=text("StudyTime"),
    )


def _files_of(source: Path) -> Iterable[tuple[Path, bool]]:
    """The files of ``source``, each with whether it lies where it may: a DICOMDIR can list a file elsewhere than beside
    or below itself."""
    if source.is_dir():
        return [(path, True) for path in sorted(source.rglob("*")) if path.is_file()]
    if not source.is_file():
        raise UsageError("expected a DICOM file, a folder or a DICOMDIR, got nothing of this name; check the path")
    return _listed(source) if source.name.upper() == "DICOMDIR" else [(source, True)]


def _listed(dicomdir: Path) -> Iterator[tuple[Path, bool]]:
    """The files that a DICOMDIR lists as being in use, each once. It names them in capitals; a disc that is mounted, or
    was copied, may have them in small letters."""
    import pydicom

    try:
        records = pydicom.dcmread(dicomdir).DirectoryRecordSequence
        in_use = [
            record for record in records if record.get("RecordInUseFlag", IN_USE) and "ReferencedFileID" in record
        ]
        names = [record.ReferencedFileID for record in in_use]
    except Exception as error:
        raise UsageError(
            f"expected a DICOMDIR, got a file that can't be read as one ({type(error).__name__})"
        ) from None
    root = dicomdir.parent.resolve()
    for parts in dict.fromkeys((name,) if isinstance(name, str) else tuple(name) for name in names):
        path = root
        for part in parts:
            path = _below(path, part)
        path = path.resolve()
        yield path, path.is_relative_to(root)


def _below(folder: Path, name: str) -> Path:
    """What ``folder`` holds under ``name``, or under the same name in other letters."""
    if (folder / name).exists() or not folder.is_dir():
        return folder / name
    return next((found for found in folder.iterdir() if found.name.upper() == name.upper()), folder / name)


def _suffix(head: bytes) -> str:
    if head[:4] in (b"\0\0\1\xba", b"\0\0\1\xb3"):
        return ".mpg"
    return ".ts" if head[:1] == b"G" or head[4:5] == b"G" else ".mp4"
