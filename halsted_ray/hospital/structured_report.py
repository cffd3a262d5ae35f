"""A map as a DICOM Structured Report, and back: TID 1500, one measurement group (TID 1501) per row.

A group states the category as a coded evaluation of its tag, and the certainty as a measurement that is inferred from a
span of the video (TCOORD, SEGMENT). DICOM writes such offsets in at most 16 letters, so the group has start and end as
measurements too, at full precision, and task, tag, category and source as text: what reads the report back gets the
rows of the map, to the last bit.

highdicom builds the report around the first group, and checks that group. All groups are written as bytes, since an
object per element costs 15 ms per row, and more per row the more rows there are. Needs ``halsted-ray[dicom]``.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from halsted_ray import __version__
from halsted_ray.errors import UsageError
from halsted_ray.hospital import value_set
from halsted_ray.hospital.elements import Elements, NotElements, element, read_file, sequence
from halsted_ray.hospital.extra import needs_dicom
from halsted_ray.hospital.subject import Subject, derived_uid, named
from halsted_ray.hospital.value_set import Concept
from halsted_ray.maps.exports import Row

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MANUFACTURER = "Halsted on Ray"
SERIES_NUMBER = 9900
"""Of the reports' own series, out of the way of what recorders number."""
NO_UNIT = Concept("UCUM", "1", "no units")
SECOND = Concept("UCUM", "s", "second")
MEASUREMENTS = Concept("DCM", "126010", "Imaging Measurements")
GROUP = Concept("DCM", "125007", "Measurement Group")
TRACKING_ID = Concept("DCM", "112039", "Tracking Identifier")
TRACKING_UID = Concept("DCM", "112040", "Tracking Unique Identifier")
FINDING = Concept("DCM", "121071", "Finding")
ALGORITHM = Concept("DCM", "111001", "Algorithm Name")
ALGORITHM_VERSION = Concept("DCM", "111003", "Algorithm Version")
SOURCE_OF_MEASUREMENT = Concept("DCM", "121112", "Source of Measurement")
TEXTS = {
    "task": value_set.TASK,
    "tag": value_set.TAG,
    "category": value_set.CATEGORY,
    "source": value_set.SOURCE,
    "model_version": value_set.MODEL,
}
"""Column of a row → the item that holds it."""
NUMBERS = {"confidence": value_set.CERTAINTY, "start_s": value_set.START, "end_s": value_set.STOP}

CHARACTER_SET, UTF_8 = 0x00080005, b"ISO_IR 192"
CODE_VALUE, CODE_SCHEME, CODE_MEANING = 0x00080100, 0x00080102, 0x00080104
RELATIONSHIP, VALUE_TYPE, CONCEPT_NAME, CONTINUITY = 0x0040A010, 0x0040A040, 0x0040A043, 0x0040A050
CONCEPT_CODE, UID_VALUE, TEXT_VALUE = 0x0040A168, 0x0040A124, 0x0040A160
RANGE_TYPE, TIME_OFFSETS = 0x0040A130, 0x0040A138
MEASURED, UNITS, FLOATING_POINT, NUMERIC = 0x0040A300, 0x004008EA, 0x0040A161, 0x0040A30A
REFERENCED, REFERENCED_CLASS, REFERENCED_INSTANCE = 0x00081199, 0x00081150, 0x00081155
TEMPLATE, MAPPING_RESOURCE, TEMPLATE_ID = 0x0040A504, 0x00080105, 0x0040DB00
CONTENT = 0x0040A730
"""The last element of a report and of an item, so that what is written before it stays as it is."""
CACHED = 4096
"""How many encoded codes are kept: a taxonomy has some hundreds."""
SEQUENCES_READ = (CONTENT, CONCEPT_NAME, MEASURED)


