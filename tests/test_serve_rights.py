"""Who may do what: every route of the API with every relation to a case, and people, shares, consent, retention."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from maps import write_maps
from serving import client_of, new_key, open_service, shared_model, shared_video, upload
from sqlalchemy import select

from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.database import now_s
from halsted_ray.service.object_store import S3Store
from halsted_ray.service.tables import Share, StoredVideo, User

VIEW = {"see", "watch", "timeline", "comment"}
MAY = {
    "owner": VIEW | {"map", "annotate", "people", "looks", "share", "keep", "delete"},
    "surgeon": VIEW | {"map", "annotate", "people"},
    "trainee": VIEW | {"people"},
    "reviewer": VIEW,
    "annotator": VIEW | {"annotate"},
    "admin": VIEW | {"map", "annotate", "people", "looks", "share", "keep", "delete", "hold", "own", "identity"},
    "auditor": {"people", "looks"},
    "stranger": set(),
    "expired": set(),
    "monitor": set(),
}
"""Who → their rights to the case, written down a second time."""
ROUTES = {
    "GET /v1/videos/{video_id}": "see",
    "GET /v1/videos/{video_id}/content": "watch",
    "GET /v1/videos/{video_id}/clip": "watch",
    "GET /v1/videos/{video_id}/poster": "watch",
    "POST /v1/videos/{video_id}/proxy": "watch",
    "GET /v1/videos/{video_id}/certificate": "see",
    "POST /v1/videos/{video_id}/certificate/accept": "map",
    "GET /v1/videos/{video_id}/stitches": "timeline",
    "GET /v1/videos/{video_id}/timeline": "timeline",
    "GET /v1/videos/{video_id}/explanation": "timeline",
    "GET /v1/videos/{video_id}/maps": "see",
    "POST /v1/videos/{video_id}/maps": "map",
    "GET /v1/videos/{video_id}/people": "people",
    "GET /v1/videos/{video_id}/looks": "looks",
    "GET /v1/videos/{video_id}/identity": "identity",
    "POST /v1/videos/{video_id}/links": "share",
    "GET /v1/videos/{video_id}/links": "share",
    "DELETE /v1/videos/{video_id}/links/{link_id}": "share",
    "POST /v1/videos/{video_id}/shares": "share",
    "DELETE /v1/videos/{video_id}/shares/{share_id}": "share",
    "PUT /v1/videos/{video_id}/owner": "own",
    "PATCH /v1/videos/{video_id}/keeping": "keep",
    "PUT /v1/videos/{video_id}/hold": "hold",
    "DELETE /v1/videos/{video_id}": "delete",
    "GET /v1/videos/{video_id}/annotations": "timeline",
    "POST /v1/videos/{video_id}/annotations": "annotate",
    "GET /v1/videos/{video_id}/annotations/history": "timeline",
    "GET /v1/videos/{video_id}/annotations/agreement": "timeline",
    "GET /v1/videos/{video_id}/annotations/timeline": "timeline",
    "POST /v1/videos/{video_id}/annotations/commit": "annotate",
    "GET /v1/videos/{video_id}/similar": "watch",
    "GET /v1/videos/{video_id}/comments": "comment",
    "POST /v1/videos/{video_id}/comments": "comment",
    "DELETE /v1/videos/{video_id}/comments/{comment_id}": "comment",
    "GET /v1/jobs/{job_id}": "see",
    "GET /v1/jobs/{job_id}/events": "see",
    "POST /v1/jobs/{job_id}/cancel": "map",
}
"""Route → the right that it needs. DELETE of the case is asked of those who may not have it only."""


@pytest.fixture
def service(tmp_path) -> ServiceComponents:
    return open_service(tmp_path, shared_model(), with_clips=True, requests_per_minute=10**6)


@pytest.fixture
def video_id(service) -> str:
    """A mapped case of the surgeon ``owner`` that is shared with one user per relation, for one already over."""
    with client_of(service, new_key(service, user="owner")) as owner:
        found = upload(owner, shared_video())["video_id"]
        write_maps(service.videos.maps_location("north", found))
        for relation in ("surgeon", "trainee", "reviewer", "annotator"):
            new_key(service, user=relation, role=relation)
            made = owner.post(f"/v1/videos/{found}/shares", json={"user": relation, "relation": relation})
            assert made.status_code == 201, made.text
        new_key(service, user="expired")
        share_id = owner.post(f"/v1/videos/{found}/shares", json={"user": "expired", "relation": "trainee"}).json()[
            "share_id"
        ]
    with service.database.writing() as session:
        session.get_one(Share, share_id).expires_s = now_s() - 1
    return found


def client_as(service, who: str):
    roles = {"owner": "surgeon", "stranger": "surgeon", "expired": "surgeon"}
    return client_of(service, new_key(service, user=who, role=roles.get(who, who)))


def test_every_route_with_every_relation_and_role(service, video_id):
    with client_as(service, "owner") as owner:
        job_id = owner.post(f"/v1/videos/{video_id}/maps", json={}).json()["job_id"]
        owner.post(f"/v1/jobs/{job_id}/cancel")
        described = owner.get("/openapi.json").json()["paths"]
    about_cases = {
        f"{method.upper()} {path}"
        for path, methods in described.items()
        for method in methods
        if re.search("{video_id}|{job_id}", path)
    }
    assert about_cases == set(ROUTES), "each route about a case is in the table"
    ids = {"video_id": video_id, "job_id": job_id, "share_id": "ab", "comment_id": "ab", "link_id": "ab"}
    for who, rights in MAY.items():
        with client_as(service, who) as client:
            for route, right in ROUTES.items():
                method, path = route.split(" ")
                if right in rights and method == "DELETE" and path.endswith("{video_id}"):
                    continue
                more = {"headers": {"Range": "bytes=0-9"}} if path.endswith("content") else {}
                if path.endswith("clip"):
                    more["params"] = {"start_s": 0, "stop_s": 1}
                if method in ("POST", "PUT", "PATCH"):
                    more["json"] = {"user": "nobody-of-this-name", "relation": "trainee", "legal_hold": False}
                status = client.request(method, path.format(**ids), **more).status_code
                if right not in rights:
                    assert status in (403, 404), (who, route, status)
                elif not path.endswith(("{share_id}", "{comment_id}", "{link_id}")):
                    assert status not in (401, 403, 404), (who, route, status)
            shown = (
                [video["video_id"] for video in client.get("/v1/videos").json() if isinstance(video, dict)]
                if (client.get("/v1/videos").status_code == 200)
                else []
            )
            assert (video_id in shown) == ("see" in rights and who != "auditor"), who
            asked = {"instruction": "map procedure type", "video_id": video_id, "stop_s": 2}
            assert (client.post("/v1/clips:map", json=asked).status_code == 200) == ("watch" in rights), who
            by_place = {"instruction": "map procedure type", "uri": _place(service, video_id), "stop_s": 2}
            assert (client.post("/v1/clips:map", json=by_place).status_code == 200) == ("watch" in rights), who


def test_a_case_is_known_by_its_place_also_where_the_way_to_the_store_holds_the_tenants_name(tmp_path):
    """Such as the tenant ``hospital`` in ``s3://hospital/service``, or a root behind a link."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "north").symlink_to(tmp_path / "disk")
    service = open_service(tmp_path / "north" / "north", shared_model(), with_clips=True)
    with client_as(service, "owner") as owner:
        uri = _place(service, upload(owner, shared_video())["video_id"])
        inbox = tmp_path / "disk" / "north" / "store" / "north" / "inbox"
        inbox.mkdir()
        (inbox / "clip.mp4").write_bytes(shared_video().read_bytes())
        (inbox / "link.mp4").symlink_to(inbox.parent / uri)
        asked = {"instruction": "map procedure type", "stop_s": 2}
        for path, expected in ((uri, 404), ("inbox/link.mp4", 404), ("inbox/clip.mp4", 200)):
            for own in ("", f"{tmp_path}/north/north/store/north/"):
                with client_as(service, "stranger") as stranger:
                    answer = stranger.post("/v1/clips:map", json={**asked, "uri": f"{own}{path}"})
                    assert answer.status_code == expected, (own, path, answer.text)
                assert owner.post("/v1/clips:map", json={**asked, "uri": f"{own}{path}"}).status_code == 200
    cloud = S3Store("s3://north/service/")
    assert cloud.place_of("north", cloud.location("north", "videos/ab/video.mp4")) == "videos/ab/video.mp4"


