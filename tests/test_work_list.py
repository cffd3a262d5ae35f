"""Work in waves: everything once, nothing twice, and what is published does not depend on how it was cut."""

from __future__ import annotations

from dataclasses import replace

import pytest
from deltalake import DeltaTable

from halsted_ray.errors import UsageError
from halsted_ray.mapping import work_list
from halsted_ray.mapping.inventory import new_or_changed
from halsted_ray.mapping.work_list import build_work_list
from halsted_ray.maps import publishing
from halsted_ray.maps.publishing import publish, publish_videos
from halsted_ray.maps.reading import read_segments, read_timeline
from halsted_ray.maps.staging import MappingRun, SegmentResult, Staging
from halsted_ray.maps.status import status_of
from halsted_ray.maps.table_schemas import ArchiveFile, Provenance
from halsted_ray.maps.timeline import Gap
from halsted_ray.records import Prediction, Video, WindowSpec, digest

ENTRIES = [
    ArchiveFile(Video(digest(n), f"/archive/{n}.mp4", 1, 150.0 + 30 * n, 640, 360, 25.0, "h264"), "s") for n in range(6)
]
ORIGIN = Provenance("run", "recipe", ("macro",), "m", "1", "", "t", "0")
ALL = {entry.video.video_id for entry in ENTRIES}


class Archive:
    """Six videos of 3 to 5 segments, mapped to ``out`` without decoding anything."""

    def __init__(self, out: str):
        self.out, self.staging = out, Staging(out, "recipe")
        publish_videos(out, ENTRIES)
        self.staging.begin(MappingRun("run", "recipe", ("macro",), 60.0, 1))

    def work(self, retried=()) -> work_list.WorkList:
        return build_work_list(self.out, self.staging, ENTRIES, WindowSpec(), 60.0, "recipe", retried)

    def stage(self, segments) -> None:
        for segment in segments:
            bad = segment.start_s == 120
            tags = [] if bad else [Prediction(segment.start_s, segment.stop_s, "macro", "step", "Suturing", 0.9)]
            gaps = [Gap(segment.start_s, segment.stop_s, "corrupt", "why")] if bad else []
            self.staging.write(SegmentResult(segment, tags, gaps, "run", 3, 4, {"decode": 1.0}))

    def map(self, size: int) -> None:
        for wave in self.work().waves(lambda: size):
            self.stage(wave.waiting)
            publish(self.out, self.staging, wave.planned, ORIGIN, run_goes_on=True)
        self.staging.drop([])


@pytest.fixture
def archive(tmp_path) -> Archive:
    return Archive(str(tmp_path))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_waves_are_whole_videos_and_everything_once(archive, size):
    work = archive.work()
    waves = list(work.waves(lambda: size))
    assert [video_id for wave in waves for video_id in wave.planned] == sorted(e.video.video_id for e in ENTRIES)
    ids = [segment.segment_id for wave in waves for segment in wave.waiting]
    assert (
        len(ids)
        == len(set(ids))
        == work.waiting
        == work.segments
        == sum(len(own) for wave in waves for own in wave.planned.values())
    )
    assert all(len(wave.waiting) >= size for wave in waves[:-1])
    assert work.total_s == work.waiting_s == sum(entry.video.duration_s for entry in ENTRIES)


def test_rows_do_not_depend_on_waves_and_commits(tmp_path, monkeypatch):
    whole, pieces = Archive(str(tmp_path / "whole")), Archive(str(tmp_path / "pieces"))
    whole.map(1000)
    monkeypatch.setattr(publishing, "SEGMENTS_A_COMMIT", 4)
    monkeypatch.setattr(work_list, "LOOKED_UP_AT_ONCE", 5)
    pieces.map(9)
    assert DeltaTable(f"{whole.out}/timeline").version() == 0 < DeltaTable(f"{pieces.out}/timeline").version()
    assert read_timeline(pieces.out).equals(read_timeline(whole.out))
    rows = [read_segments(place.out).sort_by("segment_id").to_pylist() for place in (whole, pieces)]
    assert rows[0] == rows[1] and len(rows[0]) == whole.work().segments
    assert status_of(pieces.out) == status_of(whole.out)
    assert not pieces.work().pending and not pieces.work().waiting


