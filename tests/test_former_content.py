"""Rows follow their files: one that was replaced, deleted, moved, or is still being written when a run looks at it."""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path

import pyarrow.compute as pc
import pytest
import small_video

from halsted_ray.cli import main
from halsted_ray.mapping import pipeline
from halsted_ray.mapping.inventory import take_inventory
from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.maps.reading import read_segments, read_timeline, read_videos
from halsted_ray.maps.staging import SegmentResult, Staging, stagings
from halsted_ray.maps.status import status_of
from halsted_ray.records import Prediction
from halsted_ray.storage.vector_files import stored_file
from halsted_ray.storage.vectors import VectorStore
from halsted_ray.video.left_out import BEING_WRITTEN


@pytest.fixture
def archive(tmp_path) -> Path:
    (tmp_path / "archive").mkdir()
    return tmp_path / "archive"


@pytest.fixture
def run(archive, tmp_path, small_model, monkeypatch):
    """A run over the archive without decoding and without Ray; gives its summary."""
    import numpy as np

    def map_wave(waiting, tagging, *_):
        staging = Staging(tagging.out, tagging.recipe)
        vectors = VectorStore(tagging.vectors, tagging.encoder_fingerprint, tagging.sampling)
        for segment in waiting:
            tag = Prediction(segment.start_s, segment.stop_s, "macro", "step", "Suturing", 0.9)
            staging.write(SegmentResult(segment, [tag], [], "run"))
            window = ("coarse", segment.start_s, segment.stop_s)
            vectors.put(segment.video_id, segment.start_s, segment.stop_s, {window: np.zeros(4)})
        return len(waiting)

    monkeypatch.setattr(pipeline, "finish_segments", map_wave)
    return lambda **options: map_archive(
        str(archive), str(tmp_path / "out"), small_model, **{"settle_s": 0, "segment_s": 5.0, **options}
    )


def everything(out: Path) -> dict[str, set[str]]:
    """Where → the ids of videos that stand there."""
    maps = str(out)
    return {
        "timeline": set(read_timeline(maps)["video_id"].to_pylist()),
        "segments": set(read_segments(maps)["video_id"].to_pylist()),
        "videos": {entry.video.video_id for entry in read_videos(maps).values()},
        "status": {video["video_id"] for video in status_of(maps)},
        "vectors": {stored_file(str(path)).video_id for path in (out / "embeddings").rglob("*") if path.is_file()},
        "indexes": {path.name.partition("-")[0] for path in (out / "packet-indexes").glob("*")},
        "staging": {video_id for staging in stagings(maps) for video_id in staging.states()},
    }


