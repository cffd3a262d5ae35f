"""Vectors that someone brings: files are checked, windows are means of rows, and nothing is decoded afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_video

import halsted_ray.embedding.embed as embedding
from halsted_ray import map_archive, train
from halsted_ray.atlas import read_atlas, write_atlas
from halsted_ray.cli import main
from halsted_ray.embedding.brought_files import read_vectors_file
from halsted_ray.errors import ModelError, OutputError, StorageUnavailable
from halsted_ray.mapping.import_vectors import import_vectors
from halsted_ray.model import brought
from halsted_ray.model.brought import Rows
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.records import Clip, Video, Window
from halsted_ray.storage.lease import Lease
from halsted_ray.storage.locations import filesystem
from halsted_ray.training.recipe import BEST, changed
from halsted_ray.video.identity import video_id

DURATION_S = 12.0
OPERATION = {"specialty": "Urology", "procedure": "Prostatectomy"}
RECIPE = changed(BEST, ["epochs=2", "least_steps=0", "layers=1"])


@pytest.fixture(scope="module")
def atlas(tmp_path_factory) -> str:
    """Three annotated videos, one per part of the split."""
    root = tmp_path_factory.mktemp("atlas")
    videos, clips, split = [], [], {}
    for look, part in enumerate(("train", "validation", "test")):
        path = Path(small_video.write(root / "videos" / f"case{look}.mp4", DURATION_S, fps=10, look=look))
        name = video_id(*filesystem(path))
        videos.append(Video(name, str(path), path.stat().st_size, DURATION_S, 96, 64, 10.0, "mpeg4"))
        split[name] = part
        clips += [
            Clip(name, 0.0, 5.5, "macro", OPERATION | {"step": "Suturing"}),
            Clip(name, 5.5, DURATION_S, "macro", OPERATION | {"step": "Dissection"}),
            Clip(name, 6.0, 9.0, "micro", {"action": "Tug", "arm": "Left", "instrument": "Shears"}),
        ]
    write_atlas(str(root), videos, clips, "small", split=split)
    return str(root)


def rows_of(look: int, width: int = 16) -> np.ndarray:
    return np.random.default_rng(look).standard_normal((12, width)).astype(np.float32)


@pytest.fixture
def features(tmp_path) -> Path:
    """One file of each kind, a row per second."""
    folder = tmp_path / "features"
    folder.mkdir()
    np.save(folder / "case0.npy", rows_of(0))
    np.save(folder / "case1.npy", rows_of(1).T)  # as MS-TCN's files lie
    table = pa.table({"time_s": np.arange(12.0), "features": list(rows_of(2))})
    pq.write_table(table, folder / "case2.parquet")
    return folder


def test_a_window_is_the_mean_of_the_rows_within_its_span():
    rows = Rows(np.array([0.0, 1.0, 2.0, 3.0]), np.array([[0.0], [1.0], [2.0], [3.0]]))
    assert rows.pooled(Window("fine", 1.0, 3.0)) == 1.5
    assert rows.pooled(Window("clip", 1.2, 1.7)) == 1.0  # between two rows the earlier one stands
    assert rows.pooled(Window("fine", 2.5, 5.0)) == 3.0
    assert rows.pooled(Window("fine", 7.5, 10.0)) == 3.0


def test_models_are_trained_and_archives_mapped_from_brought_vectors_and_nothing_is_decoded(
    atlas, features, tmp_path, monkeypatch
):
    monkeypatch.setattr(embedding, "DecodeStage", lambda *_: pytest.fail("decoded"))
    store = str(tmp_path / "store")
    done = import_vectors(str(features), atlas, store, "tecno", "sha256:1", rate=1.0)
    assert (done.videos, done.dim, done.rows, done.refused, done.without, done.exit_code) == (3, 16, 36, {}, (), 0)
    summary = train(atlas, str(tmp_path / "run"), RECIPE, encoder=done.encoder, embeddings=store, gpus=0)
    assert summary.samples["train"] > 0
    mapped = map_archive(f"{atlas}/videos", str(tmp_path / "maps"), summary.model, embeddings=store)
    assert mapped.exit_code == 0 and mapped.segments_decoded == 0 and mapped.segments_from_vectors == 3


def test_the_identity_is_of_name_digest_and_width(atlas, features, tmp_path):
    store = str(tmp_path / "store")
    first = import_vectors(str(features), atlas, store, "a", "1", rate=1.0)
    assert import_vectors(str(features), atlas, store, "a", "1", rate=1.0) == first
    assert import_vectors(str(features), atlas, store, "b", "1", rate=1.0).fingerprint != first.fingerprint
    identity = encoder_identity(first.encoder)
    assert (identity.fingerprint, identity.dim, identity.precision("cuda")) == (first.fingerprint, 16, "fp32")
    with pytest.raises(ModelError, match="named 'a' are there with the digest '1', got '2'"):
        import_vectors(str(features), atlas, store, "a", "2", rate=1.0)
    np.save(features / "case0.npy", rows_of(7))
    (reason,) = import_vectors(str(features), atlas, store, "a", "1", rate=1.0).refused.values()
    assert "differs from what was imported" in reason
    with pytest.raises(ModelError, match="no frames can be encoded"):
        Encoder.load(first.encoder)
    with pytest.raises(ModelError, match="one vector per window"):
        encoder_identity(first.encoder + "#steps")


def test_an_import_loses_no_vectors_of_another_one(atlas, features, tmp_path, monkeypatch):
    """Neither of one at the same time, nor where the store does not answer: what it holds is not taken for nothing."""
    store = str(tmp_path / "store")
    first = import_vectors(str(features), atlas, store, "a", "1", rate=1.0)
    with Lease(first.encoder, "other"), pytest.raises(OutputError, match="another run is at work"):
        import_vectors(str(features), atlas, store, "a", "1", rate=1.0)

    def away(location):
        raise StorageUnavailable("could not fetch a stored result")

    monkeypatch.setattr(brought, "read_json", away)
    with pytest.raises(StorageUnavailable):
        import_vectors(str(features), atlas, store, "a", "1", rate=1.0)
    monkeypatch.undo()
    assert brought.brought_at(first.encoder).rows.keys() == {video.video_id for video in read_atlas(atlas).videos}


def test_a_file_that_can_not_be_used_is_refused_alone_with_a_reason(atlas, features, tmp_path, capsys):
    np.save(features / "case1.npy", rows_of(1, width=8))
    np.save(features / "other.npy", rows_of(1))
    store = str(tmp_path / "store")
    command = ["embeddings", "import", str(features), "--of", atlas, "--into", store, "--name", "x", "--digest", "1"]
    assert main([*command, "--rate", "1"]) == 3
    said = capsys.readouterr().out
    assert "has vectors of width 8, expected 16 as in the other files" in said
    assert "refused: file 4 bears the name of no video" in said
    assert "2 files refused" in said and "1 video without any" in said
    assert main([*command, "--rate", "1", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["videos"] == 2


def test_file_names_are_printed_only_if_asked(atlas, features, tmp_path, capsys):
    """A file of vectors bears the name of its video, which may be a patient's."""
    np.save(features / "case1.npy", rows_of(1, width=8))
    np.save(features / "Jane Doe.npy", rows_of(1))
    (features / "case2.npy").write_bytes(b"")
    command = ["embeddings", "import", str(features), "--of", atlas, "--into", str(tmp_path / "store"), "--rate", "1"]
    command += ["--name", "x", "--digest", "1"]
    for more in ([], ["--json"]):
        assert main([*command, *more]) == 3
        said = "".join(capsys.readouterr())
        assert "Jane" not in said and "case1" not in said and "case2" not in said, more
    ids = {Path(video.uri).stem: video.video_id for video in read_atlas(atlas).videos}
    assert main(command) == 3
    assert f"refused: file 3, of video {ids['case1']}, has vectors of width 8" in capsys.readouterr().out
    for more in ([], ["--json"]):
        assert main([*command, "--files", *more]) == 3
        assert f"{features}/Jane Doe.npy" in capsys.readouterr().out


