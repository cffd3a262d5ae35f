"""The reader ``nvdec`` against the reader ``pyav``: the same times and spans, pictures that are nearly the same; and
what it leaves to the CPU, with the reason. A library with PyNvVideoCodec's interface decodes in place of a GPU."""

import ctypes
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import takes
import torch
from numbered_video import Recipe, numbers_of, write
from nvdec_library import put_in
from takes import Part, join_segments, mux

from halsted_ray.errors import UnreadableVideo
from halsted_ray.video import decode_worker, nvdec_decoder, nvdec_library, nvdec_start
from halsted_ray.video.decode_process import DecodeProcess, device_environment
from halsted_ray.video.frames import collect
from halsted_ray.video.h264_sps import h264_sequence, parameter_sets
from halsted_ray.video.nvdec import BITS, CODECS, NvdecRefused
from halsted_ray.video.nvdec_decoder import eye_part, is_unreferenced
from halsted_ray.video.packet_index import IndexSlot
from halsted_ray.video.readers import READERS, read_frames

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import nvdec as benchmark  # noqa: E402

SIZE, SMALL = (90, 160), (48, 80)
MOST = 1.5
"""Grey levels."""
FIDELITIES = ("exact", "reference", "keyframes")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads of torch that wait for each other take many times as long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def library(monkeypatch):
    return put_in(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("nvdec")


@pytest.fixture(scope="module")
def clip(folder):
    return write(folder / "clip.mp4", Recipe(frames=90, codec_options={"bf": "3"}))


def by_nvdec(path, times_s, size=SIZE, fidelity="exact", eye="left"):
    """(frames, the reasons for which the CPU decoded)"""
    reasons = []
    slot = IndexSlot(on_fallback=reasons.append)
    return collect(READERS["nvdec"](str(path), times_s, size, fidelity, eye, slot), times_s, size), reasons


def check_same(path, times_s, size=SIZE, fidelity="exact", reasons=()):
    """NVDEC's answer is PyAV's; returns it."""
    ours, got = by_nvdec(path, times_s, size, fidelity)
    theirs = read_frames(path, times_s, size, fidelity)
    assert tuple(got) == tuple(reasons)
    assert np.array_equal(ours.pts_s, theirs.pts_s, equal_nan=True) and ours.missing == theirs.missing
    assert np.abs(ours.images_NHWC.astype(int) - theirs.images_NHWC).mean() < MOST
    return ours


@pytest.mark.parametrize("fidelity", FIDELITIES)
@pytest.mark.parametrize(
    "name, recipe",
    [
        ("b frames", Recipe(codec_options={"bf": "3"})),
        ("matroska", Recipe(".mkv", codec_options={"bf": "2"})),
        ("transport", Recipe(".ts", codec_options={"bf": "2"})),
        ("open gops", Recipe(codec_options={"bf": "3", "x264-params": "open-gop=1:b-adapt=0"})),
        ("varying", Recipe(steps=(1000, 333, 200, 4000) * 23, time_base=Fraction(1, 10000))),
        ("uneven", Recipe(size=(182, 326))),
        ("hevc", Recipe(codec="libx265", codec_options={"x265-params": "log-level=none:pools=1"})),
        ("deep", Recipe(".ts", "libx265", pix_fmt="yuv420p10le", codec_options={"x265-params": "log-level=none"})),
        ("turned", Recipe(rotation_deg=180)),
    ],
)
def test_times_and_pictures_are_those_of_the_cpu(folder, library, name, recipe, fidelity):
    path = folder / f"{name}{recipe.suffix}"
    if not path.exists():
        write(path, Recipe(**{**vars(recipe), "frames": 90}))
    for times_s in (np.arange(0, 2.9, 0.15625), np.arange(1.3, 2.9, 0.7)):
        before = library.packets
        check_same(path, times_s, SIZE, fidelity)
        assert library.packets > before


def test_the_frame_at_each_time_is_the_right_one(clip, library):
    times_s = np.arange(0, 2.9, 0.15625)
    frames, _ = by_nvdec(clip.path, times_s)
    assert numbers_of(frames.images_NHWC) == [clip.number_at(time_s) for time_s in times_s]


def test_packets_that_nobody_refers_to_are_dropped_before_the_decoder(clip, library):
    times_s = np.arange(0, 2.9, 0.15625)
    sent = {}
    for fidelity in FIDELITIES:
        before = library.packets
        check_same(clip.path, times_s, fidelity=fidelity)
        sent[fidelity] = library.packets - before
    assert sent["keyframes"] < sent["reference"] < sent["exact"] < 90


@pytest.fixture(scope="module")
def stock(folder):
    return takes.encode(folder / "stock.mp4", "libx264", 200, 25, 25, 100, bf="2", preset="ultrafast")


@pytest.mark.parametrize("suffix, kind", [(".mp4", "mp4"), (".mkv", "matroska"), (".ts", "mpegts")])
def test_holes_are_those_of_the_cpu(folder, library, stock, suffix, kind):
    path = mux(folder / f"holes{suffix}", [Part(stock, 0, 75), Part(stock, 75, 150, Fraction(8))], kind)
    for fidelity in FIDELITIES:
        frames = check_same(path, np.arange(0, 10.5, 0.4), SMALL, fidelity)
        assert [span.code for span in frames.missing] == ["unrecorded"]


def test_two_takes_lie_one_after_another(folder, library, stock):
    path = mux(folder / "takes.ts", [Part(stock, 0, 75), Part(stock, 75, 150, Fraction(100))], "mpegts")
    for fidelity in FIDELITIES:
        frames = check_same(path, np.arange(0, 5.9, 0.3), SMALL, fidelity)
        assert not frames.missing and frames.pts_s[-1] >= 5


def test_joined_takes_go_to_the_cpu_where_they_meet_and_only_there(folder, library, stock):
    files = [mux(folder / f"{n}.ts", [Part(stock, *cut)], "mpegts") for n, cut in enumerate(((0, 75), (75, 150)))]
    (folder / "joined.ts").write_bytes(b"".join(file.read_bytes() for file in files))
    check_same(folder / "joined.ts", np.arange(0, 5.9, 0.3), SMALL, reasons=["damaged data"])
    check_same(folder / "joined.ts", np.arange(4.2, 5.9, 0.3), SMALL)


def test_joined_matroska_is_read_as_one(folder, library, stock):
    parts = [mux(folder / f"{n}.mkv", [Part(stock, *cut)], "matroska") for n, cut in enumerate(((0, 75), (75, 150)))]
    (folder / "joined.mkv").write_bytes(join_segments([part.read_bytes() for part in parts]))
    check_same(folder / "joined.mkv", np.arange(0, 5.5, 0.3), SMALL)


@pytest.mark.parametrize(
    "recipe, reason",
    [
        (Recipe(".mp4", "mpeg4"), "codec mpeg4"),
        (Recipe(".avi", codec_options={"bf": "2"}), "a container whose packets do not state when they are shown"),
        (Recipe(pix_fmt="yuv422p"), "h264 with pixels yuv422p"),
        (Recipe(pix_fmt="yuv444p"), "h264 with pixels yuv444p"),
        (Recipe(pix_fmt="yuv420p10le"), "the chip does not decode h264 with 10 bits"),
        (Recipe(codec_options={"x264-params": "interlaced=1"}), "interlaced pictures"),
        (Recipe(codec_options={"x264-params": "fake-interlaced=1"}), "a stream whose pictures may be interlaced"),
        (Recipe(size=(176, 300)), "a picture that is not shrunk to half its size or less"),
    ],
)
def test_what_the_chip_does_not_decode_alike_goes_to_the_cpu_with_the_reason(tmp_path, library, recipe, reason):
    if "10" in recipe.pix_fmt:
        library.able["supported"] = 0
    video = write(tmp_path / f"video{recipe.suffix}", Recipe(**{**vars(recipe), "frames": 30}))
    check_same(video.path, np.arange(0, 0.9, 0.15), reasons=[reason])


def test_a_size_beyond_the_chip_goes_to_the_cpu(clip, library):
    library.able["height_max"] = 100
    nvdec_decoder.capabilities.cache_clear()
    check_same(clip.path, np.arange(0, 1, 0.3), reasons=["a size that the chip does not decode in h264"])
    nvdec_decoder.capabilities.cache_clear()
    assert library.asked[-1] == ("h264", 8)


def test_an_error_in_the_middle_is_tried_on_the_cpu_and_costs_no_picture(clip, library):
    times_s = np.arange(0, 2.9, 0.15625)
    library.fails_at = 40
    check_same(clip.path, times_s, reasons=["NVDEC failed (RuntimeError: HW decoder failed)"])
    assert library.packets == 40


def test_the_reason_holds_the_librarys_own_words_but_no_address(clip, library):
    library.error, library.fails_at = ValueError("cuvidDecodePicture: error 999 at 0x7f00aa01\nand more"), 3
    reason = "NVDEC failed (ValueError: cuvidDecodePicture: error 999 at 0x…)"
    check_same(clip.path, np.arange(0, 1, 0.2), reasons=[reason])


def test_a_process_decodes_one_picture_before_it_gives_up_its_rights(library, capfd):
    nvdec_decoder.capabilities.cache_clear()
    nvdec_start.prepare()
    assert library.packets == 1
    for codec in CODECS:
        for bits in BITS.values():
            nvdec_decoder.capabilities(library, codec, bits)
    assert len(library.asked) == 6  # no request asks again: a context of the device can't be made there
    library.loses = library.pictures + 1
    with pytest.raises(NvdecRefused, match="no picture of the first keyframe"):
        nvdec_start.prepare()
    library.packets, library.fails_at, library.error = 0, 1, Exception("the driver's own error")
    decode_worker.prepare_device()
    assert "the GPU can't be used: Exception: the driver's own error" in capfd.readouterr().err


def test_a_picture_that_does_not_come_back_is_noticed(clip, library):
    """The pictures before it stand at another's time by then, so the CPU reads all of them anew."""
    library.loses = 20
    check_same(clip.path, np.arange(0, 2.9, 0.15625), reasons=["NVDEC gave no picture for a packet"])


def test_what_the_library_prints_of_a_bad_picture_is_noticed_and_other_words_go_on(clip, library, monkeypatch, capfd):
    decode = nvdec_decoder.NvdecDecoder._decode
    libc = ctypes.CDLL(None)

    def printing(self, data, pts):
        if library.packets == 30:
            libc.printf(b"session 7\n")
        if library.packets == 31:
            libc.printf(b"Decode Error occurred for picture %d\n", 31)
        return decode(self, data, pts)

    monkeypatch.setattr(nvdec_decoder.NvdecDecoder, "_decode", printing)
    check_same(clip.path, np.arange(0, 2.9, 0.15625), reasons=["NVDEC could not decode a picture"])
    assert "session 7" in capfd.readouterr().out


def test_another_picture_than_the_cpus_is_noticed_at_the_first_keyframe(clip, library, monkeypatch):
    planes = nvdec_decoder.NvdecDecoder._planes

    def shifted(self, decoded):
        found = planes(self, decoded)
        found.luma_HW.copy_(found.luma_HW.roll(12, dims=1))
        return found

    monkeypatch.setattr(nvdec_decoder.NvdecDecoder, "_planes", shifted)
    check_same(clip.path, np.arange(0, 1, 0.2), reasons=["NVDEC shows the first keyframe otherwise than the CPU"])


def test_damaged_data_go_to_the_cpu_which_marks_them(tmp_path, library, clip):
    data = bytearray(clip.path.read_bytes())
    with av.open(str(clip.path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    position, size = packets[45]
    data[position : position + size] = bytes(size)
    (tmp_path / "damaged.mp4").write_bytes(data)
    check_same(tmp_path / "damaged.mp4", np.arange(0, 2.9, 0.15625), reasons=["damaged data"])


def test_a_size_that_changes_in_mid_stream_goes_to_the_cpu(tmp_path, library):
    """The library would scale the later pictures to the size of the first, and say nothing of it."""
    sources = [write(tmp_path / f"{n}.ts", Recipe(".ts", frames=30, size=(180 << n, 320 << n))).path for n in range(2)]
    with av.open(str(tmp_path / "both.ts"), "w") as container:
        stream = None
        for number, source in enumerate(sources):
            with av.open(str(source)) as part:
                stream = stream or container.add_stream_from_template(part.streams.video[0])
                for packet in part.demux(video=0):
                    if packet.size:
                        packet.stream = stream
                        packet.pts, packet.dts = packet.pts + 90_000 * number, packet.dts + 90_000 * number
                        container.mux(packet)
    check_same(tmp_path / "both.ts", np.arange(0, 1.9, 0.2), reasons=["a stream whose parameters change"])


def test_a_file_that_is_no_video_is_the_same_error(tmp_path, library):
    (tmp_path / "notes.mp4").write_text("notes")
    with pytest.raises(UnreadableVideo, match="text"):
        by_nvdec(tmp_path / "notes.mp4", np.array([0.0]))


def test_one_eye_is_cut_out_of_the_planes():
    assert eye_part("side by side", True, (100, 200)) == (0, 0, 100, 100)
    assert eye_part("side by side", False, (100, 200)) == (0, 100, 100, 100)
    assert eye_part("top and bottom", False, (100, 200)) == (50, 0, 50, 200)


def test_the_parameter_set_says_whether_pictures_may_be_interlaced_and_are_cut(folder):
    for options, frames_only in (({}, True), ({"x264-params": "interlaced=1"}, False)):
        for size in ((180, 320), (160, 326)):
            path = write(folder / "sps.ts", Recipe(".ts", frames=3, size=size, codec_options=options)).path
            with av.open(str(path)) as container:
                (unit,) = parameter_sets(bytes(next(container.demux(video=0))), "h264")
            found = h264_sequence(unit)
            assert (found.frames_only, found.left, found.top) == (frames_only, 0, 0)
    with pytest.raises(ValueError, match="a part of one"):
        h264_sequence(unit[:6])


def test_unreferenced_packets_are_told_by_their_slices():
    assert is_unreferenced(b"\0\0\0\1\x09\xf0\0\0\1\x01\x9a", "h264")  # a delimiter, then a slice of nobody's
    assert not is_unreferenced(b"\0\0\1\x41\x9a\0\0", "h264") and not is_unreferenced(b"\0\0\1\x65\x88\0", "h264")
    assert is_unreferenced(b"\0\0\1\x00\x01\xd0", "hevc") and not is_unreferenced(b"\0\0\1\x02\x01\xd0", "hevc")


def test_readers_import_no_torch():
    code = "import sys, halsted_ray.video.readers, halsted_ray.video.decode_worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0


@pytest.mark.skipif(nvdec_library.problem() == "", reason="this machine has NVDEC")
def test_a_process_on_a_machine_without_gpu_gives_the_cpus_frames_and_says_why(clip):
    times_s = np.arange(0, 2, 0.3)
    with DecodeProcess(gpu="0") as process:
        frames = process.read_frames(clip.path, times_s, SIZE, "exact", "nvdec", deadline_s=60)
        assert process.fallback == nvdec_library.problem() != ""
        assert np.array_equal(frames.images_NHWC, read_frames(clip.path, times_s, SIZE, "exact").images_NHWC)
        process.read_frames(clip.path, times_s, SIZE, "exact", deadline_s=60)
        assert process.fallback == "" and process.starts == 1
    with DecodeProcess() as process:
        process.read_frames(clip.path, times_s, SIZE, "exact", "nvdec", deadline_s=60)
        assert process.fallback == "no GPU is given to this process"
    with DecodeProcess(gpu="0") as process:
        row, _ = benchmark.race([process], str(clip.path), times_s, "exact", 54.0)
    assert len(row["fallbacks"]) == 1 and row["frames_per_s"] > 0
    assert benchmark.main(["--seconds", "1"]) == 1
    assert device_environment("GPU-1")["CUDA_VISIBLE_DEVICES"] == "GPU-1"
