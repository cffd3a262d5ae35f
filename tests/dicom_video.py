"""DICOM video files made from bytes, so that a header can hold anything, also what no library would write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import planted
from pydicom.datadict import DicomDictionary, RepeatersDictionary

from halsted_ray.hospital.elements import element, sequence

H264 = "1.2.840.10008.1.2.4.102"
ENDOSCOPIC = "1.2.840.10008.5.1.4.1.1.77.1.1.1"
ITEM, SEQUENCE_END = b"\xfe\xff\0\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"
TEXT_VRS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
"""Value representations that are text in a file, so that a name can stand in each of them."""


def file_meta(syntax: str = H264, more: bytes = b"", sop_class: str = ENDOSCOPIC, instance: str = "1.2.3") -> bytes:
    """Preamble and file meta information. ``more``: elements of group 0002 after 0002,0012."""
    meta = (
        element(0x00020001, b"OB", b"\0\1")
        + element(0x00020002, b"UI", sop_class.encode())
        + element(0x00020003, b"UI", instance.encode())
        + element(0x00020010, b"UI", syntax.encode())
        + element(0x00020012, b"UI", b"1.2.3.4")
        + more
    )
    return bytes(128) + b"DICM" + element(0x00020000, b"UL", len(meta).to_bytes(4, "little")) + meta


def fragments_of(stream: bytes, count: int) -> list[bytes]:
    """``stream`` in ``count`` pieces of an even length, the last one padded."""
    step = max(2, -(-len(stream) // count // 2) * 2)
    parts = [stream[at : at + step] for at in range(0, len(stream), step)]
    parts[-1] += b"\0" * (len(parts[-1]) % 2)
    return parts


def pixels(parts: Iterable[bytes], table: Sequence[int] = ()) -> bytes:
    """Encapsulated Pixel Data. ``table``: the offsets of a basic offset table."""
    offsets = b"".join(offset.to_bytes(4, "little") for offset in table)
    items = b"".join(ITEM + len(part).to_bytes(4, "little") + part for part in (offsets, *parts))
    return b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + items + SEQUENCE_END


def write(path: Path, stream: bytes, header: bytes = b"", fragments: int = 1, meta: bytes | None = None) -> Path:
    """A DICOM video at ``path``; ``header``: its elements, in the order of their tags."""
    path.write_bytes((file_meta() if meta is None else meta) + header + pixels(fragments_of(stream, fragments)))
    return path


def identified(**values: str) -> bytes:
    """A header of the usual fields, as whom ``values`` names: keyword → value."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    usual = {
        "SOPClassUID": ENDOSCOPIC,
        "SOPInstanceUID": "1.2.3",
        "Modality": "ES",
        "PatientName": planted.NAME,
        "PatientID": "P-4711",
        "StudyInstanceUID": "1.2.3.1",
        "SeriesInstanceUID": "1.2.3.2",
    } | values
    found = {tag_for_keyword(keyword): value for keyword, value in usual.items()}
    return b"".join(element(tag, dictionary_VR(tag).encode(), value.encode()) for tag, value in sorted(found.items()))


def named_everywhere(name: bytes, is_sent: bool = False) -> bytes:
    """Elements with ``name``: every one of DICOM's dictionary that is text, private ones, ones of unknown meaning, and
    sequences of sequences, also of a private and of an unknown kind. ``is_sent``: class and instance are true, since a
    receiver compares them."""
    elements = {tag: (entry[0], entry[4]) for tag, entry in DicomDictionary.items() if tag >> 16 not in (0, 2)}
    for mask, entry in RepeatersDictionary.items():
        elements[int(mask.replace("x", "0"), 16) & ~0x00010000 | 0x00020000] = (entry[0], entry[4])
    found = {0x00080005: element(0x00080005, b"CS", b"ISO_IR 192")}
    inner = element(0x00100010, b"PN", name) + element(0x00110010, b"LO", name) + element(0x00111001, b"UT", name)
    for tag, (vr, _) in elements.items():
        if 0x7FE00000 > tag >= 0x00080006 and vr in TEXT_VRS:
            found[tag] = element(tag, vr.encode(), name)
        elif 0x7FE00000 > tag >= 0x00080006 and vr in ("SQ", "OB", "UN"):
            is_sequence = vr == "SQ"
            found[tag] = sequence(tag, [sequence(0x00081140, [inner])]) if is_sequence else element(tag, b"OB", name)
    for group in (0x0009, 0x0011, 0x3F01):
        found[group << 16 | 0x10] = element(group << 16 | 0x10, b"LO", name)
        for number, vr in enumerate((*TEXT_VRS, "OB", "UN", "PN"), 0x1000):
            found[group << 16 | number] = element(group << 16 | number, vr.encode(), name)
        found[group << 16 | 0x10FF] = sequence(group << 16 | 0x10FF, [inner, inner])
    if is_sent:
        found[0x00080016] = element(0x00080016, b"UI", ENDOSCOPIC.encode())
        found[0x00080018] = element(0x00080018, b"UI", b"1.2.3")
    return b"".join(found[tag] for tag in sorted(found))


def meta_named_everywhere(name: bytes) -> bytes:
    """File meta information with ``name`` in every element that a reader does not need."""
    more = b"".join(
        element(tag, entry[0].encode(), name)
        for tag, entry in sorted(DicomDictionary.items())
        if tag >> 16 == 2 and tag > 0x00020012 and entry[0] in (*TEXT_VRS, "OB")
    )
    return name.ljust(128, b" ") + file_meta(more=more)[128:]
