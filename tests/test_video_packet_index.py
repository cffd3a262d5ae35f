"""The packet index as bytes, and what becomes of one that can't be used."""

from __future__ import annotations

import json
import os
import struct
import zlib
from fractions import Fraction

import numpy as np
import pytest
from numbered_video import Recipe, write

from halsted_ray.errors import DecoderKilled, UnreadableVideo
from halsted_ray.mapping.inventory import take_inventory
from halsted_ray.maps.packet_indexes import PacketIndexes
from halsted_ray.video import decode_process, wire
from halsted_ray.video.container import VideoFile
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.joined import has_further_segments, unread_bytes
from halsted_ray.video.keyframe_index import KeyframeIndex
from halsted_ray.video.packet_index import IndexSlot, PacketIndex, Take, index_packets
from halsted_ray.video.probe import probe, probe_and_index
from halsted_ray.video.readers import READERS, read_frames

SIZE = (90, 160)
INDEX = PacketIndex(
    takes=(Take(0, 0, 100, 900), Take(5000, -7, 900, 1 << 40)),
    keys=np.array([[100, 0, 0, 12], [500, 2500, 2000, 9], [1 << 39, -1, 5000, 70000]], np.int64),
    holes=((200, 300), (400, 450)),
    step=40,
    packets=77,
    stop_byte=1 << 41,
)


@pytest.fixture(scope="module")
def two_takes(tmp_path_factory):
    """A transport stream of two takes of 6 s whose clocks begin alike."""
    folder = tmp_path_factory.mktemp("takes")
    take = write(folder / "take.ts", Recipe(".ts", codec_options={"bf": "2"})).path
    (folder / "two.ts").write_bytes(take.read_bytes() * 2)
    return folder / "two.ts"


def test_an_index_comes_back_from_its_bytes_as_it_was():
    back = PacketIndex.from_bytes(INDEX.to_bytes())
    assert back.keys.dtype == np.int64 and np.array_equal(back.keys, INDEX.keys)
    for name in ("takes", "holes", "step", "packets", "stop_byte"):
        assert getattr(back, name) == getattr(INDEX, name), name


@pytest.mark.parametrize(
    "byte, take", [(0, 0), (4999, 0), (5000, 1), (1 << 50, 1), (-1, 0)], ids=["first", "last", "next", "far", "unknown"]
)
def test_a_packet_belongs_to_the_take_that_begins_at_or_before_its_byte(byte, take):
    assert INDEX.take_at(byte) is INDEX.takes[take]


def _head(**changes):
    text, _, packed = INDEX.to_bytes().partition(b"\n")
    return json.dumps(json.loads(text) | changes).encode() + b"\n" + packed


@pytest.mark.parametrize(
    "data",
    [
        b"zeros\n",
        INDEX.to_bytes()[:-9],
        INDEX.to_bytes().replace(b"takes", b"parts"),
        b"[]\n" + zlib.compress(b""),
        b"[" * 100_000,
        _head(takes=[]),
        _head(takes=[[1, 2]]),
        _head(takes=[["a", "b", "c", "d"]]),
        _head(keys=4),
        _head(keys="3"),
        _head(holes=[[1]]),
        _head(step=None),
        INDEX.to_bytes().partition(b"\n")[0] + b"\nno zlib",
    ],
)
def test_bytes_that_are_no_index_are_a_value_error(data):
    with pytest.raises(ValueError):
        PacketIndex.from_bytes(data)


@pytest.mark.parametrize("stored", [b"zeros\n", INDEX.to_bytes()[:-9], _head(takes=[])])
def test_an_index_that_cannot_be_used_costs_a_pass_and_no_picture(two_takes, stored):
    times_s = np.array([0.5, 5.5, 6.5, 11.5])
    right = read_frames(two_takes, times_s, SIZE)
    assert not right.missing
    with DecodeProcess() as process:
        for _ in range(2):
            got = process.read_frames(two_takes, times_s, SIZE, deadline_s=60, packet_index=stored)
            assert np.array_equal(got.images_NHWC, right.images_NHWC) and not got.missing
            assert process._indexes[str(two_takes)] == probe_and_index(str(two_takes))[1].to_bytes()
        assert process.starts == 1


