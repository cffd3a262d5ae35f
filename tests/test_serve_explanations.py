"""What the map says of one moment, over the HTTP API in this process: of a video, through a link, and of a case."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from case_maps import write_map
from library_site import TENANT, add_video, caller, open_site, share
from serving import client_of, new_key, shared_service, shared_video, upload
from sqlalchemy import select
from starlette.testclient import TestClient
from sutured import write_suturing

from halsted_ray import taxonomy as taxonomies
from halsted_ray.service.explanation_schemas import CaseExplanationShown, VideoExplanationShown
from halsted_ray.service.tables import AuditEntry

CASE = "ca5e"


@pytest.fixture(scope="module")
def service():
    return shared_service()


@pytest.fixture(scope="module")
def owned(service) -> Iterator[tuple[TestClient, str, str]]:
    """A client of the owner of a case in a tenant of its own, the case's id, and where its maps lie."""
    with client_of(service, new_key(service, "explained", "owner")) as owner:
        video_id = upload(owner, shared_video())["video_id"]
        yield owner, video_id, service.videos.maps_location("explained", video_id)


@pytest.fixture
def case(owned) -> tuple[TestClient, str, str]:
    """The same, mapped."""
    write_suturing(owned[2])
    return owned


def looks_of(owner: TestClient, video_id: str) -> list[dict]:
    return owner.get(f"/v1/videos/{video_id}/looks", params={"limit": 1000}).json()


def by_name(answer) -> dict[tuple[str, str], dict]:
    assert answer.status_code == 200, answer.text
    return {(one["level"], one["about"]): one for one in answer.json()["statements"]}


def test_each_statement_rests_on_rows_of_the_timeline_by_their_number(case):
    owner, video_id, _ = case
    rows = owner.get(f"/v1/videos/{video_id}/timeline").json()["rows"]
    answer = owner.get(f"/v1/videos/{video_id}/explanation", params={"at_s": 7})
    shown = answer.json()
    assert VideoExplanationShown.model_validate(shown).model_dump(mode="json") == shown
    assert (shown["video_id"], shown["at_s"], shown["model_version"]) == (video_id, 7, "v1")
    said = by_name(answer)
    acts = said["relation", "acts"]
    assert acts["said"].startswith("Driving, anatomy Bladder–Urethra") and acts["missing"] == ["extent", "direction"]
    assert said["context", "proficiency"]["said"] == "High", "the page hides it until it is asked for"
    assert said["context", "phase next"]["said"].startswith("Withdrawal, begins in 8.0 s")
    arm = said["perception", "arm"]
    assert (arm["why"], arm["needs"], arm["said"], arm["confidence"]) == (
        "not asked",
        ["step", "Dissection"],
        None,
        None,
    )
    assert [one["category"] for one in arm["rests_on"]] == ["Suturing"], "the row that says why"
    for statement in shown["statements"]:
        for one in statement["rests_on"]:
            row = rows[one["row"] - 1]
            times = (row["start_s"], row["end_s"])
            assert times == (one["start_s"], one["stop_s"])
            assert all(row[name] == one[name] for name in ("task", "tag", "category", "confidence", "source"))


def test_a_look_is_an_entry_with_the_time_of_the_rows_that_it_shows(case):
    owner, video_id, _ = case
    owner.get(f"/v1/videos/{video_id}/explanation", params={"at_s": 17})
    last = looks_of(owner, video_id)[-1]
    assert (last["action"], last["detail"]["part"]) == ("timeline.read", "explanation")
    assert last["detail"]["seconds"] == [0.0, 40.0], "from the step's begin to its end"


@pytest.mark.parametrize("at_s", ["-1", "1e6", "nan", "inf", "now", ""])
def test_a_moment_outside_of_the_video_is_refused_in_words(case, at_s):
    owner, video_id, _ = case
    refused = owner.get(f"/v1/videos/{video_id}/explanation", params={"at_s": at_s})
    assert refused.status_code == 422 and "at_s" in refused.text
    assert refused.json()["code"] == ("moment-outside" if at_s == "1e6" else "request-invalid")


def test_a_link_to_a_part_explains_this_part_from_its_rows_alone(case):
    owner, video_id, _ = case
    before = len(looks_of(owner, video_id))
    link = owner.post(f"/v1/videos/{video_id}/links", json={"days": 1, "from_s": 4, "to_s": 7.5}).json()
    where = f"/v1/videos/{video_id}/explanation"
    with client_of(owner.app.state.components) as browser:
        assert browser.post("/session/link", json={"token": link["url"].partition("#shared=")[2]}).status_code == 200
        rows = browser.get(f"/v1/videos/{video_id}/timeline").json()["rows"]
        said = by_name(browser.get(where, params={"at_s": 6}))
        shown = [row for one in said.values() for row in one["rests_on"]]
        assert shown and all(4 <= row["start_s"] < row["stop_s"] <= 7.5 for row in shown), "cut at its ends"
        assert {row["row"] for row in shown} <= set(range(1, len(rows) + 1))
        assert said["context", "phase before"]["said"] == "Needle Handling, ended 1.0 s ago"
        assert said["context", "phase next"]["why"] == "none there", "Withdrawal begins behind the part"
        for outside in (3.9, 7.5, 8):
            refused = browser.get(where, params={"at_s": outside})
            assert refused.status_code == 403 and "this link shows 4.000 to 7.500 s" in refused.text
            assert refused.json()["code"] == "link-moment"
    looks = looks_of(owner, video_id)[before:]
    assert [one["detail"].get("link") for one in looks if one["detail"].get("part") == "explanation"] == [
        link["link_id"]
    ]
    assert [one["action"] for one in looks].count("access.refused") == 3


