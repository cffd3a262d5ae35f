"""A patient's name in every field of a DICOM header is in the table of identities, and nowhere else."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import dicom_video
import planted
import pydicom
import pytest
import small_video
from hospital_files import send
from hypothesis import given, settings
from hypothesis import strategies as st
from orthanc import free_ports

import halsted_ray
from halsted_ray.cli import main
from halsted_ray.hospital.elements import element, sequence
from halsted_ray.hospital.fhir import read_bundle, write_bundle
from halsted_ray.hospital.identities import Identities
from halsted_ray.hospital.intake import take_in
from halsted_ray.hospital.structured_report import read_report, write_report

NAME = planted.NAME.encode()


def row(category: str) -> dict[str, object]:
    span = {"video_id": "3f2a", "start_s": 0.0, "end_s": 1.0, "task": "t", "tag": "t", "category": category}
    return {**span, "confidence": 1.0, "source": "ai", "model_version": "m"}


@pytest.fixture(scope="module")
def stream(tmp_path_factory) -> bytes:
    return Path(small_video.write(tmp_path_factory.mktemp("stream") / "v.mp4", 2)).read_bytes()


@contextlib.contextmanager
def everything_said():
    """A list that gets all that is printed, logged at any level, and warned of, in this process."""
    said: list[str] = []
    out, err = io.StringIO(), io.StringIO()

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(self.format(record))

    keep = Keep(logging.NOTSET)
    root = logging.getLogger()
    level = root.level
    root.addHandler(keep)
    root.setLevel(logging.NOTSET)
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(record=True) as warned,
        ):
            warnings.simplefilter("always")
            yield said
            said.extend(str(one.message) for one in warned)
    finally:
        root.removeHandler(keep)
        root.setLevel(level)
        said.extend((out.getvalue(), err.getvalue()))


def found_in(folder: Path) -> dict[str, list[str]]:
    """File below ``folder`` with the name in its path or content → in which writings."""
    found = {}
    for path in folder.rglob("*"):
        places = planted.places_of(os.fsencode(path.relative_to(folder)))
        if path.is_file():
            places += planted.places_of(path.read_bytes())
        if places:
            found[str(path.relative_to(folder))] = places
    return found


def test_the_planted_header_holds_the_name_in_thousands_of_fields(tmp_path, stream):
    path = dicom_video.write(
        tmp_path / "1.dcm",
        stream,
        dicom_video.named_everywhere(NAME),
        meta=dicom_video.meta_named_everywhere(NAME),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(path, stop_before_pixels=True)
        vrs = {one.VR for one in header.iterall() if planted.NAME in str(one.value)}
    assert path.read_bytes().count(NAME) > 5_000
    assert set(dicom_video.TEXT_VRS) - {"IS", "DS"} <= vrs
    assert header.file_meta.ImplementationVersionName == header.file_meta.SourceApplicationEntityTitle == planted.NAME


def test_a_name_in_every_field_of_a_header_is_in_the_table_of_identities_alone(tmp_path, stream):
    pacs, site = tmp_path / "pacs", tmp_path / "site"
    pacs.mkdir()
    header, meta = dicom_video.named_everywhere(NAME), dicom_video.meta_named_everywhere(NAME)
    dicom_video.write(pacs / "1.dcm", stream, header, fragments=3, meta=meta)
    table = tmp_path / "private/identities.db"
    with everything_said() as said:
        words = ["dicom", "import", str(pacs), "--out", str(site / "archive"), "--identities", str(table)]
        assert main(words) == 0
        (video,) = (site / "archive").iterdir()
        assert main(["probe", str(pacs / "1.dcm")]) == 0
        assert main(["probe", str(video)]) == 0
    assert not planted.places_of("\n".join(said).encode()) and said
    assert not found_in(site)
    (identity,) = Identities(table).of(video.stem)
    assert identity.subject.patient_name == planted.NAME
    assert identity.header["00020016"]["Value"] == [planted.NAME] and "00111000" in identity.header
    with everything_said() as said:
        unasked, asked = write_report(video.stem, [row("c")]), write_report(video.stem, [row("c")], identity.subject)
    assert not planted.places_of("\n".join(said).encode())
    assert not planted.places_of(unasked) and planted.places_of(asked)


VALUES = st.sampled_from(
    [NAME, NAME + b"\\" + NAME, NAME + b"=\xff\xfe=" + NAME, NAME * 40, b"1\\" + NAME, NAME + b"\0"]
)
HEADER_TAGS = st.one_of(
    st.sampled_from(sorted(tag for tag in pydicom.datadict.DicomDictionary if 0x00080006 <= tag < 0x7FE00000)),
    st.integers(0x00090010, 0x7FDFFFFF),
)


@st.composite
def headers(draw) -> bytes:
    """Elements with the name under any tag and VR, then a few bytes of the header changed."""
    charset = draw(st.sampled_from([b"ISO_IR 192", b"ISO_IR 6", b"ISO 2022 IR 87", b"\\ISO 2022 IR 149", NAME]))
    found = {0x00080005: element(0x00080005, b"CS", charset)}
    for tag in draw(st.sets(HEADER_TAGS, max_size=8)):
        vr = draw(st.sampled_from([*dicom_video.TEXT_VRS, "OB", "UN", "SQ", "FD", "US", "AT", "OW", "OV", "SV"]))
        value = draw(VALUES)
        found[tag] = sequence(tag, [element(tag, b"DA", value)]) if vr == "SQ" else element(tag, vr.encode(), value)
    return b"".join(found[tag] for tag in sorted(found))


@settings(max_examples=60)
@given(
    header=headers(),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    cut=st.floats(0, 3),
)
def test_no_broken_header_makes_anything_say_its_values(header, changes, cut, stream):
    """What can't be read is refused with a reason; neither the reason nor a warning or a log holds a value."""
    data = bytearray(dicom_video.file_meta() + header)
    for at, value in changes:
        data[132 + at % (len(data) - 132)] = value
    with tempfile.TemporaryDirectory() as folder:
        pacs, site = Path(folder) / "pacs", Path(folder) / "site"
        pacs.mkdir()
        whole = bytes(data) + dicom_video.pixels([stream[: len(stream) // 2 * 2]])
        (pacs / "1.dcm").write_bytes(whole[: round(len(whole) * cut)] if cut < 1 else whole)
        identities = Identities(Path(folder) / "private/identities.db")
        with everything_said() as said:
            intake = take_in(str(pacs), str(site / "archive"), identities)
            said.extend(refused.reason for refused in intake.refused)
            for video_id, subject in identities.subjects().items():
                said.append(str(write_report(video_id, [row("c")])))
                said.append(write_bundle(video_id, [row("c")], "r4"))
                assert read_report(write_report(video_id, [row("c")], subject)) == [row("c") | {"video_id": video_id}]
                assert len(read_bundle(write_bundle(video_id, [row("c")], "r5", subject))) == 1
        assert len(intake.taken) + len(intake.refused) + intake.others == 1
        assert not planted.places_of("\n".join(said).encode("utf-8", "surrogateescape")), said
        assert not found_in(site)


def test_warnings_stay_off_while_several_threads_read_headers(tmp_path, stream):
    """``warnings.catch_warnings`` in one thread gives another thread's warnings back."""
    for number in range(8):
        pacs = tmp_path / f"pacs{number}"
        pacs.mkdir()
        dicom_video.write(pacs / "1.dcm", stream, dicom_video.named_everywhere(NAME))
    with everything_said() as said:
        threads = [
            threading.Thread(
                target=take_in,
                args=(str(tmp_path / f"pacs{n}"), str(tmp_path / f"a{n}"), Identities(tmp_path / f"i{n}/ids.db")),
            )
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(len(list((tmp_path / f"a{n}").iterdir())) == 1 for n in range(8))
    assert not planted.places_of("\n".join(said).encode())


def test_a_name_in_every_field_that_is_received_is_in_the_table_of_identities_alone(tmp_path, stream):
    """By C-STORE, with a second file whose header is damaged."""
    site, private = tmp_path / "site", tmp_path / "private"
    site.mkdir()
    header, meta = dicom_video.named_everywhere(NAME, is_sent=True), dicom_video.meta_named_everywhere(NAME)
    dicom_video.write(tmp_path / "1.dcm", stream, header, meta=meta)
    dicom_video.write(tmp_path / "2.dcm", stream, header[: len(header) // 2] + NAME, meta=meta)
    (port,) = free_ports(1)
    words = ["--out", site / "archive", "--identities", private / "identities.db", "--port", port, "--aet", "HALSTED"]
    with open(site / "log", "wb") as log:
        receiver = subprocess.Popen(
            [sys.executable, "-m", "halsted_ray.cli", "dicom", "receive", *map(str, words), "--allow", "ENDO1"],
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(Path(halsted_ray.__file__).parents[1])},
        )
    try:
        until_s = time.monotonic() + 60
        while not (statuses := send(port, [str(tmp_path / "1.dcm"), str(tmp_path / "2.dcm")])):
            assert time.monotonic() < until_s, (site / "log").read_text()
            time.sleep(0.3)
    finally:
        receiver.terminate()
        receiver.wait(60)
    (video,) = (path for path in (site / "archive").rglob("*") if path.is_file())
    assert len(statuses) == 2 and statuses[0] == 0 != statuses[1]
    assert Identities(private / "identities.db").of(video.stem)[0].subject.patient_name == planted.NAME
    assert not found_in(site), (site / "log").read_text()
    assert {Path(path).parts[0] for path in found_in(private)} <= {"identities.db", "identities.db-wal"}


@pytest.mark.slow
def test_mapping_dicom_files_where_they_lie_keeps_nothing_of_their_headers(tmp_path, stream, small_model):
    """Maps, logs of Ray's processes, temporary files, reports: after a run over a folder of DICOM files."""
    archive = tmp_path / "archive"
    archive.mkdir()
    header, meta = dicom_video.named_everywhere(NAME), dicom_video.meta_named_everywhere(NAME)
    dicom_video.write(archive / "1.dcm", stream, header, meta=meta)
    broken = dicom_video.meta_named_everywhere(NAME) + header[: len(header) // 2] + NAME
    (archive / "2.dcm").write_bytes(broken)
    ray_folder = Path(tempfile.mkdtemp(prefix="ray-"))  # a short path: Ray's sockets lie in it
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(halsted_ray.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "RAY_TMPDIR": str(ray_folder),
        "TMPDIR": str(ray_folder),
    }
    environment.pop("RAY_ADDRESS", None)

    def run(*words: object) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "halsted_ray.cli", *map(str, words)]
        return subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path, timeout=300)

    try:
        maps = tmp_path / "site/maps"
        mapped = run("map", archive, "--out", maps, "--model", small_model)
        assert mapped.returncode == 3, mapped.stderr.decode()[-2000:]
        said = [mapped.stdout, mapped.stderr]
        for format in ("dicom-sr", "fhir-r4", "csv"):
            done = run("export", maps, "--format", format, "--to", tmp_path / "site" / format)
            assert done.returncode == 0, done.stderr.decode()[-2000:]
            said += [done.stdout, done.stderr]
        assert not planted.places_of(b"\n".join(said))
        assert not found_in(tmp_path / "site") and len(list((tmp_path / "site").rglob("*.sr.dcm"))) == 1
        assert any(ray_folder.rglob("*.out")) and not found_in(ray_folder)
    finally:
        shutil.rmtree(ray_folder, ignore_errors=True)
