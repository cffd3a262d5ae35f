"""How much slower this machine is for a process than a machine that does nothing else: a promise of seconds is one of a
machine that is not overloaded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

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


WORK_S = 0.067
"""CPU seconds of ``work`` on the core for which promises of speed hold: on a slower core it took 0.15 s where that core
drew 65 of the phantom's 150 frames per second."""


def core_slowness() -> float:
    """How much slower a core is now than the core for which promises of speed hold; at least 1, at most ``MOST``. An
    older core is slower, and so is half of a core, when another process has the other half."""
    began_s = time.process_time()
    work()
    return min(MOST, max(1.0, (time.process_time() - began_s) / WORK_S))


def work() -> None:
    """Arithmetic on pictures, as it is done for each frame."""
    picture = np.random.default_rng(0).random((360, 640, 3), dtype=np.float32)
    for _ in range(40):
        blurred = picture[1:] * np.float32(0.5) + picture[:-1] * np.float32(0.5)
        np.clip(np.exp(-blurred) * np.float32(255), 0, 255).astype(np.uint8)
