"""Uploads over the HTTP API in this process: parts, addresses, folders and object stores, and passing failures."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import re
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
import small_video
from serving import (
    cleaned,
    client_of,
    new_key,
    open_service,
    shared_model,
    shared_service,
    shared_video,
    upload,
)
from starlette.testclient import TestClient
from test_archive_listing import dicom

from halsted_ray.errors import ModelError, OutputError, StorageUnavailable
from halsted_ray.service import sent_in_error, uploads
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.object_store import PART_BYTES
from halsted_ray.storage.locations import filesystem
from halsted_ray.video.probe import probe


@pytest.fixture(scope="module")
def model() -> Path:
    return shared_model()


@pytest.fixture(scope="module")
def video() -> Path:
    return shared_video()


@pytest.fixture(scope="module")
def service() -> ServiceComponents:
    return shared_service()


@pytest.fixture(scope="module")
def client(service):
    with client_of(service, new_key(service)) as found:
        yield found


@pytest.fixture(scope="module")
def uploaded(client) -> dict:
    return upload(client, shared_video())


@pytest.fixture(scope="module")
def large(tmp_path_factory, video) -> Path:
    """A video of two parts: behind the video follow bytes that players skip."""
    path = tmp_path_factory.mktemp("large") / "large.mp4"
    free = PART_BYTES + 17 - 8
    path.write_bytes(video.read_bytes() + free.to_bytes(4, "big") + b"free" + bytes(free - 8))
    return path


@pytest.fixture(params=["a folder", "S3"])
def site(request, tmp_path, model):
    """(service, its client) over each kind of store."""
    store = (
        {}
        if request.param == "a folder"
        else {"store": f"{request.getfixturevalue('s3_server').bucket}/{tmp_path.name}"}
    )
    service = open_service(tmp_path, model, presign=True, **store)
    with client_of(service, new_key(service)) as client:
        yield service, client


def send_by_addresses(client, data: bytes) -> str:
    """Puts the parts of a new upload to their addresses (of S3: straight to the object store) and returns its path."""
    import httpx2

    where = f"/v1/uploads/{client.post('/v1/uploads', json={'size_bytes': len(data)}).json()['upload_id']}"
    for number, start in enumerate(range(0, len(data), PART_BYTES), 1):
        url = client.post(f"{where}/parts/{number}/address").json()["url"]
        put = client.put if "testserver" in url else httpx2.put
        assert put(url, content=data[start : start + PART_BYTES]).status_code == 200
    return where


def failing(error: Exception, then=None, times: int = 1):
    """A function that raises ``error`` the first ``times`` calls and then does ``then``."""
    left = [error] * times

    def do(*arguments, **named):
        if left:
            raise left.pop()
        return then(*arguments, **named)

    return do


def test_a_video_comes_in_parts_in_any_order_and_again(client, large):
    data = large.read_bytes()
    begun = client.post("/v1/uploads", json={"size_bytes": len(data)}).json()
    where, size = f"/v1/uploads/{begun['upload_id']}", begun["part_bytes"]
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    assert len(parts) == 2
    digest = base64.b64encode(hashlib.sha256(parts[1]).digest()).decode()
    sent = client.put(f"{where}/parts/2", content=parts[1], headers={"Content-Digest": f"sha-256=:{digest}:"})
    assert sent.json()["sha256"] == hashlib.sha256(parts[1]).hexdigest()
    damaged = client.put(f"{where}/parts/1", content=parts[0], headers={"Content-Digest": f"sha-256=:{digest}:"})
    assert damaged.status_code == 422 and "send it again" in damaged.json()["detail"]
    early = client.post(f"{where}/complete")
    assert early.status_code == 422 and "missing: [1]" in early.json()["detail"]
    assert [part["number"] for part in client.get(where).json()["parts"]] == [2]
    client.put(f"{where}/parts/1", content=b"x" * 9)
    assert client.post(f"{where}/complete").status_code == 422, "a short part"
    client.put(f"{where}/parts/1", content=parts[0])
    done = client.post(f"{where}/complete", json={"parts": client.get(where).json()["parts"]})
    assert done.status_code == 200 and done.json()["duration_s"] == 12.0 and done.json()["size_bytes"] == len(data)
    assert client.post(f"{where}/complete").json() == done.json(), "completing twice gives the same"
    assert client.put(f"{where}/parts/1", content=b"x").status_code == 409
    assert client.get(f"/v1/videos/{done.json()['video_id']}").json() == done.json()


def test_the_same_file_is_one_video_and_its_bytes_are_kept_once(client, service, uploaded, video):
    before = sorted(Path(service.store.root).rglob("*.mp4"))
    assert upload(client, video, sizes=False) == uploaded
    assert sorted(Path(service.store.root).rglob("*.mp4")) == before


def test_a_dicom_video_is_refused_and_removed_since_its_header_names_the_patient(client, service, tmp_path, video):
    whole = dicom(video.read_bytes(), "1.2.840.10008.1.2.4.102")
    path = tmp_path / "case.dcm"
    path.write_bytes(b"DOE^JANE".ljust(128, b"\0") + whole[128:])
    assert probe(str(path)).duration_s > 0, "an archive with this file is mapped"
    begun = client.post("/v1/uploads", json={}).json()
    for number, start in enumerate(range(0, path.stat().st_size, PART_BYTES), 1):
        part = path.read_bytes()[start : start + PART_BYTES]
        client.put(f"/v1/uploads/{begun['upload_id']}/parts/{number}", content=part)
    refused = client.post(f"/v1/uploads/{begun['upload_id']}/complete")
    assert refused.status_code == 422 and "halsted dicom import" in refused.json()["detail"]
    assert "JANE" not in refused.text and refused.json()["code"] == "sent-dicom"
    fs, root = filesystem(service.store.root)
    assert not [found for found in fs.find(root) if b"DOE^JANE" in fs.cat_file(found)]


def refusal_of(client: TestClient, content: bytes) -> dict:
    """The refusal of an upload with this content."""
    where = f"/v1/uploads/{client.post('/v1/uploads', json={}).json()['upload_id']}"
    assert client.put(f"{where}/parts/1", content=content).status_code == 200
    refused = client.post(f"{where}/complete")
    assert refused.status_code == 422 and client.get(where).json()["state"] == "rejected", refused.text
    return refused.json()


@pytest.mark.parametrize("explicit", [True, False])
def test_a_dicom_file_without_its_preamble_is_told_too(explicit, tmp_path, client):
    dataset = pydicom.Dataset()
    dataset.SpecificCharacterSet, dataset.PatientName, dataset.Modality = "ISO_IR 100", "Doe^Jane", "ES"
    dataset.add_new(0x00080000, "UL", 40)
    path = tmp_path / "bare.dcm"
    pydicom.dcmwrite(path, dataset, implicit_vr=not explicit, little_endian=True)
    assert path.read_bytes()[128:132] != b"DICM"
    assert refusal_of(client, path.read_bytes())["code"] == "sent-dicom"
    whole = dicom(b"", "1.2.840.10008.1.2.4.102")
    assert sent_in_error.names_a_patient(whole[132:]), "the file meta information alone"


def test_what_is_sent_in_place_of_a_video_is_told_with_what_to_do(client, tmp_path, video):
    image = np.zeros((64, 64, 3), np.uint8)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("case.mp4", video.read_bytes()[:5000])
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w") as archive:
        archive.add(video, "case.mp4")
    disc = bytearray(40_000)
    disc[32_768:32_775] = b"\x01CD001\x01"
    for kind, content in (
        ("archive", packed.getvalue()),
        ("archive", tarred.getvalue()[:20_000]),
        ("archive", gzip.compress(video.read_bytes()[:5000])),
        ("document", b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n"),
        ("picture", cv2.imencode(".jpg", image)[1].tobytes()),
        ("picture", cv2.imencode(".png", image)[1].tobytes()),
        ("dvd-index", b"DVDVIDEO-VTS".ljust(4096, b"\0")),
        ("disc-image", bytes(disc)),
        ("encrypted", b"Salted__" + bytes(range(256)) * 20),
        ("zeros", bytes(50_000)),
    ):
        said = refusal_of(client, content)
        assert (said["code"], said["values"]) == ("sent-no-video", {"what": kind}), (kind, said)
        assert sent_in_error.WHAT_TO_DO[kind] in said["detail"]
    assert refusal_of(client, b"nothing that is known" * 100)["code"] == "video-unusable"


def test_no_video_is_refused_for_how_it_begins():
    recipe = {".mp4": "h264", ".mkv": "h264", ".avi": "mpeg4", ".mpg": "mpeg2video", ".ts": "mpeg2video"}
    for suffix, codec in recipe.items():
        with tempfile.TemporaryDirectory() as folder:
            head = Path(small_video.write(Path(folder) / f"v{suffix}", 1, codec=codec)).read_bytes()
        assert not sent_in_error.names_a_patient(head) and sent_in_error.kind_of(head) is None, suffix


def test_a_file_that_is_no_video_is_refused_and_removed(client, service, tmp_path, video):
    (tmp_path / "script.mp4").write_bytes(b"ffconcat version 1.0\nfile '" + str(video).encode() + b"'\n")
    (tmp_path / "text.mp4").write_bytes(b"no video at all")
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[:3000])
    (tmp_path / "list.mp4").write_bytes(b"#EXTM3U\n#EXTINF:10,\n" + str(video).encode() + b"\n#EXT-X-ENDLIST\n")
    for path in sorted(tmp_path.glob("*.mp4")):
        begun = client.post("/v1/uploads", json={}).json()
        client.put(f"/v1/uploads/{begun['upload_id']}/parts/1", content=path.read_bytes())
        refused = client.post(f"/v1/uploads/{begun['upload_id']}/complete")
        assert refused.status_code == 422 and "can't be mapped" in refused.json()["detail"], path.name
        assert str(video) not in refused.text and service.store.root not in refused.text
        assert client.get(f"/v1/uploads/{begun['upload_id']}").json()["state"] == "rejected"
        again = client.post(f"/v1/uploads/{begun['upload_id']}/complete")
        assert again.status_code == 409 and "is rejected (" in again.json()["detail"]
        assert not list(Path(service.store.root).rglob(f"*{begun['upload_id']}*"))


def test_a_full_disk_is_reported_and_no_part_is_half_kept(client, service, video):
    """The file of the parts is a link to the kernel's device that is always full."""
    upload_id = client.post("/v1/uploads", json={}).json()["upload_id"]
    where = f"/v1/uploads/{upload_id}"
    parts = Path(service.store.root, "north", "videos", upload_id, "video.mp4.part")
    parts.symlink_to("/dev/full")
    answer = client.put(f"{where}/parts/1", content=video.read_bytes())
    assert answer.status_code == 507 and "make room" in answer.json()["detail"]
    assert client.get(where).json()["parts"] == [] and client.post(f"{where}/complete").status_code == 422
    parts.unlink()  # room was made
    assert client.put(f"{where}/parts/1", content=video.read_bytes()).status_code == 200
    assert client.post(f"{where}/complete").status_code == 200
    left = client.post("/v1/uploads", json={}).json()["upload_id"]
    assert client.delete(f"/v1/uploads/{left}").status_code == 204
    assert client.get(f"/v1/uploads/{left}").json()["state"] == "aborted"


