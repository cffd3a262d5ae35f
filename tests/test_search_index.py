"""The index of moments finds what an exact search finds; it follows the store, whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from maps import PARTIAL, WHOLE, write_maps

from halsted_ray.errors import ModelError, UsageError
from halsted_ray.search import archive_search, index_build, index_builder
from halsted_ray.search.archive_search import search_by_example
from halsted_ray.search.index_build import check, refresh
from halsted_ray.search.index_builder import ByExample
from halsted_ray.search.index_manifest import index_place, read_manifest
from halsted_ray.search.index_search import FoundMoment, MomentIndex, nearest_of
from halsted_ray.search.moments import moments_of, unit
from halsted_ray.search.results import distinct
from halsted_ray.storage.vector_files import VideoVectors
from halsted_ray.storage.vectors import VectorStore

ENCODER = "0123456789abcdef"
DIM = 24


def put_video(store: VectorStore, video_id: str, seed: int, windows: int = 400) -> None:
    """A video whose scenes change every 50 s: windows of a scene lie near each other, and every video has the same few
    scenes."""
    rng = np.random.default_rng(seed)
    scenes = np.random.default_rng(0).normal(size=(40, DIM))
    scene = np.repeat(rng.integers(0, 40, windows // 20), 20)
    drift = np.repeat(rng.normal(size=(windows // 20, DIM)) * 0.4, 20, axis=0)
    vectors = 3.0 + scenes[scene] + drift + rng.normal(size=(windows, DIM)) * 0.2
    keys = [("fine", 2.5 * n, 2.5 * n + 2.5) for n in range(windows)]
    store.put(video_id, 0.0, 2.5 * windows, dict(zip(keys, vectors, strict=True)))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Thirty videos, 6,000 moments."""
    place = tmp_path_factory.mktemp("written")
    made = VectorStore(str(place), ENCODER, "reference")
    for number in range(30):
        put_video(made, f"{number:02}" * 8, number)
    made.pack()
    return place


@pytest.fixture
def store(written: Path, tmp_path: Path) -> VectorStore:
    """A copy of ``written`` to change."""
    shutil.copytree(written, tmp_path / "maps/embeddings")
    return VectorStore(str(tmp_path / "maps/embeddings"), ENCODER, "reference")


@pytest.fixture
def many_lists(monkeypatch) -> None:
    """So small parts and lists that 6,000 moments have many of them."""
    monkeypatch.setattr(index_builder, "ROWS_A_LIST", 60)
    monkeypatch.setattr(index_builder, "CHUNK_ROWS", 1500)


def exact(store: VectorStore, query_D: np.ndarray, mean_D: np.ndarray, count: int) -> list[FoundMoment]:
    return nearest_of((moments_of(found) for found in store.read_videos()), mean_D, query_D, count)


def spots(found: list[FoundMoment]) -> set[tuple[str, float]]:
    return {(one.video_id, one.start_s) for one in found}


def test_the_index_finds_nineteen_of_twenty_of_what_an_exact_search_finds(store, many_lists):
    pytest.importorskip("faiss")
    done = refresh(store, ByExample())
    assert (done.videos, done.moments, done.made_anew) == (30, 6000, True)
    with MomentIndex.opened(store, "like") as index:
        assert index.manifest.lists == 100 and len(index.manifest.parts) == 1
        mean_D, hits = index.manifest.mean_D, 0
        asked = [moments_of(found) for found in store.read_videos(["07" * 8, "21" * 8])]
        queries = [unit(of.vectors_MD[row] - mean_D) for of in asked for row in range(0, 200, 10)]
        for query_D in queries:
            hits += len(spots(index.nearest(query_D, 10)) & spots(exact(store, query_D, mean_D, 10)))
        assert hits / (10 * len(queries)) >= 0.95


