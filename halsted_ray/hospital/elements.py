"""DICOM data elements in little endian as bytes: written and read without an object per element.

A report of 10,000 rows has some four million elements. With an object of pydicom for each of them it took minutes to
write and half a minute to read; as bytes it takes seconds. Only what a report's content needs is here.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable

from halsted_ray.video.encapsulated import ITEM, ITEM_END, LONG_VRS, SEQUENCE_END, UNDEFINED

Elements = dict[int, "bytes | list[Elements]"]
"""Tag → the value of an element, or the items of a sequence."""

MAX_DEPTH = 32
"""The deepest nesting of sequences that is read; a report has six."""

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
"""The transfer syntaxes that are read: without and with value representations."""
META_GROUP, TRANSFER_SYNTAX = 0x0002, 0x00020010


class NotElements(ValueError):
    """The bytes are no data elements, or contradict themselves. The message has no byte of them."""


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """One element in explicit VR, padded to an even length: with a zero (UI), else with a blank."""
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    if vr in LONG_VRS:
        return b"".join((head, struct.pack("<xxI", len(value)), value))
    return b"".join((head, struct.pack("<H", len(value)), value))


def sequence(tag: int, items: Iterable[bytes]) -> bytes:
    """A sequence of ``items``, each of which is the elements of one item in the order of their tags."""
    return element(tag, b"SQ", b"".join(_item(item) for item in items))


def _item(elements: bytes) -> bytes:
    return struct.pack("<HHI", ITEM >> 16, ITEM & 0xFFFF, len(elements)) + elements


def read_file(data: bytes, sequences: Collection[int]) -> Elements:
    """The elements of a DICOM file in implicit or explicit VR, little endian.

    ``sequences``: the tags of the sequences whose items are read; others come as bytes where their length is known.
    Raises NotElements.
    """
    if data[128:132] != b"DICM":
        raise NotElements("expected a DICOM file, got another one")
    walk = _Walk(data, sequences)
    try:
        meta, at = walk.elements(132, len(data), explicit=True, depth=0, only_group=META_GROUP)
        syntax = meta.get(TRANSFER_SYNTAX)
        uid = syntax.rstrip(b"\0 ").decode("ascii", "replace") if isinstance(syntax, bytes) else ""
        if uid not in (IMPLICIT, EXPLICIT):
            raise NotElements("expected implicit or explicit VR, little endian, got another transfer syntax")
        return walk.elements(at, len(data), explicit=uid == EXPLICIT, depth=0)[0]
    except struct.error:
        raise NotElements("expected an element, got the end of the file") from None


class _Walk:
    """Over the bytes of one file. Every length that the file declares is held against what is there."""

    def __init__(self, data: bytes, sequences: Collection[int]):
        self._data = data
        self._sequences = sequences

    def elements(
        self, at: int, stop: int, explicit: bool, depth: int, only_group: int | None = None
    ) -> tuple[Elements, int]:
        """The elements in [at, stop), and where they end: at the end of their item, or before another group."""
        data = self._data
        found: Elements = {}
        while at < stop:
            group, number = struct.unpack_from("<HH", data, at)
            tag = group << 16 | number
            if tag == ITEM_END:
                return found, at + 8
            if only_group is not None and group != only_group:
                return found, at
            vr = data[at + 4 : at + 6] if explicit else b""
            if vr in LONG_VRS:
                (length,) = struct.unpack_from("<I", data, at + 8)
                at += 12
            else:
                (length,) = struct.unpack_from("<H" if explicit else "<I", data, at + (6 if explicit else 4))
                at += 8
            if length == UNDEFINED:
                found[tag], at = self.items(at, stop, explicit and vr != b"UN", depth + 1)
            elif at + length > stop:
                raise NotElements("expected a value of the declared length, got less")
            elif tag in self._sequences:
                found[tag], at = self.items(at, at + length, explicit and vr != b"UN", depth + 1)
            else:
                found[tag] = data[at : at + length]
                at += length
        return found, at

    def items(self, at: int, stop: int, explicit: bool, depth: int) -> tuple[list[Elements], int]:
        """The items of a sequence in [at, stop), and where it ends."""
        if depth > MAX_DEPTH:
            raise NotElements(f"expected sequences of at most {MAX_DEPTH} levels, got more")
        found: list[Elements] = []
        while at < stop:
            group, number, length = struct.unpack_from("<HHI", self._data, at)
            tag = group << 16 | number
            at += 8
            if tag == SEQUENCE_END:
                return found, at
            if tag != ITEM or (length != UNDEFINED and at + length > stop):
                raise NotElements("expected an item of a sequence, got other data")
            item, at = self.elements(at, stop if length == UNDEFINED else at + length, explicit, depth)
            found.append(item)
        return found, at
