"""The parts of which a file is made, container by container, and the time stamps in it.

The parsers read whole files and files that were mangled already: where a size makes no sense, they stop.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Piece:
    """``data[start:stop]`` is one part of a file; what follows its head begins at ``body``.

    ``size`` and ``kind`` are [start, stop) of the fields in its head that say how long it is and what it is; empty
    where it has no such field. ``parents`` are the size fields of the pieces that it lies in.
    """

    name: str
    start: int
    stop: int
    body: int
    size: tuple[int, int]
    kind: tuple[int, int]
    parents: tuple[tuple[int, int], ...] = ()
    big_endian: bool = True


MP4_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta", b"mvex", b"moof", b"traf"}


def mp4_pieces(
    data: bytes, start: int = 0, stop: int | None = None, parents: tuple[tuple[int, int], ...] = ()
) -> Iterator[Piece]:
    """Boxes, with the boxes in them."""
    stop = len(data) if stop is None else stop
    while start + 8 <= stop:
        size = int.from_bytes(data[start : start + 4], "big")
        if size < 8 or start + size > stop:
            return
        name = data[start + 4 : start + 8]
        here = (start, start + 4)
        yield Piece(_text(name), start, start + size, start + 8, here, (start + 4, start + 8), parents)
        if name in MP4_PARENTS:
            yield from mp4_pieces(data, start + 8, start + size, (*parents, here))
        start += size


EBML_PARENTS = {
    bytes.fromhex(name)
    for name in "18538067 1549a966 1654ae6b ae e0 e1 1f43b675 a0 1c53bb6b bb b7 114d9b74 4dbb 1254c367 7373".split()
}


def mkv_pieces(
    data: bytes, start: int = 0, stop: int | None = None, parents: tuple[tuple[int, int], ...] = ()
) -> Iterator[Piece]:
    """EBML elements, with the elements in them."""
    stop = len(data) if stop is None else stop
    while start + 2 <= stop:
        lead = 9 - data[start].bit_length()
        if lead > 4 or start + lead >= stop:
            return
        at = start + lead
        width = 9 - data[at].bit_length()
        if width > 8 or at + width > stop:
            return
        size = int.from_bytes(data[at : at + width], "big") - (1 << 7 * width)
        body = at + width
        end = stop if size == (1 << 7 * width) - 1 else body + size
        if end > stop:
            return
        name = data[start:at]
        yield Piece(name.hex(), start, end, body, (at, body), (start, at), parents)
        if name in EBML_PARENTS:
            yield from mkv_pieces(data, body, end, (*parents, (at, body)))
        start = end


def ts_pieces(data: bytes, lead: int = 0) -> Iterator[Piece]:
    """Packets of 188 bytes, with ``lead`` bytes before each; "kind" is the PID."""
    length = 188 + lead
    for start in range(0, len(data) - length + 1, length):
        at = start + lead
        yield Piece("packet", start, start + length, at + 4, (at + 4, at + 5), (at + 1, at + 3))


def m2ts_pieces(data: bytes) -> Iterator[Piece]:
    """As ``ts_pieces``, of a camcorder's transport stream."""
    return ts_pieces(data, 4)


def ps_pieces(data: bytes) -> Iterator[Piece]:
    """Packs, system headers and packets of elementary streams, from one start code to the next."""
    starts = []
    at = data.find(b"\x00\x00\x01")
    while 0 <= at and at + 4 <= len(data):
        if data[at + 3] >= 0xB9:
            starts.append(at)
            skip = 4
            if data[at + 3] >= 0xBB and at + 6 <= len(data):  # has a length: what is in it holds start codes too
                skip = 6 + int.from_bytes(data[at + 4 : at + 6], "big")
            at = data.find(b"\x00\x00\x01", at + skip)
        else:
            at = data.find(b"\x00\x00\x01", at + 4)
    for start, stop in pairwise([*starts, len(data)]):
        size = (start + 4, start + 6) if data[start + 3] >= 0xBB else (start, start)
        yield Piece(f"{data[start + 3]:02x}", start, stop, min(start + 6, stop), size, (start + 3, start + 4))


