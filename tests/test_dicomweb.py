"""DICOM videos by STOW-RS, and the service's own table of identities."""

from __future__ import annotations

import http.client
import itertools
import logging
import os
import select
import socket
import time
from contextlib import suppress
from dataclasses import replace

import pytest
from hospital_files import H264, NAME, write_dicom
from hypothesis import given
from hypothesis import strategies as st
from serving import client_of, new_key, on_a_port, open_service, shared_model, shared_video, upload
from test_serve_front import site

from halsted_ray.service import audit
from halsted_ray.service.api import create_api
from halsted_ray.service.multipart import BrokenMultipart, MultipartParser, PartBegun, PartData, PartEnded, boundary_of
from halsted_ray.service.tables import Upload, VideoIdentity

TYPE = 'multipart/related; type="application/dicom"; boundary=b1'
SECRETS = ("Mustermann", "P-4711", "ACC-77")


@pytest.fixture
def service(tmp_path):
    return open_service(tmp_path / "site", shared_model(), requests_per_minute=10**6)


@pytest.fixture
def instance(tmp_path):
    """(its file, its data set) of a DICOM video."""
    path = tmp_path / "Mustermann.dcm"
    return path, write_dicom(path, shared_video().read_bytes(), 3, AccessionNumber="ACC-77", StudyDate="20261127")


def body_of(*files: bytes) -> bytes:
    head = b"\r\n--b1\r\nContent-Type: application/dicom; transfer-syntax=" + H264.encode() + b"\r\n\r\n"
    return b"".join(head + data for data in files) + b"\r\n--b1--\r\n"


def store(client, body, path="/dicomweb/studies", content_type=TYPE):
    return client.post(path, content=body, headers={"content-type": content_type})


def surgeon(service, **options):
    return client_of(service, new_key(service, user="owner"), **options)


def admin(service):
    return client_of(service, new_key(service, user="boss", role="admin"))


def test_a_stored_instance_is_the_same_case_as_its_uploaded_stream(service, instance):
    path, ds = instance
    with surgeon(service) as client:
        answer = store(client, body_of(path.read_bytes()))
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/dicom+json"
        (item,) = answer.json()["00081199"]["Value"]
        assert item == {
            "00081150": {"vr": "UI", "Value": [ds.SOPClassUID]},
            "00081155": {"vr": "UI", "Value": [ds.SOPInstanceUID]},
        }
        video_id = upload(client, shared_video())["video_id"]
        assert answer.headers["link"] == f"</v1/videos/{video_id}>; rel=item"
        assert store(client, body_of(path.read_bytes())).status_code == 200, "again"
        assert [video["video_id"] for video in client.get("/v1/videos").json()] == [video_id]
    with service.database.reading() as session:
        uploads = session.query(Upload).all()
        assert {row.state for row in uploads} == {"complete"} and session.query(VideoIdentity).count() == 1


def test_only_administrators_read_the_identity_and_each_look_is_in_the_audit_log(service, instance, tmp_path):
    path, ds = instance
    with surgeon(service) as owner, admin(service) as boss:
        where = "/v1/videos/" + store(owner, body_of(path.read_bytes())).headers["link"][12:44]
        assert owner.get(f"{where}/identity").status_code == 403
        for _ in range(2):
            (shown,) = boss.get(f"{where}/identity").json()
        assert shown["patient_name"] == NAME and shown["study_uid"] == ds.StudyInstanceUID
        assert (shown["accession_number"], shown["study_date"]) == ("ACC-77", "20261127")
        actions = [entry["action"] for entry in boss.get(f"{where}/looks", params={"limit": 1000}).json()]
        assert actions.count("case.identity") == 2 and actions.count("access.refused") == 1
        write_dicom(tmp_path / "again.dcm", shared_video().read_bytes(), SOPInstanceUID=ds.SOPInstanceUID)
        assert store(owner, body_of((tmp_path / "again.dcm").read_bytes())).status_code == 200
        looks = boss.get(f"{where}/looks", params={"limit": 1000}).json()
        entered = [look["detail"] for look in looks if look["action"] == "case.identity.enter"]
        assert [(one["replaced"], one["changed"]) for one in entered] == [(False, False), (True, True)]
    south = client_of(service, new_key(service, "south", "boss", "admin"))
    with south:
        assert south.get(f"{where}/identity").status_code == 404