def test_takes_and_holes_survive_the_way_through_the_store(tmp_path, two_takes):
    with DecodeProcess() as process:
        found, packet_index = process.probe_and_index(two_takes)
        assert len(found.takes) == 2 and packet_index
        indexes = PacketIndexes(str(tmp_path))
        indexes.put("video", "/a", packet_index)
        kept = PacketIndexes(str(tmp_path)).get("video", "/a")
        times_s = np.array([2.0, 8.0])
        got = process.read_frames(two_takes, times_s, SIZE, deadline_s=60, packet_index=kept)
        assert not process._indexes, "no pass was made"
    assert np.array_equal(got.images_NHWC, read_frames(two_takes, times_s, SIZE).images_NHWC)
    assert not np.array_equal(got.images_NHWC[0], got.images_NHWC[1]) or got.pts_s[1] > 6


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_that_gets_an_index_makes_no_pass(two_takes, reader, monkeypatch):
    known = IndexSlot(probe_and_index(str(two_takes))[1])

    def pass_over_packets(*_):
        raise AssertionError("a pass over the packets")

    monkeypatch.setattr(VideoFile, "read_all_packets", pass_over_packets)
    rows = READERS[reader](str(two_takes), np.array([1.0]), SIZE, "exact", "left", known)
    try:
        next(iter(rows))
    except UnreadableVideo as error:  # decord counts other times in this file
        assert reader == "decord" and "decord" in str(error)


def test_copies_of_a_video_have_an_index_each(tmp_path):
    indexes = PacketIndexes(str(tmp_path))
    indexes.put("video", "/a", b"a")
    indexes.put("video", "/b", b"b")
    indexes.put("other", "/a", b"o")
    assert [indexes.get("video", uri) for uri in ("/a", "/b", "/c")] == [b"a", b"b", b""]
    indexes.drop({"video"})
    left = PacketIndexes(str(tmp_path))
    assert [left.get("video", "/a"), left.get("video", "/b"), left.get("other", "/a")] == [b"", b"", b"o"]


def test_the_inventory_gives_an_index_for_each_file_that_needs_a_pass(tmp_path, two_takes):
    names = [tmp_path / "a.ts", tmp_path / "b.ts", tmp_path / "c.mp4"]
    for copy in names[:2]:
        copy.write_bytes(two_takes.read_bytes())
    write(names[2], Recipe(frames=30))
    given = []
    entries = take_inventory(list(map(str, names)), on_index=lambda *values: given.append(values))
    assert sorted((video_id, uri) for video_id, uri, _ in given) == sorted(
        (entry.video.video_id, str(name)) for entry, name in zip(entries[:2], names[:2], strict=True)
    )
    right = probe_and_index(str(two_takes))[1].to_bytes()
    assert [packet_index for *_, packet_index in given] == [right, right]


def test_an_index_beyond_the_limit_is_not_believed(two_takes, monkeypatch):
    monkeypatch.setattr(decode_process, "MAX_PACKED_BYTES", 10)
    with DecodeProcess() as process:
        assert process.probe_and_index(two_takes)[1] == b""
        process.read_frames(two_takes, np.array([1.0]), SIZE, deadline_s=60)
        assert not process._indexes


@pytest.mark.parametrize("text", [b"\xff\xfe", b"{", b"[]", b"7", b"[" * 100_000])
def test_a_head_that_is_no_message_is_a_broken_pipe(text):
    ours, theirs = os.pipe()
    os.write(theirs, wire.LENGTHS.pack(min(len(text), 5000), 0) + text[:5000])
    with pytest.raises(wire.PipeClosed):
        wire.receive(ours)
    os.close(ours), os.close(theirs)


