"""Decoding in a process that can be killed."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from busy_machine import measured_slowness
from numbered_video import Recipe, numbers_of, write

from halsted_ray.embedding.decode_stage import DecodeOptions, DecodeStage
from halsted_ray.errors import CorruptSegment, DecoderKilled, StorageUnavailable, UnreadableVideo
from halsted_ray.records import Segment, WindowSpec
from halsted_ray.storage.ranges import RangeFile
from halsted_ray.video import decode_worker, wire
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.frames import collect
from halsted_ray.video.probe import probe
from halsted_ray.video.readers import READERS, read_frames

SIZE = (90, 160)
TIMES_S = np.arange(0, 5, 0.15625)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write(tmp_path_factory.mktemp("sandbox") / "clip.mp4", Recipe(codec_options={"bf": "2"})).path


@pytest.fixture(scope="module")
def process():
    with DecodeProcess(storage_patience_s=0.2) as process:
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
        process.read_frames(clip, np.array([100.0]), SIZE, deadline_s=30).require_whole()
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


@pytest.fixture(scope="module")
def failing_store():
    """A store in memory that answers its first ``good`` requests for bytes and then acts as told: it refuses the
    connection ('away'), or gives fewer bytes than asked for ('short')."""
    import fsspec

    memory = type(fsspec.filesystem("memory"))

    class Failing(memory):
        protocol = "failing"
        good, then, asked = 0, "away", 0

        @classmethod
        def _strip_protocol(cls, path):
            return memory._strip_protocol(path.removeprefix("failing://"))

        def cat_file(self, path, start=None, end=None, **kwargs):
            Failing.asked += 1
            if Failing.asked > Failing.good and Failing.then == "away":
                raise ConnectionError("refused")
            data = super().cat_file(path, start=start, end=end, **kwargs)
            return data[:-1] if Failing.asked > Failing.good else data

    fsspec.register_implementation("failing", Failing, clobber=True)
    return Failing


def write_noise(path, codec: str) -> None:
    """Two seconds of pictures that hardly compress: several MB, so that reading the file takes many requests."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 320, 240, "yuv420p", 30_000_000
        stream.codec_context.gop_size = 10
        stream.options = {"preset": "ultrafast", "crf": "1"} if codec == "libx264" else {}
        for _ in range(50):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (240, 320, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture(
    scope="module",
    params=[(".mp4", "libx264"), (".mkv", "libx264"), (".ts", "libx264"), (".avi", "mpeg4"), (".mpg", "mpeg2video")],
    ids=lambda kind: kind[0],
)
def noise(request, tmp_path_factory):
    """The bytes of a video that is read in many requests, in each kind of container."""
    suffix, codec = request.param
    path = tmp_path_factory.mktemp("noise") / f"noise{suffix}"
    write_noise(path, codec)
    return path.read_bytes()


NOISE_TIMES_S = np.arange(0, 1.9, 0.15625)


def test_whichever_read_of_a_store_fails_it_is_an_outage_and_nothing_is_asked_for_any_more(noise):
    """libav asks for other bytes after a failed read, or takes it for the end of the file."""

    def read(good: int) -> int:
        """Reads where the first ``good`` requests are answered; the number of requests."""
        asked = 0

        def fetch(start: int, stop: int) -> bytes:
            nonlocal asked
            asked += 1
            if asked > good:
                raise StorageUnavailable("away")
            return noise[start:stop]

        try:
            collect(
                READERS["pyav"](RangeFile(fetch, len(noise)), NOISE_TIMES_S, SIZE, "reference"), NOISE_TIMES_S, SIZE
            )
        except StorageUnavailable:
            assert asked == good + 1
        else:
            assert asked <= good
        return asked

    requests = read(1 << 30)
    assert requests >= 4, "else nothing fails after the first request"
    for good in range(requests):
        assert read(good) == good + 1


def test_a_store_that_fails_in_the_middle_of_a_video_is_an_outage_at_once(process, clip, failing_store, noise):
    import fsspec

    fsspec.filesystem("memory").pipe("/sandbox/noise", noise)
    for failing_store.then, reason in (("away", "could not fetch bytes.*ConnectionError"), ("short", "ShortRead")):
        failing_store.asked, failing_store.good = 0, 1
        with pytest.raises(StorageUnavailable, match=reason) as caught:
            process.read_frames("failing://sandbox/noise", NOISE_TIMES_S, SIZE, deadline_s=5)
        assert not caught.value.permanent
    assert len(process.read_frames(clip, TIMES_S, SIZE, deadline_s=30)) == len(TIMES_S)


@pytest.mark.parametrize("code, error", [(errno.EIO, "StorageUnavailable"), (errno.EINVAL, "UnreadableVideo")])
def test_a_drive_that_fails_in_the_middle_of_a_video_is_an_outage(monkeypatch, code, error):
    def reader(*_arguments):
        yield np.zeros((*SIZE, 3), np.uint8), 0.0
        av.error.err_check(-code)

    monkeypatch.setitem(READERS, "pyav", reader)
    monkeypatch.setattr(decode_worker, "limit_cpu", lambda cpu_s: None)
    answers, replies = os.pipe()
    request = {
        "do": "frames",
        "path": "clip.mp4",
        "size": SIZE,
        "fidelity": "exact",
        "reader": "pyav",
        "eye": "left",
        "times": 1,
        "cpu_s": 1,
    }
    decode_worker.answer(request, bytearray(TIMES_S[:1].tobytes()), -1, replies)
    assert wire.receive(answers, time.monotonic() + 5)[0]["error"] == error
    os.close(answers)
    os.close(replies)


def test_a_hang_is_ended_at_the_deadline(process, clip, tmp_path):
    """A pipe nobody writes to: opening it blocks inside libavformat, where no Python timeout reaches."""
    os.mkfifo(tmp_path / "Mustermann.mp4")
    started_s = time.monotonic()
    with measured_slowness() as slowness, pytest.raises(DecoderKilled, match="within 1 s") as caught:
        process.read_frames(tmp_path / "Mustermann.mp4", TIMES_S, SIZE, deadline_s=1)
    assert caught.value.code == "decoder-hung" and time.monotonic() - started_s < 5 * slowness.factor
    assert process.pid is None
    assert len(process.read_frames(clip, TIMES_S, SIZE, deadline_s=30)) == len(TIMES_S)


def test_a_long_way_to_the_first_frame_is_waited_for(process, tmp_path):
    """A video with one keyframe is decoded from its start: that is no hang, however long it takes."""
    one_key = Recipe(frames=1500, rate=25, gop=10_000, size=(360, 640), codec_options={"x264-params": "scenecut=0"})
    video = write(tmp_path / "one.mp4", one_key)
    started_s = time.monotonic()
    read_frames(video.path, [59.0], SIZE, "exact")
    deadline_s = (time.monotonic() - started_s) / 2
    (number,) = numbers_of(process.read_frames(video.path, [59.0], SIZE, "exact", deadline_s=deadline_s).images_NHWC)
    assert number == 59 * 25


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
        for number in range(60):
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
    spec = WindowSpec(coarse_s=10, fine_s=2.5)
    options = DecodeOptions(str(tmp_path), "recipe", spec, (112, 112), memory_mb=memory_mb, deadline_s=deadline_s)
    stage = DecodeStage(options)
    images_NHWC, (gap,) = stage.decode(Segment("segment", "video", str(heavy), 0.0, 60.0, 60.0))
    assert images_NHWC is None and (gap.start_s, gap.stop_s, gap.code) == (0.0, 60.0, code)
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


def test_the_process_finds_the_modules_that_its_parent_finds(process, clip, tmp_path, monkeypatch):
    (tmp_path / "decord.py").write_text("raise ImportError('libcudart.so.11 is not there')")
    monkeypatch.syspath_prepend(tmp_path)
    process.close()
    with pytest.raises(ImportError, match="libcudart.so.11 is not there"):
        process.read_frames(clip, TIMES_S, SIZE, reader="decord", deadline_s=30)
    assert process.probe(clip).width == 320, "it lives on"
    process.close()


def test_a_module_that_is_missing_is_named_and_not_taken_for_want_of_memory(clip, tmp_path, monkeypatch):
    (tmp_path / "av.py").write_text("raise ImportError('libavcodec.so.62 is not there')")
    monkeypatch.syspath_prepend(tmp_path)
    with DecodeProcess() as process, pytest.raises(RuntimeError, match="ImportError: libavcodec.so.62") as caught:
        process.probe(clip)
    assert "memory" not in str(caught.value)


def test_the_process_does_not_import_from_where_the_run_was_started(clip, tmp_path, monkeypatch):
    (tmp_path / "av.py").write_text("raise ImportError('a file of the archive')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    with DecodeProcess() as process:
        assert process.probe(clip).width == 320


def test_memory_does_not_grow_with_the_number_of_frames(clip):
    def peak_mb(count):
        with DecodeProcess() as process:
            process.read_frames(clip, np.linspace(0, 5, count), (360, 640), deadline_s=60)
            with open(f"/proc/{process.pid}/status") as file:
                return int(file.read().split("VmHWM:")[1].split()[0]) / 1024

    assert peak_mb(200) < 1.1 * peak_mb(60) < 220


@pytest.mark.parametrize("fidelity", ["reference", "keyframes"])
def test_memory_does_not_grow_from_segment_to_segment(clip, fidelity):
    """Looking at a frame's side data ties the frame in a circle, which only a collection of garbage undoes."""
    with DecodeProcess() as process:
        mb = []
        for _ in range(60):
            process.read_frames(clip, TIMES_S, SIZE, fidelity, deadline_s=60)
            mb.append(private_mb(process))
    assert max(mb) < mb[0] + 12, mb


def test_memory_does_not_grow_with_the_number_of_keyframes(tmp_path):
    intra = write(tmp_path / "intra.mp4", Recipe(gop=1, size=(360, 640))).path
    times_s = np.arange(180) / 30
    with DecodeProcess() as process:
        process.read_frames(intra, times_s[:10], (45, 80), "exact", deadline_s=60)
        few_mb = private_mb(process, "VmHWM")
        process.read_frames(intra, times_s, (45, 80), "exact", deadline_s=60)
        assert private_mb(process, "VmHWM") < few_mb + 20


def private_mb(process, figure="RssAnon"):
    return int(Path(f"/proc/{process.pid}/status").read_text().split(f"{figure}:")[1].split()[0]) / 1024


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


def test_the_process_imports_little_so_that_it_starts_quickly():
    code = "import sys, halsted_ray.video.decode_worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not {"pyarrow", "fsspec", "ray", "torch", "decord"} & set(done.stdout.split())


ENDLESS = """
import time
from halsted_ray.video import decode_worker

decode_worker.answer = lambda *_: time.sleep(600)
decode_worker.main(1024)
"""


def test_a_decoding_process_ends_with_its_parent_in_the_middle_of_its_work():
    """A pass over the packets of a large file asks for nothing and sends nothing, so that nothing else would end it."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", ENDLESS], **pipes)
    try:
        wire.receive(process.stdout.fileno(), time.monotonic() + 60)
        wire.send(process.stdin.fileno(), {"do": "probe"})
        time.sleep(0.2)
        assert process.poll() is None, "it is at work"
        process.stdin.close()  # what the system does when the parent is killed
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
