"""The units of a coded picture: those that carry text, clocks or unknown bytes go, the others stay bit by bit.

A coded frame is a row of units. In H.264 and HEVC these are NAL units (H.264, 7.3.1; H.265, 7.3.1.2), behind start
codes or behind their lengths. In MPEG-2 and MPEG-4 part 2 every unit begins with a start code. Units that are not known
here go too, since nobody has looked into them, and a decoder ignores them.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator

START_CODE = b"\0\0\0\1"
PARAMETER_SETS_AT_MOST = 64

KEPT_MESSAGES = {6: 8, 45: 64, 47: 64, 137: 24, 144: 4, 147: 1}
"""Type of an SEI message → the most bytes that it may have: where decoding can begin, how two eyes share a picture, how
a picture is turned, and three facts about its colours. All other messages go: user data, and clocks (H.264, D.1)."""

HOW_TO_SHOW = {45, 47}
"""Of these the messages that say how every picture is to be shown."""

DECODER_SIGNATURE = re.compile(
    rb"(XviD[0-9]{4}|DivX[0-9]{3,4}(Build|b)[0-9]{1,6}p?|Lavc[0-9.]{1,20}|FFmpe?g[-v0-9. ]*b?[0-9]*)C?\Z"
)
"""The user data of MPEG-4 part 2 by which decoders know whose inverse transform they must use. Without it the picture
would differ, so it stays where it is nothing but such a word."""


class MalformedUnits(ValueError):
    """The bytes are not a row of units of this codec; the picture can't be copied and must be coded again."""


class UnitCleaner(ABC):
    """Cleans the frames of one stream, in decoding order. ``removed``: kind of unit → how many were left out."""

    def __init__(self) -> None:
        self.removed: Counter[str] = Counter()
        self.kept_messages: set[int] = set()
        """Types of the SEI messages that stayed."""
        self.header = b""
        """The stream's own header, clean, behind start codes."""

    @abstractmethod
    def clean(self, data: bytes) -> bytes:
        """One coded frame without what must go; empty where nothing is left. Raises MalformedUnits."""

    def starts_alone(self, data: bytes) -> bool:
        """Whether nothing from this (clean) frame on refers to anything before it."""
        return False

    def parameter_sets(self) -> bytes:
        """What a decoder must know before the next frame, if it has seen nothing of this stream: empty where each such
        frame says it itself."""
        return b""


def cleaner_of(codec: str, header: bytes) -> UnitCleaner | None:
    """The cleaner for a stream of ``codec`` (libavcodec's name) with this header (its ``extradata``); None for a codec
    whose units are not known here. Raises MalformedUnits."""
    kinds: dict[str, Callable[[bytes], UnitCleaner]] = {
        "h264": H264Cleaner,
        "hevc": HevcCleaner,
        "mpeg2video": Mpeg2Cleaner,
        "mpeg4": Mpeg4Cleaner,
    }
    return kinds[codec](header) if codec in kinds else None