def test_what_is_staged_or_published_is_not_done_again(archive):
    work = archive.work()
    first, second, *_ = work.waves(lambda: 1)
    archive.stage(first.waiting)
    archive.stage(second.waiting[:2])
    publish(archive.out, archive.staging, first.planned, ORIGIN, run_goes_on=True)
    again = archive.work()
    assert again.waiting == work.waiting - len(first.waiting) - 2
    waiting = {segment.segment_id for wave in again.waves(lambda: 3) for segment in wave.waiting}
    assert waiting.isdisjoint(s.segment_id for s in [*first.waiting, *second.waiting[:2]])
    assert archive.work(ALL).waiting == again.waiting + 1, "the gap of the first video"


def test_a_video_whose_last_segment_was_staged_is_published_by_the_next_run(archive):
    (wave,) = archive.work().waves(lambda: 1000)
    archive.stage(wave.waiting)
    work = archive.work()
    assert work.waiting == 0 and len(work.pending) == len(ENTRIES)
    archive.map(1000)
    assert read_segments(archive.out).num_rows == work.segments and not archive.work().pending


def test_replaced_rows_do_not_stay(archive):
    archive.map(1000)
    before = read_timeline(archive.out)
    second = Staging(archive.out, "better")
    work = build_work_list(archive.out, second, ENTRIES, WindowSpec(), 60.0, "better")
    assert work.waiting == work.segments
    origin = Provenance("run2", "better", ("macro",), "m", "2", "", "t", "0")
    for wave in work.waves(lambda: 6):
        for segment in wave.waiting:
            second.write(
                SegmentResult(
                    segment, [Prediction(segment.start_s, segment.stop_s, "macro", "step", "x", 0.5)], [], "run2"
                )
            )
        publish(archive.out, second, wave.planned, origin, run_goes_on=True)
    after = read_timeline(archive.out)
    assert set(after["model_version"].to_pylist()) == {"2"} and set(before["model_version"].to_pylist()) == {"1"}
    assert read_segments(archive.out).num_rows == work.segments
    assert archive.work().waiting == work.segments, "the first recipe's rows are gone"


def test_status_while_a_run_publishes_wave_by_wave(archive):
    archive.staging.begin(MappingRun("run", "recipe", ("macro",), 60.0, 1))
    first, second, *_ = archive.work().waves(lambda: 1)
    archive.stage(first.waiting)
    publish(archive.out, archive.staging, first.planned, ORIGIN, run_goes_on=True)
    archive.stage(second.waiting[:1])
    (done,), (begun,) = first.planned, second.planned
    shown = {video["video_id"]: video for video in status_of(archive.out)}
    assert (shown[done]["status"], shown[done]["code"]) == ("partial", "corrupt")
    assert (shown[begun]["status"], shown[begun]["segments_done"]) == ("pending", 1)
    assert shown[begun]["segments"] == len(second.waiting)
    assert {video["status"] for video in shown.values()} == {"partial", "pending"}


def test_a_wrong_segment_length_is_refused(tmp_path):
    with pytest.raises(UsageError, match="segment_s"):
        build_work_list(str(tmp_path), Staging(str(tmp_path), "r"), ENTRIES, WindowSpec(), 45.0, "r")


def test_only_a_file_that_is_new_or_changed_is_tried_again():
    known = {entry.video.uri: entry for entry in ENTRIES[1:]}
    first, second, third, *_ = ENTRIES
    assert new_or_changed([replace(second, stamp="t"), third], known) == {second.video.video_id}
    assert new_or_changed([first, second, third], known) == {first.video.video_id}
