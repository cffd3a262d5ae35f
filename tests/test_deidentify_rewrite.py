"""The clean copy of a recording: what is in no byte of it, which frames are copied, and that every frame keeps its
time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import planted
import pytest
import small_video
from hypothesis import given, settings
from hypothesis import strategies as st

from halsted_ray.deidentify.black_frames import with_black
from halsted_ray.deidentify.coded_units import (
    KEPT_MESSAGES,
    H264Cleaner,
    MalformedUnits,
    Mpeg2Cleaner,
    by_start_code,
    escaped,
    unescaped,
)
from halsted_ray.deidentify.rewrite import black_out
from halsted_ray.deidentify.spans import Box, Mask, Span, merged
from halsted_ray.deidentify.survey import NotCopyable, reorder_delay
from halsted_ray.errors import UnreadableVideo
from halsted_ray.video.container import VideoFile
from halsted_ray.video.geometry import orientation_of
from halsted_ray.video.probe import probe

CARRIERS = [
    ("a.mp4", "libx264"),
    ("a.mov", "libx264"),
    ("a.mkv", "libx264"),
    ("a.ts", "libx264"),
    ("a.mp4", "libx265"),
    ("a.mkv", "libx265"),
    ("a.mp4", "mpeg4"),
    ("a.avi", "mpeg4"),
    ("a.ts", "mpeg2video"),
    ("a.mpg", "mpeg2video"),
]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Callable[[str, str], Path]:
    """(name, codec) → the recording with a patient's name, written once."""
    return cache(lambda name, codec: planted.recording(tmp_path_factory.mktemp("recorded") / name, codec))


