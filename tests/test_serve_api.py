"""The HTTP API in this process, over a real database, store, decoding process and model; Ray is not needed."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi import HTTPException
from maps import write_maps
from serving import client_of, new_key, open_service, save_model, upload, write_video

from halsted_ray.cli import main
from halsted_ray.errors import ModelError, OutputError, StorageUnavailable, UsageError
from halsted_ray.maps.exports import read_captions, read_csv
from halsted_ray.service import uploads
from halsted_ray.service.database import Job, now_s
from halsted_ray.service.local_server import claim_port
from halsted_ray.service.object_store import PART_BYTES
from halsted_ray.service.rate_limit import RateLimiter
from halsted_ray.storage.locations import filesystem


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"), 0)


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "Jane Doe.mp4", 12.0)


@pytest.fixture(scope="module")
def service(tmp_path_factory, model):
    return open_service(tmp_path_factory.mktemp("site"), model, with_clips=True)


@pytest.fixture(scope="module")
def client(service):
    with client_of(service, new_key(service)) as found:
        yield found


@pytest.fixture(scope="module")
def uploaded(client, video) -> dict:
    return upload(client, video)


@pytest.fixture(scope="module")
def large(tmp_path_factory, video) -> Path:
    """Two parts: a video with bytes behind it that players skip."""
    path = tmp_path_factory.mktemp("large") / "large.mp4"
    free = PART_BYTES + 17 - 8
    path.write_bytes(video.read_bytes() + free.to_bytes(4, "big") + b"free" + bytes(free - 8))
    return path


def command(words: list[str]) -> int:
    """The exit code of ``halsted serve``."""
    return main(["serve", *words])


def other_tenant(service, role: str = "admin"):
    return client_of(service, new_key(service, "south", f"eve-{role}", role))


def test_it_is_alive_ready_and_described(service, monkeypatch):
    with client_of(service) as anybody:
        assert anybody.get("/healthz").json() == {"status": "ok"}
        assert anybody.get("/readyz").json()["model"]["version"] == "v0"
        assert "/v1/clips:map" in anybody.get("/openapi.json").json()["paths"]
        assert "halsted_requests_total" in anybody.get("/metrics").text
        with monkeypatch.context() as patch:
            patch.setattr(service, "serving_model", None)
            assert anybody.get("/readyz").status_code == 503
        page = anybody.get("/docs").text
        assert "/v1/clips:map" in page and "not a medical device" in page
        assert "<code>size_bytes</code><td>in the body" in page and "<td>answer<td>upload_id, " in page
        assert not re.search(r"https?://(?!testserver)|<script", page), "nothing from outside"


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


def test_what_is_no_video_is_refused_and_nothing_of_it_stays(client, service, tmp_path, video):
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


def test_a_full_disk_is_said_and_nothing_is_half_accepted(client, service, video):
    """The file of the parts is the kernel's own full device."""
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
        monkeypatch.setattr("halsted_ray.service.uploads.now_s", lambda: time.time() + 7200)
        assert anybody.put(url, content=b"x").status_code == 403
    assert "address has expired" in anybody.put(url, content=b"x").json()["detail"]


def test_an_instruction_with_unknown_words_names_the_nearest(client, uploaded):
    for answer in (
        client.post(f"/v1/videos/{uploaded['video_id']}/maps", json={"instruction": "map sutring activity"}),
        client.post("/v1/clips:map?instruction=map+sutring+activity", content=b"x"),
    ):
        assert answer.status_code == 422 and answer.json()["nearest"][0] == "map suturing activity"
        assert answer.json()["words"]["sutring"][0] == "suturing"
    assert client.post(f"/v1/videos/{uploaded['video_id']}/maps", json={"task": "macr"}).status_code == 422


