"""What a run publishes and what status says, without a run: staged results in, tables out."""

from __future__ import annotations

import io
import logging
import threading
import time
from dataclasses import replace

import pytest
from pyarrow.fs import LocalFileSystem, S3FileSystem
from small_disk import fill, small_disk

from halsted_ray.compute.progress import Progress, ProgressLine
from halsted_ray.errors import OutputError
from halsted_ray.mapping.work_list import finished_segments
from halsted_ray.maps import publishing, reading
from halsted_ray.maps.publishing import publish, publish_videos
from halsted_ray.maps.reading import read_segments, read_timeline
from halsted_ray.maps.staging import MappingRun, SegmentResult, Staging
from halsted_ray.maps.status import status_of
from halsted_ray.maps.table_schemas import ArchiveFile, Provenance
from halsted_ray.maps.timeline import Gap, Unasked
from halsted_ray.records import Prediction, Segment, Video
from halsted_ray.storage.delta import native_files, open_table, table_uri

ONE, TWO = "1" * 16, "2" * 16


class Maps:
    """An output place with two videos of 120 s, written to by runs of 60-s segments."""

    def __init__(self, out: str):
        self.out = out
        publish_videos(
            out,
            [
                ArchiveFile(Video(v, f"/archive/{v[0]}.mp4", 1, 120.0, 640, 360, 25.0, "h264"), "stamp")
                for v in (ONE, TWO)
            ],
        )

    def begin(self, recipe: str, tasks=("macro",)) -> Staging:
        staging = Staging(self.out, recipe)
        staging.begin(MappingRun(f"run-{recipe}", recipe, tasks, 60.0, int(time.time() * 1000) + 1))
        return staging

    def plan(self, recipe: str, *video_ids: str) -> dict[str, list[Segment]]:
        return {
            v: [
                Segment(f"{recipe}{v[0]}{start:.0f}", v, f"/archive/{v[0]}.mp4", start, start + 60.0, 120.0)
                for start in (0.0, 60.0)
            ]
            for v in video_ids
        }

    def stage(self, staging: Staging, segment: Segment, category="Suturing", task="macro", gaps=()) -> None:
        tags = [] if gaps else [Prediction(segment.start_s, segment.stop_s, task, "step", category, 0.9)]
        staging.write(SegmentResult(segment, tags, list(gaps), "run"))

    def publish(self, staging: Staging, plan: dict, recipe: str, tasks=("macro",), version="1") -> int | None:
        return publish(self.out, staging, plan, Provenance("run", recipe, tasks, "m", version, "", "t", "0"))

    def map(self, recipe: str, *video_ids: str, tasks=("macro",), category="Suturing", gaps=()) -> int | None:
        staging, plan = self.begin(recipe, tasks), self.plan(recipe, *video_ids)
        for segments in plan.values():
            for segment in segments:
                for task in tasks[:1]:
                    self.stage(staging, segment, category, task, gaps)
        return self.publish(staging, plan, recipe, tasks)

    def rows(self) -> list[tuple]:
        return [
            (r["video_id"], r["start_s"], r["stop_s"], r["task"], r["category"])
            for r in read_timeline(self.out).to_pylist()
        ]


@pytest.fixture
def maps(tmp_path) -> Maps:
    return Maps(str(tmp_path))


def test_windows_of_neighbouring_segments_are_one_row(maps):
    assert maps.map("a", ONE) == 0
    assert maps.rows() == [(ONE, 0.0, 120.0, "macro", "Suturing")]


def test_a_run_replaces_the_rows_of_its_videos_and_tasks_only(maps):
    maps.map("a", ONE, TWO)
    maps.map("b", ONE, tasks=("micro",), category="x")
    assert maps.map("c", TWO, category="Dissection") == 2
    assert maps.rows() == [
        (ONE, 0.0, 120.0, "macro", "Suturing"),
        (ONE, 0.0, 120.0, "micro", "x"),
        (TWO, 0.0, 120.0, "macro", "Dissection"),
    ]


@pytest.mark.parametrize("task", ["surgeon's view", 'the "critical" view', "a\\b", "Überblick"])
def test_a_task_of_ones_own_taxonomy_is_replaced_whatever_its_name(maps, task):
    maps.map("a", ONE, tasks=(task,))
    maps.map("b", ONE, tasks=(task,), category="Dissection")
    assert maps.rows() == [(ONE, 0.0, 120.0, task, "Dissection")]
    assert {row["recipe"] for row in read_segments(maps.out).to_pylist()} == {"b"}


def test_segments_of_replaced_rows_count_as_unfinished_again(maps):
    both = ("macro", "micro")
    maps.map("both", ONE, tasks=both)
    assert finished_segments(maps.out, "both") == {"both10", "both160"}
    maps.map("macro by another model", ONE)
    assert finished_segments(maps.out, "both") == set()


