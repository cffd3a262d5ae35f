"""Whether a disk is full: FFmpeg loses the reason of a failed write, which looks like a bad file then."""

from __future__ import annotations

import errno
import os
from pathlib import Path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
STORE_FAULTS = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENETUNREACH)
"""What the operating system says of a disk or a file server that is away or broken: the file is not at fault."""
LEAST_FREE_BYTES = 1 << 20
"""Writing that failed on a disk with less room than this failed for want of room."""


def raise_where_full(out: str | Path) -> None:
    """Raises OSError (ENOSPC) where the disk of the file ``out``, which could not be written, has no room left."""
    disk = os.statvfs(Path(out).parent)
    if disk.f_bavail * disk.f_frsize < LEAST_FREE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