def test_a_signed_address_takes_a_part_until_it_expires(client, service, video, monkeypatch):
    upload_id = client.post("/v1/uploads", json={}).json()["upload_id"]
    url = client.post(f"/v1/uploads/{upload_id}/parts/1/address").json()["url"]
    with client_of(service) as anybody:
        sent = anybody.put(url, content=video.read_bytes())
        assert sent.status_code == 200 and sent.headers["etag"] == sent.json()["etag"]
        for wrong in (
            url.replace("parts/1", "parts/2"),
            url[:-1] + ("0" if url[-1] != "0" else "1"),
            re.sub(r"expires=\d+", "expires=99999999999", url),
            url.replace(upload_id, "0" * 32),
        ):
            assert anybody.put(wrong, content=b"x").status_code == 403
        monkeypatch.setattr("halsted_ray.service.signed_addresses.now_s", lambda: time.time() + 7200)
        assert anybody.put(url, content=b"x").status_code == 403
    assert "address has expired" in anybody.put(url, content=b"x").json()["detail"]


def test_parts_go_straight_to_the_object_store_by_presigned_addresses(s3_server, model, large, tmp_path):
    """A real S3 server: parts through the API and parts that the client puts straight to the store."""
    import httpx2

    service = open_service(tmp_path, model, store=f"{s3_server.bucket}/site", presign=True, with_clips=True)
    data = large.read_bytes()
    with client_of(service, new_key(service)) as client:
        begun = client.post("/v1/uploads", json={"size_bytes": len(data)}).json()
        where = f"/v1/uploads/{begun['upload_id']}"
        url = client.post(f"{where}/parts/1/address").json()["url"]
        assert url.startswith(s3_server.endpoint)
        assert httpx2.put(url, content=data[:PART_BYTES]).status_code == 200
        assert httpx2.put(url.replace("partNumber=1", "partNumber=2"), content=b"x").status_code == 403
        assert client.put(f"{where}/parts/2", content=data[PART_BYTES:]).status_code == 200
        assert [part["number"] for part in client.get(where).json()["parts"]] == [1, 2]
        video = client.post(f"{where}/complete").json()
        assert video["duration_s"] == 12.0 and video["size_bytes"] == len(data)
        cleaned(client, video["video_id"])
        asked = {"instruction": "map procedure type", "video_id": video["video_id"], "stop_s": 5}
        assert client.post("/v1/clips:map", json=asked).status_code == 200
        left = client.post("/v1/uploads", json={}).json()["upload_id"]
        assert client.put(f"/v1/uploads/{left}/parts/1", content=b"x").status_code == 200
        assert client.delete(f"/v1/uploads/{left}").status_code == 204
        assert client.delete(f"/v1/videos/{video['video_id']}").status_code == 204
        assert not service.store.fs.find("archive/site")
        assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    "step, error", [("_probe", StorageUnavailable("away")), ("digests_of", StorageUnavailable("away"))]
)
def test_an_upload_can_be_completed_at_once_after_a_passing_failure(site, large, monkeypatch, step, error):
    service, client = site
    where = send_by_addresses(client, large.read_bytes())
    monkeypatch.setattr(uploads, step, failing(error, getattr(uploads, step)))
    failed = client.post(f"{where}/complete")
    assert failed.status_code == 503 and failed.headers["retry-after"]
    shown = client.get(where).json()
    assert shown["state"] == "open" and [part["number"] for part in shown["parts"]] == [1, 2]
    late = client.put(f"{where}/parts/2", content=b"other bytes")
    assert late.status_code == 409 and "complete it" in late.json()["detail"], "the parts are joined already"
    done = client.post(f"{where}/complete", json={"parts": shown["parts"]})
    assert done.status_code == 200, done.text
    assert (done.json()["size_bytes"], done.json()["duration_s"]) == (large.stat().st_size, 12.0)
    assert client.post(f"{where}/complete").json() == done.json()
    assert original_bytes(service, done.json()["video_id"]) == large.read_bytes()


