"""A read-only file made of byte ranges, for containers that don't lie on the local disk.

libav reads in small steps and jumps about; each range request over a network costs tens of milliseconds.
So bytes come in blocks that are kept while the file is open, and a run of neighbouring blocks grows the
request, up to 4 MiB: few requests when a segment is read through, few wasted bytes when only an index is.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable

BLOCK_BYTES = 256 * 1024
MAX_BLOCKS_A_REQUEST = 16
KEPT_BLOCKS = 64
"""16 MiB a file: audio and video of one file interleave within a few MB, so both heads stay in it."""


class RangeFile(io.RawIOBase):
    """``fetch(start, stop) -> bytes`` as a seekable binary file of ``size_bytes``.

    ``failure`` keeps the first error of ``fetch``: libav may read a failed read as the end of the file, so whoever
    decodes from here asks for it before drawing a conclusion from an end or an error. From then on the file is at its
    end wherever it is read: libav would ask for other bytes, and each fetch would wait for the store once more.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size_bytes: int):
        super().__init__()
        self.size_bytes = size_bytes
        self.fetched_bytes = 0
        self.requests = 0
        self.failure: Exception | None = None
        self._fetch = fetch
        self._at = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._last_block = -2
        self._run_blocks = 1

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, count: int = -1) -> bytes:
        """Up to ``count`` bytes: what the current block still holds, so a read may be short but is never empty
        before the end, unless ``failure`` is set. Raises what ``fetch`` raises."""
        if count < 0:
            count = self.size_bytes - self._at
        if count <= 0 or self._at >= self.size_bytes or self.failure is not None:
            return b""
        number, offset = divmod(self._at, BLOCK_BYTES)
        piece = self._block(number)[offset : offset + count]
        self._at += len(piece)
        return piece

    def readinto(self, buffer) -> int:
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        follows = number == self._last_block + 1
        self._run_blocks = min(self._run_blocks * 2, MAX_BLOCKS_A_REQUEST) if follows else 1
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
