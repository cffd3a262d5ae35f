"""How much slower this machine is for a process than a machine that does nothing else: a promise of seconds is one of a
machine that is not overloaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOST = 4.0
"""However busy the machine is, a promise is not stretched further."""


class Slowness:
    """``factor``: the wall time that this process's threads took per second in which they ran; at least 1."""

    def __init__(self) -> None:
        self.factor = 1.0


@contextmanager
def measured_slowness() -> Iterator[Slowness]:
    """Knows the slowness of the time from the begin of the block to its end.

    Linux counts for each thread how long it ran, and how long it was ready to run while other threads had the cores.
    """
    found, before = Slowness(), _counts()
    yield found
    now = _counts()
    ran, waited = (sum(now[thread][n] - before.get(thread, (0, 0))[n] for thread in now) for n in (0, 1))
    if ran:
        found.factor = min(MOST, (ran + waited) / ran)


def _counts() -> dict[str, tuple[int, int]]:
    """Thread → (ns in which it ran, ns in which it waited for a core)."""
    found = {}
    for thread in Path("/proc/self/task").iterdir():
        try:
            ran, waited, _ = (thread / "schedstat").read_text().split()
        except OSError:  # it ended meanwhile, or this is no Linux
            continue
        found[thread.name] = (int(ran), int(waited))
    return found
