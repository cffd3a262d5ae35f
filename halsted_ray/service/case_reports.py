"""The map of a case as a report for the hospital's other systems: DICOM SR and FHIR, as ``halsted export`` writes them.

A report names nobody: the video's id stands for the patient. Who may read the identity of the case can have it named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from halsted_ray.hospital import exports
from halsted_ray.service.case_identities import read_identities
from halsted_ray.service.errors import NotFound, StateConflict
from halsted_ray.service.videos import Videos

if TYPE_CHECKING:
    from halsted_ray.hospital.subject import Subject
    from halsted_ray.service.cases import Case

REPORTS = {
    "dicom": "application/dicom",
    "fhir": "application/fhir+json",
    "fhir-r4": "application/fhir+json",
}
"""Format → its media type."""
WRITERS = {"dicom": "dicom-sr", "fhir": "fhir-r5", "fhir-r4": "fhir-r4"}
"""Format → its name in ``hospital.exports.WRITERS``."""


def report_of(videos: Videos, case: Case, format: str, with_identity: bool = False) -> tuple[bytes, str]:
    """(the report on the case, a name for its file). ``with_identity``: it names patient and study, which the audit log
    notes.

    Raises NotFound where there is no map or nobody is known, StateConflict where the video came of several patients,
    and UsageError for a DICOM SR of a map without a row.
    """
    rows = videos.timeline_rows(case.video.tenant_id, case.video_id)
    subject = _subject(videos, case) if with_identity else None
    suffix, write = exports.WRITERS[WRITERS[format]]
    return write(case.video_id, rows, subject), f"{case.video_id}{suffix}"


def _subject(videos: Videos, case: Case) -> Subject:
    found = read_identities(videos.database, case)
    if not found:
        raise NotFound(f"nobody is known for video {case.video_id!r}: it did not come as DICOM; leave identities out")
    if len({(one.patient_id, one.study_uid) for one in found}) > 1:
        raise StateConflict(
            f"video {case.video_id!r} came with {len(found)} different patients or studies; leave identities out, and "
            "see its identities"
        )
    return found[0]
