"""Tasks of a process pool that take long and leave word that they began: for tests of who stops them."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

FOLDER = "HALSTED_TEST_SLOW_JOBS"
LONG_S = 20.0


def begun() -> list[str]:
    return sorted(path.name for path in Path(os.environ[FOLDER]).iterdir())


def render(location: str, video, folder: str):
    """In the place of ``atlas.phantom_archive.render``."""
    (Path(folder) / f"{video.name}.part").write_bytes(b"begun")
    return _work(video.name, not begun())


def _work(name: str, is_first: bool) -> None:
    (Path(os.environ[FOLDER]) / name).touch()
    if not is_first:
        time.sleep(LONG_S)


def all_ended(within_s: float = 60.0) -> bool:
    """Whether no child process is left. The pool's own thread may be the one that collects a child that was ended, and
    Python lists the child until that thread has done so: seen on a busy machine."""
    deadline = time.monotonic() + within_s
    while multiprocessing.active_children():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
