"""The store of vectors: what is put comes back by span, whole or not at all."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest

from halsted_ray.cli import main
from halsted_ray.errors import ModelError, OutputError
from halsted_ray.records import WindowSpec
from halsted_ray.storage.files import require_writable
from halsted_ray.storage.vectors import VectorStore, sampling_name

SAMPLING = sampling_name(WindowSpec(), "reference")


def vector(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=8).astype(np.float16)


def same(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[key], right[key]) for key in left)


def test_vectors_come_back_bit_for_bit(tmp_path):
    store = VectorStore(str(tmp_path), "encoder", SAMPLING)
    vectors = {("fine", 0.0, 2.5): vector(0), ("fine", 2.5, 4.125): vector(1), ("coarse", 0.0, 4.125): vector(2)}
    store.put("video", 0.0, 60.0, vectors)
    found = store.get("video", 0.0, 60.0)
    assert same(found, vectors)
    assert all(row.dtype == np.float16 for row in found.values())


def test_a_span_gives_the_windows_that_begin_in_it(tmp_path):
    store = VectorStore(str(tmp_path), "encoder", SAMPLING)
    first = {("coarse", 0.0, 30.0): vector(0), ("coarse", 30.0, 60.0): vector(1)}
    second = {("coarse", 60.0, 90.0): vector(2)}
    store.put("video", 0.0, 60.0, first)
    store.put("video", 60.0, 120.0, second)
    assert same(store.get("video", 30.0, 90.0), {("coarse", 30.0, 60.0): vector(1), ("coarse", 60.0, 90.0): vector(2)})
    assert store.holds("video") == [(0.0, 60.0), (60.0, 120.0)]
    assert store.get("other", 0.0, 60.0) == {} and store.holds("other") == []


def test_later_windows_of_a_span_are_added(tmp_path):
    store = VectorStore(str(tmp_path), "encoder", SAMPLING)
    store.put("video", 0.0, 30.0, {("coarse", 0.0, 30.0): vector(0)})
    store.put("video", 0.0, 30.0, {("fine", 0.0, 2.5): vector(1)})
    assert len(store.get("video", 0.0, 30.0)) == 2


def test_the_same_windows_again_change_nothing(tmp_path):
    store = VectorStore(str(tmp_path), "encoder", SAMPLING)
    for _ in range(2):
        store.put("video", 0.0, 30.0, {("coarse", 0.0, 30.0): vector(0)})
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    assert not list(tmp_path.rglob(".part-*"))


def test_encoders_and_samplings_do_not_mix(tmp_path):
    VectorStore(str(tmp_path), "one", SAMPLING).put("video", 0.0, 30.0, {("coarse", 0.0, 30.0): vector(0)})
    assert VectorStore(str(tmp_path), "two", SAMPLING).get("video", 0.0, 30.0) == {}
    other = sampling_name(WindowSpec(coarse_s=20), "reference")
    assert VectorStore(str(tmp_path), "one", other).get("video", 0.0, 30.0) == {}


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    store = VectorStore(str(tmp_path / "file"), "encoder", SAMPLING)
    with pytest.raises(OutputError, match="can't write .*file.*name a place that can be written"):
        store.put("video", 0.0, 30.0, {("coarse", 0.0, 30.0): vector(0)})


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "kept").write_text("")
    for _ in range(2):
        require_writable(str(tmp_path / "there"))
        require_writable(str(tmp_path / "new" / "folder"))
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["kept"]
    assert not list((tmp_path / "new" / "folder").iterdir())


def test_a_full_disk_is_said_to_be_full(tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    store = VectorStore(str(tmp_path), "encoder", SAMPLING)
    store.put("video", 0.0, 30.0, {("coarse", 0.0, 30.0): vector(0)})
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="No space left on device; make room and give the same command again"):
        store.put("video", 30.0, 60.0, {("coarse", 30.0, 60.0): vector(0)})
    assert len(store.get("video", 0.0, 60.0)) == 1, "what was stored stays, and no part of a file"
    assert not list(tmp_path.rglob(".part-*"))


def test_vectors_of_another_encoder_are_refused(tmp_path):
    """A store that was renamed or copied to another encoder's place would teach and map nonsense without a word."""
    VectorStore(str(tmp_path), "encoder", SAMPLING).put("video", 0.0, 30.0, {("coarse", 0.0, 30.0): vector(0)})
    os.rename(tmp_path / "encoder", tmp_path / "other")
    with pytest.raises(ModelError, match="video video: the vectors in .* are of encoder encoder, expected other"):
        VectorStore(str(tmp_path), "other", SAMPLING).get("video", 0.0, 30.0)
    os.rename(tmp_path / "other" / SAMPLING, tmp_path / "other" / "exact")
    os.rename(tmp_path / "other", tmp_path / "encoder")
    with pytest.raises(ModelError, match=f"of sampling {SAMPLING}, expected exact"):
        VectorStore(str(tmp_path), "encoder", "exact").get("video", 0.0, 30.0)


def test_a_store_is_listed_and_packed_by_command(tmp_path, capsys):
    for encoder, minutes in (("one", 2), ("two", 1)):
        for start_s in (60.0 * minute for minute in range(minutes)):
            store = VectorStore(str(tmp_path), encoder, SAMPLING)
            store.put("video", start_s, start_s + 60, {("coarse", start_s, start_s + 30): vector(0)})
    assert main(["embeddings", "list", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert f"3 files not packed, the windows of such files not counted: halsted embeddings pack {tmp_path}" in told
    assert main(["embeddings", "pack", str(tmp_path)]) == 0
    assert f"one {SAMPLING}: 1 video packed (2 windows), 2 files removed" in capsys.readouterr().out
    assert main(["embeddings", "list", "--json", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    size_bytes = sum(path.stat().st_size for path in (tmp_path / "one").rglob("*.arrow"))
    assert found[0] == {
        "encoder": "one",
        "sampling": SAMPLING,
        "videos": 1,
        "packed_files": 1,
        "packed_windows": 2,
        "span_files": 0,
        "size_bytes": size_bytes,
    }
    assert main(["embeddings", "pack", "--json", str(tmp_path)]) == 0
    assert [done["videos"] for done in json.loads(capsys.readouterr().out)] == [0, 0]


@pytest.mark.parametrize("action", ["list", "pack"])
def test_a_place_without_vectors_is_refused(tmp_path, capsys, action):
    assert main(["embeddings", action, str(tmp_path)]) == 2
    assert "holds no vectors: expected the folder that a mapping or training wrote" in capsys.readouterr().err
