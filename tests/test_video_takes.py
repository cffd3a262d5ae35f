"""Random takes, joined, cut, remuxed and re-timed, in every container: the number of the frame at any time is right.

What is right:

- **MPEG-TS, MPEG-PS, VOB.** Where the clock restarts, jumps back, jumps ahead by more than 10 s, or wraps at 33 bits,
  the takes lie one after another on the video's own axis. All frames are there, in order, and the duration is the sum
  of the takes. (10 s is FFmpeg's own threshold for containers whose clocks jump.)
- **Holes.** Where the clock jumps ahead by at most 10 s in MPEG-TS and MPEG-PS, and by at most one hour in any other
  container, the time passes and nothing was recorded. In a hole of up to 2 s (8 frames where a frame lasts longer than
  a quarter of a second) the last picture stands. In a longer hole ``Frames.missing`` has every asked time, with the
  code ``unrecorded``. A further jump is a clock that was set: the takes lie one after another.
- **Matroska** whose clusters go back in time (joined segments): the takes lie one after another.
- **Sound** that begins before the picture or ends after it changes nothing: the picture's first frame is at 0 s, and
  the video ends with its picture.
- **Declared lengths** that the index or the packets contradict change nothing.
- **A table of keyframes** that is missing, or that holds every sample, changes nothing; nor does a stream with
  recovery points in place of keyframes.
- **A start between keyframes** begins the video at the first keyframe.
- **An end** that is cut off, or filled up with zeros, costs the picture behind it and no picture before it.
- **A wrong size** of one chunk, tag, block or packet costs no picture before it.
- **An edit list** decides which frame is the first.

``HALSTED_TAKES=200`` asks for 200 recordings of each kind; the suite asks for a few.
"""

import os
import struct
from dataclasses import replace
from fractions import Fraction

import fsspec
import numpy as np
import pytest
import takes
from fuzz.pieces import PARSERS, put
from numbered_video import numbers_of
from takes import SIZE, Part, join_segments, m2ts, mux, null_packets, recording

from halsted_ray.video.joined import unread_bytes
from halsted_ray.video.probe import probe
from halsted_ray.video.readers import read_frames

COUNT = int(os.environ.get("HALSTED_TAKES", "2"))
FIDELITIES = ("exact", "reference", "keyframes")
OWN_CLOCK = {"mpegts_copyts": "1", "avoid_negative_ts": "disabled"}
STOCKS = {
    "h264": (".mp4", "libx264", 25, 25, {"bf": "2"}),
    "h264, no b frames": (".mp4", "libx264", Fraction(30000, 1001), 40, {"bf": "0"}),
    "h264, slow": (".mp4", "libx264", 2, 6, {"bf": "0", "x264-params": "scenecut=0"}),
    "hevc": (".mp4", "libx265", 25, 25, {"x265-params": "log-level=none:open-gop=0:bframes=2:pools=1"}),
    "mpeg2": (
        ".ts",
        "mpeg2video",
        25,
        12,
        {"bf": "2", "flags": "+cgop", "sc_threshold": "1000000000", "qmin": "2", "qmax": "4", "noise": 40},
    ),
    "mpeg4": (".mp4", "mpeg4", 25, 25, {}),
    "mjpeg": (".mov", "mjpeg", 10, 1, {}),
    "vp8": (".webm", "libvpx", 25, 25, {"deadline": "realtime", "cpu-used": "8"}),
    "flv1": (".flv", "flv", 25, 25, {}),
    "wmv2": (".asf", "wmv2", 25, 25, {}),
    "intra refresh": (".ts", "libx264", 25, 50, {"x264-params": "intra-refresh=1:keyint=50:scenecut=0"}),
}
"""Name → suffix, codec, frames a second, frames from keyframe to keyframe, options of the codec.

MPEG-PS states a time once per pack of 2 KB; frames of MPEG-2 are larger than this here, as they are in recordings."""
RUN = 3
"""The most frames in a row that no other frame refers to."""


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("stock"), {}

    def get(name):
        if name not in made:
            suffix, codec, rate, gop, options = STOCKS[name]
            frames = {2: 40, 10: 120}.get(rate, 500 if name == "intra refresh" else 300)
            made[name] = takes.encode(folder / f"{len(made)}{suffix}", codec, frames, rate, gop, 100, **options)
        return made[name]

    return get


def draw_parts(rng, stock, count):
    """Parts of 1 to 5 s (longer ones where keyframes lie further apart), each from a keyframe on."""
    keys, parts = stock.keys, []
    firsts = [n for n, key in enumerate(keys) if len(stock.packets) - key >= 2 * stock.rate]
    reorders = any(packet.pts != number for number, packet in enumerate(stock.packets))
    for _ in range(count):
        first = int(rng.choice(firsts))
        least = next((n for n in range(first, len(keys)) if keys[n] - keys[first] >= stock.rate), len(keys) - 1)
        most = max(least, next((n for n in range(len(keys)) if keys[n] - keys[first] >= 5 * stock.rate), least))
        stop = keys[int(rng.integers(least, most + 1))]
        if not reorders and stop - keys[first] > 10:
            stop -= int(rng.integers(0, 8))  # a take ends anywhere
        parts.append(Part(stock, keys[first], stop))
    return parts


