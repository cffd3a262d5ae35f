"""Recordings that are joined, cut and re-timed from numbered takes, and the frame that is right at each of their times.

A ``Stock`` is one encoded video whose frames carry their numbers. A ``Part`` is a run of its frames under a clock.
``mux`` writes parts into one file as a muxer does, ``join`` lays files one after another as recorders do, and a
``Recording`` knows which number stands at which time on the video's own axis. Nothing is encoded a second time, so a
recording costs milliseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numbered_video import picture

SIZE = (96, 160)
"""(height, width) of every picture: the numbers on it can still be read."""
CLOCK_HZ = 90_000
WRAP_S = Fraction(1 << 33, CLOCK_HZ)
"""MPEG's clock of 33 bits begins again after this long: 26.5 hours."""
SET_CLOCK_S = 10.0
"""A clock of MPEG-TS or MPEG-PS that jumps ahead by more than this was set: FFmpeg's ``dts_delta_threshold``."""
SET_CLOCK_INDEXED_S = 3600.0
"""The same for MP4 and Matroska, whose clocks are not known to jump."""


@dataclass(frozen=True)
class StockPacket:
    """``pts`` and ``dts`` are counted in frames."""

    data: bytes
    pts: int
    dts: int
    is_key: bool


@dataclass(frozen=True)
class Stock:
    """One encoded video: frame n shows the number ``first + n`` at n / ``rate`` seconds."""

    path: Path
    rate: Fraction
    first: int
    packets: tuple[StockPacket, ...]

    @property
    def keys(self) -> list[int]:
        """The frames that are keyframes, and at the end the number of all frames."""
        return [*(packet.pts for packet in self.packets if packet.is_key), len(self.packets)]

    @property
    def cuts(self) -> list[int]:
        """The frames before which all packets come before all packets from there on: no frame is moved over it."""
        highest = np.maximum.accumulate([packet.pts for packet in self.packets])
        return [number for number in range(1, len(self.packets)) if highest[number - 1] == number - 1]


@dataclass(frozen=True)
class Part:
    """The frames ``[start, stop)`` of a stock; the container gives the first of them the time ``clock_s``.

    It begins at a keyframe, or where the part before it in the same file ends.
    """

    stock: Stock
    start: int
    stop: int
    clock_s: Fraction = Fraction(0)

    @property
    def length_s(self) -> Fraction:
        """From its first frame to the end of its last."""
        return (self.stop - self.start) / self.stock.rate

    def packets(self) -> Iterator[StockPacket]:
        """Its packets in decoding order."""
        return (packet for packet in self.stock.packets if self.start <= packet.pts < self.stop)


@dataclass(frozen=True)
class Recording:
    """A file and its truth: the frame with ``numbers[n]`` is displayed from ``times_s[n]`` on; all ends at ``stop_s``.

    ``is_key[n]`` says whether it is a keyframe. ``slack_s`` is how far off the container itself states a time.
    """

    path: Path
    numbers: np.ndarray
    times_s: np.ndarray
    is_key: np.ndarray
    stop_s: float
    slack_s: float = 0.0

    @property
    def hole_s(self) -> float:
        """How old a picture may be before the time after it counts as not recorded."""
        return max(2.0, 8 * float(np.median(np.diff(self.times_s)))) if len(self.times_s) > 1 else 2.0

    def row_at(self, time_s: float) -> int:
        """The row of the frame displayed at a time."""
        return max(0, int(np.searchsorted(self.times_s, time_s + 1e-6, side="right")) - 1)

    def hole_at(self, time_s: float) -> tuple[float, float]:
        """``[start_s, stop_s)`` of the hole after the frame displayed at a time: from the end of this frame to the next
        frame; as long as ``hole_s`` allows where a frame may stand, it is empty."""
        row, step_s = self.row_at(time_s), float(np.median(np.diff(self.times_s)))
        start_s = float(self.times_s[row])
        next_s = float(self.times_s[row + 1]) if row + 1 < len(self.times_s) else start_s
        return (start_s + step_s, next_s) if next_s - start_s > self.hole_s else (next_s, next_s)

    def since_hole(self, time_s: float) -> int:
        """How many frames were displayed before ``time_s`` since the last hole; many where there was none."""
        row = self.row_at(time_s)
        holes = np.flatnonzero(np.diff(self.times_s[: row + 1]) > self.hole_s)
        return row - int(holes[-1]) - 1 if len(holes) else 1 << 30


