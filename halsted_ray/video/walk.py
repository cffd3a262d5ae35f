"""From one wanted time to the next through one video: where to seek, what to read, where the data end.

``Walk`` seeks and reads packets. ``display_walk.DisplayWalk`` decodes the frames displayed at the wanted times, and
``keyframe_walk.KeyframeWalk`` decodes keyframes only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import av.error

from halsted_ray.errors import CorruptSegment
from halsted_ray.video.container import VideoFile
from halsted_ray.video.frames import UNRECORDED, Missing
from halsted_ray.video.keyframe_index import KeyframeIndex
from halsted_ray.video.libav_decoder import DecodedFrame, Decoder, LeaveOut, LibavDecoder
from halsted_ray.video.packet_index import LONGEST_STILL_S, hole_s
from halsted_ray.video.packet_times import time_of

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

    frame: DecodedFrame
    shown_s: float


class Walk:
    """Moves through one video in the order of display. Each subclass has ``to(time_s)``, which is called with rising
    times and returns the ShownFrame that stands for that time, or the Missing span in which it lies."""

    skip_frame: LeaveOut = "DEFAULT"
    """Which frames the decoder leaves out after a reset."""

    def __init__(self, video: VideoFile, decoder: Decoder | None = None):
        self.video = video
        self.decoder = decoder or LibavDecoder(video)
        self.index = KeyframeIndex(video)
        self.settles_s = PROGRAM_STREAM_SETTLES_S if video.container.format.name == "mpeg" else 0.0
        step_s = self.index.step * float(video.time_base)
        rate = video.stream.average_rate or video.stream.guessed_rate
        self.frame_s = min(step_s or (1 / float(rate) if rate else 1e-3), LONGEST_STILL_S)
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
        self.decoder.leave_out(self.skip_frame)
        self.decoder.reset()

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


def missing(start_s: float, stop_s: float, what: str) -> Missing:
    """The damaged span from ``start_s`` to ``stop_s`` (infinite: to the end)."""
    reason = f"{what}; this span is a gap: copy the file again if its source is whole, and give the same command again"
    return Missing(start_s, stop_s, CorruptSegment.code, reason)


def unrecorded(start_s: float, stop_s: float) -> Missing:
    """The span from ``start_s`` to ``stop_s``, in which the recorder wrote no frame."""
    reason = f"no frame was recorded from {start_s:.3f} to {stop_s:.3f} s: the recorder was paused, or data were lost"
    return Missing(start_s, stop_s, UNRECORDED, reason)