def times_to_ask(rng, made):
    """Times in every take, in every hole, and at the edges of both; none at the very end."""
    step_s = float(np.median(np.diff(made.times_s)))
    edges = np.flatnonzero(np.diff(made.times_s) > 1.5 * step_s)
    spans = np.unique([0.0, *made.times_s[edges] + step_s, *made.times_s[edges + 1], made.stop_s])
    asked = [rng.uniform(a, b, 10) for a, b in zip(spans[:-1], spans[1:], strict=True)]
    asked += [rng.choice(made.times_s, 8), [0.0, made.times_s[-1]]]
    asked += [made.times_s[edge] + made.hole_s + np.array([-0.3, 0.3]) for edge in edges]
    asked = np.concatenate(asked)
    return np.sort(asked[asked < made.stop_s - 0.4 * step_s])


def judge(made, times_s, fidelity, tolerance_s):
    """Asserts that each asked time shows a right frame, or is missing where nothing was recorded."""
    frames = read_frames(made.path, times_s, SIZE, fidelity)
    missing = getattr(frames, "missing", ())
    step_s = float(np.median(np.diff(made.times_s)))
    for row, time_s in enumerate(times_s):
        spans = [span for span in missing if span.start_s <= time_s < span.stop_s]
        start_s, stop_s = made.hole_at(time_s)
        if start_s < stop_s and min(abs(time_s - start_s), abs(time_s - stop_s)) < tolerance_s + (RUN + 1) * step_s:
            continue  # the edge of a hole lies about here
        if spans and fidelity != "exact" and made.since_hole(time_s) <= RUN:
            # Right behind a hole nothing but frames that others do not refer to may have been shown.
            assert {span.code for span in spans} == {"unrecorded"}
            continue
        if start_s <= time_s < stop_s:
            assert spans, f"{fidelity}: {time_s:.3f} s shows a picture, in a hole from {start_s:.3f} to {stop_s:.3f} s"
            assert {span.code for span in spans} == {"unrecorded"} and np.isnan(frames.pts_s[row])
            assert not frames.images_NHWC[row].any(), "no picture stands where none was recorded"
            continue
        assert not spans, f"{fidelity}: {time_s:.3f} s was recorded, got {spans[0]}"
        (number,) = numbers_of(frames.images_NHWC[row : row + 1])
        if fidelity != "keyframes":
            old_s = time_s - frames.pts_s[row]
            assert old_s < made.hole_s + tolerance_s + step_s, (
                f"{fidelity}: {time_s:.3f} s shows a picture {old_s:.1f} s old"
            )
        low, high = made.row_at(time_s - tolerance_s), made.row_at(time_s + tolerance_s)
        if fidelity == "reference":
            low = max(0, low - RUN - 1)
        if fidelity == "keyframes":
            keys = np.flatnonzero(made.is_key)
            low = keys[max(0, np.searchsorted(keys, low, side="right") - 1)]
            rows = [n for n in range(low, high + 1) if made.is_key[n]]
        else:
            rows = range(low, high + 1)
        right = [int(made.numbers[n]) for n in rows]
        assert number in right, f"{fidelity}: {time_s:.3f} s shows {number}, expected one of {right}"
        shown_s = [float(made.times_s[n]) for n, other in zip(rows, right, strict=True) if other == number]
        off_s = min(abs(frames.pts_s[row] - other_s) for other_s in shown_s)
        assert off_s < tolerance_s + 1e-4, (
            f"{fidelity}: {time_s:.3f} s: frame {number} of {shown_s} has {frames.pts_s[row]}"
        )


def check(rng, made, tolerance_s=None, fidelities=FIDELITIES):
    """Length, frames at random times in one go, and single frames, in every fidelity."""
    step_s = float(np.median(np.diff(made.times_s)))
    tolerance_s = made.slack_s if tolerance_s is None else tolerance_s
    assert probe(made.path).duration_s == pytest.approx(made.stop_s, abs=step_s + tolerance_s + 0.002)
    times_s = times_to_ask(rng, made)
    for fidelity in fidelities:
        judge(made, times_s, fidelity, tolerance_s)
    for time_s in rng.choice(times_s, 3):
        judge(made, np.array([time_s]), str(rng.choice(fidelities)), tolerance_s)
    judge(in_a_store(made), rng.choice(times_s, 1), str(rng.choice(fidelities)), tolerance_s)


def in_a_store(made):
    """The same recording where it is read by byte ranges."""
    store = fsspec.filesystem("memory")
    store.rm("/takes", recursive=True) if store.exists("/takes") else None
    store.pipe(f"/takes/{made.path.name}", made.path.read_bytes())
    return replace(made, path=f"memory://takes/{made.path.name}")


JUMPS = ("none", "hole", "restart", "behind", "ahead", "wrap")