class _NalCleaner(UnitCleaner):
    """H.264 and HEVC. ``clean`` gives start codes, however the units came."""

    def __init__(self, header: bytes) -> None:
        super().__init__()
        self._length_bytes, units = self._read_header(header)
        self._sets: dict[bytes, None] = {}
        self.header = self._joined(units)

    def clean(self, data: bytes) -> bytes:
        """As ``UnitCleaner.clean``."""
        return self._joined(by_length(data, self._length_bytes) if self._length_bytes else by_start_code(data))

    def parameter_sets(self) -> bytes:
        """All parameter sets so far, those that came last at the end: they hold where two have one number."""
        return b"".join(START_CODE + unit for unit in self._sets)

    def _joined(self, units: Iterator[bytes] | list[bytes]) -> bytes:
        kept: list[bytes] = []
        for unit in units:
            if not unit:
                continue
            use = self._use(unit)
            if use == "message":
                unit = self._clean_message(unit)
                if unit:
                    kept.append(unit)
            elif use in ("picture", "set"):
                kept.append(unit)
                if use == "set":
                    self._sets.pop(unit, None)
                    self._sets[unit] = None
                    if len(self._sets) > PARAMETER_SETS_AT_MOST:
                        raise MalformedUnits(f"more than {PARAMETER_SETS_AT_MOST} different parameter sets")
            else:
                self.removed[use] += 1
        return b"".join(START_CODE + unit for unit in kept)

    def _clean_message(self, unit: bytes) -> bytes:
        """An SEI unit with the messages that may stay; empty where none may."""
        head = unit[: self._unit_head]
        try:
            messages = list(sei_messages(unescaped(unit[self._unit_head :])))
        except MalformedUnits:  # a decoder does not need it
            self.removed["SEI malformed"] += 1
            return b""
        stay = [(kind, body) for kind, body in messages if len(body) <= KEPT_MESSAGES.get(kind, -1)]
        for kind, body in messages:
            if (kind, body) not in stay:
                self.removed[f"SEI {kind}"] += 1
        self.kept_messages.update(kind for kind, _ in stay)
        if len(stay) == len(messages):
            return unit
        if not stay:
            return b""
        return head + escaped(b"".join(_written(kind) + _written(len(body)) + body for kind, body in stay) + b"\x80")

    _unit_head: int
    """Bytes of a unit's own head."""

    @abstractmethod
    def _read_header(self, header: bytes) -> tuple[int, list[bytes]]:
        """(how many bytes a unit's length has, 0 for start codes; the units in the stream's header)."""

    @abstractmethod
    def _use(self, unit: bytes) -> str:
        """``picture``, ``set``, ``message``, or under which name the unit is left out."""


class H264Cleaner(_NalCleaner):
    """H.264 (table 7-1). The second eye of MVC goes: this system does not decode it, so nobody has looked at it."""

    _unit_head = 1

    def _read_header(self, header: bytes) -> tuple[int, list[bytes]]:
        if not header or header[0] != 1:
            return 0, list(by_start_code(header))
        if len(header) < 7:
            raise MalformedUnits("a header (avcC) that is cut short")
        units, at = [], 5  # ISO/IEC 14496-15, 5.3.3.1
        for mask in (0x1F, 0xFF):
            if at >= len(header):
                raise MalformedUnits("a header (avcC) that is cut short")
            count, at = header[at] & mask, at + 1
            for _ in range(count):
                unit, at = _sized(header, at)
                units.append(unit)
        return (header[4] & 3) + 1, units

    def _use(self, unit: bytes) -> str:
        kind = unit[0] & 0x1F
        if kind in (1, 5, 9, 10, 11):
            return "picture"
        if kind in (7, 8):
            return "set"
        return "message" if kind == 6 else f"NAL {kind}"

    def starts_alone(self, data: bytes) -> bool:
        """An IDR picture."""
        return any(unit[0] & 0x1F == 5 for unit in by_start_code(data) if unit)


class HevcCleaner(_NalCleaner):
    """HEVC (table 7-1). Units of other layers than the first go: this system does not decode them."""

    _unit_head = 2

    def _read_header(self, header: bytes) -> tuple[int, list[bytes]]:
        if len(header) < 23 or header[0] != 1:
            return 0, list(by_start_code(header))
        units, at = [], 23  # ISO/IEC 14496-15, 8.3.3.1
        for _ in range(header[22]):
            if at + 3 > len(header):
                raise MalformedUnits("a header (hvcC) that is cut short")
            count, at = int.from_bytes(header[at + 1 : at + 3], "big"), at + 3
            for _ in range(count):
                unit, at = _sized(header, at)
                units.append(unit)
        return (header[21] & 3) + 1, units

    def _use(self, unit: bytes) -> str:
        if len(unit) < 2:
            raise MalformedUnits("a unit of one byte")
        kind, layer = unit[0] >> 1 & 0x3F, (unit[0] & 1) << 5 | unit[1] >> 3
        if layer:
            return "another layer"
        if kind in range(0, 10) or kind in range(16, 22) or kind in (35, 36, 37):
            return "picture"
        if kind in (32, 33, 34):
            return "set"
        return "message" if kind in (39, 40) else f"NAL {kind}"

    def starts_alone(self, data: bytes) -> bool:
        """An IDR picture."""
        return any(unit[0] >> 1 & 0x3F in (19, 20) for unit in by_start_code(data) if unit)


