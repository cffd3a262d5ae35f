"""A case's annotations enter the site's atlas, models learn from them, and they leave it with the case."""

from __future__ import annotations

import numpy as np
import pytest
from serving import SPEC, client_of, new_key, open_service, shared_model, upload, write_video
from sqlalchemy import select

from halsted_ray.atlas import add_samples, read_atlas, release
from halsted_ray.atlas.atlas_table import HEAD
from halsted_ray.atlas.commits import Change, history
from halsted_ray.atlas.verify import verify
from halsted_ray.embedding.look_up import embeddings
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Clip
from halsted_ray.service.annotation_tables import AtlasEntry
from halsted_ray.service.housekeeping import Housekeeper
from halsted_ray.service.prepared_timelines import PreparedTimelines
from halsted_ray.service.tables import AuditEntry, User
from halsted_ray.taxonomy import load
from halsted_ray.training.recipe import Recipe
from halsted_ray.training.train import train


def added(start_s: float, stop_s: float, category: str, tag: str = "step") -> dict:
    return {"op": "add", "tag": tag, "category": category, "start_s": start_s, "stop_s": stop_s}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list:
    """Three recordings of 12 to 16 s. Their names are patients' names."""
    folder = tmp_path_factory.mktemp("recordings")
    return [write_video(folder / f"Jane Doe {number}.mp4", 12.0 + 2 * number) for number in range(3)]


@pytest.fixture
def site(tmp_path):
    """(service with an atlas, client of a surgeon, the atlas's place)."""
    service = open_service(tmp_path / "site", shared_model(), requests_per_minute=10**6, atlas=str(tmp_path / "atlas"))
    with client_of(service, new_key(service)) as client:
        yield service, client, str(tmp_path / "atlas")


def annotate(client, video_id: str, *changes: dict) -> None:
    seen = client.get(f"/v1/videos/{video_id}/annotations").json()["revision"]
    made = client.post(f"/v1/videos/{video_id}/annotations", json={"revision": seen, "changes": list(changes)})
    assert made.status_code == 200, made.text


def commit(client, video_id: str) -> dict:
    answer = client.post(f"/v1/videos/{video_id}/annotations/commit")
    assert answer.status_code == 200, answer.text
    return answer.json()


def user_id_of(service, name: str) -> str:
    with service.database.reading() as session:
        return session.scalar(select(User.user_id).where(User.name == name))


def samples(place: str) -> list[tuple]:
    return [(clip.start_s, clip.stop_s, clip.task, clip.tags) for clip in read_atlas(place, HEAD).clips]


def test_annotations_are_manual_samples_with_their_provenance_and_without_any_name(site, videos):
    service, client, place = site
    video_id = upload(client, videos[0])["video_id"]
    annotate(
        client,
        video_id,
        added(0, 6, "Suturing"),
        added(6, 12, "Dissection"),
        added(0, 12, "Prostatectomy", "procedure"),
        added(1, 3, "Tug", "action"),
    )
    done = commit(client, video_id)
    assert (done["samples"], done["version"], done["release"], done["disputed"]) == (3, 0, None, 0)
    assert samples(place) == [
        (0.0, 6.0, "macro", {"procedure": "Prostatectomy", "step": "Suturing"}),
        (1.0, 3.0, "micro", {"action": "Tug"}),
        (6.0, 12.0, "macro", {"procedure": "Prostatectomy", "step": "Dissection"}),
    ]
    atlas = read_atlas(place, HEAD)
    assert {(clip.source, clip.annotator, clip.confidence) for clip in atlas.clips} == {
        ("manual", user_id_of(service, "ada"), 1.0)
    }
    (entry,) = history(place)
    assert entry.action == "annotate" and entry.source == f"case {video_id} revision 4" and "unknown" in entry.why
    assert verify(atlas) == [], "ids, lengths and files are as training expects them"
    assert "ada" not in str(entry) and "Jane" not in str(atlas) and "Jane" not in str(entry)