def stream_of_takes(folder, rng, stock, kind):
    """Takes in MPEG-TS or MPEG-PS: at each join the clock does something else."""
    parts = draw_parts(rng, stock, int(rng.integers(2, 5)))
    jumps = [str(rng.choice(JUMPS)) for _ in parts[1:]]
    clock_s = Fraction(int(rng.integers(1, 50_000)), 10)
    if "wrap" in jumps:
        before = sum((part.length_s for part in parts[: jumps.index("wrap") + 1]), Fraction(0))
        clock_s = takes.WRAP_S - before + Fraction(int(rng.integers(-10, 10)), 10)
        jumps = ["none" if jump == "wrap" else jump for jump in jumps]
    start_s = clock_s
    timed, holes_s, groups = [], [], []
    for number, part in enumerate(parts):
        jump = jumps[number - 1] if number else "restart"
        if number:
            hole_s = Fraction(int(rng.integers(5, 95)), 10) if jump == "hole" else Fraction(0)
            holes_s.append(float(hole_s))
            clock_s += hole_s
            clock_s = {
                "restart": start_s,
                "behind": max(Fraction(0), clock_s - Fraction(int(rng.integers(5, 600)), 10)),
                "ahead": clock_s + Fraction(int(rng.integers(105, 100_000)), 10),
            }.get(jump, clock_s)
        timed.append(Part(part.stock, part.start, part.stop, clock_s))
        clock_s += part.length_s
        # Without a jump back a single muxer can have written both.
        if number and jump in ("none", "hole", "ahead") and rng.random() < 0.5:
            groups[-1].append(timed[-1])
        else:
            groups.append([timed[-1]])
    muxer, suffix = {"ts": ("mpegts", ".ts"), "m2ts": ("mpegts", ".m2ts")}.get(
        kind, ("mpeg" if kind == "mpg" else kind, f".{kind}")
    )
    with_sound = rng.random() < 0.3
    files = []
    for number, group in enumerate(groups):
        span = (float(group[0].clock_s), float(group[-1].clock_s + group[-1].length_s), "mp2")
        span = span if with_sound and span[1] - span[0] < 60 else None
        files.append(mux(folder / f"{number}.part", group, muxer, OWN_CLOCK, span).read_bytes())
    data = b"".join(files)
    path = folder / f"joined{suffix}"
    path.write_bytes(m2ts(data) if kind == "m2ts" else data)
    return recording(path, timed, holes_s), jumps


STREAMS = [
    ("ts", "h264"),
    ("ts", "h264, no b frames"),
    ("ts", "mpeg2"),
    ("ts", "hevc"),
    ("ts", "h264, slow"),
    ("m2ts", "h264"),
    ("mpg", "mpeg2"),
    ("vob", "mpeg2"),
]


@pytest.mark.parametrize("seed", range(COUNT))
@pytest.mark.parametrize("kind, codec", STREAMS)
def test_takes_of_a_stream_whose_clock_jumps_lie_one_after_another(tmp_path, stock, kind, codec, seed):
    rng = np.random.default_rng([seed, STREAMS.index((kind, codec))])
    made, jumps = stream_of_takes(tmp_path, rng, stock(codec), kind)
    print(jumps, probe(made.path).duration_s, made.stop_s)
    check(rng, made, float(1 / stock(codec).rate))


JOINED = [("clusters", "h264"), ("clusters", "vp8"), ("files", "h264, no b frames")]


@pytest.mark.parametrize("seed", range(COUNT))
@pytest.mark.parametrize("how, codec", JOINED)
def test_takes_of_joined_matroska_segments_lie_one_after_another(tmp_path, stock, how, codec, seed):
    rng = np.random.default_rng([seed, 1000 + JOINED.index((how, codec))])
    # libavformat reads on into a second whole file, and into no third.
    parts = draw_parts(rng, stock(codec), int(rng.integers(2, 4)) if how == "clusters" else 2)
    kind = "webm" if codec == "vp8" else "matroska"
    live = {"live": "1"} if rng.random() < 0.5 and how == "clusters" else {}
    files = [mux(tmp_path / f"{n}.part", [part], kind, live).read_bytes() for n, part in enumerate(parts)]
    path = tmp_path / "joined.mkv"
    path.write_bytes(join_segments(files) if how == "clusters" else b"".join(files))
    check(rng, recording(path, parts, [0.0] * (len(parts) - 1), 1.1e-3), float(1 / stock(codec).rate))


HOLES = [
    ("mp4", "h264", "mp4"),
    ("mp4", "hevc", "mp4"),
    ("mov", "mjpeg", "mov"),
    ("fragmented", "h264, no b frames", "mp4"),
    ("mkv", "h264", "matroska"),
    ("mkv", "h264, slow", "matroska"),
    ("mkv without cues", "h264", "matroska"),
    ("flv", "h264", "flv"),
    ("flv", "flv1", "flv"),
    ("asf", "wmv2", "asf"),
    ("avi", "mpeg4", "avi"),
]
MUX_OPTIONS = {"fragmented": {"movflags": "frag_keyframe+empty_moov"}, "mkv without cues": {"live": "1"}}


