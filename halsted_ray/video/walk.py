"""From one wanted time to the next through one video: where to seek, what to read, what to decode, where the data end.

Top to bottom: ``Walk`` seeks and reads packets. ``KeyframeWalk`` is a Walk that decodes keyframes only. ``DisplayWalk``
is a Walk that decodes the frames displayed at the wanted times. ``NeededPackets`` tells the latter which packets it can
leave out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import av.error
import numpy as np
from av import VideoFrame
from numpy.typing import NDArray

from halsted_ray.errors import CorruptSegment
from halsted_ray.video.container import VideoFile, pts_of
from halsted_ray.video.keyframe_index import KeyframeIndex

if TYPE_CHECKING:
    from halsted_ray.video.container import VideoPacket

BACK_OFF_S = (2.0, 8.0, 32.0, 128.0)
"""Without an index: how far before the wanted time to seek, one after another, until a keyframe at or before it is
found."""

STALE_S = 1.0
"""A frame that stands for longer than this, because the data after it are damaged, is not the frame that was shown."""

PROGRAM_STREAM_SETTLES_S = 0.5
"""MPEG-PS states a pts once per 2-KB pack, and libavformat guesses the others: wrongly, for some frames around a
keyframe. There decoding starts this much earlier, nothing is skipped, and times that do not rise are set one frame
apart."""

SAME_TIME_S = 1e-6
"""A time and a pts this close are one instant, since grids of times are computed in floats."""


class ShownFrame(NamedTuple):
    """A decoded frame, and the time from which it is displayed, in seconds from the first displayed frame."""

    frame: VideoFrame
    shown_s: float


class Walk:
    """Moves through one video in the order of display. Each subclass has ``to(time_s)``, which is called with rising
    times and returns the ShownFrame that stands for that time."""

    skip_frame: Literal["DEFAULT", "NONREF", "NONKEY"] = "DEFAULT"
    """Which frames the decoder leaves out (libavcodec's AVDiscard)."""

    def __init__(self, video: VideoFile):
        self.video = video
        self.index = KeyframeIndex(video)
        self.settles_s = PROGRAM_STREAM_SETTLES_S if video.container.format.name == "mpeg" else 0.0
        self.read_to_s = self.read_end_s = 0.0
        """The pts of the last packet that was read, and the latest end of any packet: the data reach at least there."""
        self.ran_out = False
        """Whether the last search for a keyframe came to the end of the data: the file is cut before that keyframe."""
        self.read_times_s: deque[float] = deque(maxlen=1024)
        self.packets: Iterator[VideoPacket] = iter(())

    def start_before(self, time_s: float, key: int | None) -> bool:
        """Goes to the last keyframe displayed at or before ``time_s``, so that it is the next packet.

        ``key`` is the pts of that keyframe as the index has it, None where the index can't say. True where the index
        was right.
        """
        pts = self.video.ticks(time_s + SAME_TIME_S - self.settles_s)
        first = key
        self.ran_out = False
        while key is not None:
            if self._seek(key) and self._next_is_keyframe_by(pts):
                return key == first
            # The index's times are decoding times plus a constant, so they can be off by a few frames.
            key = self.index.before(key - 1) if key > self.video.origin else None
        for back_s in BACK_OFF_S:
            start_s = time_s - back_s
            if start_s <= 0:
                break
            if self._seek(self.video.ticks(start_s)) and self._next_is_keyframe_by(pts):
                return False
        self.video.reopen()
        self._reset_decoder()
        self.packets = self.video.packets()
        return False

    def next_packet(self) -> VideoPacket | None:
        """The next packet, None at the end of the data."""
        packet = next(self.packets, None)
        if packet is not None and packet.pts is not None:
            self.read_to_s = self.video.seconds(packet.pts)
            self.read_times_s.append(self.read_to_s)
            self.read_end_s = max(self.read_end_s, self.video.seconds(packet.pts + (packet.duration or 0)))
        return packet

    def check_end(self, time_s: float, shown_s: float) -> None:
        """Checks at the end of the data that the last frame, displayed from ``shown_s`` on, stands at ``time_s``.

        Raises CorruptSegment where it does not: the data are cut.
        """
        if time_s > max(self.read_end_s, shown_s) + STALE_S:
            raise self.cut_short(time_s, shown_s)

    def cut_short(self, time_s: float, shown_s: float = 0.0) -> CorruptSegment:
        """The error that the data end before ``time_s``; the last frame is displayed from ``shown_s`` on."""
        end_s = max(self.read_end_s, shown_s)
        return corrupt(
            end_s, None, f"asked for the frame at {time_s:.3f} s, but the stream's data end at {end_s:.3f} s"
        )

    def _seek(self, pts: int) -> bool:
        try:
            self.video.seek(pts)
        except av.error.FFmpegError:
            self.video.raise_storage_failure()
            return False  # this container can't go there; the caller starts further back
        self._reset_decoder()
        self.packets = self.video.packets()
        return True

    def _reset_decoder(self) -> None:
        context = self.video.stream.codec_context
        context.skip_frame = self.skip_frame
        if context.is_open:
            context.flush_buffers()

    def _next_is_keyframe_by(self, pts: int) -> bool:
        """Drops packets up to the first keyframe; true where that keyframe is displayed at or before ``pts``."""
        for packet in self.packets:
            if not packet.is_keyframe:
                continue
            if time_of(packet) > pts:
                return False
            self.packets = put_back(packet, self.packets)
            return True
        self.ran_out = True
        return False


class KeyframeWalk(Walk):
    """Gives the last keyframe at or before each time: where there is an index by seeking, else by reading on."""

    skip_frame = "NONKEY"

    def __init__(self, video: VideoFile):
        super().__init__(video)
        self._indexed_pts: int | None = None
        self._key: VideoPacket | None = None
        self._next_key: VideoPacket | None = None
        self._shown: ShownFrame | None = None

    def to(self, time_s: float) -> ShownFrame:
        """The last keyframe displayed at or before ``time_s``. Raises CorruptSegment."""
        pts = self.video.ticks(time_s + SAME_TIME_S)
        key_pts = self.index.decoded_before(pts)
        if key_pts is None:
            return self._read_on(time_s, pts)
        if key_pts != self._indexed_pts or self._shown is None:
            return self._fetch(time_s, key_pts)
        return self._shown

    def _fetch(self, time_s: float, key_pts: int) -> ShownFrame:
        landed = self.start_before(time_s, key_pts)
        self._shown = self._decode_alone(self.next_packet(), time_s)
        # Where the index was wrong, its keyframe is displayed after this time, and may be the one of the next time.
        self._indexed_pts = key_pts if landed else None
        if self.ran_out:
            self.check_end(time_s, self._shown.shown_s)
        return self._shown

    def _read_on(self, time_s: float, pts: int) -> ShownFrame:
        if self._key is None and self._next_key is None:
            self.start_before(time_s, None)
        while True:
            self._next_key = self._next_key or self._read_key()
            if self._next_key is None or time_of(self._next_key) > pts:
                break
            self._key, self._next_key, self._shown = self._next_key, None, None
        if self._shown is None:
            self._shown = self._decode_alone(self._key, time_s)
        if self._next_key is None:
            self.check_end(time_s, self._shown.shown_s)
        return self._shown

    def _read_key(self) -> VideoPacket | None:
        while (packet := self.next_packet()) is not None:
            if packet.is_keyframe:
                return packet
        return None

    def _decode_alone(self, packet: VideoPacket | None, time_s: float) -> ShownFrame:
        """The frame of a keyframe's packet. Raises CorruptSegment where there is no packet, or it does not decode."""
        if packet is None:
            raise self.cut_short(time_s)
        if time_of(packet) < self.video.origin:
            # An edit list begins between two keyframes, and the earlier one is never displayed.
            return ShownFrame(self.video.first_frame, 0.0)
        self._reset_decoder()
        frames = [*(self.video.decode(packet) or ()), *(self.video.decode(None) or ())]
        self._reset_decoder()
        for frame in frames:
            pts = pts_of(frame)
            if pts is not None and not frame.is_corrupt:
                return ShownFrame(frame, self.video.seconds(pts))
        at_s = self.video.seconds(time_of(packet))
        what = f"asked for the keyframe before {time_s:.3f} s, but the keyframe at {at_s:.3f} s does not decode"
        raise corrupt(at_s, None, what)


SEEK_AHEAD_S = 4.0
"""Where the next wanted keyframe is nearer than this, the packets up to it are read and dropped: that costs less than a
seek over a network."""

LONGEST_SKIPPED_RUN = 16
"""The most B-frames in a row that libx264 and libx265 write. More packets than this without a picture are damage, even
where the decoder drops them and reports nothing."""


FIELD_BY_FIELD = ("h264", "vc1")
"""Codecs whose interlaced pictures may come as two packets, one per field, in any container. Neither packet may be left
out where the other is decoded, so none is left out."""


class DisplayWalk(Walk):
    """Gives the frame displayed at each time.

    ``exact`` decodes the frames that are displayed at ``times_s`` or that other frames refer to; ``reference`` decodes
    only frames that others refer to.
    """

    def __init__(self, video: VideoFile, fidelity: str, times_s: NDArray[np.float64]):
        super().__init__(video)
        self._intra_only = video.stream.codec_context.codec.intra_only
        self._needed: NeededPackets | None = None
        fields = video.first_frame.interlaced_frame and video.stream.codec_context.name in FIELD_BY_FIELD
        if video.has_presentation_times and (fidelity == "exact" or self._intra_only) and not fields:
            self._needed = NeededPackets(video, times_s + SAME_TIME_S)
        self.skip_frame = "NONREF" if fidelity == "reference" and not self.settles_s else "DEFAULT"
        self._frame_s = 1 / float(video.stream.average_rate) if video.stream.average_rate else 1e-3
        self._last_s = float("-inf")
        """The time of the last frame that the decoder gave out."""
        self._shown: ShownFrame | None = None
        self._ahead: ShownFrame | None = None
        """The frame displayed now, and the frame after it where that is decoded already."""
        self._ready: deque[ShownFrame] = deque()
        self._ended = False
        self._started = False
        self._damaged_at_s: float | None = None
        """Where undecodable data began; None again from the next keyframe on."""
        self._damage: tuple[float, float] | None = None
        """[start_s, stop_s) of the last damage; its end is infinite until a keyframe decodes."""

    def to(self, time_s: float) -> ShownFrame:
        """The frame displayed at ``time_s``. Raises CorruptSegment."""
        wanted_s = time_s + SAME_TIME_S
        if self._ahead is None or self._ahead.shown_s <= wanted_s:
            self._jump_if_worth(time_s)
            self._walk_on(wanted_s)
        if self._shown is None:
            if self._ahead is None:
                raise self.cut_short(time_s)
            # No frame lies before the first displayed frame, at 0 s: damage took the frame of this time.
            next_s = self._ahead.shown_s
            what = f"asked for the frame at {time_s:.3f} s, got no frame before {next_s:.3f} s that decodes"
            raise corrupt(time_s, next_s, what)
        if self._ended and self._ahead is None:
            self.check_end(time_s, self._shown.shown_s)
        if time_s - self._shown.shown_s > STALE_S:
            self._check_stale(time_s, self._shown.shown_s)
        return self._shown

    def _check_stale(self, time_s: float, shown_s: float) -> None:
        """An old frame is right where the recorder wrote no frame since, and damage where frames that it wrote did not
        decode. Raises CorruptSegment for damage."""
        lost = sum(shown_s < read_s <= time_s for read_s in self.read_times_s)
        started_s, stopped_s = self._damage or (float("inf"), float("inf"))
        if lost > LONGEST_SKIPPED_RUN or started_s <= time_s < stopped_s:
            next_s = self._ahead.shown_s if self._ahead else None
            what = f"asked for the frame at {time_s:.3f} s, but after {shown_s:.3f} s nothing decodes cleanly"
            raise corrupt(shown_s + self._frame_s, next_s, what)

    def _walk_on(self, wanted_s: float) -> None:
        """Decodes until the frame after ``wanted_s`` is known, or to the end."""
        while True:
            if self._ahead is None:
                self._ahead = self._next_frame()
                if self._ahead is None:
                    return
            if self._ahead.shown_s > wanted_s:
                return
            self._shown, self._ahead = self._ahead, None

    def _jump_if_worth(self, time_s: float) -> None:
        """Goes on to a later keyframe where that saves decoding."""
        video = self.video
        if not self._started:
            self._started = True
            self._restart(time_s)
            return
        now = self._ahead or self._shown
        position_s = now.shown_s if now else 0.0
        if self.index.complete:
            key = self.index.before(video.ticks(time_s + SAME_TIME_S))
            if key is None:
                return
            key_s = video.seconds(key)
            if key_s - position_s > SEEK_AHEAD_S:
                self._restart(time_s)
            elif key_s > self.read_to_s and key_s - position_s > 2 * self._frame_s:
                self._skip_to(key, time_s)
        elif time_s - position_s > 4 * SEEK_AHEAD_S:
            self._restart(time_s)

    def _skip_to(self, key: int, time_s: float) -> None:
        """Reads on to a keyframe near by and decodes nothing on the way."""
        self._forget()
        self._reset_decoder()
        early = self.video.ticks(self.video.seconds(key) - self._frame_s / 2)
        while (packet := self.next_packet()) is not None:
            if packet.is_keyframe and packet.pts is not None and packet.pts >= early:
                if packet.pts > self.video.ticks(time_s + SAME_TIME_S):
                    break
                self.packets = put_back(packet, self.packets)
                return
        self._restart(time_s)

    def _restart(self, time_s: float) -> None:
        self._forget()
        self.start_before(time_s, self.index.before(self.video.ticks(time_s + SAME_TIME_S)))

    def _forget(self) -> None:
        self._shown = self._ahead = None
        self._damaged_at_s = self._damage = None
        self._ready.clear()
        if self._needed:
            self._needed.clear()
        self._ended = False
        self._last_s = float("-inf")

    def _next_frame(self) -> ShownFrame | None:
        """The next clean frame; None at the end of the data."""
        while not self._ready:
            if self._ended:
                return None
            packet, wanted = self._needed.next(self.next_packet) if self._needed else (self.next_packet(), True)
            self._ended = packet is None
            if self._needed and self._intra_only and not wanted:
                continue
            if self._needed:
                self.video.stream.codec_context.skip_frame = "DEFAULT" if wanted else "NONREF"
            frames = self.video.decode(packet)
            if frames is None:
                self._note_damage(packet)
                continue
            for frame in frames:
                self._sort_out(frame)
        return self._ready.popleft()

    def _sort_out(self, frame: VideoFrame) -> None:
        """Puts a clean frame among the frames that are ready; notes where damage begins and ends."""
        pts = pts_of(frame)
        if pts is None:
            return
        shown_s = self.video.seconds(pts)
        if shown_s <= self._last_s:
            shown_s = self._last_s + self._frame_s
        self._last_s = shown_s
        if frame.key_frame and not frame.is_corrupt:
            if self._damaged_at_s is not None:
                self._damage = (self._damaged_at_s, shown_s)
            self._damaged_at_s = None
        elif frame.is_corrupt and self._damaged_at_s is None:
            self._damaged_at_s = shown_s
            self._damage = (shown_s, float("inf"))
        if self._damaged_at_s is None:
            self._ready.append(ShownFrame(frame, shown_s))

    def _note_damage(self, packet: VideoPacket | None) -> None:
        pts = packet.pts if packet is not None and packet.pts is not None else None
        if self._damaged_at_s is None:
            self._damaged_at_s = self.video.seconds(pts) if pts is not None else self.read_end_s
            self._damage = (self._damaged_at_s, float("inf"))


LOOK_AHEAD = 17
"""Packets: H.264 and HEVC display a frame at most 16 places after the frame that it is decoded with."""


class NeededPackets:
    """Packets in decoding order, each with whether its own picture is wanted.

    ``wanted_s``: rising times. A picture is displayed from its pts until the next picture's, which is known once all
    packets that could be displayed before it are read.
    """

    def __init__(self, video: VideoFile, wanted_s: NDArray[np.float64]):
        self._seconds = video.seconds
        self._wanted_s: list[float] = wanted_s.tolist()
        self._waiting: deque[VideoPacket] = deque()
        self._near_pts: deque[int] = deque(maxlen=2 * LOOK_AHEAD + 2)
        self._last = True

    def clear(self) -> None:
        """Forgets the packets that were read ahead: the container was sent to another place."""
        self._waiting.clear()
        self._near_pts.clear()

    def next(self, read: Callable[[], VideoPacket | None]) -> tuple[VideoPacket | None, bool]:
        """(packet, wanted), or (None, True) at the end; ``read()`` gives the next packet of the container or None."""
        while len(self._waiting) <= LOOK_AHEAD and (packet := read()) is not None:
            self._waiting.append(packet)
            if packet.pts is not None:
                self._near_pts.append(packet.pts)
        if not self._waiting:
            return None, True
        packet = self._waiting.popleft()
        if packet.pts is not None:  # a packet without a time is the second field of the picture before
            self._last = self._is_wanted(packet.pts)
        return packet, self._last

    def _is_wanted(self, pts: int) -> bool:
        next_pts = min((other for other in self._near_pts if other > pts), default=None)
        first = bisect_left(self._wanted_s, self._seconds(pts))
        if first == len(self._wanted_s):
            return False
        return next_pts is None or self._wanted_s[first] < self._seconds(next_pts)


def corrupt(start_s: float, stop_s: float | None, what: str) -> CorruptSegment:
    """The error about a damaged span from ``start_s`` to ``stop_s`` (None: to the end)."""
    return CorruptSegment(
        f"{what}; this span is left as a gap, copy the file again if its source is whole, "
        "and give the same command again",
        start_s,
        stop_s,
    )


def time_of(packet: VideoPacket) -> int:
    """A packet's presentation time in ticks, else its decoding time; without either, later than all other packets."""
    times = (time for time in (packet.pts, packet.dts) if time is not None)
    return next(times, 1 << 62)


def put_back(packet: VideoPacket, rest: Iterator[VideoPacket]) -> Iterator[VideoPacket]:
    """``packet``, then the packets that follow it."""
    yield packet
    yield from rest
