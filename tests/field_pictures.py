"""H.264 in field pictures (PAFF), as camcorders and recorders write 1080i: two pictures per frame, one for each field.

No encoder at hand writes these, so the bits are put together here: every macroblock is stored as it is (I_PCM).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE, GOP = 25, 6


class Bits:
    """A string of bits, written as H.264 writes them."""

    def __init__(self) -> None:
        self.text = ""

    def u(self, value: int, count: int) -> Bits:
        """``count`` bits."""
        self.text += format(value, f"0{count}b")
        return self

    def ue(self, *values: int) -> Bits:
        """Numbers in Exp-Golomb code."""
        for value in values:
            code = format(value + 1, "b")
            self.text += "0" * (len(code) - 1) + code
        return self

    def whole(self, stop: str = "") -> bytes:
        """The bits with ``stop``, filled up to a byte."""
        text = self.text + stop
        text += "0" * (-len(text) % 8)
        return bytes(int(text[n : n + 8], 2) for n in range(0, len(text), 8))


def unit(reference: int, kind: int, payload: bytes) -> bytes:
    """A NAL unit with its start code; three bytes that look like a start code are kept apart."""
    escaped, zeros = bytearray(), 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return b"\0\0\0\1" + bytes([reference << 5 | kind]) + bytes(escaped)


def headers(width: int, height: int) -> bytes:
    """Sequence and picture parameters: Main profile, frame_mbs_only_flag 0, picture order counts of 8 bits."""
    sequence = Bits().u(77, 8).u(0, 8).u(30, 8).ue(0, 0, 0, 4, 2).u(0, 1)
    sequence.ue(width // 16 - 1, height // 32 - 1).u(0b00100, 5)
    picture = Bits().ue(0, 0).u(0b01, 2).ue(0, 0, 0).u(0, 3).ue(0, 0, 0).u(0, 3)
    return unit(3, 7, sequence.whole("1")) + unit(3, 8, picture.whole("1"))


def field(grey: np.ndarray, bottom: int, idr: bool, reference: bool, frame_number: int, order: int) -> bytes:
    """One field as a picture of its own."""
    head = Bits().ue(0, 7, 0).u(frame_number % 16, 4).u(1, 1).u(bottom, 1)
    if idr:
        head.ue(0)
    head.u(order % 256, 8)
    if reference:
        head.u(0, 2 if idr else 1)
    head.ue(0)
    body = bytearray()
    for y in range(0, grey.shape[0], 16):
        for x in range(0, grey.shape[1], 16):
            body += head.ue(25).whole() + grey[y : y + 16, x : x + 16].tobytes() + bytes([128] * 128)
            head = Bits()
    return unit(int(reference), 5 if idr else 1, bytes(body + head.whole("1")))


def write(path: str | Path, frames: Sequence[np.ndarray], fields: str, timed: str) -> Path:
    """Writes interlaced ``frames`` (uint8 [H, W], H in 32s and W in 16s); every second one is no reference.

    ``timed``: ``each`` field has a time of its own, only the ``first``, or both lie in ``one`` packet.
    """
    height, width = frames[0].shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        number = 0
        for count, frame in enumerate(frames):
            place = count % GOP
            reference = place == 0 or place % 2 == 0
            number = 0 if place == 0 else number
            parts = []
            for second in (0, 1):
                bottom = second if fields == "tff" else 1 - second
                rows = np.ascontiguousarray(frame[bottom::2])
                idr = place == 0 and not second
                coded = field(rows, bottom, idr, reference, number, 2 * place + second)
                parts.append(b"\0\0\0\1\x09\xf0" + (headers(width, height) if idr else b"") + coded)
            number += reference
            packets = [(parts[0] + parts[1], 0)] if timed == "one" else [(parts[0], 0), (parts[1], 1)]
            for data, second in packets:
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, Fraction(1, 2 * RATE)
                if not second or timed == "each":
                    packet.pts = packet.dts = 2 * count + second
                packet.is_keyframe = place == 0 and not second
                container.mux(packet)
    return Path(path)
