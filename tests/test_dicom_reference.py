"""docs/reference/dicom.md says what the code reads and writes, no more and no less."""

import io
import re
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import UID
from test_structured_report import rows_of

from halsted_ray.hospital import value_set
from halsted_ray.hospital.receiving import CLASSES
from halsted_ray.hospital.structured_report import write_report
from halsted_ray.video.file_head import VIDEO_SYNTAXES

PAGE = (Path(__file__).parent.parent / "docs/reference/dicom.md").read_text(encoding="utf-8")


def table(first_column: str) -> list[list[str]]:
    """The rows of the table whose first column has this head."""
    found = re.search(rf"^\| {first_column} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert found, first_column
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in found[1].splitlines()]


def test_the_page_lists_each_transfer_syntax_that_is_read():
    rows = table("transfer syntax")
    assert {uid: codec for uid, _, codec, _ in rows} == VIDEO_SYNTAXES
    assert [name for _, name, _, _ in rows] == [UID(uid).name for uid, *_ in rows]
    known = {uid for uid in pydicom._uid_dict.UID_dictionary if uid.endswith(".1")}
    assert {uid: fragmentable == "yes" for uid, _, _, fragmentable in rows} == {
        uid: f"{uid}.1" in known for uid in VIDEO_SYNTAXES
    }


def test_the_page_lists_each_class_that_is_received():
    assert table("SOP class") == [[uid, UID(uid).name] for uid in CLASSES]


@pytest.fixture(scope="module")
def report():
    return pydicom.dcmread(io.BytesIO(write_report("3f2a", rows_of(2))))


def items_of(item):
    yield item
    for child in item.get("ContentSequence", []):
        yield from items_of(child)


def test_the_page_lists_each_item_of_a_report(report):
    tags = {value_set.tag_concept(row["tag"]).code for row in rows_of(2)}
    written = {
        (name.CodeValue, name.CodingSchemeDesignator, item.ValueType): name.CodeMeaning
        for item in items_of(report)
        for name in item.ConceptNameCodeSequence
        if name.CodeValue not in tags
    }
    listed = {(code, scheme, kind): what for code, scheme, kind, what in table("item")}
    assert set(listed) == set(written)
    for key, meaning in written.items():
        assert listed[key].startswith(meaning.split(" (")[0].split(",")[0]), (listed[key], meaning)


def test_the_page_names_the_class_the_state_and_the_coding_of_a_report(report):
    assert (
        f"Comprehensive SR (`{report.SOPClassUID}`)" in PAGE and report.SOPClassUID.name == "Comprehensive SR Storage"
    )
    assert report.file_meta.TransferSyntaxUID.name == "Explicit VR Little Endian"
    said = (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag, report.Modality)
    assert all(f"`{one}`" in PAGE for one in (*said, report.SpecificCharacterSet))
    assert f"Series number {report.SeriesNumber}." in PAGE
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
