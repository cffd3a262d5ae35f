"""Frames in display order, for the fidelities ``exact`` and ``reference``."""

from __future__ import annotations

from collections import deque

import numpy as np

from halsted_ray.video.container import VideoFile, pts_of
from halsted_ray.video.need import PacketsByNeed, has_presentation_times
from halsted_ray.video.walk import SAME_TIME_S, STALE_S, Walk, chain, corrupt

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
