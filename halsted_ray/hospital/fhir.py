"""A map as a FHIR bundle (R4 or R5), and back: a Procedure, a DiagnosticReport, a Device, and an Observation per row.

An Observation has the category as a coded value, and components for what else the row says: start and end in seconds
from the first displayed frame (a map knows no time of day), certainty, task, source, version of the model. Every
bundle is checked by the classes of ``fhir.resources``, which know the elements, types and cardinalities of the
standard. That
package carries no JSON schema of HL7 and no R4 classes, but those of R4B, which does not differ from R4 in the
resources used here. Needs ``halsted-ray[dicom]``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from halsted_ray import __version__
from halsted_ray.errors import UsageError
from halsted_ray.hospital import value_set
from halsted_ray.hospital.extra import needs_dicom
from halsted_ray.hospital.subject import Subject, derived_uuid, named
from halsted_ray.hospital.value_set import Concept
from halsted_ray.maps.exports import Row
from halsted_ray.records import JsonObject

RELEASES = ("r4", "r5")
VIDEO_SYSTEM = f"{value_set.PRIVATE_SYSTEM}.1"
"""The system of the ids of videos."""
UCUM = "http://unitsofmeasure.org"
DISCLAIMER = "Research software, not a medical device. Stated by a model, and checked by nobody."
QUANTITIES = {"start_s": value_set.START, "end_s": value_set.STOP, "confidence": value_set.CERTAINTY}
TEXTS = {
    "task": value_set.TASK,
    "tag": value_set.TAG,
    "category": value_set.CATEGORY,
    "source": value_set.SOURCE,
    "model_version": value_set.MODEL,
}
"""Column of a row → the component that holds it."""


def write_bundle(video_id: str, rows: Sequence[Row], release: str, subject: Subject | None = None) -> str:
    """One video's ``rows`` (``maps.exports.COLUMNS``) as a bundle of the FHIR ``release`` (``RELEASES``), as JSON.

    ``subject``: the patient and the study; None names nobody. Raises UsageError where the extra is not installed.
    """
    needs_dicom()
    subject = named(subject, video_id)
    patient: JsonObject = {"identifier": {"value": subject.patient_id}}
    if subject.patient_name:
        patient["display"] = subject.patient_name
    if subject.patient_id == video_id:
        patient["identifier"]["system"] = VIDEO_SYSTEM
    procedures = [row["category"] for row in rows if row["tag"] == "procedure"]
    device_at, procedure_at = _url(video_id, "device"), _url(video_id, "procedure")
    names = {"deviceName": [{"name": "Halsted on Ray", "type": "user-friendly-name"}]}
    if release == "r5":
        names = {"name": [{"value": "Halsted on Ray", "type": "user-friendly-name"}]}
    observations = [
        (
            _url(video_id, f"row {number}"),
            {
                "resourceType": "Observation",
                "status": "preliminary",
                "code": _codeable(value_set.tag_concept(row["tag"]), row["tag"]),
                "subject": patient,
                "partOf": [{"reference": procedure_at}],
                "device": {"reference": device_at},
                "valueCodeableConcept": _codeable(
                    value_set.category_concept(row["tag"], row["category"]), row["category"]
                ),
                "component": [
                    *(
                        {"code": _codeable(name), "valueQuantity": _quantity(row, of)}
                        for of, name in QUANTITIES.items()
                    ),
                    *(
                        {"code": _codeable(name), "valueString": row[of]}
                        for of, name in TEXTS.items()
                        if row[of]  # FHIR has no empty string
                    ),
                ],
            },
        )
        for number, row in enumerate(rows)
    ]
    resources = [
        (
            procedure_at,
            {
                "resourceType": "Procedure",
                "status": "completed",
                "code": _codeable(value_set.procedure_concept(procedures)),
                "subject": patient,
                "report": [{"reference": _url(video_id, "report")}],
            },
        ),
        (
            _url(video_id, "report"),
            {
                "resourceType": "DiagnosticReport",
                "status": "preliminary",
                "code": _codeable(value_set.TEMPORAL_MAP),
                "subject": patient,
                "result": [{"reference": url} for url, _ in observations],
                "conclusion": DISCLAIMER,
            },
        ),
        (device_at, {"resourceType": "Device", **names, "version": [{"value": __version__}]}),
        *observations,
    ]
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "identifier": {"system": VIDEO_SYSTEM, "value": video_id},
        "entry": [{"fullUrl": url, "resource": _filled(cast(JsonObject, resource))} for url, resource in resources],
    }
    check_bundle(bundle, release)
    return json.dumps(bundle, indent=1, ensure_ascii=False) + "\n"


def check_bundle(bundle: JsonObject, release: str) -> None:
    """Raises UsageError where ``bundle`` is none of the FHIR ``release``, by the classes of ``fhir.resources``."""
    if release not in RELEASES:
        raise UsageError(f"unknown FHIR release {release!r}; expected one of {', '.join(RELEASES)}")
    needs_dicom()
    if release == "r4":
        from fhir.resources.R4B.bundle import Bundle
    else:
        from fhir.resources.bundle import Bundle
    from pydantic import ValidationError

    try:
        Bundle.model_validate(bundle)
    except ValidationError as error:
        # The message of pydantic repeats the values, which may name a patient.
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['type']}" for one in error.errors()[:3])
        raise UsageError(f"expected a bundle of FHIR {release.upper()}, got one that breaks it at {wrong}") from None


def read_bundle(text: str) -> list[Row]:
    """The rows that ``write_bundle`` wrote. Raises UsageError for any other text; no message holds a value of it."""
    try:
        bundle = json.loads(text)
        video_id = bundle["identifier"]["value"]
        found = [entry["resource"] for entry in bundle["entry"]]
        return [_row(video_id, resource) for resource in found if resource["resourceType"] == "Observation"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            "expected a FHIR bundle that `halsted export --format fhir-r5` (or fhir-r4) wrote, got another file "
            f"({type(error).__name__})"
        ) from None


def _row(video_id: str, observation: JsonObject) -> Row:
    parts = {part["code"]["coding"][0]["code"]: part for part in observation["component"]}
    return {
        "video_id": video_id,
        **{of: float(parts[name.code]["valueQuantity"]["value"]) for of, name in QUANTITIES.items()},
        **{of: parts[name.code]["valueString"] if name.code in parts else "" for of, name in TEXTS.items()},
    }


def _quantity(row: Row, of: str) -> JsonObject:
    unit = "1" if of == "confidence" else "s"
    return {"value": float(row[of]), "unit": unit, "system": UCUM, "code": unit}


def _codeable(concept: Concept, text: str = "") -> JsonObject:
    coding = {"system": value_set.SYSTEMS[concept.scheme], "code": concept.code, "display": concept.meaning}
    return {"coding": [coding], "text": text or concept.meaning}


def _url(video_id: str, what: str) -> str:
    return f"urn:uuid:{derived_uuid(video_id, what)}"


def _filled(resource: dict[str, Any]) -> dict[str, Any]:
    """Without empty lists, which FHIR does not allow."""
    return {name: value for name, value in resource.items() if value != []}
