"""Whom a report is about: nobody by default, or the patient and the study that the site's own table names.

The ids that stand in where the patient is not named are computed from the video's id, so that a report that is written
again replaces the one before.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass, replace

from halsted_ray.video.file_head import VIDEO_CLASSES

ENDOSCOPIC_VIDEO = VIDEO_CLASSES[0]
UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
DATE, TIME = re.compile(r"\d{8}"), re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")


@dataclass(frozen=True)
class Subject:
    """Patient, study and video instance of a report. Dates are DICOM's YYYYMMDD; '' where nothing is known."""

    study_uid: str
    series_uid: str
    instance_uid: str
    patient_id: str
    class_uid: str = ENDOSCOPIC_VIDEO
    patient_name: str = ""
    birth_date: str = ""
    sex: str = ""
    accession_number: str = ""
    study_id: str = ""
    study_date: str = ""
    study_time: str = ""


def unnamed(video_id: str) -> Subject:
    """Stands in for a patient who is not to be named."""
    return Subject(
        derived_uid(video_id, "study"),
        derived_uid(video_id, "series"),
        derived_uid(video_id, "instance"),
        video_id,
    )


def named(subject: Subject | None, video_id: str) -> Subject:
    """Whom the report of a video is about: ``subject``, or nobody. A header that was damaged, or filled by hand, leaves
    values that no report may hold; computed ids stand in for them, and nothing for dates."""
    nobody = unnamed(video_id)
    if subject is None:
        return nobody

    def uid(value: str, instead: str) -> str:
        return value if len(value) <= 64 and UID.fullmatch(value) else instead

    return replace(
        subject,
        study_uid=uid(subject.study_uid, nobody.study_uid),
        series_uid=uid(subject.series_uid, nobody.series_uid),
        instance_uid=uid(subject.instance_uid, nobody.instance_uid),
        class_uid=subject.class_uid if subject.class_uid in VIDEO_CLASSES else nobody.class_uid,
        patient_id=subject.patient_id or nobody.patient_id,
        birth_date=subject.birth_date if DATE.fullmatch(subject.birth_date) else "",
        sex=subject.sex if subject.sex in ("M", "F", "O") else "",
        study_date=subject.study_date if DATE.fullmatch(subject.study_date) else "",
        study_time=subject.study_time if TIME.fullmatch(subject.study_time) else "",
    )


def derived_uid(*parts: str) -> str:
    """A DICOM UID computed from ``parts``: 2.25 and a number of 122 random-looking bits (PS3.5, B.2)."""
    return f"2.25.{derived_uuid(*parts).int}"


def derived_uuid(*parts: str) -> uuid.UUID:
    """A UUID computed from ``parts``."""
    return uuid.UUID(bytes=hashlib.sha256("\0".join(("halsted", *parts)).encode()).digest()[:16], version=5)
