"""Through one video to wanted times: where to seek, what was read, where the data end."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable

import av.error
import numpy as np

from halsted_ray.errors import CorruptSegment
from halsted_ray.video.container import VideoFile, pts_of
from halsted_ray.video.index import KeyframeIndex

BACK_OFF_S = (2.0, 8.0, 32.0, 128.0)
"""Without an index: how far before the wanted time to land, until a keyframe at or before it is found."""

STALE_S = 1.0
"""A frame that stands longer than this because what follows it is damaged is not what was shown."""

PROGRAM_STREAM_SETTLES_S = 0.5
"""MPEG-PS gives a pts per 2-KB pack and libavformat guesses the others, wrongly for some frames around a keyframe.
Decoding starts this much earlier there, nothing is skipped, and times that don't rise are set one frame apart."""

SAME_TIME_S = 1e-6
"""A time and a pts this close are one instant: grids are computed in floats."""


class Walk:
    """Moves through one video in display order; ``to(time_s)`` gives (frame, its time), for rising times."""

    skip_frame = "DEFAULT"

    def __init__(self, video: VideoFile):
        self.video = video
        self.index = KeyframeIndex(video)
        self.settles_s = PROGRAM_STREAM_SETTLES_S if video.container.format.name == "mpeg" else 0.0
        self.read_to_s = self.read_end_s = 0.0
        """The pts of the last packet read, and the latest end of any: where the data are known to reach."""
        self.ran_out = False
        """The last search for a keyframe came to the end of the data: the file is cut before that keyframe."""
        self.read_times_s = deque(maxlen=1024)
        self.packets = iter(())

    def start_before(self, time_s: float, key: int | None) -> bool:
        """Stands before the last keyframe shown at or before ``time_s`` (it is the next packet). ``key`` is the
        index's word for it, None where it has none; true if that was it."""
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
        self._fresh_decoder()
        self.packets = self.video.packets()
        return False

    def next_packet(self):
        packet = next(self.packets, None)
        if packet is not None and packet.pts is not None:
            self.read_to_s = self.video.seconds(packet.pts)
            self.read_times_s.append(self.read_to_s)
            self.read_end_s = max(self.read_end_s, self.video.seconds(packet.pts + (packet.duration or 0)))
        return packet

    def check_end(self, time_s: float, shown_s: float | None) -> None:
        """The stream has ended: fine where its last frame stands at ``time_s``, else the data are cut."""
        if shown_s is None or time_s > max(self.read_end_s, shown_s) + STALE_S:
            end_s = max(self.read_end_s, shown_s or 0.0)
            what = f"asked for the frame at {time_s:.3f} s, but the stream's data end at {end_s:.3f} s"
            raise corrupt(end_s, None, what)

    def _seek(self, pts: int) -> bool:
        try:
            self.video.seek(pts)
        except av.error.FFmpegError:
            self.video.raise_storage_failure()
            return False  # this container can't go there; the caller starts further back
        self._fresh_decoder()
        self.packets = self.video.packets()
        return True

    def _fresh_decoder(self) -> None:
        context = self.video.stream.codec_context
        context.skip_frame = self.skip_frame
        if context.is_open:
            context.flush_buffers()

    def _next_is_keyframe_by(self, pts: int) -> bool:
        """Drops packets up to the first keyframe; true if it is shown at or before ``pts``."""
        for packet in self.packets:
            if not packet.is_keyframe:
                continue
            found = time_of(packet)
            if found is None or found > pts:
                return False
            self.packets = chain(packet, self.packets)
            return True
        self.ran_out = True
        return False


def corrupt(start_s: float, stop_s: float | None, what: str) -> CorruptSegment:
    """The error of a damaged stretch; ``start_s`` and ``stop_s`` (None: to the end) say where it lies."""
    error = CorruptSegment(
        f"{what}; this span is left as a gap, copy the file again if its source is whole, "
        "and give the same command again"
    )
    error.start_s, error.stop_s = start_s, stop_s
    return error


def time_of(packet) -> int:
    """Presentation time in ticks, the decoding time where there is none."""
    return packet.pts if packet.pts is not None else packet.dts


def chain(packet, rest):
    """A packet put back before the ones that follow it."""
    yield packet
    yield from rest


SEEK_AHEAD_S = 4.0
"""Below this the way to the next keyframe is read and dropped, which costs less than a seek over a network."""

LONGEST_SKIPPED_RUN = 16
"""libx264's and libx265's most B-frames in a row: more packets than this without a picture are damage, even where
the decoder drops them without a word."""


