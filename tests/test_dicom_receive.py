"""``halsted dicom receive``: C-STORE from another process, its bounds under attack, and studies that are mapped."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import small_video
from hospital_files import send, write_dicom
from pynetdicom import _config

from halsted_ray.cli import main
from halsted_ray.hospital.connections import ReceiverLimits, server_context
from halsted_ray.hospital.identities import Identities
from halsted_ray.hospital.receiving import Listening, Receiver, RefusedCallers, serving
from halsted_ray.hospital.studies import Studies

SENDER = Path(__file__).with_name("hospital_files.py")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def stream(tmp_path) -> bytes:
    return Path(small_video.write(tmp_path / "v.mp4", 1)).read_bytes()


@contextmanager
def receiver(tmp_path, limits=None, allowed=("ENDO1",), tls=None):
    """(port, the receiver), in this process."""
    identities = Identities(tmp_path / "private/identities.db")
    spool = tmp_path / "private/spool"
    spool.mkdir(exist_ok=True)
    found = Receiver(tmp_path / "archive", identities, Studies(identities), limits or quick(), spool)
    port = free_port()
    with serving(Listening(port=port, allowed=tuple(allowed), tls=tls), found):
        yield port, found


def quick(**changes) -> ReceiverLimits:
    return ReceiverLimits(**{"silence_s": 3.0, "reserve_bytes": 0, **changes})


def send_from_another_process(port: int, *files: Path, calling: str = "ENDO1") -> list[int]:
    done = subprocess.run(
        [sys.executable, str(SENDER), str(port), calling, *map(str, files)], capture_output=True, text=True, timeout=120
    )
    return json.loads(done.stdout)


def everything_in(folder: Path) -> bytes:
    names = b"\0".join(str(path).encode() for path in folder.rglob("*"))
    return names + b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_receiver_leaves_the_settings_of_the_process_as_they_were(tmp_path):
    def settings():
        loggers = [logging.getLogger(name) for name in ("pynetdicom", "pydicom")]
        of_loggers = [(one.propagate, list(one.handlers)) for one in loggers]
        return _config.STORE_RECV_CHUNKED_DATASET, _config.LOG_HANDLER_LEVEL, of_loggers

    before = settings()
    with receiver(tmp_path):
        assert settings() != before
    assert settings() == before


def test_a_sent_video_comes_bit_by_bit_and_its_header_is_in_the_table_alone(tmp_path, stream, caplog, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "private/spool"))
    ds = write_dicom(tmp_path / "a.dcm", stream, 3, PatientName="../../../etc/Mustermann")
    write_dicom(tmp_path / "b.dcm", stream + b"\0\0\0\x08free", StudyInstanceUID=ds.StudyInstanceUID)
    with caplog.at_level(logging.DEBUG), receiver(tmp_path) as (port, found):
        for _ in range(2):  # a sender that got no answer sends again
            assert send_from_another_process(port, tmp_path / "a.dcm", tmp_path / "b.dcm") == [0, 0]
    videos = sorted((tmp_path / "archive").rglob("*.mp4"), key=lambda path: path.stat().st_size)
    assert [path.read_bytes() for path in videos] == [stream, stream + b"\0\0\0\x08free"]
    (study,) = found.studies.all()
    assert {path.parent.name for path in videos} == {study.key} and study.videos == 2
    assert {path.relative_to(tmp_path / "archive").parts[0] for path in videos} == {study.key}
    (identity,) = found.identities.of(videos[0].stem)
    assert identity.subject.patient_name == "../../../etc/Mustermann"
    said = everything_in(tmp_path / "archive") + caplog.text.encode()
    for secret in (b"Mustermann", b"P-4711", str(ds.StudyInstanceUID).encode()):
        assert secret not in said
    assert not list((tmp_path / "private/spool").iterdir()), "nothing stays where instances lie while they come"


def test_who_is_not_allowed_or_asks_for_another_title_gets_no_association(tmp_path, stream, caplog):
    write_dicom(tmp_path / "a.dcm", stream)
    with caplog.at_level(logging.WARNING), receiver(tmp_path) as (port, _):
        assert send(port, [str(tmp_path / "a.dcm")], calling="OTHER") == []
        assert send(port, [str(tmp_path / "a.dcm")], called="ANOTHER") == []
    assert caplog.text.count("refused associations: 1") == 2 and "OTHER" not in caplog.text
    assert not (tmp_path / "archive").exists()


def test_refused_callers_are_one_counted_line_a_minute_and_one_of_the_list(tmp_path, caplog, capsys, monkeypatch):
    studies, now_s = Studies(Identities(tmp_path / "ids.db")), [1000.0]
    monkeypatch.setattr("halsted_ray.hospital.receiving.time.monotonic", lambda: now_s[0])
    callers = RefusedCallers(studies)
    with caplog.at_level(logging.WARNING):
        for _ in range(500):
            callers.add()
        assert [record.args for record in caplog.records] == [(1,)]
        now_s[0] += 61
        callers.tell()
        callers.tell()
        assert [record.args for record in caplog.records] == [(1,), (499,)]
    words = ["dicom", "studies", "--identities", str(tmp_path / "ids.db")]
    assert main(words) == 0 and "500 associations refused, up to 20" in capsys.readouterr().out
    assert main([*words, "--forget-refused"]) == 0 and "associations" not in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--model", "nomodel"], ["--maps", "{file}"]])
def test_a_receiver_that_could_not_map_does_not_start(tmp_path, capsys, monkeypatch, wrong):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr("halsted_ray.hospital.receiving.serving", lambda *_: pytest.fail("it listens"))
    words = ["dicom", "receive", "--out", str(tmp_path / "a"), "--identities", str(tmp_path / "i/ids.db")]
    words += ["--map", "--maps", str(tmp_path / "maps"), *(word.format(file=tmp_path / "file") for word in wrong)]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert ("no model at 'nomodel'" if "nomodel" in wrong else "expected a folder, got a file") in said


def test_beyond_loopback_the_senders_must_be_named(tmp_path, capsys):
    words = ["dicom", "receive", "--out", str(tmp_path / "a"), "--identities", str(tmp_path / "i/ids.db")]
    assert main([*words, "--host", "0.0.0.0", "--port", str(free_port())]) == 2
    assert "--allow" in capsys.readouterr().err


def test_what_can_not_be_taken_is_answered_with_its_status_and_listed_until_it_comes(tmp_path, stream, capsys):
    good = write_dicom(tmp_path / "a.dcm", stream)
    lying = bytearray((tmp_path / "a.dcm").read_bytes())
    at = lying.index(b"\x10\0\x10\0PN") + 6
    lying[at : at + 2] = b"\xf0\xff"  # the name claims 65,520 bytes, past the pixels
    (tmp_path / "lying.dcm").write_bytes(lying)
    with receiver(tmp_path) as (port, found):
        assert send(port, [str(tmp_path / "lying.dcm")]) == [0xC000]
        (refusal,) = found.studies.refusals()
        assert refusal.status == 0xC000 and "Mustermann" not in refusal.reason
        table = ["dicom", "studies", "--identities", str(found.identities.path)]
        assert main(table) == 3 and "with status 0xC000" in capsys.readouterr().out
        assert send(port, [str(tmp_path / "a.dcm")]) == [0]
        assert found.studies.refusals() == [] and main(table) == 0
    large = write_dicom(tmp_path / "b.dcm", stream + (40 << 20).to_bytes(4, "big") + b"free" + bytes((40 << 20) - 8))
    with receiver(tmp_path, quick(reserve_bytes=1 << 60)) as (port, found):
        assert send(port, [str(tmp_path / "a.dcm")]) == [0xA700]
        assert send(port, [str(tmp_path / "b.dcm")]) == [-1], "cut off before it is whole"
        refusals = found.studies.refusals()
        assert [refusal.status for refusal in refusals] == [0xA700, 0xA700]
        assert all("no room" in refusal.reason for refusal in refusals)
    assert large.SOPInstanceUID != good.SOPInstanceUID


@pytest.mark.parametrize("kind", ["text", "cut"])
def test_a_stream_that_no_player_opens_is_answered_with_c000_and_makes_no_study(tmp_path, stream, capsys, caplog, kind):
    bad = b"this is a text and no video." if kind == "text" else stream[:-2000]
    ds = write_dicom(tmp_path / "a.dcm", bad)
    write_dicom(tmp_path / "b.dcm", stream)
    with caplog.at_level(logging.DEBUG), receiver(tmp_path) as (port, found):
        assert send(port, [str(tmp_path / "a.dcm"), str(tmp_path / "b.dcm")]) == [0xC000, 0]
        (refusal,) = found.studies.refusals()
        assert [study.videos for study in found.studies.all()] == [1], "of the good one alone"
    assert main(["dicom", "studies", "--identities", str(found.identities.path)]) == 3
    shown = capsys.readouterr().out
    listed = tmp_path / "private/identities.db.refused-instances.csv"
    assert f"refusal {refusal.number} with status 0xC000" in shown and f"were refused: {listed}" in shown
    assert f"refusal {refusal.number} with status 0xC000" in caplog.text
    assert listed.stat().st_mode & 0o777 == 0o600
    assert f"{refusal.number},{ds.SOPInstanceUID}," in listed.read_text()
    assert str(ds.SOPInstanceUID) not in shown + caplog.text


def test_a_data_set_of_another_instance_than_the_request_is_refused(tmp_path, stream):
    ds = write_dicom(tmp_path / "a.dcm", stream)
    uid = ds.SOPInstanceUID.encode()
    before, within, after = (tmp_path / "a.dcm").read_bytes().split(uid)  # in the meta information, and in the data set
    other = uid[:-1] + (b"7" if uid.endswith(b"8") else b"8")
    (tmp_path / "b.dcm").write_bytes(before + uid + within + other + after)
    with receiver(tmp_path) as (port, found):
        assert send(port, [str(tmp_path / "b.dcm")]) == [0xA900]
        assert found.studies.all() == []


def associate_request(calling: bytes = b"ENDO1") -> bytes:
    """An A-ASSOCIATE-RQ for Verification, written by hand."""

    def item(kind: int, data: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(data)) + data

    context = item(0x20, b"\x01\0\0\0" + item(0x30, b"1.2.840.10008.1.1") + item(0x40, b"1.2.840.10008.1.2"))
    user = item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3"))
    body = b"\0\x01\0\0" + b"HALSTED".ljust(16) + calling.ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    return struct.pack(">BBI", 1, 0, len(body)) + body


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.parametrize(
    "garbage",
    [
        os.urandom(4096),
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">BBI", 4, 0, 0xFFFFFFFF) + bytes(1 << 16),
        struct.pack(">BBI", 1, 0, 0x7FFFFFFF) + bytes(1 << 16),
        struct.pack(">BBI", 1, 0, 20) + bytes(20),
    ],
    ids=["noise", "http", "data of 4 GiB", "request of 2 GiB", "an empty request"],
)
def test_garbage_instead_of_a_pdu_ends_its_connection_alone(garbage, tmp_path, stream):
    write_dicom(tmp_path / "a.dcm", stream)
    with receiver(tmp_path, quick(silence_s=40.0)) as (port, _):
        before_mb = resident_mb()
        for first in (b"", associate_request()):
            began_s = time.monotonic()
            with socket.create_connection(("127.0.0.1", port), timeout=30) as attacker:
                attacker.sendall(first)
                if first:
                    assert attacker.recv(6)[0] == 2, "associated"
                with suppress(OSError):
                    for piece in (garbage, *[bytes(1 << 20)] * 64):
                        attacker.sendall(piece)
                with suppress(OSError):
                    while attacker.recv(65536):
                        pass
            assert time.monotonic() - began_s < 60, "at once, and not when a time has passed"
        assert resident_mb() - before_mb < 40
        assert send(port, [str(tmp_path / "a.dcm")]) == [0]


def test_a_transfer_that_is_cut_leaves_nothing(tmp_path, stream, monkeypatch):
    from pynetdicom.ae import ApplicationEntity
    from pynetdicom.dimse_messages import C_STORE_RQ
    from pynetdicom.dimse_primitives import C_STORE

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "private/spool"))
    with receiver(tmp_path, quick(silence_s=1.0)) as (port, found):
        entity = ApplicationEntity("ENDO1")
        entity.add_requested_context("1.2.840.10008.5.1.4.1.1.77.1.1.1", "1.2.840.10008.1.2.4.102")
        association = entity.associate("127.0.0.1", port, ae_title="HALSTED")
        request = C_STORE()
        request.MessageID, request.Priority = 1, 2
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.1.1", "1.2.3"
        request.DataSet = io.BytesIO(bytes(1 << 20))
        message = C_STORE_RQ()
        message.primitive_to_message(request)
        for data in list(message.encode_msg(1, 16384))[:10]:
            association.dul.send_pdu(data)
        spool = tmp_path / "private/spool"
        until_s = time.monotonic() + 90
        while not list(spool.glob("*.dcm")) and time.monotonic() < until_s:
            time.sleep(0.02)
        assert list(spool.glob("*.dcm")), "it lies on the disk while it comes"
        association.dul.socket.socket.close()
        while list(spool.glob("*.dcm")) and time.monotonic() < until_s:
            time.sleep(0.1)
        assert not list(spool.glob("*.dcm"))
        assert found.studies.all() == []


def test_an_instance_beyond_the_bound_is_cut_off_and_listed(tmp_path, stream):
    write_dicom(tmp_path / "a.dcm", stream + b"\0\0\0\x08free" * 100_000)
    with receiver(tmp_path, quick(instance_bytes=400_000)) as (port, found):
        assert send(port, [str(tmp_path / "a.dcm")]) != [0]
        (refusal,) = found.studies.refusals()
        assert refusal.status == 0xA700 and "at most 400,000 bytes" in refusal.reason


def test_a_thousand_connections_leave_the_receiver_bounded_and_answering(tmp_path, stream):
    write_dicom(tmp_path / "a.dcm", stream)
    with receiver(tmp_path, quick(associations=4)) as (port, _):
        before = threading.active_count()
        crowd, most = [], 0
        for number in range(1000):
            with suppress(OSError):
                connection = socket.create_connection(("127.0.0.1", port), timeout=5)
                if number % 2:
                    connection.sendall(associate_request())
                crowd.append(connection)
            most = max(most, threading.active_count() - before)
        assert most <= 8 * 3 + 4, "two threads a connection, eight connections"
        for connection in crowd:
            connection.close()
        until_s = time.monotonic() + 120
        while (answer := send(port, [str(tmp_path / "a.dcm")])) != [0] and time.monotonic() < until_s:
            time.sleep(0.2)
        assert answer == [0]


def test_silent_connections_are_closed(tmp_path):
    with receiver(tmp_path, quick(silence_s=1.0)) as (port, _):
        for first in (b"", b"\x01\0", associate_request()[:40], associate_request()):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as silent:
                silent.sendall(first)
                began_s = time.monotonic()
                while silent.recv(65536):
                    pass
                assert time.monotonic() - began_s < 60


def test_tls_is_spoken_and_a_silent_handshake_keeps_nobody_waiting(tmp_path, stream):
    certificate, key = write_certificate(tmp_path)
    write_dicom(tmp_path / "a.dcm", stream)
    tls = server_context(str(certificate), str(key), None)
    with receiver(tmp_path, quick(silence_s=90.0), tls=tls) as (port, _):
        with socket.create_connection(("127.0.0.1", port)):  # begins no handshake
            began_s = time.monotonic()
            assert send(port, [str(tmp_path / "a.dcm")], ca=str(certificate)) == [0]
            assert time.monotonic() - began_s < 60
        assert send(port, [str(tmp_path / "a.dcm")]) == []


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """(certificate, key) of localhost, signed by itself."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    plain = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def command(tmp_path):
    """Starts `halsted dicom receive` on a port; (process, port)."""
    started = []

    def start(*more: str):
        port = free_port()
        words = ["dicom", "receive", "--out", str(tmp_path / "archive"), "--port", str(port), "--reserve-gb", "0.001"]
        words += ["--identities", str(tmp_path / "private/ids.db"), *more]
        said = open(tmp_path / "said", "ab")  # noqa: SIM115  the process has it
        process = subprocess.Popen([sys.executable, "-m", "halsted_ray.cli", *words], stdout=said, stderr=said)
        started.append(process)
        until_s = time.monotonic() + 120
        while time.monotonic() < until_s and process.poll() is None:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.1)
        return process, port

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def highest_mb(process: subprocess.Popen) -> float:
    """The most memory that a process had at once."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def test_a_video_is_never_whole_in_memory(tmp_path, stream, command):
    small, large = tmp_path / "small.dcm", tmp_path / "large.dcm"
    write_dicom(small, stream)
    write_dicom(large, stream + (200 << 20).to_bytes(4, "big") + b"free" + bytes((200 << 20) - 8))
    process, port = command()
    assert send_from_another_process(port, small) == [0]
    before_mb = highest_mb(process)
    assert send_from_another_process(port, large) == [0]
    assert highest_mb(process) - before_mb < 40
    assert max(path.stat().st_size for path in (tmp_path / "archive").rglob("*.mp4")) > 200 << 20


def wait_for(condition, seconds: float = 480.0) -> None:
    until_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until_s, "in time"
        time.sleep(0.1)


def test_every_new_study_is_mapped_once_also_after_kill_9(tmp_path, command, capfd):
    from serving import shared_model, shared_video

    stream = shared_video().read_bytes()
    first = write_dicom(tmp_path / "a.dcm", stream)
    second = write_dicom(tmp_path / "b.dcm", stream + b"\0\0\0\x08free")
    mapping = ["--map", "--maps", str(tmp_path / "maps"), "--model", str(shared_model()), "--complete-after", "1"]
    process, port = command(*mapping)
    assert send(port, [str(tmp_path / "a.dcm")]) == [0], (tmp_path / "said").read_text()
    studies = Studies(Identities(tmp_path / "private/ids.db"))
    wait_for(lambda: studies.all()[0].state == "mapping")
    process.send_signal(signal.SIGKILL)  # in the middle of a mapping
    process.wait()
    assert studies.all()[0].state == "mapping"
    process, port = command(*mapping)
    assert send(port, [str(tmp_path / "b.dcm"), str(tmp_path / "a.dcm")]) == [0, 0]
    wait_for(lambda: (tmp_path / "said").read_text().count(": mapped") == 2)
    assert [study.state for study in studies.all()] == ["mapped", "mapped"]
    process.terminate()
    assert process.wait(60) == 143
    said = (tmp_path / "said").read_text()
    for study in studies.all():  # a try that found the killed one still ending is made again, and none after the end
        before, after = said.split(f"study {study.key}: mapped")
        assert f"study {study.key}: mapping" in before and f"study {study.key}: mapping" not in after
    assert main(["status", str(tmp_path / "maps")]) == 0
    shown = capfd.readouterr().out
    for video in (tmp_path / "archive").rglob("*.mp4"):
        assert video.stem[:8] in shown
    for secret in ("Mustermann", "P-4711", str(first.StudyInstanceUID), str(second.StudyInstanceUID)):
        assert secret not in said and secret.encode() not in everything_in(tmp_path / "maps")
    assert main(["dicom", "studies", "--identities", str(tmp_path / "private/ids.db")]) == 0


def test_a_study_that_can_not_be_mapped_has_failed_with_a_reason(tmp_path, command, capsys):
    damaged = bytearray(Path(small_video.write(tmp_path / "v.mp4", 4, codec="libx264")).read_bytes())
    first, last = damaged.index(b"mdat"), damaged.index(b"moov") - 8
    damaged[(first + last) // 2 : last] = bytes(last - (first + last) // 2)  # it opens, and its second half is gone
    write_dicom(tmp_path / "a.dcm", bytes(damaged))
    maps, model = str(tmp_path / "maps"), "phantom"
    process, port = command("--map", "--maps", maps, "--model", model, "--complete-after", "0")
    assert send(port, [str(tmp_path / "a.dcm")]) == [0]
    studies = Studies(Identities(tmp_path / "private/ids.db"))
    wait_for(lambda: studies.all()[0].state == "failed")
    process.terminate()
    assert process.wait(60) == 143
    capsys.readouterr()
    assert main(["dicom", "studies", "--identities", str(tmp_path / "private/ids.db")]) == 3
    assert "some of its videos failed" in capsys.readouterr().out
    assert studies.retry_failed() == 1 and studies.all()[0].state == "received"


def test_two_receivers_with_one_table_are_refused(tmp_path, command):
    process, _ = command()
    assert process.poll() is None
    second, _ = command()
    assert second.wait(60) == 2
    assert "another receiver" in (tmp_path / "said").read_text()


def test_a_study_is_complete_when_no_video_came_for_a_while_and_is_tried_again_later_each_time(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("halsted_ray.hospital.studies.time.time", lambda: now[0])
    studies = Studies(Identities(tmp_path / "ids.db"))
    key = studies.key_of("1.2.3")
    assert studies.claim(0) is None, "no video yet"
    studies.add_video(key, "aa", "1")
    now[0] += 59
    studies.add_video(key, "bb", "2")
    studies.add_video(key, "aa", "1")
    now[0] += 59
    assert studies.claim(60) is None
    now[0] += 1
    assert studies.claim(60) == key and studies.claim(60) is None
    studies.add_video(key, "cc", "3")  # while it is mapped
    studies.finish(key)
    now[0] += 60
    assert studies.claim(60) == key
    for attempt in range(4):
        studies.finish(key, "no room", is_final=False)
        assert studies.all()[0].state == "received" and studies.claim(60) is None
        now[0] += 10 * 2**attempt
        assert studies.claim(60) == key
    studies.finish(key, "no room", is_final=False)
    assert studies.all()[0].state == "failed" and studies.all()[0].reason == "no room"
    studies.add_video(key, "aa", "1")  # sent again, nothing new
    assert studies.all()[0].state == "failed"


def test_old_refusals_make_room_for_new_ones(tmp_path, monkeypatch):
    monkeypatch.setattr("halsted_ray.hospital.studies.MAX_REFUSALS", 3)
    studies = Studies(Identities(tmp_path / "ids.db"))
    for number in range(5):
        studies.refuse(str(number), 0xC000, f"reason {number}")
    assert [refusal.reason for refusal in studies.refusals()] == ["reason 2", "reason 3", "reason 4"]
    assert studies.forget_refusals() == 3 and studies.refusals() == []
