"""Matroska that a recorder left without cues, read over a network: the same frames, from a few of its bytes."""

import av
import numpy as np
import pytest

from halsted_ray.storage.ranges import RangeFile
from halsted_ray.video.matroska import Clusters
from halsted_ray.video.packet_index import IndexSlot
from halsted_ray.video.probe import probe, probe_and_index
from halsted_ray.video.readers import pyav_frames, read_frames

SIZE, SECONDS, RATE = (90, 160), 150, 10


@pytest.fixture(scope="module", params=["live", "length known", "short clusters"])
def recording(request, tmp_path_factory):
    """Pictures of noise, so that the file is large for its length."""
    path = tmp_path_factory.mktemp("matroska") / "recording.mkv"
    options = {"live": {"live": "1"}, "length known": {}, "short clusters": {"live": "1", "cluster_time_limit": "1000"}}
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (180, 320, 3), np.uint8) for _ in range(5)]
    with av.open(str(path), "w", options=options[request.param]) as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "crf": "20", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.gop_size = 320, 180, "yuv420p", 20
        for number in range(SECONDS * RATE):
            picture = pictures[number % 5].copy()
            picture[:40, :40] = number % 256
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    data = path.read_bytes()
    if request.param == "length known":
        cues = data.rindex(b"\x1c\x53\xbb\x6b")
        path.write_bytes(data[:cues])  # the power went before they were written
    return path


def over_ranges(path) -> RangeFile:
    data = path.read_bytes()
    return RangeFile(lambda start, stop: data[start:stop], len(data))


@pytest.mark.parametrize("fidelity", ["exact", "reference", "keyframes"])
def test_the_same_frames_as_from_disk(recording, fidelity):
    for start_s in (0.0, 61.25, 143.0):
        times_s = start_s + np.arange(0, 6, 0.15625)
        local = read_frames(recording, times_s, SIZE, fidelity)
        rows = list(pyav_frames(over_ranges(recording), times_s, SIZE, fidelity))
        assert np.array_equal(local.pts_s, [shown_s for _, shown_s in rows])
        assert np.array_equal(local.images_NHWC, np.stack([image for image, _ in rows]))


def test_a_late_segment_costs_no_more_than_an_early_one(recording):
    """The packets are read through once, at the probe; with their index a segment costs its own bytes."""
    source = over_ranges(recording)
    found, index = probe_and_index(source)
    assert not found.has_index and found.duration_s == pytest.approx(probe(recording).duration_s)
    assert source.fetched_bytes < source.size_bytes * 1.2
    fetched = []
    for start_s in (30.0, 75.0, 140.0):
        source = over_ranges(recording)
        assert (
            len(
                list(pyav_frames(source, start_s + np.arange(0, 5, 0.15625), SIZE, "reference", known=IndexSlot(index)))
            )
            == 32
        )
        fetched.append(source.fetched_bytes)
    assert max(fetched) < source.size_bytes / 2.5, "all that lies before was read"


def test_every_cluster_is_found_by_its_time(recording):
    clusters = Clusters(over_ranges(recording))
    starts = []
    at = 0
    while (found := clusters._next(at, clusters.source.size_bytes)) is not None:
        starts.append(found)
        at = found[0] + 1
    assert len(starts) > 5 and clusters.first == starts[0]
    for time_s in (0.0, 7.3, 61.25, 149.9, 1e9):
        by = [start for start in starts if start[1] <= time_s]
        landed = dict(starts)[clusters.last_by(time_s)]
        assert by[-1][1] - 6.0 <= landed <= time_s