BAD = {
    "shape": (np.zeros(12, np.float32), 1.0, r"shape \(12,\), expected floating-point numbers"),
    "kind": (np.zeros((12, 4), np.int64), 1.0, "int64"),
    "length": (np.zeros((30, 4), np.float32), 1.0, r"shape \(30, 4\), expected about 12 rows"),
    "no rate": (np.zeros((12, 4), np.float32), None, "has no times; expected --rate"),
    "nan": (np.full((12, 4), np.nan, np.float32), 1.0, "12 rows hold a value that is not finite, first row 0"),
    "large": (np.full((12, 4), 1e6, np.float32), 1.0, "1e\\+06, expected at most 65504"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_contents_are_refused_in_words(tmp_path, what):
    values, rate, message = BAD[what]
    np.save(tmp_path / "v.npy", values)
    with pytest.raises(ModelError, match=message):
        read_vectors_file(str(tmp_path / "v.npy"), DURATION_S, rate)


@pytest.mark.parametrize(
    "times, message",
    [
        ([0, 1, 2, 3, 4, 9, 10, 11], r"no row in \[4.00, 9.00\) s and rows every 1 s \(1 gaps\)"),
        ([0, 1, 2, 3], r"no row in \[3.00, 12.00\)"),
        ([0, 2, 1, 3], "do not increase"),
        (list(range(40)), "rows up to 39.0 s, the video ends at 12.0 s"),
    ],
)
def test_gaps_and_times_that_do_not_fit_the_video_are_refused(tmp_path, times, message):
    np.save(tmp_path / "v.npy", np.ones((len(times), 4), np.float32))
    np.save(tmp_path / "v.times.npy", np.array(times, np.float64))
    with pytest.raises(ModelError, match=message):
        read_vectors_file(str(tmp_path / "v.npy"), DURATION_S, None)


def test_a_pickle_in_a_npy_file_is_not_opened(tmp_path):
    np.save(tmp_path / "v.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(ModelError, match="can't be read"):
        read_vectors_file(str(tmp_path / "v.npy"), DURATION_S, 1.0)


def test_hdf5_files_are_read(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["features"], file["time_s"] = rows_of(0), np.arange(12.0)
    found = read_vectors_file(str(tmp_path / "v.h5"), DURATION_S, None)
    np.testing.assert_array_equal(found.vectors_ND, rows_of(0))


def test_a_video_without_brought_vectors_is_named(atlas, features, tmp_path):
    (features / "case2.parquet").unlink()
    store = str(tmp_path / "store")
    done = import_vectors(str(features), atlas, store, "a", "1", rate=1.0)
    (left,) = done.without
    assert left == [video.video_id for video in read_atlas(atlas).videos if video.uri.endswith("case2.mp4")][0]
    from halsted_ray import embed_archive

    with pytest.raises(ModelError, match=f"video {left}: no vectors of it"):
        embed_archive(f"{atlas}/videos", store, done.encoder)


def test_an_hdf5_file_that_refers_to_another_file_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    rows = np.arange(24.0).reshape(12, 2)
    rows.tofile(tmp_path / "other.raw")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["vectors"] = rows
    with h5py.File(tmp_path / "link.h5", "w") as link:
        link["vectors"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "vectors")
    with h5py.File(tmp_path / "stored.h5", "w") as stored:
        place = [(str(tmp_path / "other.raw"), 0, rows.nbytes)]
        stored.create_dataset("vectors", rows.shape, rows.dtype, external=place)
    layout = h5py.VirtualLayout(rows.shape, rows.dtype)
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "vectors", rows.shape)
    with h5py.File(tmp_path / "virtual.h5", "w") as virtual:
        virtual.create_virtual_dataset("vectors", layout)
    for name in ("link", "stored", "virtual"):
        with pytest.raises(ModelError, match="vectors refers to another file"):
            read_vectors_file(str(tmp_path / f"{name}.h5"), 12.0, 1.0)
    assert read_vectors_file(str(tmp_path / "other.h5"), 12.0, 1.0).vectors_ND.shape == (12, 2)


@pytest.mark.parametrize("times", [pa.array(["00:00:01"] * 12), pa.array([1000] * 12, pa.duration("ms"))])
def test_times_that_are_no_numbers_are_refused(tmp_path, times):
    vectors = pa.array([[1.0, 2.0]] * 12, pa.list_(pa.float32()))
    pq.write_table(pa.table({"vector": vectors, "time": times}), tmp_path / "v.parquet")
    with pytest.raises(ModelError, match="its times are of type"):
        read_vectors_file(str(tmp_path / "v.parquet"), DURATION_S, None)


def test_several_arrays_under_the_name_of_one_are_refused(tmp_path):
    with (tmp_path / "v.npy").open("wb") as file:
        np.savez(file, a=np.ones((12, 4), np.float32))
    with pytest.raises(ModelError, match="several arrays in one file"):
        read_vectors_file(str(tmp_path / "v.npy"), DURATION_S, 1.0)
