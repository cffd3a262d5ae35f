"""Copies that every browser plays: frames at their own times, whatever the source is."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numbered_video
import numpy as np
import pytest
from numbered_video import Recipe

from halsted_ray.errors import UnreadableVideo
from halsted_ray.phantom.frame_number import read_frame_number
from halsted_ray.video.burnt_labels import Label, LabelPainter
from halsted_ray.video.container import VideoFile
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.playable import MOST_BITS_PER_S, cut_clip, plays_itself, write_playable
from halsted_ray.video.probe import probe

TICK_S = 1e-3
SOURCES = {
    "HEVC": Recipe(
        codec="libx265", codec_options={"x265-params": "log-level=none"}, frames=90, rate=Fraction(30000, 1001)
    ),
    "10 bit": Recipe(suffix=".mkv", frames=60, pix_fmt="yuv420p10le"),
    "4:2:2": Recipe(frames=60, pix_fmt="yuv422p"),
    "ProRes": Recipe(suffix=".mov", codec="prores_ks", pix_fmt="yuv422p10le", frames=40),
    "MPEG-2 in TS": Recipe(suffix=".ts", codec="mpeg2video", frames=90),
    "MPEG-4 part 2 in AVI": Recipe(suffix=".avi", codec="mpeg4", frames=60, codec_options={"bf": "2"}),
    "MJPEG in AVI": Recipe(suffix=".avi", codec="mjpeg", pix_fmt="yuvj420p", frames=40),
    "Matroska": Recipe(suffix=".mkv", frames=60),
    "gaps and a varying rate": Recipe(frames=40, time_base=Fraction(1, 30), steps=(1, 1, 90, 2, 5) * 8),
    "a start that is not 0": Recipe(frames=60, start_tick=900),
}
"""What browsers don't play, or what makes times hard."""


def shown_in(data: bytes) -> list[tuple[float, int]]:
    """(time, number) of each frame of an MP4, as a player shows them."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        return [
            (float(frame.time), read_frame_number(frame.to_ndarray(format="rgb24")))
            for frame in container.decode(stream)
        ]


@pytest.mark.parametrize("name", SOURCES)
def test_each_frame_of_a_copy_has_its_number_and_its_time_in_the_source(tmp_path, name):
    source = numbered_video.write(tmp_path / f"source{SOURCES[name].suffix}", SOURCES[name])
    with VideoFile(str(source.path)) as video:
        count = write_playable(video, tmp_path / "copy.mp4")
    shown = shown_in((tmp_path / "copy.mp4").read_bytes())
    assert count == len(shown) == len(source.times_s)
    assert [number for _, number in shown] == list(range(len(shown)))
    assert np.abs(np.array([at_s for at_s, _ in shown]) - source.times_s).max() < TICK_S
    found = probe(tmp_path / "copy.mp4")
    assert plays_itself(found.codec, found.pixel_format, found.container)
    data = (tmp_path / "copy.mp4").read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat"), "a player begins before the whole file is there"


@pytest.mark.parametrize("name", ["HEVC", "MPEG-2 in TS", "MPEG-4 part 2 in AVI", "gaps and a varying rate"])
@pytest.mark.parametrize("span", [(0.0, 0.7), (0.45, 1.1), (1.0, 1.2)], ids=str)
def test_each_time_of_a_clip_shows_the_frame_that_the_source_shows_there(tmp_path, name, span):
    source = numbered_video.write(tmp_path / f"source{SOURCES[name].suffix}", SOURCES[name])
    with DecodeProcess() as process:
        data = process.cut_clip(source.path, *span, deadline_s=60)
    shown = shown_in(data)
    starts_s = np.array([at_s for at_s, _ in shown])
    for time_s in np.arange(span[0], span[1] - 2e-4, 0.013):
        number = shown[int(np.searchsorted(starts_s, time_s - span[0] + 1e-4, side="right")) - 1][1]
        assert number == source.number_at(time_s + 1e-4), time_s
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(span[1] - span[0], abs=TICK_S)


def test_what_plays_itself_is_told_by_codec_samples_and_container():
    assert plays_itself("h264", "yuv420p", "MP4/MOV") and plays_itself("vp9", "yuv420p", "Matroska/WebM")
    for other in (
        ("hevc", "yuv420p", "MP4/MOV"),
        ("mpeg2video", "yuv420p", "MPEG-TS"),
        ("mpeg4", "yuv420p", "MP4/MOV"),
        ("h264", "yuv422p", "MP4/MOV"),
        ("h264", "yuv420p10le", "MP4/MOV"),
        ("h264", "yuv420p", "Matroska/WebM"),
        ("h264", "yuv420p", "AVI"),
        ("mjpeg", "yuvj420p", "AVI"),
    ):
        assert not plays_itself(*other), other


def test_a_copy_is_upright_and_no_larger_than_1080p(tmp_path):
    source = numbered_video.write(tmp_path / "large.mp4", Recipe(frames=3, size=(1440, 2560), rotation_deg=90))
    with VideoFile(str(source.path)) as video:
        write_playable(video, tmp_path / "copy.mp4")
    found = probe(tmp_path / "copy.mp4")
    assert (found.width, found.height, found.rotation_deg) == (1080, 1920, 0)


def test_words_outside_of_ascii_are_drawn_and_long_ones_stay_within_the_picture():
    image = np.full((360, 640, 3), 90, np.uint8)
    painter = LabelPainter([Label(0.0, 1.0, "Schritt: Nähen"), Label(1.0, 2.0, "w" * 500)], "KI, Modell 1")
    before, later = image.copy(), image.copy()
    painter(before, 0.5)
    painter(later, 1.5)
    rows = np.nonzero((before != image).any(axis=(1, 2)))[0]
    assert rows.min() > 300 and rows.max() == 359 and before.max() > 240
    assert (later[-20:] != image[-20:]).any() and later.shape == image.shape
    plain = image.copy()
    LabelPainter([Label(0.0, 1.0, "Schritt: N\u0000hen")], "KI, Modell 1")(plain, 0.5)
    assert (plain != before).any(), "the umlaut has a letter of its own"


def test_a_clip_of_noise_stays_within_the_bits_that_a_clip_may_have(tmp_path):
    """Two minutes are held in memory, so a clip has a bound for whatever the picture is."""
    with av.open(str(tmp_path / "noise.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 640, 360, "yuv420p", 50_000_000
        for _ in range(90):
            noise = np.random.default_rng(_).integers(0, 256, (360, 640, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode())
    with VideoFile(str(tmp_path / "noise.mp4")) as video:
        data, frames = cut_clip(video, 0.0, 3.0)
    assert frames == 90 and len(data) * 8 < (3 + 2) * MOST_BITS_PER_S


def test_a_file_without_a_frame_that_decodes_gives_no_copy(tmp_path):
    source = numbered_video.write(tmp_path / "video.mp4", Recipe(frames=30))
    with VideoFile(str(source.path)) as video, pytest.raises(UnreadableVideo, match="nothing was recorded there"):
        cut_clip(video, 100.0, 101.0)
