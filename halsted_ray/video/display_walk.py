"""The frames displayed at wanted times: what is decoded on the way, and which of these times have no picture."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from halsted_ray.video.container import VideoFile
from halsted_ray.video.frames import SAME_TIME_S, Missing
from halsted_ray.video.libav_decoder import DecodedFrame, Decoder
from halsted_ray.video.needed_packets import NeededPackets
from halsted_ray.video.packet_times import pts_of, put_back
from halsted_ray.video.slices import PictureCheck
from halsted_ray.video.walk import RETREATS, ShownFrame, Walk, missing, unrecorded

if TYPE_CHECKING:
    from halsted_ray.video.container import VideoPacket

LONG_LEAD_S = 30.0
"""Where decoding begins more than this before the wanted time, whoever waits is told."""

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
    only frames that others refer to; ``all`` decodes every frame, for ``frames``.
    """

    def __init__(self, video: VideoFile, fidelity: str, times_s: NDArray[np.float64], decoder: Decoder | None = None):
        super().__init__(video, decoder)
        self._intra_only = video.stream.codec_context.codec.intra_only
        self._needed: NeededPackets | None = None
        fields = video.first_frame.interlaced_frame and video.stream.codec_context.name in FIELD_BY_FIELD
        picks = fidelity != "all" and (fidelity == "exact" or self._intra_only)
        if video.has_presentation_times and picks and not fields:
            self._needed = NeededPackets(video, times_s + SAME_TIME_S)
        self._is_avi = video.container.format.name == "avi" and not self._intra_only
        leaves_out = fidelity == "reference" and not self.settles_s and not self._is_avi
        self.skip_frame = "NONREF" if leaves_out else "DEFAULT"
        self._last_s = float("-inf")
        """The time of the last frame that the decoder gave out."""
        self._first_s = float("inf")
        """The time of the first clean frame since decoding began anew."""
        self._start_pts: int | None = None
        self._first_dts: int | None = None
        """The keyframe at which decoding began, and the time of the packet that brought out the first frame."""
        self._refreshes = False
        """Whether the keyframes are recovery points: pictures are whole only some time after them."""
        self._shown: ShownFrame | None = None
        self._ahead: ShownFrame | None = None
        """The frame displayed now, and the frame after it where that is decoded already."""
        self._ready: deque[ShownFrame] = deque()
        self._ended = False
        self._started = False
        self._holds_picture = PictureCheck(video.stream.codec_context)
        self._sound_pts: deque[int] = deque(maxlen=2 * LONGEST_SKIPPED_RUN)
        """Of the last packets before any damage. The decoder may give out their frames after damage was noticed."""
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

    def frames(self, start_s: float, stop_s: float) -> Iterator[ShownFrame]:
        """Every frame that is displayed in [start_s, stop_s), in order: first the one that a player shows at
        ``start_s``, which in a span without pictures is the last one before. Behind the end of the data there is none.
        For the fidelity ``all``."""
        first = self.to(start_s)
        if self._shown is not None and (isinstance(first, ShownFrame) or self._ahead is not None):
            yield self._shown
        while True:
            following = self._ahead or self._next_frame()
            self._ahead = following
            if following is None or following.shown_s >= stop_s - SAME_TIME_S:
                return
            self._shown, self._ahead = following, None
            yield following

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
        for before_s, after_s in pairwise([shown_s, *reads_s[:by_now]]):
            if after_s - before_s > self.hole_s:  # and no frame after this hole was decoded by now
                return unrecorded(before_s + self.frame_s, next_s)
        last_s = reads_s[by_now - 1] if by_now else shown_s
        following_s = reads_s[by_now] if by_now < len(reads_s) else next_s
        if following_s - last_s > self.hole_s and not (self._ended and following_s == float("inf")):
            if time_s >= last_s + self.frame_s:
                return unrecorded(last_s + self.frame_s, following_s)
        elif self._ended and self._ahead is None and (past_end := self.ended(time_s, shown_s)):
            return past_end
        if time_s - shown_s > max(self.hole_s, (LONGEST_SKIPPED_RUN + 1) * self.frame_s):
            # The times of the packets say otherwise, but they are damaged: no frame stands so long.
            return unrecorded(shown_stop_s, next_s)
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
            lead_s = time_s - (self.video.seconds(key) if key is not None else 0.0)
            if lead_s > LONG_LEAD_S:
                self.video.tell_lead(lead_s)
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
        self._sound_pts.clear()
        self._ready.clear()
        self.read_times_s.clear()
        if self._needed:
            self._needed.clear()
        self._ended = False
        self._last_s = float("-inf")
        self._first_s = float("inf")
        self._start_pts = self._first_dts = None

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
                self.decoder.leave_out("DEFAULT" if wanted else "NONREF")
            if packet is not None and not self._holds_picture(packet):
                self._note_damage(packet)
                continue
            if self._start_pts is None and packet is not None and packet.is_keyframe:
                self._start_pts = packet.pts
            frames = self.decoder.decode(packet)
            if frames is None:
                self._note_damage(packet)
                continue
            if packet is not None and packet.pts is not None:
                if not self._is_damaged:
                    self._sound_pts.append(packet.pts)
                elif not packet.is_keyframe:
                    self._note_damage(packet)  # it may be displayed before the lost picture, and refer to it
            for frame in frames:
                self._sort_out(frame)
        return self._ready.popleft()

    def _sort_out(self, frame: DecodedFrame) -> None:
        """Puts a clean frame among the frames that are ready; notes where damage begins and ends."""
        pts = pts_of(frame)
        if pts is None:
            return
        shown_s = self.video.seconds(self._displayed(frame, pts))
        is_sound = pts in self._sound_pts and not frame.is_corrupt
        if frame.key_frame and not frame.is_corrupt:
            if self._is_damaged and not is_sound:
                self._damages[-1] = (self._damages[-1][0], shown_s)
        elif frame.is_corrupt and not self._is_damaged:
            self._damages.append((shown_s, float("inf")))
            self._sound_pts.clear()
        if self._is_damaged and not is_sound:
            return  # after a loss the decoder need not even give out its frames in order
        if shown_s <= self._last_s:
            shown_s = self._last_s + self.frame_s
        self._last_s = shown_s
        self._first_s = min(self._first_s, shown_s)
        self._ready.append(ShownFrame(frame, shown_s))

    def _displayed(self, frame: DecodedFrame, pts: int) -> int:
        """The time of display of a frame whose time is ``pts`` by libavcodec, in ticks.

        AVI states no times. libavformat gives each packet the time of its place in the file, which is not its place on
        the screen where pictures are reordered. The decoder gives frames out in the order of display, each with the
        time of the packet that brought it out; so they are counted on from the keyframe where decoding began.
        """
        if not self._is_avi or frame.dts is None or self._start_pts is None:
            return pts
        if self._first_dts is None:
            self._first_dts = frame.dts
        return self._start_pts + frame.dts - self._first_dts

    @property
    def _is_damaged(self) -> bool:
        """Whether undecodable data came since the last keyframe."""
        return bool(self._damages) and self._damages[-1][1] == float("inf")

    def _note_damage(self, packet: VideoPacket | None) -> None:
        self.decoder.note_damage()
        pts = packet.pts if packet is not None and packet.pts is not None else None
        at_s = self.video.seconds(pts) if pts is not None else self.read_end_s
        if not self._is_damaged:
            self._damages.append((at_s, float("inf")))
        elif at_s < self._damages[-1][0]:
            self._damages[-1] = (at_s, float("inf"))
