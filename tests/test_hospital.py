"""DICOM video in, and maps as DICOM SR and FHIR out and back."""

from pathlib import Path

import pydicom
import pytest
import small_video
import yaml
from hospital_files import NAME, write_dicom
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.sr.codedict import codes

from halsted_ray.cli import main
from halsted_ray.errors import UsageError
from halsted_ray.hospital import value_set
from halsted_ray.hospital.fhir import read_bundle, write_bundle
from halsted_ray.hospital.identities import Identities
from halsted_ray.hospital.structured_report import read_report, write_report

TEXT = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=80)
TIME = st.floats(0, 1e5)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "video_id": st.just("3f2a"),
            "start_s": TIME,
            "end_s": TIME,
            "task": TEXT,
            "tag": TEXT,
            "category": TEXT,
            "confidence": st.floats(0, 1),
            "source": TEXT,
            "model_version": TEXT,
        }
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=20)
@given(ROWS)
def test_a_map_comes_back_from_its_reports_to_the_last_bit(rows):
    assert read_report(write_report("3f2a", rows)) == rows
    for release in ("r4", "r5"):
        assert read_bundle(write_bundle("3f2a", rows, release)) == rows


def test_other_files_are_refused_without_their_content():
    for read, data in ((read_report, NAME.encode()), (read_bundle, NAME)):
        with pytest.raises(UsageError) as refused:
            read(data)
        assert "Mustermann" not in str(refused.value)


def test_the_value_set_has_every_category_and_no_invented_snomed_code():
    root = Path(value_set.__file__).parent
    tags = yaml.safe_load((root / "value_set.yaml").read_text())["tags"]
    taxonomy = yaml.safe_load((root.parent / "taxonomy/halsted.yaml").read_text())
    wanted = {tag["name"]: tag["categories"] for task in taxonomy["tasks"] for tag in task["tags"]}
    assert {tag: list(of["categories"]) for tag, of in tags.items()} == wanted
    known = {getattr(codes.SCT, name).value for name in codes.SCT.dir()}
    for tag, of in tags.items():
        assert of["code"] == value_set.private_code(tag, "")
        for category, entry in of["categories"].items():
            assert entry["code"] == value_set.private_code(tag, category)
            assert entry.get("sct", "236886002") in known


@pytest.mark.parametrize("fragments", [1, 5])
def test_the_stream_comes_in_bit_by_bit_and_the_name_stays_in_the_table(fragments, tmp_path, capsys):
    stream = Path(small_video.write(tmp_path / "v.mp4", 1)).read_bytes() + b"\0\0\0\x09free!"  # an odd length
    (tmp_path / "pacs").mkdir()
    write_dicom(tmp_path / "pacs/Mustermann.dcm", stream, fragments)
    out, table = tmp_path / "archive", tmp_path / "private/identities.db"
    words = ["dicom", "import", str(tmp_path / "pacs"), "--out", str(out), "--identities", str(table)]
    assert main(words) == 0 and main(words) == 0
    (video,) = out.iterdir()
    assert video.read_bytes() == stream
    said = capsys.readouterr()
    assert "Mustermann" not in said.out + said.err + video.name and b"Mustermann" not in video.read_bytes()
    (identity,) = Identities(table).of(video.stem)
    assert identity.subject.patient_name == NAME and identity.header["00100020"]["Value"] == ["P-4711"]
    assert table.stat().st_mode & 0o777 == 0o600


def test_a_report_names_the_patient_only_where_it_is_told_to(tmp_path):
    (tmp_path / "pacs").mkdir()
    write_dicom(tmp_path / "pacs/1.dcm", Path(small_video.write(tmp_path / "v.mp4", 1)).read_bytes(), 1)
    main(["dicom", "import", str(tmp_path / "pacs"), "--out", str(tmp_path / "a"), "--identities", str(tmp_path / "i")])
    (subject,) = Identities(tmp_path / "i").subjects().values()
    row = {"start_s": 0.0, "end_s": 1.0, "task": "t", "tag": "t", "category": "c", "confidence": 1.0}
    rows = [{"video_id": "3f2a", **row, "source": "ai", "model_version": "m"}]
    assert b"Mustermann" not in write_report("3f2a", rows) and b"Mustermann" in write_report("3f2a", rows, subject)
    (tmp_path / "sr.dcm").write_bytes(write_report("3f2a", rows, subject))
    assert pydicom.dcmread(tmp_path / "sr.dcm").StudyInstanceUID == subject.study_uid
