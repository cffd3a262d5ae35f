"""The codes by which reports for a hospital's systems name tags and categories (``value_set.yaml``)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from halsted_ray.records import JsonObject, digest

PRIVATE_SCHEME = "99HALSTED"
"""The coding scheme of our own codes. DICOM leaves designators that begin with 99 to whoever needs one (PS3.16, 8)."""
PRIVATE_SYSTEM = "urn:oid:2.25.136892233944927203660544808213269032835"
"""The same scheme as FHIR names it: an OID made from a random UUID (ITU-T X.667)."""
SNOMED_SYSTEM = "http://snomed.info/sct"
DCM_SYSTEM = "http://dicom.nema.org/resources/ontology/DCM"
SYSTEMS = {PRIVATE_SCHEME: PRIVATE_SYSTEM, "SCT": SNOMED_SYSTEM, "DCM": DCM_SYSTEM}
"""DICOM's designator of a coding scheme → FHIR's name of the same scheme."""
MEANING_LETTERS = 64
"""The most that DICOM allows for the meaning of a code."""


@dataclass(frozen=True)
class Concept:
    """A code of a coding scheme (DICOM's designator of it), and its meaning in at most 64 letters."""

    scheme: str
    code: str
    meaning: str


SURGICAL_PROCEDURE = Concept("SCT", "387713003", "Surgical procedure")
CERTAINTY = Concept("DCM", "111012", "Certainty of Finding")
"""How sure the model is, as a share of 1."""
START = Concept(PRIVATE_SCHEME, "start", "Start of the span, from the first displayed frame")
STOP = Concept(PRIVATE_SCHEME, "stop", "End of the span (exclusive), from the first displayed frame")
SPAN = Concept(PRIVATE_SCHEME, "span", "Span of the video")
TASK = Concept(PRIVATE_SCHEME, "task", "Task of the taxonomy")
TAG = Concept(PRIVATE_SCHEME, "tag", "Tag of the taxonomy")
CATEGORY = Concept(PRIVATE_SCHEME, "category", "Category of the tag")
SOURCE = Concept(PRIVATE_SCHEME, "source", "What the row comes from")
MODEL = Concept(PRIVATE_SCHEME, "model-version", "Version of the model")
VIDEO = Concept(PRIVATE_SCHEME, "video", "Id of the video")
TEMPORAL_MAP = Concept(PRIVATE_SCHEME, "temporal-map", "Temporal map of a surgical video")


def tag_concept(tag: str) -> Concept:
    """The concept of a tag, such as ``action``."""
    return Concept(PRIVATE_SCHEME, private_code(tag, ""), tag[:MEANING_LETTERS])


def category_concept(tag: str, category: str) -> Concept:
    """The concept of a category: of SNOMED CT where the value set has one, else our own."""
    listed = _table().get(tag, {}).get("categories", {}).get(category, {})
    if "sct" in listed:
        return Concept("SCT", listed["sct"], listed["meaning"])
    return Concept(PRIVATE_SCHEME, private_code(tag, category), category[:MEANING_LETTERS])


def listed_categories() -> dict[str, list[str]]:
    """Tag → its categories, of the taxonomy whose codes are listed."""
    return {tag: list(of["categories"]) for tag, of in _table().items()}


def private_code(tag: str, category: str) -> str:
    """Our own code of a category, or of a tag ('' as category): the same in every taxonomy that has it."""
    return f"H{digest(tag, category)[:12]}"


def procedure_concept(categories: list[str]) -> Concept:
    """The concept of a whole operation of which a map states these ``procedure`` categories."""
    return category_concept("procedure", categories[0]) if len(set(categories)) == 1 else SURGICAL_PROCEDURE


@cache
def _table() -> JsonObject:
    content: JsonObject = yaml.safe_load(Path(__file__).with_name("value_set.yaml").read_text(encoding="utf-8"))
    tags: JsonObject = content["tags"]
    return tags