def test_a_moment_finds_itself_with_its_times_and_a_cosine_of_one(store):
    refresh(store, ByExample())
    with MomentIndex.opened(store, "like") as index:
        (moments,) = (moments_of(found) for found in store.read_videos(["11" * 8]))
        best = index.nearest(unit(moments.vectors_MD[30] - index.manifest.mean_D), 1)[0]
    assert (best.video_id, best.start_s, best.stop_s) == ("11" * 8, 150.0, 155.0)
    assert best.similarity == pytest.approx(1.0, abs=0.005)


def test_a_new_video_comes_into_the_index_without_the_others_being_read(store, monkeypatch):
    refresh(store, ByExample())
    put_video(store, "ff" * 8, 99)
    read: list[str] = []
    reads = VectorStore.read_videos
    monkeypatch.setattr(
        VectorStore, "read_videos", lambda self, ids=None, **more: read.extend(ids) or reads(self, ids, **more)
    )
    done = refresh(store, ByExample())
    assert (done.added, done.removed, done.made_anew, done.videos) == (1, 0, False, 31)
    assert read == ["ff" * 8]
    assert refresh(store, ByExample()).added == 0


def test_a_deleted_video_leaves_the_results_at_once_and_the_files_at_the_next_refresh(store):
    refresh(store, ByExample())
    gone = "05" * 8
    out = store.location.removesuffix("/embeddings")
    assert gone in {one.video_id for one in search_by_example(out, "04" * 8, 20.0, 300).results}
    store.remove([gone])
    assert gone not in {one.video_id for one in search_by_example(out, "04" * 8, 20.0, 300).results}
    done = refresh(store, ByExample())
    assert (done.added, done.removed, done.moments) == (0, 1, 29 * 200)
    place = Path(index_place(store, "like"))
    assert gone not in (place / "index.json").read_text()
    assert len(list(place.glob("*.part.arrow"))) == 1, "the file that held it is gone"


def test_a_video_that_was_encoded_anew_replaces_its_moments(store):
    refresh(store, ByExample())
    store.remove(["03" * 8])
    put_video(store, "03" * 8, 1234, windows=200)
    done = refresh(store, ByExample())
    assert (done.added, done.removed, done.moments) == (1, 0, 29 * 200 + 100)


def test_many_small_parts_become_one(store, monkeypatch):
    monkeypatch.setattr(index_builder, "MOST_PARTS", 2)
    refresh(store, ByExample())
    for number in range(40, 42):
        put_video(store, f"{number}" * 8, number)
        refresh(store, ByExample())
    manifest = read_manifest(store, "like")
    assert len(manifest.parts) == 1 and manifest.rows == 32 * 200
    assert check(store, "like") == 2


def test_a_refresh_that_is_interrupted_leaves_the_index_of_before(store, monkeypatch):
    refresh(store, ByExample())
    before = read_manifest(store, "like")
    put_video(store, "ff" * 8, 99)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(index_build, "write_manifest", stop)
    with pytest.raises(KeyboardInterrupt):
        refresh(store, ByExample())
    monkeypatch.undo()
    assert read_manifest(store, "like") == before
    with MomentIndex.opened(store, "like") as index:
        assert len(index.nearest(np.ones(DIM, np.float32), 5)) == 5
    place = Path(index_place(store, "like"))
    (place / ".work-killed").mkdir()  # as a process leaves it that was killed by force
    refresh(store, ByExample())
    assert not list(place.glob(".work-*"))
    files = {path.name for path in place.iterdir() if path.is_file()}
    assert files == {"index.json", *read_manifest(store, "like").files()}, "nothing unfinished is left"


def test_an_index_of_another_encoder_is_refused(store):
    refresh(store, ByExample())
    other = VectorStore(store.location, "ffffffffffffffff", "reference")
    put_video(other, "aa" * 8, 1)
    Path(index_place(other, "like")).parent.mkdir(parents=True)
    Path(index_place(store, "like")).rename(index_place(other, "like"))
    with pytest.raises(ModelError, match="of encoder 0123456789abcdef .* expected ffffffffffffffff"):
        MomentIndex.opened(other, "like")


