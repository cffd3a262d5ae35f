"""A real DICOM archive on the other side: reports go there and come back, videos come from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import orthanc
import pydicom
import pytest
import small_video
from hospital_files import ENDOSCOPIC, H264, NAME, write_dicom
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from test_structured_report import rows_of

import halsted_ray
from halsted_ray.cli import main
from halsted_ray.hospital.exports import read_rows
from halsted_ray.hospital.identities import Identities
from halsted_ray.hospital.structured_report import write_report

COMPREHENSIVE_SR, EXPLICIT = "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
STUDY_ROOT_MOVE, STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.2", "1.2.840.10008.5.1.4.1.2.2.3"
PEER = "HALSTED"


@pytest.fixture(scope="module")
def receiver_port() -> int:
    (port,) = orthanc.free_ports(1)
    return port


@pytest.fixture(scope="module")
def archive(receiver_port):
    """A running Orthanc that knows this machine as ``PEER``."""
    program = orthanc.orthanc_program()
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("no Orthanc on this machine, and it can't be installed")
        pytest.skip("needs Orthanc: apt-get install orthanc orthanc-dicomweb")
    with orthanc.running(program, {PEER: receiver_port}) as server:
        yield server


@pytest.fixture(scope="module")
def stream(tmp_path_factory) -> bytes:
    return Path(small_video.write(tmp_path_factory.mktemp("stream") / "v.mp4", 2)).read_bytes()


@contextmanager
def associate(server: orthanc.Orthanc, contexts: list[tuple[str, list[str]]], **more):
    entity = ApplicationEntity(PEER)
    for sop_class, syntaxes in contexts:
        entity.add_requested_context(sop_class, syntaxes)
    association = entity.associate("127.0.0.1", server.dicom_port, ae_title=orthanc.TITLE, **more)
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_a_report_goes_to_orthanc_by_c_store_and_comes_back_row_by_row(archive, tmp_path, syntax):
    rows = [{**row, "video_id": f"{syntax[-3:]}a"} for row in rows_of(40)]
    (tmp_path / "sent.dcm").write_bytes(write_report(rows[0]["video_id"], rows))
    report = pydicom.dcmread(tmp_path / "sent.dcm")
    if syntax == IMPLICIT:
        report.file_meta.TransferSyntaxUID = IMPLICIT
        pydicom.dcmwrite(tmp_path / "sent.dcm", report, implicit_vr=True, little_endian=True)
    with associate(archive, [(COMPREHENSIVE_SR, [syntax])]) as association:
        assert association.send_c_store(tmp_path / "sent.dcm").Status == 0
    instance = archive.instance_of(report.SOPInstanceUID)
    (tmp_path / "back.dcm").write_bytes(archive.get(f"/instances/{instance}/file"))
    assert pydicom.dcmread(tmp_path / "back.dcm").file_meta.TransferSyntaxUID == syntax
    assert read_rows(str(tmp_path / "back.dcm")) == rows


def test_orthanc_reads_the_report_as_a_structured_report_of_its_video(archive):
    rows = [{**row, "video_id": "1d"} for row in rows_of(3)]
    instance = archive.upload(write_report("1d", rows))
    tags = archive.ask(f"/instances/{instance}/simplified-tags")
    assert (tags["Modality"], tags["ValueType"], tags["PatientID"]) == ("SR", "CONTAINER", "1d")
    (measurements,) = [
        item for item in tags["ContentSequence"] if item["ConceptNameCodeSequence"][0]["CodeValue"] == "126010"
    ]
    assert len(measurements["ContentSequence"]) == len(rows)
    offsets = [
        [float(one) for one in span["ReferencedTimeOffsets"].split("\\")]
        for group in measurements["ContentSequence"]
        for item in group["ContentSequence"]
        for span in item.get("ContentSequence", [])
    ]
    wanted = [row[of] for row in rows for of in ("start_s", "end_s")]
    assert [one for span in offsets for one in span] == pytest.approx(wanted, abs=1e-9)


def test_a_report_that_is_written_again_replaces_the_one_in_the_archive(archive):
    """The same map and versions give the same instance, so that an archive does not collect copies."""
    rows = [{**row, "video_id": "2e"} for row in rows_of(2)]
    assert archive.upload(write_report("2e", rows)) == archive.upload(write_report("2e", rows))


@pytest.mark.parametrize("fragments", [1, 4])
def test_a_video_of_orthanc_is_fetched_by_c_get_and_by_rest_bit_by_bit(archive, stream, tmp_path, fragments):
    sent = write_dicom(tmp_path / "sent.dcm", stream, fragments)
    archive.upload((tmp_path / "sent.dcm").read_bytes())
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    instance = archive.instance_of(sent.SOPInstanceUID)
    (fetched / "rest.dcm").write_bytes(archive.get(f"/instances/{instance}/file"))
    get_by_dicom(archive, sent, fetched / "c-get.dcm")
    words = ["dicom", "import", str(fetched), "--out", str(tmp_path / "a"), "--identities", str(tmp_path / "i/ids.db")]
    assert main(words) == 0
    (video,) = (tmp_path / "a").iterdir()
    assert video.read_bytes().rstrip(b"\0") == stream.rstrip(b"\0") and len(video.read_bytes()) == len(stream)
    (identity,) = Identities(tmp_path / "i/ids.db").of(video.stem)
    assert identity.subject.instance_uid == sent.SOPInstanceUID and identity.subject.patient_name == NAME
    assert main(["probe", str(fetched / "c-get.dcm")]) == 0, "and is read where it lies"


def get_by_dicom(server: orthanc.Orthanc, sent: pydicom.Dataset, path: Path) -> None:
    def keep(event) -> int:
        path.write_bytes(event.encoded_dataset())
        return 0

    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = ENDOSCOPIC, False, True
    wanted = pydicom.Dataset()
    wanted.QueryRetrieveLevel = "IMAGE"
    wanted.StudyInstanceUID, wanted.SeriesInstanceUID = sent.StudyInstanceUID, sent.SeriesInstanceUID
    wanted.SOPInstanceUID = sent.SOPInstanceUID
    contexts = [(STUDY_ROOT_GET, [IMPLICIT, EXPLICIT]), (ENDOSCOPIC, [H264])]
    with associate(server, contexts, ext_neg=[role], evt_handlers=[(evt.EVT_C_STORE, keep)]) as association:
        statuses = [status.Status for status, _ in association.send_c_get(wanted, STUDY_ROOT_GET)]
    assert statuses[-1] == 0


def test_orthanc_sends_a_video_to_the_receiver_and_the_archive_has_it(archive, receiver_port, stream, tmp_path):
    """``halsted dicom receive`` on our side, Orthanc's own C-STORE and C-MOVE on the other."""
    stored = [
        write_dicom(tmp_path / f"{number}.dcm", stream + tail) for number, tail in enumerate((b"", b"\0\0\0\x08free"))
    ]
    for number in range(2):
        archive.upload((tmp_path / f"{number}.dcm").read_bytes())
    out, table = tmp_path / "archive", tmp_path / "private/identities.db"
    words = ["--out", str(out), "--identities", str(table), "--port", str(receiver_port), "--aet", PEER]
    environment = {**os.environ, "PYTHONPATH": str(Path(halsted_ray.__file__).parents[1])}
    with open(tmp_path / "log", "wb") as log:
        receiver = subprocess.Popen(
            [sys.executable, "-m", "halsted_ray.cli", "dicom", "receive", *words, "--allow", orthanc.TITLE],
            stdout=log,
            stderr=log,
            env=environment,
        )
    try:
        wait_for_echo(archive, tmp_path / "log")
        sent = archive.ask(f"/modalities/{PEER}/store", [archive.instance_of(stored[0].SOPInstanceUID)])
        assert (sent["InstancesCount"], sent["FailedInstancesCount"]) == (1, 0)
        move(archive, stored[1])
    finally:
        receiver.send_signal(signal.SIGTERM)
        receiver.wait(60)
    videos = [path for path in out.rglob("*") if path.is_file()]
    assert sorted(len(path.read_bytes()) for path in videos) == [len(stream), len(stream) + 8]
    assert {path.read_bytes()[: len(stream)] for path in videos} == {stream}
    uids = {identity.subject.instance_uid for path in videos for identity in Identities(table).of(path.stem)}
    assert uids == {one.SOPInstanceUID for one in stored}
    said = (tmp_path / "log").read_bytes() + b"".join(bytes(path.relative_to(out)) for path in videos)
    assert b"Mustermann" not in said and b"P-4711" not in said