class DisplayWalk(Walk):
    """``exact``: all frames that are shown at ``times_s`` or that others refer to. ``reference``: the latter only."""

    def __init__(self, video: VideoFile, fidelity: str, times_s: np.ndarray):
        super().__init__(video)
        self._intra_only = video.stream.codec_context.codec.intra_only
        self._need = None
        if has_presentation_times(video) and (fidelity == "exact" or self._intra_only):
            self._need = PacketsByNeed(video, times_s + SAME_TIME_S)
        self.skip_frame = "NONREF" if fidelity == "reference" and not self.settles_s else "DEFAULT"
        self._frame_s = 1 / float(video.stream.average_rate) if video.stream.average_rate else 1e-3
        self._last_s = float("-inf")
        self._shown = None
        self._ahead = None
        self._ready = deque()
        self._ended = False
        self._started = False
        self._damaged_at_s: float | None = None
        """Where undecodable data began; None again from the next keyframe on."""
        self._damage: tuple[float, float] | None = None

    def to(self, time_s: float):
        wanted_s = time_s + SAME_TIME_S
        if self._ahead is None or self._ahead[1] <= wanted_s:
            self._jump_if_worth(time_s)
            self._walk_on(wanted_s)
        if self._shown is None:
            if self._ahead is None:
                self.check_end(time_s, None)
            # Only the first frame can lie after a wanted time that is not negative: damage took what was before it.
            raise corrupt(
                time_s,
                self._ahead[1],
                f"asked for the frame at {time_s:.3f} s, got none before {self._ahead[1]:.3f} s that decodes",
            )
        frame, shown_s = self._shown
        if self._ended and self._ahead is None:
            self.check_end(time_s, shown_s)
        if time_s - shown_s > STALE_S:
            self._check_stale(time_s, shown_s)
        return frame, shown_s

    def _check_stale(self, time_s: float, shown_s: float) -> None:
        """An old frame is right where the recorder wrote none since, and damage where what it wrote gave none."""
        lost = sum(shown_s < read_s <= time_s for read_s in self.read_times_s)
        started_s, stopped_s = self._damage or (float("inf"), float("inf"))
        if lost > LONGEST_SKIPPED_RUN or started_s <= time_s < stopped_s:
            next_s = self._ahead[1] if self._ahead else None
            what = f"asked for the frame at {time_s:.3f} s, but after {shown_s:.3f} s nothing decodes cleanly"
            raise corrupt(shown_s + self._frame_s, next_s, what)

    def _walk_on(self, wanted_s: float) -> None:
        while True:
            if self._ahead is None:
                self._ahead = self._next_frame()
                if self._ahead is None:
                    return
            if self._ahead[1] > wanted_s:
                return
            self._shown, self._ahead = self._ahead, None

    def _jump_if_worth(self, time_s: float) -> None:
        video = self.video
        if not self._started:
            self._started = True
            self._restart(time_s)
            return
        position_s = (self._ahead or self._shown or (None, 0.0))[1]
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
        self._fresh_decoder()
        early = self.video.ticks(self.video.seconds(key) - self._frame_s / 2)
        while (packet := self.next_packet()) is not None:
            if packet.is_keyframe and packet.pts is not None and packet.pts >= early:
                if packet.pts > self.video.ticks(time_s + SAME_TIME_S):
                    break
                self.packets = chain(packet, self.packets)
                return
        self._restart(time_s)

    def _restart(self, time_s: float) -> None:
        self._forget()
        self.start_before(time_s, self.index.before(self.video.ticks(time_s + SAME_TIME_S)))

    def _forget(self) -> None:
        self._shown = self._ahead = self._damaged_at_s = self._damage = None
        self._ready.clear()
        if self._need:
            self._need.clear()
        self._ended = False
        self._last_s = float("-inf")

    def _next_frame(self):
        """The next clean frame and its time; None at the end of the data."""
        while not self._ready:
            if self._ended:
                return None
            packet, wanted = self._need.next(self.next_packet) if self._need else (self.next_packet(), True)
            self._ended = packet is None
            if self._need and self._intra_only and not wanted:
                continue
            if self._need:
                self.video.stream.codec_context.skip_frame = "DEFAULT" if wanted else "NONREF"
            frames = self.video.decode(packet)
            if frames is None:
                self._note_damage(packet)
                continue
            for frame in frames:
                self._sort_out(frame)
        return self._ready.popleft()

    def _sort_out(self, frame) -> None:
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
            self._ready.append((frame, shown_s))

    def _note_damage(self, packet) -> None:
        pts = packet.pts if packet is not None and packet.pts is not None else None
        if self._damaged_at_s is None:
            self._damaged_at_s = self.video.seconds(pts) if pts is not None else self.read_end_s
            self._damage = (self._damaged_at_s, float("inf"))


