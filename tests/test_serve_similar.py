"""The moments that look like one: in the cases that the caller may watch, with the model's row beside each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from maps import WHOLE, write_maps
from serving import client_of, new_key, open_service, shared_model, upload, write_video
from sqlalchemy import select

from halsted_ray.service.tables import AuditEntry, StoredVideo
from halsted_ray.storage.vectors import VectorStore


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("recordings")
    return [write_video(folder / f"{number}.mp4", 4.0 + number) for number in range(3)]


class Site:
    """A site with three mapped cases of two minutes: two of ada, one of bob."""

    def __init__(self, state: Path, recordings: list[Path]) -> None:
        self.service = open_service(state, shared_model(), requests_per_minute=10**6)
        self.ada, self.bob = (client_of(self.service, new_key(self.service, user=user)) for user in ("ada", "bob"))
        owners = (self.ada, self.ada, self.bob)
        self.ids = [upload(owner, path)["video_id"] for owner, path in zip(owners, recordings, strict=True)]
        for number, video_id in enumerate(self.ids):
            self.map(video_id, number)

    def map(self, video_id: str, number: int) -> None:
        """Suturing in the first minute, dissection in the second (``maps``). The vectors of each minute point in a
        direction of their own, those of suturing a little apart from case to case."""
        with self.service.database.writing() as session:
            session.get_one(StoredVideo, ("north", video_id)).duration_s = 120.0
        place = self.service.videos.maps_location("north", video_id)
        write_maps(place)
        suturing, dissection = np.array([1.0, 0.1 * number, 0.0]), np.array([0.0, 0.0, 1.0])
        vectors = {("fine", 2.5 * n, 2.5 * n + 2.5): 5.0 + (suturing if n < 24 else dissection) for n in range(48)}
        VectorStore(f"{place}/embeddings", "ab", "reference").put(WHOLE, 0.0, 120.0, vectors)

    def similar(self, client, video_id: str, query: str) -> list[dict]:
        answer = client.get(f"/v1/videos/{video_id}/similar?{query}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def looks(self) -> list[AuditEntry]:
        with self.service.database.reading() as session:
            return list(session.scalars(select(AuditEntry).where(AuditEntry.action == "timeline.read")))


@pytest.fixture
def site(tmp_path, recordings) -> Site:
    return Site(tmp_path, recordings)


def test_similar_moments_are_those_of_the_same_step_in_ones_own_cases_with_the_models_row(site):
    first, second, others = site.ids
    found = site.similar(site.ada, first, "start_s=10&stop_s=20&tag=step&limit=2")
    assert found[0]["video_id"] == second and found[0]["similarity"] > 0.9
    assert found[0]["row"] == {"tag": "step", "category": "Suturing", "start_s": 0.0, "stop_s": 60.0}
    assert others not in {moment["video_id"] for moment in found}, "the case of somebody else"
    assert [moment["row"]["category"] for moment in found].count("Suturing") == 1, "one moment per row"
    assert found[0]["similarity"] >= found[1]["similarity"]
    with client_of(site.service, new_key(site.service, user="root", role="admin")) as admin:
        assert others in {one["video_id"] for one in site.similar(admin, first, "start_s=10&stop_s=20&tag=step")}


def test_the_row_that_was_asked_about_is_no_answer(site):
    first = site.ids[0]
    found = site.similar(site.ada, first, "start_s=10&stop_s=20&tag=step&limit=50")
    assert (first, "Suturing") not in {(one["video_id"], one["row"]["category"]) for one in found}


def test_without_a_tag_the_shortest_row_is_shown(site):
    found = site.similar(site.ada, site.ids[0], "start_s=90&stop_s=100&limit=1")
    assert found[0]["video_id"] == site.ids[1] and found[0]["row"]["category"] in ("Push/Peel", "Dissection")


def test_a_case_that_is_no_longer_shared_is_looked_through_no_more(site):
    share = site.bob.post(f"/v1/videos/{site.ids[2]}/shares", json={"user": "ada", "relation": "reviewer"}).json()
    query = "start_s=10&stop_s=20&tag=step&limit=10"
    assert site.ids[2] in {one["video_id"] for one in site.similar(site.ada, site.ids[0], query)}
    look = next(entry for entry in site.looks() if entry.subject == site.ids[2])
    assert look.detail["share"] == share["share_id"] and look.detail["similar_to"] == site.ids[0]
    site.bob.delete(f"/v1/videos/{site.ids[2]}/shares/{share['share_id']}")
    assert site.ids[2] not in {one["video_id"] for one in site.similar(site.ada, site.ids[0], query)}


def test_each_case_that_is_shown_is_an_entry_of_the_audit_log_with_its_span(site):
    site.similar(site.ada, site.ids[0], "start_s=10&stop_s=20&tag=step&limit=1")
    (entry,) = site.looks()
    assert entry.subject == site.ids[1] and entry.detail["seconds"][1] <= 60.0


def test_an_accepted_moment_is_taken_by_an_ordinary_add(site):
    moment = site.similar(site.ada, site.ids[0], "start_s=10&stop_s=20&tag=step&limit=1")[0]
    take = {"op": "add", "tag": "step", "category": "Dissection", "row": moment["row"], "start_s": 0, "stop_s": 60}
    made = site.ada.post(f"/v1/videos/{moment['video_id']}/annotations", json={"revision": 0, "changes": [take]})
    assert made.json()["spans"][0]["state"] == "changed"


def test_vectors_of_another_encoder_are_left_out(site):
    place = site.service.videos.maps_location("north", site.ids[1])
    VectorStore(f"{place}/embeddings", "ffff", "reference").put(WHOLE, 0.0, 2.5, {("fine", 0.0, 2.5): np.ones(7)})
    assert site.similar(site.ada, site.ids[0], "start_s=10&stop_s=20&tag=step&limit=1")[0]["video_id"] == site.ids[1]


def test_a_case_without_vectors_and_a_span_outside_of_the_video_are_refused_in_words(site, recordings, tmp_path):
    where = f"/v1/videos/{site.ids[0]}/similar"
    refused = site.ada.get(f"{where}?start_s=200&stop_s=300")
    assert refused.status_code == 422 and "stop_s <= 120.000 s" in refused.json()["detail"]
    with site.service.database.writing() as session:
        session.get_one(StoredVideo, ("north", site.ids[0])).duration_s = 500.0
    bare = site.ada.get(f"{where}?start_s=400&stop_s=410")
    assert bare.status_code == 409 and "no stored vectors in [400, 410) s" in bare.json()["detail"]


def found(client, **asked) -> list[dict]:
    answer = client.post("/v1/search", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()["moments"]


def test_a_search_by_example_gives_what_similar_gives(site):
    first, second, others = site.ids
    moments = found(site.ada, video_id=first, at_s=15, tag="step", limit=2)
    like = site.similar(site.ada, first, "start_s=12.5&stop_s=17.5&tag=step&limit=2")
    assert moments == like and moments[0]["video_id"] == second
    assert others not in {one["video_id"] for one in moments}, "the case of somebody else"
    assert {entry.detail["similar_to"] for entry in site.looks()} == {first}


def test_a_search_finds_only_where_the_map_says_so(site):
    moments = found(site.ada, video_id=site.ids[0], at_s=15, step="Dissection", limit=50)
    assert moments and all(one["start_s"] >= 60 for one in moments)
    assert found(site.ada, video_id=site.ids[0], at_s=15, step="Dissection", procedure="Nothing") == []


def test_a_search_never_compares_the_vectors_of_a_case_that_the_caller_may_not_watch(site, monkeypatch):
    """So neither what it finds nor how long it takes depends on cases of others."""
    from halsted_ray.service import moment_cache

    places: list[str] = []
    stored = moment_cache.stored_contents
    monkeypatch.setattr(moment_cache, "stored_contents", lambda store: places.append(store.root) or stored(store))
    found(site.ada, video_id=site.ids[0], at_s=15)
    assert {one for one in site.ids if any(one in place for place in places)} == set(site.ids[:2])
    with client_of(site.service, new_key(site.service, "south", "eve")) as stranger:
        answer = stranger.post("/v1/search", json={"video_id": site.ids[0], "at_s": 15})
        assert answer.status_code == 404


def test_a_case_that_was_deleted_is_found_no_more(site):
    assert site.ids[1] in {one["video_id"] for one in found(site.ada, video_id=site.ids[0], at_s=15)}
    assert site.ada.delete(f"/v1/videos/{site.ids[1]}").status_code == 204
    assert site.ids[1] not in {one["video_id"] for one in found(site.ada, video_id=site.ids[0], at_s=15)}


def test_a_question_in_words_needs_a_model_of_the_site(site):
    refused = site.ada.post("/v1/search", json={"text": "clipping of the cystic duct"})
    assert refused.status_code == 409 and "HALSTED_SEARCH_MODEL" in refused.json()["detail"]


def test_a_model_for_words_that_can_not_be_loaded_is_said_without_its_place(site, monkeypatch):
    monkeypatch.setattr(site.service, "settings", replace(site.service.settings, search_model="/nowhere/words"))
    refused = site.ada.post("/v1/search", json={"text": "clipping of the cystic duct"})
    assert refused.status_code == 503 and "in the log" in refused.json()["detail"] and "nowhere" not in refused.text


def test_a_question_in_words_finds_the_moments_that_the_model_puts_beside_it(site):
    from halsted_ray.search.text_question import ByText, TextSearch

    class Encoder:
        """Stands for a text encoder: the words are the vector."""

        def encode(self, texts):
            return np.array([[1.0, 0.0, 0.0] if "sutur" in texts[0] else [0.0, 0.0, 1.0]], np.float32)

    site.service._words = TextSearch(ByText(identity_model()), Encoder())
    moments = found(site.ada, text="suturing", tag="step")
    assert {one["video_id"] for one in moments} == set(site.ids[:2]), "not the case of somebody else"
    assert [one["row"]["category"] for one in moments[:2]] == ["Suturing", "Suturing"]
    assert [one["row"]["category"] for one in found(site.ada, text="other", tag="step")[:2]] == ["Dissection"] * 2
    looks = [entry.detail for entry in site.looks()]
    assert {look["by"] for look in looks} == {"words"} and not any("sutur" in str(look) for look in looks)


ASKS_WRONG = [{}, {"video_id": "aa" * 8}, {"text": "a", "video_id": "aa" * 8, "at_s": 1}, {"text": ""}]


@pytest.mark.parametrize("asked", ASKS_WRONG)
def test_a_search_that_asks_nothing_or_two_things_is_refused(site, asked):
    assert site.ada.post("/v1/search", json=asked).status_code == 422


def identity_model():
    """A model that leaves vectors as they are: centred, at length 1. So words and moments share the space of the
    stored vectors."""
    import torch

    from halsted_ray.language.contrast_model import VideoTextConfig, VideoTextModel

    class Identity(VideoTextModel):
        def embed_clips(self, vectors):
            apart = np.stack([one.mean(0) for one in vectors]) - 5.0
            return (apart / np.linalg.norm(apart, axis=-1, keepdims=True)).astype(np.float32)

        def embed_text(self, text_vectors):
            return text_vectors

    torch.manual_seed(0)
    return Identity(VideoTextConfig("ab", "ab", 3, "words", "cd", 3, dim=3, hidden=8))