def test_a_process_that_answers_garbage_is_a_killed_decoder(two_takes, monkeypatch):
    def garbage(fd, until_s=None):
        raise wire.PipeClosed

    with DecodeProcess() as process:
        process.probe(two_takes)
        monkeypatch.setattr(wire, "receive", garbage)
        monkeypatch.setattr(process, "_death", lambda: "it closed its pipe")
        with pytest.raises(DecoderKilled):
            process.probe(two_takes)
        assert process.pid is None


def test_the_pass_over_an_mp4_takes_over_from_its_table_whole(tmp_path):
    """Every frame is listed as a keyframe, and B-frames shift the times of decoding against those of display."""
    path = write(tmp_path / "a.mp4", Recipe(codec="libx265", codec_options={"x265-params": "log-level=none"})).path
    data = path.read_bytes()
    path.write_bytes(data.replace(b"stss", b"free"))
    with VideoFile(path) as video:
        index = KeyframeIndex(video)
        assert not index.from_container
        for key in video.packet_index.keys[:, 0].tolist():
            assert index.before(key) == key


class Packet:
    """A packet as ``index_packets`` looks at it."""

    def __init__(self, pts, pos, size=10, key=False):
        self.pts = self.dts = pts
        self.pos, self.size, self.is_keyframe, self.duration = pos, size, key, 1


def test_a_take_whose_first_packet_has_no_place_takes_no_packet_of_the_take_before():
    packets = [Packet(n, 100 * n, key=n == 0) for n in range(50)]
    packets += [Packet(0, None, key=True), *(Packet(n, 5000 + 100 * n) for n in range(1, 50))]
    index = index_packets(packets, Fraction(1, 25), True, lambda packet: packet.is_keyframe)
    assert len(index.takes) == 2
    assert [index.take_at(byte) is index.takes[1] for byte in (0, 4900, 5100)] == [False, False, True]


def test_a_length_that_no_recording_has_is_refused(tmp_path):
    """Times that claim years would be millions of gaps."""
    path = write(tmp_path / "a.mp4", Recipe(frames=900, mux_options={"use_editlist": "0"})).path
    data = bytearray(path.read_bytes())
    struct.pack_into(">I", data, data.index(b"mdhd") + 16, 1)  # one tick per second
    struct.pack_into(">I", data, data.index(b"stts") + 16, 3000)  # from frame to frame
    path.write_bytes(data)
    with pytest.raises(UnreadableVideo, match="at most 720 hours"):
        probe(path)


def test_an_unread_rest_is_given_two_days_at_most(tmp_path):
    """A title of a second and many gigabytes of another recording behind it."""
    small = write(tmp_path / "a.mp4", Recipe(frames=30)).path
    joined = tmp_path / "joined.mp4"
    joined.write_bytes(small.read_bytes() * 2)
    os.truncate(joined, 1 << 40)
    found = probe(joined)
    assert found.unread_bytes > 1 << 39 and found.duration_s <= 48 * 3600 + 2


def test_of_many_joined_matroska_files_only_the_first_are_counted(tmp_path):
    header = b"\x1a\x45\xdf\xa3\x80" + b"\x18\x53\x80\x67\x80"
    many = tmp_path / "many.mkv"
    many.write_bytes(header * 100_000)
    size = many.stat().st_size
    assert unread_bytes(str(many), "matroska,webm", size, 0) == size - 2 * len(header)
    assert has_further_segments(str(many))


def indexed(*runs, may_restart=True, duration=1):
    """The index of runs (first time, packets) in hundredths of a second, a packet every four of them."""
    packets = [Packet(first + 4 * n, None, key=n == 0) for first, count in runs for n in range(count)]
    for number, packet in enumerate(packets):
        packet.pos, packet.duration = 100 * number, duration
    return index_packets(packets, Fraction(1, 100), may_restart, lambda packet: packet.is_keyframe)