def test_a_clip_is_answered_with_all_probabilities_and_the_version(client, uploaded, video):
    by_body = client.post(
        "/v1/clips:map?instruction=Map+Procedure+Type&start_s=2.5&stop_s=5",
        content=video.read_bytes(),
        headers={"content-type": "video/mp4"},
    )
    by_id = client.post(
        "/v1/clips:map",
        json={"instruction": "map procedure type", "video_id": uploaded["video_id"], "start_s": 2.5, "stop_s": 5},
    )
    assert by_body.status_code == by_id.status_code == 200
    one, two = by_body.json(), by_id.json()
    assert one["tags"] == two["tags"] and one["model"]["version"] == "v0" and one["model"]["atlas_release"] == "test-1"
    assert [tag["tag"] for tag in one["tags"]] == ["specialty", "procedure", "step"]
    for tag in one["tags"]:
        assert tag["confidence"] == tag["probabilities"][tag["category"]]
        assert sum(tag["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert one["seconds"].keys() == {"decode", "queue", "encode", "tag"} and one["seconds"]["decode"] > 0
    assert 'halsted_clip_seconds_count{stage="queue"}' in client.get("/metrics").text
    outside = client.post("/v1/clips:map", json={**json.loads(by_id.request.content), "start_s": 50, "stop_s": 60})
    assert outside.status_code == 422 and "12.000 s" in outside.json()["detail"]


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "../south/inbox/clip.mp4",
        "inbox/../../south/inbox/clip.mp4",
        "..",
        "http://169.254.169.254/latest/meta-data",
        "s3://other/clip.mp4",
        "inbox/%2e%2e/x",
        "zip://x::inbox/clip.mp4",
        "inbox/link.mp4",
        "inbox",
        "",
        "inbox//clip.mp4",
        "./inbox/clip.mp4",
        "inbox/\x00.mp4",
        "{root}/south/inbox/clip.mp4",
    ],
)
def test_a_uri_reaches_only_the_caller_s_own_storage(client, service, video, uri):
    for tenant_id in ("north", "south"):
        inbox = Path(service.store.root, tenant_id, "inbox")
        inbox.mkdir(parents=True, exist_ok=True)
        (inbox / "clip.mp4").write_bytes(video.read_bytes())
    link = Path(service.store.root, "north", "inbox", "link.mp4")
    if not link.is_symlink():
        link.symlink_to(Path(service.store.root, "south", "inbox", "clip.mp4"))
    asked = {"instruction": "map procedure type", "uri": uri.replace("{root}", service.store.root)}
    answer = client.post("/v1/clips:map", json=asked)
    assert answer.status_code == 422 and "etc" not in answer.json()["detail"].replace("expected", "")
    for own in ("inbox/clip.mp4", f"{service.store.root}/north/inbox/clip.mp4"):
        assert client.post("/v1/clips:map", json={**asked, "uri": own}).status_code == 200


def add_maps(service, tenant_id: str, video_id: str) -> list[dict]:
    """Real maps of another video under this one's place: the pipeline's own tables, without a run."""
    out = service.videos.maps_location(tenant_id, video_id)
    write_maps(out)
    return service.videos.timeline_rows(tenant_id, video_id)


def test_a_timeline_in_every_format(client, service, uploaded):
    where = f"/v1/videos/{uploaded['video_id']}/timeline"
    before = client.get(where)
    assert before.status_code == 404 and "not mapped yet" in before.json()["detail"]
    rows = add_maps(service, "north", uploaded["video_id"])
    assert client.get(where).json()["rows"] == rows
    assert read_csv(client.get(where, params={"format": "csv"}).text) == rows
    for name in ("vtt", "srt"):
        answer = client.get(where, params={"format": name})
        assert len(read_captions(answer.text)) == len(rows), name
    assert client.get(where, params={"format": "vtt", "kind": "chapters"}).text.startswith("WEBVTT")
    assert "Jane" not in client.get(where).text
    assert client.get(where, params={"format": "exe"}).status_code == 422


def test_deleting_removes_everything_and_the_log_says_so(client, service, tmp_path):
    video = upload(client, write_video(tmp_path / "gone.mp4", 11.0))
    job = client.post(f"/v1/videos/{video['video_id']}/maps", json={}).json()
    add_maps(service, "north", video["video_id"])
    assert client.delete(f"/v1/videos/{video['video_id']}").status_code == 204
    assert client.get(f"/v1/videos/{video['video_id']}").status_code == 404
    assert client.get(f"/v1/videos/{video['video_id']}/timeline").status_code == 404
    assert client.get(f"/v1/jobs/{job['job_id']}").json()["state"] == "cancelled"
    assert not list(Path(service.store.root).rglob(f"*{video['video_id']}*"))
    with client_of(service, new_key(service, "north", "auditor", "auditor")) as auditor:
        log = auditor.get("/v1/audit", params={"limit": 1000, "verify": True}).json()
        assert auditor.get("/v1/videos").status_code == 403
    assert log["verified"]["whole"] and log["verified"]["digest"] == log["digest"]
    actions = [entry["action"] for entry in log["entries"] if entry["subject"] == video["video_id"]]
    assert actions[:2] == ["upload.complete", "map.submit"] and actions[-2:] == ["video.delete", "video.purge"]
    assert upload(client, write_video(tmp_path / "back.mp4", 11.0))["video_id"] == video["video_id"], "it may come back"


