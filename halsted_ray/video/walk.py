"""Through one video to wanted times: where to seek, what was read, where the data end."""

from __future__ import annotations

from collections import deque

import av.error

from halsted_ray.errors import CorruptSegment
from halsted_ray.video.container import VideoFile
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
