"""What is not a video, or no longer one: refused at the door or marked where it is damaged, never guessed."""

import os
import struct

import av
import numpy as np
import pytest
from numbered_video import Recipe, numbers_of, write

from halsted_ray.errors import CorruptSegment, StorageUnavailable, UnreadableVideo
from halsted_ray.video.probe import probe
from halsted_ray.video.readers import read_frames

SIZE = (90, 160)
FRONT = {"movflags": "faststart"}


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """20 s, a keyframe a second, its index at the front."""
    return write(
        tmp_path_factory.mktemp("bad") / "long.mp4",
        Recipe(frames=600, gop=30, mux_options=FRONT, codec_options={"x264-params": "scenecut=0"}),
    )


def sound_only(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        for number in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 48000, number * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def refused(path, message):
    for ask in (probe, lambda p: read_frames(p, np.array([0.0]), SIZE)):
        with pytest.raises(UnreadableVideo, match=message) as caught:
            ask(path)
        assert path.stem not in str(caught.value), "a message must not carry the file's name"


def test_refuses_what_is_not_a_video(tmp_path, long):
    path = tmp_path / "Mustermann.mp4"
    refused(path, "expected a file, got FileNotFoundError")
    path.write_bytes(b"")
    refused(path, r"got an empty file \(0 bytes\)")
    path.write_text("the notes of an operation\n" * 100)
    refused(path, "got 2600 bytes of text; remove it")
    path.write_bytes(bytes(100_000))
    refused(path, "begin with zeros")
    path.write_bytes(np.random.default_rng(0).bytes(100_000))
    refused(path, "something else")
    path.unlink()
    path.mkdir()
    refused(path, "expected a file, got IsADirectoryError")


@pytest.mark.parametrize(
    "script",
    [
        "ffconcat version 1.0\nfile '{}'\n",
        "#EXTM3U\n#EXTINF:20,\n{}\n",
        "\ufeff#EXTM3U\n{}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{}</BaseURL></MPD>',
    ],
)
def test_refuses_scripts_that_point_to_other_files(tmp_path, long, script):
    path = tmp_path / "Mustermann.mp4"
    path.write_text(script.format(long.path))
    refused(path, "script or playlist of other files; it is not followed")


def test_refuses_other_containers_that_libav_knows(tmp_path):
    path = tmp_path / "Mustermann.mp4"
    for head, what in (
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (bytes(128) + b"DICM", "a DICOM file without a video stream; remove it"),
        (b"PK\x03\x04", "a ZIP archive; unpack it"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "a sound file"),
    ):
        path.write_bytes(head + bytes(range(128, 256)) * 4)
        refused(path, f"got {what}")


def test_refuses_sound_without_pictures(tmp_path):
    path = tmp_path / "Mustermann.mp4"
    sound_only(path)
    refused(path, "expected a video stream, got audio")


def test_refuses_a_file_without_its_index(tmp_path, long):
    path = tmp_path / "Mustermann.mp4"
    whole = write(tmp_path / "tail.mp4", Recipe(frames=60)).path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, "MP4 with its index .*stopped early")
    path.write_bytes(long.path.read_bytes()[:200])
    refused(path, "expected a video stream, got data; .*copy it again")


def test_refuses_a_codec_that_is_not_there(tmp_path, long):
    path = tmp_path / "Mustermann.mp4"
    path.write_bytes(long.path.read_bytes().replace(b"avc1", b"zzzz"))
    refused(path, "expected a codec that this build of libavcodec decodes")


def test_refuses_pictures_beyond_the_limit(tmp_path):
    path = tmp_path / "Mustermann.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16000, 64, "yuvj420p"
        container.mux(stream.encode(av.VideoFrame(16000, 64, "yuvj420p")))
        container.mux(stream.encode())
    refused(path, "at most 8192 pixels a side.*got 16000x64")


def test_refuses_pictures_that_are_larger_than_the_header_says(tmp_path):
    path = tmp_path / "Mustermann.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16000, 64, "yuvj420p"
        container.mux(stream.encode(av.VideoFrame(16000, 64, "yuvj420p")))
        container.mux(stream.encode())
    wide = b"\xb0\x82" + struct.pack(">H", 16000)  # PixelWidth
    assert path.read_bytes().count(wide) == 1
    path.write_bytes(path.read_bytes().replace(wide, b"\xb0\x82" + struct.pack(">H", 160)))
    refused(path, "at most 8192 pixels a side.*got 16000x64")


def test_refuses_a_video_that_lasts_no_time(tmp_path):
    """Every frame at 0 s: an hour that lost its times must not pass for a frame."""
    path = write(tmp_path / "Mustermann.mp4", Recipe(frames=30)).path
    data = bytearray(path.read_bytes())
    for box, at in ((b"stts", 12), (b"mdhd", 20), (b"mvhd", 20), (b"tkhd", 24)):
        struct.pack_into(">I", data, data.index(box) + at, 0)
    path.write_bytes(data)
    with pytest.raises(UnreadableVideo, match=r"expected a video that lasts, got 0\.000 s"):
        probe(path)


def test_refuses_for_now_what_may_not_be_read(tmp_path, long):
    path = tmp_path / "Mustermann.mp4"
    path.write_bytes(long.path.read_bytes())
    path.chmod(0)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)  # root reads everything
    try:
        for ask in (probe, lambda p: read_frames(p, np.array([0.0]), SIZE)):
            with pytest.raises(StorageUnavailable, match="got PermissionError.*the right to read it") as caught:
                ask(path)
            assert path.stem not in str(caught.value)
    finally:
        os.seteuid(me)


