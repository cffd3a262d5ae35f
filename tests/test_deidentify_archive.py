"""`halsted deidentify`: text in the picture, certificates, the review, and a whole archive on Ray Data."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import planted
import pytest
import small_video
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.planted_text import planted_picture
from halsted_ray.cli import main
from halsted_ray.deidentify.certificate import signed, site_key, verify
from halsted_ray.deidentify.clean import CleaningOptions, boxes_of, clean_file
from halsted_ray.deidentify.finders import FINDERS
from halsted_ray.deidentify.spans import Box, Span
from halsted_ray.deidentify.text import FoundText, Sample, TextReader, grown, lines_of, masks_of, stored_box
from halsted_ray.errors import OutputError, UsageError
from halsted_ray.mapping.deidentify_archive import _check_out, _named, deidentify_archive
from halsted_ray.storage.lease import Lease
from halsted_ray.video.geometry import Orientation
from halsted_ray.video.identity import identify

pytest.importorskip("rapidocr_onnxruntime")
WORDS = "DOE JANE 12.03.1957"


def with_text(path: Path, start_s: float, stop_s: float, seconds: float = 4.0) -> Path:
    """A moving picture of 640x360 with a line of text over it for some time."""
    still_HWC = np.random.default_rng(1).integers(60, 200, (6, 10, 3), np.uint8)
    still_HWC = cv2.resize(still_HWC, (640, 360), interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "25", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for n in range(round(seconds * 25)):
            image_HWC = np.ascontiguousarray(np.roll(still_HWC, 3 * n, axis=1))
            if start_s <= n / 25 < stop_s:
                cv2.putText(image_HWC, WORDS, (60, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (255, 255, 255), 2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image_HWC, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def lines_in(path: Path) -> list[str]:
    """The text that the reader finds in any frame of a video, where it looks like the planted words."""
    from rapidocr_onnxruntime import RapidOCR

    reader, found = RapidOCR(intra_op_num_threads=1), []
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number % 5 == 0:
                result, _ = reader(frame.to_ndarray(format="bgr24"), use_cls=False)
                found += [
                    words for _, words, _ in result or () if any(part in words for part in ("DOE", "JANE", "1957"))
                ]
    return found


def test_burned_in_text_is_masked_while_it_stands_and_nowhere_else(tmp_path):
    source = with_text(tmp_path / "a.mp4", 1.2, 2.8)
    assert lines_in(source)
    cleaned = clean_file(source, tmp_path / "out.mp4", CleaningOptions(spans=False))
    assert not lines_in(tmp_path / "out.mp4")
    (mask,) = cleaned.masks
    assert mask.start_s <= 1.2 and 2.8 <= mask.stop_s and mask.box.height < 80
    assert 1957 not in json.loads(json.dumps(cleaned.certificate)).values()
    assert "JANE" not in json.dumps(cleaned.certificate)


def test_fixed_box_of_a_recorder_is_black_to_the_end(tmp_path):
    source = small_video.write(tmp_path / "a.mp4", 2.0, codec="libx264")
    clean_file(Path(source), tmp_path / "out.mp4", CleaningOptions(False, (Box(0, 0, 48, 32),), False))
    with av.open(str(tmp_path / "out.mp4")) as container:
        pictures = [frame.to_ndarray() for frame in container.decode(video=0)]
    assert len(pictures) == 50 and all(np.abs(p[:32, :48].astype(int) - 16).max() <= 6 for p in pictures)


def test_spans_of_finders_become_black_and_the_certificate_lists_them(tmp_path):
    source = small_video.write(tmp_path / "a.mp4", 2.0, codec="libx264")
    finders = {"out-of-body": lambda path: [Span(0.5, 1.0, "out-of-body", 0.9)]}
    cleaned = clean_file(Path(source), tmp_path / "out.mp4", CleaningOptions(text=False), finders)
    with av.open(str(tmp_path / "out.mp4")) as container:
        black = [frame.to_ndarray()[:64].max() <= 20 for frame in container.decode(video=0)]
    assert [number for number, is_black in enumerate(black) if is_black] == list(range(12, 25))
    assert cleaned.certificate["black"]["spans"][0]["start_s"] == 0.5
    assert [method["code"] for method in cleaned.certificate["methods"]] == ["113100", "113102"]
    assert set(FINDERS) == {"out-of-body"}


def test_certificate_holds_for_its_file_and_no_other(tmp_path):
    key = site_key(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").stat().st_mode & 0o077 == 0
    source = planted.recording(tmp_path / "DOE^JANE-1957.mp4")
    certificate = signed(clean_file(source, tmp_path / "out.mp4", CleaningOptions(False, spans=False)).certificate, key)
    certificate = json.loads(json.dumps(certificate))
    verify(certificate, tmp_path / "out.mp4")
    verify(certificate, tmp_path / "out.mp4", certificate["signature"]["public_key"])
    assert not planted.places_of(json.dumps(certificate).encode())
    with pytest.raises(UsageError, match="not the one of this certificate"):
        verify(certificate, source)
    with pytest.raises(UsageError, match="another key"):
        verify(certificate, tmp_path / "out.mp4", "AAAA")
    with pytest.raises(UsageError, match="changed after"):
        verify(certificate | {"frames": 1}, tmp_path / "out.mp4")
    with pytest.raises(UsageError, match="expected a certificate"):
        verify({"kind": "x"}, tmp_path / "out.mp4")


def test_archive_is_cleaned_certified_reviewed_and_not_done_twice(tmp_path, capfd):
    archive = tmp_path / "archive"
    archive.mkdir()
    planted.recording(archive / "DOE^JANE-1957.mp4")
    with_text(archive / "a.mp4", 0.0, 2.0, 2.0)
    (archive / "bad.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(500))
    command = ["deidentify", str(archive), "--out", str(tmp_path / "clean"), "--no-out-of-body"]
    assert main(command) == 3
    said = capfd.readouterr()
    assert "3 videos: 0 clean before, 2 cleaned now, 1 of them to be looked through, 1 failed" in said.out
    assert "DOE" not in said.out and "JANE" not in said.out
    clean, review = tmp_path / "clean", tmp_path / "clean-review"
    for file in (file for file in clean.rglob("*") if file.is_file()):
        assert not planted.places_of(file.read_bytes()) and not planted.places_of(file.name.encode())
    videos = sorted(path.stem for path in (clean / "videos").iterdir())
    assert videos == sorted(path.stem for path in (clean / "certificates").iterdir()) and len(videos) == 2
    assert review.stat().st_mode & 0o077 == 0
    failed_list = review / "failed-files.csv"
    assert f"which files failed: {failed_list}" in said.out and "bad.mp4" not in said.out + said.err
    assert failed_list.stat().st_mode & 0o777 == 0o600
    ((name, file, code),) = list(csv.reader(failed_list.open()))[1:]
    assert name in said.out and file.endswith("bad.mp4") and code == "unreadable"
    assert main(command) == 3
    assert "2 clean before, 0 cleaned now" in capfd.readouterr().out
    (items,) = review.glob("*/items.json")
    assert (items.parent / "0.jpg").exists()
    name = items.parent.name
    certificate = clean / "certificates" / f"{name}.json"
    assert main(["deidentify", "accept", str(certificate), "--review", str(review)]) == 0
    assert not items.parent.exists()
    assert json.loads(certificate.read_text())["review"]["state"] == "accepted"
    assert main(["deidentify", "verify", str(certificate), str(clean / "videos" / f"{name}.mp4")]) == 0
    assert main(["deidentify", "verify", str(certificate), str(archive / "a.mp4")]) == 2


def test_a_file_that_cannot_be_read_now_is_not_cleaned_under_another_name(tmp_path, monkeypatch):
    """Its copy would lie there twice when the store answers again."""
    file = small_video.write(tmp_path / "a.mp4", 2)
    key = site_key(tmp_path / "key.pem")
    named, unread = _named(key, [str(file)])
    assert not unread
    answers = iter([ConnectionError("away")])

    def slow(fs, path):
        for error in answers:
            raise error
        return identify(fs, path)

    monkeypatch.setattr("halsted_ray.mapping.deidentify_archive.identify", slow)
    assert _named(key, [str(file)]) == (named, {}), "a store that is away for a moment is waited for"
    monkeypatch.setattr("halsted_ray.mapping.deidentify_archive.PATIENCE_S", 0.1)
    answers = iter([ConnectionError("away")] * 9)
    other, unread = _named(key, [str(file)])
    assert not other.keys() & named.keys() and {code for code, _ in unread.values()} == {"storage"}


def test_two_runs_do_not_write_to_one_clean_archive(tmp_path):
    small_video.write(tmp_path / "archive/a.mp4", 2)
    out = tmp_path / "clean"
    out.mkdir()
    with Lease(str(out), "first"), pytest.raises(OutputError, match="another run is at work on .*clean"):
        deidentify_archive(str(tmp_path / "archive"), str(out))


def test_a_folder_with_videos_of_somebody_else_is_no_place_for_clean_ones(tmp_path, capsys):
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    small_video.write(archive / "a.mp4", 1)
    words = ["deidentify", str(archive), "--out", str(out), "--no-text", "--no-out-of-body"]
    for other in ("Jane Doe.mp4", "videos/0123456789abcdef.mp4", "deep/down/b.MKV"):
        (out / other).parent.mkdir(parents=True, exist_ok=True)
        (out / other).write_bytes(b"mine")
        assert main(words) == 2
        assert "got 1 other video file there" in capsys.readouterr().err, other
        assert [path.read_bytes() for path in out.rglob("*") if path.is_file()] == [b"mine"]
        shutil.rmtree(out)
    _check_out(str(out))
    for own in ("videos/0123456789abcdef.mp4", "videos/.0123456789abcdef.part", "certificates/0123456789abcdef.json"):
        (out / own).parent.mkdir(parents=True, exist_ok=True)
        (out / own).touch()
    _check_out(str(out))  # what a run has written is gone on with
    (out / "videos/b.mp4").touch()
    with pytest.raises(OutputError, match="expected a new folder, or one that this command has written"):
        _check_out(str(out))


def test_a_folder_of_dicom_files_is_to_be_imported_first(tmp_path, capsys):
    pytest.importorskip("pydicom")
    from hospital_files import write_dicom

    archive, out = tmp_path / "pacs", tmp_path / "out"
    archive.mkdir()
    stream = Path(small_video.write(tmp_path / "v.mp4", 1)).read_bytes()
    for name in ("Mustermann.dcm", "IMG0001"):
        write_dicom(archive / name, stream)
    assert main(["deidentify", str(archive), "--out", str(out), "--no-text"]) == 2
    said = capsys.readouterr().err
    assert "halsted dicom import" in said and "Mustermann" not in said and not out.exists()


def test_a_picture_is_enlarged_before_it_is_read_and_its_boxes_are_of_the_picture(monkeypatch):
    reader, shapes = TextReader(), []
    engine = reader._engine
    monkeypatch.setattr(reader, "_engine", lambda image, **given: shapes.append(image.shape) or engine(image, **given))
    image_HWC = np.full((180, 320, 3), 60, np.uint8)
    cv2.putText(image_HWC, "ID 471182", (90, 100), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    rows, columns = np.nonzero(image_HWC[:, :, 0] > 150)
    [text] = reader.find(image_HWC)
    assert shapes == [(1125, 2000, 3)] and text.is_read
    assert text.box.x <= columns.min() and text.box.x + text.box.width > columns.max()
    assert text.box.y <= rows.min() and text.box.y + text.box.height > rows.max()
    assert text.box.width < 160 and text.box.height < 60


def test_an_initial_beside_a_name_belongs_to_the_line_and_other_marks_do_not():
    name, initial = FoundText(Box(100, 50, 200, 40), 0.99, True), FoundText(Box(310, 52, 60, 38), 0.97, False)
    further = FoundText(Box(380, 50, 60, 38), 0.9, False)  # beside the initial
    below, tall, far = (
        FoundText(box, 0.9, False) for box in (Box(310, 92, 60, 38), Box(0, 0, 90, 90), Box(999, 50, 60, 38))
    )
    joined = lines_of([initial, further, below, tall, far, name])
    assert {text.box: text.is_read for text in joined} == {
        name.box: True,
        initial.box: True,
        further.box: True,
        below.box: False,
        tall.box: False,
        far.box: False,
    }


def test_a_second_look_makes_a_line_longer_and_adds_no_box_of_its_own():
    line = FoundText(Box(100, 50, 100, 20), 0.9, True)
    parts = [Box(150, 48, 110, 24), Box(270, 50, 40, 20), Box(100, 200, 100, 20)]
    assert grown(line, parts).box == Box(100, 48, 210, 24)
    assert grown(line, []) == line


def test_a_line_whose_end_fades_into_the_tissue_is_masked_whole():
    picture, lines = planted_picture(np.random.default_rng([900_170, 91]), 10)  # letters of 40 px, 46 grey levels
    texts = [text.box for text in TextReader().find(picture) if text.is_read]
    covered = np.zeros(picture.shape[:2], bool)
    for box in texts:
        covered[box.y : box.y + box.height, box.x : box.x + box.width] = True
    assert lines[8].letters_px == 40 and covered[lines[8].ink].all()


def test_no_second_look_is_taken_where_nothing_was_read(monkeypatch):
    reader = TextReader()
    monkeypatch.setattr(reader, "_find_boxes", lambda image: pytest.fail("a second look"))
    assert reader.find(np.full((180, 320, 3), 60, np.uint8)) == []


def test_text_seen_twice_in_one_place_stood_there_in_between():
    text = FoundText(Box(10, 10, 100, 20), 0.9, True)
    samples = [Sample(float(time), [text] if time in (2, 6) else []) for time in range(0, 12, 2)]
    (mask,) = masks_of(samples)
    assert (mask.start_s, mask.stop_s) == (0.0, 8.0)


def test_unread_marks_count_only_where_they_stay_and_are_lines():
    line, spot = FoundText(Box(10, 10, 100, 20), 0.4, False), FoundText(Box(200, 200, 30, 30), 0.4, False)
    samples = [Sample(float(time), [line, spot]) for time in range(3)]
    assert [mask.box for mask in masks_of(samples)] == [line.box]
    assert not masks_of(samples[:2])


@given(st.integers(0, 3), st.booleans(), st.integers(0, 20), st.integers(0, 10), st.integers(1, 9), st.integers(1, 5))
def test_box_of_the_upright_picture_is_found_in_the_stored_one(turns, mirrored, x, y, width, height):
    orientation = Orientation(turns, mirrored)
    stored_HWC = np.zeros((40, 60, 3), np.uint8)
    upright_HWC = orientation.upright(stored_HWC).copy()
    upright_HWC[y : y + height, x : x + width] = 1
    box = stored_box(Box(x, y, width, height), orientation, 60, 40)
    stored_HWC[box.y : box.y + box.height, box.x : box.x + box.width] = 1
    assert np.array_equal(orientation.upright(stored_HWC), upright_HWC)


def test_files_of_another_kind_are_refused_in_words(tmp_path, capsys):
    video = planted.recording(tmp_path / "v.mp4")
    (tmp_path / "c.json").write_text("{}")
    assert main(["deidentify", "verify", str(video), str(tmp_path / "c.json")]) == 2, "in the other order"
    assert "certificate (JSON) comes first" in capsys.readouterr().err
    words = ["deidentify", str(tmp_path), "--out", str(tmp_path / "out"), "--masks", str(video), "--recorder", "x"]
    assert main(words) == 2 and "expected YAML" in capsys.readouterr().err


def test_mask_of_wrong_words_is_refused():
    assert boxes_of(["0,0,4,5"]) == (Box(0, 0, 4, 5),)
    with pytest.raises(UsageError, match="x,y,width,height"):
        boxes_of(["0,0,4"])
