"""Read-only links: what whoever has one sees, what they never see, and what ends it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from maps import write_maps
from route_table import NO_KEY, ROUTES
from serving import client_of, new_key, open_service, shared_model, shared_video, upload, write_video
from starlette.testclient import TestClient
from sutured import write_suturing

from halsted_ray import taxonomy as taxonomies
from halsted_ray.maps.table_schemas import TIMELINE_SCHEMA
from halsted_ray.service import links
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.database import now_s
from halsted_ray.service.errors import StateConflict
from halsted_ray.service.links import MAX_LINK_DAYS, MAX_LINKS
from halsted_ray.service.proficiency import hidden_tags
from halsted_ray.service.route_access import access_of_routes
from halsted_ray.service.sessions import COOKIE
from halsted_ray.service.tables import CaseLink, LinkSession, StoredVideo

RANGE = {"Range": "bytes=0-9"}


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> ServiceComponents:
    return open_service(tmp_path_factory.mktemp("site"), shared_model(), with_clips=True, requests_per_minute=10**6)


@pytest.fixture
def case(service, request) -> Iterator[tuple[TestClient, str]]:
    """A client of the owner of a mapped case in the tenant of one test, and the case's id."""
    tenant = re.sub("[^a-z0-9]+", "-", request.node.name)[-50:].strip("-")
    with client_of(service, new_key(service, tenant, "owner")) as owner:
        video_id = upload(owner, shared_video())["video_id"]
        write_maps(service.videos.maps_location(tenant, video_id))
        yield owner, video_id


def made(owner: TestClient, video_id: str, **asked: Any) -> dict[str, Any]:
    """A new link."""
    answer = owner.post(f"/v1/videos/{video_id}/links", json={"days": 1, **asked})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def token_of(link: dict[str, Any]) -> str:
    return str(link["url"].partition("#shared=")[2])


@contextmanager
def through(service: ServiceComponents, link: dict[str, Any]) -> Iterator[TestClient]:
    """A browser that has opened the link."""
    with client_of(service) as browser:
        answer = browser.post("/session/link", json={"token": token_of(link)})
        assert answer.status_code == 200, answer.text
        yield browser


def tenant_of(client: TestClient) -> str:
    """The tenant of a key."""
    with client_of(client.app.state.components) as browser:  # type: ignore[attr-defined]
        return str(browser.post("/session", json={"key": client.headers["x-api-key"]}).json()["tenant"])