def test_a_link_to_the_video_alone_explains_nothing(case):
    owner, video_id, _ = case
    link = owner.post(f"/v1/videos/{video_id}/links", json={"days": 1, "shows": ["video"]}).json()
    with client_of(owner.app.state.components) as browser:
        browser.post("/session/link", json={"token": link["url"].partition("#shared=")[2]})
        assert browser.get(f"/v1/videos/{video_id}/explanation", params={"at_s": 1}).status_code == 403


def test_a_map_in_a_taxonomy_that_nobody_knows_is_refused_in_words(case):
    owner, video_id, out = case
    write_suturing(out, digest="e" * 16)
    refused = owner.get(f"/v1/videos/{video_id}/explanation", params={"at_s": 1})
    assert refused.status_code == 409 and "a taxonomy that this service has no more; map it again" in refused.text
    assert refused.json()["code"] == "map-old"


def test_what_came_before_in_a_case_may_lie_in_another_file_and_never_in_a_hidden_one(tmp_path):
    site = open_site(tmp_path)
    owner = caller(site, "ada")
    for n in (1, 2, 3):
        add_video(site, owner, f"a{n}", CASE, position=n, duration_s=100.0)
        write_map(site, f"a{n}", [("step", ("Dissection", "Suturing", "Extraction")[n - 1], 0, 100)])
    where = f"/v1/cases/{CASE}/explanation"
    with client_of(site, new_key(site)) as client:
        answer = client.get(where, params={"at_s": 150})
        assert CaseExplanationShown.model_validate(answer.json()).case_id == CASE
        said = by_name(answer)
        assert said["context", "step"]["said"] == "Suturing"
        assert said["context", "step before"]["said"] == "Dissection, ended 50.0 s ago"
        assert client.get(where, params={"at_s": 300}).status_code == 422
        client.get(where, params={"at_s": 250})
    tom = caller(site, "tom", "trainee")
    for video_id in ("a1", "a3"):
        share(site, video_id, tom, "trainee")
    with client_of(site, new_key(site, user="tom", role="trainee")) as client:
        said = by_name(client.get(where, params={"at_s": 150}))
        assert said["context", "step"]["said"] == "Extraction", "the files behind a hidden one move up"
        assert said["context", "step before"]["said"] == "Dissection, ended 50.0 s ago"
    with client_of(site, new_key(site, TENANT, "ben")) as stranger:
        assert stranger.get(where, params={"at_s": 1}).status_code == 404
    with site.database.reading() as session:
        looks = session.scalars(select(AuditEntry).where(AuditEntry.action == "timeline.read")).all()
    touched = [one.subject for one in looks if one.actor.startswith("ada")]
    assert touched == ["a1", "a2", "a3", "a2", "a3"], "the files whose rows were shown, each time"
    site.database.close()


def test_each_file_of_a_case_is_explained_in_the_taxonomy_of_its_own_map(tmp_path):
    """Also where no row but the one that is stated of the whole operation holds."""
    site = open_site(tmp_path)
    other = taxonomies.load("cholec80")
    for n in (1, 2):
        add_video(site, caller(site, "ada"), f"a{n}", CASE, position=n, duration_s=100.0)
    write_map(site, "a1", [("step", "Suturing", 0, 50)], ("Prostatectomy", 0.9))
    write_map(site, "a2", [("phase", other.tag("phase").categories[0], 0, 50)], digest=other.digest)
    with client_of(site, new_key(site)) as client:
        for at_s, taxonomy in ((25, taxonomies.load()), (75, taxonomies.load()), (125, other), (175, other)):
            told = by_name(client.get(f"/v1/cases/{CASE}/explanation", params={"at_s": at_s}))
            named = {about for _, about in told if about != "acts" and " " not in about}
            assert named == {tag.name for tag in taxonomy.tags if " " not in tag.name}, at_s
    site.database.close()


def test_a_video_without_a_map_is_no_refused_look_of_its_owner(tmp_path):
    site = open_site(tmp_path)
    add_video(site, caller(site, "ada"), "a1", CASE, duration_s=100.0)
    with client_of(site, new_key(site)) as client:
        refused = client.get("/v1/videos/a1/explanation", params={"at_s": 1})
        assert (refused.status_code, refused.json()["code"]) == (404, "not-mapped")
    with site.database.reading() as session:
        actions = session.scalars(select(AuditEntry.action)).all()
    assert "access.refused" not in actions, actions
    site.database.close()


def test_a_look_that_shows_no_map_is_at_the_case_and_at_no_second_of_a_file(tmp_path):
    """The moment lies in a file whose map the caller may not read."""
    site = open_site(tmp_path)
    for n in (1, 2, 3):
        consent = "withdrawn" if n == 2 else "given"
        add_video(site, caller(site, "ada"), f"a{n}", CASE, position=n, duration_s=100.0, consent=consent)
        write_map(site, f"a{n}", [("proficiency", "High", 0, 10)])
    with client_of(site, new_key(site)) as client:
        assert client.get(f"/v1/cases/{CASE}/explanation", params={"at_s": 150}).status_code == 200
    with site.database.reading() as session:
        looks = session.scalars(select(AuditEntry).where(AuditEntry.action == "timeline.read")).all()
    assert [(one.subject, "seconds" in one.detail) for one in looks] == [(CASE, False)]
    site.database.close()