class Mpeg2Cleaner(UnitCleaner):
    """MPEG-2 video (table 6-1). The clock in the head of a group of pictures becomes zero."""

    def __init__(self, header: bytes) -> None:
        super().__init__()
        self.header = self.clean(header)

    def clean(self, data: bytes) -> bytes:
        """As ``UnitCleaner.clean``."""
        return b"".join(b"\0\0\1" + kept for unit in by_start_code(data, False) if (kept := self._kept(unit)))

    def _kept(self, unit: bytes) -> bytes:
        code = unit[0]
        if code == 0xB8:  # 25 bits of clock with a marker bit among them (6.2.2.6)
            if len(unit) < 5:
                raise MalformedUnits("a head of a group of pictures that is cut short")
            if (unit[1], unit[2], unit[3], unit[4] & 0x80) != (0, 8, 0, 0):
                self.removed["clock"] += 1
            return bytes((code, 0, 8, 0, unit[4] & 0x7F)) + unit[5:]
        if code == 0xB5 and len(unit) > 1 and unit[1] >> 4 == 4:
            self.removed["copyright"] += 1
            return b""
        if code <= 0xAF or code in (0xB3, 0xB5, 0xB7):
            return unit
        self.removed["user data" if code == 0xB2 else f"unit {code:#04x}"] += 1
        return b""


class Mpeg4Cleaner(UnitCleaner):
    """MPEG-4 part 2: user data go."""

    def __init__(self, header: bytes) -> None:
        super().__init__()
        self.header = self.clean(header)

    def clean(self, data: bytes) -> bytes:
        """As ``UnitCleaner.clean``."""
        kept = []
        for unit in by_start_code(data, False):
            if unit[0] != 0xB2 or DECODER_SIGNATURE.match(unit[1:].rstrip(b"\0")):
                kept.append(b"\0\0\1" + unit)
            else:
                self.removed["user data"] += 1
        return b"".join(kept)


def by_start_code(data: bytes, trailing_zeros_go: bool = True) -> Iterator[bytes]:
    """The units behind start codes (00 00 01). Zeros at a NAL unit's end belong to no unit."""
    at = data.find(b"\0\0\1")
    while at >= 0:
        following = data.find(b"\0\0\1", at + 3)
        unit = data[at + 3 : following if following >= 0 else len(data)]
        unit = unit.rstrip(b"\0") if trailing_zeros_go else unit
        if unit:
            yield unit
        at = following


def by_length(data: bytes, length_bytes: int) -> Iterator[bytes]:
    """The units behind their lengths. Raises MalformedUnits."""
    at = 0
    while at < len(data):
        stop = at + length_bytes + int.from_bytes(data[at : at + length_bytes], "big")
        if stop > len(data):
            raise MalformedUnits("a unit that is longer than its frame")
        yield data[at + length_bytes : stop]
        at = stop


def unescaped(payload: bytes) -> bytes:
    """The payload of a NAL unit without its emulation prevention bytes (H.264, 7.4.1)."""
    return re.sub(rb"\x00\x00\x03", b"\0\0", payload)


def escaped(payload: bytes) -> bytes:
    """The payload with emulation prevention bytes."""
    return re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\0\0\3", payload)


def sei_messages(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, body) of each message (H.264, 7.3.2.3.1). Raises MalformedUnits."""
    at = 0
    while at < len(payload) and payload[at:].rstrip(b"\0") != b"\x80":
        numbers = []
        for _ in range(2):
            number = 0
            while at < len(payload) and payload[at] == 0xFF:
                number, at = number + 255, at + 1
            if at >= len(payload):
                raise MalformedUnits("an SEI unit that is cut short")
            numbers.append(number + payload[at])
            at += 1
        kind, size = numbers
        if at + size > len(payload):
            raise MalformedUnits("an SEI message that is longer than its unit")
        yield kind, payload[at : at + size]
        at += size


def _written(number: int) -> bytes:
    return b"\xff" * (number // 255) + bytes((number % 255,))


def _sized(header: bytes, at: int) -> tuple[bytes, int]:
    """(the unit behind a length of 16 bits, where the next begins)."""
    stop = at + 2 + int.from_bytes(header[at : at + 2], "big")
    if stop > len(header):
        raise MalformedUnits("a header whose units are longer than the header")
    return header[at + 2 : stop], stop
