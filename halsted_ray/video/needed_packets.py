"""Which packets must be decoded for wanted times, and which can be left out."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from halsted_ray.video.container import VideoFile

if TYPE_CHECKING:
    from halsted_ray.video.container import VideoPacket

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
