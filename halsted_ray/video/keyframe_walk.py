"""Keyframes, for the fidelity ``keyframes``."""

from __future__ import annotations

from halsted_ray.video.container import VideoFile, pts_of
from halsted_ray.video.walk import SAME_TIME_S, Walk, corrupt, time_of


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
