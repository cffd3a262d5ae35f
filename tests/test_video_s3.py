"""Videos in a real S3 store: listed, named, probed and read by ranges."""

import threading
import time

import fsspec
import numpy as np
import pytest
from numbered_video import Recipe, write

from halsted_ray.errors import StorageUnavailable, UnreadableVideo
from halsted_ray.storage.ranges import open_source
from halsted_ray.video.archive import list_videos
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.identity import video_id
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
    with pytest.raises(UnreadableVideo, match="moved or deleted"):
        probe(f"{root}/none.mp4")
    assert time.monotonic() - started_s < 10


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