def test_the_same_commit_again_commits_nothing_and_a_correction_replaces_what_it_corrects(site, videos):
    _, client, place = site
    video_id = upload(client, videos[0])["video_id"]
    annotate(client, video_id, added(0, 6, "Suturing"), added(6, 12, "Dissection"))
    assert commit(client, video_id)["version"] == commit(client, video_id)["version"] == 0
    spans = client.get(f"/v1/videos/{video_id}/annotations").json()["spans"]
    annotate(
        client,
        video_id,
        {"op": "change", "span_id": spans[0]["span_id"], "stop_s": 7.0},
        {"op": "change", "span_id": spans[1]["span_id"], "start_s": 7.0},
    )
    assert commit(client, video_id)["version"] == 1
    assert [(start_s, stop_s) for start_s, stop_s, *_ in samples(place)] == [(0.0, 7.0), (7.0, 12.0)]
    annotate(client, video_id, {"op": "remove", "span_id": spans[0]["span_id"]})
    commit(client, video_id)
    assert [(start_s, stop_s) for start_s, stop_s, *_ in samples(place)] == [(7.0, 12.0)], "what is removed is gone"
    assert len(history(place)) == 3, "one commit each"


def test_files_of_one_case_are_one_group_so_that_no_model_is_tested_on_what_taught_it(site, videos):
    _, client, place = site
    ids = [upload(client, path)["video_id"] for path in videos]
    grouped = client.post("/v1/cases", json={"video_ids": ids[:2]})
    assert grouped.status_code in (200, 201), grouped.text
    for video_id in ids:
        annotate(client, video_id, added(0, 6, "Suturing"))
        commit(client, video_id)
    groups = [video.group for video in sorted(read_atlas(place, HEAD).videos, key=lambda video: video.duration_s)]
    assert groups[0] == groups[1] != groups[2] and all(len(group) == 16 for group in groups)


def test_what_two_people_dispute_is_left_out_and_counted(site, videos):
    service, client, place = site
    video_id = upload(client, videos[0])["video_id"]
    annotate(client, video_id, added(0, 5, "Suturing"), added(5, 12, "Dissection"))
    with client_of(service, new_key(service, user="bob", role="annotator")) as bob:
        client.post(f"/v1/videos/{video_id}/shares", json={"user": "bob", "relation": "annotator"})
        annotate(bob, video_id, added(0, 5, "Dissection"))
    done = commit(client, video_id)
    assert (done["samples"], done["disputed"]) == (1, 2)
    assert [one[:2] for one in samples(place)] == [(5.0, 12.0)]


def test_samples_of_others_stay_and_a_models_give_way_to_a_persons(site, videos):
    _, client, place = site
    video_id = upload(client, videos[0])["video_id"]
    annotate(client, video_id, added(0, 6, "Suturing"))
    commit(client, video_id)
    name = read_atlas(place, HEAD).videos[0].video_id
    others = [
        Clip(name, 6.0, 9.0, "macro", {"step": "Dissection"}, annotator="an-expert"),
        Clip(name, 9.0, 12.0, "macro", {"step": "Dissection"}, "ai", "v1", 0.9),
    ]
    add_samples(place, others, Change("somebody", "a file"))
    annotate(client, video_id, added(10, 12, "Suturing"))
    commit(client, video_id)
    assert [one[:2] for one in samples(place)] == [(0.0, 6.0), (6.0, 9.0), (10.0, 12.0)]


def test_a_deleted_case_leaves_the_atlas_with_its_video_and_its_part_of_the_split(site, videos):
    service, client, place = site
    kept, gone = (upload(client, path)["video_id"] for path in videos[:2])
    for video_id in (kept, gone):
        annotate(client, video_id, added(0, 6, "Suturing"))
        commit(client, video_id)
    assert len(read_atlas(place, HEAD).videos) == 2
    client.delete(f"/v1/videos/{gone}")
    housekeeper = Housekeeper(service, PreparedTimelines(service.videos, load))
    housekeeper.look()
    atlas = read_atlas(place, HEAD)
    assert len(atlas.videos) == len(atlas.clips) == 1
    assert history(place)[-1].action == "withdraw" and history(place)[-1].source == f"case {gone}"
    housekeeper.look()
    assert len(history(place)) == 3, "the next look finds nothing to do"
    with service.database.reading() as session:
        assert [entry.video_id for entry in session.scalars(select(AtlasEntry))] == [kept]
        assert "annotation.withdraw" in session.scalars(select(AuditEntry.action)).all()