def test_a_file_that_was_damaged_is_refused_with_what_to_do(store):
    refresh(store, ByExample())
    (part,) = Path(index_place(store, "like")).glob("*.part.arrow")
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 0xFF
    part.write_bytes(data)
    with pytest.raises(ModelError, match="other content than its manifest says"):
        check(store, "like")
    part.write_bytes(data[:-100])
    with pytest.raises(ModelError, match="can't be read .* bytes, expected .* delete the folder .search"):
        MomentIndex.opened(store, "like")


def test_a_manifest_can_name_no_file_outside_of_its_folder(store):
    refresh(store, ByExample())
    path = Path(index_place(store, "like")) / "index.json"
    stated = json.loads(path.read_text())
    path.write_text(json.dumps({**stated, "centres": "../../../../../etc/passwd"}))
    with pytest.raises(ModelError, match="can't be read"):
        MomentIndex.opened(store, "like")


def test_a_store_does_not_take_the_index_for_a_video(store):
    before = store.files()
    refresh(store, ByExample())
    again = VectorStore(store.location, store.encoder, store.sampling)
    assert again.files() == before and again.amount().videos == 30


def test_without_an_index_a_large_archive_is_refused_and_a_small_one_searched_exactly(store, monkeypatch):
    out = store.location.removesuffix("/embeddings")
    assert search_by_example(out, "04" * 8, 20.0, 3).videos == 30
    monkeypatch.setattr(archive_search, "EXACT_VIDEOS", 5)
    with pytest.raises(UsageError, match="30 videos and no search index; make one with halsted search-index"):
        search_by_example(out, "04" * 8, 20.0, 3)


def test_videos_that_the_index_lacks_are_searched_exactly_or_counted(store, monkeypatch):
    refresh(store, ByExample())
    put_video(store, "ff" * 8, 4)  # the same as video 04
    out = store.location.removesuffix("/embeddings")
    answer = search_by_example(out, "0404", 20.0, 3)
    assert answer.not_indexed == 0 and answer.results[0].video_id == "ff" * 8
    assert answer.results[0].similarity == pytest.approx(1.0, abs=0.001)
    monkeypatch.setattr(archive_search, "EXACT_VIDEOS", 0)
    answer = search_by_example(out, "0404", 20.0, 3)
    assert (answer.not_indexed, answer.videos) == (1, 30)
    assert "ff" * 8 not in {one.video_id for one in answer.results}


def test_neighbours_are_one_result_and_the_moment_itself_is_none(store):
    refresh(store, ByExample())
    out = store.location.removesuffix("/embeddings")
    results = search_by_example(out, "04" * 8, 20.0, 20).results
    assert len(results) == 20
    for one in results:
        apart = [
            abs(one.start_s - other.start_s) for other in results if other.video_id == one.video_id and other != one
        ]
        assert all(gap > 15.0 for gap in apart)
    assert not [one for one in results if one.video_id == "04" * 8 and 5.0 < one.start_s < 40.0]


def test_a_chain_of_near_moments_is_one_result():
    found = [FoundMoment("a", 5.0 * n, 5.0 * n + 5, 1 - n / 1000) for n in range(30)] + [FoundMoment("b", 0, 5, 0.1)]
    assert [one.video_id for one in distinct(found, 10)] == ["a", "b"]


def test_the_moments_of_one_row_are_one_result():
    found = [FoundMoment("a", start, start + 5, 1 - start / 1000) for start in (0.0, 40.0, 55.0, 70.0)]
    rows = [(0.0, 50.0), (50.0, 90.0)]
    shown = distinct(found, 10, lambda one: next(row for row in rows if row[0] <= one.middle_s < row[1]))
    assert [one.start_s for one in shown] == [0.0, 55.0]


