"""What a power cut, a dead writer, a second writer or a clock that was set leaves behind: no lock, and nothing lost."""

from __future__ import annotations

from datetime import UTC, datetime

import fsspec
import pytest
from deltalake.exceptions import CommitFailedError

from halsted_ray.atlas import write_atlas
from halsted_ray.errors import OutputError, StorageUnavailable
from halsted_ray.hospital.identities import Identities
from halsted_ray.hospital.studies import RETRY_S, Studies
from halsted_ray.mapping.kept_inventory import KeptInventory
from halsted_ray.maps.publishing import publish_videos
from halsted_ray.maps.reading import (
    commit_of_run,
    read_segments,
    read_timeline,
    read_videos,
    segment_batches,
    timeline_version,
)
from halsted_ray.maps.run_profile import read_profile
from halsted_ray.maps.staging import MappingRun, SegmentResult, Staging
from halsted_ray.maps.status import status_of
from halsted_ray.maps.table_schemas import ArchiveFile
from halsted_ray.maps.timeline import Gap
from halsted_ray.records import Clip, Segment, Video
from halsted_ray.storage import lease as leases
from halsted_ray.storage.delta import sole_writer
from halsted_ray.storage.lease import Lease
from halsted_ray.training.train import train

EMPTY_OR_CUT = (b"", b'{"run_id": "x", ')


@pytest.mark.parametrize("left", [*EMPTY_OR_CUT, b'{"run_id": "a", "of a later version": 1}'])
def test_a_claim_that_cannot_be_read_locks_a_place_for_some_seconds_only(tmp_path, monkeypatch, left):
    monkeypatch.setattr(leases, "DEAD_AFTER_S", 0.3)
    monkeypatch.setattr(leases, "POLL_S", 0.05)
    (tmp_path / "lease").mkdir()
    (tmp_path / "lease" / "a.json").write_bytes(left)
    told: list[str] = []
    with Lease(str(tmp_path), "b", told.append) as held:
        held.check()
        assert [path.name for path in (tmp_path / "lease").iterdir()] == ["b.json"]
    assert "run a on an unknown machine" in told[0]


@pytest.mark.parametrize("left", EMPTY_OR_CUT)
def test_a_damaged_result_is_removed_and_named_so_that_the_next_run_makes_it_anew(tmp_path, left):
    staging = Staging(str(tmp_path), "recipe")
    first, second = (Segment(name, "v", "", start_s, start_s + 60, 120) for name, start_s in (("one", 0), ("two", 60)))
    away = Gap(60, 120, StorageUnavailable.code, "away")
    staging.write(SegmentResult(second, [], [away], "run"))
    place = tmp_path / "staging" / "recipe" / "v"
    (place / "one.done.json").write_bytes(left)
    with pytest.raises(OutputError, match="one.done.json.*is damaged.*was removed: give the same command again"):
        staging.read("v")
    assert staging.states_of("v") == {"two": "fail"}
    staging.write(SegmentResult(first, [], [], "run"))
    assert [result.segment.segment_id for result in staging.read("v")] == ["one", "two"]
    (place / "two.fail.json").write_bytes(left)
    staging.drop_failed()
    assert staging.states_of("v") == {"one": "done"}, "a damaged failure is tried again"


@pytest.mark.parametrize("left", EMPTY_OR_CUT)
def test_notes_that_cannot_be_read_are_made_anew(tmp_path, left):
    staging, kept = Staging(str(tmp_path), "recipe"), KeptInventory(str(tmp_path), "archive")
    staging.begin(MappingRun("a", "recipe", ("macro",), 60.0, 1))
    kept.write([])
    for path in (staging.root + "/run.json", kept.place, tmp_path / "profile.json"):
        with open(path, "wb") as file:
            file.write(left)
    assert staging.run() is None and kept.read() == {} and read_profile(str(tmp_path)) is None


@pytest.mark.parametrize("table", ["videos", "timeline", "segments"])
def test_a_table_whose_log_is_empty_is_named_with_what_to_do(tmp_path, table):
    out = str(tmp_path)
    publish_videos(out, [ArchiveFile(Video("v", "/a.mp4", 1, 60.0, 1, 1, 1.0, ""), "stamp")])
    log = tmp_path / table / "_delta_log"
    log.mkdir(parents=True, exist_ok=True)
    (log / f"{0:020d}.json").write_bytes(b"")
    reads = {
        "videos": [read_videos, status_of],
        "timeline": [read_timeline, timeline_version, commit_of_run, status_of],
        "segments": [read_segments, lambda out: list(segment_batches(out, ["video_id"])), status_of],
    }
    for read in reads[table]:
        with pytest.raises(OutputError, match=f"can't read the table .*{table}.*_delta_log empty, remove this file"):
            read(out)


def test_a_dead_writers_claim_expires_at_a_store_that_states_times_in_its_own_words():
    """memory:// says ``created`` where S3 says LastModified."""
    fs = fsspec.filesystem("memory")
    claim = "/power-cut/_claims/0000"
    fs.pipe_file(claim, b"")
    with pytest.raises(CommitFailedError), sole_writer("memory://power-cut"):
        pass
    fs.store[claim].modified = datetime(2020, 1, 1, tzinfo=UTC)
    with sole_writer("memory://power-cut"):
        assert len(fs.ls("/power-cut/_claims")) == 2
    fs.rm("/power-cut", recursive=True)


def test_a_study_that_came_while_the_clock_was_wrong_is_mapped_when_it_is_right(tmp_path, monkeypatch):
    now = [4e9]
    monkeypatch.setattr("halsted_ray.hospital.studies.time.time", lambda: now[0])
    studies = Studies(Identities(tmp_path / "ids.db"))
    key = studies.key_of("1.2.3")
    studies.add_video(key, "aa", "1")
    now[0] = 2e9
    assert studies.claim(60) == key
    now[0] = 4e9
    studies.finish(key, "no room", is_final=False)
    now[0] = 2e9
    assert studies.claim(60) == key
    studies.finish(key, "no room", is_final=False)
    assert studies.claim(60) is None, "the second pause is kept"
    now[0] += 2 * RETRY_S
    assert studies.claim(60) == key


def test_two_trainings_do_not_write_to_one_folder(tmp_path):
    """The second would go on with the first one's checkpoints, and the last to finish would replace the other's
    model."""
    videos = [Video(f"{n:016x}", f"/{n}.mp4", 1, 60.0, 1, 1, 25.0, "h264") for n in range(2)]
    clips = [Clip(video.video_id, 0.0, 30.0, "macro", {"step": "Suturing"}) for video in videos]
    split = {video.video_id: part for video, part in zip(videos, ("train", "validation"), strict=True)}
    write_atlas(str(tmp_path / "atlas"), videos, clips, "v1", split=split)
    out = str(tmp_path / "run")
    with Lease(out, "first"), pytest.raises(OutputError, match="another run is at work on .*run first"):
        train(str(tmp_path / "atlas"), out)
