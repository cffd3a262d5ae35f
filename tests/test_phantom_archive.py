import os
from dataclasses import replace
from pathlib import Path

import pytest
import slow_jobs

from halsted_ray.atlas import phantom_archive, read_atlas
from halsted_ray.atlas.phantom_archive import PhantomVideo, first_step, procedures_by_specialty, write_archive
from halsted_ray.errors import OutputError
from halsted_ray.phantom.catalogue import SPECIALTY_OF
from halsted_ray.records import digest
from halsted_ray.storage.locations import filesystem
from halsted_ray.video.identity import video_id

SMALL = {"videos": 2, "minutes": 0.1, "seed": 5, "width": 160, "height": 90, "fps": 10}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = str(tmp_path_factory.mktemp("phantom") / "archive")
    calls = []
    atlas = write_archive(root, **SMALL, progress=lambda done, total: calls.append((done, total)))
    return root, atlas, calls


def test_videos_and_truth_are_written(archive):
    root, atlas, calls = archive
    assert calls == [(1, 2), (2, 2)]
    files = sorted(Path(root, "videos").iterdir())
    assert [file.suffix for file in files] == [".mp4", ".mp4"]
    assert {video.uri for video in atlas.videos} == {str(file) for file in files}
    for video in atlas.videos:
        assert video.video_id == video_id(*filesystem(video.uri))
        assert (video.width, video.height, video.fps, video.codec) == (160, 90, 10.0, "h264")
        assert video.duration_s == pytest.approx(6.0)
        lane = [clip for clip in atlas.clips if clip.video_id == video.video_id and clip.task == "macro"]
        assert lane[0].start_s == 0 and lane[-1].stop_s == pytest.approx(6.0)
    assert sorted(atlas.split.values()) == ["train", "validation"]
    procedures = [clip.tags["procedure"] for clip in atlas.clips if clip.task == "macro"]
    assert set(procedures) == set(procedures_by_specialty()[:2])


def test_a_second_run_renders_and_commits_nothing(archive):
    root, atlas, _ = archive
    before = {path: os.stat(path).st_mtime_ns for path in Path(root, "videos").iterdir()}
    assert write_archive(root, **SMALL, workers=1) == atlas
    assert {path: os.stat(path).st_mtime_ns for path in Path(root, "videos").iterdir()} == before
    assert read_atlas(root).version == 0


def test_same_seed_same_archive_other_seed_other_videos(archive, tmp_path):
    root, atlas, _ = archive
    again = write_archive(str(tmp_path / "again"), **SMALL, workers=1)
    assert again.content_digest == atlas.content_digest and again.clips == atlas.clips
    assert {v.video_id for v in again.videos} == {v.video_id for v in atlas.videos}
    other = write_archive(str(tmp_path / "other"), **{**SMALL, "seed": 6, "videos": 1})
    assert not {v.video_id for v in other.videos} & {v.video_id for v in atlas.videos}
    assert other.split == {}


def test_a_lost_video_is_rendered_again(archive, tmp_path):
    first = write_archive(str(tmp_path), **{**SMALL, "videos": 1})
    Path(first.videos[0].uri).unlink()
    assert write_archive(str(tmp_path), **{**SMALL, "videos": 1}) == first
    assert Path(first.videos[0].uri).exists()


def test_another_archive_is_not_mixed_in(archive, tmp_path):
    root, atlas, _ = archive
    with pytest.raises(OutputError, match="holds the atlas 'phantom-.*name another folder"):
        write_archive(root, **{**SMALL, "seed": 6})
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "case 1.mp4").write_bytes(b"somebody's video")
    with pytest.raises(OutputError, match="1 other file"):
        write_archive(str(tmp_path), **SMALL)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't write videos"):
        write_archive(str(tmp_path / "file"), **SMALL)


def test_a_signal_ends_the_rendering_that_is_queued_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv(slow_jobs.FOLDER, str(tmp_path / "begun"))
    (tmp_path / "begun").mkdir()
    monkeypatch.setattr(phantom_archive, "render", slow_jobs.render)

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_archive(str(tmp_path / "archive"), **{**SMALL, "videos": 8}, workers=2, progress=interrupt)
    assert len(slow_jobs.begun()) <= 3, "the first video, and the one that each process had at hand"
    assert not list((tmp_path / "archive" / "videos").iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"videos": 0},
        {"minutes": 0},
        {"width": 161},
        {"fps": 0},
        {"procedures": ("Nap",)},
        {"pace": 0},
        {"domain": "odd"},
        {"suturing": 1.5},
    ],
)
def test_bad_arguments_are_reported(tmp_path, change):
    with pytest.raises(ValueError, match=next(iter(change)) if "procedures" not in change else "Nap"):
        write_archive(str(tmp_path), **{**SMALL, **change})


def test_each_specialty_comes_before_a_second_procedure_of_any():
    order = procedures_by_specialty()
    assert sorted(order) == sorted(SPECIALTY_OF)
    assert len({SPECIALTY_OF[procedure] for procedure in order[:8]}) == 8


def test_a_name_depends_on_everything_that_decides_the_pixels():
    video = PhantomVideo(1, 60.0, "Prostatectomy", 640, 360, 25)
    assert video.name == PhantomVideo(1, 60.0, "Prostatectomy", 640, 360, 25).name
    assert video.name != PhantomVideo(1, 60.0, "Prostatectomy", 640, 360, 30).name


def test_names_of_earlier_archives_are_still_theirs():
    """A plain video at the usual pace has the name it had before pace and domain were to be chosen."""
    video = PhantomVideo(1, 60.0, "Prostatectomy", 640, 360, 25)
    assert video.name == digest(1, 60.0, "Prostatectomy", 640, 360, 25, 1)
    others = {replace(video, pace=2.0).name, replace(video, domain="shifted").name}
    assert len(others | {video.name}) == 3


def test_a_share_of_suturing_is_spread_over_all_procedures():
    steps = [first_step(i, 16, 0.75) for i in range(64)]
    assert steps.count("Suturing") == 48
    assert {steps[i::16].count("Suturing") for i in range(16)} == {3}
    assert {first_step(i, 16, None) for i in range(4)} == {""}
    begun = PhantomVideo(1, 30.0, "Myomectomy", 64, 36, 5, first_step="Suturing").script()
    assert {event.step for event in begun.events} == {"Suturing"}


def test_a_shifted_archive_has_the_truth_of_the_plain_one_and_other_pixels(archive, tmp_path):
    _, plain, _ = archive
    shifted = write_archive(str(tmp_path), **SMALL, domain="shifted", workers=1)

    def events(atlas):
        return [(clip.task, clip.start_s, clip.stop_s, clip.tags) for clip in atlas.clips]

    assert events(shifted) == events(plain)
    assert not {v.video_id for v in shifted.videos} & {v.video_id for v in plain.videos}
    assert shifted.release != plain.release
    again = write_archive(str(tmp_path / "again"), **SMALL, domain="shifted", workers=1)
    assert {v.video_id for v in again.videos} == {v.video_id for v in shifted.videos}


@pytest.mark.slow
def test_an_archive_on_s3(s3_server, archive):
    _, local, _ = archive
    location = f"{s3_server.bucket}/phantoms"
    atlas = write_archive(location, **SMALL)
    assert {v.video_id for v in atlas.videos} == {v.video_id for v in local.videos}
    assert all(video.uri.startswith(f"{location}/videos/") for video in atlas.videos)
    assert atlas.clips == local.clips and atlas.content_digest == local.content_digest
    assert write_archive(location, **SMALL, workers=1) == atlas
