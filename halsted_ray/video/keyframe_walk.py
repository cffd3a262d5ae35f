"""The last keyframes at wanted times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from halsted_ray.video.container import VideoFile
from halsted_ray.video.display_walk import DisplayWalk
from halsted_ray.video.frames import SAME_TIME_S, Missing
from halsted_ray.video.libav_decoder import Decoder
from halsted_ray.video.packet_times import pts_of, time_of
from halsted_ray.video.walk import ShownFrame, Walk, unrecorded


class KeyframeWalk(Walk):
    """Gives the last keyframe at or before each time, each by a seek."""

    skip_frame = "NONKEY"

    def __init__(self, video: VideoFile, times_s: NDArray[np.float64], decoder: Decoder | None = None):
        super().__init__(video, decoder)
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
            self._display = DisplayWalk(self.video, "reference", self._times_s, self.decoder)
            return self._display.to(time_s)
        if not self.index.lists_all_frames and time_s - self._shown.shown_s > self.hole_s:
            # Only the packets tell whether frames were recorded since.
            self._display = DisplayWalk(self.video, "reference", self._times_s, self.decoder)
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
        frames = [*(self.decoder.decode(packet) or ()), *(self.decoder.decode(None) or ())]
        self._reset_decoder()
        for frame in frames:
            frame_pts = pts_of(frame)
            if frame_pts is not None and not frame.is_corrupt:
                return ShownFrame(frame, self.video.seconds(frame_pts))
        return None