@pytest.mark.parametrize(
    "name", ["Must\0ermann", "M" * 60_000, "../../etc/passwd", "\u00fc\u0416^'; DROP TABLE identities;--"]
)
def test_a_name_of_any_letters_is_kept(service, tmp_path, name):
    write_dicom(tmp_path / "a.dcm", shared_video().read_bytes(), PatientName=name, SpecificCharacterSet="ISO_IR 192")
    with surgeon(service) as owner, admin(service) as boss:
        answer = store(owner, body_of((tmp_path / "a.dcm").read_bytes()))
        assert answer.status_code == 200, answer.text
        (shown,) = boss.get(answer.headers["link"][1:44] + "/identity").json()
    assert shown["patient_name"] == name.replace("\0", "")[:1000]


def test_the_name_is_in_the_table_alone_and_goes_with_the_case(service, instance, tmp_path, caplog):
    path, _ = instance
    state = tmp_path / "site"
    with caplog.at_level(logging.DEBUG), surgeon(service) as owner, admin(service) as boss:
        damaged = path.read_bytes()[:-400_000] + os.urandom(100)
        answers = [store(owner, body_of(path.read_bytes())), store(owner, body_of(damaged, b"junk", damaged[:900]))]
        where = "/v1/videos/" + answers[0].headers["link"][12:44]
        answers += [owner.get(where), owner.get("/v1/videos"), boss.get("/v1/audit", params={"limit": 1000})]
        answers += [owner.get(f"{where}/people"), owner.get(f"{where}/identity"), boss.get("/metrics")]
        said = caplog.text + "".join(answer.text + str(answer.headers) for answer in answers)
        files = {file: file.read_bytes() for file in state.rglob("*") if file.is_file()}
        for secret in SECRETS:
            assert secret not in said
            holding = {file.name for file, data in files.items() if secret.encode() in data}
            assert holding and holding <= {"halsted.db", "halsted.db-wal"}, "it is in the table"
        assert owner.delete(where).status_code == 204
        assert boss.get(f"{where}/identity").status_code == 404
    for file in state.rglob("*"):
        for secret in SECRETS:
            assert not file.is_file() or secret.encode() not in file.read_bytes(), file.name


def test_what_can_not_be_stored_is_told_per_instance_with_its_reason(service, instance, tmp_path):
    path, ds = instance
    no_video = write_dicom(tmp_path / "c.dcm", b"\0\0\0\x18ftypisom" + bytes(500))
    from pydicom.uid import ExplicitVRLittleEndian

    picture = write_dicom(tmp_path / "d.dcm", b"12")
    picture.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    del picture.PixelData
    picture.save_as(tmp_path / "d.dcm", enforce_file_format=True)
    lying = bytearray(path.read_bytes())
    at = lying.index(b"\x10\0\x10\0PN") + 6
    lying[at : at + 2] = b"\xf0\xff"
    files = [path.read_bytes(), (tmp_path / "c.dcm").read_bytes(), (tmp_path / "d.dcm").read_bytes(), bytes(lying)]
    with surgeon(service) as client:
        answer = store(client, body_of(*files, b"no DICOM"))
        assert answer.status_code == 202, answer.text
        found = answer.json()
        assert len(found["00081199"]["Value"]) == 1
        assert {
            (item["00081155"]["Value"][0], item["00081197"]["Value"][0]) for item in found["00081198"]["Value"]
        } == {(no_video.SOPInstanceUID, 0xC000), (picture.SOPInstanceUID, 0x0122), (ds.SOPInstanceUID, 0xC000)}
        assert found["0008119A"]["Value"] == [{"00081197": {"vr": "US", "Value": [0xC000]}}]
        assert store(client, body_of(b"no DICOM")).status_code == 409
        another = store(client, body_of(files[0]), "/dicomweb/studies/1.2.3")
        assert another.status_code == 409 and another.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xC409]
        assert store(client, body_of(files[0]), f"/dicomweb/studies/{ds.StudyInstanceUID}").status_code == 200


