"""Work in waves: everything once, nothing twice, and what is published does not depend on how it was cut."""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import replace

import numbered_video
import pytest
from deltalake import DeltaTable

from halsted_ray.errors import UsageError
from halsted_ray.mapping import pipeline, work_list
from halsted_ray.mapping.inventory import new_or_changed, take_inventory
from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.mapping.work_list import OpenWaves, build_work_list
from halsted_ray.maps import publishing
from halsted_ray.maps.publishing import publish, publish_videos
from halsted_ray.maps.reading import read_segments, read_timeline, read_videos
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
        for wave in self.work().waves(size):
            self.stage(wave.waiting)
            publish(self.out, self.staging, wave.planned, ORIGIN, run_goes_on=True)
        self.staging.drop([])


@pytest.fixture
def archive(tmp_path) -> Archive:
    return Archive(str(tmp_path))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_waves_are_whole_videos_and_everything_once(archive, size):
    work = archive.work()
    waves = list(work.waves(size))
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


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_wave_is_published_when_its_last_segment_is_finished_in_any_order(archive, size):
    work = archive.work()
    segments = list(work.all_waiting)
    random.Random(size).shuffle(segments)
    waves, left, published = OpenWaves(work, size), Counter(s.video_id for s in segments), []
    for segment in segments:
        left[segment.video_id] -= 1
        if wave := waves.finish(segment.video_id):
            published += wave.planned
            assert not any(left[video_id] for video_id in wave.planned)
    assert sorted(published) == sorted({s.video_id for s in segments})
    done_before = [video_id for wave in waves.rest() for video_id in wave.planned]
    assert sorted(published + done_before) == sorted(e.video.video_id for e in ENTRIES) and not waves.rest()


def test_waiting_segments_are_parted_and_none_is_lost(archive):
    waiting = archive.work().all_waiting
    every_second = lambda video, numbers: [number for number in numbers if number % 2]  # noqa: E731
    odd, even = waiting.split(every_second)
    assert sorted(s.segment_id for s in [*odd, *even]) == sorted(s.segment_id for s in waiting)
    assert all((s.start_s / 60) % 2 == 1 for s in odd) and len(odd) + len(even) == len(waiting)
    one = next(iter(odd))
    assert [s.segment_id for s in odd.only({one.video_id: [1]})] == [one.segment_id]


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
    first, second, *_ = work.waves(1)
    archive.stage(first.waiting)
    archive.stage(list(second.waiting)[:2])
    publish(archive.out, archive.staging, first.planned, ORIGIN, run_goes_on=True)
    again = archive.work()
    assert again.waiting == work.waiting - len(first.waiting) - 2
    waiting = {segment.segment_id for wave in again.waves(3) for segment in wave.waiting}
    assert waiting.isdisjoint(s.segment_id for s in [*first.waiting, *list(second.waiting)[:2]])
    assert archive.work(ALL).waiting == again.waiting + 1, "the gap of the first video"


def test_a_video_whose_last_segment_was_staged_is_published_by_the_next_run(archive):
    (wave,) = archive.work().waves(1000)
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
    for wave in work.waves(6):
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
    first, second, *_ = archive.work().waves(1)
    archive.stage(first.waiting)
    publish(archive.out, archive.staging, first.planned, ORIGIN, run_goes_on=True)
    archive.stage(list(second.waiting)[:1])
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


def test_a_file_whose_probe_failed_is_probed_again_when_asked_for(tmp_path):
    uri = str(numbered_video.write(tmp_path / "0.mp4", numbered_video.Recipe(frames=20, rate=10, size=(48, 64))).path)
    (whole,) = take_inventory([uri])
    known = {uri: replace(whole, code="decoder-died", reason="short of memory")}
    assert take_inventory([uri], known) == [known[uri]], "a permanent failure is believed"
    assert take_inventory([uri], known, retry_failed=True) == [whole]


def test_a_file_that_an_earlier_version_probed_is_probed_again(tmp_path):
    """It may have been taken for shorter than it is: nobody would ever see the rest."""
    uri = str(numbered_video.write(tmp_path / "0.mp4", numbered_video.Recipe(frames=20, rate=10, size=(48, 64))).path)
    (now,) = take_inventory([uri])
    before = replace(now, video=replace(now.video, duration_s=1.0), probe_version=now.probe_version - 1)
    assert take_inventory([uri], {uri: before}) == [now]
    assert take_inventory([uri], {uri: replace(before, probe_version=now.probe_version)})[0].video.duration_s == 1.0


