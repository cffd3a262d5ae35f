import shutil
from dataclasses import replace

import pytest

from halsted_ray import taxonomy as taxonomies
from halsted_ray.atlas import read_atlas, write_atlas
from halsted_ray.atlas.split import split_by_video
from halsted_ray.errors import AtlasError, OutputError
from halsted_ray.records import Clip, Video
from halsted_ray.storage.delta import WAITING, open_table, storage_options, table_uri


def video(name, root, duration_s=60.0):
    return Video(name, f"{root}/videos/{name}.mp4", 1000, duration_s, 640, 360, 25.0, "h264")


def small_atlas(root):
    videos = [video("b" * 16, root), video("a" * 16, root, 33.2)]
    clips = [
        Clip("b" * 16, 0.0, 41.5, "macro", {"specialty": "Urology", "procedure": "Prostatectomy", "step": "Suturing"}),
        Clip("b" * 16, 3.0, 5.25, "context", {"anatomy": "Bladder–Urethra", "extent": "Double", "direction": "In"}),
        Clip("a" * 16, 0.0, 4.0, "micro", {"action": "Cold Cut", "arm": "Left", "instrument": "Scissors"}),
    ]
    return videos, clips


def test_round_trip_in_a_moved_archive(tmp_path):
    root = str(tmp_path / "an archive")
    videos, clips = small_atlas(root)
    write_atlas(root, videos, clips, "v1", split={"a" * 16: "train", "b" * 16: "validation"})
    moved = str(tmp_path / "moved")
    shutil.move(root, moved)
    atlas = read_atlas(moved)
    of_b = {"specialty": "Urology", "procedure": "Prostatectomy"}
    assert atlas.clips == (clips[2], replace(clips[0], **of_b), replace(clips[1], **of_b))
    assert [v.uri for v in atlas.videos] == [f"{moved}/videos/{'a' * 16}.mp4", f"{moved}/videos/{'b' * 16}.mp4"]
    assert atlas.videos[0] == replace(videos[1], uri=atlas.videos[0].uri)
    assert atlas.release == "v1" and atlas.taxonomy == "halsted"
    assert atlas.taxonomy_digest == taxonomies.load().digest
    assert [v.video_id for v in atlas.videos_of("validation")] == ["b" * 16]
    assert atlas.videos_of("test") == ()


def test_rows_hold_procedure_and_clip_id(tmp_path):
    root = str(tmp_path)
    write_atlas(root, *small_atlas(root), "v1", annotator="phantom")
    rows = open_table(table_uri(root, "atlas", "samples")).to_pyarrow_table().to_pylist()
    by_task = {row["task"]: row for row in rows}
    assert by_task["context"]["procedure"] == "Prostatectomy" and by_task["context"]["specialty"] == "Urology"
    assert by_task["micro"]["procedure"] == ""
    assert {row["annotator"] for row in rows} == {"phantom"}
    assert len({row["clip_id"] for row in rows}) == 3


def test_versions_stay_readable_and_same_rows_commit_nothing(tmp_path):
    root = str(tmp_path)
    videos, clips = small_atlas(root)
    assert write_atlas(root, videos, clips, "v1") == 0
    assert write_atlas(root, videos[::-1], clips[::-1], "v1") == 0
    assert write_atlas(root, videos, clips[:2], "v2") == 1
    assert write_atlas(root, videos, clips[:2], "v3") == 2
    assert len(read_atlas(root).clips) == 2
    first = read_atlas(root, version=0)
    assert (first.release, len(first.clips), first.version) == ("v1", 3, 0)
    with pytest.raises(AtlasError, match="version 7 .* versions are 0 to 2"):
        read_atlas(root, version=7)


def test_a_missing_atlas_is_reported_with_the_place_that_was_searched(tmp_path):
    with pytest.raises(AtlasError, match="no atlas at .*atlas/samples.*halsted phantom"):
        read_atlas(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(stop_s=40.0), "stop <= duration 33.2"),
        (dict(start_s=5.0), "start < stop"),
        (dict(video_id="c" * 16), "no such video"),
        (
            dict(tags={"action": "Cold cut"}),
            "action='Cold cut' is not in taxonomy 'halsted'; expected one of .*Cold Cut",
        ),
        (dict(tags={"step": "Suturing"}), "a tag of"),
        (dict(task="mikro"), "mikro"),
    ],
)
def test_a_bad_clip_is_reported(tmp_path, change, message):
    videos, clips = small_atlas(str(tmp_path))
    with pytest.raises(ValueError, match=message):
        write_atlas(str(tmp_path), videos, [*clips, replace(clips[2], **change)], "v1")
    assert not (tmp_path / "atlas").exists()


def test_split_names_known_parts_and_videos(tmp_path):
    videos, clips = small_atlas(str(tmp_path))
    with pytest.raises(AtlasError, match="trial"):
        write_atlas(str(tmp_path), videos, clips, "v1", split={"a" * 16: "trial"})
    with pytest.raises(AtlasError, match="lacks"):
        write_atlas(str(tmp_path), videos, clips, "v1", split={"d" * 16: "train"})
    with pytest.raises(AtlasError, match="same content"):
        write_atlas(str(tmp_path), [*videos, videos[0]], clips, "v1")


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="can't be written"):
        write_atlas(str(tmp_path / "file"), *small_atlas(str(tmp_path / "file")), "v1")


def test_table_uris_and_options(monkeypatch):
    assert table_uri("s3://bucket/archive/", "atlas", "videos") == "s3://bucket/archive/atlas/videos"
    assert table_uri("file:///data/a", "atlas") == "/data/a/atlas"
    assert storage_options("/data") == {}
    import fsspec

    monkeypatch.setitem(fsspec.config.conf, "s3", {"key": "k", "client_kwargs": {"endpoint_url": "http://127.0.0.1:9"}})
    assert storage_options("s3://b/x") == WAITING | {
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ALLOW_HTTP": "true",
    }


def test_a_split_leaves_every_procedure_in_training():
    clips = [
        Clip(f"v{i}", 0.0, 1.0, "macro", {"procedure": p})
        for i, p in enumerate(["Prostatectomy"] * 3 + ["Hysterectomy"] * 2 + ["Myomectomy"])
    ]
    ids = [clip.video_id for clip in clips]
    split = split_by_video(ids, clips, validation=0.34, test=0.1)
    assert split == split_by_video(ids[::-1], clips[::-1], validation=0.34, test=0.1)
    assert sorted(split.values()) == ["test"] + ["train"] * 3 + ["validation"] * 2
    trained = {clip.tags["procedure"] for clip in clips if split[clip.video_id] == "train"}
    assert trained == {"Prostatectomy", "Hysterectomy", "Myomectomy"}
    with pytest.raises(ValueError, match="1 videos can't be split"):
        split_by_video(["v0"], clips)
