"""``halsted embed`` on archives of real files: the vectors of mapping, no work done twice, bad videos are told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numbered_video
import numpy as np
import pytest
from test_video_missing import damaged as with_damage

import halsted_ray
from halsted_ray.cli import main
from halsted_ray.compute.resources import ResourceRequest
from halsted_ray.embedding import embed, embed_run
from halsted_ray.errors import ArchiveError, OutputError, UsageError
from halsted_ray.mapping import embed_archive as embedding
from halsted_ray.mapping import inventory, pipeline
from halsted_ray.mapping.embed_archive import embed_archive
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.records import WindowSpec
from halsted_ray.storage.vectors import VectorStore, sampling_name
from halsted_ray.video.probers import Probers

ENCODER = "random:tiny:0"
SPEC = WindowSpec(5, 2.5)  # of ``small_model``
WINDOWS = 7 + 14 + 3 + 5
"""Of videos of 33.3 and 12 s: coarse and fine ones of each."""


def write_video(path: Path, seconds: float, gop: int = 20) -> numbered_video.Numbered:
    recipe = numbered_video.Recipe(frames=int(seconds * 10), rate=10, gop=gop, size=(90, 160))
    return numbered_video.write(path, recipe)


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_video(folder / "one.mp4", 33.3)
    (folder / "deep er").mkdir()
    write_video(folder / "deep er" / "Jane 'ü' Doe.mp4", 12.0, 21)
    return folder


@pytest.fixture(scope="module")
def embedded(archive, small_model, tmp_path_factory):
    """(place of the vectors, summary of the run)"""
    place = str(tmp_path_factory.mktemp("vectors"))
    return place, embed_archive(str(archive), place, model=small_model)


@pytest.fixture
def no_decoding(monkeypatch):
    monkeypatch.setattr(embedding, "embed_segments", lambda *_, **__: pytest.fail("decoded for nothing"))


def store_at(place, spec=SPEC, **sampling) -> VectorStore:
    return VectorStore(
        str(place), encoder_identity(ENCODER).fingerprint, sampling_name(spec, **({"fidelity": "reference"} | sampling))
    )


def vectors_at(place, archive, spec=SPEC) -> dict:
    """(video_id, kind, start_s, stop_s) → vector, of all videos of an archive."""
    store = store_at(place, spec)
    entries = inventory.take_inventory([str(path) for path in sorted(Path(archive).rglob("*.mp4"))])
    return {
        (entry.video.video_id, *key): vector
        for entry in entries
        for key, vector in store.get(entry.video.video_id, 0.0, 1e6).items()
    }


def test_every_window_of_the_grid_gets_a_vector(embedded, archive):
    place, summary = embedded
    assert summary.exit_code == 0 and summary.videos == 2
    assert (summary.windows, summary.windows_made, summary.windows_before) == (WINDOWS, WINDOWS, 0)
    assert len(vectors_at(place, archive)) == WINDOWS
    assert len(list(Path(place).glob("*/*/*.arrow"))) == 2, "a file per video"
    assert summary.video_s == pytest.approx(45.3) and summary.encoding.clips == WINDOWS
    assert list(summary.start_s) == ["listed", "encoder known", "planned", "encoder loaded", "first vectors"]
    assert summary.stages["wall_s"]["decode"] > 0 and summary.stages["wall_s"]["encode"] > 0


def test_a_second_run_makes_nothing_and_probes_nothing(embedded, archive, small_model, no_decoding, monkeypatch):
    place, _ = embedded
    monkeypatch.setattr(Probers, "probe_and_index", lambda *_: pytest.fail("probed again"))
    again = embed_archive(str(archive), place, model=small_model)
    assert (again.windows_made, again.windows_before, again.video_s) == (0, WINDOWS, 0.0)
    assert again.exit_code == 0


def test_a_mapping_from_these_vectors_decodes_nothing(embedded, archive, small_model, tmp_path):
    place, _ = embedded
    summary = pipeline.map_archive(str(archive), str(tmp_path / "out"), small_model, embeddings=place, segment_s=20)
    assert summary.segments_decoded == 0 and summary.segments_from_vectors == summary.segments == 3
    assert summary.exit_code == 0


def test_vectors_are_bitwise_those_that_mapping_stores(one_ray, embedded, archive, small_model, tmp_path):
    """With segments of another length, so that other frames are decoded together."""
    out = tmp_path / "out"
    pipeline.map_archive(
        str(archive), str(out), small_model, segment_s=10, resources=ResourceRequest(decoders=1, encoders=1)
    )
    ours, of_mapping = vectors_at(embedded[0], archive), vectors_at(out / "embeddings", archive)
    assert len(of_mapping) >= 10, "mapping stores at least the coarse windows"
    for key, vector in of_mapping.items():
        assert np.array_equal(ours[key], vector), key


def test_the_coarse_windows_alone(archive, small_model, tmp_path):
    summary = embed_archive(str(archive), str(tmp_path), model=small_model, windows="coarse")
    assert summary.windows_made == 7 + 3
    assert {key[1] for key in vectors_at(tmp_path, archive)} == {"coarse"}
    more = embed_archive(str(archive), str(tmp_path), model=small_model)
    assert (more.windows_before, more.windows_made) == (10, WINDOWS - 10)


def test_one_vector_per_so_many_seconds(archive, tmp_path):
    summary = embed_archive(str(archive), str(tmp_path), ENCODER, every_s=15)
    assert summary.windows_made == 3 + 1
    keys = {key[1:] for key in vectors_at(tmp_path, archive, WindowSpec(15, 15))}
    assert keys == {("coarse", 0.0, 15.0), ("coarse", 15.0, 30.0), ("coarse", 30.0, 33.3), ("coarse", 0.0, 12.0)}
    with pytest.raises(UsageError, match=r"--every 0.3: .*multiple of 1/32.*0.3125"):
        embed_archive(str(archive), str(tmp_path), ENCODER, every_s=0.3)


def test_damage_costs_its_own_windows_and_is_told_by_id(small_model, tmp_path, capsys):
    folder, place = tmp_path / "archive", tmp_path / "vectors"
    folder.mkdir()
    whole = write_video(tmp_path / "whole.mp4", 30.0)
    with_damage(folder / "Jane Doe.mp4", whole, 11.0, 14.0, ticks_a_second=10240)
    (folder / "John Doe.mp4").write_text("not a video")
    words = ["embed", str(folder), "--model", small_model, "--embeddings", str(place)]
    assert main([*words, "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    (video,) = told["damaged"]
    lost = told["windows_lacking"]
    assert 2 <= lost < 8 and told["windows_made"] == 6 + 12 - lost and told["exit_code"] == 3
    assert told["decoders"] == [{"decoder": "cpu", "reason": "", "requests": 1}]
    assert video["windows"] == lost and sum(told["lacking_by_reason"].values()) == lost and video["lost_s"] >= 2
    assert [file["code"] for file in told["unread"]] == ["unreadable"]
    assert not [key for key in store_at(place).get(video["video_id"], 0, 1000) if key[1] < 13 and key[2] > 12]

    assert main(words) == 3, "what lacks pictures is tried again, and nothing else"
    shown = capsys.readouterr()
    assert f"{video['video_id']} {lost} windows without a vector: " in shown.out
    assert f"1 video, 1 file failed; 18 windows: {18 - lost} stored before, 0 made" in shown.out
    assert "Doe" not in shown.out + shown.err
    assert all(len(line) <= 80 for line in shown.out.splitlines())

    shutil.copy(whole.path, folder / "Jane Doe.mp4")
    summary = embed_archive(str(folder), str(place), model=small_model)
    assert summary.windows_lacking == 0 and summary.damaged == [], "a file that is whole again is made whole"


def test_a_copy_stands_in_for_a_damaged_file(small_model, tmp_path, monkeypatch):
    """Large files can have one id and different bytes: the id is computed from samples of the content."""
    monkeypatch.setattr(inventory, "identify", lambda *_: ("a" * 16, b""))
    folder = tmp_path / "archive"
    folder.mkdir()
    whole = write_video(folder / "b.mp4", 30.0)
    with_damage(folder / "a.mp4", whole, 11.0, 14.0, ticks_a_second=10240)
    summary = embed_archive(str(folder), str(tmp_path / "vectors"), model=small_model)
    assert (summary.videos, summary.windows_made, summary.windows_lacking) == (1, 6 + 12, 0)


def test_wrong_use_is_refused_before_any_work(archive, small_model, tmp_path):
    good, place = str(archive), str(tmp_path / "vectors")
    for options, said in (
        ({}, "or neither"),
        ({"encoder": ENCODER, "model": small_model}, "got both"),
        ({"encoder": ENCODER, "windows": "fine"}, "expected one of all, coarse"),
        ({"encoder": ENCODER, "fidelity": "good"}, "expected one of exact"),
        ({"encoder": ENCODER, "eye": "third"}, "expected one of left"),
        ({"model": small_model, "every_s": 15}, "leave out the model"),
    ):
        with pytest.raises(UsageError, match=said):
            embed_archive(good, place, **options)
    with pytest.raises(UsageError, match="place of their own"):
        embed_archive(good, good, ENCODER)
    with pytest.raises(OutputError, match="name a folder that can be written"):
        embed_archive(good, "/proc/self", ENCODER)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArchiveError, match="got no file at all"):
        embed_archive(str(tmp_path / "empty"), place, ENCODER)
    assert not Path(place).exists()


def files_of(place: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in place.glob("*/*/*/*.parquet")}


def test_the_same_command_goes_on_after_the_whole_run_was_killed(small_model, tmp_path, monkeypatch):
    """The first run on Ray: ten spans are more than one process does by itself. The second one in this process."""
    folder, place = tmp_path / "archive", tmp_path / "vectors"
    folder.mkdir()
    for number in range(10):
        write_video(folder / f"{number}.mp4", 12.0, 20 + number)
    environment = {**os.environ, "PYTHONPATH": str(Path(halsted_ray.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "halsted_ray.cli", "embed", folder, "--model", small_model, "--embeddings", place]
    run = subprocess.Popen(words, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True)
    until_s = time.monotonic() + 240
    while len(files_of(place)) < 2:
        assert run.poll() is None and time.monotonic() < until_s, run.communicate()[1]
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    before = files_of(place)
    while True:  # its workers may write for a moment
        time.sleep(2)
        if files_of(place) == before:
            break
        before = files_of(place)
    assert 2 <= len(before) < 10, "killed in the middle"
    for module in (embed, embed_run):
        monkeypatch.setattr(module, "LOCALLY_AT_MOST", 100)

    summary = embed_archive(str(folder), str(place), model=small_model)
    assert summary.exit_code == 0 and summary.windows == 10 * 8
    assert (summary.windows_before, summary.windows_made) == (8 * len(before), 8 * (10 - len(before)))
    undisturbed = tmp_path / "undisturbed"
    embed_archive(str(folder), str(undisturbed), model=small_model)
    ours, theirs = vectors_at(place, folder), vectors_at(undisturbed, folder)
    assert ours.keys() == theirs.keys() and len(ours) == 80
    assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


def test_a_run_on_a_cluster_resumes_inside_the_readers(one_ray, small_model, tmp_path, monkeypatch):
    """Where the first look ends early, the readers on Ray leave out what is stored, and the counts are the same."""
    folder, place = tmp_path / "archive", tmp_path / "vectors"
    folder.mkdir()
    for number in range(5):
        write_video(folder / f"{number}.mp4", 6.0, 20 + number)
    some = tmp_path / "some"
    some.mkdir()
    for number in range(4):
        shutil.copy(folder / f"{number}.mp4", some)
    embed_archive(str(some), str(place), model=small_model)
    monkeypatch.setattr(embed_run, "LOOKS_FOR_S", -1.0)
    monkeypatch.setattr(embed, "LOCALLY_AT_MOST", 0)
    summary = embed_archive(
        str(folder), str(place), model=small_model, resources=ResourceRequest(decoders=1, encoders=1)
    )
    of_one = 2 + 3
    assert (summary.windows, summary.windows_before, summary.windows_made) == (5 * of_one, 4 * of_one, of_one)
    assert summary.video_s == pytest.approx(6.0) and summary.encoding.clips == of_one
    assert {"cluster", "encoder loaded", "first vectors"} <= summary.start_s.keys()