def test_every_stored_second_is_in_one_moment():
    """Fine windows by cells of 5 s; a coarse window where a mapping needed no fine ones; no training clips."""
    windows = [("coarse", 0.0, 30.0), *(("fine", 2.5 * n, 2.5 * n + 2.5) for n in range(12))]
    windows += [("coarse", 30.0, 60.0), ("clip", 1.0, 9.0)]
    kinds, starts, stops = zip(*windows, strict=True)
    vectors = np.arange(len(windows), dtype=np.float16)[:, None] * np.ones(2, np.float16)
    found = moments_of(VideoVectors("a", list(kinds), np.array(starts), np.array(stops), vectors, [(0.0, 60.0)]))
    assert list(zip(found.start_s_M, found.stop_s_M, strict=True)) == [
        *((5.0 * n, 5.0 * n + 5.0) for n in range(6)),
        (30.0, 60.0),
    ]
    np.testing.assert_allclose(found.vectors_MD[:, 0], [1.5, 3.5, 5.5, 7.5, 9.5, 11.5, 13.0])


def test_only_moments_where_the_map_says_so_are_found(tmp_path):
    out = str(tmp_path / "maps")
    write_maps(out)
    store = VectorStore(f"{out}/embeddings", "ab", "reference")
    for number, video_id in enumerate((WHOLE, PARTIAL)):
        put_video(store, video_id, number, windows=40)
    refresh(store, ByExample())
    everywhere = search_by_example(out, WHOLE, 2.0, 50).results
    assert {one.said["step"] for one in everywhere if one.said} == {"Suturing", "Dissection"}
    found = search_by_example(out, WHOLE, 2.0, 50, ["step=Dissection", "procedure=Prostatectomy"]).results
    assert found and all(one.video_id == WHOLE and 60 <= one.start_s < 120 for one in found)
    assert all(one.said == {"procedure": "Prostatectomy", "step": "Dissection", "action": "Push/Peel"} for one in found)
    with pytest.raises(UsageError, match="no map .* says 'step=Sutring'"):
        search_by_example(out, WHOLE, 2.0, 5, ["step=Sutring"])
    with pytest.raises(UsageError, match="expected TAG=CATEGORY"):
        search_by_example(out, WHOLE, 2.0, 5, ["Suturing"])


def test_an_index_that_grew_fourfold_gets_new_centres(tmp_path, monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(index_builder, "ROWS_A_LIST", 100)
    store = VectorStore(str(tmp_path), "ab", "reference")
    put_video(store, "aa" * 8, 0)
    assert refresh(store, ByExample()).made_anew
    put_video(store, "bb" * 8, 1)
    assert not refresh(store, ByExample()).made_anew
    for number in range(4):
        put_video(store, f"c{number}" * 8, number)
    assert refresh(store, ByExample()).made_anew
    assert read_manifest(store, "like").lists == 12


def test_a_search_of_an_index_that_is_replaced_meanwhile_reads_the_new_one(store, monkeypatch):
    refresh(store, ByExample())
    from halsted_ray.search import index_search

    reads, stale = index_search.read_manifest, read_manifest(store, "like")
    put_video(store, "ff" * 8, 99)
    refresh(store, ByExample(), anew=True)
    answers = iter([stale])
    monkeypatch.setattr(index_search, "read_manifest", lambda *of: next(answers, None) or reads(*of))
    with MomentIndex.opened(store, "like") as index:
        assert "ff" * 8 in index.manifest.contents()


def test_a_search_over_an_index_reads_few_of_its_lists(store, many_lists):
    pytest.importorskip("faiss")
    refresh(store, ByExample())
    with MomentIndex.opened(store, "like") as index:
        read: list[int] = []
        (part,) = index.parts
        whole = part.read
        part.read = lambda number: read.append(number) or whole(number)
        index.nearest(np.ones(DIM, np.float32), 10, probes=8)
        assert len(set(read)) == len(read) == 8