def test_an_object_store_that_does_not_list_its_parts_is_not_taken_to_have_none(
    s3_server, tmp_path, model, large, monkeypatch
):
    service = open_service(tmp_path, model, store=f"{s3_server.bucket}/silent", presign=True)
    with client_of(service, new_key(service)) as client:
        where = send_by_addresses(client, large.read_bytes())
        call = service.store.fs.call_s3
        monkeypatch.setattr(service.store.fs, "call_s3", failing(OSError("away"), call, times=2))
        assert client.get(where).status_code == 503
        refused = client.post(f"{where}/complete")
        assert refused.status_code == 503 and "missing" not in refused.text
        assert client.post(f"{where}/complete").status_code == 200


def test_a_part_that_is_sent_again_to_the_object_store_counts(s3_server, tmp_path, model, large):
    import httpx2

    data = large.read_bytes()
    service = open_service(tmp_path, model, store=f"{s3_server.bucket}/again", presign=True)
    with client_of(service, new_key(service)) as client:
        where = send_by_addresses(client, data)
        assert client.put(f"{where}/parts/2", content=b"x" * (len(data) - PART_BYTES)).status_code == 200
        url = client.post(f"{where}/parts/2/address").json()["url"]
        assert httpx2.put(url, content=data[PART_BYTES:]).status_code == 200
        assert client.post(f"{where}/complete").json()["size_bytes"] == len(data)


