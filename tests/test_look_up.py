"""Stored vectors as arrays with times, and the windows nearest to a clip or a vector."""

import numpy as np
import pytest

from halsted_ray import embeddings, similar
from halsted_ray.errors import UsageError
from halsted_ray.storage.vectors import VectorStore


@pytest.fixture
def store(tmp_path) -> str:
    """Two videos of four fine windows beside a large common part; window k of both points in direction k."""
    written = VectorStore(str(tmp_path / "maps/embeddings"), "0123456789abcdef", "reference")
    for number, name in enumerate(("aa", "bb")):
        vectors = {("fine", 2.5 * k, 2.5 * (k + 1)): np.eye(4)[k] * (1 + number) + [50, 50, 50, 50] for k in range(4)}
        vectors[("coarse", 0.0, 10.0)] = np.full(4, 7.0)
        written.put(name, 0.0, 10.0, vectors)
    return str(tmp_path / "maps")


def test_vectors_come_with_their_videos_kinds_and_times(store):
    found = embeddings(store, ["bb"], kind="fine")
    assert found.video_ids == ("bb",) * 4 and found.kinds == ("fine",) * 4 and len(found) == 4
    np.testing.assert_array_equal(found.start_s_N, [0, 2.5, 5, 7.5])
    np.testing.assert_array_equal(found.vectors_ND[1], np.array([50, 52, 50, 50], np.float16))
    assert len(embeddings(f"{store}/embeddings")) == 10


def test_the_nearest_windows_come_first_and_the_clip_itself_is_left_out(store):
    found = similar(store, ("aa", 2.5, 5.0), 3)
    assert (found[0].video_id, found[0].start_s) == ("bb", 2.5)
    assert found[0].similarity > 0.9 > found[1].similarity
    assert ("aa", 2.5) not in [(window.video_id, window.start_s) for window in found] and len(found) == 3


def test_a_vector_is_looked_for_without_the_part_that_all_have_in_common(store):
    found = similar(store, np.array([50.0, 50.0, 50.0, 53.0]), 2)
    assert {(window.video_id, window.start_s) for window in found} == {("aa", 7.5), ("bb", 7.5)}
    assert similar(store, np.full(4, 7.0), 1, kind="coarse")[0].kind == "coarse"


def test_what_is_not_there_is_said(store, tmp_path):
    with pytest.raises(UsageError, match="holds none of kind 'clip'"):
        embeddings(store, kind="clip")
    with pytest.raises(UsageError, match=r"video aa, \[90, 95\) s: no window of kind 'fine'"):
        similar(store, ("aa", 90.0, 95.0))
    with pytest.raises(UsageError, match=r"shape \(3,\), expected \(4,\)"):
        similar(store, np.zeros(3))
    with pytest.raises(UsageError, match="holds 0 fitting sets of vectors .*none"):
        embeddings(str(tmp_path / "nothing"))
    VectorStore(f"{store}/embeddings", "fedcba9876543210", "reference").put(
        "aa", 0.0, 2.5, {("fine", 0.0, 2.5): np.zeros(2)}
    )
    with pytest.raises(UsageError, match="holds 2 fitting sets"):
        embeddings(store)
    assert len(embeddings(store, encoder="fedcba9876543210")) == 1