def test_nothing_new_commits_nothing(maps):
    maps.map("a", ONE)
    assert maps.publish(maps.begin("a"), maps.plan("a", ONE), "a") is None


def test_publishing_that_is_interrupted_is_finished_by_the_next_run(maps, monkeypatch):
    staging, plan = maps.begin("a"), maps.plan("a", ONE)
    for segment in plan[ONE]:
        maps.stage(staging, segment)
    commit = publishing.commit_rows

    def fail_on_timeline(uri, *rest):
        if uri.endswith("timeline"):
            raise OutputError("the disk is full")
        return commit(uri, *rest)

    monkeypatch.setattr(publishing, "commit_rows", fail_on_timeline)
    with pytest.raises(OutputError):
        maps.publish(staging, plan, "a")
    monkeypatch.undo()
    assert maps.publish(staging, plan, "a") == 0
    assert maps.rows() == [(ONE, 0.0, 120.0, "macro", "Suturing")]
    assert read_segments(maps.out).num_rows == 2


@pytest.mark.parametrize("leave_bytes", [0, 8192, 24576])
def test_a_full_disk_is_named_and_what_was_published_stays(tmp_path, leave_bytes):
    with small_disk(tmp_path / "disk", 1) as disk:
        maps = Maps(str(disk / "out"))
        maps.map("a", ONE)
        before = maps.rows()
        staging, plan = maps.begin("b"), maps.plan("b", TWO)
        for segment in plan[TWO]:
            maps.stage(staging, segment)
        ballast = fill(disk, leave_bytes)
        try:
            with pytest.raises(OutputError, match=f"can't .*{disk}.*make room.*give the same command again"):
                for _ in range(20):  # the more is left, the later it is full
                    maps.publish(maps.begin("b"), plan, "b")
                    staging = maps.begin("b")
                    for segment in plan[TWO]:
                        maps.stage(staging, segment)
            assert [row for row in maps.rows() if row[0] == ONE] == before
        finally:
            ballast.unlink()
        for segment in plan[TWO]:
            maps.stage(maps.begin("b"), segment)
        maps.publish(maps.begin("b"), plan, "b")
        assert maps.rows() == [*before, (TWO, 0.0, 120.0, "macro", "Suturing")]


@pytest.mark.slow
def test_publishing_waits_for_a_store_that_is_away(s3_server):
    maps = Maps(f"{s3_server.bucket}/publishing")
    maps.map("a", ONE)
    staging, plan = maps.begin("b"), maps.plan("b", TWO)
    for segment in plan[TWO]:
        maps.stage(staging, segment)
    s3_server.stop()
    back = threading.Timer(12.0, s3_server.start)
    back.start()
    try:
        maps.publish(staging, plan, "b")
    finally:
        back.join()
    assert maps.rows() == [(v, 0.0, 120.0, "macro", "Suturing") for v in (ONE, TWO)]


def test_a_file_that_is_renamed_is_listed_once(maps):
    first, second = reading.read_videos(maps.out).values()
    moved = replace(first, video=replace(first.video, uri="/archive/renamed.mp4"))
    publish_videos(maps.out, [moved, second])
    assert [video["uri"] for video in status_of(maps.out)] == ["/archive/2.mp4", "/archive/renamed.mp4"]


def test_what_failed_for_good_is_finished_and_what_storage_kept_back_is_not(maps):
    staging, plan = maps.begin("a"), maps.plan("a", ONE)
    first, second = plan[ONE]
    maps.stage(staging, first, gaps=[Gap(0.0, 60.0, "corrupt", "nothing decodes")])
    maps.stage(staging, second, gaps=[Gap(60.0, 120.0, "storage", "the store was away")])
    maps.publish(staging, plan, "a")
    assert finished_segments(maps.out, "a") == {first.segment_id}
    assert finished_segments(maps.out, "a", [ONE]) == set()
    staging = maps.begin("a")
    maps.stage(staging, second)
    maps.publish(staging, plan, "a")
    assert maps.rows() == [(ONE, 0.0, 60.0, "macro", "corrupt"), (ONE, 60.0, 120.0, "macro", "Suturing")]


def status(maps: Maps) -> dict[str, tuple]:
    return {
        v["video_id"]: (v["status"], v["segments_done"], v["segments_failed"], v["segments"])
        for v in status_of(maps.out)
    }


