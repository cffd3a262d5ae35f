"""One operation of several files over the HTTP API: one axis of time, one timeline, one table of stitches."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from case_maps import TASKS, write_map
from library_site import TENANT, add_video, caller, open_site, share
from serving import client_of, new_key
from sqlalchemy import select
from starlette.testclient import TestClient

from halsted_ray.maps.exports import COLUMNS, read_csv
from halsted_ray.service import videos
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.library_schemas import CaseTimelineShown
from halsted_ray.service.stitch_schemas import CaseStitchesShown
from halsted_ray.service.tables import AuditEntry, StoredVideo

CASE = "ca5e"


@pytest.fixture
def service(tmp_path) -> ServiceComponents:
    found = open_site(tmp_path)
    yield found
    found.database.close()


@pytest.fixture
def client(service) -> TestClient:
    """Of ada, whose files they are."""
    with client_of(service, new_key(service)) as found:
        yield found


def add_file(service: ServiceComponents, position: int, duration_s: float = 100.0, **columns) -> str:
    video_id = f"a{position}"
    add_video(service, caller(service, "ada"), video_id, CASE, position=position, duration_s=duration_s, **columns)
    return video_id


def timeline(client: TestClient) -> dict:
    answer = client.get(f"/v1/cases/{CASE}/timeline")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert CaseTimelineShown.model_validate(found).model_dump() == found, "the answer is the one that is described"
    return found


def lanes(rows: list[dict], tag: str) -> list[tuple]:
    return [(row["start_s"], row["end_s"], row["category"], row["file"]) for row in rows if row["tag"] == tag]


def test_a_row_over_the_border_of_two_files_is_one_row_of_the_case(service, client):
    """As on the batch side: the same rule over the same rows."""
    one, two = add_file(service, 1), add_file(service, 2, 50.0)
    write_map(service, one, [("step", "Dissection", 0, 60), ("step", "Suturing", 60, 100)])
    write_map(service, two, [("step", "Suturing", 0, 20), ("step", "Dissection", 20, 50)], duration_s=50.0)
    found = timeline(client)
    assert lanes(found["rows"], "step") == [
        (0.0, 60.0, "Dissection", 1),
        (60.0, 120.0, "Suturing", 1),
        (120.0, 150.0, "Dissection", 2),
    ]
    assert [row["video_id"] for row in found["rows"]] == [one, one, two]
    assert [row["file_start_s"] for row in found["rows"]] == [0.0, 60.0, 20.0]
    assert [(file["offset_s"], file["duration_s"]) for file in found["files"]] == [(0.0, 100.0), (100.0, 50.0)]
    assert client.get(f"/v1/cases/{CASE}").json()["files"] == found["files"] and found["duration_s"] == 150.0


def test_what_holds_for_the_whole_operation_is_said_once(service, client):
    """Also where a file of it says otherwise, and over a file that has no map."""
    for n in (1, 2, 3, 4):
        add_file(service, n)
    write_map(service, "a1", [], ("Prostatectomy", 0.9))
    write_map(service, "a2", [], ("Hysterectomy", 0.8))
    write_map(service, "a3", [], ("Prostatectomy", 0.7))
    (row,) = [row for row in timeline(client)["rows"] if row["tag"] == "procedure"]
    assert (row["start_s"], row["end_s"], row["category"]) == (0.0, 400.0, "Prostatectomy")
    assert row["confidence"] == pytest.approx((0.9 + 0.7) / 3, abs=1e-4), "what says otherwise counts against it"


@pytest.mark.parametrize(
    ("columns", "code"), [({}, "new"), ({"state": "cleaning"}, "cleaning"), ({"state": "failed"}, "failed")]
)
def test_a_file_without_a_map_is_a_marked_stretch_and_shifts_nothing(service, client, columns, code):
    for n in (1, 2, 3):
        add_file(service, n, **(columns if n == 2 else {}))
    write_map(service, "a1", [("step", "Suturing", 90, 100)])
    write_map(service, "a3", [("step", "Suturing", 0, 10)])
    found = timeline(client)
    assert lanes(found["rows"], "step") == [(90.0, 100.0, "Suturing", 1), (200.0, 210.0, "Suturing", 3)]
    assert lanes(found["rows"], "gap") == [(100.0, 200.0, code, 2)] * len(TASKS), "a gap for each task"
    assert [file["state"] for file in found["files"]][1] == code


def test_a_map_without_a_row_is_a_map(service, client):
    """As while the first segments of a file are published."""
    for n in (1, 2):
        add_file(service, n)
    write_map(service, "a1", [])
    write_map(service, "a2", [("step", "Suturing", 0, 10)])
    assert lanes(timeline(client)["rows"], "step") == [(100.0, 110.0, "Suturing", 2)]
    for what in ("stitches", "explanation?at_s=1"):
        assert client.get(f"/v1/cases/{CASE}/{what}").status_code == 200


def test_a_case_without_a_map_is_refused_in_words(service, client):
    add_file(service, 1)
    add_file(service, 2)
    for what in ("timeline", "stitches", "explanation?at_s=1"):
        refused = client.get(f"/v1/cases/{CASE}/{what}")
        assert refused.status_code == 404 and "no file of case 'ca5e' is mapped yet" in refused.json()["detail"]


@pytest.mark.parametrize("read", ["read_timeline", "timeline_version", "asked_tasks"])
def test_a_file_that_is_deleted_while_its_map_is_read_is_no_fault(service, client, monkeypatch, read):
    """The reader has seen the video when somebody else deletes it, and its map with it."""
    for n in (1, 2):
        add_file(service, n)
        write_map(service, f"a{n}", [("step", "Suturing", 0, 10)])
    whole = timeline(client)["rows"]
    assert {file for *_, file in lanes(whole, "step")} == {1, 2}
    original = getattr(videos, read)
    owner = caller(service, "ada")

    def deleted_first(place, *args):
        if place.endswith("a2") and service.videos.among([(TENANT, "a2")]):
            service.videos.delete(owner, "a2")
            (broken := Path(place) / "timeline" / "_delta_log").mkdir(parents=True, exist_ok=True)
            (broken / f"{0:020}.json").write_text("{")  # what a removal has left at this moment
        return original(place, *args)

    monkeypatch.setattr(videos, read, deleted_first)
    for what in ("stitches", "timeline"):
        answer = client.get(f"/v1/cases/{CASE}/{what}")
        assert answer.status_code == 200, answer.text
    assert {file for *_, file in lanes(answer.json()["rows"], "step")} == {1}
    assert client.get("/v1/videos/a2/timeline").status_code == 404


def test_of_a_file_that_is_not_shared_nothing_is_told_but_where_it_is(service, client):
    """Neither its id nor its length nor how many there are; and no row and no stitch goes on over it."""
    for n, duration_s in enumerate((100.0, 77.125, 55.0625, 50.0, 33.03125), start=1):
        add_file(service, n, duration_s)
        write_map(service, f"a{n}", [("step", "Suturing", 0, duration_s)], duration_s=duration_s)
    trainee = caller(service, "tom", "trainee")
    for video_id in ("a1", "a4"):
        share(service, video_id, trainee, "trainee")
    with client_of(service, new_key(service, user="tom", role="trainee")) as tom:
        found = timeline(tom)
        assert lanes(found["rows"], "step") == [(0.0, 100.0, "Suturing", 1), (100.0, 150.0, "Suturing", 2)]
        assert [file["after_hidden"] for file in found["files"]] == [False, True] and found["ends_hidden"]
        whole = tom.get(f"/v1/cases/{CASE}").text + str(found)
        whole += "".join(tom.get(f"/v1/cases/{CASE}/timeline?format={name}").text for name in ("csv", "vtt", "srt"))
        for told in ("a2", "a3", "a5", "77.1", "55.0", "33.0", "177.1", "155.0", "315."):
            assert f'"{told}"' not in whole and f" {told}" not in whole, told
    assert len(timeline(client)["files"]) == 5 and not timeline(client)["ends_hidden"]


def test_a_file_whose_map_may_not_be_read_is_a_gap_of_its_length(service, client):
    add_file(service, 1)
    add_file(service, 2, consent="withdrawn")
    for n in (1, 2):
        write_map(service, f"a{n}", [("step", "Suturing", 0, 100)])
    rows = timeline(client)["rows"]
    assert lanes(rows, "step") == [(0.0, 100.0, "Suturing", 1)]
    assert lanes(rows, "gap") == [(100.0, 200.0, "hidden", 2)] * len(TASKS)
    with service.database.writing() as session:
        session.get_one(StoredVideo, (TENANT, "a1")).consent = "withdrawn"
    refused = client.get(f"/v1/cases/{CASE}/timeline")
    assert (refused.status_code, refused.json()["code"]) == (403, "right-withdrawn")
    refused = client.get("/v1/videos/a1/timeline")
    assert (refused.status_code, refused.json()["code"]) == (403, "right-withdrawn"), (
        "to its owner, who can't ask anyone"
    )
    refused = client.put("/v1/videos/a1/hold", json={"legal_hold": True})
    assert refused.json()["code"] == "right", "which no owner has"


SPANS = [("phase", "Needle Handling", 90, 95), ("phase", "Driving", 95, 100)]
REST = [("phase", "Withdrawal", 0, 5), ("phase", "Driving", 20, 30)]


def test_a_stitch_goes_on_into_the_next_file_and_totals_are_of_the_case(service, client):
    add_file(service, 1)
    add_file(service, 2)
    write_map(service, "a1", SPANS)
    write_map(service, "a2", REST)
    found = client.get(f"/v1/cases/{CASE}/stitches").json()
    assert CaseStitchesShown.model_validate(found).model_dump() == found
    first, second = found["stitches"]
    assert (first["start_s"], first["stop_s"], first["withdrawal_s"], first["file"]) == (90.0, 105.0, 5.0, 1)
    assert (second["index"], second["start_s"], second["file"], second["file_start_s"]) == (2, 120.0, 2, 20.0)
    assert found["totals"]["count"] == 2 and found["complete"] and found["model_version"] == "v1"
    lines = list(csv.DictReader(io.StringIO(client.get(f"/v1/cases/{CASE}/stitches?format=csv").text, newline="")))
    assert [(line["case_id"], line["file"], line["video_id"]) for line in lines] == [
        (CASE, "1", "a1"),
        (CASE, "2", "a2"),
    ]


def test_no_stitch_goes_on_over_a_file_that_is_hidden(service, client):
    for n in (1, 2, 3):
        add_file(service, n, 100.0 if n != 2 else 1.0)
    write_map(service, "a1", SPANS)
    write_map(service, "a3", REST)
    tom = caller(service, "tom", "trainee")
    for video_id in ("a1", "a3"):
        share(service, video_id, tom, "trainee")
    with client_of(service, new_key(service, user="tom", role="trainee")) as of_tom:
        found = of_tom.get(f"/v1/cases/{CASE}/stitches").json()
    assert [(one["start_s"], one["stop_s"]) for one in found["stitches"]] == [(90.0, 100.0), (120.0, 130.0)]
    assert found["complete"] is False


def test_files_for_other_programs_have_a_column_for_the_file_and_the_time_of_the_case(service, client):
    add_file(service, 1)
    add_file(service, 2)
    for n in (1, 2):
        write_map(service, f"a{n}", [("step", "Suturing", 10, 50)], ("Prostatectomy", 0.9))
    where = f"/v1/cases/{CASE}/timeline"
    text = client.get(where, params={"format": "csv"}).text
    rows = read_csv(text)
    assert list(rows[0]) == ["case_id", "file", "file_start_s", *COLUMNS]
    assert [(row["file"], row["video_id"], row["start_s"], row["file_start_s"]) for row in rows] == [
        ("1", "a1", 0.0, "0.0"),
        ("1", "a1", 10.0, "10.0"),
        ("2", "a2", 110.0, "10.0"),
    ]
    assert "00:01:50.000 --> 00:02:30.000" in client.get(where, params={"format": "vtt"}).text
    assert client.get(where, params={"format": "vtt", "kind": "chapters"}).text.count("Suturing") == 2
    assert '"file": 2' in client.get(where, params={"format": "jsonl"}).text
    refused = client.get(where, params={"format": "dicom"})
    assert refused.status_code == 422, "reports for other systems are per file"


def test_each_file_that_is_read_is_one_entry_of_the_audit_log(service, client):
    for n in (1, 2, 3):
        add_file(service, n, consent="withdrawn" if n == 3 else "given")
    for n in (1, 2):
        write_map(service, f"a{n}", [("step", "Suturing", 0, 100)])
    etag = client.get(f"/v1/cases/{CASE}/timeline").headers["etag"]
    client.get(f"/v1/cases/{CASE}/stitches")
    with service.database.reading() as session:
        entries = session.scalars(select(AuditEntry).where(AuditEntry.action == "timeline.read")).all()
    looks = sorted((entry.subject, entry.detail.get("part", "rows"), entry.detail["case"]) for entry in entries)
    assert looks == [(one, part, CASE) for one in ("a1", "a2") for part in ("rows", "stitches")]
    assert client.get(f"/v1/cases/{CASE}/timeline", headers={"if-none-match": etag}).status_code == 304


def test_a_case_that_has_changed_is_another_text(service, client):
    """Another order, another map, another state of a file."""
    add_file(service, 1)
    add_file(service, 2, 50.0)
    write_map(service, "a1", [("step", "Suturing", 0, 100)])
    where, tags = f"/v1/cases/{CASE}/timeline", set[str]()
    tags.add(client.get(where).headers["etag"])
    write_map(service, "a2", [("step", "Dissection", 0, 50)], duration_s=50.0)
    tags.add(client.get(where).headers["etag"])
    ordered = client.post("/v1/cases", json={"video_ids": ["a2", "a1"]})
    assert ordered.status_code == 201 and [file["offset_s"] for file in ordered.json()["files"]] == [0.0, 50.0]
    tags.add(client.get(where).headers["etag"])
    assert lanes(timeline(client)["rows"], "step") == [(0.0, 50.0, "Dissection", 1), (50.0, 150.0, "Suturing", 2)]
    assert len(tags) == 3
    with service.database.reading() as session:
        actions = session.scalars(select(AuditEntry.action)).all()
    assert actions.count("case.order") == 2 and "case.group" not in actions


def test_another_tenant_and_whoever_sees_no_file_find_no_case(service, client):
    add_file(service, 1)
    write_map(service, "a1", [])
    for tenant_id, user in (("south", "eve"), (TENANT, "ben")):
        with client_of(service, new_key(service, tenant_id, user)) as other:
            for what in ("timeline", "stitches", "explanation?at_s=1"):
                assert other.get(f"/v1/cases/{CASE}/{what}").status_code == 404, (user, what)
