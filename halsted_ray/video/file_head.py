"""What a file is, told from its first bytes: for files whose names do not say it."""

from __future__ import annotations

HEAD_BYTES = 2048
"""Enough for the file meta information of DICOM and for four packets of a transport stream."""

VIDEO_SYNTAXES = {
    "1.2.840.10008.1.2.4.100": "MPEG-2",
    "1.2.840.10008.1.2.4.101": "MPEG-2",
    "1.2.840.10008.1.2.4.102": "H.264",
    "1.2.840.10008.1.2.4.103": "H.264",
    "1.2.840.10008.1.2.4.104": "H.264",
    "1.2.840.10008.1.2.4.105": "H.264",
    "1.2.840.10008.1.2.4.106": "H.264",
    "1.2.840.10008.1.2.4.107": "HEVC",
    "1.2.840.10008.1.2.4.108": "HEVC",
}
"""The transfer syntaxes of DICOM that hold a video stream, and its codec (PS3.5, annex A.4). The fragmentable ones have
``.1`` at their end."""
VIDEO_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.77.1.1.1",
    "1.2.840.10008.5.1.4.1.1.77.1.2.1",
    "1.2.840.10008.5.1.4.1.1.77.1.4.1",
)
"""The SOP classes of video: endoscopic, microscopic, photographic (PS3.4, annex B.5). The frames may be JPEG
pictures."""

NO_VIDEO_BRANDS = (b"M4A ", b"M4B ", b"M4P ", b"heic", b"heix", b"mif1", b"msf1", b"avif", b"crx ")
"""The brands of MP4 files that hold sound or photographs."""
BEGINNINGS = (
    b"\x1a\x45\xdf\xa3",
    b"\x00\x00\x01\xba",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    b"FLV\x01",
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01",
)
"""Matroska, MPEG-PS, ASF, FLV, MXF."""


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is in the DICOM file format (PS3.10)."""
    return head[128:132] == b"DICM"


def dicom_video(head: bytes) -> str | None:
    """The codec of a DICOM file that holds a video, None for any other file.

    'pictures' where the file says that it is a video, and its frames are pictures of their own.
    """
    if not is_dicom(head):
        return None
    syntax = meta_uid(head, 0x10).removesuffix(".1")
    if syntax in VIDEO_SYNTAXES:
        return VIDEO_SYNTAXES[syntax]
    return "pictures" if meta_uid(head, 0x02) in VIDEO_CLASSES else None


def holds_dicom_stream(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is a DICOM file with a video stream, which ``encapsulated`` finds."""
    return dicom_video(head) in VIDEO_SYNTAXES.values()


def dicom_reason(head: bytes) -> str:
    """Why a DICOM file without a video stream can't be mapped, and what to do."""
    if dicom_video(head) is None:
        return "expected a video, got a DICOM file without a video stream; remove it"
    return (
        "expected a video, got a DICOM file with a video as single pictures, which is not read; export it from the "
        "picture archive as MP4, and put the MP4 into the archive"
    )


def is_container(head: bytes) -> bool:
    """Whether ``head`` is how a file of ``container.DEMUXERS`` begins."""
    if head[4:8] == b"ftyp":
        return head[8:12] not in NO_VIDEO_BRANDS
    return (
        head.startswith(BEGINNINGS)
        or head[4:8] in (b"moov", b"mdat", b"wide")
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or any(head[at : at + 4 * step : step] == b"GGGG" for at, step in ((0, 188), (4, 192)))
    )


def meta_uid(head: bytes, element: int) -> str:
    """The UID in an element of group 0002 of a DICOM file; '' where it is not there. That group is always in explicit
    VR, little endian."""
    at = head.find(b"\x02\x00" + element.to_bytes(2, "little") + b"UI", 132)
    if at < 0:
        return ""
    length = int.from_bytes(head[at + 6 : at + 8], "little")
    return head[at + 8 : at + 8 + length].rstrip(b"\0 ").decode("ascii", errors="replace")
