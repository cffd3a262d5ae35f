"""Videos, their timelines and their jobs over the HTTP API in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from maps import write_maps
from serving import (
    client_of,
    new_key,
    shared_service,
    shared_video,
    upload,
    write_video,
)

from halsted_ray.maps.exports import read_captions, read_csv
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.database import now_s
from halsted_ray.service.tables import Job


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


def add_maps(service, tenant_id: str, video_id: str) -> list[dict]:
    """Writes the pipeline's own tables for this video, with rows of another video, and returns its timeline."""
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
    about = [entry["action"] for entry in log["entries"] if entry["subject"] == video["video_id"]]
    actions = [action for action in about if action != "access.refused"]
    assert len(about) == len(actions) + 2, "the two looks at what is not there any more"
    assert actions[:3] == ["upload.complete", "clean.done", "map.submit"] and actions[-2:] == [
        "video.delete",
        "video.purge",
    ]
    assert upload(client, write_video(tmp_path / "back.mp4", 11.0))["video_id"] == video["video_id"], "it may come back"


def test_the_bytes_of_a_deleted_video_stay_while_a_job_reads_them(client, service, tmp_path):
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


def test_a_timeline_is_prepared_once_per_published_version(client, service, uploaded, monkeypatch):
    """Compressed for who takes it, 304 for who has it; a new version of the map is prepared again."""
    video_id = uploaded["video_id"]
    where, out = f"/v1/videos/{video_id}/timeline", service.videos.maps_location("north", video_id)
    write_maps(out)
    asked: list[str] = []
    read = type(service.videos).timeline
    monkeypatch.setattr(
        type(service.videos), "timeline", lambda self, *name: asked.append(name[1]) or read(self, *name)
    )
    plain = client.get(where, headers={"accept-encoding": "identity"})
    packed = client.get(where, headers={"accept-encoding": "gzip"})
    assert plain.json() == packed.json() and packed.headers["content-encoding"] == "gzip"
    for encodings, is_packed in (("gzip;q=0, identity", False), ("br, GZIP; q=0.5", True), ("gzip;q=0.0", False)):
        answer = client.get(where, headers={"accept-encoding": encodings})
        assert ("content-encoding" in answer.headers) == is_packed and answer.json() == plain.json(), encodings
    assert "content-encoding" not in plain.headers and plain.headers["cache-control"] == "no-store"
    assert len(asked) == 1
    known = {"if-none-match": f'"another", {plain.headers["etag"]}'}
    assert client.get(where, headers=known).status_code == 304 and client.get(where, headers=known).content == b""
    assert client.get(where, params={"format": "csv"}, headers=known).status_code == 200, "another format"
    count = len(asked)
    write_maps(out)
    assert client.get(where, headers=known).status_code == 200 and len(asked) == count + 1


def test_a_timeline_that_is_known_is_still_an_entry_of_the_audit_log(client, service, uploaded):
    video_id = uploaded["video_id"]
    write_maps(service.videos.maps_location("north", video_id))
    where = f"/v1/videos/{video_id}/timeline"

    def entries() -> int:
        found = auditor.get("/v1/audit", params={"limit": 1000}).json()["entries"]
        assert len(found) < 1000, "the newest entries are beyond this page"
        return sum(entry["action"] == "timeline.read" for entry in found)

    with client_of(service, new_key(service, "north", "olga", "auditor")) as auditor:
        before, etag = entries(), client.get(where).headers["etag"]
        assert client.get(where, headers={"if-none-match": etag}).status_code == 304
        assert entries() == before + 2