def axis(index):
    return [(take.start, take.stop) for take in index.takes], list(index.holes)


@pytest.mark.parametrize(
    "runs, may_restart, takes, holes",
    [
        ([(0, 100), (700, 100)], True, [(0, 1100)], [(400, 700)]),
        ([(0, 100), (597, 100)], True, [(0, 997)], [(400, 597)]),
        ([(0, 100), (594, 100)], True, [(0, 994)], []),
        ([(0, 100), (1500, 100)], True, [(0, 400), (400, 800)], []),
        ([(0, 100), (1500, 100)], False, [(0, 1900)], [(400, 1500)]),
        ([(0, 100), (400_000, 100)], False, [(0, 400), (400, 800)], []),
        ([(0, 100), (0, 100)], False, [(0, 400), (400, 800)], []),
        ([(0, 100), (700, 25), (450, 100)], True, [(0, 400), (450, 850)], []),
        ([(0, 100), (700, 100), (450, 100)], True, [(0, 1100), (1100, 1500)], [(400, 700)]),
        ([(0, 100), (9000, 1), (20, 1), (500, 1), (408, 100)], True, [(0, 400), (408, 808)], []),
    ],
    ids=[
        "a hole",
        "a hole of two seconds and a frame",
        "a pause",
        "a jump",
        "a hole of eleven seconds",
        "a jump of an hour",
        "a restart",
        "wrong times",
        "a hole and a restart",
        "wrong times in three ways",
    ],
)
def test_what_the_clock_does_decides_what_is_a_take_and_what_a_hole(runs, may_restart, takes, holes):
    index = indexed(*runs, may_restart=may_restart, duration=4)
    found, found_holes = axis(index)
    assert found_holes == holes
    assert [found[0], found[-1]] == [takes[0], takes[-1]]
    assert index.step == 4


def test_where_every_time_is_damaged_one_step_ahead_is_not_the_usual_step():
    """Else the picture before it would stand for an hour."""
    index = indexed(*((-1000 * n, 1) for n in range(40)), (-9000, 1), *((-50_000 - 900 * n, 1) for n in range(40)))
    assert index.step == 1 and (index.takes[-1].stop - index.takes[0].start) < 400 * 100
    slow = indexed(*((1000 * n, 1) for n in range(40)))
    assert slow.step == 1000 and len(slow.takes) == 1 and not slow.holes


def test_the_last_frame_lasts_no_longer_than_a_hole():
    assert indexed((0, 100), duration=10**9).stop == 396 + 200


def stream_packet(payload: bytes, prefix: bytes = b"") -> bytes:
    """A packet of a transport stream in which a unit begins; with ``prefix`` as M2TS has it."""
    return prefix + (b"\x47\x41\x00\x10" + payload).ljust(188, b"\xff")


@pytest.mark.parametrize("prefix", [b"", b"\0\0\0\0"], ids=["188", "192"])
@pytest.mark.parametrize("place", [0, 3_000_000, 40_000_000], ids=["near", "far", "at the end"])
def test_pictures_behind_the_last_packet_are_seen_wherever_they_are(tmp_path, prefix, place):
    picture, sound = stream_packet(b"\0\0\1\xe0", prefix), stream_packet(b"\0\0\1\xc0", prefix)
    count = place // len(sound)
    pieces = [sound * count, picture * 40_000, sound * max(0, 200_000 - count - 40_000)]
    path = tmp_path / "a.ts"
    path.write_bytes(sound * 100 + b"".join(pieces))
    pictures_stop = (count + 40_000) * len(sound)
    found = unread_bytes(str(path), "mpegts", path.stat().st_size, 100 * len(sound))
    assert found == pytest.approx(pictures_stop, abs=1e6)
    path.write_bytes(sound * 100_000)
    assert unread_bytes(str(path), "mpegts", 100_000 * len(sound), 0) == 0
