"""Matroska and WebM files without cues, read over a network: where to begin reading for a wanted time.

libavformat looks for a time in such a file by reading from its start. An hour mapped in segments would be fetched sixty
times. Here the cluster with that time is found by looking into the file at guessed places. (A cluster is a few seconds
of packets, with its time at its head.) The bytes between the file's header and that cluster are then hidden from
libavformat, as one Void element, which it skips.
"""

from __future__ import annotations

import io

from halsted_ray.storage.ranges import BLOCK_BYTES, RangeFile

# Ids of Matroska's elements.
CLUSTER, TIMESTAMP, CRC, VOID = b"\x1f\x43\xb6\x75", 0xE7, 0xBF, 0xEC
SEGMENT = b"\x18\x53\x80\x67"
TIMESTAMP_SCALE = b"\x2a\xd7\xb1"
HEAD_BYTES = 4 * 1024 * 1024
"""The header, with its fonts and covers, ends before this byte; else libavformat searches the file by itself."""
NEAR_S = 6.0
NEAR_BYTES = 1024 * 1024
"""The search ends where it is this near to the wanted time, or where only so few bytes are left to search."""
LONGEST_CLUSTER_HEAD = 32
"""Bytes from the start of a cluster to the end of its time, at most."""

Place = tuple[int, float]
"""(byte at which a cluster begins, its time in seconds)."""


class Clusters:
    """The clusters of a file. ``first`` is the first of them, None where none is found near the file's start."""

    def __init__(self, source: RangeFile):
        self.source = source
        self.scale_s = _timestamp_scale_s(self._read(0, min(source.size_bytes, BLOCK_BYTES)))
        self.first = self._next(0, min(source.size_bytes, HEAD_BYTES))

    def last_by(self, time_s: float) -> int:
        """The byte at which a cluster begins whose time is at or before ``time_s``, and near it where there is one.

        The file has a first cluster.
        """
        assert self.first is not None
        at, at_s = self.first
        stop = self.source.size_bytes
        stop_s: float | None = None
        halve = False
        while time_s - at_s > NEAR_S and stop - at > NEAR_BYTES:
            share = 0.5
            if stop_s is not None and not halve:  # by the mean bit rate; by halves every other time, since rates vary
                share = min(0.95, max(0.05, (time_s - NEAR_S / 2 - at_s) / (stop_s - at_s)))
            halve = not halve
            middle = at + max(1, int((stop - at) * share))
            found = self._next(middle, stop)
            if found is None:
                stop = middle
            elif found[1] <= time_s:
                at, at_s = found
            else:
                stop, stop_s = middle, found[1]
        return at

    def hidden_to(self, cluster: int) -> io.RawIOBase:
        """The file with all bytes between its header and the byte ``cluster`` as one element to skip.

        All other bytes stay at their places.
        """
        assert self.first is not None
        return _Hidden(self.source, self.first[0], cluster)

    def _next(self, start: int, stop: int) -> Place | None:
        """The first cluster that begins in ``[start, stop)``."""
        while start < stop:
            data = self._read(start, min(start + BLOCK_BYTES + LONGEST_CLUSTER_HEAD, self.source.size_bytes))
            at = data.find(CLUSTER)
            while 0 <= at < min(BLOCK_BYTES, stop - start):
                ticks = _cluster_ticks(data[at : at + LONGEST_CLUSTER_HEAD])
                if ticks is not None:
                    return start + at, ticks * self.scale_s
                at = data.find(CLUSTER, at + 1)
            start += BLOCK_BYTES
        return None

    def _read(self, start: int, stop: int) -> bytes:
        pieces = []
        self.source.seek(start)
        while start < stop and (piece := self.source.read(stop - start)):
            pieces.append(piece)
            start += len(piece)
        return b"".join(pieces)


class _Hidden(io.RawIOBase):
    """``source`` with a Void element's head at byte ``start``, which makes readers skip to byte ``stop``."""

    def __init__(self, source: RangeFile, start: int, stop: int):
        super().__init__()
        self.source, self.start = source, start
        self.void = b""
        if stop - start >= 9:
            self.void = bytes([VOID]) + (1 << 56 | stop - start - 9).to_bytes(8, "big")
        source.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.source.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self.source.seek(offset, whence)

    def read(self, count: int = -1) -> bytes:
        at = self.source.tell()
        piece = bytearray(self.source.read(count))
        for number, value in enumerate(self.void, self.start - at):
            if 0 <= number < len(piece):
                piece[number] = value
        return bytes(piece)


def segment_stop(head: bytes) -> int | None:
    """The byte at which the first recording of a file ends, from the file's first bytes; None where it does not say.

    Two files that were joined byte by byte hold two recordings, and players show the first only.
    """
    at = 4 + _size_length(head, 4)
    header_bytes = _size(head, 4)
    if header_bytes is None:
        return None
    at += header_bytes
    size = _size(head, at + 4) if head[at : at + 4] == SEGMENT else None
    return None if size is None else at + 4 + _size_length(head, at + 4) + size


def _size_length(data: bytes, at: int) -> int:
    return 9 - data[at].bit_length() if at < len(data) and data[at] else 1


def _size(data: bytes, at: int) -> int | None:
    """The size of the element whose size stands at ``at``; None where it is unknown."""
    length = _size_length(data, at)
    if at + length > len(data) or not data[at]:
        return None
    marked = int.from_bytes(data[at : at + length], "big")
    size = marked - (1 << 7 * length)
    return None if size == (1 << 7 * length) - 1 else size


def _timestamp_scale_s(head: bytes) -> float:
    """Seconds per tick, as the file's header states it (a millisecond where it does not)."""
    at = head.find(TIMESTAMP_SCALE)
    return ((_number(head, at + len(TIMESTAMP_SCALE)) if at >= 0 else None) or 1_000_000) / 1e9


def _cluster_ticks(head: bytes) -> int | None:
    """The time of the cluster that begins with these bytes, in ticks; None where they only look like a cluster."""
    at = len(CLUSTER)
    if len(head) < LONGEST_CLUSTER_HEAD or not head[at]:
        return None
    at += 9 - head[at].bit_length()  # the cluster's size, which may be unknown
    if head[at] == CRC:
        at += 6
    return _number(head, at + 1) if head[at] == TIMESTAMP else None


def _number(data: bytes, at: int) -> int | None:
    """The unsigned number whose element begins at ``at``: a byte with its length (1 to 8), and the number's bytes."""
    length = data[at] - 0x80
    if not 1 <= length <= 8 or at + 1 + length > len(data):
        return None
    return int.from_bytes(data[at + 1 : at + 1 + length], "big")