@pytest.mark.parametrize("seed", range(COUNT))
@pytest.mark.parametrize("name, codec, kind", HOLES)
def test_a_hole_is_time_without_a_picture_and_never_a_frozen_frame(tmp_path, stock, name, codec, kind, seed):
    rng = np.random.default_rng([seed, 2000 + HOLES.index((name, codec, kind))])
    parts = draw_parts(rng, stock(codec), int(rng.integers(2, 4)))
    choices = (0.0, 0.6, 1.4, 5.0, 40.0, 3000.0) if kind in ("mp4", "mov", "matroska") else (0.0, 0.6, 1.4, 5.0, 40.0)
    holes_s = [float(rng.choice(choices)) for _ in parts[1:]]
    # A recorder's clock counts whole frames in AVI.
    holes_s = [round(hole_s * stock(codec).rate) / stock(codec).rate for hole_s in holes_s]
    clock_s, timed = Fraction(int(rng.integers(0, 30))) if kind != "avi" else Fraction(0), []
    for part, hole_s in zip(parts, (*holes_s, Fraction(0)), strict=True):
        timed.append(Part(part.stock, part.start, part.stop, clock_s))
        clock_s += part.length_s + hole_s
    path = mux(tmp_path / f"holes.{kind[:3] if kind != 'matroska' else 'mkv'}", timed, kind, MUX_OPTIONS.get(name))
    slack_s = 1.1e-3 if kind in ("matroska", "flv", "asf") else 2e-5
    print(holes_s)
    check(rng, recording(path, timed, [float(hole_s) for hole_s in holes_s], slack_s))


@pytest.mark.parametrize("seed", range(COUNT))
@pytest.mark.parametrize(
    "kind, codec", [("mpegts", "h264"), ("mpegts", "mpeg2"), ("mpeg", "mpeg2"), ("matroska", "h264"), ("mp4", "h264")]
)
def test_after_a_hole_between_keyframes_no_picture_from_before_it_is_shown(tmp_path, stock, kind, codec, seed):
    rng = np.random.default_rng([seed, 14])
    source = stock(codec)
    first, second = sorted(int(cut) for cut in rng.choice(source.cuts, 2, replace=False))
    holes_s = [Fraction(int(rng.integers(30, 95)), 10), Fraction(int(rng.integers(5, 95)), 10)]
    spans = [(0, first), (first, second), (second, len(source.packets))]
    parts, clock_s = [], Fraction(0)
    for (start, stop), hole_s in zip(spans, (*holes_s, 0), strict=True):
        parts.append(Part(source, start, stop, clock_s))
        clock_s += parts[-1].length_s + hole_s
    path = mux(tmp_path / f"hole.{kind}", parts, kind)
    made = recording(path, parts, [float(hole_s) for hole_s in holes_s], 1.1e-3 if kind == "matroska" else 2e-5)
    after_s = np.concatenate([made.times_s[cut : cut + 8] + 0.01 for cut in (first, second)])
    for fidelity in ("exact", "reference"):
        judge(made, np.unique(after_s), fidelity, 0.04 if kind == "mpeg" else made.slack_s)
    check(rng, made, 0.04 if kind == "mpeg" else None)


@pytest.mark.parametrize("kind, suffix", [("mp4", ".mp4"), ("matroska", ".mkv")])
def test_a_clock_that_was_set_hours_ahead_is_not_a_hole(tmp_path, stock, kind, suffix):
    rng = np.random.default_rng(3)
    first, second = draw_parts(rng, stock("h264"), 2)
    later = Part(second.stock, second.start, second.stop, first.length_s + 5 * 3600)
    path = mux(tmp_path / f"set{suffix}", [first, later], kind)
    check(rng, recording(path, [first, later], [0.0], 1.1e-3), 0.04)