def test_an_upload_whose_parts_the_object_store_has_dropped_has_ended(s3_server, tmp_path, model, video):
    service = open_service(tmp_path, model, store=f"{s3_server.bucket}/dropped", presign=True)
    with client_of(service, new_key(service)) as client:
        where = f"/v1/uploads/{client.post('/v1/uploads', json={}).json()['upload_id']}"
        assert client.put(f"{where}/parts/1", content=video.read_bytes()).status_code == 200
        upload = service.uploads.get("north", where.rsplit("/", 1)[1])[0]
        # A rule of the bucket does the same after some days.
        service.store.abort_upload("north", upload.place, upload.store_ref)
        refused = client.post(f"{where}/complete")
        assert refused.status_code == 409 and "begin another one" in refused.json()["detail"]
        assert client.get(where).json()["state"] == "aborted"


def test_an_upload_that_the_store_does_not_remove_can_be_ended_again(site, video, monkeypatch):
    service, client = site
    where, other, wrong = (send_by_addresses(client, data) for data in (video.read_bytes(), b"other", b"no video"))
    kind, remove = type(service.store), type(service.store).remove
    monkeypatch.setattr(kind, "remove", failing(OutputError("the store is away"), remove, times=3))
    assert client.delete(where).status_code == 503 and client.get(where).json()["state"] == "open"
    assert client.post(f"{wrong}/complete").status_code == 503 and client.get(wrong).json()["state"] == "open"
    assert service.uploads.expire(-1) == 2, "the third failure leaves one, and the others are ended all the same"
    assert service.uploads.expire(-1) == 1
    assert {client.get(path).json()["state"] for path in (where, other, wrong)} == {"aborted"}
    assert not [path for path in filesystem(service.store.root)[0].find(service.store.root) if "video" in path]