class KeyframeWalk(Walk):
    """Keyframes only: each is fetched by its own seek where there is an index, else found by reading on."""

    skip_frame = "NONKEY"

    def __init__(self, video: VideoFile):
        super().__init__(video)
        self._indexed_pts: int | None = None
        self._key = None
        self._next_key = None
        self._shown = None

    def to(self, time_s: float):
        pts = self.video.ticks(time_s + SAME_TIME_S)
        key_pts = self.index.decoded_before(pts)
        if key_pts is None:
            self._read_on(time_s, pts)
        elif key_pts != self._indexed_pts:
            self._fetch(time_s, key_pts)
        return self._shown

    def _fetch(self, time_s: float, key_pts: int) -> None:
        landed = self.start_before(time_s, key_pts)
        self._shown = self._decode_alone(self.next_packet(), time_s)
        self._indexed_pts = key_pts if landed else None  # a keyframe that is shown after this time may be the next's
        if self.ran_out:
            self.check_end(time_s, self._shown[1])

    def _read_on(self, time_s: float, pts: int) -> None:
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
            self.check_end(time_s, self._shown[1])

    def _read_key(self):
        while (packet := self.next_packet()) is not None:
            if packet.is_keyframe:
                return packet
        return None

    def _decode_alone(self, packet, time_s: float):
        if packet is None:
            self.check_end(time_s, None)
        if time_of(packet) < self.video.origin:
            return self.video.first_frame, 0.0  # an edit list begins between keyframes: this one is never displayed
        self._fresh_decoder()
        frames = [*(self.video.decode(packet) or ()), *(self.video.decode(None) or ())]
        self._fresh_decoder()
        clean = [frame for frame in frames if not frame.is_corrupt and pts_of(frame) is not None]
        if not clean:
            at_s = self.video.seconds(time_of(packet))
            what = f"asked for the keyframe before {time_s:.3f} s, but the one at {at_s:.3f} s does not decode"
            raise corrupt(at_s, None, what)
        return clean[0], self.video.seconds(pts_of(clean[0]))


LOOK_AHEAD = 17
"""Packets: H.264 and HEVC show a frame at most 16 places after the one it is decoded with."""


class PacketsByNeed:
    """Packets in decoding order, each with whether its own picture is wanted.

    ``wanted_s``: rising times. A picture is shown from its pts until the next one's, which is known once all
    packets that could be shown before it are read.
    """

    def __init__(self, video: VideoFile, wanted_s: np.ndarray):
        self._seconds = video.seconds
        self._wanted_s = wanted_s.tolist()
        self._waiting = deque()
        self._near_pts = deque(maxlen=2 * LOOK_AHEAD + 2)
        self._last = True

    def clear(self) -> None:
        """Forgets what was read ahead: the container has been sent elsewhere."""
        self._waiting.clear()
        self._near_pts.clear()

    def next(self, read: Callable):
        """(packet, wanted), or (None, True) at the end; ``read()`` gives the next packet of the container or None."""
        while len(self._waiting) <= LOOK_AHEAD and (packet := read()) is not None:
            self._waiting.append(packet)
            if packet.pts is not None:
                self._near_pts.append(packet.pts)
        if not self._waiting:
            return None, True
        packet = self._waiting.popleft()
        if packet.pts is not None:  # else the second field of the picture before
            self._last = self._is_wanted(packet.pts)
        return packet, self._last

    def _is_wanted(self, pts: int) -> bool:
        next_pts = min((other for other in self._near_pts if other > pts), default=None)
        first = bisect_left(self._wanted_s, self._seconds(pts))
        if first == len(self._wanted_s):
            return False
        return next_pts is None or self._wanted_s[first] < self._seconds(next_pts)


def has_presentation_times(video: VideoFile) -> bool:
    """Whether each packet's pts is its picture's: not in AVI and MPEG-PS, except where the order is the same."""
    return video.stream.codec_context.codec.intra_only or video.container.format.name in (
        "mov,mp4,m4a,3gp,3g2,mj2",
        "matroska,webm",
        "mpegts",
    )
