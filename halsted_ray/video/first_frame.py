"""The first displayed frame of a video, which may lie far behind the first byte."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING

from av import VideoFrame

from halsted_ray.errors import UnreadableVideo
from halsted_ray.video.packet_times import pts_of

if TYPE_CHECKING:
    from halsted_ray.video.container import VideoFile, VideoPacket

REORDERED_PACKETS = 18
"""Packets that are read to know which frame is displayed first: H.264 and HEVC move a frame by at most 16 places."""

SEARCHED_BYTES = 256 * 1024 * 1024
SEARCHED_S = 600.0
"""So far a first picture is searched for; where nothing up to there decodes, the file counts as undecodable. A
recording may begin with minutes of sound, or far from a keyframe."""


def decode_first_frame(video: VideoFile) -> tuple[VideoFrame, int | None]:
    """(the first displayed frame, which has a time; the pts of the first keyframe, None where there is none).

    Mostly that is the first keyframe. Then the keyframe is decoded alone: to feed the decoder until it gives the
    frame out by itself would cost three frames more, 40 ms of 1080p. Raises UnreadableVideo.
    """
    packets = video.packets()
    first_key_pts: int | None = None
    head, key = _up_to_first_keyframe(packets)
    if key is not None:
        first_key_pts = key.pts
        if _comes_first(key, head):
            frames = [*(video.decode(key) or ()), *(video.decode(None) or ())]
            video.stream.codec_context.flush_buffers()
            if frames and frames[0].pts == key.pts and not frames[0].is_corrupt:
                return frames[0], first_key_pts
    searched_bytes = 0
    started = head[0].dts if head else None
    for packet in chain(head, packets):
        if packet.is_keyframe and first_key_pts is None:
            first_key_pts = packet.pts
        for frame in video.decode(packet) or ():
            if pts_of(frame) is not None:
                return frame, first_key_pts
        searched_bytes += packet.size
        searched = packet.dts - started if packet.dts is not None and started is not None else 0
        if searched_bytes > SEARCHED_BYTES or searched > SEARCHED_S / video.time_base:
            raise UnreadableVideo(
                f"expected a picture within the first {SEARCHED_BYTES >> 20} MB and {SEARCHED_S:.0f} s of "
                f"{video.stream.codec_context.name}, got none that decodes: the copy is damaged, or the file is "
                "encrypted; copy or export it again"
            )
    for frame in video.decode(None) or ():
        if pts_of(frame) is not None:
            return frame, first_key_pts
    raise UnreadableVideo(
        f"expected frames in the {video.stream.codec_context.name} stream, got none to the end of the file; "
        "the recording holds no picture, or the copy is damaged"
    )


def _up_to_first_keyframe(packets: Iterator[VideoPacket]) -> tuple[list[VideoPacket], VideoPacket | None]:
    """(packets, the first keyframe among them), read until no later packet can be displayed before that keyframe.

    A packet is displayed when it is decoded, or later.
    """
    head: list[VideoPacket] = []
    key: VideoPacket | None = None
    for packet in islice(packets, REORDERED_PACKETS):
        head.append(packet)
        key = key or (packet if packet.is_keyframe else None)
        if key and key.pts is not None and packet.dts is not None and packet.dts >= key.pts:
            break
    return head, key


def _comes_first(key: VideoPacket, head: list[VideoPacket]) -> bool:
    """Whether a keyframe is displayed at all, and before all other packets of ``head``."""
    if key.pts is None or key.is_discard:
        return False
    return all(packet.pts is not None and packet.pts > key.pts for packet in head if packet is not key)