def looks_of(owner: TestClient, video_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = owner.get(f"/v1/videos/{video_id}/looks", params={"limit": 1000}).json()
    return found


def test_a_link_shows_the_case_and_each_look_is_an_entry_with_the_link(service, case):
    owner, video_id = case
    link = made(owner, video_id)
    with through(service, link) as browser:
        signed_in = browser.get("/session").json()
        assert (signed_in["user"], signed_in["role"], signed_in["link"]["video_id"]) == (None, "link", video_id)
        shown = browser.get(f"/v1/videos/{video_id}").json()
        assert (shown["relations"], shown["rights"]) == (["link"], ["see", "timeline", "watch"])
        assert shown["job"] is None and shown["consent"] == "unknown" and shown["cleaning"] is None
        assert browser.get(f"/v1/videos/{video_id}/content", headers=RANGE).status_code == 206
        assert "Suturing" in browser.get(f"/v1/videos/{video_id}/timeline").text
    seen = [(one["action"], one["actor"], one["detail"].get("link")) for one in looks_of(owner, video_id)]
    me = (f"link/{link['link_id']}", link["link_id"])
    assert seen[-3:] == [("link.open", *me), ("video.read", *me), ("timeline.read", *me)]


def test_the_link_stands_in_people_with_its_end_and_its_secret_is_shown_once_and_not_kept(service, case):
    owner, video_id = case
    link = made(owner, video_id, from_s=2, to_s=5, shows=["video"])
    people = owner.get(f"/v1/videos/{video_id}/people").json()
    assert people["links"] == owner.get(f"/v1/videos/{video_id}/links").json()
    (shown,) = people["links"]
    assert {name: link[name] for name in shown} == shown and "url" not in shown
    assert (shown["created_by"], shown["from_s"], shown["to_s"], shown["shows"]) == ("owner", 2, 5, ["video"])
    with service.database.reading() as session:
        row = session.get_one(CaseLink, link["link_id"])
        assert token_of(link) not in str(vars(row)) and len(row.token_sha256) == 64


def test_no_route_but_those_that_say_so_take_a_link_and_none_that_writes(service, case):
    """Every route of the table, also about the link's own case: a refusal that is an entry of the audit log."""
    owner, video_id = case
    link = made(owner, video_id)
    open_to_links = {name for name, route in ROUTES.items() if route.takes_links}
    assert open_to_links == {one.route for one in access_of_routes() if one.takes_links}
    assert {name.split(" ")[0] for name in open_to_links} <= {"GET", "HEAD"}, "a link changes nothing"
    ids = {"video_id": video_id, "number": "1", "study_uid": "1.2.3", "key_id": "ab", "link_id": link["link_id"]}
    with through(service, link) as browser:
        browser.headers["x-csrf-token"] = browser.get("/session").json()["csrf"]
        for name, route in ROUTES.items():
            if name in open_to_links or route.permission == NO_KEY:
                continue
            method, path = name.split(" ", 1)
            path = re.sub(r"{(\w+)}", lambda found: ids.get(found[1], "ab"), path)
            answer = browser.request(method, path, json={}, headers=route.headers)
            assert answer.status_code == 403, (name, answer.text)
            assert "sign in" in answer.text, (name, answer.text)


def test_a_link_sees_no_other_case_of_its_tenant_or_of_another(service, case, tmp_path):
    owner, video_id = case
    link = made(owner, video_id)
    other_id = upload(owner, write_video(tmp_path / "other.mp4", 3.0))["video_id"]
    with client_of(service, new_key(service, "south", "eve")) as eve:
        foreign_id = upload(eve, write_video(tmp_path / "foreign.mp4", 4.0))["video_id"]
        upload(eve, shared_video())  # the same file is another tenant's own case
        assert eve.delete(f"/v1/videos/{video_id}/links/{link['link_id']}").status_code == 404
        assert eve.get(f"/v1/videos/{video_id}/links").json() == []
    with through(service, link) as browser:
        for one in (other_id, foreign_id):
            for path in ("", "/content", "/timeline"):
                assert browser.get(f"/v1/videos/{one}{path}", headers=RANGE).status_code == 404, (one, path)
        assert browser.get("/v1/videos").status_code == 403, "a link lists nothing"


def test_a_link_to_a_part_gives_no_byte_of_the_whole_file_and_the_rows_of_the_part_alone(service, case):
    owner, video_id = case
    with through(service, made(owner, video_id, from_s=2, to_s=7.5)) as browser:
        for method in ("GET", "HEAD"):
            answer = browser.request(method, f"/v1/videos/{video_id}/content", headers=RANGE)
            assert answer.status_code == 403
        assert "ask for a clip" in browser.get(f"/v1/videos/{video_id}/content", headers=RANGE).json()["detail"]
        part = browser.get(f"/v1/videos/{video_id}/timeline")
        spans = {(row["start_s"], row["end_s"]) for row in part.json()["rows"]}
        assert spans == {(2.0, 7.5)}, "cut at its ends"
        assert "Dissection" not in part.text
    whole = owner.get(f"/v1/videos/{video_id}/timeline")
    assert "Dissection" in whole.text and whole.headers["etag"] != part.headers["etag"]
    assert looks_of(owner, video_id)[-2]["detail"]["seconds"] == [2.0, 7.5]


def test_a_link_shows_only_what_it_says(service, case):
    owner, video_id = case
    with through(service, made(owner, video_id, shows=["timeline"])) as browser:
        assert browser.get(f"/v1/videos/{video_id}/content", headers=RANGE).status_code == 403
        assert browser.get(f"/v1/videos/{video_id}/timeline").status_code == 200
    with through(service, made(owner, video_id, shows=["video"])) as browser:
        assert browser.get(f"/v1/videos/{video_id}/content", headers=RANGE).status_code == 206
        assert browser.get(f"/v1/videos/{video_id}/timeline").status_code == 403


def test_a_link_shows_proficiency_only_where_its_maker_included_it(service, case):
    """The form of the page promises the map; how well a surgeon did something is another thing."""
    owner, video_id = case
    write_suturing(service.videos.maps_location(tenant_of(owner), video_id))
    own = owner.get(f"/v1/videos/{video_id}/timeline").json()["rows"]
    assert "proficiency" in {row["tag"] for row in own}
    for shows in (["timeline"], ["video", "timeline"], ["timeline", "proficiency"]):
        may_know = "proficiency" in shows
        with through(service, made(owner, video_id, shows=shows)) as browser:
            for format in ("json", "jsonl", "csv", "vtt", "srt"):
                for kind in ("captions", "metadata", "chapters"):
                    query = f"timeline?format={format}&kind={kind}"
                    text = browser.get(f"/v1/videos/{video_id}/{query}").text.lower()
                    of_owner = owner.get(f"/v1/videos/{video_id}/{query}").text.lower()
                    assert "driving" in text or "driving" not in of_owner, "the phases stay"
                    is_told = "high" in text or "low" in text or "proficiency,ai" in text
                    assert is_told <= may_know, f"{shows} as {format} ({kind})"
            assert browser.get(f"/v1/videos/{video_id}/stitches").status_code in (403, 404)
            moment = browser.get(f"/v1/videos/{video_id}/explanation", params={"at_s": 7})
            statements = moment.json()["statements"]
            named = {row["tag"] for one in statements for row in one["rests_on"]} | {one["about"] for one in statements}
            assert "phase" in named and ("proficiency" in named) is may_know
            tags = [one["tag"] for one in browser.get("/session").json()["link"]["tags"]]
            assert ("proficiency" in tags) is may_know and tags[0] == "specialty"
            rows = browser.get(f"/v1/videos/{video_id}/timeline").json()["rows"]
            assert rows == [row for row in own if may_know or row["tag"] != "proficiency"]
    refused = owner.post(f"/v1/videos/{video_id}/links", json={"days": 1, "shows": ["video", "proficiency"]})
    assert (refused.status_code, refused.json()["code"]) == (422, "link-proficiency")


def test_a_link_hides_proficiency_by_the_taxonomy_of_the_map_and_refuses_a_map_whose_taxonomy_is_gone():
    """The site serves another model than that of the map, whose tag has a name of its own."""
    shipped = taxonomies.load()
    own = replace(
        shipped,
        name="own",
        tasks=tuple(
            replace(task, tags=tuple(replace(tag, name=tag.name.replace("proficiency", "skill")) for tag in task.tags))
            for task in shipped.tasks
        ),
        stitch=replace(shipped.stitch, proficiency="skill"),
    )
    rows = [
        {"video_id": "v", "uri": "", "start_s": 0.0, "stop_s": 9.0, "task": "proficiency", "tag": tag}
        | {"category": category, "confidence": 0.9, "source": "ai", "taxonomy_digest": own.digest}
        for tag, category in (("phase", "Driving"), ("skill", "High"))
    ]
    timeline = pa.Table.from_pylist(rows, schema=TIMELINE_SCHEMA)
    assert hidden_tags(timeline, lambda: own) == {"proficiency", "skill"}
    with pytest.raises(StateConflict, match="a taxonomy that this service has no more"):
        hidden_tags(timeline, lambda: shipped)
    shipped_rows = timeline.set_column(
        timeline.schema.get_field_index("taxonomy_digest"), "taxonomy_digest", pa.array([shipped.digest] * 2)
    )
    assert hidden_tags(shipped_rows, pytest.fail) == {"proficiency"}, "no model is asked"


def test_a_link_tells_its_tags_in_the_order_of_the_taxonomy_and_one_without_a_map_none(service, case):
    owner, video_id = case
    taxonomy = service.model_source().taxonomy
    with through(service, made(owner, video_id)) as browser:
        told = {one["tag"]: tuple(one["categories"]) for one in browser.get("/session").json()["link"]["tags"]}
    assert list(told.items()) == [(tag.name, tag.categories) for tag in taxonomy.tags if tag.name != "proficiency"]
    with through(service, made(owner, video_id, shows=["video"])) as browser:
        assert browser.get("/session").json()["link"]["tags"] == []


@pytest.mark.parametrize("how", ["revoked", "expired", "deleted", "withdrawn", "held"])
def test_a_link_ends_at_once_when_it_is_revoked_or_expires_or_its_case_is_hidden_or_deleted(service, case, how):
    owner, video_id = case
    link = made(owner, video_id)
    where = f"/v1/videos/{video_id}"
    with through(service, link) as browser:
        assert browser.get(f"{where}/content", headers=RANGE).status_code == 206
        with service.database.writing() as session:
            row = session.get_one(CaseLink, link["link_id"])
            video = session.get_one(StoredVideo, (row.tenant_id, video_id))
            if how == "expired":
                row.expires_s = now_s() - 1
            elif how == "held":
                video.legal_hold = True
        if how == "revoked":
            assert owner.delete(f"{where}/links/{link['link_id']}").status_code == 204
        elif how == "deleted":
            assert owner.delete(where).status_code == 204
        elif how == "withdrawn":
            assert owner.patch(f"{where}/keeping", json={"consent": "withdrawn"}).status_code == 200
        for path in ("", "/content", "/timeline"):
            assert browser.get(f"{where}{path}", headers=RANGE).status_code == 401, path
        assert browser.get("/session").json()["role"] is None
        again = browser.post("/session/link", json={"token": token_of(link)})
        assert again.status_code == 401 and "ask whoever sent it" in again.json()["detail"]
        if how in ("withdrawn", "held"):
            refused = owner.post(f"{where}/links", json={"days": 1})
            assert refused.status_code == 409 and "would show nothing" in refused.json()["detail"]
        if how == "held":
            with service.database.writing() as session:
                session.get_one(StoredVideo, (row.tenant_id, video_id)).legal_hold = False
            assert browser.get(f"{where}/content", headers=RANGE).status_code == 206, "the link itself has not ended"
        if how == "deleted":
            with service.database.reading() as session:
                assert session.get(CaseLink, link["link_id"]) is None
                assert session.query(LinkSession).filter_by(link_id=link["link_id"]).count() == 0


def test_a_session_of_a_link_lasts_no_longer_than_the_link_and_ends_by_signing_out(service, case):
    owner, video_id = case
    link = made(owner, video_id, days=1 / 86_400 * 100)
    with through(service, link) as browser:
        with service.database.reading() as session:
            (row,) = session.query(LinkSession).filter_by(link_id=link["link_id"])
            assert row.expires_s == pytest.approx(link["expires_s"]) and row.expires_s < now_s() + 101
        assert browser.delete("/session").status_code == 403, "also a link's session needs its token to end"
        csrf = browser.get("/session").json()["csrf"]
        cookie = browser.cookies[COOKIE]
        assert browser.delete("/session", headers={"x-csrf-token": csrf}).status_code == 204
        browser.cookies.set(COOKIE, cookie)
        assert browser.get(f"/v1/videos/{video_id}").status_code == 401


def test_guessing_a_link_is_refused_noted_and_bounded_by_the_rate_limit(tmp_path):
    slow = open_service(tmp_path, shared_model(), requests_per_minute=5)
    with client_of(slow) as browser:
        answers = [browser.post("/session/link", json={"token": f"guess-{n}"}) for n in range(8)]
    statuses = [answer.status_code for answer in answers]
    assert statuses == [401] * 5 + [429] * 3 and int(answers[-1].headers["retry-after"]) > 0
    with slow.database.reading() as session:
        assert links.use_by_token(session, "") is None


def test_a_link_that_could_not_be_right_is_refused_in_words(service, case):
    owner, video_id = case
    where = f"/v1/videos/{video_id}/links"
    for wrong in ({"days": MAX_LINK_DAYS + 1}, {"days": 0}, {"days": 1, "shows": []}, {"days": 1, "shows": ["people"]}):
        assert owner.post(where, json=wrong).status_code == 422, wrong
    for part in ({"from_s": 5, "to_s": 5}, {"from_s": 11, "to_s": 13}, {"from_s": 13}):
        answer = owner.post(where, json={"days": 1, **part})
        assert answer.status_code == 422 and "12.000 s that the video lasts" in answer.json()["detail"], part
    assert owner.post(where, json={"days": 1, "from_s": 5}).json()["to_s"] == 12.0
    with service.database.writing() as session:
        session.get_one(StoredVideo, (tenant_of(owner), video_id)).state = "review"
    answer = owner.post(where, json={"days": 1})
    assert answer.status_code == 409 and "must have been accepted" in answer.json()["detail"]


def test_a_case_has_a_bounded_number_of_links_that_run(service, case, monkeypatch):
    owner, video_id = case
    assert MAX_LINKS == 100
    monkeypatch.setattr(links, "MAX_LINKS", 2)
    first, _ = made(owner, video_id), made(owner, video_id)
    answer = owner.post(f"/v1/videos/{video_id}/links", json={"days": 1})
    assert answer.status_code == 409 and "end one of them first" in answer.json()["detail"]
    owner.delete(f"/v1/videos/{video_id}/links/{first['link_id']}")
    made(owner, video_id)
    assert owner.delete(f"/v1/videos/{video_id}/links/{first['link_id']}").status_code == 404
