"""Maps as reports for a hospital's systems: a file per video, beside what ``maps.exports`` writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import pyarrow as pa

from halsted_ray.errors import UsageError
from halsted_ray.hospital.fhir import read_bundle, write_bundle
from halsted_ray.hospital.structured_report import read_report, write_report
from halsted_ray.hospital.subject import Subject
from halsted_ray.maps.exports import Row, canonical_rows
from halsted_ray.storage.files import read_bytes, write_bytes

Write = Callable[[str, Sequence[Row], Subject | None], bytes]

WRITERS: dict[str, tuple[str, Write]] = {
    "dicom-sr": (".sr.dcm", write_report),
    "fhir-r4": (".fhir-r4.json", lambda video_id, rows, who: write_bundle(video_id, rows, "r4", who).encode()),
    "fhir-r5": (".fhir-r5.json", lambda video_id, rows, who: write_bundle(video_id, rows, "r5", who).encode()),
}
"""Name of a format → the end of its files' names, and what writes one video's rows."""


def export_reports(
    timeline: pa.Table,
    to: str,
    format: str,
    video_ids: Iterable[str] = (),
    subjects: Mapping[str, Subject] | None = None,
) -> list[str]:
    """Writes ``timeline`` under the folder or URL ``to`` as ``maps.exports.export`` does; returns the locations.

    ``subjects``: video id → whom its report is about; a report of any other video names nobody. A video without a row
    gets a FHIR bundle without observations and no DICOM SR, which can't be empty. Raises UsageError, OutputError.
    """
    if format not in WRITERS:
        raise UsageError(f"unknown format {format!r}; expected one of {', '.join(WRITERS)}")
    suffix, write = WRITERS[format]
    by_video: dict[str, list[Row]] = {video_id: [] for video_id in sorted(video_ids)}
    for row in canonical_rows(timeline):
        by_video.setdefault(row["video_id"], []).append(row)
    written = []
    for video_id, rows in by_video.items():
        if rows or format != "dicom-sr":
            location = f"{to.rstrip('/')}/{video_id}{suffix}"
            write_bytes(location, write(video_id, rows, (subjects or {}).get(video_id)))
            written.append(location)
    return written


def read_rows(location: str) -> list[Row]:
    """The rows of a report that ``export_reports`` wrote, with the columns ``maps.exports.COLUMNS``.

    Raises UsageError, StorageUnavailable.
    """
    try:
        data = read_bytes(location)
    except FileNotFoundError:
        raise UsageError(f"{location!r}: expected a report, got no file; check the path") from None
    except IsADirectoryError:
        raise UsageError(f"{location!r}: expected a report, got a folder; name one file of it") from None
    if data[128:132] == b"DICM":
        return read_report(data)
    try:
        return read_bundle(data.decode())
    except UnicodeDecodeError:
        raise UsageError(f"{location!r}: expected a DICOM SR or a FHIR bundle, got another file") from None