def test_status_before_during_and_after_a_run(maps):
    assert status(maps)[ONE] == ("pending", 0, 0, 0)
    staging, plan = maps.begin("a"), maps.plan("a", ONE, TWO)
    assert status(maps)[ONE] == ("pending", 0, 0, 2)
    maps.stage(staging, plan[ONE][0])
    assert status(maps)[ONE] == ("pending", 1, 0, 2)
    maps.stage(staging, plan[ONE][1], gaps=[Gap(60.0, 120.0, "corrupt", "nothing decodes")])
    assert status(maps)[ONE] == ("partial", 1, 1, 2)
    for segment in plan[TWO]:
        maps.stage(staging, segment, gaps=[Gap(segment.start_s, segment.stop_s, "decoder-hung", "it hung")])
    maps.publish(staging, plan, "a")
    assert status(maps) == {ONE: ("partial", 1, 1, 2), TWO: ("failed", 0, 2, 2)}
    assert [(v["code"], v["reason"]) for v in status_of(maps.out)] == [
        ("corrupt", "nothing decodes"),
        ("decoder-hung", "it hung"),
    ]
    assert [v["missing_s"] for v in status_of(maps.out)] == [60.0, 120.0]


def test_seconds_without_picture_are_told_and_counted_once(maps):
    """Two recipes find the same damage; a window that was not asked for it is no time without picture."""
    for recipe in ("a", "b"):
        staging, plan = maps.begin(recipe), maps.plan(recipe, ONE)
        gaps = [Gap(10.0, 11.0, "corrupt", "why"), Gap(20.0, 20.5, "corrupt", "why")]
        result = SegmentResult(plan[ONE][0], [], gaps, "run", unasked=[Unasked("macro", 0.0, 30.0, "corrupt")])
        staging.write(result)
        maps.stage(staging, plan[ONE][1])
        maps.publish(staging, plan, recipe)
    assert [v["missing_s"] for v in status_of(maps.out) if v["video_id"] == ONE] == [1.5]
    assert maps.rows()[0] == (ONE, 0.0, 30.0, "macro", "corrupt")
    again = maps.begin("b")
    maps.stage(again, maps.plan("b", ONE)[ONE][1])
    maps.publish(again, maps.plan("b", ONE), "b")
    assert maps.rows()[0] == (ONE, 0.0, 30.0, "macro", "corrupt"), "what was not asked comes back from the table"


def test_a_run_that_was_given_up_does_not_hide_a_later_one(maps):
    given_up = maps.begin("a")
    maps.stage(given_up, maps.plan("a", ONE)[ONE][0])
    time.sleep(0.01)
    maps.map("b", ONE, TWO)
    assert status(maps) == {ONE: ("mapped", 2, 0, 2), TWO: ("mapped", 2, 0, 2)}


def test_a_video_that_is_listed_again_unchanged_makes_no_commit(maps):
    from deltalake import DeltaTable

    entries = list(reading.read_videos(maps.out).values())
    publish_videos(maps.out, entries)
    assert DeltaTable(f"{maps.out}/videos").version() == 0
    publish_videos(maps.out, entries[:1])
    assert len(reading.read_videos(maps.out)) == 2, "a file that is gone keeps its row"


def test_without_a_terminal_progress_is_logged_once_a_minute(caplog):
    with caplog.at_level(logging.INFO, "halsted_ray"), ProgressLine(io.StringIO()) as line:
        for done_s in (60, 120, 180):
            line.on_progress(Progress(done_s, 3600, 0, 0, 10.0))
        assert not caplog.records
        line.next_log_s = 0
        line.on_progress(Progress(240, 3600, 0, 1, 10.0))
        line.on_progress(Progress(300, 3600, 0, 1, 10.0))
    (record,) = caplog.records
    assert "0.07 of 1.00 video-hours" in record.message and "1 segments failed" in record.message


def test_that_a_run_waits_is_said_once_a_minute(caplog):
    with caplog.at_level(logging.INFO, "halsted_ray"), ProgressLine(io.StringIO()) as line:
        for free in range(5):
            line.on_wait(f"{free} CPUs")
        line.next_wait_s = 0
        line.on_wait("5 CPUs")
    assert [record.message for record in caplog.records] == ["waiting: 0 CPUs", "waiting: 5 CPUs"]


@pytest.mark.parametrize("place, kind", [("disk", LocalFileSystem), ("s3", S3FileSystem)])
def test_tables_are_read_without_python_in_arrows_threads(place, kind, request, tmp_path):
    """Else such a thread can abort the process when the interpreter ends."""
    maps = Maps(str(tmp_path) if place == "disk" else f"{request.getfixturevalue('s3_server').bucket}/native")
    table = open_table(table_uri(maps.out, "videos"))
    files = native_files(table)
    assert isinstance(files.base_fs, kind)
    assert table.to_pyarrow_table(filesystem=files).equals(table.to_pyarrow_table()) and len(table.to_pyarrow_table())