def test_a_video_that_a_job_reads_goes_when_the_job_lets_go(client, service, tmp_path):
    video = upload(client, write_video(tmp_path / "busy.mp4", 13.0))
    job_id = client.post(f"/v1/videos/{video['video_id']}/maps", json={}).json()["job_id"]
    with service.database.writing() as session:
        job = session.get(Job, job_id)
        job.state, job.worker, job.lease_until_s = "running", "worker", now_s() + 60
    assert client.delete(f"/v1/videos/{video['video_id']}").status_code == 204
    assert client.get("/v1/videos").status_code == 200 and service.videos.purge() == 0
    assert not service.jobs.heartbeat(job_id, "worker"), "the worker is told"
    service.jobs.finish(job_id, "worker", "cancelled")
    assert service.videos.purge() == 1


def test_events_of_a_job_until_its_end(client, service, uploaded):
    job_id = client.post(f"/v1/videos/{uploaded['video_id']}/maps", json={"task": "macro"}).json()["job_id"]
    with service.database.writing() as session:
        job = session.get(Job, job_id)
        job.state, job.worker, job.lease_until_s, job.rate, job.done_s = "running", "w", now_s() + 60, 2.0, 4.0
    shown = client.get(f"/v1/jobs/{job_id}").json()
    assert (shown["state"], shown["eta_s"]) == ("running", 4.0)
    assert client.post(f"/v1/jobs/{job_id}/cancel").json()["state"] == "running"
    service.jobs.finish(job_id, "w", "cancelled")
    events = client.get(f"/v1/jobs/{job_id}/events")
    assert events.headers["content-type"].startswith("text/event-stream")
    name, data = events.text.strip().split("\n")
    assert name == "event: end" and json.loads(data.removeprefix("data: "))["state"] == "cancelled"


def test_no_route_gives_another_tenant_anything(client, service, uploaded):
    """Every route that names a thing by id, with the ids of another tenant's things: as if they were not there."""
    mine = {
        "video_id": uploaded["video_id"],
        "number": "1",
        "upload_id": client.post("/v1/uploads", json={}).json()["upload_id"],
        "job_id": client.post(f"/v1/videos/{uploaded['video_id']}/maps", json={}).json()["job_id"],
        "key_id": new_key(service).split("_")[1],
    }
    bodies = {"put": {"content": b"x"}, "post": {"json": {}}}
    with other_tenant(service) as stranger, client_of(service) as anybody:
        walked = 0
        for path, methods in stranger.get("/openapi.json").json()["paths"].items():
            names = re.findall(r"{(\w+)}", path)
            if not path.startswith("/v1/"):
                continue
            for method in methods:
                url = path.format(**{name: mine[name] for name in names})
                assert getattr(anybody, method)(url, **bodies.get(method, {})).status_code == 401, (method, path)
                if names:
                    walked += 1
                    answer = getattr(stranger, method)(url, **bodies.get(method, {}))
                    assert answer.status_code == 404, (method, path, answer.text)
        assert walked == 15
        asked = {"instruction": "map procedure type", "video_id": uploaded["video_id"]}
        assert stranger.post("/v1/clips:map", json=asked).status_code == 404
        assert stranger.get("/v1/videos").json() == []
        assert {entry["actor"].split("/")[0] for entry in stranger.get("/v1/audit").json()["entries"]} == {"operator"}
    assert client.get(f"/v1/uploads/{mine['upload_id']}").json()["parts"] == []
    assert client.get(f"/v1/jobs/{mine['job_id']}").json()["state"] == "queued"


def test_roles_may_what_they_may_and_no_more(service, uploaded):
    calls = {
        "read": ("get", "/v1/videos"),
        "write": ("post", "/v1/uploads"),
        "keys": ("get", "/v1/keys"),
        "audit": ("get", "/v1/audit"),
    }
    may = {
        "surgeon": {"read", "write"},
        "reviewer": {"read"},
        "annotator": {"read"},
        "auditor": {"audit"},
        "admin": {"read", "write", "keys", "audit"},
    }
    for role, allowed in may.items():
        with client_of(service, new_key(service, "north", f"one-{role}", role)) as user:
            for permission, (method, path) in calls.items():
                answer = getattr(user, method)(path, **({"json": {}} if method == "post" else {}))
                assert (answer.status_code != 403) == (permission in allowed), (role, permission)
    with client_of(service, new_key(service, "north", "one-admin", "admin")) as admin:
        made = admin.post("/v1/keys", json={"user": "new", "role": "reviewer"}).json()
        with client_of(service) as new:
            headers = {"Authorization": f"Bearer {made['key']}"}
            assert new.get("/v1/videos", headers=headers).status_code == 200
            assert admin.delete(f"/v1/keys/{made['key_id']}").status_code == 204
            assert new.get("/v1/videos", headers=headers).status_code == 401