def test_what_a_killed_run_staged_as_failed_is_tried_again_when_asked_for(archive):
    first, second, *_ = archive.work().waves(1)
    archive.stage(first.waiting)
    archive.stage(second.waiting)
    (away, *_) = second.waiting
    archive.staging.write(SegmentResult(away, [], [Gap(away.start_s, away.stop_s, "storage", "why")], "run"))
    archive.staging.drop_failed()
    assert {s.segment_id for w in archive.work().waves(9) for s in w.waiting}.isdisjoint(
        segment.segment_id for segment in [*first.waiting, *second.waiting] if segment is not away
    )
    before = archive.work().waiting
    archive.staging.drop_failed(first.planned)
    assert archive.work().waiting == before + 1, "the gap of the first video"
    archive.staging.drop_failed(ALL)
    assert archive.work().waiting == before + 2


class Killed(BaseException):
    pass


@pytest.fixture
def run_of(tmp_path, small_model, monkeypatch):
    """A run over one video of three segments, without decoding: ``run_of(state, **options)`` stages all that waits as
    ``state``, and gives how many segments that were and the status of the video; with ``killed`` it ends like a run
    that was killed then. ``state`` None: before anything is staged."""
    numbered_video.write(tmp_path / "archive.mp4", numbered_video.Recipe(frames=150, rate=10, size=(48, 64)))

    def run(state: str | None, killed: bool = False, **options):
        seen = []

        def map_wave(waiting, tagging, *_):
            seen.extend(waiting)
            for segment in waiting if state else ():
                tags = [Prediction(segment.start_s, segment.stop_s, "macro", "step", "Suturing", 0.9)] * (
                    state == "done"
                )
                gaps = [Gap(segment.start_s, segment.stop_s, state, "why")] * (state != "done")
                Staging(tagging.out, tagging.recipe).write(SegmentResult(segment, tags, gaps, "run"))
            if killed:
                raise Killed
            return len(waiting)

        monkeypatch.setattr(pipeline, "finish_segments", map_wave)
        try:
            map_archive(str(tmp_path / "archive.mp4"), str(tmp_path / "out"), small_model, segment_s=5, **options)
        except Killed:
            pass
        (video,) = status_of(str(tmp_path / "out"))
        return len(seen), video["status"]

    return run


def test_retry_failed_tries_what_a_killed_run_staged(run_of):
    assert run_of("corrupt", killed=True)[0] == 3
    assert run_of("done") == (0, "failed")
    assert run_of("done", retry_failed=True) == (3, "mapped")
    assert run_of("corrupt", retry_failed=True) == (0, "mapped"), "what is mapped whole is never done again"


def test_retry_failed_tries_what_a_killed_run_staged_and_nobody_published(run_of):
    assert run_of("corrupt", killed=True)[0] == 3
    assert run_of("done", retry_failed=True) == (3, "mapped")


def test_an_outage_that_a_killed_run_staged_is_tried_again(run_of):
    assert run_of("storage", killed=True)[0] == 3
    assert run_of("done") == (3, "mapped")


def test_a_file_that_could_not_be_probed_is_mapped_when_asked_for(run_of, tmp_path):
    assert run_of("done") == (3, "mapped")
    (entry,) = read_videos(str(tmp_path / "out")).values()
    publish_videos(str(tmp_path / "out"), [replace(entry, code="decoder-died", reason="why")])
    assert run_of("done") == (0, "failed")
    assert run_of("done", retry_failed=True) == (0, "mapped")


def test_a_file_new_or_changed_is_tried_again_though_the_first_run_over_it_was_killed(run_of, tmp_path):
    assert run_of("corrupt") == (3, "failed")
    os.utime(tmp_path / "archive.mp4", (1, 1))
    assert run_of(None, killed=True)[0] == 3
    assert run_of("done") == (3, "mapped")
    assert run_of("done") == (0, "mapped")
