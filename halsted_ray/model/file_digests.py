"""sha256 of weight files, computed by a thread while the same files are being put on a device."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import PurePosixPath

import fsspec

from halsted_ray.storage.locations import is_local

BLOCK_BYTES = 1 << 22
"""How much of a remote file is read at a time."""


class FileDigests:
    """Collects the digests of the files that a loader reads, as a context: its thread ends with it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="digest")
        self._digests: dict[str, Future[str]] = {}

    def __enter__(self) -> FileDigests:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def add_file(self, path: str) -> None:
        """Begins to hash a local file. What the loader reads then lies in the page cache, or the other way round."""
        self._digests[PurePosixPath(path).name] = self._pool.submit(_digest_local, path)

    def add_bytes(self, path: str, data: bytes) -> None:
        """Begins to hash the content of a file that was read whole."""
        self._digests[PurePosixPath(path).name] = self._pool.submit(lambda: hashlib.sha256(data).hexdigest())

    def result(self) -> dict[str, str]:
        """File name → sha256 in hex; waits for the thread. Raises OSError where a file can't be read."""
        return {name: digest.result() for name, digest in self._digests.items()}


def digest_file(fs: fsspec.AbstractFileSystem, path: str) -> str:
    """sha256 in hex of a file at any place. Raises OSError."""
    if is_local(fs):
        return _digest_local(path)
    hasher = hashlib.sha256()
    with fs.open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            hasher.update(block)
    return hasher.hexdigest()


def _digest_local(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
