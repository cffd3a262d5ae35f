"""Decoding in a process that can be killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction

import av
import numpy as np
import pytest
from numbered_video import Recipe, write

from halsted_ray.errors import CorruptSegment, DecoderKilled, StorageUnavailable, UnreadableVideo
from halsted_ray.mapping.decode_stage import DecodeStage
from halsted_ray.records import Segment, WindowSpec
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.probe import probe
from halsted_ray.video.readers import read_frames

SIZE = (90, 160)
TIMES_S = np.arange(0, 5, 0.15625)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write(tmp_path_factory.mktemp("sandbox") / "clip.mp4", Recipe(codec_options={"bf": "2"})).path


@pytest.fixture(scope="module")
def process():
    with DecodeProcess(storage_patience_s=1.0) as process:
        yield process


def test_gives_what_the_reader_gives(process, clip):
    for fidelity in ("exact", "reference", "keyframes"):
        here = read_frames(clip, TIMES_S, SIZE, fidelity)
        there = process.read_frames(clip, TIMES_S, SIZE, fidelity, deadline_s=30)
        assert np.array_equal(here.images_NHWC, there.images_NHWC) and np.array_equal(here.pts_s, there.pts_s)
    assert process.probe(clip) == probe(clip)
    by_decord = process.read_frames(clip, TIMES_S, SIZE, "exact", "decord", deadline_s=30)
    assert np.array_equal(by_decord.images_NHWC, read_frames(clip, TIMES_S, SIZE, "exact", "decord").images_NHWC)
    assert process.starts == 1


def test_remote_bytes_come_through_the_parent(process, clip):
    import fsspec

    fsspec.filesystem("memory").pipe("/sandbox/clip.mp4", clip.read_bytes())
    here = read_frames(clip, TIMES_S, SIZE)
    there = process.read_frames("memory://sandbox/clip.mp4", TIMES_S, SIZE, deadline_s=30)
    assert np.array_equal(here.images_NHWC, there.images_NHWC)
    assert process.probe("memory://sandbox/clip.mp4").duration_s == probe(clip).duration_s


def test_errors_keep_their_kind_and_the_process_lives(process, clip, tmp_path):
    text = tmp_path / "Mustermann.mp4"
    text.write_text("notes")
    process.probe(clip)
    starts = process.starts
    with pytest.raises(UnreadableVideo, match="5 bytes of text"):
        process.probe(text)
    with pytest.raises(CorruptSegment) as caught:
        process.read_frames(clip, np.array([100.0]), SIZE, deadline_s=30)
    assert caught.value.start_s == pytest.approx(6.0, abs=0.1)
    with pytest.raises(ValueError, match="decord.*local files only"):
        import fsspec

        fsspec.filesystem("memory").pipe("/sandbox/clip.mp4", clip.read_bytes())
        process.read_frames("memory://sandbox/clip.mp4", TIMES_S, SIZE, reader="decord", deadline_s=30)
    assert len(process.read_frames(clip, TIMES_S, SIZE, deadline_s=30)) == len(TIMES_S)
    assert process.starts == starts


def test_a_store_that_stays_away_is_not_the_videos_fault(process, clip):
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe("/sandbox/away.mp4", clip.read_bytes())

    class Away(type(fs)):
        protocol = "away"

        @classmethod
        def _strip_protocol(cls, path):
            return "/sandbox/away.mp4"

        def cat_file(self, path, start=None, end=None, **kwargs):
            raise ConnectionError("refused")

    fsspec.register_implementation("away", Away, clobber=True)
    with pytest.raises(StorageUnavailable, match=r"could not fetch bytes \[0, \d+\).*ConnectionError"):
        process.read_frames("away://sandbox/away.mp4", TIMES_S, SIZE, deadline_s=30)
    with pytest.raises(UnreadableVideo, match="moved or deleted"):
        process.probe("memory://sandbox/gone.mp4")
    assert len(process.read_frames(clip, TIMES_S, SIZE, deadline_s=30)) == len(TIMES_S)


def test_a_hang_is_ended_at_the_deadline(process, clip, tmp_path):
    """A pipe nobody writes to: opening it blocks inside libavformat, where no Python timeout reaches."""
    os.mkfifo(tmp_path / "Mustermann.mp4")
    started_s = time.monotonic()
    with pytest.raises(DecoderKilled, match="within 1 s") as caught:
        process.read_frames(tmp_path / "Mustermann.mp4", TIMES_S, SIZE, deadline_s=1)
    assert caught.value.code == "decoder-hung" and time.monotonic() - started_s < 5
    assert process.pid is None
    assert len(process.read_frames(clip, TIMES_S, SIZE, deadline_s=30)) == len(TIMES_S)


def test_a_crash_is_told_and_survived(process, clip, tmp_path):
    os.mkfifo(tmp_path / "Mustermann.mp4")
    process.probe(clip)
    killer = threading.Timer(0.5, os.kill, (process.pid, signal.SIGSEGV))
    killer.start()
    with pytest.raises(DecoderKilled, match="SIGSEGV") as caught:
        process.read_frames(tmp_path / "Mustermann.mp4", TIMES_S, SIZE, deadline_s=30)
    killer.join()
    assert caught.value.code == "decoder-died"
    assert len(process.read_frames(clip, TIMES_S, SIZE, deadline_s=30)) == len(TIMES_S)


@pytest.fixture(scope="module")
def heavy(tmp_path_factory):
    """A small file of large pictures: 29 MB each, and half a second to decode."""
    path = tmp_path_factory.mktemp("heavy") / "Mustermann.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=1)
        stream.width, stream.height, stream.pix_fmt = 2560, 1440, "gbrap16le"
        frame = av.VideoFrame(2560, 1440, "gbrap16le")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        data = [bytes(packet) for packet in (*stream.encode(frame), *stream.encode())][0]
        for number in range(20):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 1), True
            packet.pts = packet.dts = number
            packet.duration = 1
            container.mux(packet)
    return path


@pytest.mark.parametrize(
    "memory_mb, deadline_s, code, reason",
    [
        (48, 60.0, "decoder-died", "of its 48 MB of memory; export the video again, or transcode it"),
        (1024, 2.0, "decoder-hung", "within 2 s, got none: the decoder hung and was killed; export"),
    ],
)
def test_a_file_that_kills_its_decoder_twice_is_a_gap_with_the_reason(
    heavy, clip, tmp_path, memory_mb, deadline_s, code, reason
):
    stage = DecodeStage(
        (str(tmp_path), "recipe"),
        WindowSpec(coarse_s=10, fine_s=2.5),
        (112, 112),
        "reference",
        "pyav",
        memory_mb,
        deadline_s,
    )
    images_NHWC, (gap,) = stage.decode(Segment("segment", "video", str(heavy), 0.0, 20.0, 20.0))
    assert images_NHWC is None and (gap.start_s, gap.stop_s, gap.code) == (0.0, 20.0, code)
    assert reason in gap.reason and "Mustermann" not in gap.reason
    assert stage.process.starts == 2
    images_NHWC, gaps = stage.decode(Segment("segment", "video", str(clip), 0.0, 5.0, 5.0))
    assert len(images_NHWC) == 32 and not gaps, "the next video is decoded as if nothing had been"


def test_memory_has_a_limit(clip):
    with DecodeProcess(memory_mb=64) as small:
        with pytest.raises(DecoderKilled, match="64 MB of memory"):
            small.read_frames(clip, TIMES_S, (4000, 4000), deadline_s=30)
        assert small.probe(clip).width == 320


def test_the_process_sees_no_credentials(process, clip, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-for-decoders")
    process.close()
    process.probe(clip)
    with open(f"/proc/{process.pid}/environ") as file:
        assert "not-for-decoders" not in file.read()


def test_memory_does_not_grow_with_the_number_of_frames(clip):
    def peak_mb(count):
        with DecodeProcess() as process:
            process.read_frames(clip, np.linspace(0, 5, count), (360, 640), deadline_s=60)
            with open(f"/proc/{process.pid}/status") as file:
                return int(file.read().split("VmHWM:")[1].split()[0]) / 1024

    assert peak_mb(200) < 1.1 * peak_mb(60) < 220


def test_the_process_opens_no_socket_and_starts_no_program():
    code = """
import ctypes, errno, os, platform, socket
from halsted_ray.video.isolation import deny_network_and_programs
print(deny_network_and_programs())
for attempt in (socket.socket, lambda: os.execv("/bin/true", ["true"])):
    try:
        attempt()
    except PermissionError:
        print("refused")
libc = ctypes.CDLL(None, use_errno=True)
io_uring_setup, x32_socket = 425, 0x40000000 + 41
for call in (io_uring_setup, *([x32_socket] if platform.machine() == "x86_64" else [])):
    libc.syscall(call, 1, 0, 0)
    print(errno.errorcode[ctypes.get_errno()])
import av, numpy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    said = done.stdout.split()
    assert said[:3] == ["None", "refused", "refused"] and set(said[3:]) == {"EPERM"}, (said, done.stderr)


def test_the_filter_is_on_in_the_process_that_decodes(process, clip):
    process.probe(clip)
    with open(f"/proc/{process.pid}/status") as file:
        status = dict(line.split(":", 1) for line in file)
    assert status["Seccomp"].strip() == "2" and status["NoNewPrivs"].strip() == "1"
