"""A small disk (a tmpfs of its own), so that the error "no space left" comes from the kernel."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BLOCK_BYTES = 4096


@contextmanager
def small_disk(place: Path, size_mb: int) -> Iterator[Path]:
    """Mounts an empty disk of ``size_mb`` at ``place``; skips the test where mounting is not allowed."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path, leave_bytes: int = 0) -> Path:
    """Fills the disk but for ``leave_bytes``; returns the file that fills it, to be deleted."""
    ballast = place / ".ballast"
    handle = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    written_bytes = 0
    try:
        while True:
            written_bytes += os.write(handle, bytes(BLOCK_BYTES))
    except OSError:
        os.ftruncate(handle, max(0, written_bytes - leave_bytes))
    finally:
        os.close(handle)
    return ballast
