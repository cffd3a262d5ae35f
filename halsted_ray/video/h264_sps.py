"""What a stream's parameter sets say of its pictures beyond their size: the units that begin a packet in Annex B form,
and of H.264 whether pictures may be interlaced and where the shown part of them begins (H.264, 7.3.2.1.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
"""Profiles whose parameter set states the sampling of colour and the depth."""

SPS = {"h264": 7, "hevc": 33}
"""The type of the unit that is a sequence parameter set."""


@dataclass(frozen=True)
class H264Sequence:
    """``frames_only``: no picture is interlaced. ``left``, ``top``: what is cut off there, in units of the crop."""

    frames_only: bool
    left: int
    top: int


def parameter_sets(data: bytes, codec: str) -> Iterator[bytes]:
    """The sequence parameter sets in a packet in Annex B form, each without its start code. They stand before the
    picture, so nothing after its first slice is looked at."""
    at = data.find(b"\0\0\1")
    while 0 <= at < len(data) - 4:
        header = data[at + 3]
        kind = header & 31 if codec == "h264" else header >> 1 & 63
        if (1 <= kind <= 5) if codec == "h264" else kind < 32:
            return
        stop = data.find(b"\0\0\1", at + 3)
        if kind == SPS[codec]:
            yield data[at + 3 : stop if stop >= 0 else len(data)].rstrip(b"\0")
        at = stop


def h264_sequence(unit: bytes) -> H264Sequence:
    """What an H.264 sequence parameter set says. Raises ValueError where it ends too early."""
    bits = _Bits(unit[1:].replace(b"\0\0\3", b"\0\0"))
    profile = bits.number(8)
    bits.number(16)  # constraints and level
    bits.unsigned()  # its id
    chroma = 1
    if profile in HIGH_PROFILES:
        chroma = bits.unsigned()
        if chroma == 3:
            bits.number(1)
        bits.unsigned(), bits.unsigned(), bits.number(1)  # depths of luma and colour, lossless
        if bits.number(1):
            for number in range(8 if chroma != 3 else 12):
                if bits.number(1):
                    _skip_scaling_list(bits, 16 if number < 6 else 64)
    bits.unsigned()  # frame numbers
    order = bits.unsigned()
    if order == 0:
        bits.unsigned()
    elif order == 1:
        bits.number(1), bits.signed(), bits.signed()
        for _ in range(bits.unsigned()):
            bits.signed()
    bits.unsigned(), bits.number(1), bits.unsigned(), bits.unsigned()  # references, gaps, width, height
    frames_only = bool(bits.number(1))
    if not frames_only:
        bits.number(1)
    bits.number(1)
    left = top = 0
    if bits.number(1):
        left, _right, top, _bottom = (bits.unsigned() for _ in range(4))
    return H264Sequence(frames_only, left, top)


def _skip_scaling_list(bits: _Bits, length: int) -> None:
    last = following = 8
    for _ in range(length):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


class _Bits:
    """Reads numbers from bytes, bit by bit (H.264, 9.1)."""

    def __init__(self, data: bytes):
        self._bits = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def number(self, count: int) -> int:
        """The next ``count`` bits as one number."""
        self._left -= count
        if self._left < 0:
            raise ValueError("expected a whole sequence parameter set, got a part of one")
        return self._bits >> self._left & ((1 << count) - 1)

    def unsigned(self) -> int:
        """An Exp-Golomb number."""
        zeros = 0
        while not self.number(1):
            zeros += 1
        return (1 << zeros) - 1 + self.number(zeros)

    def signed(self) -> int:
        """A signed Exp-Golomb number."""
        value = self.unsigned()
        return (value + 1) // 2 if value % 2 else -(value // 2)