def _place(service, video_id: str) -> str:
    return service.videos.get("north", video_id).place


def test_an_upload_belongs_to_who_began_it(service):
    with client_as(service, "owner") as owner, client_as(service, "stranger") as other:
        where = f"/v1/uploads/{owner.post('/v1/uploads', json={}).json()['upload_id']}"
        assert owner.put(f"{where}/parts/1", content=b"x").status_code == 200
        assert other.get(where).status_code == other.put(f"{where}/parts/1", content=b"x").status_code == 404
        assert other.post(f"{where}/complete").status_code == other.delete(where).status_code == 404


def test_whoever_has_the_same_file_takes_part_in_the_case(service, video_id):
    with client_as(service, "stranger") as other:
        assert upload(other, shared_video())["video_id"] == video_id
        assert other.get(f"/v1/videos/{video_id}").json()["relations"] == ["surgeon"]
        assert other.delete(f"/v1/videos/{video_id}").status_code == 403


def test_a_share_ends_when_the_owner_ends_it_and_the_log_says_so(service, video_id):
    with client_as(service, "owner") as owner, client_as(service, "trainee") as trainee:
        people = owner.get(f"/v1/videos/{video_id}/people").json()
        assert people["owner"] == "owner" and len(people["shares"]) == 4, "the expired one is not shown"
        share_id = next(one["share_id"] for one in people["shares"] if one["user"] == "trainee")
        assert trainee.get(f"/v1/videos/{video_id}").status_code == 200
        assert owner.delete(f"/v1/videos/{video_id}/shares/{share_id}").status_code == 204
        assert trainee.get(f"/v1/videos/{video_id}").status_code == 404
        looks = owner.get(f"/v1/videos/{video_id}/looks", params={"limit": 1000}).json()
    assert [(one["action"], one["actor"].split("/")[0]) for one in looks[-2:]] == [
        ("share.end", "owner"),
        ("access.refused", "trainee"),
    ]
    for user, role in (("an-auditor", "auditor"), ("a-monitor", "monitor")):
        new_key(service, user=user, role=role)
        with client_as(service, "owner") as owner:
            asked = owner.post(f"/v1/videos/{video_id}/shares", json={"user": user, "relation": "trainee"})
        assert asked.status_code == 422 and "sees no case" in asked.json()["detail"]