def test_storing_needs_the_right_to_upload_and_counts_against_the_quota(service, instance):
    path, _ = instance
    data = body_of(path.read_bytes())
    with client_of(service) as nobody, client_of(service, new_key(service, user="t", role="trainee")) as trainee:
        assert store(nobody, data).status_code == 401 and store(trainee, data).status_code == 403
    room = replace(service.uploads.room, quota_bytes=shared_video().stat().st_size - 1)
    service.uploads = replace(service.uploads, room=room)
    with surgeon(service) as client:
        answer = store(client, data)
        assert answer.status_code in (409, 413)
        assert answer.status_code == 413 or answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xA700]
        service.uploads = replace(service.uploads, room=replace(room, quota_bytes=None))
        assert store(client, data).status_code == 200
        assert client.get("/v1/storage").json()["video_bytes"] == shared_video().stat().st_size


def test_another_body_than_instances_is_refused(service, instance):
    with surgeon(service) as client:
        for content_type in ("application/dicom", "multipart/related", 'multipart/related; boundary="a b "', "x" * 290):
            assert store(client, b"", content_type=content_type).status_code == 415, content_type
        json_type = 'multipart/related; type="application/dicom+json"; boundary=b1'
        assert store(client, b"", content_type=json_type).status_code == 415
        part = b"--b1\r\nContent-Type: text/html\r\n\r\nx\r\n--b1--"
        assert store(client, part).status_code == 415
        for broken in (b"", b"--b1--", b"--b1", b"--b1\r\n", b"--b1\r\n\r\nDICM", b"noise" * 9000, b"--b1x\r\n\r\n"):
            assert store(client, broken).status_code == 400, broken[:20]
        assert store(client, b"--b1\r\n" + b"a: b\r\n" * 9000).status_code == 400