def original_bytes(service, video_id: str) -> bytes:
    """The bytes as they came of a video that is not cleaned yet."""
    place = service.videos.get("north", video_id).original
    fs, path = filesystem(service.store.location("north", place))
    return fs.cat_file(path)


def test_an_upload_that_two_requests_complete_keeps_its_bytes(site, video, monkeypatch):
    """The second request takes the upload over after the first request has taken longer than COMPLETING_S."""
    service, client = site
    where, probe = send_by_addresses(client, video.read_bytes()), uploads._probe
    answers = []

    def slowly(location: str):
        monkeypatch.setattr(uploads, "_probe", probe)
        monkeypatch.setattr(uploads, "COMPLETING_S", -1.0)
        answers.append(client.post(f"{where}/complete").json())
        return probe(location)

    monkeypatch.setattr(uploads, "_probe", slowly)
    answers.append(client.post(f"{where}/complete").json())
    assert answers[0] == answers[1]
    assert original_bytes(service, answers[0]["video_id"]) == video.read_bytes()


def test_a_second_copy_that_the_store_did_not_remove_is_removed_with_its_video(site, video, monkeypatch):
    service, client = site
    first, again = (send_by_addresses(client, video.read_bytes()) for _ in range(2))
    found = client.post(f"{first}/complete").json()
    kind, remove = type(service.store), type(service.store).remove
    monkeypatch.setattr(kind, "remove", failing(OutputError("the store is away"), remove, times=2))
    assert client.post(f"{again}/complete").json() == found
    assert client.delete(f"/v1/videos/{found['video_id']}").status_code == 204, "deleted, although its bytes stay"
    assert service.videos.purge() == 1
    assert not [path for path in filesystem(service.store.root)[0].find(service.store.root) if "video" in path]


def test_an_announcement_of_the_sdk_stays_while_no_model_can_be_found(service, client, video, monkeypatch):
    who, name = {"username": "ada"}, {"video_id": "of-the-sdk"}
    upload_id = client.post("/create/invoke", json={**who, **name}).json()["body"]["UploadId"]
    url = client.post("/upload/invoke", json={**who, **name, "upload_id": upload_id, "part_number": 1}).json()
    etag = client.put(url["body"]["url"], content=video.read_bytes()).headers["etag"]
    sent = {"upload_id": upload_id, "parts": [{"PartNumber": 1, "ETag": etag}]}
    assert client.post("/complete/invoke", json={**who, **name, **sent}).status_code == 200
    announced = {**who, "extra_inputs": {**name, "endpoint": "ffmpeg"}}
    assert client.post("/data/upload-json", json=announced).status_code == 200
    monkeypatch.setattr(service, "model_source", failing(ModelError("the registry is away"), service.model_source))
    assert client.post("/process/invoke", json={**who, "endpoint": "ffmpeg"}).status_code == 422
    begun = client.post("/process/invoke", json={**who, "endpoint": "ffmpeg"})
    assert begun.status_code == 200 and begun.json()["body"]["OutputLocation"], begun.text