def encode(
    path: Path,
    codec: str,
    frames: int,
    rate: Fraction | int,
    gop: int,
    first: int = 0,
    noise: int = 0,
    **options: str,
) -> Stock:
    """Encodes numbered frames of 160×96; the suffix of ``path`` decides how headers are kept.

    ``noise``: how much of it lies under the numbers, so that a frame takes as many bytes as a recorder's.
    """
    rng = np.random.default_rng(0)
    rate = Fraction(rate)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.thread_count = gop, 1
        fast = {"preset": "ultrafast"} if codec.startswith("libx26") else {}
        stream.options = fast | options
        for number in range(frames):
            image_HWC = picture(first + number, SIZE)
            if noise:
                below = image_HWC[SIZE[0] // 4 :]
                below[:] = np.clip(below + rng.integers(-noise, noise, below.shape), 0, 255)
            frame = av.VideoFrame.from_ndarray(image_HWC, format="rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        found = [p for p in container.demux(video=0) if p.size]
    origin = min(p.pts for p in found) if found[0].pts is not None else 0
    base = found[0].time_base * rate
    packets = tuple(
        StockPacket(
            bytes(p),
            n if p.pts is None else round((p.pts - origin) * base),
            n if p.dts is None else round((p.dts - origin) * base),
            bool(p.is_keyframe),
        )
        for n, p in enumerate(found)
    )
    assert sorted(p.pts for p in packets) == list(range(frames)), f"{path.name}: every frame has its packet"
    key = 0
    for packet in packets:
        key = packet.pts if packet.is_key else key
        assert packet.pts >= key, f"{path.name}: frame {packet.pts} can't be cut from the keyframe after it"
    return Stock(path, rate, first, packets)


def mux(
    path: Path,
    parts: Sequence[Part],
    kind: str,
    options: dict[str, str] | None = None,
    sound: tuple[float, float, str] | None = None,
) -> Path:
    """Writes parts into one file of the format ``kind`` (libavformat's name), as their clocks say.

    ``sound``: from, to (in seconds of the clock), codec; silence.
    """
    stock = parts[0].stock
    with av.open(str(stock.path)) as source, av.open(str(path), "w", format=kind, options=options or {}) as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        # AVI and MXF count frames, all other containers count a clock.
        stream.time_base = 1 / stock.rate if kind in ("avi", "mxf") else Fraction(1, CLOCK_HZ)
        packets = [_packet(stream, part, packet) for part in parts for packet in part.packets()]
        if sound is not None:
            packets += _silence(container, *sound)
        packets.sort(key=lambda packet: packet.dts * packet.time_base)
        for packet in packets:
            container.mux(packet)
    return path


def _packet(stream: av.VideoStream, part: Part, stored: StockPacket) -> av.Packet:
    packet = av.Packet(stored.data)
    base = 1 / part.stock.rate if stream.time_base == 1 / part.stock.rate else Fraction(1, CLOCK_HZ)
    frame = 1 / part.stock.rate / base
    packet.stream, packet.time_base = stream, base
    packet.pts = round(part.clock_s / base + (stored.pts - part.start) * frame)
    packet.dts = round(part.clock_s / base + (stored.dts - part.start) * frame)
    packet.duration = round(frame)
    packet.is_keyframe = stored.is_key
    return packet


def _silence(container: av.container.OutputContainer, start_s: float, stop_s: float, codec: str) -> list[av.Packet]:
    stream = container.add_stream(codec, rate=48000)
    stream.layout, stream.bit_rate = "stereo", 64_000
    layout, kind, size = "stereo", "s16" if codec in ("mp2", "pcm_s16le") else "fltp", 1152 if codec == "mp2" else 1024
    packets = []
    for number in range(int((stop_s - start_s) * 48000) // size):
        shape = (1, 2 * size) if kind == "s16" else (2, size)
        frame = av.AudioFrame.from_ndarray(np.zeros(shape, np.int16 if kind == "s16" else np.float32), kind, layout)
        frame.sample_rate, frame.time_base = 48000, Fraction(1, 48000)
        frame.pts = round(start_s * 48000) + number * size
        packets += stream.encode(frame)
    return [packet for packet in (*packets, *stream.encode()) if packet.size]


def recording(path: Path, parts: Sequence[Part], holes_s: Sequence[float], slack_s: float = 0.0) -> Recording:
    """The truth of parts that lie one after another, with ``holes_s[n]`` seconds before part n + 1."""
    numbers, times_s, keys, at_s = [], [], [], 0.0
    for part, hole_s in zip(parts, (*holes_s, 0.0), strict=True):
        frames = np.arange(part.start, part.stop)
        key_frames = set(part.stock.keys)
        numbers.append(part.stock.first + frames)
        times_s.append(at_s + (frames - part.start) / float(part.stock.rate))
        keys.append([int(frame) in key_frames for frame in frames])
        at_s += float(part.length_s)
        last = at_s
        at_s += hole_s
    return Recording(path, np.concatenate(numbers), np.concatenate(times_s), np.concatenate(keys), last, slack_s)


def m2ts(data: bytes) -> bytes:
    """A transport stream as camcorders keep it: four bytes with a time of arrival before each packet of 188 bytes."""
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    return b"".join(struct.pack(">I", n * 300 & 0x3FFFFFFF) + packet for n, packet in enumerate(packets))


def null_packets(count: int) -> bytes:
    """Transport packets that carry nothing, with which a multiplexer of constant rate fills up."""
    return (b"\x47\x1f\xff\x10" + b"\xff" * 184) * count


def ebml_elements(data: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int, int]]:
    """(id, start, start of the body, stop) of each EBML element in ``data[start:stop]``.

    An element of unknown size ends at ``stop``.
    """
    while start < stop:
        lead = 9 - data[start].bit_length()
        at = start + lead
        width = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + width], "big") - (1 << 7 * width)
        body = at + width
        end = stop if size == (1 << 7 * width) - 1 else min(body + size, stop)
        yield data[start : start + lead], start, body, end
        start = end