def test_a_cut_request_leaves_nothing_but_what_was_whole(service, instance, tmp_path):
    whole = body_of(instance[0].read_bytes(), instance[0].read_bytes())
    with surgeon(service) as client:
        assert store(client, whole[: len(whole) * 3 // 4]).status_code == 400
        assert len(client.get("/v1/videos").json()) == 1
    left = [path for path in (tmp_path / "site/store").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert [path.name for path in left] == ["video.mp4"], "one video, and no file of an instance"


def test_a_body_that_never_ends_meets_its_bound(service):
    """Over a real connection: Starlette's test client would first collect the body."""
    key = new_key(service, user="owner")

    def endless(address: str) -> tuple[int, int]:
        """(status, MiB that were sent)."""
        host = address.removeprefix("http://").rstrip("/")
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.putrequest("POST", "/dicomweb/studies")
        for name, value in (("x-api-key", key), ("content-type", TYPE), ("transfer-encoding", "chunked")):
            connection.putheader(name, value)
        connection.endheaders()
        sent = 0
        with suppress(OSError):
            connection.send(b"8\r\n--b1\r\n\r\n\r\n")
            while sent < 400 and not select.select([connection.sock], [], [], 0)[0]:
                connection.send(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
                sent += 1
        return connection.getresponse().status, sent

    service.settings = replace(service.settings, study_bytes=30 << 20)
    with on_a_port(service) as address:
        status, sent = endless(address)
        assert status == 413 and sent < 200
        service.settings = replace(service.settings, study_bytes=1 << 40)
        room = replace(service.uploads.room, quota_bytes=70 << 20)
        service.uploads = replace(service.uploads, room=room)
        status, sent = endless(address)
        assert status == 413 and sent < 300, "the quota ends it, too"


def test_a_body_that_comes_too_slowly_is_ended(service, monkeypatch):
    monkeypatch.setattr("halsted_ray.service.middleware.SILENCE_S", 1.0)
    key = new_key(service, user="owner")
    head = f"POST /dicomweb/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nx-api-key: {key}\r\nContent-Type: {TYPE}\r\n"
    with (
        on_a_port(service) as address,
        socket.create_connection(("127.0.0.1", int(address[:-1].split(":")[2]))) as slow,
    ):
        slow.settimeout(30)
        slow.sendall(head.encode() + b"Content-Length: 1000000\r\n\r\n--b1\r\n\r\nDICM")
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_a_tenant_holds_four_requests_with_studies_and_leaves_places_to_others(service):
    places = create_api(service).state.studies
    assert (places.total, places.each) == (8, 4)


def test_a_large_instance_comes_through_the_front_also_where_its_sender_pauses(instance, tmp_path):
    path, _ = instance
    padded = tmp_path / "padded.dcm"
    write_dicom(padded, shared_video().read_bytes() + (8 << 20).to_bytes(4, "big") + b"free" + bytes((8 << 20) - 8))

    def pieces():
        body = body_of(path.read_bytes(), padded.read_bytes())
        yield body[:20_000]
        time.sleep(12)  # small bodies must be whole in 10 s
        yield from (body[at : at + 100_000] for at in range(20_000, len(body), 100_000))

    with site(tmp_path / "front") as found:
        headers = {"x-api-key": found.key, "content-type": TYPE}
        asked = {"body": pieces(), "headers": headers, "encode_chunked": True}
        status, answered, _ = found.ask("POST", "/dicomweb/studies", **asked)
        assert status == 200 and answered["link"].count("/v1/videos/") == 2


def chopped(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[start:stop] for start, stop in itertools.pairwise(ends)]


PART = st.binary(max_size=300) | st.sampled_from([b"\r\n--b", b"--b1\r\n", b"\r\n--b2--", b"\r", b"\r\n", b"\r\n\r\n"])


@given(st.lists(PART, min_size=1, max_size=4), st.lists(st.integers(0, 1500), max_size=30), st.booleans())
def test_parts_come_out_as_they_went_in_wherever_the_body_is_cut(parts, cuts, with_head):
    if any(b"\r\n--b1" in b"\r\n" + part for part in parts):
        return
    head = b"Content-Type: application/dicom\r\n" if with_head else b""
    body = b"".join(b"--b1\r\n" + head + b"\r\n" + part + b"\r\n" for part in parts) + b"--b1--epilogue"
    parser, found = MultipartParser(b"b1"), []
    for piece in chopped(body, cuts):
        for event in parser.feed(piece):
            if isinstance(event, PartBegun):
                assert event.headers == ({"content-type": "application/dicom"} if with_head else {})
                found.append(b"")
            elif isinstance(event, PartData):
                found[-1] += event.data
            else:
                assert isinstance(event, PartEnded)
    parser.finish()
    assert found == parts


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=10))
def test_any_bytes_are_parts_or_a_refusal(data, cuts):
    parser = MultipartParser(b"b1")
    try:
        for piece in chopped(b"--b1\r\n" + data, cuts):
            list(parser.feed(piece))
        parser.finish()
    except BrokenMultipart:
        pass


def test_a_boundary_is_read_as_rfc_2046_says():
    assert boundary_of('Multipart/Related; boundary="a=b"; type="application/DICOM"', "related") == (
        b"a=b",
        "application/dicom",
    )
    for wrong in ("multipart/mixed; boundary=a", "multipart/related", 'multipart/related; boundary=""', "", "\0"):
        with pytest.raises(BrokenMultipart):
            boundary_of(wrong, "related")


def test_the_audit_log_is_whole(service, instance):
    with surgeon(service) as client:
        store(client, body_of(instance[0].read_bytes()))
    with service.database.writing() as session:
        assert audit.verify(session).whole