def test_one_frame_is_a_video(tmp_path):
    video = write(tmp_path / "one.mp4", Recipe(frames=1))
    assert probe(video.path).duration_s == pytest.approx(1 / 30)
    frames = read_frames(video.path, np.array([0.0, 0.02, 0.5]), SIZE)
    assert numbers_of(frames.images_NHWC) == [0, 0, 0]


def test_unusual_names_are_only_names(tmp_path):
    for name in ("a b 'c' \"d\" é–Ø.mp4", "concat:a|b.mp4", "http:evil.mp4", "%d.mp4", "-i.mp4"):
        video = write(tmp_path / "plain.mp4", Recipe(frames=10))
        path = video.path.rename(tmp_path / name)
        assert numbers_of(read_frames(path, np.array([0.1]), SIZE, "exact").images_NHWC) == [3]


def test_times_past_the_end_repeat_the_last_frame(long):
    frames = read_frames(long.path, np.array([19.9, 20.0, 20.4]), SIZE, "exact")
    assert numbers_of(frames.images_NHWC) == [597, 599, 599]
    assert frames.pts_s[-1] == pytest.approx(599 / 30)


@pytest.mark.parametrize("fidelity", ["exact", "reference", "keyframes"])
def test_a_cut_file_is_read_up_to_the_cut(tmp_path, long, fidelity):
    data = long.path.read_bytes()
    path = tmp_path / "Mustermann.mp4"
    path.write_bytes(data[: int(len(data) * 0.55)])
    assert probe(path).duration_s == pytest.approx(20.0)  # the missing part is a gap, not a shorter video
    whole = read_frames(long.path, np.arange(0, 9, 0.5), SIZE, fidelity)
    cut = read_frames(path, np.arange(0, 9, 0.5), SIZE, fidelity)
    assert np.array_equal(whole.images_NHWC, cut.images_NHWC)
    (lost,) = read_frames(path, np.arange(5, 20, 0.5), SIZE, fidelity).missing
    assert 9 < lost.start_s < 13 and lost.stop_s > 19.5 and lost.code == "corrupt"
    with pytest.raises(CorruptSegment, match=r"(after|end at) 1\d\.\d+ s.*this span is a gap"):
        read_frames(path, np.array([18.0]), SIZE, fidelity).require_whole()


@pytest.mark.parametrize("fidelity", ["exact", "reference"])
def test_damaged_packets_leave_a_gap_and_nothing_else(tmp_path, long, fidelity):
    """Noise over 2.5 s of packets: what lies before and after reads as it did, what lies in it has no picture."""
    data = bytearray(long.path.read_bytes())
    with av.open(str(long.path)) as container:
        spans = [(p.pts, p.pos, p.size) for p in container.demux(video=0) if p.size]
    for pts, position, size in spans:
        if 8 * 15360 <= pts < 10.5 * 15360:
            data[position + 4 : position + size] = np.random.default_rng(pts).bytes(size - 4)
    path = tmp_path / "Mustermann.mp4"
    path.write_bytes(data)
    for times_s in (np.arange(0, 7.9, 0.15625), np.arange(11.1, 20, 0.15625)):
        assert np.array_equal(
            read_frames(path, times_s, SIZE, fidelity).images_NHWC,
            read_frames(long.path, times_s, SIZE, fidelity).images_NHWC,
        )
    times_s = np.arange(0, 20, 0.15625)
    frames = read_frames(path, times_s, SIZE, fidelity)
    (lost,) = frames.missing
    assert 7.9 <= lost.start_s <= 8.1 and 10.9 <= lost.stop_s <= 11.1
    assert np.array_equal(frames.present_N, (times_s < lost.start_s) | (times_s >= lost.stop_s))
    whole = read_frames(long.path, times_s, SIZE, fidelity)
    assert np.array_equal(frames.images_NHWC[frames.present_N], whole.images_NHWC[frames.present_N])
    assert not frames.images_NHWC[~frames.present_N].any()
    with pytest.raises(CorruptSegment):
        read_frames(path, np.array([9.9]), SIZE, fidelity).require_whole()


def test_wrong_arguments_name_themselves(long):
    for arguments, message in [
        (([1.0, 0.5], SIZE), "expected times_s to rise"),
        (([-1.0], SIZE), "to rise from 0 s"),
        (([0.0], (0, 5)), "expected size"),
        (([0.0], SIZE, "best"), "expected a fidelity of exact, reference, keyf"),
        (([0.0], SIZE, "exact", "opencv"), "expected a reader of pyav, nvdec, decord"),
        (([np.nan], SIZE), "finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_frames(long.path, *arguments)


def test_no_time_is_no_frame(long):
    assert read_frames(long.path, [], SIZE).images_NHWC.shape == (0, *SIZE, 3)


def test_edit_list_box_is_where_the_tests_think(long):
    """Guards ``trim_by_edit_list``: one entry, rate 1."""
    data = long.path.read_bytes()
    at = data.index(b"elst") + 8
    assert struct.unpack_from(">I", data, at) == (1,) and struct.unpack_from(">I", data, at + 12) == (65536,)
