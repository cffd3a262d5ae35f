"""The stitches of a video over the HTTP API in this process."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from maps import write_maps
from serving import client_of, new_key, shared_service, upload, write_video
from sutured import write_suturing

from halsted_ray.maps import stitches
from halsted_ray.maps.stitch_table import STITCHES_SCHEMA
from halsted_ray.service.stitch_schemas import StitchesShown


@pytest.fixture(scope="module")
def service():
    return shared_service()


@pytest.fixture(scope="module")
def client(service):
    with client_of(service, new_key(service)) as found:
        yield found


@pytest.fixture(scope="module")
def uploaded(client, tmp_path_factory) -> str:
    """The id of an uploaded video."""
    return upload(client, write_video(Path(tmp_path_factory.mktemp("stitches")) / "video.mp4", 7.0))["video_id"]


@pytest.fixture
def where(uploaded):
    return f"/v1/videos/{uploaded}/stitches"


def test_stitches_with_totals_as_json_and_as_csv(client, service, uploaded, where):
    write_suturing(service.videos.maps_location("north", uploaded))
    answer = client.get(where)
    shown = answer.json()
    assert StitchesShown.model_validate(shown).model_dump() == shown, "the answer is the one that is described"
    assert (shown["video_id"], shown["model_version"], shown["asked"], shown["complete"]) == (
        uploaded,
        "v1",
        True,
        False,
    )
    first = shown["stitches"][0]
    assert (first["index"], first["start_s"], first["stop_s"], first["target"]) == (1, 0, 20, "Bladder–Urethra")
    assert (first["handling_s"], first["driving_s"], first["withdrawal_s"]) == (5, 10, 5)
    assert (shown["totals"]["count"], shown["totals"]["high_share"], shown["why_none"]) == (2, 0.5, "")
    table = client.get(where, params={"format": "csv"})
    assert table.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(table.text, newline="")))
    assert list(lines[0]) == STITCHES_SCHEMA.names and {line["video_id"] for line in lines} == {uploaded}


def test_stitches_are_prepared_once_per_published_map_and_have_an_etag(client, service, uploaded, where, monkeypatch):
    out = service.videos.maps_location("north", uploaded)
    write_suturing(out)
    asked: list[str] = []
    found = type(service.videos).stitches
    monkeypatch.setattr(
        type(service.videos), "stitches", lambda self, *given: asked.append(given[1]) or found(self, *given)
    )
    etag = client.get(where).headers["etag"]
    assert client.get(where, headers={"if-none-match": etag}).status_code == 304 and len(asked) == 1
    assert client.get(f"/v1/videos/{uploaded}/timeline").headers["etag"] != etag
    write_suturing(out)
    assert client.get(where, headers={"if-none-match": etag}).status_code == 200 and len(asked) == 2


@pytest.mark.parametrize(
    ("name", "value"), [("RULE_VERSION", stitches.RULE_VERSION + 1), ("RULE", stitches.StitchRule(longest_pause_s=7.0))]
)
def test_another_rule_gives_another_etag(client, service, uploaded, where, monkeypatch, name, value):
    write_suturing(service.videos.maps_location("north", uploaded))
    etag, timeline = client.get(where).headers["etag"], f"/v1/videos/{uploaded}/timeline"
    before = client.get(timeline).headers["etag"]
    monkeypatch.setattr(stitches, name, value)
    answer = client.get(where, headers={"if-none-match": etag})
    assert answer.status_code == 200 and answer.headers["etag"] != etag
    assert client.get(timeline, headers={"if-none-match": before}).status_code == 304, "the rows are the same"


def test_each_look_at_stitches_is_an_entry_of_the_audit_log(client, service, uploaded, where):
    write_suturing(service.videos.maps_location("north", uploaded))
    with client_of(service, new_key(service, "north", "otto", "auditor")) as auditor:

        def entries():
            found = auditor.get("/v1/audit", params={"limit": 1000}).json()["entries"]
            return sum(one["action"] == "timeline.read" and one["detail"].get("part") == "stitches" for one in found)

        before, etag = entries(), client.get(where).headers["etag"]
        client.get(where, headers={"if-none-match": etag})
        assert entries() == before + 2


def test_a_map_without_suturing_says_whether_it_was_asked(client, service, tmp_path):
    video_id = upload(client, write_video(tmp_path / "another.mp4", 5.0))["video_id"]
    write_maps(service.videos.maps_location("north", video_id))
    shown = client.get(f"/v1/videos/{video_id}/stitches").json()
    assert (shown["asked"], shown["stitches"], shown["why_none"]) == (False, [], "the suturing tasks were not asked")
    assert shown["totals"]["count"] == 0 and shown["totals"]["high_share"] is None


def test_a_video_without_a_map_is_refused_as_its_timeline_is(client, tmp_path):
    video_id = upload(client, write_video(tmp_path / "other.mp4", 6.0))["video_id"]
    refused = client.get(f"/v1/videos/{video_id}/stitches")
    assert refused.status_code == client.get(f"/v1/videos/{video_id}/timeline").status_code == 404
    assert "is not mapped yet; ask for a map first" in refused.text
    assert client.get("/v1/videos/ab/stitches").status_code == 404


def test_a_map_in_a_taxonomy_that_nobody_knows_is_refused_in_words(client, service, uploaded, where):
    write_suturing(service.videos.maps_location("north", uploaded), digest="e" * 16)
    refused = client.get(where)
    assert (
        refused.status_code == 409 and "a taxonomy that this service has no more; map the video again" in refused.text
    )
