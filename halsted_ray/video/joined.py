"""Files that were joined byte by byte: how much of such a file libavformat does not read.

``cat a.mp4 b.mp4`` plays as its first recording alone, and libavformat reads no more than that. What lies behind it is
not lost in silence: its length is estimated, and stands as a gap.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from halsted_ray.storage.ranges import RangeFile
from halsted_ray.video.matroska import segment_stop

if TYPE_CHECKING:
    from halsted_ray.storage.ranges import Source

HEAD_BYTES = 64
BOXES = 256
"""The most boxes of an MP4 that are looked at; a file written in fragments has thousands."""
LOOK_BYTES = 256 * 1024
LOOKS = 64
"""How a long end of a transport stream is looked at: in so many places, so many bytes each."""
READ_SEGMENTS = 2
"""libavformat goes on from one Matroska recording to the next once."""


def unread_bytes(source: Source, container: str, size_bytes: int, read_to_byte: int) -> int:
    """How many bytes at the end of a file belong to recordings that libavformat does not read. ``container``: the name
    of libavformat's demuxer; ``read_to_byte``: where the last packet of the picture ended. Raises OSError."""
    if container == "mpegts":
        return _pictures_stop(source, read_to_byte, size_bytes) - read_to_byte
    if container.startswith("mov"):
        return _after_first_movie(source, size_bytes)
    if container.startswith("matroska"):
        starts = list(islice(_segments(source, size_bytes), READ_SEGMENTS + 1))
        return size_bytes - starts[READ_SEGMENTS] if len(starts) > READ_SEGMENTS else 0
    return 0


def _pictures_stop(source: Source, start: int, size_bytes: int) -> int:
    """Up to which byte pictures begin in a transport stream after the byte ``start``, which is given where there are
    none: under numbers (PIDs) that libavformat did not know when it opened the file, since another recorder wrote them.
    Zeros after the last picture, a recorder's unused space, do not count."""
    step = max(LOOK_BYTES, (size_bytes - start) // LOOKS)
    for at in reversed(range(start, size_bytes, step)):
        data = read_at(source, at, LOOK_BYTES)
        for size in (188, 192):
            first = data.find(b"G")
            while 0 <= first and first + 2 * size < len(data) and data[first + size] != 0x47:
                first = data.find(b"G", first + 1)
            places = range(first, len(data) - 188, size) if first >= 0 else range(0)
            if last := next((k + 188 for k in reversed(places) if _begins_picture(data[k : k + 188])), None):
                return size_bytes if at + step >= size_bytes else at + last
    return start


def _begins_picture(packet: bytes) -> bool:
    """Whether a transport packet holds the beginning of a picture (ISO/IEC 13818-1: a PES packet with the stream_id of
    video)."""
    if packet[0] != 0x47 or not packet[1] & 0x40 or not packet[3] & 0x10:
        return False
    at = 5 + packet[4] if packet[3] & 0x20 else 4
    return packet[at : at + 3] == b"\0\0\1" and at + 3 < len(packet) and 0xE0 <= packet[at + 3] <= 0xEF


def has_further_segments(source: Source) -> bool:
    """Whether a Matroska file holds more than one recording. Raises OSError."""
    return len(list(islice(_segments(source, _size_bytes(source)), 2))) > 1


def _size_bytes(source: Source) -> int:
    return source.size_bytes if isinstance(source, RangeFile) else os.stat(source).st_size


def has_fragment_table(source: Source) -> bool:
    """Whether an MP4 lists its fragments in front of them (``sidx``, as files for DASH do). libavformat then reads each
    fragment when it comes to it, and the index of an open file ends with the fragments read so far. Raises OSError."""
    return any(name == b"sidx" for name, _ in _boxes(source, _size_bytes(source)))


def _after_first_movie(source: Source, size_bytes: int) -> int:
    names = set[bytes]()
    for name, at in _boxes(source, size_bytes):
        if name == b"ftyp" and {b"moov", b"mdat"} <= names:
            return size_bytes - at
        names.add(name)
    return 0


def _boxes(source: Source, size_bytes: int) -> Iterator[tuple[bytes, int]]:
    """(name, first byte) of the boxes of an MP4 up to its first fragment."""
    at = 0
    for _ in range(BOXES):
        head = read_at(source, at, 16)
        name, length = head[4:8], int.from_bytes(head[:4], "big")
        yield name, at
        length = int.from_bytes(head[8:16], "big") if length == 1 else length
        if length < 8 or at + length >= size_bytes or name == b"moof":
            break
        at += length


def _segments(source: Source, size_bytes: int) -> Iterator[int]:
    """The bytes at which the recordings of a Matroska file begin."""
    at = 0
    while at < size_bytes:
        head = read_at(source, at, HEAD_BYTES)
        if not head.startswith(b"\x1a\x45\xdf\xa3"):
            return
        yield at
        stop = segment_stop(head)
        if stop is None or stop <= 0:
            return
        at += stop


def read_at(source: Source, start: int, count: int) -> bytes:
    """``count`` bytes from the byte ``start`` on, fewer at the end. The position of a remote file is kept."""
    if not isinstance(source, RangeFile):
        with open(source, "rb") as file:
            file.seek(start)
            return file.read(count)
    at = source.tell()
    source.seek(start)
    pieces = []
    while count > 0 and (piece := source.read(count)):
        pieces.append(piece)
        count -= len(piece)
    source.seek(at)
    return b"".join(pieces)
