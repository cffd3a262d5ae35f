"""A case is deleted when its time has come, with everything that was made from it; a legal hold holds. The clock of the
service is moved; the store is a folder and a real S3 server."""

from __future__ import annotations

import time

import pytest
from maps import write_maps
from serving import client_of, new_key, open_service, shared_model, upload, write_video
from starlette.testclient import TestClient

from halsted_ray.service import cases
from halsted_ray.service.api import create_api
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.housekeeping import Housekeeper
from halsted_ray.service.tables import StoredVideo
from halsted_ray.storage.files import write_bytes
from halsted_ray.storage.locations import filesystem

DAY_S = 86_400.0
MADE = ("embeddings/aa.arrow", "packet-indexes/aa", "pictures/0001.jpg", "certificates/aa.json", "report.html")
"""What a mapping run and other phases leave beside the tables of the map: vectors, indexes, small pictures."""


@pytest.fixture(params=["folder", "s3"])
def service(request, tmp_path) -> ServiceComponents:
    changes = {"retention_days": 30.0}
    if request.param == "s3":
        bucket = request.getfixturevalue("s3_server").bucket
        changes["store"] = f"{bucket}/retention-{tmp_path.name}"
    return open_service(tmp_path, shared_model(), **changes)


@pytest.fixture
def app(service):
    return create_api(service)


@pytest.fixture
def housekeeper(service, app) -> Housekeeper:
    return Housekeeper(service, app.state.timelines)


def move_clock(monkeypatch, days: float) -> None:
    """The housekeeping looks so many days later."""
    monkeypatch.setattr(cases, "now_s", lambda: time.time() + days * DAY_S)


def stored(service: ServiceComponents) -> set[str]:
    """Every file of every tenant."""
    fs, root = filesystem(service.store.root)
    fs.invalidate_cache()
    return set(fs.find(root))


def add_case(service: ServiceComponents, owner: TestClient, folder) -> str:
    """The id of a case that was sent twice and mapped, with every kind of file beside its map, and whose timeline was
    read in two formats."""
    path = write_video(folder / "case.mp4", 12.0)
    video_id = upload(owner, path)["video_id"]
    assert upload(owner, path)["video_id"] == video_id, "the bytes of the second upload are there, too"
    out = service.videos.maps_location("north", video_id)
    write_maps(out)
    for name in MADE:
        write_bytes(f"{out}/{name}", b"of a patient")
    for format in ("json", "vtt"):
        assert owner.get(f"/v1/videos/{video_id}/timeline", params={"format": format}).status_code == 200
    return video_id


def test_what_is_due_is_deleted_without_a_rest_and_a_legal_hold_holds(service, app, housekeeper, tmp_path, monkeypatch):
    before = stored(service)
    owner = TestClient(app, headers={"x-api-key": new_key(service, user="owner")})
    admin = TestClient(app, headers={"x-api-key": new_key(service, user="root", role="admin")})
    video_id = add_case(service, owner, tmp_path)
    kept = stored(service)
    assert len(kept - before) > 10 and app.state.timelines._bytes > 0

    move_clock(monkeypatch, 29)
    housekeeper.look()
    assert owner.get(f"/v1/videos/{video_id}").status_code == 200 and stored(service) == kept, "not due yet"
    assert admin.put(f"/v1/videos/{video_id}/hold", json={"legal_hold": True}).status_code == 200
    other = upload(owner, write_video(tmp_path / "other.mp4", 11.0))["video_id"]
    move_clock(monkeypatch, 31)
    housekeeper.look()
    assert owner.get(f"/v1/videos/{other}").status_code == 404, "a case that is held keeps no other one"
    assert owner.get(f"/v1/videos/{video_id}").status_code == 200 and stored(service) == kept, "held"
    assert admin.put(f"/v1/videos/{video_id}/hold", json={"legal_hold": False}).status_code == 200
    housekeeper.look()

    assert owner.get(f"/v1/videos/{video_id}").status_code == 404
    assert stored(service) == before, "neither parts nor maps, vectors, pictures, certificates"
    assert app.state.timelines._bytes == 0 and not app.state.timelines._kept, "nor in memory"
    with service.database.reading() as session:
        assert session.get(StoredVideo, ("north", video_id)) is None
    entries = admin.get("/v1/audit", params={"limit": 1000}).json()["entries"]
    ends = ("video.delete", "video.purge")
    deleted, purged = (one for one in entries if one["subject"] == video_id and one["action"] in ends)
    assert (deleted["action"], purged["action"]) == ends
    assert (deleted["actor"], deleted["detail"]["reason"]) == ("service/-", "due")
    holds = [one["detail"]["legal_hold"] for one in entries if one["action"] == "case.hold"]
    assert holds == [True, False]


def test_a_case_whose_consent_is_withdrawn_is_gone_after_seven_days_and_others_stay(
    service, app, housekeeper, tmp_path, monkeypatch
):
    before = stored(service)
    owner = TestClient(app, headers={"x-api-key": new_key(service, user="owner")})
    video_id = add_case(service, owner, tmp_path)
    other = upload(owner, write_video(tmp_path / "other.mp4", 11.0))["video_id"]
    assert owner.patch(f"/v1/videos/{video_id}/keeping", json={"consent": "withdrawn"}).status_code == 200
    move_clock(monkeypatch, 6.9)
    housekeeper.look()
    assert owner.get(f"/v1/videos/{video_id}").status_code == 200
    move_clock(monkeypatch, 7.1)
    housekeeper.look()
    assert owner.get(f"/v1/videos/{video_id}").status_code == 404
    assert [one["video_id"] for one in owner.get("/v1/videos").json()] == [other]
    left = stored(service) - before
    folders = {name.rsplit("/", 1)[0] for name in left}
    assert len(folders) == 1 and video_id not in str(left), "that of the other case's video"


def test_a_case_that_is_deleted_on_another_replica_leaves_this_ones_memory(service, app, housekeeper, tmp_path):
    with client_of(service, new_key(service, user="owner")) as elsewhere:
        here = TestClient(app, headers={"x-api-key": elsewhere.headers["x-api-key"]})
        video_id = add_case(service, here, tmp_path)
        assert elsewhere.delete(f"/v1/videos/{video_id}").status_code == 204
    assert app.state.timelines._kept
    housekeeper.look()
    assert not app.state.timelines._kept and app.state.timelines._bytes == 0
