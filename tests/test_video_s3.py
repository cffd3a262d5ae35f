"""Videos in a real S3 store: listed, named, probed and read by ranges."""

import threading
import time

import fsspec
import numpy as np
import pytest
from botocore.exceptions import ClientError
from busy_machine import measured_slowness
from numbered_video import Recipe, write
from s3fs.errors import translate_boto_error

from halsted_ray.errors import StorageUnavailable, UnreadableVideo
from halsted_ray.mapping.inventory import take_inventory
from halsted_ray.storage.locations import filesystem
from halsted_ray.storage.ranges import open_source
from halsted_ray.storage.tree import SLASH_AT_THE_END, SNAPSHOT
from halsted_ray.video.archive import list_archive, list_videos
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.identity import video_id
from halsted_ray.video.left_out import APPLE_DOUBLE, BEING_WRITTEN, RECYCLED
from halsted_ray.video.probe import probe
from halsted_ray.video.readers import read_frames

SIZE = (90, 160)
NAMES = {
    "plain.mp4": Recipe(),
    "deep/Ö 'x' \"y\".mkv": Recipe(".mkv"),
    "front.mp4": Recipe(mux_options={"movflags": "faststart"}),
    "stream.ts": Recipe(".ts"),
}


@pytest.fixture(scope="module")
def bucket(s3_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("s3-videos")
    fs = fsspec.filesystem("s3")
    videos = {}
    for number, (name, recipe) in enumerate(NAMES.items()):
        videos[name] = write(folder / f"{number}{recipe.suffix}", recipe)
        fs.put_file(str(videos[name].path), f"archive/videos/{name}")
    return f"{s3_server.bucket}/videos", videos


def test_lists_and_names_what_is_in_a_bucket(bucket):
    root, videos = bucket
    assert list_videos(root) == sorted(f"{root}/{name}" for name in NAMES)
    for name, video in videos.items():
        assert video_id(fsspec.filesystem("s3"), f"archive/videos/{name}") == video_id(
            fsspec.filesystem("file"), str(video.path)
        )


def test_keys_that_no_disk_has_are_listed_and_read(s3_server, tmp_path):
    """Names that URLs and globs read as their own, markers of folders, bins."""
    fs = fsspec.filesystem("s3")
    video = write(tmp_path / "v.mp4", Recipe(frames=20, size=(48, 64))).path.read_bytes()
    names = ["a#b?c*d[e]%41.mp4", "🔪 Mu\u0308ller.mp4", "a+b&c=d;e.mp4", "two\nlines.mp4", "IM0001"]
    for name in (*names, "#recycle/gone.mp4", "@GMT-2026/a.mp4", "._a.mp4", "a.mp4.part"):
        fs.pipe_file(f"archive/keys/{name}", video)
    fs.call_s3("put_object", Bucket="archive", Key="keys/folder.mp4/", Body=b"")
    listing = list_archive("s3://archive/keys")
    assert listing.videos == sorted(f"s3://archive/keys/{name}" for name in names)
    assert {skip.uri.removeprefix("s3://archive/keys/"): skip.reason for skip in listing.skipped} == {
        "#recycle/gone.mp4": RECYCLED,
        "@GMT-2026/a.mp4": SNAPSHOT,
        "._a.mp4": APPLE_DOUBLE,
        "a.mp4.part": BEING_WRITTEN,
    }
    assert not listing.young, "an object is whole, or not there"
    assert [entry.reason for entry in take_inventory(listing.videos)] == [""] * len(names)


def test_a_key_with_an_empty_folder_name_is_another_key(monkeypatch):
    """The server of these tests stores files on a disk, where ``//`` is ``/``: so a store's answer stands in."""
    sizes = {"b/videos/a.mp4": 5, "b/videos//a.mp4": 5, "b/videos//": 0, "b/videos/o_$folder$": 0, "b/videos/x.mp4/": 5}
    answer = {name: {"name": name, "size": size, "type": "file"} for name, size in sizes.items()}
    fs = fsspec.filesystem("s3")
    monkeypatch.setattr(fs, "find", lambda root, **options: answer)
    monkeypatch.setattr(fs, "info", lambda path: {"type": "directory", "size": 0})
    listing = list_archive("s3://b/videos/")
    assert listing.videos == ["s3://b/videos//a.mp4", "s3://b/videos/a.mp4"]
    assert [(skip.uri, skip.reason) for skip in listing.skipped] == [("s3://b/videos/x.mp4/", SLASH_AT_THE_END)]
    asked = [filesystem(uri)[0].split_path(filesystem(uri)[1])[:2] for uri in listing.videos]
    assert asked == [("b", "videos//a.mp4"), ("b", "videos/a.mp4")]


def test_an_archived_object_fails_with_what_to_do(s3_server, tmp_path, monkeypatch):
    fs = fsspec.filesystem("s3")
    fs.pipe_file("archive/cold/a.mp4", b"x" * 100)
    call = type(fs)._call_s3

    async def refuse(self, method, *arguments, **options):
        if method == "get_object":
            answer = {"Error": {"Code": "InvalidObjectState", "Message": "The operation is not valid"}}
            raise translate_boto_error(ClientError(answer, "GetObject"))
        return await call(self, method, *arguments, **options)

    monkeypatch.setattr(type(fs), "_call_s3", refuse)
    (entry,) = take_inventory(list_videos("s3://archive/cold"))
    assert entry.code == "storage" and "Glacier" in entry.reason and "restore it first" in entry.reason
    monkeypatch.undo()
    (entry,) = take_inventory(["s3://archive/cold/a.mp4"], {entry.video.uri: entry})
    assert entry.code == "unreadable", "it is tried again by itself"


@pytest.mark.parametrize("name", NAMES)
def test_reads_the_same_frames_as_from_disk(bucket, name):
    root, videos = bucket
    times_s = np.arange(0, 5.9, 0.15625)
    with DecodeProcess() as process:
        for fidelity in ("exact", "reference", "keyframes"):
            local = read_frames(videos[name].path, times_s, SIZE, fidelity)
            for remote in (
                read_frames(f"{root}/{name}", times_s, SIZE, fidelity),
                process.read_frames(f"{root}/{name}", times_s, SIZE, fidelity, deadline_s=60),
            ):
                assert np.array_equal(local.images_NHWC, remote.images_NHWC)
                assert np.array_equal(local.pts_s, remote.pts_s)
    assert probe(f"{root}/{name}").duration_s == probe(videos[name].path).duration_s


def test_a_large_file_is_probed_from_a_few_ranges(bucket, tmp_path):
    """Pictures of noise, so that the file is large for its length; the index lies at its end."""
    root, _ = bucket
    rng = np.random.default_rng(0)
    import av

    with av.open(str(tmp_path / "noise.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for _ in range(150):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (360, 640, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    fsspec.filesystem("s3").put_file(str(tmp_path / "noise.mp4"), "archive/noise.mp4")
    found = probe("s3://archive/noise.mp4")
    assert found.size_bytes > 30e6 and found.duration_s == pytest.approx(5.0)
    assert found.read_bytes < 2e6


def test_missing_objects_are_not_waited_for(bucket):
    root, _ = bucket
    started_s = time.monotonic()
    with measured_slowness() as slowness, pytest.raises(UnreadableVideo, match="moved or deleted"):
        probe(f"{root}/none.mp4")
    assert time.monotonic() - started_s < 10 * slowness.factor


def test_an_outage_is_waited_out_and_a_longer_one_told(bucket, s3_server):
    root, videos = bucket
    times_s = np.arange(0, 5.9, 0.15625)
    expected = read_frames(videos["plain.mp4"].path, times_s, SIZE)
    source = open_source(f"{root}/plain.mp4")
    s3_server.stop()
    try:
        with pytest.raises(StorageUnavailable, match="could not fetch .* within .* check the store and the network"):
            with DecodeProcess(storage_patience_s=1.0) as process:
                process.read_frames(f"{root}/plain.mp4", times_s, SIZE, deadline_s=30)
    finally:
        back = threading.Timer(3, s3_server.start)
        back.start()
    with DecodeProcess() as process:  # gone for 3 s more: waits, and the wait is not the decoder's time
        frames = process.read_frames(f"{root}/plain.mp4", times_s, SIZE, deadline_s=3)
    back.join()
    assert np.array_equal(frames.images_NHWC, expected.images_NHWC)
    assert source.size_bytes == videos["plain.mp4"].path.stat().st_size
