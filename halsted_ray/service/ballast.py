"""A file that holds room on a disk and is given up when the disk is full, so that a database can still be written.

Uploads leave a reserve (``storage_room``), but other programs fill disks too. Signing in, deleting and aborting write
to the database first, so without room for that nobody could make room.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)
BALLAST_BYTES = 64 * 1024**2
"""Some ten thousand deletions: one takes a few pages of 4 KiB, which SQLite's log holds until its next checkpoint."""
FULL_BYTES = 8 * 1024**2
"""With less than this free the disk counts as full."""


@dataclass(frozen=True)
class Ballast:
    """The file ``path``. Any number of processes may use it at once."""

    path: Path
    size_bytes: int = BALLAST_BYTES

    def take(self) -> bool:
        """Holds the room, where the disk has it twice and more; whether it is held now. May be repeated."""
        try:
            if self.path.exists():
                return True
            if self._free_bytes() < 2 * self.size_bytes + FULL_BYTES:
                return False
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(handle, 0, self.size_bytes)
            finally:
                os.close(handle)
        except OSError as error:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            log.warning("no room is held for the database: %s", os.strerror(error.errno or 0))
            return False
        return True

    def drop_where_full(self) -> None:
        """Gives the room up where the disk is full."""
        with suppress(OSError):
            if self._free_bytes() < FULL_BYTES and self.path.exists():
                self.path.unlink(missing_ok=True)
                log.error("the disk of the database is full: make room; the room that was held for it is given up")

    def _free_bytes(self) -> int:
        disk = os.statvfs(self.path.parent)
        return disk.f_bavail * disk.f_frsize
