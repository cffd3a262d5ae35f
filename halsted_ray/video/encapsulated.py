"""The video stream inside a DICOM file, as bytes of that file: found without reading the stream, and never copied.

DICOM keeps a video as encapsulated Pixel Data (PS3.5, annex A.4): an empty or filled offset table, then the stream in
one fragment or in many, each with its length before it. Joined, the fragments are the file that the recorder wrote: an
MP4, a transport stream, a program stream. A fragment has an even length of less than 4 GiB, so that a longer stream has
several. Nothing of the header is kept or returned: it names the patient.
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

from halsted_ray.errors import StorageUnavailable, UnreadableVideo
from halsted_ray.storage.ranges import RangeFile, Source
from halsted_ray.video.file_head import HEAD_BYTES, dicom_video, holds_dicom_stream

ReadAt = Callable[[int, int], bytes]
"""(offset, count) → at most ``count`` bytes at this place of a file, fewer only at its end."""

UNDEFINED = 0xFFFFFFFF
LONG_VRS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
"""Value representations whose length has 32 bits (PS3.5, 7.1.2)."""
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_DATA, EXTENDED_LENGTHS, TOTAL_LENGTH = 0x7FE00010, 0x7FE00002, 0x7FE00003
MAX_ELEMENTS = 100_000
"""The most elements that are passed on the way to the pixels; a header of a video has some hundreds."""
MAX_DEPTH = 32
MAX_FRAGMENTS = 1_000_000
"""256 GiB in fragments of 256 KiB. Empty fragments count, too."""
MAX_LENGTHS_BYTES = 1 << 20


@dataclass(frozen=True)
class EncapsulatedStream:
    """Where a video stream lies in a DICOM file: ``spans`` are [start, stop) in bytes of the file, in order."""

    codec: str
    spans: tuple[tuple[int, int], ...]

    @property
    def size_bytes(self) -> int:
        """Of the joined spans."""
        return sum(stop - start for start, stop in self.spans)

    def reader(self, read_at: ReadAt) -> Callable[[int, int], bytes]:
        """``fetch(start, stop)`` of the joined spans, for ``storage.ranges.RangeFile``; ``read_at`` reads the file."""
        ends = list(accumulate(stop - start for start, stop in self.spans))

        def fetch(start: int, stop: int) -> bytes:
            parts = []
            number = bisect.bisect_right(ends, start)
            while start < stop and number < len(self.spans):
                span_start, span_stop = self.spans[number]
                inside = start - (ends[number] - (span_stop - span_start))
                parts.append(read_at(span_start + inside, min(stop - start, span_stop - span_start - inside)))
                start, number = ends[number], number + 1
            return b"".join(parts)

        return fetch


def stream_in(source: Source) -> Source:
    """``source`` itself, or the video stream in it where it is a DICOM file with one, as a file of its own.

    Raises UnreadableVideo for a DICOM file whose stream is not found, StorageUnavailable.
    """
    if not isinstance(source, RangeFile):
        return _stream_in_local(os.fspath(source))
    source.seek(0)
    read_at = read_at_of(source)
    head = read_at(0, HEAD_BYTES)
    source.seek(0)
    if not holds_dicom_stream(head):
        return source
    stream = find_stream(read_at, source.size_bytes)
    return RangeFile(stream.reader(read_at), stream.size_bytes)


def find_stream(read_at: ReadAt, size_bytes: int) -> EncapsulatedStream:
    """Where the video stream lies in a DICOM file of ``size_bytes``.

    Reads the lengths in the header and of the fragments, not the stream. A file that was cut gives what is there of
    its stream. Raises UnreadableVideo where the file is no DICOM file, holds no stream, or its lengths contradict each
    other; no message holds a value of the header.
    """
    head = read_at(0, HEAD_BYTES)
    codec = dicom_video(head)
    if codec is None or not holds_dicom_stream(head):
        raise UnreadableVideo("expected a DICOM file with a video stream (MPEG-2, H.264, HEVC), got another file")
    walk = _Walk(read_at, size_bytes)
    at, exact_bytes = walk.to_pixels()
    spans = walk.fragments(at)
    stream = EncapsulatedStream(codec, spans)
    if stream.size_bytes and _is_padded(stream, stream.reader(read_at), exact_bytes):
        start, stop = spans[-1]
        stream = EncapsulatedStream(codec, (*spans[:-1], (start, stop - 1)))
    if not stream.size_bytes:
        raise UnreadableVideo("expected a video stream in the DICOM file, got an empty one; send it again")
    return stream


class _Walk:
    """Goes over the elements of a data set in explicit VR, little endian, by their lengths."""

    def __init__(self, read_at: ReadAt, size_bytes: int):
        self._read_at = read_at
        self._size_bytes = size_bytes
        self._passed = 0

    def to_pixels(self) -> tuple[int, int | None]:
        """(where the items of the Pixel Data begin, the stream's exact length where the header states it)."""
        at, exact_bytes = 132, None
        while True:
            tag, vr, length, at = self._element(at)
            if tag == PIXEL_DATA:
                if length != UNDEFINED:
                    raise UnreadableVideo(
                        "expected an encapsulated video stream in the DICOM file, got pixels of a defined length; "
                        "export the video again"
                    )
                return at, exact_bytes
            if tag > PIXEL_DATA:
                raise UnreadableVideo("expected Pixel Data in the DICOM file, got none; export the video again")
            if tag in (EXTENDED_LENGTHS, TOTAL_LENGTH) and length <= MAX_LENGTHS_BYTES:
                values = self._exactly(at, length)
                exact_bytes = sum(
                    int.from_bytes(values[first : first + 8], "little") for first in range(0, length - 7, 8)
                )
            at = at + length if length != UNDEFINED else self._past_items(at, vr == b"UN", 0)

    def fragments(self, at: int) -> tuple[tuple[int, int], ...]:
        """The fragments after the offset table, which is passed by."""
        spans: list[tuple[int, int]] = []
        has_table = False
        for _ in range(MAX_FRAGMENTS + 2):
            header = self._read_at(at, 8)
            if len(header) < 8:  # the file was cut: what came of the stream is read
                return tuple(spans)
            tag, length = _tag(header), int.from_bytes(header[4:], "little")
            at += 8
            if tag == SEQUENCE_END:
                return tuple(spans)
            if tag != ITEM or length == UNDEFINED:
                raise UnreadableVideo(
                    f"expected fragment {len(spans) + 1} of the video stream in the DICOM file, got other data; the "
                    "file is damaged: send it again"
                )
            stop = min(at + length, self._size_bytes)
            if has_table and stop > at:
                spans.append((at, stop))
            has_table = True
            at += length
        raise UnreadableVideo(f"expected at most {MAX_FRAGMENTS:,} fragments in the DICOM file, got more")

    def _element(self, at: int, implicit: bool = False) -> tuple[int, bytes, int, int]:
        """(tag, VR, length, where the value begins) of the element at ``at``."""
        self._passed += 1
        if self._passed > MAX_ELEMENTS:
            raise UnreadableVideo(f"expected at most {MAX_ELEMENTS:,} elements in the DICOM header, got more")
        header = self._exactly(at, 8)
        tag, vr = _tag(header), header[4:6]
        if implicit or tag >> 16 == 0xFFFE:
            return tag, b"", int.from_bytes(header[4:], "little"), at + 8
        if vr in LONG_VRS:
            return tag, vr, int.from_bytes(self._exactly(at + 8, 4), "little"), at + 12
        if not (vr.isalpha() and vr.isupper()):
            raise UnreadableVideo("expected a DICOM header in explicit VR, got another one; the file is damaged")
        return tag, vr, int.from_bytes(header[6:], "little"), at + 8

    def _past_items(self, at: int, implicit: bool, depth: int) -> int:
        """The end of a sequence of undefined length. ``implicit``: without VRs, as in an unknown element."""
        if depth > MAX_DEPTH:
            raise UnreadableVideo(f"expected sequences of at most {MAX_DEPTH} levels in the DICOM header, got more")
        while True:
            tag, _, length, at = self._element(at, implicit)
            if tag == SEQUENCE_END:
                return at
            if tag != ITEM:
                raise UnreadableVideo("expected the items of a sequence in the DICOM header, got other data")
            if length != UNDEFINED:
                at += length
                continue
            while True:
                tag, vr, length, at = self._element(at, implicit)
                if tag == ITEM_END:
                    break
                if length == UNDEFINED:
                    at = self._past_items(at, implicit or vr == b"UN", depth + 1)
                else:
                    at += length

    def _exactly(self, at: int, count: int) -> bytes:
        data = self._read_at(at, count)
        if len(data) < count:
            raise UnreadableVideo(
                "expected Pixel Data in the DICOM file, got the end of the file; the copy stopped early: copy it again"
            )
        return data


def _is_padded(stream: EncapsulatedStream, fetch: Callable[[int, int], bytes], exact_bytes: int | None) -> bool:
    """Whether the last byte is not the stream's own: fragments have even lengths, so an odd stream ends with a zero.

    Where the header does not state the length, an MP4's boxes and the packets of a transport stream tell it. Of a
    program stream the zero is kept: there zeros after the end mean nothing.
    """
    size_bytes = stream.size_bytes
    if fetch(size_bytes - 1, size_bytes) != b"\0":
        return False
    if exact_bytes is not None and exact_bytes in (size_bytes, size_bytes - 1):
        return exact_bytes == size_bytes - 1
    head = fetch(0, 256)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return _mp4_stop(fetch, size_bytes) == size_bytes - 1
    return any(head[first : first + 1] == b"G" and size_bytes % step == 1 for first, step in ((0, 188), (4, 192)))


def _mp4_stop(fetch: Callable[[int, int], bytes], size_bytes: int) -> int:
    """Where the last box of an MP4 ends that is there as a whole."""
    at = 0
    for _ in range(MAX_ELEMENTS):
        header = fetch(at, min(at + 16, size_bytes))
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if len(header) < 8 or length < 8 or at + length > size_bytes:
            break
        at += length
    return at


def _stream_in_local(path: str) -> Source:
    """As ``stream_in``, of a file on this machine. What can't be opened is left to libavformat, which says why."""
    try:
        with open(path, "rb") as file:
            if not holds_dicom_stream(file.read(HEAD_BYTES)):
                return path
            size_bytes = os.fstat(file.fileno()).st_size

            def read_now(at: int, count: int) -> bytes:
                return os.pread(file.fileno(), count, at)

            stream = find_stream(read_now, size_bytes)
    except OSError:
        return path

    def read_at(at: int, count: int) -> bytes:
        try:
            with open(path, "rb", buffering=0) as again:  # a descriptor kept open would outlive the reader
                return os.pread(again.fileno(), count, at)
        except OSError as error:
            raise StorageUnavailable(
                f"expected a file that can be read, got {type(error).__name__}; check the drive, then run again"
            ) from None

    return RangeFile(stream.reader(read_at), stream.size_bytes)


def read_at_of(source: RangeFile) -> ReadAt:
    """Reads of ``source`` at any place. They raise the error of the store where it fails."""

    def read_at(at: int, count: int) -> bytes:
        source.seek(at)
        parts = []
        while count > 0 and (piece := source.read(count)):
            parts.append(piece)
            count -= len(piece)
        if source.failure is not None:
            raise source.failure
        return b"".join(parts)

    return read_at


def _tag(header: bytes) -> int:
    return int.from_bytes(header[:2], "little") << 16 | int.from_bytes(header[2:4], "little")
