"""The room in this machine's folder of temporary files, where uploads lie while they are stored and cleaned if the
store is no folder."""

from __future__ import annotations

import os
import tempfile

CLEANING_COPIES = 2
"""So many copies of an upload lie there while it is cleaned: the original, and the clean copy that is written."""


def free_bytes() -> int:
    """What the disk of that folder has left for users that are not root."""
    disk = os.statvfs(tempfile.gettempdir())
    return disk.f_bavail * disk.f_frsize