def move(server: orthanc.Orthanc, sent: pydicom.Dataset) -> None:
    wanted = pydicom.Dataset()
    wanted.QueryRetrieveLevel, wanted.StudyInstanceUID = "STUDY", sent.StudyInstanceUID
    with associate(server, [(STUDY_ROOT_MOVE, [IMPLICIT, EXPLICIT])]) as association:
        statuses = [status.Status for status, _ in association.send_c_move(wanted, PEER, STUDY_ROOT_MOVE)]
    assert statuses[-1] == 0


def wait_for_echo(server: orthanc.Orthanc, log: Path) -> None:
    """Until the receiver answers Orthanc's C-ECHO."""
    until_s = time.monotonic() + 60
    while True:
        try:
            server.ask(f"/modalities/{PEER}/echo", {})
            return
        except RuntimeError:  # it does not listen yet
            assert time.monotonic() < until_s, log.read_text()
            time.sleep(0.3)


def test_orthancs_dicomweb_finds_and_gives_the_video(archive, stream, tmp_path):
    """QIDO-RS finds the study, WADO-RS gives its instances."""
    if not orthanc.DICOMWEB.is_file():
        pytest.skip("needs Debian's package orthanc-dicomweb")
    sent = write_dicom(tmp_path / "sent.dcm", stream, StudyDate="20260102")
    archive.upload((tmp_path / "sent.dcm").read_bytes())
    found = archive.ask(f"/dicom-web/studies?StudyInstanceUID={sent.StudyInstanceUID}")
    assert [one["0020000D"]["Value"] for one in found] == [[sent.StudyInstanceUID]]
    as_it_is = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    body = archive.get(f"/dicom-web/studies/{sent.StudyInstanceUID}", as_it_is)
    start = body.index(b"DICM") - 128
    (tmp_path / "wado.dcm").write_bytes(body[start : body.rindex(b"\r\n--")])
    words = ["dicom", "import", str(tmp_path / "wado.dcm"), "--out", str(tmp_path / "a")]
    assert main([*words, "--identities", str(tmp_path / "i/ids.db")]) == 0
    (video,) = (tmp_path / "a").iterdir()
    assert video.read_bytes() == stream