SEGMENT, CLUSTER, SEEK_HEAD, CUES = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75", b"\x11\x4d\x9b\x74", b"\x1c\x53\xbb\x6b"


def join_segments(files: Sequence[bytes]) -> bytes:
    """Matroska files as one: the head of the first, then the clusters of all, each with the times it had."""
    head, clusters = b"", []
    for number, data in enumerate(files):
        elements = list(ebml_elements(data, 0, len(data)))
        segment = next(element for element in elements if element[0] == SEGMENT)
        if number == 0:
            head = data[: segment[1]] + SEGMENT + b"\x01" + b"\xff" * 7
        for kind, start, _, stop in ebml_elements(data, segment[2], segment[3]):
            if kind == CLUSTER:
                clusters.append(data[start:stop])
            elif number == 0 and kind not in (SEEK_HEAD, CUES):
                head += data[start:stop]
    return head + b"".join(clusters)


def box(data: bytes | bytearray, *path: bytes) -> int:
    """Where the box at the end of ``path`` begins in an MP4, found by its name after its parent's."""
    at = 0
    for name in path:
        at = data.index(name, at)
    return at - 4


def grow_box(data: bytearray, path: Sequence[bytes], body: bytes) -> None:
    """Replaces the body of the box at the end of ``path`` (from moov down, moov behind the samples), in place."""
    at = box(data, *path)
    (size,) = struct.unpack_from(">I", data, at)
    data[at + 8 : at + size] = body
    for depth in range(1, len(path) + 1):
        parent = box(data, *path[:depth])
        (old,) = struct.unpack_from(">I", data, parent)
        struct.pack_into(">I", data, parent, old + len(body) + 8 - size)