def test_limits_headers_and_a_log_without_names(client, service, model, tmp_path, caplog):
    assert client.put("/v1/uploads/ab/parts/1", content=b"x" * (PART_BYTES + 1)).status_code == 413
    assert client.post("/v1/uploads", content=b" " * (service.settings.json_bytes + 1)).status_code == 413
    headers = client.get("/v1/videos").headers
    assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
    assert "default-src 'none'" in headers["content-security-policy"] and headers["cache-control"] == "no-store"
    caplog.set_level("INFO", "halsted_ray.service.requests")
    key = client.headers["x-api-key"]
    client.get("/v1/videos/Jane%20Doe.mp4?patient=Jane%20Doe")
    line = json.loads(caplog.records[-1].getMessage())
    assert line["route"] == "/v1/videos/{video_id}" and line["status"] == 422 and line["tenant"] == "north"
    assert "Jane" not in caplog.text and key not in caplog.text and key.split("_", 2)[2] not in caplog.text
    small = open_service(tmp_path, model, requests_per_minute=3)
    with client_of(small, new_key(small)) as eager:
        codes = [eager.get("/v1/videos").status_code for _ in range(5)]
    assert codes == [200, 200, 200, 429, 429]
    small.replicas = 3
    with client_of(small, new_key(small, user="bob")) as eager:
        assert [eager.get("/v1/videos").status_code for _ in range(2)] == [200, 429], "the share of one of three"


@pytest.mark.parametrize("a_minute, replicas", [(60, 1), (120, 4)])
def test_a_client_that_asks_twice_as_often_as_it_may_gets_the_rate_that_it_may_have(a_minute, replicas, monkeypatch):
    clock_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: clock_s)
    buckets = RateLimiter(a_minute, replicas)
    rate = a_minute / replicas / 60
    let_through, waits_s = [], []
    for _ in range(int(600 * 2 * rate)):  # ten minutes at twice the rate
        clock_s += 1 / (2 * rate)
        try:
            buckets.take("a steady client")
            let_through.append(clock_s)
        except HTTPException as refusal:
            waits_s.append(int(refusal.headers["Retry-After"]))
    burst = 2 * 60  # the full bucket lasts two minutes: it fills half as fast as it is emptied
    after_s = [at_s for at_s in let_through if at_s > 1000 + burst]
    assert len(after_s) == pytest.approx((600 - burst) * rate, abs=2)
    assert max(waits_s) <= math.ceil(1 / rate)
    clock_s += waits_s[-1]
    buckets.take("a steady client")  # it comes back when it was told to


def test_a_video_in_an_object_store_comes_in_by_its_own_addresses(s3_server, model, large, tmp_path):
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
        asked = {"instruction": "map procedure type", "video_id": video["video_id"], "stop_s": 5}
        assert client.post("/v1/clips:map", json=asked).status_code == 200
        left = client.post("/v1/uploads", json={}).json()["upload_id"]
        assert client.put(f"/v1/uploads/{left}/parts/1", content=b"x").status_code == 200
        assert client.delete(f"/v1/uploads/{left}").status_code == 204
        assert client.delete(f"/v1/videos/{video['video_id']}").status_code == 204
        assert not service.store.fs.find("archive/site")
        assert client.get("/readyz").status_code == 200


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
    """Puts the parts of a new upload to their addresses, at S3 straight to the object store; gives its path."""
    import httpx2

    where = f"/v1/uploads/{client.post('/v1/uploads', json={'size_bytes': len(data)}).json()['upload_id']}"
    for number, start in enumerate(range(0, len(data), PART_BYTES), 1):
        url = client.post(f"{where}/parts/{number}/address").json()["url"]
        put = client.put if "testserver" in url else httpx2.put
        assert put(url, content=data[start : start + PART_BYTES]).status_code == 200
    return where


def failing(error: Exception, then=None, times: int = 1):
    """Raises ``error`` the first ``times``, then does ``then``."""
    left = [error] * times

    def do(*arguments, **named):
        if left:
            raise left.pop()
        return then(*arguments, **named)

    return do


