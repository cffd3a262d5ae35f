"""Ray's actors as processes that can be killed: those of this test process only, other runs may share the machine."""

from __future__ import annotations

import os
from pathlib import Path

MARK = "HALSTED_TEST_PROCESS"


def mark_children() -> None:
    """Before Ray starts: everything that it starts is known by this."""
    os.environ[MARK] = str(os.getpid())


def actors_of(stage: str) -> list[int]:
    """Process ids of the actors for a stage (Linux: they carry its name in their title)."""
    mine = f"{MARK}={os.getpid()}\0".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_bytes()
            is_asked = title.startswith(b"ray::") and stage.encode() in title
            if is_asked and mine in (process / "environ").read_bytes() + b"\0":
                found.append(int(process.name))
        except OSError:  # it ended meanwhile
            continue
    return found