def avi_pieces(
    data: bytes, start: int = 0, stop: int | None = None, parents: tuple[tuple[int, int], ...] = ()
) -> Iterator[Piece]:
    """RIFF chunks, with the chunks of lists."""
    stop = len(data) if stop is None else stop
    while start + 8 <= stop:
        size = int.from_bytes(data[start + 4 : start + 8], "little")
        end = start + 8 + size + size % 2
        if start + 8 + size > stop:
            return
        name = data[start : start + 4]
        here = (start + 4, start + 8)
        yield Piece(_text(name), start, min(end, stop), start + 8, here, (start, start + 4), parents, False)
        if name in (b"RIFF", b"LIST"):
            yield from avi_pieces(data, start + 12, start + 8 + size, (*parents, here))
        start = end


def flv_pieces(data: bytes) -> Iterator[Piece]:
    """Tags, each with the size field behind it."""
    start = 13
    while start + 15 <= len(data):
        size = int.from_bytes(data[start + 1 : start + 4], "big")
        stop = start + 11 + size + 4
        if stop > len(data):
            return
        yield Piece(f"tag {data[start]}", start, stop, start + 11, (start + 1, start + 4), (start, start + 1))
        start = stop


ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_EXTENSION = bytes.fromhex("b503bf5f2ea9cf118ee300c00c205365")
ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def asf_pieces(
    data: bytes, start: int = 0, stop: int | None = None, parents: tuple[tuple[int, int], ...] = ()
) -> Iterator[Piece]:
    """Objects, the objects in them, and the packets of the data object."""
    stop = len(data) if stop is None else stop
    while start + 24 <= stop:
        size = int.from_bytes(data[start + 16 : start + 24], "little")
        if size < 24 or start + size > stop:
            return
        name, here = data[start : start + 16], (start + 16, start + 24)
        yield Piece(name[:4].hex(), start, start + size, start + 24, here, (start, start + 16), parents, False)
        if name in (ASF_HEADER, ASF_EXTENSION):
            inner = start + (30 if name == ASF_HEADER else 46)
            yield from asf_pieces(data, inner, start + size, (*parents, here))
        elif name == ASF_DATA:
            at = data.find(ASF_PROPERTIES)
            length = int.from_bytes(data[at + 92 : at + 96], "little") if at >= 0 else 0
            if 100 <= length <= 1 << 16:
                for packet in range(start + 50, start + size - length + 1, length):
                    none = (packet, packet)
                    yield Piece("packet", packet, packet + length, packet + 3, none, none, (*parents, here), False)
        start += size


def mxf_pieces(data: bytes) -> Iterator[Piece]:
    """Keys with their lengths and values."""
    start = 0
    while start + 17 <= len(data) and data[start : start + 4] == b"\x06\x0e\x2b\x34":
        at = start + 16
        width = 1 + (data[at] & 0x7F if data[at] & 0x80 else 0)
        size = int.from_bytes(data[at + 1 : at + width], "big") if width > 1 else data[at]
        stop = at + width + size
        if stop > len(data):
            return
        yield Piece(data[start + 4 : start + 16].hex(), start, stop, at + width, (at, at + width), (start, at))
        start = stop


PARSERS: dict[str, Callable[[bytes], Iterator[Piece]]] = {
    "mp4": mp4_pieces,
    "mkv": mkv_pieces,
    "ts": ts_pieces,
    "m2ts": m2ts_pieces,
    "ps": ps_pieces,
    "avi": avi_pieces,
    "flv": flv_pieces,
    "asf": asf_pieces,
    "mxf": mxf_pieces,
}
"""The container's name → what finds its pieces."""


