"""The times of packets and frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from halsted_ray.video.container import VideoPacket
    from halsted_ray.video.libav_decoder import DecodedFrame


def pts_of(frame: DecodedFrame) -> int | None:
    """The time at which a frame is displayed, in ticks; None where it has no time.

    AVI and some elementary streams have decoding times only. libavcodec brings these into display order.
    """
    return frame.pts if frame.pts is not None else frame.dts


def time_of(packet: VideoPacket) -> int:
    """A packet's presentation time in ticks, else its decoding time; without either, later than all other packets."""
    times = (time for time in (packet.pts, packet.dts) if time is not None)
    return next(times, 1 << 62)


def put_back(packet: VideoPacket, rest: Iterator[VideoPacket]) -> Iterator[VideoPacket]:
    """``packet``, then the packets that follow it."""
    yield packet
    yield from rest


def moved(packets: Iterator[VideoPacket], ticks: int) -> Iterator[VideoPacket]:
    """``packets`` with ``ticks`` added to their times."""
    for packet in packets:
        if packet.pts is not None:
            packet.pts += ticks
        if packet.dts is not None:
            packet.dts += ticks
        yield packet
