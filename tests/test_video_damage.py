"""Damage of any length, anywhere: no frame is given that is not the frame of the whole file."""

import av
import numpy as np
import pytest
from numbered_video import Recipe, write
from test_video_missing import damaged

from halsted_ray.video.readers import read_frames
from halsted_ray.video.slices import PictureCheck

SIZE = (90, 160)
TIMES_S = np.arange(0, 20, 2.5 / 16)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage")

    def made(name, **options):
        settings = {"x264-params": "scenecut=0", **options}
        recipe = Recipe(frames=600, mux_options={"movflags": "faststart"}, codec_options=settings)
        return write(folder / name, recipe)

    return {"plain": made("plain.mp4"), "reordered": made("reordered.mp4", bf="2", b_strategy="0")}


@pytest.mark.parametrize("fidelity", ["exact", "reference"])
@pytest.mark.parametrize("kind", ["plain", "reordered"])
def test_frames_beside_damage_are_those_of_the_whole_file(tmp_path, videos, kind, fidelity):
    """Spans of one frame to 3 s. The decoder leaves out what refers to nothing, and with it the noise; it gives out
    frames in the wrong order after a loss; it holds back good frames until after it."""
    video = videos[kind]
    whole = read_frames(video.path, TIMES_S, SIZE, fidelity)
    for start_s, stop_s in ((2.4, 2.45), (8.02, 8.3), (13.7, 14.7), (12.4, 12.9), (5.6, 8.6), (4.99, 5.04), (9.3, 9.5)):
        frames = read_frames(damaged(tmp_path / "bad.mp4", video, start_s, stop_s), TIMES_S, SIZE, fidelity)
        there = frames.present_N
        assert np.array_equal(frames.images_NHWC[there], whole.images_NHWC[there]), (start_s, stop_s)
        for span in frames.missing:
            # Frames that are displayed up to two frames earlier may refer to the lost one.
            assert start_s - 0.11 <= span.start_s and span.stop_s <= np.ceil(stop_s) + 0.04, (start_s, stop_s, span)
        assert frames.missing or stop_s - start_s < 0.1, "a lost picture that none refers to harms no other"


WRITTEN = [
    (codec, suffix)
    for codec in ("libx264", "libx265", "mpeg2video", "mpeg4")
    for suffix in (".mp4", ".mkv", ".ts", ".avi")
    if (codec, suffix) != ("libx265", ".avi")  # which libavformat does not write
]


@pytest.mark.parametrize("codec, suffix", WRITTEN)
def test_every_packet_of_a_whole_file_holds_a_picture_and_zeros_do_not(tmp_path, codec, suffix):
    video = write(tmp_path / f"video{suffix}", Recipe(suffix=suffix, codec=codec, frames=60, rate=25))
    with av.open(str(video.path)) as container:
        holds_picture = PictureCheck(container.streams.video[0].codec_context)
        packets = [packet for packet in container.demux(video=0) if packet.size]
        assert len(packets) >= 59 and all(map(holds_picture, packets))
        if codec != "mpeg4":
            assert not holds_picture(av.Packet(bytes(1000)))
        assert codec.startswith("mpeg") or not holds_picture(av.Packet(bytes(30)))


def test_a_stream_that_is_not_understood_is_left_to_the_decoder(videos):
    with av.open(str(videos["plain"].path)) as container:
        holds_picture = PictureCheck(container.streams.video[0].codec_context)
    assert holds_picture(av.Packet(bytes(1000))), "nothing was understood yet"
