"""A remote file, read by byte ranges: a read-only file object for containers that don't lie on the local disk.

libav reads in small steps and jumps about, and each range request over a network costs tens of milliseconds. So bytes
are fetched in blocks, and the blocks are kept while the file is open. Where neighbouring blocks are read one after
another, each request asks for twice as many blocks as the one before, up to 4 MiB. That takes few requests where a
segment is read through, and wastes few bytes where only an index is read.
"""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from halsted_ray.errors import UnreadableVideo
from halsted_ray.storage.locations import Location, filesystem, local_path
from halsted_ray.storage.retry import PATIENCE_S, with_retries

if TYPE_CHECKING:
    from typing_extensions import Buffer

Fetch = Callable[[int, int], bytes]
"""``fetch(start, stop)`` gives the bytes [start, stop) of one file."""

BLOCK_BYTES = 256 * 1024
MAX_BLOCKS_PER_REQUEST = 16
KEPT_BLOCKS = 64
"""16 MiB per open file. Audio and video of one file interleave within a few MB, so the blocks at which both are read
stay among the kept blocks."""


class ShortRead(OSError):
    """The store gave fewer bytes than were asked for, though the file has them."""


class RangeFile(io.RawIOBase):
    """``fetch(start, stop) -> bytes`` as a seekable binary file of ``size_bytes``.

    ``failure`` keeps the first error of ``fetch``. libav may take a failed read for the end of the file, so the code
    that decodes checks ``failure`` before it draws a conclusion from an end or an error. After a failure the file is at
    its end wherever it is read: libav would ask for other bytes, and each fetch would wait for the store once more.
    """

    def __init__(self, fetch: Fetch, size_bytes: int):
        super().__init__()
        self.size_bytes = size_bytes
        self.fetched_bytes = 0
        """Bytes fetched so far, by ``requests`` requests."""
        self.requests = 0
        self.failure: Exception | None = None
        self._fetch = fetch
        self._at = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._last_block = -2
        self._run_blocks = 1

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position of the next read, in bytes from the start."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Sets the position of the next read, as files do; fetches nothing."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, count: int = -1) -> bytes:
        """Up to ``count`` bytes, as many as the current block still holds.

        So a read may be short, but it is never empty before the end, unless ``failure`` is set. Raises what ``fetch``
        raises.
        """
        if count < 0:
            count = self.size_bytes - self._at
        if count <= 0 or self._at >= self.size_bytes or self.failure is not None:
            return b""
        number, offset = divmod(self._at, BLOCK_BYTES)
        piece = self._block(number)[offset : offset + count]
        self._at += len(piece)
        return piece

    def readinto(self, buffer: Buffer) -> int:
        """As ``read``, into ``buffer``; the number of bytes."""
        view = memoryview(buffer).cast("B")
        piece = self.read(len(view))
        view[: len(piece)] = piece
        return len(piece)

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        follows = number == self._last_block + 1
        self._run_blocks = min(self._run_blocks * 2, MAX_BLOCKS_PER_REQUEST) if follows else 1
        start = number * BLOCK_BYTES
        stop = min(start + self._run_blocks * BLOCK_BYTES, self.size_bytes)
        try:
            data = self._fetch(start, stop)
        except Exception as error:
            self.failure = error
            raise
        self.fetched_bytes += len(data)
        self.requests += 1
        for offset in range(0, len(data), BLOCK_BYTES):
            self._last_block = number + offset // BLOCK_BYTES
            self._blocks[self._last_block] = data[offset : offset + BLOCK_BYTES]
        while len(self._blocks) > KEPT_BLOCKS:
            self._blocks.popitem(last=False)
        return self._blocks[number]


Source = Location | RangeFile
"""What ``video.container.VideoFile`` opens: a local path, or a remote file that is read by ranges."""


def range_fetcher(location: str, patience_s: float = PATIENCE_S) -> tuple[Fetch, int]:
    """The function that fetches byte ranges of a remote file, and the file's size in bytes.

    The size is asked for at once. Both requests are tried again for ``patience_s``. Raises UnreadableVideo where the
    file is not there, StorageUnavailable where it can't be fetched now.
    """
    fs, path = filesystem(location)
    size_bytes = with_retries(lambda: fs.size(path), "its size", patience_s)
    if size_bytes is None:
        raise UnreadableVideo("expected a file of known size to read by ranges, got a stream; copy it to a store first")

    def fetch_once(start: int, stop: int) -> bytes:
        data: bytes = fs.cat_file(path, start=start, end=stop)
        if len(data) != stop - start:  # the file is being written, or the store is in trouble
            raise ShortRead
        return data

    def fetch(start: int, stop: int) -> bytes:
        return with_retries(lambda: fetch_once(start, stop), f"bytes [{start}, {stop})", patience_s)

    return fetch, size_bytes


def open_source(location: Location) -> str | RangeFile:
    """A location as ``Source``: the path where it is on this machine, else the remote file.

    Raises UnreadableVideo and StorageUnavailable, as ``range_fetcher``.
    """
    path = local_path(location)
    return path if path is not None else RangeFile(*range_fetcher(os.fspath(location)))