def test_a_case_is_deleted_when_its_time_has_come_unless_it_is_under_a_legal_hold(service, video_id):
    with client_as(service, "admin") as admin, client_as(service, "owner") as owner:
        assert owner.put(f"/v1/videos/{video_id}/hold", json={"legal_hold": True}).status_code == 403
        assert admin.put(f"/v1/videos/{video_id}/hold", json={"legal_hold": True}).status_code == 200
        assert owner.delete(f"/v1/videos/{video_id}").status_code == 409
        with service.database.writing() as session:
            session.get_one(StoredVideo, ("north", video_id)).keep_until_s = now_s() - 1
        assert service.cases.delete_due() == 0 and owner.get(f"/v1/videos/{video_id}").status_code == 200
        admin.put(f"/v1/videos/{video_id}/hold", json={"legal_hold": False})
        assert service.cases.delete_due() == 1 and owner.get(f"/v1/videos/{video_id}").status_code == 404
        entries = admin.get("/v1/audit", params={"limit": 1000}).json()["entries"]
    deleted = [entry for entry in entries if entry["action"] == "video.delete"]
    assert [(one["actor"], one["detail"]["reason"]) for one in deleted] == [("service/-", "due")]


def test_a_withdrawn_consent_hides_the_case_and_deletes_it_after_some_days(service, video_id):
    where = f"/v1/videos/{video_id}"
    with client_as(service, "admin") as admin, client_as(service, "owner") as owner:
        kept = owner.patch(f"{where}/keeping", json={"consent": "withdrawn"}).json()
        assert kept["keep_until_s"] == pytest.approx(now_s() + 7 * 86_400, abs=60)
        span = {"Range": "bytes=0-9"}
        assert owner.get(f"{where}/content", headers=span).status_code == 403
        assert owner.get(f"{where}/timeline").status_code == 403
        assert admin.get(f"{where}/content", headers=span).status_code == 206
        assert owner.patch(f"{where}/keeping", json={"keep_until_s": now_s() + 1e9}).status_code == 409
        assert owner.patch(f"{where}/keeping", json={"consent": "given"}).json()["keep_until_s"] is None
        assert owner.get(f"{where}/content", headers=span).status_code == 206


def test_a_new_case_is_kept_as_long_as_the_site_says(service):
    service.uploads = replace(service.uploads, rules=replace(service.uploads.rules, retention_days=30.0))
    with client_as(service, "owner") as owner:
        assert upload(owner, shared_video())["keep_until_s"] == pytest.approx(now_s() + 30 * 86_400, abs=60)


def test_a_case_without_a_known_owner_is_seen_as_before_and_deleted_by_administrators_only(service, video_id):
    with service.database.writing() as session:
        session.get_one(StoredVideo, ("north", video_id)).owner_id = None
    where = f"/v1/videos/{video_id}"
    with client_as(service, "stranger") as other, client_as(service, "admin") as admin:
        assert other.get(where).status_code == 200 and other.delete(where).status_code == 403
        assert admin.put(f"{where}/owner", json={"user": "owner"}).status_code == 204
        assert other.get(where).status_code == 404
    with service.database.reading() as session:
        owner = session.scalar(select(User).where(User.name == "owner"))
        assert session.get_one(StoredVideo, ("north", video_id)).owner_id == owner.user_id