@pytest.mark.parametrize("step, error", [("_probe", StorageUnavailable("away")), ("identify", OSError("away"))])
def test_completing_goes_on_at_once_after_a_passing_failure(site, large, monkeypatch, step, error):
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
    assert service.videos.read(service.videos.get("north", done.json()["video_id"]), 0, 2**30) == large.read_bytes()


def test_an_object_store_that_does_not_say_which_parts_it_has_is_not_taken_to_have_none(
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


def test_an_upload_whose_parts_the_object_store_has_dropped_is_over(s3_server, tmp_path, model, video):
    service = open_service(tmp_path, model, store=f"{s3_server.bucket}/dropped", presign=True)
    with client_of(service, new_key(service)) as client:
        where = f"/v1/uploads/{client.post('/v1/uploads', json={}).json()['upload_id']}"
        assert client.put(f"{where}/parts/1", content=video.read_bytes()).status_code == 200
        upload = service.uploads.get("north", where.rsplit("/", 1)[1])[0]
        service.store.abort_upload(
            "north", upload.place, upload.store_ref
        )  # as a rule of the bucket does after some days
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


def test_an_upload_that_two_requests_complete_keeps_its_bytes(site, video, monkeypatch):
    """The second one takes over where the first one has been at it for longer than COMPLETING_S."""
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
    found = service.videos.get("north", answers[0]["video_id"])
    assert service.videos.read(found, 0, 2**30) == video.read_bytes()


def test_bytes_that_the_store_did_not_remove_go_with_their_video(site, video, monkeypatch):
    service, client = site
    first, again = (send_by_addresses(client, video.read_bytes()) for _ in range(2))
    found = client.post(f"{first}/complete").json()
    kind, remove = type(service.store), type(service.store).remove
    monkeypatch.setattr(kind, "remove", failing(OutputError("the store is away"), remove, times=2))
    assert client.post(f"{again}/complete").json() == found
    assert client.delete(f"/v1/videos/{found['video_id']}").status_code == 204, "gone, though its bytes are not yet"
    assert service.videos.purge() == 1
    assert not [path for path in filesystem(service.store.root)[0].find(service.store.root) if "video" in path]


def test_what_the_sdk_announced_stays_where_no_model_is_to_be_had(service, client, video, monkeypatch):
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


def test_a_backup_of_a_running_site_is_a_site(service, client, uploaded, tmp_path, capsys):
    site = Path(service.store.root).parent
    assert command(["backup", "--state", str(site), str(tmp_path / "copy")]) == 0
    assert command(["backup", "--state", str(site), str(tmp_path / "copy")]) == 2, "never over something"
    assert command(["restore", "--state", str(tmp_path / "new"), str(tmp_path / "copy")]) == 0
    assert command(["audit", "--state", str(tmp_path / "new")]) == 0
    assert "all as written" in capsys.readouterr().out
    restored = open_service(tmp_path / "new", Path(service.settings.model), with_clips=True)
    with client_of(restored, client.headers["x-api-key"]) as there:
        assert uploaded["video_id"] in {video["video_id"] for video in there.get("/v1/videos").json()}
        asked = {"instruction": "map procedure type", "video_id": uploaded["video_id"], "stop_s": 5}
        assert there.post("/v1/clips:map", json=asked).status_code == 200
    assert command(["restore", "--state", str(tmp_path / "new"), str(tmp_path / "copy")]) == 2
    assert command(["run", "--state", str(tmp_path / "x"), "--model", str(tmp_path / "none"), "--port", "8431"]) == 2
    assert "make demo" in capsys.readouterr().err


def test_a_site_that_is_not_there_is_said_and_none_is_made(tmp_path, capsys):
    for words in (["audit"], ["backup", str(tmp_path / "copy")]):
        assert command([words[0], "--state", str(tmp_path / "typo"), *words[1:]]) == 2
        assert "name the state folder of a site" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert command(["key", "--state", str(tmp_path / "new"), "north", "ada", "surgeon"]) == 0
    assert "a new site at" in capsys.readouterr().err
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new", *(tmp_path / "new").iterdir())}
    assert modes["new"] == 0o700 and modes["halsted.db"] == 0o600, "it holds names, and what signs addresses"


def test_a_state_folder_beside_a_database_of_the_environment_is_refused(tmp_path, capsys, monkeypatch):
    state = ["--state", str(tmp_path / "other")]
    monkeypatch.setenv("HALSTED_DATABASE", f"sqlite:///{tmp_path}/halsted.db")
    monkeypatch.setenv("HALSTED_STORE", str(tmp_path / "store"))
    for words in (["audit"], ["key", "north", "ada", "surgeon"], ["backup", "copy"], ["restore", "copy"]):
        with pytest.raises(SystemExit, match="2"):
            command([words[0], *state, *words[1:]])
        complaint = capsys.readouterr().err
        assert complaint.startswith(f"usage: halsted serve {words[0]}") and "argument --state: it needs" in complaint
    assert list(tmp_path.iterdir()) == []
    monkeypatch.delenv("HALSTED_DATABASE")
    assert command(["key", *state, "north", "ada", "surgeon"]) == 0 and (tmp_path / "other" / "halsted.db").exists()


def test_a_setting_that_is_no_number_is_named(tmp_path, capsys, monkeypatch):
    for value in ("abc", "-1", "nan"):
        monkeypatch.setenv("HALSTED_LEASE_S", value)
        assert command(["audit", "--state", str(tmp_path)]) == 2
        assert f"HALSTED_LEASE_S='{value}'; expected a number above 0" in capsys.readouterr().err


def test_a_port_that_can_not_be_had_is_said_before_anything_starts(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("halsted_ray.service.local_server.PORT_WAIT_S", 0.3)
    words = ["run", "--state", str(tmp_path / "x"), "--model", str(tmp_path / "none"), "--port"]
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert command([*words, str(other.getsockname()[1])]) == 2
    assert "can't serve at 127.0.0.1:" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        command([*words, "99999"])
    assert not (tmp_path / "x").exists()


def test_a_port_that_a_killed_service_still_holds_is_waited_for():
    with socket.socket() as old:
        old.bind(("127.0.0.1", 0))
        old.listen()
        host, port = old.getsockname()
        threading.Timer(0.5, old.close).start()
        claim_port(host, port).close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            old.getsockname()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_of_two_services_that_start_at_once_on_one_port_one_is_refused(monkeypatch):
    """Neither has bound the port when the other one looks at it: before that, Ray starts."""
    monkeypatch.setattr("halsted_ray.service.local_server.PORT_WAIT_S", 0.3)
    port, together = free_port(), threading.Barrier(2)

    def start(host: str) -> socket.socket | str:
        together.wait()
        try:
            return claim_port(host, port)
        except UsageError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        ways = list(pool.map(start, ("127.0.0.1", "0.0.0.0")))
    (refusal,) = [way for way in ways if isinstance(way, str)]
    assert re.match(rf"can't serve at [\d.]+:{port}: .*in use; end the service there, or name another --port", refusal)
    (claim,) = [way for way in ways if not isinstance(way, str)]
    claim_port("127.0.0.1", free_port()).close()
    claim.close()
    claim_port("127.0.0.1", port).close()


def test_a_service_that_was_killed_leaves_no_claim_on_its_port(monkeypatch):
    monkeypatch.setattr("halsted_ray.service.local_server.PORT_WAIT_S", 0.3)
    port = free_port()
    claiming = (
        "import subprocess, sys, time; from halsted_ray.service.local_server import claim_port; "
        f"claim = claim_port('127.0.0.1', {port}); child = subprocess.Popen(['sleep', '60']); "
        "print(child.pid, flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", claiming]
    with subprocess.Popen(words, cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, text=True) as service:
        child = int(service.stdout.readline())
        try:
            with pytest.raises(UsageError, match=f"can't serve at 127.0.0.1:{port}"):
                claim_port("127.0.0.1", port)
            service.kill()
            service.wait()
            claim_port("127.0.0.1", port).close()  # although what it started lives on
        finally:
            os.kill(child, signal.SIGKILL)


def test_an_address_that_is_not_this_machine_s_is_not_waited_for():
    began_s = time.monotonic()
    with pytest.raises(UsageError, match="can't serve at 192.0.2.1:"):
        claim_port("192.0.2.1", 8000)
    assert time.monotonic() - began_s < 5


def test_a_database_that_is_away_is_a_503_that_says_when_to_come_back(model, tmp_path):
    service = open_service(tmp_path, model)
    with client_of(service, new_key(service)) as client:
        (tmp_path / "halsted.db").rename(tmp_path / "gone.db")
        service.database.close()
        (tmp_path / "halsted.db").mkdir()
        answer = client.get("/v1/videos")
        assert answer.status_code == 503 and answer.headers["retry-after"] and str(tmp_path) not in answer.text
        assert client.get("/readyz").status_code == 503 and client.get("/healthz").status_code == 200
