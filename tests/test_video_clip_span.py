"""A clip is probed and decoded in one request to the decoding process."""

import threading
from fractions import Fraction

import numpy as np
import pytest
from numbered_video import Recipe, write

from halsted_ray.errors import UnreadableVideo, UsageError
from halsted_ray.video import pictures, wire
from halsted_ray.video.clip_span import ClipSpan
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.readers import read_frames

SIZE = (90, 160)
KINDS = {
    "mp4 with B-frames": Recipe(codec_options={"bf": "2"}),
    "mp4 whose rate varies": Recipe(steps=(3, 1, 2) * 60, time_base=Fraction(1, 60)),
    "matroska": Recipe(suffix=".mkv"),
    "matroska without cues": Recipe(suffix=".mkv", mux_options={"live": "1"}),
    "transport stream": Recipe(suffix=".ts", gop=12),
    "program stream": Recipe(suffix=".mpg", codec="mpeg2video"),
    "avi": Recipe(suffix=".avi", codec="mpeg4"),
}


@pytest.fixture(scope="module")
def process():
    with DecodeProcess() as process:
        yield process


@pytest.fixture(scope="module")
def other_process():
    with DecodeProcess() as process:
        yield process


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write(tmp_path_factory.mktemp("clip") / "clip.mp4", Recipe()).path


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_in_one_request_is_the_probe_and_the_frames_of_two_requests(kind, process, other_process, tmp_path):
    path = write(tmp_path / f"clip{KINDS[kind].suffix}", KINDS[kind]).path
    for asked in ((None, None), (1.3, 4.1), (2.0, 900.0)):
        span = ClipSpan(*asked, 60.0, 16)
        start_s, stop_s, frames = process.read_clip(path, span, SIZE, deadline_s=30)
        found = other_process.probe(path, deadline_s=30)
        apart = other_process.read_frames(path, span.times_s(found.duration_s), SIZE, deadline_s=30)
        assert (start_s, stop_s) == span.within(found.duration_s)
        assert np.array_equal(frames.images_NHWC, apart.images_NHWC) and frames.missing == apart.missing
        assert np.array_equal(frames.pts_s, apart.pts_s, equal_nan=True) and frames.present_N.all()


def test_a_clip_costs_one_request(process, clip, monkeypatch):
    process.probe(clip)  # the process is started
    asked, send = [], wire.send
    monkeypatch.setattr(wire, "send", lambda fd, head, body=b"": asked.append(head["do"]) or send(fd, head, body))
    process.read_clip(clip, ClipSpan(None, None, 60.0, 16), SIZE, deadline_s=30)
    assert asked == ["clip"]


@pytest.mark.parametrize(
    ("span", "message"),
    [
        (ClipSpan(6.0, None, 60.0, 16), "expected a span within the 6.000 s"),
        (ClipSpan(3.0, 2.0, 60.0, 16), "expected a span within"),
        (ClipSpan(None, None, 5.0, 16), "a clip has at most 5 s, got 6.0 s"),
    ],
)
def test_a_span_that_the_video_does_not_have_is_refused_and_the_process_goes_on(process, clip, span, message):
    process.probe(clip)
    starts = process.starts
    with pytest.raises(UsageError, match=message) as refused:
        process.read_clip(clip, span, SIZE, deadline_s=30)
    # The error, which is still held here, does not hold the process.
    read = []
    span = ClipSpan(0.0, 2.0, 60.0, 16)
    thread = threading.Thread(
        target=lambda: read.append(process.read_clip(clip, span, SIZE, deadline_s=30)), daemon=True
    )
    thread.start()
    thread.join(30)
    assert read and len(read[0][2]) == 16 and process.starts == starts and refused


def test_a_clip_that_is_no_video_is_refused(process, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"no video " * 500)
    with pytest.raises(UnreadableVideo):
        process.read_clip(tmp_path / "clip.mp4", ClipSpan(None, None, 60.0, 16), SIZE, deadline_s=30)


def test_a_pass_over_the_packets_is_made_once_for_a_video_that_is_asked_for_again(process, tmp_path, monkeypatch):
    path = write(tmp_path / "clip.ts", KINDS["transport stream"]).path
    span = ClipSpan(1.0, 3.0, 60.0, 16)
    first = process.read_clip(path, span, SIZE, deadline_s=30)
    sent, send = [], wire.send
    monkeypatch.setattr(wire, "send", lambda fd, head, body=b"": sent.append(len(body)) or send(fd, head, body))
    again = process.read_clip(path, span, SIZE, deadline_s=30)
    assert sent[0] > 0 and np.array_equal(first[2].images_NHWC, again[2].images_NHWC)


def test_frozen_objects_are_counted_once_per_process(clip, monkeypatch):
    """Python walks over all of them, 2 ms."""
    counted = []
    monkeypatch.setattr(pictures.gc, "get_freeze_count", lambda: counted.append(1) or 0)
    pictures.collected_generation.cache_clear()
    for _ in range(3):
        read_frames(clip, [0.0, 1.0], SIZE)
    pictures.collected_generation.cache_clear()
    assert len(counted) == 1
