"""What a file is that somebody sends in place of a video, told from its first bytes, and what to do instead.

Only a file that can't be used is looked at, so that no video is refused for how it begins. A DICOM file alone is told
before it is opened: its header names the patient.
"""

from __future__ import annotations

from halsted_ray.video.file_head import is_dicom

HEAD_BYTES = 32_774
"""As far as the signature of a disc image lies."""
SIGNATURES = (
    ("document", 0, b"%PDF-"),
    ("document", 0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),  # Word, Excel and PowerPoint of before 2007
    ("archive", 0, b"PK\x03\x04"),
    ("archive", 0, b"PK\x05\x06"),  # an empty ZIP
    ("archive", 0, b"Rar!\x1a\x07"),
    ("archive", 0, b"7z\xbc\xaf\x27\x1c"),
    ("archive", 0, b"\x1f\x8b"),
    ("archive", 0, b"BZh"),
    ("archive", 0, b"\xfd7zXZ\x00"),
    ("archive", 257, b"ustar"),
    ("picture", 0, b"\xff\xd8\xff"),
    ("picture", 0, b"\x89PNG\r\n\x1a\n"),
    ("picture", 0, b"GIF8"),
    ("picture", 0, b"II*\x00"),
    ("picture", 0, b"MM\x00*"),
    ("picture", 4, b"ftypheic"),
    ("dvd-index", 0, b"DVDVIDEO-VMG"),
    ("dvd-index", 0, b"DVDVIDEO-VTS"),
    ("disc-image", 32_769, b"CD001"),
    ("disc-image", 32_769, b"BEA01"),
    ("encrypted", 0, b"Salted__"),
    ("encrypted", 0, b"age-encryption.org/"),
    ("encrypted", 0, b"-----BEGIN PGP MESSAGE"),
)
"""(kind, offset, the bytes that a file of this kind has there); the first that fits."""
WHAT_TO_DO = {
    "document": "a document; send the video itself",
    "archive": "a packed archive; unpack it, and send the videos in it",
    "picture": "a single picture; send the video itself",
    "dvd-index": "an index of a DVD, which holds no picture; send the VOB files beside it",
    "disc-image": "the image of a disc; open it, and send the video files in it",
    "encrypted": "an encrypted file; decrypt it, and send that",
    "zeros": "nothing but zeros, as after a copy that failed; copy the recording again, and send that",
}
"""Kind → what it is and what to do, in words."""
_GROUPS = (b"\x02\x00", b"\x08\x00")
_FIRST_VALUES = (b"ISO_IR", b"ISO 2022", b"ORIGINAL", b"DERIVED", b"1.2.840.10008")
"""How the first value of a data set without forms begins: its characters, the type of its image, or its class."""
_FORMS = (b"UL\x04\x00", b"OB\x00\x00", b"CS", b"UI", b"LO", b"DA", b"TM")


def names_a_patient(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is DICOM: with its preamble, or plainly without, as some recorders
    write it (PS3.5, 7.1: the first element is of group 0002 or 0008, and says its form or the group's length, or has a
    value as only these elements have)."""
    if is_dicom(head):
        return True
    is_explicit = head[4:8] in _FORMS or (head[4:6] in _FORMS and head[6:8] != b"\x00\x00")
    is_length = head[2:8] == b"\x00\x00\x04\x00\x00\x00"  # implicit: element 0000 of 4 bytes
    is_value = head[6:8] == b"\x00\x00" and head[8:].startswith(_FIRST_VALUES)
    return head[:2] in _GROUPS and head[3:4] == b"\x00" and (is_explicit or is_length or is_value)


def kind_of(head: bytes) -> str | None:
    """The kind of ``WHAT_TO_DO`` of a file that begins with ``head`` and is no video; None where nothing tells it."""
    if head and not head.strip(b"\x00"):
        return "zeros"
    return next((kind for kind, at, mark in SIGNATURES if head[at:].startswith(mark)), None)