@pytest.mark.parametrize("off_s", [1, 5, 9, 5000, -1, -5])
@pytest.mark.parametrize("kind, codec", [("mpegts", "h264, no b frames"), ("mpeg", "mpeg2"), ("flv", "flv1")])
def test_a_damaged_time_moves_nothing_after_it(tmp_path, stock, kind, codec, off_s):
    rng = np.random.default_rng(31)
    source = stock(codec)
    cut = source.cuts[len(source.cuts) // 2]
    stop = next(n for n in source.cuts if n > cut)
    whole, start_s = Part(source, 0, len(source.packets)), Fraction(10)
    path = tmp_path / f"astray.{kind}"
    if kind == "flv":
        data = bytearray(mux(path, [whole], kind).read_bytes())
        tags = list(flv_pictures(data))
        put_flv_time(data, tags[cut], max(0, round(cut * 1000 / source.rate) + 1000 * off_s))
        path.write_bytes(data)
    else:
        files = []
        for n, (first, last) in enumerate([(0, cut), (cut, stop), (stop, len(source.packets))]):
            part = Part(source, first, last, start_s + first / source.rate + (off_s if first == cut else 0))
            files.append(mux(tmp_path / f"{n}.part", [part], kind, OWN_CLOCK).read_bytes())
        path.write_bytes(b"".join(files))
    check(rng, recording(path, [whole], []), 0.1 if kind == "mpeg" else 0.045)


def flv_pictures(data):
    """Where the tags of pictures begin, without the header of the codec."""
    at = 13
    while at + 11 < len(data):
        if data[at] == 9:
            yield at
        at += 11 + int.from_bytes(data[at + 1 : at + 4], "big") + 4


def put_flv_time(data, at, time_ms):
    stamp = time_ms.to_bytes(4, "big")
    data[at + 4 : at + 8] = stamp[1:] + stamp[:1]


@pytest.mark.parametrize("whole_s", [2, 40])
def test_fragments_that_a_table_in_front_lists_are_all_read(tmp_path, stock, whole_s):
    rng = np.random.default_rng(32)
    source = stock("h264")
    parts, clock_s = [], Fraction(0)
    while clock_s < whole_s + 20:  # fragments of whole_s, then more
        parts.append(Part(source, 0, len(source.packets), clock_s))
        clock_s += parts[-1].length_s
    path = tmp_path / "listed.mp4"
    options = {"movflags": "empty_moov+default_base_moof+global_sidx", "frag_duration": str(whole_s * 1_000_000)}
    mux(path, parts, "mp4", options)
    check(rng, recording(path, parts, [0.0] * (len(parts) - 1), 2e-5))


SOUND = [
    ("ts", "h264", "mpegts", "mp2"),
    ("mpg", "mpeg2", "mpeg", "mp2"),
    ("vob", "mpeg2", "vob", "mp2"),
    ("mkv", "h264", "matroska", "aac"),
    ("mp4", "h264", "mp4", "aac"),
    ("flv", "h264", "flv", "aac"),
    ("asf", "wmv2", "asf", "wmav2"),
    ("avi", "mpeg4", "avi", "mp2"),
]


@pytest.mark.parametrize(
    "where, suffix, codec, kind, sound",
    # AVI counts frames from 0 on: its writer sets the first picture at 0 s and leaves a hole behind it.
    [(where, *row) for row in SOUND for where in ("before", "after") if (where, row[0]) != ("before", "avi")],
)
def test_sound_before_or_after_the_picture_changes_nothing(tmp_path, stock, where, suffix, codec, kind, sound):
    rng = np.random.default_rng([4, SOUND.index((suffix, codec, kind, sound))])
    lead_s = int(rng.integers(8, 20)) if where == "before" else 0
    (part,) = draw_parts(rng, stock(codec), 1)
    part = Part(part.stock, part.start, part.stop, Fraction(lead_s))
    stop_s = lead_s + float(part.length_s) + (float(rng.uniform(5, 20)) if where == "after" else 0)
    path = mux(tmp_path / f"sound.{suffix}", [part], kind, sound=(0.0, stop_s, sound))
    slack_s = 1.1e-3 if kind in ("matroska", "flv", "asf") else 2e-5
    check(rng, recording(path, [part], [], slack_s), 0.04 if kind in ("mpeg", "vob") else None)


@pytest.mark.parametrize("kind, codec", [("mpegts", "h264"), ("mpeg", "mpeg2")])
def test_sound_that_is_switched_on_during_the_recording_changes_nothing(tmp_path, stock, kind, codec):
    """libavformat learns of the stream long after the file was opened."""
    rng = np.random.default_rng(12)
    source = stock(codec)
    first = Part(source, 0, len(source.packets))
    second = Part(source, 0, len(source.packets), first.length_s)
    silent = mux(tmp_path / "silent.part", [first], kind, OWN_CLOCK).read_bytes()
    span = (float(first.length_s), float(2 * first.length_s), "mp2")
    # libavformat reads 5 MB by itself before it has a picture of the streams.
    silent += null_packets(30_000) if kind == "mpegts" else (b"\0\0\1\xbe\x10\0" + b"\xff" * 4096) * 1400
    path = tmp_path / ("later.ts" if kind == "mpegts" else "later.mpg")
    path.write_bytes(silent + mux(tmp_path / "sound.part", [second], kind, OWN_CLOCK, span).read_bytes())
    check(rng, recording(path, [first, second], [0.0]), 0.04)


NUMBERING = {
    "other pids": {"mpegts_start_pid": "512"},
    "another service": {"mpegts_service_id": "7"},
    "all of it": {"mpegts_service_id": "7", "mpegts_start_pid": "512", "mpegts_pmt_start_pid": "500"},
}


@pytest.mark.parametrize("with_sound", [False, True])
@pytest.mark.parametrize("name", NUMBERING)
def test_a_take_whose_streams_are_numbered_otherwise_is_not_lost_in_silence(tmp_path, stock, name, with_sound):
    """Takes of two recorders, or of one recorder after it was set up again.

    libavformat does not carry the stream over to a programme with another table. Then the rest is missing, and said so.
    """
    rng = np.random.default_rng(13)
    parts = draw_parts(rng, stock("h264"), 2)
    files = [
        mux(
            tmp_path / f"{number}.part",
            [part],
            "mpegts",
            OWN_CLOCK | (NUMBERING[name] if number else {}),
            (0.0, float(part.length_s), "mp2") if with_sound else None,
        ).read_bytes()
        for number, part in enumerate(parts)
    ]
    path = tmp_path / "numbered.ts"
    path.write_bytes(b"".join(files))
    first_s, duration_s = float(parts[0].length_s), probe(path).duration_s
    in_second = np.array([first_s + 0.3 * float(parts[1].length_s)])
    if name == "all of it" and np.isnan(read_frames(path, in_second, SIZE).pts_s[0]):
        assert duration_s > in_second, "the rest is part of the video"
        judge(recording(path, parts[:1], []), np.sort(rng.uniform(0, first_s - 0.08, 20)), "exact", 0.04)
        behind_s = np.sort(rng.uniform(first_s + 0.2, duration_s, 20))
        assert np.isnan(read_frames(path, behind_s, SIZE).pts_s).all(), "a picture of the first take stands on"
    else:
        check(rng, recording(path, parts, [0.0]), 0.04)


@pytest.mark.parametrize(
    "name, share",
    # What Matroska and FLV declare beyond their packets may have been cut off.
    [(name, share) for name in ("mdhd", "tkhd", "mvhd") for share in (0.08, 0.5, 4.0)]
    + [(name, share) for name in ("mkv", "flv") for share in (0.08, 0.5)],
)
def test_a_wrong_declared_length_changes_nothing(tmp_path, stock, name, share):
    """The header declares a part of what is there, or more."""
    rng = np.random.default_rng(5)
    source = stock("h264, no b frames")
    part = Part(source, 0, len(source.packets))
    kind = {"mkv": "matroska", "flv": "flv"}.get(name, "mp4")
    path = mux(tmp_path / f"declared.{name if kind != 'mp4' else 'mp4'}", [part], kind)
    data = bytearray(path.read_bytes())
    if kind == "mp4":
        at = data.index(name.encode()) + {"mdhd": 20, "tkhd": 24, "mvhd": 20}[name]
        struct.pack_into(">I", data, at, int(struct.unpack_from(">I", data, at)[0] * share))
    else:
        mark = b"\x44\x89\x88" if kind == "matroska" else b"duration\0"
        at = data.index(mark) + len(mark)
        struct.pack_into(">d", data, at, struct.unpack_from(">d", data, at)[0] * share)
    path.write_bytes(data)
    check(rng, recording(path, [part], [], 1.1e-3 if kind != "mp4" else 2e-5))


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4"])
@pytest.mark.parametrize("table", ["missing", "every sample"])
def test_without_a_true_table_of_keyframes_the_frames_are_the_same(tmp_path, stock, table, codec):
    rng = np.random.default_rng(6)
    source = stock(codec)
    part = Part(source, 0, len(source.packets))
    path = mux(tmp_path / "table.mp4", [part], "mp4")
    data = bytearray(path.read_bytes())
    if table == "missing":
        data[data.index(b"stss") : data.index(b"stss") + 4] = b"free"
    else:
        count = len(source.packets)
        takes.grow_box(
            data,
            (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stss"),
            struct.pack(f">II{count}I", 0, count, *range(1, count + 1)),
        )
    path.write_bytes(data)
    check(rng, recording(path, [part], [], 2e-5))


@pytest.mark.parametrize("kind, suffix", [("mpegts", ".ts"), ("mp4", ".mp4"), ("matroska", ".mkv")])
@pytest.mark.parametrize("flags", ["of the first frame", "of recovery points"])
def test_intra_refresh_is_read_to_the_end(tmp_path, stock, kind, suffix, flags):
    rng = np.random.default_rng(7)
    source = stock("intra refresh")
    if flags == "of the first frame":
        first, *others = source.packets
        packets = (first, *(takes.StockPacket(p.data, p.pts, p.dts, False) for p in others))
        source = takes.Stock(source.path, source.rate, source.first, packets)
    part = Part(source, 0, len(source.packets))
    path = mux(tmp_path / f"refresh{suffix}", [part], kind)
    made = recording(path, [part], [], 1.1e-3)
    # What stands for a keyframe here depends on the container; so the other fidelities are judged.
    check(rng, made, fidelities=("exact", "reference"))
    for time_s in rng.uniform(0, made.stop_s - 0.1, 10):
        judge(made, np.array([time_s]), "exact", 1.1e-3)  # a picture is whole only after all of its stripes came
    frames = read_frames(path, times_to_ask(rng, made), SIZE, "keyframes")
    assert not getattr(frames, "missing", ()) and np.all(np.diff(frames.pts_s) >= 0)


ENDS = [
    ("ts", "h264", "mpegts"),
    ("m2ts", "h264", "mpegts"),
    ("mpg", "mpeg2", "mpeg"),
    ("vob", "mpeg2", "vob"),
    ("mkv", "h264", "matroska"),
    ("flv", "h264", "flv"),
    ("avi", "mpeg4", "avi"),
    ("asf", "wmv2", "asf"),
    ("mxf", "mpeg2", "mxf"),
    ("fragmented", "h264, no b frames", "mp4"),
    ("faststart", "h264", "mp4"),
]
FRONT = {"faststart": {"movflags": "faststart"}} | MUX_OPTIONS


@pytest.mark.parametrize("suffix, codec, kind", ENDS)
def test_zeros_after_the_end_change_nothing(tmp_path, stock, suffix, codec, kind):
    rng = np.random.default_rng([8, ENDS.index((suffix, codec, kind))])
    (part,) = draw_parts(rng, stock(codec), 1)
    path = mux(tmp_path / f"zeros.{suffix if len(suffix) < 5 else 'mp4'}", [part], kind, FRONT.get(suffix))
    os.truncate(path, path.stat().st_size + int(rng.integers(1, 8_000_000)))
    slack_s = 1.1e-3 if kind in ("matroska", "flv", "asf") else 2e-5
    check(rng, recording(path, [part], [], slack_s), 0.04 if kind in ("mpeg", "vob") else None)


@pytest.mark.parametrize("seed", range(COUNT))
@pytest.mark.parametrize("suffix, codec, kind", ENDS)
def test_what_lies_before_a_cut_is_there_and_what_lies_behind_it_is_not_claimed(
    tmp_path, stock, suffix, codec, kind, seed
):
    rng = np.random.default_rng([seed, 9000 + ENDS.index((suffix, codec, kind))])
    source = stock(codec)
    part = Part(source, 0, len(source.packets))
    path = mux(tmp_path / f"cut.{suffix if len(suffix) < 5 else 'mp4'}", [part], kind, FRONT.get(suffix))
    data = path.read_bytes()
    share = rng.uniform(0.3, 0.95)
    path.write_bytes(data[: int(len(data) * share)])
    made = recording(path, [part], [], 1.1e-3)
    held = np.cumsum([len(packet.data) for packet in source.packets]) / sum(len(p.data) for p in source.packets)
    # Containers and headers take a share of their own, so the cut lies within a tenth of this place.
    cut_s = float(np.searchsorted(held, share) / source.rate)
    duration_s = probe(path).duration_s
    step_s = float(1 / source.rate)
    assert cut_s - 1.5 < duration_s < made.stop_s + 3 * step_s
    if suffix in ("mkv", "flv", "avi", "mxf", "faststart") and cut_s + 3.5 < made.stop_s:
        assert duration_s == pytest.approx(made.stop_s, abs=3 * step_s), "the part that is missing is a gap"
    for fidelity in FIDELITIES:
        judge(made, np.sort(rng.uniform(0, cut_s - 1.5, 12)), fidelity, step_s)
        times_s = np.sort(rng.uniform(0, duration_s, 24))
        frames = read_frames(path, times_s, SIZE, fidelity)
        for row, time_s in enumerate(times_s):
            if not any(span.start_s <= time_s < span.stop_s for span in getattr(frames, "missing", ())):
                (number,) = numbers_of(frames.images_NHWC[row : row + 1])
                behind_s = time_s - (number - source.first) * step_s
                assert behind_s < made.hole_s + (1.1 if fidelity == "keyframes" else 0.2), "a frozen frame"


@pytest.mark.parametrize("lost", [4, 100])
@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg"])
def test_lost_blocks_of_an_avi_move_nothing_after_them(tmp_path, stock, codec, lost):
    source = stock(codec)
    count = len(source.packets)
    lost = min(lost, count // 3)
    path = mux(tmp_path / "lost.avi", [Part(source, 0, count)], "avi")
    data = bytearray(path.read_bytes())
    start, stop = (data.index(source.packets[n].data) - 8 for n in (count // 3, count // 3 + lost))
    data[start:stop] = bytes(stop - start)
    path.write_bytes(data)
    assert probe(path).duration_s == pytest.approx(float(count / source.rate), abs=float(1 / source.rate))
    after = (
        np.arange(count // 3 + lost + 30, count - 1) if codec == "mpeg4" else np.arange(count // 3 + lost, count - 1)
    )
    rows = np.concatenate([np.arange(count // 3 - 1), after])
    frames = read_frames(path, (rows + 0.5) / float(source.rate), SIZE, "exact")
    assert not frames.missing or frames.missing[-1].stop_s < after[0] / source.rate
    assert numbers_of(frames.images_NHWC) == [source.first + int(row) for row in rows]


@pytest.mark.parametrize("tail_mb", [1, 64])
def test_unused_space_behind_pictures_that_were_not_read_is_no_recording(tmp_path, stock, tail_mb):
    source = stock("h264")
    path = mux(tmp_path / "space.ts", [Part(source, 0, len(source.packets))], "mpegts")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size + (tail_mb << 20))
    assert unread_bytes(str(path), "mpegts", path.stat().st_size, size - 188 * 20) <= 188 * 20


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("suffix, codec, kind", ENDS)
def test_a_recording_of_a_few_frames_is_a_recording(tmp_path, suffix, codec, kind, count):
    extension, name, rate, gop, options = STOCKS[codec]
    options = {key: value for key, value in options.items() if key != "noise"}
    source = takes.encode(tmp_path / f"few{extension}", name, count, rate, gop, 100, **options)
    part = Part(source, 0, count)
    path = mux(tmp_path / f"few.{suffix if len(suffix) < 5 else 'mp4'}", [part], kind, MUX_OPTIONS.get(suffix))
    assert 0 < probe(path).duration_s < (count + 1.5) * float(1 / source.rate)
    frames = read_frames(path, [0.0], SIZE, "exact")
    assert numbers_of(frames.images_NHWC) == [100]


def test_a_cut_flv_with_sound_that_its_header_does_not_name_is_probed(tmp_path, stock):
    source = stock("h264, no b frames")
    path = mux(tmp_path / "sound.flv", [Part(source, 0, len(source.packets))], "flv")
    data = bytearray(path.read_bytes())
    data[4] = 1  # the header says that there is no sound
    mark = data.index(b"duration\0") + 9
    struct.pack_into(">d", data, mark, 400.0)
    sound = bytearray(b"\x08\0\0\xc9" + bytes(7) + b"\x2f" + bytes(200) + (212).to_bytes(4, "big"))
    put_flv_time(sound, 0, 9000)
    path.write_bytes(data + sound)
    assert probe(path).duration_s == pytest.approx(400.0)


SIZES = [
    ("avi", "mpeg4", "avi", "00dc", 0xFFFFFF00),
    ("avi", "mpeg4", "avi", "00dc", 0x40000000),
    ("avi", "mpeg4", "avi", "idx1", 0x200000C0),
    ("flv", "h264", "flv", "tag 9", 0xFFFFFF),
    ("mkv", "h264", "matroska", "a3", None),
    ("mkv", "h264", "matroska", "1f43b675", None),
    ("ps", "mpeg2", "mpeg", "e0", 0xFFFF),
]


@pytest.mark.parametrize("container, codec, kind, name, size", SIZES)
def test_a_wrong_size_in_the_middle_costs_no_picture_before_it(tmp_path, stock, container, codec, kind, name, size):
    rng = np.random.default_rng(15)
    source = stock(codec)
    part = Part(source, 0, len(source.packets))
    sound = (0.0, float(part.length_s), "mp2") if name == "idx1" else None
    path = mux(tmp_path / f"size.{'mpg' if container == 'ps' else container}", [part], kind, sound=sound)
    data = bytearray(path.read_bytes())
    found = [piece for piece in PARSERS[container](bytes(data)) if piece.name == name]
    piece = found[len(found) // 2]
    at, stop = piece.size
    if name == "idx1":  # an entry of the index for the sound: which chunk, flags, where, how large
        at = data.index(b"01wb", (piece.body + piece.stop) // 2) + 12
        stop = at + 4
    width = stop - at
    if size is None:  # EBML: the largest size that has as many bytes
        size = (1 << 7 * width) | ((1 << 7 * width) - 2)
    put(data, at, size, width, piece.big_endian)
    path.write_bytes(data)
    assert probe(path).duration_s > 3.0
    made = recording(path, [part], [], 1.1e-3 if kind in ("matroska", "flv") else 2e-5)
    # Frames are about as large at the end as at the start, so half of the pieces hold about half of the time.
    before_s = np.sort(rng.uniform(0, made.stop_s / 2 - 2.5, 20))
    for fidelity in FIDELITIES:
        judge(made, before_s, fidelity, 0.04 if kind == "mpeg" else made.slack_s)


@pytest.mark.parametrize("seed", range(COUNT))
@pytest.mark.parametrize("suffix, codec", [("ts", "h264"), ("m2ts", "h264, no b frames"), ("ts", "mpeg2")])
def test_a_recording_that_begins_between_keyframes_begins_at_its_first_keyframe(tmp_path, stock, suffix, codec, seed):
    """With more bytes before the keyframe than libavformat looks at by itself, too."""
    rng = np.random.default_rng([seed, 10])
    source = stock(codec)
    whole = mux(tmp_path / "whole.part", [Part(source, 0, len(source.packets))], "mpegts", OWN_CLOCK)
    with takes.av.open(str(whole)) as container:
        keys = [packet.pos for packet in container.demux(video=0) if packet.size and packet.is_keyframe]
    skipped = int(rng.integers(0, len(keys) - 3))
    data = whole.read_bytes()
    cut = (keys[skipped] + int((keys[skipped + 1] - keys[skipped]) * rng.uniform(0.2, 0.8))) // 188 * 188
    fill = null_packets(int(rng.choice([0, 2_000, 60_000])))
    next_key = keys[skipped + 1] // 188 * 188
    data = data[: 3 * 188] + data[cut:next_key] + fill + data[next_key:]
    path = tmp_path / f"between.{suffix}"
    path.write_bytes(m2ts(data) if suffix == "m2ts" else data)
    part = Part(source, source.keys[skipped + 1], len(source.packets))
    check(rng, recording(path, [part], []), 2e-5)


@pytest.mark.parametrize("seed", range(COUNT))
@pytest.mark.parametrize("codec", ["h264", "h264, no b frames", "hevc", "mpeg4"])
def test_an_edit_list_decides_which_frame_is_the_first(tmp_path, stock, codec, seed):
    rng = np.random.default_rng([seed, 11])
    source = stock(codec)
    path = mux(tmp_path / "edit.mp4", [Part(source, 0, len(source.packets))], "mp4")
    data = bytearray(path.read_bytes())
    first = int(rng.integers(1, 120))
    at = data.index(b"elst") + 8
    length, media_time = struct.unpack_from(">Ii", data, at + 4)
    (movie_hz,) = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)
    shift_s = first / source.rate
    struct.pack_into(
        ">Ii", data, at + 4, length - round(shift_s * movie_hz), media_time + round(shift_s * takes.CLOCK_HZ)
    )
    path.write_bytes(data)
    made = recording(path, [Part(source, first, len(source.packets))], [], 2e-5)
    # A keyframe from before the edit list's begin is never shown; what stands for it then is the reader's choice.
    times_s = times_to_ask(rng, made)
    step_s = float(1 / source.rate)
    assert probe(path).duration_s == pytest.approx(made.stop_s, abs=1.5 * step_s)
    judge(made, times_s, "exact", 2e-5)
    judge(made, times_s, "reference", 2e-5)
    keyed = times_s[times_s > made.times_s[np.flatnonzero(made.is_key)[0]]]
    judge(made, keyed, "keyframes", 2e-5)
    assert not getattr(read_frames(path, times_s, SIZE, "keyframes"), "missing", ())
