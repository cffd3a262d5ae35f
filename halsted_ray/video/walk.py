"""From one wanted time to the next through one video: where to seek, what to read, what to decode, where the data end.

Top to bottom: ``Walk`` seeks and reads packets. ``KeyframeWalk`` is a Walk that decodes keyframes only. ``DisplayWalk``
is a Walk that decodes the frames displayed at the wanted times. ``NeededPackets`` tells the latter which packets it can
leave out.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Literal, NamedTuple

import av.error
import numpy as np
from av import VideoFrame
from numpy.typing import NDArray

from halsted_ray.errors import CorruptSegment
from halsted_ray.video.container import VideoFile, pts_of
from halsted_ray.video.frames import SAME_TIME_S, UNRECORDED, Missing
from halsted_ray.video.keyframe_index import KeyframeIndex
from halsted_ray.video.packet_index import hole_s

if TYPE_CHECKING:
    from halsted_ray.video.container import VideoPacket

RETREATS = 12
"""How often decoding starts anew at an earlier keyframe, each time twice as many keyframes back: the place where the
container landed may be too late, and after a recovery point (intra refresh) pictures are whole only some time later."""

HELD_PACKETS = 600
"""So many packets after an earlier keyframe are read in search of the wanted one: 20 s, at most some 20 MB."""

PAST_THE_END_S = 1.0
"""Times this much after the end of a whole recording show its last frame: the last window of a video ends after it."""

PROGRAM_STREAM_SETTLES_S = 0.5
"""MPEG-PS states a pts once per 2-KB pack, and libavformat guesses the others: wrongly, for some frames around a
keyframe. There decoding starts this much earlier, nothing is skipped, and times that do not rise are set one frame
apart."""


class ShownFrame(NamedTuple):
    """A decoded frame, and the time from which it is displayed, in seconds from the first displayed frame."""

    frame: VideoFrame
    shown_s: float


class Walk:
    """Moves through one video in the order of display. Each subclass has ``to(time_s)``, which is called with rising
    times and returns the ShownFrame that stands for that time, or the Missing span in which it lies."""

    skip_frame: Literal["DEFAULT", "NONREF", "NONKEY"] = "DEFAULT"
    """Which frames the decoder leaves out (libavcodec's AVDiscard)."""

    def __init__(self, video: VideoFile):
        self.video = video
        self.index = KeyframeIndex(video)
        self.settles_s = PROGRAM_STREAM_SETTLES_S if video.container.format.name == "mpeg" else 0.0
        step_s = self.index.step * float(video.time_base)
        rate = video.stream.average_rate or video.stream.guessed_rate
        self.frame_s = step_s or (1 / float(rate) if rate else 1e-3)
        """How long a frame is usually displayed."""
        self.hole_s = hole_s(self.frame_s)
        self.read_to_s = self.read_end_s = 0.0
        """The pts of the last packet that was read, and the latest end of any packet: the data reach at least there."""
        self.ran_out = False
        """Whether the last search for a keyframe came to the end of the data: the file is cut before that keyframe."""
        self.read_times_s: deque[float] = deque(maxlen=1024)
        self.packets: Iterator[VideoPacket] = iter(())

    def start_at(self, key: int | None, pts: int) -> int | None:
        """Goes to the keyframe ``key``, or to the first before it that can be reached, so that it is the next packet.

        ``key``: a pts as ``index.before`` gives it. ``pts``: the keyframe must be displayed at or before it. Returns
        the keyframe as the index has it; None where reading begins at the file's first packet.
        """
        back = 0
        self.ran_out = False
        for _ in range(RETREATS):
            if key is None or key <= self.video.origin:
                break
            if self._go_to(key) and self._next_is_keyframe_by(pts, key):
                return key
            # The index's times are decoding times plus a constant, so they can be off by a few frames.
            key, back = self.earlier(key, 1 << back), back + 1
        self.index.reopen()
        self._reset_decoder()
        self.packets = self.video.packets()
        return None

    def earlier(self, key: int, count: int) -> int | None:
        """The keyframe ``count`` places before ``key``; None where there are not so many."""
        found: int | None = key
        for _ in range(count):
            if found is None:
                break
            found = self.index.before(found - 1)
        return found

    def next_packet(self) -> VideoPacket | None:
        """The next packet, None at the end of the data."""
        packet = next(self.packets, None)
        if packet is not None and packet.pts is not None:
            self.read_to_s = self.video.seconds(packet.pts)
            self.read_times_s.append(self.read_to_s)
            length_s = float(packet.duration * self.video.time_base) if packet.duration else self.frame_s
            self.read_end_s = max(self.read_end_s, self.read_to_s + length_s)
        return packet

    def ended(self, time_s: float, shown_s: float) -> Missing | None:
        """At the end of the data: the span without data, where ``time_s`` lies in one. The last frame is displayed from
        ``shown_s`` on."""
        end_s = max(self.read_end_s, shown_s + self.frame_s)
        if time_s < end_s + self.frame_s:
            return None
        whole = self.video.seconds(self.index.stop) - self.frame_s <= end_s
        if whole and time_s < end_s + PAST_THE_END_S and not self.video.unread_bytes:
            return None
        return missing(end_s, float("inf"), f"the data of the stream end at {end_s:.3f} s")

    def _go_to(self, key: int) -> bool:
        try:
            self.packets = self.index.packets_from(key)
        except (av.error.FFmpegError, CorruptSegment):
            self.video.raise_storage_failure()
            return False  # this container can't go there; the caller starts further back
        self._reset_decoder()
        return True

    def _reset_decoder(self) -> None:
        context = self.video.stream.codec_context
        context.skip_frame = self.skip_frame
        if context.is_open:
            context.flush_buffers()

    def _next_is_keyframe_by(self, pts: int, key: int) -> bool:
        """Drops packets up to the keyframe ``key``; true where the first keyframe is displayed at or before ``pts``.

        libavformat may land at an earlier keyframe, in files with an edit list for example. From there it is read on,
        and where ``key`` does not come, all packets since are decoded.
        """
        held: list[VideoPacket] = []
        for packet in self.packets:
            if packet.is_keyframe:
                if time_of(packet) > pts:
                    break
                held.clear()
            elif not held:
                continue
            held.append(packet)
            if time_of(held[0]) >= key - self.frame_s / self.video.time_base or len(held) > HELD_PACKETS:
                break
        else:
            self.ran_out = not held
        self.packets = chain(held, self.packets)
        return bool(held)


class KeyframeWalk(Walk):
    """Gives the last keyframe at or before each time, each by a seek."""

    skip_frame = "NONKEY"

    def __init__(self, video: VideoFile, times_s: NDArray[np.float64]):
        super().__init__(video)
        self._times_s = times_s
        self._key: int | None = None
        self._shown: ShownFrame | None = None
        self._display: DisplayWalk | None = None

    def to(self, time_s: float) -> ShownFrame | Missing:
        """The last keyframe displayed at or before ``time_s``; from the first keyframe on that does not decode alone
        (intra refresh, damage) the frame that ``reference`` gives."""
        if self._display:
            return self._display.to(time_s)
        pts = self.video.ticks(time_s + SAME_TIME_S)
        if hole := self.index.hole_at(pts):
            start_s, stop_s = map(self.video.seconds, hole)
            if stop_s - start_s > self.hole_s and time_s >= start_s + self.frame_s:
                return unrecorded(start_s + self.frame_s, stop_s)
        key = self.index.decoded_before(pts)
        if self._shown is None or key != self._key:
            self._key = key
            self._shown = self._fetch(key, pts)
        if self._shown is None:
            self._display = DisplayWalk(self.video, "reference", self._times_s)
            return self._display.to(time_s)
        if not self.index.lists_all_frames and time_s - self._shown.shown_s > self.hole_s:
            # Only the packets tell whether frames were recorded since.
            self._display = DisplayWalk(self.video, "reference", self._times_s)
            return self._display.to(time_s)
        end_s = self.video.seconds(self.index.stop)
        return (self.ended(time_s, end_s) if time_s >= end_s and self.index.lists_all_frames else None) or self._shown

    def _fetch(self, key: int | None, pts: int) -> ShownFrame | None:
        """The frame of the last keyframe by ``pts``, which the index has as ``key``; None where it does not decode, or
        where the data end before it."""
        reached = self.start_at(key, pts)
        if self.ran_out:
            return None
        if reached != key:
            self._key = None  # the index was wrong: its keyframe is displayed later, and may be that of the next time
        packet = self.next_packet()
        while packet is not None and not packet.is_keyframe:
            packet = self.next_packet()
        if packet is None or (reached is None and time_of(packet) < self.video.origin):
            # An edit list begins between two keyframes, and the earlier of them is never displayed.
            return ShownFrame(self.video.first_frame, 0.0)
        if key is not None and time_of(packet) < key - self.frame_s / self.video.time_base:
            self._key = None
        self._reset_decoder()
        frames = [*(self.video.decode(packet) or ()), *(self.video.decode(None) or ())]
        self._reset_decoder()
        for frame in frames:
            frame_pts = pts_of(frame)
            if frame_pts is not None and not frame.is_corrupt:
                return ShownFrame(frame, self.video.seconds(frame_pts))
        return None


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
        self._last_s = float("-inf")
        """The time of the last frame that the decoder gave out."""
        self._first_s = float("inf")
        """The time of the first clean frame since decoding began anew."""
        self._refreshes = False
        """Whether the keyframes are recovery points: pictures are whole only some time after them."""
        self._shown: ShownFrame | None = None
        self._ahead: ShownFrame | None = None
        """The frame displayed now, and the frame after it where that is decoded already."""
        self._ready: deque[ShownFrame] = deque()
        self._ended = False
        self._started = False
        self._damages: deque[tuple[float, float]] = deque(maxlen=64)
        """[start_s, stop_s) of the last damaged spans; the end of the last is infinite until a keyframe decodes."""

    def to(self, time_s: float) -> ShownFrame | Missing:
        """The frame displayed at ``time_s``."""
        wanted_s = time_s + SAME_TIME_S
        if self._ahead is None or self._ahead.shown_s <= wanted_s:
            self._jump_if_worth(time_s)
            self._walk_on(wanted_s)
        if self._shown is None:
            next_s = self._ahead.shown_s if self._ahead else float("inf")
            return missing(time_s, next_s, f"nothing before {next_s:.3f} s decodes")
        return self._lost(time_s, self._shown.shown_s) or self._shown

    def _lost(self, time_s: float, shown_s: float) -> Missing | None:
        """Why the frame displayed from ``shown_s`` on does not stand for ``time_s``; None where it does."""
        shown_stop_s = shown_s + self.frame_s
        if time_s < shown_stop_s:
            return None
        next_s = self._ahead.shown_s if self._ahead else float("inf")
        for start_s, stop_s in self._damages:
            if start_s <= time_s < stop_s:
                return missing(
                    max(start_s, shown_stop_s), min(stop_s, next_s), f"after {shown_s:.3f} s nothing decodes cleanly"
                )
        reads_s = sorted(read_s for read_s in self.read_times_s if read_s >= shown_s)
        by_now = bisect_right(reads_s, time_s + SAME_TIME_S)
        if by_now - 1 > LONGEST_SKIPPED_RUN:
            return missing(shown_stop_s, next_s, f"after {shown_s:.3f} s nothing decodes")
        last_s = reads_s[by_now - 1] if by_now else shown_s
        following_s = reads_s[by_now] if by_now < len(reads_s) else next_s
        if following_s - last_s > self.hole_s and not (self._ended and following_s == float("inf")):
            if time_s >= last_s + self.frame_s:
                return unrecorded(last_s + self.frame_s, following_s)
        elif self._ended and self._ahead is None:
            return self.ended(time_s, shown_s)
        return None

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
        if not self._started:
            self._started = True
            self._restart(time_s)
            return
        now = self._ahead or self._shown
        position_s = now.shown_s if now else 0.0
        key = self.index.before(self.video.ticks(time_s + SAME_TIME_S))
        if key is None:
            return
        key_s = self.video.seconds(key)
        if key_s - position_s > SEEK_AHEAD_S:
            self._restart(time_s)
        elif (
            not self.settles_s
            and not self._refreshes
            and key_s > self.read_to_s
            and key_s - position_s > 2 * self.frame_s
        ):
            self._skip_to(key, time_s)

    def _skip_to(self, key: int, time_s: float) -> None:
        """Reads on to a keyframe near by and decodes nothing on the way."""
        self._forget()
        self._reset_decoder()
        early = self.video.ticks(self.video.seconds(key) - self.frame_s / 2)
        while (packet := self.next_packet()) is not None:
            if packet.is_keyframe and packet.pts is not None and packet.pts >= early:
                if packet.pts > self.video.ticks(time_s + SAME_TIME_S):
                    break
                self.packets = put_back(packet, self.packets)
                self._walk_on(time_s + SAME_TIME_S)
                if self._shown and self._first_s <= self.video.seconds(key) + 2 * self.frame_s:
                    return
                break
        self._restart(time_s)

    def _restart(self, time_s: float) -> None:
        """Decodes from the last keyframe by ``time_s`` to this time; from an earlier keyframe where no whole picture
        came by then."""
        pts = self.video.ticks(time_s + SAME_TIME_S - self.settles_s)
        key = self.index.before(pts)
        if key is not None and self._refreshes:
            key = self.earlier(key, 1)
        for retreat in range(RETREATS):
            self._forget()
            key = self.start_at(key, pts)
            if key is None:
                # An unreferenced frame may be the first that is displayed, and ``reference`` leaves it out.
                self._shown = ShownFrame(self.video.first_frame, 0.0)
            self._walk_on(time_s + SAME_TIME_S)
            if key is None:
                return
            if not self._refreshes and self._first_s > self.video.seconds(key) + 2 * self.frame_s:
                # No picture came with the keyframe: a recovery point. Encoders state the picture from which all stripes
                # are whole, some a few pictures too early; from one keyframe before they are.
                self._refreshes = True
            elif self._shown is not None:
                return
            key = self.earlier(key, 1 << retreat)

    def _forget(self) -> None:
        self._shown = self._ahead = None
        self._damages.clear()
        self._ready.clear()
        self.read_times_s.clear()
        if self._needed:
            self._needed.clear()
        self._ended = False
        self._last_s = float("-inf")
        self._first_s = float("inf")

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
            shown_s = self._last_s + self.frame_s
        self._last_s = shown_s
        if frame.key_frame and not frame.is_corrupt:
            if self._is_damaged:
                self._damages[-1] = (self._damages[-1][0], shown_s)
        elif frame.is_corrupt and not self._is_damaged:
            self._damages.append((shown_s, float("inf")))
        if not self._is_damaged:
            self._first_s = min(self._first_s, shown_s)
            self._ready.append(ShownFrame(frame, shown_s))

    @property
    def _is_damaged(self) -> bool:
        """Whether undecodable data came since the last keyframe."""
        return bool(self._damages) and self._damages[-1][1] == float("inf")

    def _note_damage(self, packet: VideoPacket | None) -> None:
        pts = packet.pts if packet is not None and packet.pts is not None else None
        if not self._is_damaged:
            at_s = self.video.seconds(pts) if pts is not None else self.read_end_s
            self._damages.append((at_s, float("inf")))


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


def missing(start_s: float, stop_s: float, what: str) -> Missing:
    """The damaged span from ``start_s`` to ``stop_s`` (infinite: to the end)."""
    reason = f"{what}; this span is a gap: copy the file again if its source is whole, and give the same command again"
    return Missing(start_s, stop_s, CorruptSegment.code, reason)


def unrecorded(start_s: float, stop_s: float) -> Missing:
    """The span from ``start_s`` to ``stop_s``, in which the recorder wrote no frame."""
    reason = f"no frame was recorded from {start_s:.3f} to {stop_s:.3f} s: the recorder was paused, or data were lost"
    return Missing(start_s, stop_s, UNRECORDED, reason)


def time_of(packet: VideoPacket) -> int:
    """A packet's presentation time in ticks, else its decoding time; without either, later than all other packets."""
    times = (time for time in (packet.pts, packet.dts) if time is not None)
    return next(times, 1 << 62)


def put_back(packet: VideoPacket, rest: Iterator[VideoPacket]) -> Iterator[VideoPacket]:
    """``packet``, then the packets that follow it."""
    yield packet
    yield from rest
