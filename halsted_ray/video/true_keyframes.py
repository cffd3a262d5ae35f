"""Whether a packet of an MP4 is a keyframe, told from its own bytes.

An MP4 without a table of keyframes claims that every frame is a keyframe, and so do some tables. For H.264 and VP9
libavformat looks into the packets; for these codecs it believes the claim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

    from halsted_ray.video.container import VideoPacket

HEVC_RANDOM_ACCESS = range(16, 24)
"""The types of HEVC's units that begin a keyframe (H.265, table 7-1: BLA, IDR, CRA and two reserved types)."""
HEAD_BYTES = 4096


def is_marked_key(packet: VideoPacket) -> bool:
    """Whether libavformat says that a packet is a keyframe."""
    return bool(packet.is_keyframe)


def keyframe_test(context: VideoCodecContext) -> Callable[[VideoPacket], bool]:
    """The function that says of a packet whether it is a keyframe; where the codec is not known here, what libavformat
    says."""
    looks_into = {"hevc": _hevc_test(context), "mpeg4": _is_mpeg4_key, "mpeg2video": _is_mpeg2_key}.get(context.name)
    if looks_into is None:
        return is_marked_key
    return lambda packet: bool(packet.is_keyframe) and looks_into(bytes(memoryview(packet)[:HEAD_BYTES]), packet.size)


def _hevc_test(context: VideoCodecContext) -> Callable[[bytes, int], bool]:
    """HEVC's units stand behind their lengths, whose width is in the header (ISO/IEC 14496-15, 8.3.3), or behind start
    codes."""
    header = context.extradata or b""
    width = (header[21] & 3) + 1 if len(header) > 21 and header[0] == 1 else 0

    def is_key(data: bytes, size: int) -> bool:
        at = 0 if width else max(data.find(b"\0\0\1"), 0)
        start = width or 3
        while at + start < len(data):
            kind = data[at + start] >> 1 & 0x3F
            if kind < 32:  # a slice; parameter sets and messages stand before it
                return kind in HEVC_RANDOM_ACCESS
            if width:
                at += width + int.from_bytes(data[at : at + width], "big")
            elif (at := data.find(b"\0\0\1", at + start)) < 0:
                break
        return size > len(data)  # nothing but long messages in sight: believe the claim

    return is_key


def _is_mpeg4_key(data: bytes, _size: int) -> bool:
    """MPEG-4 part 2: the first picture (VOP) is coded alone."""
    at = data.find(b"\0\0\1\xb6")
    return at < 0 or at + 4 >= len(data) or data[at + 4] >> 6 == 0


def _is_mpeg2_key(data: bytes, _size: int) -> bool:
    """MPEG-2: the first picture is an I picture."""
    at = data.find(b"\0\0\1\0")
    return at < 0 or at + 5 >= len(data) or data[at + 5] >> 3 & 7 == 1
