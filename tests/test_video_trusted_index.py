"""When a container's own index serves, and when the packets are read instead: files longer than the shortest."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from numbered_video import Recipe, write

from halsted_ray.phantom.frame_number import read_frame_number
from halsted_ray.video.container import VideoFile
from halsted_ray.video.keyframe_index import SHORT_S, SPARSE_S, KeyframeIndex
from halsted_ray.video.probe import _read_to_end_s, probe
from halsted_ray.video.readers import read_frames
from halsted_ray.video.true_keyframes import HEAD_BYTES, keyframe_test

SLOW = {"rate": 1, "frames": 80, "gop": 8}
"""Longer than SHORT_S, in few frames."""


def trusts_container(path) -> bool:
    with VideoFile(path) as video:
        return KeyframeIndex(video).from_container


def numbers_at(path, times_s, fidelity="exact"):
    found = read_frames(path, np.array(times_s, np.float64), None, fidelity)
    return [
        None if np.isnan(pts_s) else read_frame_number(image_HWC)
        for image_HWC, pts_s in zip(found.images_NHWC, found.pts_s, strict=True)
    ]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_an_ordinary_index_serves(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", Recipe(suffix, **SLOW)).path
    assert probe(path).duration_s > SHORT_S and trusts_container(path)


def test_long_matroska_files_that_were_joined_are_read_to_the_end(tmp_path):
    path = write(tmp_path / "a.mkv", Recipe(".mkv", **SLOW)).path
    joined = tmp_path / "joined.mkv"
    joined.write_bytes(path.read_bytes() * 2)
    assert not trusts_container(joined)
    assert probe(joined).duration_s == pytest.approx(160, abs=1.5)
    assert numbers_at(joined, [5.5, 79.5, 80.5, 100.5, 159.5]) == [5, 79, 0, 20, 79]


def test_a_clock_that_was_set_in_a_long_matroska_file_is_two_takes(tmp_path):
    steps = (1,) * 79 + (7200,) + (1,) * 80
    path = write(tmp_path / "a.mkv", Recipe(".mkv", rate=1, frames=160, gop=8, steps=steps)).path
    assert not trusts_container(path)
    assert probe(path).duration_s == pytest.approx(160, abs=1.5)
    assert numbers_at(path, [5.5, 79.4, 81.0, 100.5, 158.5])[:2] == [5, 79]
    assert None not in numbers_at(path, [81.0, 100.5, 158.5])


def test_keyframes_that_are_too_far_apart_are_looked_for_in_the_packets(tmp_path):
    sparse = write(tmp_path / "a.mp4", Recipe(rate=1, frames=80, gop=80)).path
    assert not trusts_container(sparse) and SPARSE_S < 40
    assert numbers_at(sparse, [5.5, 79.5]) == [5, 79]


def test_a_file_whose_data_end_before_its_index_shows_no_picture_there(tmp_path):
    path = write(tmp_path / "a.mp4", Recipe(mux_options={"movflags": "faststart"})).path
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    path.write_bytes(data[: packets[120].pos])
    (lost,) = read_frames(path, [3.5, 4.2, 4.9], (90, 160)).missing
    assert lost.start_s == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize(
    "codec, data, is_key",
    [
        ("mpeg2video", b"\0\0\1\xb3head\0\0\1\0\0\x08rest", True),
        ("mpeg2video", b"\0\0\1\0\0\x10rest", False),
        ("mpeg2video", b"\0\0\1\0\0\x18rest", False),
        ("mpeg2video", b"no picture in sight", True),
        ("mpeg4", b"\0\0\1\xb6\x10rest", True),
        ("mpeg4", b"\0\0\1\xb6\x50rest", False),
        ("hevc", b"\0\0\1\x40\x01sets\0\0\1\x26\x01rest", True),
        ("hevc", b"\0\0\1\x4e\x01message\0\0\1\x02\x01rest", False),
        ("hevc", b"\0\0\1\x4e\x01" + b"m" * HEAD_BYTES, True),
        ("hevc", b"\0\0\1\x4e\x01message alone", False),
        ("vp8", b"anything", True),
    ],
)
def test_a_packet_is_looked_into_to_tell_a_keyframe(codec, data, is_key):
    context = SimpleNamespace(name=codec, extradata=b"")

    class Packet(bytes):
        is_keyframe = True
        size = property(len)

    assert keyframe_test(context)(Packet(data)) is is_key


def test_units_behind_lengths_of_two_bytes_are_told_apart():
    header = bytes([1, *range(20), 1, 0])  # hvcC: lengths of two bytes
    test = keyframe_test(SimpleNamespace(name="hevc", extradata=header))

    class Packet(bytes):
        is_keyframe = True
        size = property(len)

    assert test(Packet(b"\0\x04\x40\x01ab\0\x05\x26\x01abc"))
    assert not test(Packet(b"\0\x04\x40\x01ab\0\x05\x02\x01abc"))


def test_a_stream_that_comes_up_at_the_very_end_ends_the_search_for_the_end_of_the_data():
    """PyAV raises IndexError there; a header that declared more than the file held cost the decoding process."""

    def demux():
        yield SimpleNamespace(size=1, pts=40, duration=10, time_base=Fraction(1, 10))
        raise IndexError

    video = SimpleNamespace(
        container=SimpleNamespace(demux=demux), origin=0, time_base=Fraction(1, 10), raise_storage_failure=lambda: None
    )
    assert _read_to_end_s(video) == 5.0