def test_a_recording_that_was_replaced_by_the_whole_leaves_no_rows_of_its_half(archive, tmp_path, run, capsys):
    whole = Path(small_video.write(tmp_path / "a.ts", 20, codec="mpeg2video")).read_bytes()
    (archive / "now.ts").write_bytes(whole[: len(whole) // 2 // 188 * 188])
    run()
    ((half, *_),) = [everything(tmp_path / "out")["timeline"]]
    (archive / "now.ts").write_bytes(whole)
    summary = run()
    assert [(video["status"], round(video["duration_s"])) for video in summary.videos] == [("mapped", 20)]
    (video_id,) = (video["video_id"] for video in summary.videos)
    assert video_id != half and run().segments_decoded == 0
    found = everything(tmp_path / "out")
    assert found.pop("staging") == set()
    assert set(map(frozenset, found.values())) == {frozenset([video_id])}, found
    assert pc.max(read_timeline(str(tmp_path / "out"))["stop_s"]).as_py() == pytest.approx(20, abs=0.1)
    main(["export", str(tmp_path / "out"), "--format", "csv", "--to", str(tmp_path / "csv")])
    assert half not in (tmp_path / "csv/timeline.csv").read_text() and half not in capsys.readouterr().out
    assert not (tmp_path / "csv" / f"{half}.csv").exists()


def test_a_video_beside_a_replaced_one_keeps_its_rows(archive, tmp_path, run):
    for name, look in (("a.mp4", 1), ("b.mp4", 2), ("c.mp4", 3)):
        small_video.write(archive / name, 6, look=look)
    run()
    before = everything(tmp_path / "out")
    small_video.write(archive / "b.mp4", 6, look=4)
    assert (run().segments_decoded, run().segments_decoded) == (2, 0)
    after = everything(tmp_path / "out")
    for where in ("timeline", "segments", "videos", "status", "vectors"):
        assert len(after[where]) == 3 and len(after[where] & before[where]) == 2, where


def test_what_another_file_still_holds_stays_and_carries_its_name(archive, tmp_path, run):
    first = Path(small_video.write(archive / "a.mp4", 6, look=1))
    shutil.copy(first, archive / "b.mp4")
    run()
    (before,) = status_of(str(tmp_path / "out"))
    assert before["uri"].endswith("a.mp4") and before["copies"] == 1
    small_video.write(archive / "a.mp4", 6, look=2)
    run()
    videos = {Path(video["uri"]).name: video for video in status_of(str(tmp_path / "out"))}
    assert videos["b.mp4"]["video_id"] == before["video_id"] and videos["b.mp4"]["status"] == "mapped"
    assert {name: video["copies"] for name, video in videos.items()} == {"a.mp4": 0, "b.mp4": 0}
    rows = read_timeline(str(tmp_path / "out")).to_pylist()
    assert {(row["video_id"], Path(row["uri"]).name) for row in rows} == {
        (video["video_id"], name) for name, video in videos.items()
    }


def test_a_file_that_was_moved_keeps_its_map_under_its_new_name(archive, tmp_path, run):
    small_video.write(archive / "a.mp4", 6)
    run()
    (archive / "deep").mkdir()
    (archive / "a.mp4").rename(archive / "deep/b.mp4")
    summary = run()
    assert summary.segments_decoded == 0 and summary.exit_code == 0
    ((video),) = status_of(str(tmp_path / "out"))
    assert (video["uri"], video["copies"], video["gone"]) == (str(archive / "deep/b.mp4"), 0, False)
    assert list(read_videos(str(tmp_path / "out"))) == [str(archive / "deep/b.mp4")]
    assert set(read_timeline(str(tmp_path / "out"))["uri"].to_pylist()) == {str(archive / "deep/b.mp4")}


def test_a_file_that_was_deleted_keeps_its_map_and_status_says_so(archive, tmp_path, run, capsys):
    small_video.write(archive / "a.mp4", 6)
    small_video.write(archive / "b.mp4", 6, look=1)
    (archive / "bad.mp4").write_bytes(b"x" * 100)
    assert run().exit_code == 3
    rows = read_timeline(str(tmp_path / "out")).num_rows
    away = (archive / "b.mp4").rename(tmp_path / "b.mp4")
    (archive / "bad.mp4").unlink()
    summary = run()
    assert [Path(video["uri"]).name for video in summary.videos] == ["a.mp4"] and summary.exit_code == 0
    videos = {Path(video["uri"]).name: video for video in status_of(str(tmp_path / "out"))}
    assert {name: (video["status"], video["gone"]) for name, video in videos.items()} == {
        "a.mp4": ("mapped", False),
        "b.mp4": ("mapped", True),
    }, "a file that failed and was removed, as told, is forgotten"
    assert read_timeline(str(tmp_path / "out")).num_rows == rows
    assert main(["status", str(tmp_path / "out")]) == 0 and "the file is gone" in capsys.readouterr().out
    away.rename(archive / "b.mp4")
    run()
    assert not any(video["gone"] for video in status_of(str(tmp_path / "out")))


def test_files_of_another_archive_and_of_a_part_of_it_are_not_gone(archive, tmp_path, run, small_model):
    small_video.write(archive / "a.mp4", 6)
    small_video.write(tmp_path / "other/b.mp4", 6, look=1)
    run()
    map_archive(str(tmp_path / "other"), str(tmp_path / "out"), small_model, settle_s=0, segment_s=5.0)
    assert [video["gone"] for video in status_of(str(tmp_path / "out"))] == [False, False]


def test_a_store_that_is_away_is_no_other_content(archive, tmp_path, run, monkeypatch):
    small_video.write(archive / "a.mp4", 6)
    run()
    (before,) = status_of(str(tmp_path / "out"))
    os.utime(archive / "a.mp4", (1, 1))

    def away(*_arguments):
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr("halsted_ray.mapping.inventory.identify", away)
        run()
    (during,) = status_of(str(tmp_path / "out"))
    assert (during["video_id"], during["status"], during["code"]) == (before["video_id"], "failed", "storage")
    assert everything(tmp_path / "out")["timeline"] == {before["video_id"]}
    assert run().exit_code == 0 and status_of(str(tmp_path / "out")) == [before]


def test_a_file_that_is_still_written_is_left_for_the_next_run(archive, tmp_path, run, monkeypatch):
    small_video.write(archive / "a.mp4", 6)
    small_video.write(archive / "recording.mp4", 6, look=1)
    told = []

    class Observer(pipeline.RunObserver):
        def on_message(self, message):
            told.append(message)

    def take_and_write(uris, *arguments, **options):
        with open(archive / "recording.mp4", "ab") as file:
            file.write(b"\0\0\0\x08free")
        return take_inventory(uris, *arguments, **options)

    monkeypatch.setattr("halsted_ray.mapping.run_plan.take_inventory", take_and_write)
    summary = run(settle_s=0.1, observer=Observer())
    assert [Path(video["uri"]).name for video in summary.videos] == ["a.mp4"]
    assert [(Path(skipped.uri).name, skipped.reason) for skipped in summary.skipped] == [
        ("recording.mp4", BEING_WRITTEN)
    ]
    assert "1 file is still being written and left for the next run" in told


def test_status_sees_the_run_under_way_though_rows_were_removed(archive, tmp_path, run, monkeypatch):
    """The commit that removes former rows is newer than the start of the run, and is not a run's own."""
    small_video.write(archive / "a.mp4", 6)
    small_video.write(archive / "b.mp4", 6, look=1)
    run()
    small_video.write(archive / "a.mp4", 12, look=2)
    seen = []
    monkeypatch.setattr(
        pipeline, "finish_segments", lambda waiting, *_: seen.extend(status_of(str(tmp_path / "out"))) or 0
    )
    run()
    assert {Path(v["uri"]).name: (v["status"], v["segments"]) for v in seen} == {
        "a.mp4": ("pending", 3),
        "b.mp4": ("mapped", 2),
    }


def test_the_command_names_what_it_skipped(archive, tmp_path, run, small_model, capsys):
    small_video.write(archive / "a.mp4", 6)
    (archive / "#recycle").mkdir()
    Path(os.fsdecode(os.fsencode(archive) + b"/#recycle/M\xfcller\n.mp4")).write_bytes(b"x")
    (archive / "notes.txt").write_text("x")
    words = ["map", str(archive), "--out", str(tmp_path / "out"), "--model", small_model, "--settle", "0"]
    assert main(words) == 0 and "notes.txt" not in capsys.readouterr().out, "names are shown only where asked for"
    assert main([*words, "--list-skipped"]) == 0
    shown = capsys.readouterr().out
    assert f"skipped, in a recycle bin:\n  {archive}/#recycle/M\\xfcller\\n.mp4\n" in shown
    assert f"skipped, not a video:\n  {archive}/notes.txt\n" in shown


def test_a_terminal_that_lacks_a_letter_shows_it_escaped(archive, tmp_path, run, monkeypatch):
    small_video.write(archive / "ü.mp4", 6)
    run()
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    with monkeypatch.context() as terminal:
        terminal.setattr(sys, "stdout", shown)
        assert main(["status", str(tmp_path / "out"), "--files"]) == 0
    assert rb"\xfc.mp4" in shown.buffer.getvalue()