def decoded(path: str | Path) -> list[tuple[Fraction, np.ndarray]]:
    """(time since the first frame, picture as it is stored) of all frames."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [(frame.pts * stream.time_base, frame.to_ndarray()) for frame in container.decode(stream)]
    return [(time - frames[0][0], picture) for time, picture in frames]


def is_black(picture: np.ndarray) -> bool:
    """Whether a yuv420p picture is black, but for what a coder changes."""
    return bool(np.abs(picture[: picture.shape[0] * 2 // 3].astype(int) - 16).max() <= 4)


def displayed_in(spans: list[Span], frames: list) -> list[bool]:
    """Whether each frame is displayed at any time of the spans."""
    times = [float(time) for time, _ in frames]
    stops = [*times[1:], times[-1] + 1e-9]
    return [
        any(span.start_s < stop and start < span.stop_s for span in spans)
        for start, stop in zip(times, stops, strict=True)
    ]


def same_pictures(one: list, other: list) -> int:
    return sum(np.array_equal(a, b) for (_, a), (_, b) in zip(one, other, strict=True))


@pytest.mark.parametrize(("name", "codec"), CARRIERS)
def test_planted_name_is_in_no_byte_of_the_copy(recorded, tmp_path, name, codec):
    source = recorded(name, codec)
    found = black_out(source, tmp_path / "out.mp4", [])
    assert not planted.places_of((tmp_path / "out.mp4").read_bytes())
    assert found.frames == 75
    black_out(source, tmp_path / "black.mp4", [Span(1.0, 1.5, "test", 1.0)])
    assert not planted.places_of((tmp_path / "black.mp4").read_bytes())


@pytest.mark.parametrize(("name", "codec"), CARRIERS)
def test_copy_holds_one_picture_and_nothing_else(recorded, tmp_path, name, codec):
    source = recorded(name, codec)
    found = black_out(source, tmp_path / "out.mp4", [])
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        assert not container.chapters()
        allowed = {"major_brand", "minor_version", "compatible_brands"}
        assert set(container.metadata) <= allowed
        names = dict(container.streams.video[0].metadata)
        assert names.pop("vendor_id", "[0][0][0][0]") == "[0][0][0][0]"
        assert names == {"language": "und", "handler_name": "VideoHandler"}
    assert found.carried.streams.get("audio") == 1
    data = (tmp_path / "out.mp4").read_bytes()
    for word in (b"Lavf", b"Lavc", b"x264", b"x265", b"creation", b"2021-03-04"):
        # of MPEG-4 part 2 the coder's word stays: decoders choose their inverse transform by it
        assert word not in data or (codec == "mpeg4" and word == b"Lavc" and found.copied), word
    assert creation_times(data) == {0}


def creation_times(data: bytes) -> set[int]:
    """The times of creation and change in mvhd, tkhd and mdhd boxes of version 0."""
    times = set()
    for kind in (b"mvhd", b"tkhd", b"mdhd"):
        at = data.index(kind) + 4
        assert data[at] == 0
        times |= {int.from_bytes(data[at + 4 : at + 8], "big"), int.from_bytes(data[at + 8 : at + 12], "big")}
    return times


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.ts", "libx264"), ("a.mp4", "libx265"), ("a.mp4", "mpeg4")]
    + [("a.ts", "mpeg2video")],
)
def test_copied_frames_decode_bit_by_bit_the_same(recorded, tmp_path, name, codec):
    source = recorded(name, codec)
    found = black_out(source, tmp_path / "out.mp4", [])
    before, after = decoded(source), decoded(tmp_path / "out.mp4")
    assert found.copied == found.frames == len(before) == same_pictures(before, after)
    assert not found.coded_again and not found.why_whole


@pytest.mark.parametrize(("name", "codec"), CARRIERS)
@pytest.mark.parametrize("span", [None, (0.0, 0.2), (1.0, 1.5), (2.5, float("inf"))])
def test_every_frame_keeps_its_time(recorded, tmp_path, name, codec, span):
    source = recorded(name, codec)
    spans = [Span(*span, "test", 1.0)] if span else []
    black_out(source, tmp_path / "out.mp4", spans)
    before, after = decoded(source), decoded(tmp_path / "out.mp4")
    assert [time for time, _ in before] == [time for time, _ in after]
    assert [is_black(picture) for _, picture in after] == displayed_in(spans, before)
    assert probe(tmp_path / "out.mp4").duration_s == pytest.approx(probe(source).duration_s, abs=0.05)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.ts", "libx264"), ("a.mp4", "libx265")])
def test_only_the_stretches_around_black_are_coded_again(recorded, tmp_path, name, codec):
    source = recorded(name, codec)
    found = black_out(source, tmp_path / "out.mp4", [Span(1.0, 1.2, "test", 1.0)])
    before, after = decoded(source), decoded(tmp_path / "out.mp4")
    ((start_s, stop_s),) = found.coded_again
    assert start_s <= 1.0 and 1.2 <= stop_s and stop_s - start_s < 1.0
    outside = [not start_s <= float(time) < stop_s for time, _ in before]
    same = [np.array_equal(a, b) for (_, a), (_, b) in zip(before, after, strict=True)]
    assert all(kept for kept, is_outside in zip(same, outside, strict=True) if is_outside)
    assert found.copied == sum(outside)


def test_mask_blackens_its_box_in_its_span_alone(tmp_path):
    source = planted.recording(tmp_path / "a.mp4")
    box = Box(17, 9, 40, 21)
    black_out(source, tmp_path / "out.mp4", [], [Mask(1.0, 2.0, box, "text")])
    for (time, before), (_, after) in zip(decoded(source), decoded(tmp_path / "out.mp4"), strict=True):
        inside = after[box.y : box.y + box.height, box.x : box.x + box.width].astype(int)
        if 1.0 <= time < 2.0:
            assert np.abs(inside - 16).max() <= 12
            assert np.abs(after[40:96].astype(int) - before[40:96]).mean() < 6  # the rest of the picture is as it was
        else:
            assert np.abs(inside - before[box.y : box.y + box.height, box.x : box.x + box.width]).mean() < 6


@settings(max_examples=12)
@given(
    st.integers(1, 40),
    st.integers(0, 3),
    st.lists(st.tuples(st.floats(0, 2.8), st.floats(0.02, 0.6)), max_size=3),
)
def test_any_spans_over_any_keyframes_keep_times_and_blacken_those_frames(tmp_path_factory, gop, bframes, drawn):
    folder = tmp_path_factory.mktemp("drawn")
    options = {"g": str(gop), "bf": str(bframes), "preset": "ultrafast"}
    source = small_video.write(folder / "a.mp4", 3.0, codec="libx264", options=options)
    spans = [Span(start_s, start_s + length_s, "test", 1.0) for start_s, length_s in drawn]
    found = black_out(source, folder / "out.mp4", spans)
    before, after = decoded(source), decoded(folder / "out.mp4")
    assert [time for time, _ in before] == [time for time, _ in after]
    assert [is_black(picture) for _, picture in after] == displayed_in(spans, before)
    assert same_pictures(before, after) >= found.copied


@pytest.mark.parametrize("spans", [[], [Span(0.4, 0.5, "test", 1.0)], [Span(0.0, 9.0, "test", 1.0)]])
def test_turned_picture_stays_turned(tmp_path, spans):
    source = tmp_path / "a.mp4"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "5"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.set_display_rotation(90, hflip=True)
        for n in range(25):
            picture = np.full((64, 96, 3), n * 9, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    black_out(source, tmp_path / "out.mp4", spans)
    with VideoFile(str(source)) as before, VideoFile(str(tmp_path / "out.mp4")) as after:
        assert orientation_of(after.first_frame) == orientation_of(before.first_frame) != None  # noqa: E711


def test_file_that_cannot_be_read_leaves_no_copy(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(UnreadableVideo):
        black_out(tmp_path / "a.mp4", tmp_path / "out.mp4", [])
    assert not (tmp_path / "out.mp4").exists()
    small_video.write(tmp_path / "b.mp4", 1.0, codec="libx264")
    with pytest.raises(UnreadableVideo), open(tmp_path / "b.mp4", "r+b") as file:
        file.truncate(3000)
        black_out(tmp_path / "b.mp4", tmp_path / "out.mp4", [])
    assert not (tmp_path / "out.mp4").exists()


def test_messages_about_the_picture_stay_and_all_others_go():
    stays = b"\x06" + b"\x2d\x04" + b"\x91\x92\x93\x94" + b"\x80"  # frame packing
    mixed = b"\x06" + b"\x06\x01\xc4" + b"\x05\x14" + bytes(16) + b"NAME" + b"\x80"
    cleaner = H264Cleaner(b"")
    start = b"\0\0\0\1"
    assert cleaner.clean(start + stays + start + b"\x65\x88") == start + stays + start + b"\x65\x88"
    assert cleaner.clean(start + mixed) == start + b"\x06\x06\x01\xc4\x80"
    assert cleaner.removed == {"SEI 5": 1}
    for kind in (0, 1, 4, 5, 17, 100):
        assert not cleaner.clean(start + b"\x06" + bytes((kind, 2)) + b"ab\x80")
    assert 45 in KEPT_MESSAGES and not cleaner.clean(start + b"\x06\x2d\x50" + b"N" * 80 + b"\x80")  # too long for it


def test_units_without_known_use_go():
    cleaner = H264Cleaner(b"")
    units = [bytes((kind,)) + b"DOE" for kind in (0, 2, 12, 13, 14, 15, 16, 19, 20, 24, 30, 31)]
    assert not cleaner.clean(b"".join(b"\0\0\1" + unit for unit in units))
    assert sum(cleaner.removed.values()) == len(units)


def test_clock_of_mpeg2_becomes_zero():
    group = b"\0\0\1\xb8" + bytes((0x1A, 0x2B, 0x3C, 0x60))
    assert Mpeg2Cleaner(b"").clean(group) == b"\0\0\1\xb8" + bytes((0, 8, 0, 0x60))


@given(st.binary(max_size=60))
def test_escaping_is_undone(payload):
    payload += b"\x80"
    assert unescaped(escaped(payload)) == payload
    assert b"\0\0\1" not in escaped(payload) and b"\0\0\0" not in escaped(payload)


@given(st.lists(st.binary(min_size=1, max_size=20).filter(lambda unit: unit[-1] and b"\0\0\1" not in unit), max_size=6))
def test_units_behind_start_codes_are_found(units):
    units = [escaped(unit) for unit in units]
    assert list(by_start_code(b"".join(b"\0\0\0\1" + unit for unit in units))) == units


def test_damaged_header_is_refused():
    with pytest.raises(MalformedUnits):
        H264Cleaner(b"\x01\x64\x00\x0d\xff\xe1\x00\xff")


@given(st.permutations(list(range(8))))
def test_delay_is_how_far_frames_are_moved(order):
    assert reorder_delay(order) == max(place - time for place, time in enumerate(order)) or sorted(order) == order


def test_two_frames_of_one_time_cannot_be_copied():
    with pytest.raises(NotCopyable):
        reorder_delay([0, 1, 1, 2])


def test_spans_and_boxes_say_what_they_expect():
    with pytest.raises(ValueError, match="0 <= start < stop"):
        Span(2.0, 1.0, "x", 1.0)
    with pytest.raises(ValueError, match="width and height above 0"):
        Box(0, 0, 0, 5)
    assert merged([(3, 4), (0, 1), (1, 2)]) == [(0, 2), (3, 4)]
    assert Box(5, 5, 10, 10).padded(8) == Box(0, 0, 23, 23)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuv420p10le", "nv12", "rgb24"])
def test_black_box_in_any_pixel_format(pixel_format):
    rgb_HWC = np.full((64, 96, 3), 200, np.uint8)
    frame = av.VideoFrame.from_ndarray(rgb_HWC, format="rgb24").reformat(format=pixel_format)
    shown = with_black(frame, [Box(11, 13, 30, 20)]).to_ndarray(format="rgb24").astype(int)
    assert shown[14:32, 12:40].max() < 20
    assert np.abs(shown[40:] - 200).max() < 8 and np.abs(shown[:, 50:] - 200).max() < 8
    assert with_black(frame, None).to_ndarray(format="rgb24").max() < 20


def test_room_imports_no_ray():
    code = (
        "import sys, halsted_ray.deidentify.rewrite; sys.exit(any(name.split('.')[0] == 'ray' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