def test_the_same_file_of_two_tenants_stays_readable_when_one_of_them_deletes_it(site, videos):
    service, north, place = site
    with client_of(service, new_key(service, "south", "eve")) as south:
        cases = [(one, upload(one, videos[0])["video_id"]) for one in (south, north)]
        for one, video_id in cases:
            annotate(one, video_id, added(0, 6, "Suturing") if one is north else added(7, 12, "Suturing"))
            commit(one, video_id)
        assert [clip[:2] for clip in samples(place)] == [(0.0, 6.0), (7.0, 12.0)], "each keeps what it committed"
        before = read_atlas(place, HEAD).videos[0].uri
        north.delete(f"/v1/videos/{cases[1][1]}")
        assert service.atlas_entries.withdraw_due() == 1
        atlas = read_atlas(place, HEAD)
        assert [clip.start_s for clip in atlas.clips] == [7.0] and atlas.videos[0].uri != before
        assert verify(atlas) == [], "the other tenant's file is there"


def test_a_withdrawn_consent_takes_the_samples_out_and_lets_none_in(site, videos):
    service, client, place = site
    video_id = upload(client, videos[0])["video_id"]
    annotate(client, video_id, added(0, 6, "Suturing"))
    commit(client, video_id)
    client.patch(f"/v1/videos/{video_id}/keeping", json={"consent": "withdrawn"})
    assert service.atlas_entries.withdraw_due() == 1 and read_atlas(place, HEAD).clips == ()
    with client_of(service, new_key(service, user="root", role="admin")) as admin:
        refused = admin.post(f"/v1/videos/{video_id}/annotations/commit")
    assert refused.status_code == 409 and "consent is withdrawn" in refused.json()["detail"]


def test_a_case_that_can_not_be_taken_out_now_is_taken_out_later(site, videos, monkeypatch, caplog):
    service, client, place = site
    video_id = upload(client, videos[0])["video_id"]
    annotate(client, video_id, added(0, 6, "Suturing"))
    commit(client, video_id)
    client.delete(f"/v1/videos/{video_id}")
    entries = service.atlas_entries
    away = type(entries)(entries.database, entries.videos, None)
    assert away.withdraw_due() == 0 and "no longer names" in caplog.text
    assert entries.withdraw_due() == 1 and read_atlas(place, HEAD).clips == ()


def test_a_site_without_an_atlas_and_a_case_without_annotations_say_so(site, videos, tmp_path):
    service, client, _ = site
    video_id = upload(client, videos[0])["video_id"]
    empty = client.post(f"/v1/videos/{video_id}/annotations/commit")
    assert empty.status_code == 409 and "nobody has annotated this case" in empty.json()["detail"]
    service.settings = type(service.settings)(**{**vars(service.settings), "atlas": None})
    annotate(client, video_id, added(0, 6, "Suturing"))
    without = client.post(f"/v1/videos/{video_id}/annotations/commit")
    assert without.status_code == 409 and "HALSTED_ATLAS" in without.json()["detail"]


def test_a_model_is_trained_on_what_people_said_in_the_service(site, videos, tmp_path):
    """The atlas refers to the videos in the service's store; a release of it splits them, and training reads them."""
    service, client, place = site
    for path in videos:
        video_id = upload(client, path)["video_id"]
        annotate(client, video_id, added(0, 6, "Suturing"), added(6, 12, "Dissection"))
        commit(client, video_id)
    atlas = read_atlas(place, HEAD)
    names = [video.video_id for video in atlas.videos]
    release(place, "corrected", split=dict(zip(names, ("train", "validation", "test"), strict=True)))
    recipe = Recipe(epochs=1, batch_size=8, width=32, heads=2, layers=1, warmup_epochs=1, units=("clips", "grid"))
    summary = train(place, str(tmp_path / "run"), recipe, encoder="random:tiny:0", spec=SPEC)
    assert (summary.atlas_release, summary.samples["train"] > 0) == ("corrected", True)
    assert set(Halsted.load(summary.model).config.temperatures) >= {"step"}
    vectors = embeddings(place)
    assert np.isfinite(vectors.vectors_ND).all() and set(vectors.video_ids) == set(names[:2])