@dataclass(frozen=True)
class Stamp:
    """A time stamp in a file, in ticks of its container. ``form`` says how its bits lie."""

    at: int
    form: str

    def read(self, data: bytes | bytearray) -> int:
        """Its ticks."""
        if self.form == "pes":
            b = data[self.at : self.at + 5]
            return (b[0] >> 1 & 7) << 30 | b[1] << 22 | (b[2] >> 1) << 15 | b[3] << 7 | b[4] >> 1
        if self.form == "pcr":
            return int.from_bytes(data[self.at : self.at + 5], "big") >> 7
        if self.form == "flv":
            return data[self.at + 3] << 24 | int.from_bytes(data[self.at : self.at + 3], "big")
        return int.from_bytes(data[self.at : self.at + int(self.form)], "big")

    def write(self, data: bytearray, ticks: int) -> None:
        """Sets it, in place; higher bits than there is room for are left out."""
        if self.form == "pes":
            t = ticks % (1 << 33)
            data[self.at : self.at + 5] = bytes(
                (
                    data[self.at] & 0xF1 | (t >> 30) << 1,
                    t >> 22 & 0xFF,
                    (t >> 15 & 0x7F) << 1 | 1,
                    t >> 7 & 0xFF,
                    (t & 0x7F) << 1 | 1,
                )
            )
        elif self.form == "pcr":
            low = data[self.at + 4] & 0x7F
            data[self.at : self.at + 5] = ((ticks % (1 << 33)) << 7 | low).to_bytes(5, "big")
        elif self.form == "flv":
            t = ticks % (1 << 32)
            data[self.at : self.at + 4] = (t & 0xFFFFFF).to_bytes(3, "big") + bytes([t >> 24])
        else:
            width = int(self.form)
            data[self.at : self.at + width] = (ticks % (1 << 8 * width)).to_bytes(width, "big")


TICKS_A_SECOND = {"ts": 90_000, "m2ts": 90_000, "ps": 90_000, "flv": 1000, "mkv": 1000}


def stamps(data: bytes, container: str) -> list[Stamp]:
    """The time stamps of all packets in the order in which they stand in the file; empty for other containers."""
    if container in ("ts", "m2ts"):
        lead = 4 if container == "m2ts" else 0
        return [stamp for piece in ts_pieces(data, lead) for stamp in _ts_stamps(data, piece.start + lead)]
    if container == "ps":
        return [stamp for piece in ps_pieces(data) for stamp in _pes_stamps(data, piece.start)]
    if container == "flv":
        return [Stamp(piece.start + 4, "flv") for piece in flv_pieces(data)]
    if container == "mkv":
        return [
            Stamp(piece.body, str(piece.stop - piece.body))
            for piece in mkv_pieces(data)
            if piece.name == "e7" and 1 <= piece.stop - piece.body <= 8
        ]
    return []


def _ts_stamps(data: bytes, at: int) -> Iterator[Stamp]:
    has_field, has_payload = data[at + 3] & 0x20, data[at + 3] & 0x10
    body = at + 4
    if has_field:
        length = data[body]
        if length >= 7 and data[body + 1] & 0x10:
            yield Stamp(body + 2, "pcr")
        body += 1 + length
    if has_payload and data[at + 1] & 0x40 and body + 19 <= at + 188:
        yield from _pes_stamps(data, body)


def _pes_stamps(data: bytes, at: int) -> Iterator[Stamp]:
    """The stamps of a packet of an elementary stream, in the syntax of MPEG-1 or MPEG-2."""
    if data[at : at + 3] != b"\x00\x00\x01" or at + 19 > len(data):
        return
    if not (0xC0 <= data[at + 3] <= 0xEF or data[at + 3] in (0xBD, 0xFD)):
        return
    body = at + 6
    if data[body] & 0xC0 == 0x80:
        flags, body = data[body + 1], body + 3
    else:
        while body < min(at + 22, len(data) - 12) and data[body] == 0xFF:
            body += 1
        if data[body] & 0xC0 == 0x40:
            body += 2
        flags = {2: 0x80, 3: 0xC0}.get(data[body] >> 4, 0)
    if flags & 0x80:
        yield Stamp(body, "pes")
    if flags & 0xC0 == 0xC0:
        yield Stamp(body + 5, "pes")


def _text(name: bytes) -> str:
    return name.decode("latin-1").strip()


def put(data: bytearray, at: int, number: int, width: int, big_endian: bool) -> None:
    """Writes a number of ``width`` bytes, in place; it is cut to that width."""
    if at + width <= len(data):
        data[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, "big" if big_endian else "little")


def float_bytes(number: float, big_endian: bool) -> bytes:
    """A double, as FLV's header and Matroska's duration hold it."""
    return struct.pack(">d" if big_endian else "<d", number)
