"""Whether a packet holds a coded picture at all, by the headers of its units.

Where libavcodec is told to leave out pictures that no other picture refers to, it also leaves out packets that were
overwritten by zeros or noise, and reports nothing: such a packet reads like one to leave out. The pictures after it are
then made from wrong references. So a packet is looked at before it is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

    from halsted_ray.video.container import VideoPacket

SMALL_BYTES = 256
"""A smaller packet may hold parameter sets, a message or a delimiter and no picture."""


class PictureCheck:
    """Tells for the packets of one stream whether each holds a picture.

    True for codecs whose units it does not know, and until a first packet was seen that it understands: a container may
    hold the units in another form than it says.
    """

    def __init__(self, context: VideoCodecContext):
        codec = context.name
        self._kind_of = {"h264": _h264_kind, "hevc": _hevc_kind}.get(codec)
        self._start_code = {"mpeg1video": b"\0\0\1\0", "mpeg2video": b"\0\0\1\0"}.get(codec)
        self._length_bytes = length_bytes(codec, bytes(context.extradata or b""))
        self._understands = False

    def __call__(self, packet: VideoPacket) -> bool:
        """Whether the packet holds the beginning of a picture."""
        if self._kind_of is None and self._start_code is None:
            return True
        found = self._holds_picture(bytes(packet))
        self._understands = self._understands or found
        return found or not self._understands

    def _holds_picture(self, data: bytes) -> bool:
        if self._kind_of is None:
            assert self._start_code is not None
            return self._start_code in data or len(data) < SMALL_BYTES
        for header in _after_lengths(data, self._length_bytes) if self._length_bytes else _after_start_codes(data):
            kind = self._kind_of(header)
            if kind == "slice":
                return True
            if kind == "none":
                return False
        return len(data) < SMALL_BYTES and (self._length_bytes > 0 or b"\0\0\1" in data)


def length_bytes(codec: str, extradata: bytes) -> int:
    """How many bytes state the length of each unit, 0 where start codes stand between the units (boxes avcC and hvcC of
    ISO/IEC 14496-15)."""
    if codec == "h264" and len(extradata) > 6 and extradata[0] == 1:
        return (extradata[4] & 3) + 1
    if codec == "hevc" and len(extradata) > 22 and extradata[:3] not in (b"\0\0\0", b"\0\0\1"):
        return (extradata[21] & 3) + 1
    return 0


def _after_lengths(data: bytes, length_bytes: int) -> Iterator[bytes]:
    """The first two bytes of each unit."""
    at = 0
    while at + length_bytes + 1 < len(data):
        yield data[at + length_bytes : at + length_bytes + 2]
        at += length_bytes + int.from_bytes(data[at : at + length_bytes], "big")


def _after_start_codes(data: bytes) -> Iterator[bytes]:
    """The first two bytes of each unit."""
    at = data.find(b"\0\0\1")
    while 0 <= at < len(data) - 4:
        yield data[at + 3 : at + 5]
        at = data.find(b"\0\0\1", at + 3)


def _h264_kind(header: bytes) -> str:
    """slice, other, or none of both (H.264, 7.4.1: the forbidden bit, nal_ref_idc and nal_unit_type)."""
    kind, refers = header[0] & 31, header[0] >> 5
    if header[0] >= 128 or kind in (0, 2, 3, 4) or (kind == 5 and not refers):
        return "none"
    return "slice" if kind in (1, 5) else "other"


def _hevc_kind(header: bytes) -> str:
    """slice, other, or none of both (H.265, 7.4.2.2: the forbidden bit, nal_unit_type and nuh_temporal_id_plus1)."""
    kind, layer = header[0] >> 1, (header[0] & 1) << 5 | header[1] >> 3
    if header[0] >= 128 or not header[1] & 7 or 10 <= kind <= 15 or 22 <= kind <= 31:
        return "none"
    return "slice" if kind <= 21 and not layer else "other"
