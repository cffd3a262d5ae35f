"""Why a file that libavformat refuses is no video, and what a person can do about it: told from its size and head."""

from __future__ import annotations

import os

from halsted_ray.errors import StorageUnavailable, UnreadableVideo, VideoError
from halsted_ray.storage.ranges import RangeFile, Source
from halsted_ray.video.file_head import HEAD_BYTES, dicom_reason, holds_dicom_stream, is_dicom

MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
"""The boxes with which an MP4 or QuickTime file begins."""
SCRIPTS = (
    b"ffconcat",
    b"#EXTM3U",
    b"#EXT-X",
    b"<?xml",
    b"<MPD",
    b"<smil",
    b"[playlist]",
    b"v=0\n",
    b"v=0\r\n",
    b"RTSPtext",
)
"""How scripts and playlists begin that name other files: ffconcat, HLS, DASH, SMIL, PLS, SDP, QuickTime's."""

KINDS = (
    (0, b"\x89PNG", "a PNG picture; remove it"),
    (0, b"\xff\xd8\xff", "a JPEG picture; remove it"),
    (0, b"GIF8", "a GIF picture; remove it"),
    (0, b"%PDF", "a PDF document; remove it"),
    (0, b"PK\x03\x04", "a ZIP archive; unpack it"),
    (0, b"7z\xbc\xaf", "a 7z archive; unpack it"),
    (0, b"Rar!", "a RAR archive; unpack it"),
    (0, b"\x1f\x8b", "a gzip archive; unpack it"),
    (8, b"WAVE", "a sound file; remove it"),
    (0, b"ID3", "a sound file; remove it"),
    (0, b"fLaC", "a sound file; remove it"),
    (0, b"OggS", "an Ogg file; convert it to MP4"),
)
"""(offset, the bytes at that offset, the kind of such a file and what to do with it)."""


def refusal(source: Source, reason: str, known: str) -> VideoError:
    """The error to raise about ``source``: UnreadableVideo, or StorageUnavailable where its bytes can't be read now.

    ``reason`` is libavformat's own; ``known`` lists the containers that can be opened.
    """
    try:
        head, size_bytes = _head(source)
    except (FileNotFoundError, IsADirectoryError) as error:
        return UnreadableVideo(f"expected a file, got {type(error).__name__}: {error.strerror}; check that it exists")
    except OSError as error:  # also a network drive that is away
        return StorageUnavailable(
            f"expected a file that can be read, got {type(error).__name__}: {error.strerror}; give this account the "
            "right to read it, or check the drive, then run again"
        )
    return UnreadableVideo(_why(head, size_bytes, reason, known))


def _why(head: bytes, size_bytes: int, reason: str, known: str) -> str:
    if size_bytes == 0:
        return "expected a video, got an empty file (0 bytes); copy it again from its source"
    if is_dicom(head) and not holds_dicom_stream(head):
        return dicom_reason(head)
    if head.lstrip(b"\xef\xbb\xbf \r\n").startswith(SCRIPTS):
        return (
            f"expected the video itself ({known}), got a script or playlist of other files; it is not followed: "
            "put those files into the archive"
        )
    if head[4:8] in MP4_BOXES:
        return (
            f"expected an MP4 with its index (moov), got {size_bytes} bytes without a usable one ({reason}): the "
            "recording or the copy stopped early; copy it again or repair it with a tool such as untrunc"
        )
    if len(head) > 64 and not any(head[:256]):
        return f"expected a video ({known}), got {size_bytes} bytes that begin with zeros; finish the copy"
    for offset, magic, kind in KINDS:
        if head[offset:].startswith(magic):
            return f"expected a video ({known}), got {kind}"
    if _is_text(head[:256]):
        return f"expected a video ({known}), got {size_bytes} bytes of text; remove it"
    return (
        f"expected a video ({known}), got {size_bytes} bytes of something else ({reason}); copy it again from its "
        "source, convert it or remove it"
    )


def _is_text(head: bytes) -> bool:
    text = head.decode("utf-8", errors="ignore")  # the head may end in the middle of a letter
    return len(text.encode()) > len(head) - 4 and all(letter.isprintable() or letter in "\r\n\t" for letter in text)


def _head(source: Source) -> tuple[bytes, int]:
    """(the first bytes of a file, its size in bytes). The position of a remote file is kept. Raises OSError."""
    if isinstance(source, RangeFile):
        at = source.tell()
        source.seek(0)
        head = source.read(HEAD_BYTES)
        source.seek(at)
        return head, source.size_bytes
    with open(source, "rb") as file:
        return file.read(HEAD_BYTES), os.fstat(file.fileno()).st_size
