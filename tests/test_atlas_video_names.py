"""Which video an annotation means, in the forms that annotation programs write."""

import base64
from pathlib import Path

import pytest

from halsted_ray.atlas.formats.labelled_spans import LabelledSpans
from halsted_ray.atlas.formats.recording import ImportSettings
from halsted_ray.atlas.formats.video_names import VideoNames, is_video_name, path_of
from halsted_ray.errors import AtlasError
from halsted_ray.taxonomy import load

HALSTED = load()
FILEURI = base64.b64encode("s3://bucket/or 2/Müller.mp4".encode()).decode()


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        ("case1.mp4", "case1.mp4"),
        ("/data/upload/3/9f3c2b1a-case1.mp4", "/data/upload/3/9f3c2b1a-case1.mp4"),
        ("/data/upload/3/9f3c2b1a-M%C3%BCller.mp4", "/data/upload/3/9f3c2b1a-Müller.mp4"),
        ("http://studio:8080/data/upload/3/9f3c2b1a-a.mp4", "/data/upload/3/9f3c2b1a-a.mp4"),
        ("/data/local-files/?d=or%202/case%201.mp4", "or 2/case 1.mp4"),
        ("/data/local-files/?d=or+2/M%C3%BCller.mp4", "or 2/Müller.mp4"),
        ("s3://bucket/or 2/100%25.mp4", "s3://bucket/or 2/100%25.mp4"),
        ("https://host/or%202/a.mp4?X-Amz-Date=1&X-Amz-Signature=2", "https://host/or 2/a.mp4"),
        (f"/tasks/7/resolve/?fileuri={FILEURI}", "s3://bucket/or 2/Müller.mp4"),
        (f"/tasks/7/presign/?fileuri={FILEURI.rstrip('=')}", "s3://bucket/or 2/Müller.mp4"),
        ("file:///C:/Users/op/case%201.mp4", "/C:/Users/op/case 1.mp4"),
        ("C:\\Users\\op\\case1.mp4", "C:/Users/op/case1.mp4"),
        ("/disk/100%20.mp4", "/disk/100%20.mp4"),
        ("<video src='/data/upload/1/9f3c2b1a-a.mp4' width=100% controls>", "/data/upload/1/9f3c2b1a-a.mp4"),
    ],
)
def test_the_path_that_a_program_means(reference, path):
    assert path_of(reference)[0] == path and is_video_name(reference)


def found(folder, reference, given=True):
    settings = ImportSettings(HALSTED, videos=str(folder) if given else "")
    return VideoNames(str(folder / "export.json"), settings).recording(reference, LabelledSpans("export.json"), 1)


def archive(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("/data/upload/3/9f3c2b1a-case1.mp4", "or1/case1.mp4"),
        ("/data/upload/3/9f3c2b1a-case_1_left.mp4", "or1/case 1 (left).mp4"),  # as an upload changes the name
        ("/data/upload/3/0123abcd-kept.mp4", "0123abcd-kept.mp4"),  # the name is there as it is
        ("/data/local-files/?d=mount/or2/same.mp4", "or2/same.mp4"),
        ("s3://bucket/archive/or1/same.mp4", "or1/same.mp4"),
        ("https://host/x/case%201%20(left).mp4?sig=1", "or1/case 1 (left).mp4"),
        ("D:\\video\\or2\\same.mp4", "or2/same.mp4"),
        ("u\u0308ber.mp4", "or2/über.mp4"),  # a Mac writes the letter and its dots apart
        ("CASE1.MP4", "or1/case1.mp4"),
        ("Case1", "or1/case1.mp4"),
        ("../../or2/same.mp4", "or2/same.mp4"),
        ("gone.mp4", "gone.mp4"),
    ],
)
def test_the_video_is_found_below_the_folder(tmp_path, reference, name):
    archive(tmp_path, "or1/case1.mp4", "or1/case 1 (left).mp4", "or1/same.mp4", "or2/same.mp4", "or2/über.mp4")
    archive(tmp_path, "0123abcd-kept.mp4")
    assert Path(found(tmp_path, reference).uri) == tmp_path / name


def test_a_name_that_two_files_have_is_not_guessed(tmp_path):
    archive(tmp_path, "or1/same.mp4", "or2/same.mp4")
    with pytest.raises(
        AtlasError, match=r"export.json:1: got 'a name that 2 files .* have'; expected a name that one file has"
    ):
        found(tmp_path, "same.mp4")


def test_eight_letters_and_a_dash_are_only_dropped_from_an_upload(tmp_path):
    archive(tmp_path, "case1.mp4")
    assert found(tmp_path, "deadbeef-case1.mp4").uri == f"{tmp_path}/deadbeef-case1.mp4"


def test_without_a_folder(tmp_path):
    archive(tmp_path, "case1.mp4")
    archive(tmp_path, "deeper/case2.mp4")
    assert found(tmp_path, "case2.mp4", given=False).uri == f"{tmp_path}/case2.mp4"  # only --videos is searched below
    for reference in ("case1.mp4", f"{tmp_path}/case1.mp4", "/data/upload/3/9f3c2b1a-case1.mp4", "/gone/case1.mp4"):
        assert found(tmp_path, reference, given=False).uri == f"{tmp_path}/case1.mp4"
    assert found(tmp_path, "s3://bucket/a.mp4", given=False).uri == "s3://bucket/a.mp4"
    assert found(tmp_path, "a" * 16, given=False).video_id == "a" * 16
    for reference, message in (
        ("https://h/a.mp4", "--videos"),
        ("", "the name of a video"),
        ("azure-blob://c/a.mp4", "begins with azure-blob://"),
    ):
        with pytest.raises(AtlasError, match=message):
            found(tmp_path, reference, given=False)


def test_no_message_holds_the_name_of_a_file(tmp_path):
    """It can be a patient's name; the place in the annotation file is enough to find it."""
    archive(tmp_path, "or1/Doe.mp4", "or2/Doe.mp4")
    for reference, given in (("Doe.mp4", True), ("https://host/Doe.mp4", False), ("azure-blob://c/Doe.mp4", False)):
        with pytest.raises(AtlasError) as caught:
            found(tmp_path, reference, given)
        assert "Doe" not in str(caught.value)