def write_report(video_id: str, rows: Sequence[Row], subject: Subject | None = None) -> bytes:
    """A Comprehensive SR of one video's ``rows`` (``maps.exports.COLUMNS``), as a DICOM file.

    ``subject``: the patient and the study; None names nobody. Raises UsageError where the extra is not installed, and
    where there is no row: TID 1500 has no report without a measurement group.
    """
    needs_dicom()
    if not rows:
        raise UsageError(f"the map of video {video_id} has no row, and a DICOM SR needs one; write it as FHIR instead")
    import highdicom
    from pydicom.uid import ExplicitVRLittleEndian

    subject = named(subject, video_id)
    video = _evidence(subject)
    procedures = [row["category"] for row in rows if row["tag"] == "procedure"]
    reference = _video_item(subject)
    groups = [_group(video_id, number, row, reference) for number, row in enumerate(rows)]
    observer = highdicom.sr.ObserverContext(
        observer_type=highdicom.sr.CodedConcept("121007", "DCM", "Device"),
        observer_identifying_attributes=highdicom.sr.DeviceObserverIdentifyingAttributes(
            uid=derived_uid("device", __version__),
            name=MANUFACTURER,
            manufacturer_name=MANUFACTURER,
            model_name=__version__,
        ),
    )
    content = highdicom.sr.MeasurementReport(
        observation_context=highdicom.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=_coded(value_set.procedure_concept(procedures)),
        title=highdicom.sr.CodedConcept("126000", "DCM", "Imaging Measurement Report"),
        imaging_measurements=[_checked(groups[0])],
    )
    content[0].ContentSequence.append(
        highdicom.sr.TextContentItem(name=_coded(value_set.VIDEO), value=_kept(video_id), relationship_type="CONTAINS")
    )
    report = highdicom.sr.ComprehensiveSR(
        evidence=[video],
        content=content[0],
        series_instance_uid=derived_uid(video_id, subject.study_uid, "reports"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derived_uid(video_id, subject.study_uid, _versions(rows), "report"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description="Temporal map. Research software, not a medical device.",
    )
    items = list(report.ContentSequence)
    del report[CONTENT]
    file = io.BytesIO()
    report.save_as(file, enforce_file_format=True)
    for item in items:
        if item.ConceptNameCodeSequence[0].CodeValue == MEASUREMENTS.code:
            del item[CONTENT]
            measurements = item
    written = [_encoded(item) + (sequence(CONTENT, groups) if item is measurements else b"") for item in items]
    return file.getvalue() + sequence(CONTENT, written)


def read_report(data: bytes) -> list[Row]:
    """The rows that ``write_report`` wrote. Raises UsageError for any other file; no message holds a value of it."""
    try:
        report = read_file(data, SEQUENCES_READ)
        if _bytes(report, CHARACTER_SET).rstrip() != UTF_8:
            raise NotElements("expected text in ISO_IR 192, got another character set")
        items = _items(report)
        video_id = _text_of(_by_code(items), value_set.VIDEO)
        return [
            _row(video_id, _by_code(_items(group)))
            for part in items
            if _code_of(part) == MEASUREMENTS.code
            for group in _items(part)
            if _code_of(group) == GROUP.code
        ]
    except (NotElements, LookupError, ValueError) as error:
        why = str(error) if isinstance(error, NotElements) else type(error).__name__
        raise UsageError(
            f"expected a DICOM SR that `halsted export --format dicom-sr` wrote, got another file ({why})"
        ) from None


def _group(video_id: str, number: int, row: Row, video: bytes) -> bytes:
    """TID 1501 of one row: the elements of its item. ``video``: those of the item that refers to the video."""
    from pydicom.valuerep import format_number_as_ds

    uid = derived_uid(video_id, str(number), row["task"], row["tag"], repr(row["start_s"]))
    tag = value_set.tag_concept(row["tag"])
    offsets = "\\".join(format_number_as_ds(float(row[of])) for of in ("start_s", "end_s"))
    span = _content_item(
        "INFERRED FROM",
        "TCOORD",
        value_set.SPAN,
        element(RANGE_TYPE, b"CS", b"SEGMENT"),
        element(TIME_OFFSETS, b"DS", offsets.encode()),
        sequence(CONTENT, [video]),
    )
    certainty, start, stop = (
        _content_item(
            "CONTAINS",
            "NUM",
            name,
            sequence(
                MEASURED,
                [
                    sequence(UNITS, [_code(NO_UNIT if of == "confidence" else SECOND)])
                    + element(FLOATING_POINT, b"FD", struct.pack("<d", row[of]))
                    + element(NUMERIC, b"DS", format_number_as_ds(float(row[of])).encode())
                ],
            ),
            sequence(CONTENT, [span]) if of == "confidence" else b"",
        )
        for of, name in NUMBERS.items()
    )
    contains = partial(_content_item, "CONTAINS")
    return contains(
        "CONTAINER",
        GROUP,
        element(CONTINUITY, b"CS", b"CONTINUOUS"),
        sequence(TEMPLATE, [element(MAPPING_RESOURCE, b"CS", b"DCMR") + element(TEMPLATE_ID, b"CS", b"1501")]),
        sequence(
            CONTENT,
            [
                _text("HAS OBS CONTEXT", TRACKING_ID, str(number + 1)),
                _content_item("HAS OBS CONTEXT", "UIDREF", TRACKING_UID, element(UID_VALUE, b"UI", uid.encode())),
                contains("CODE", FINDING, sequence(CONCEPT_CODE, [_code(tag)])),
                _text("HAS CONCEPT MOD", ALGORITHM, MANUFACTURER),
                _text("HAS CONCEPT MOD", ALGORITHM_VERSION, row["model_version"] or "unknown"),
                certainty,
                start,
                stop,
                contains(
                    "CODE",
                    tag,
                    sequence(CONCEPT_CODE, [_code(value_set.category_concept(row["tag"], row["category"]))]),
                ),
                *(_text("CONTAINS", name, _kept(row[column] or "")) for column, name in TEXTS.items()),
            ],
        ),
    )


def _content_item(relationship: str, value_type: str, name: Concept, *values: bytes) -> bytes:
    """The elements of a content item; ``values`` in the order of their tags."""
    return b"".join((_beginning(relationship, value_type, name), *values))


@lru_cache(CACHED)
def _beginning(relationship: str, value_type: str, name: Concept) -> bytes:
    return (
        element(RELATIONSHIP, b"CS", relationship.encode())
        + element(VALUE_TYPE, b"CS", value_type.encode())
        + sequence(CONCEPT_NAME, [_code(name)])
    )


@lru_cache(CACHED)
def _code(concept: Concept) -> bytes:
    return (
        element(CODE_VALUE, b"SH", concept.code.encode())
        + element(CODE_SCHEME, b"SH", concept.scheme.encode())
        + element(CODE_MEANING, b"LO", concept.meaning.encode())
    )


def _video_item(subject: Subject) -> bytes:
    """The image item that refers to the video."""
    referenced = element(REFERENCED_CLASS, b"UI", subject.class_uid.encode()) + element(
        REFERENCED_INSTANCE, b"UI", subject.instance_uid.encode()
    )
    return sequence(REFERENCED, [referenced]) + _beginning("SELECTED FROM", "IMAGE", SOURCE_OF_MEASUREMENT)


def _text(relationship: str, name: Concept, value: str) -> bytes:
    return _content_item(relationship, "TEXT", name, element(TEXT_VALUE, b"UT", value.encode()))


def _kept(text: str) -> str:
    """DICOM has no empty text and cuts blanks at its end, so a bar ends every text that is read back."""
    return f"{text}|"


def _checked(group: bytes) -> Any:
    """The group as highdicom reads it. Raises what highdicom raises for a group that is none of TID 1501."""
    import highdicom
    from pydicom.filereader import read_dataset

    item = read_dataset(io.BytesIO(group), is_implicit_VR=False, is_little_endian=True, parent_encoding="utf-8")
    return highdicom.sr.MeasurementsAndQualitativeEvaluations.from_sequence([item])


def _encoded(item: Dataset) -> bytes:
    """The elements of an item of highdicom's."""
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, False
    write_dataset(file, item, "utf-8")
    encoded: bytes = file.getvalue()
    return encoded


def _row(video_id: str, group: dict[str, Elements]) -> Row:
    texts = {column: _text_of(group, name) for column, name in TEXTS.items()}
    numbers = {column: _number_of(group, name) for column, name in NUMBERS.items()}
    columns = ("start_s", "end_s", "task", "tag", "category", "confidence", "source", "model_version")
    return {"video_id": video_id, **{column: (texts | numbers)[column] for column in columns}}


def _evidence(subject: Subject) -> Dataset:
    """The video instance that the report refers to, with what a report takes over from it."""
    from pydicom.dataset import Dataset

    video = Dataset()
    video.SpecificCharacterSet = "ISO_IR 192"
    video.PatientID = subject.patient_id
    video.PatientName = subject.patient_name
    video.PatientBirthDate = subject.birth_date
    video.PatientSex = subject.sex
    video.StudyInstanceUID = subject.study_uid
    video.SeriesInstanceUID = subject.series_uid
    video.SOPInstanceUID = subject.instance_uid
    video.SOPClassUID = subject.class_uid
    video.AccessionNumber = subject.accession_number
    video.StudyID = subject.study_id
    video.StudyDate = subject.study_date
    video.StudyTime = subject.study_time
    video.ReferringPhysicianName = ""
    return video


def _coded(concept: Concept) -> Any:
    import highdicom

    return highdicom.sr.CodedConcept(concept.code, concept.scheme, concept.meaning)


def _items(parent: Elements, tag: int = CONTENT) -> list[Elements]:
    found = parent.get(tag, [])
    if isinstance(found, bytes):
        raise NotElements("expected a sequence, got another element")
    return found


def _bytes(parent: Elements, tag: int) -> bytes:
    found = parent[tag]
    if not isinstance(found, bytes):
        raise NotElements("expected an element with a value, got a sequence")
    return found


def _code_of(item: Elements) -> str:
    names = _items(item, CONCEPT_NAME)
    return _bytes(names[0], CODE_VALUE).rstrip(b" ").decode() if names else ""


def _by_code(items: list[Elements]) -> dict[str, Elements]:
    """Code of an item's name → the item, the first where there are several."""
    return {_code_of(item): item for item in reversed(items)}


def _text_of(items: dict[str, Elements], name: Concept) -> str:
    return _bytes(items[name.code], TEXT_VALUE).decode().rstrip(" ").removesuffix("|")


def _number_of(items: dict[str, Elements], name: Concept) -> float:
    (measured,) = _items(items[name.code], MEASURED)
    if FLOATING_POINT in measured:
        return float(struct.unpack("<d", _bytes(measured, FLOATING_POINT))[0])
    return float(_bytes(measured, NUMERIC))


def _versions(rows: Sequence[Row]) -> str:
    return " ".join(sorted({str(row["model_version"]) for row in rows}))
