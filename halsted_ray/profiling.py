"""Where time goes: seconds of wall clock and CPU by stage, counted in the thread that does the work.

``THREAD_PROFILE`` holds the counters of this thread. They only grow, like the CPU time of a process: to know what a
piece of work took, take the difference of two copies. Entering and leaving a stage costs 1 µs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import TypedDict

STAGES = {
    "read": "packets of the file, stored vectors",
    "decode": "libavcodec, or NVDEC",
    "convert": "frames to model size",
    "queue": "windows that wait for their batch",
    "encode": "windows to vectors",
    "generate": "vectors to tags",
    "write": "frames handed on, vectors and results stored",
    "wait": "an actor without work",
}
"""Name of a stage → what happens in it."""


class StageSeconds(TypedDict):
    """What one stage took, as a row of the typed column ``profile`` of the pipeline's tables."""

    stage: str
    wall_s: float
    cpu_s: float


class StageProfile:
    """Seconds per stage: ``wall_s`` and ``cpu_s`` map every stage to seconds."""

    def __init__(self, wall_s: Mapping[str, float] | None = None, cpu_s: Mapping[str, float] | None = None):
        self.wall_s: dict[str, float] = {**dict.fromkeys(STAGES, 0.0), **(wall_s or {})}
        self.cpu_s: dict[str, float] = {**dict.fromkeys(STAGES, 0.0), **(cpu_s or {})}

    def stage(self, name: str) -> _StageTimer:
        """``with profile.stage("decode"): …`` adds what the block takes. Stages don't nest."""
        return _StageTimer(self, name)

    def add(self, name: str, wall_s: float, cpu_s: float = 0.0) -> None:
        """Adds seconds to one stage. Raises KeyError for a name that is not in ``STAGES``."""
        self.wall_s[name] += wall_s
        self.cpu_s[name] += cpu_s

    def copy(self) -> StageProfile:
        """The counters as they are now; what is added later does not change the copy."""
        return StageProfile(self.wall_s, self.cpu_s)

    def merge(self, other: StageProfile) -> None:
        """Adds the seconds of ``other``, stage by stage."""
        for name in STAGES:
            self.add(name, other.wall_s[name], other.cpu_s[name])

    def __sub__(self, other: StageProfile) -> StageProfile:
        return StageProfile(
            {name: self.wall_s[name] - other.wall_s[name] for name in STAGES},
            {name: self.cpu_s[name] - other.cpu_s[name] for name in STAGES},
        )

    def rows(self) -> list[StageSeconds]:
        """One row per stage that took time; ``StageProfile.from_rows`` reads them back."""
        return [
            {"stage": name, "wall_s": self.wall_s[name], "cpu_s": self.cpu_s[name]}
            for name in STAGES
            if self.wall_s[name] or self.cpu_s[name]
        ]

    @classmethod
    def from_rows(cls, rows: Iterable[StageSeconds]) -> StageProfile:
        """The profile that ``rows`` describe. A stage without a row took no time."""
        rows = list(rows)
        return cls({row["stage"]: row["wall_s"] for row in rows}, {row["stage"]: row["cpu_s"] for row in rows})

    def asdict(self) -> dict[str, dict[str, float]]:
        """JSON values, seconds rounded to 1 µs; ``StageProfile(**…)`` reads them back."""
        return {
            "wall_s": {name: round(value, 6) for name, value in self.wall_s.items()},
            "cpu_s": {name: round(value, 6) for name, value in self.cpu_s.items()},
        }


class _StageTimer:
    __slots__ = ("profile", "name", "wall_s", "cpu_s")

    def __init__(self, profile: StageProfile, name: str):
        self.profile, self.name = profile, name

    def __enter__(self) -> None:
        self.wall_s, self.cpu_s = time.perf_counter(), time.thread_time()

    def __exit__(self, *_exc: object) -> None:
        self.profile.add(self.name, time.perf_counter() - self.wall_s, time.thread_time() - self.cpu_s)


class ThreadProfile(threading.local, StageProfile):
    """A profile that every thread has of its own, so that the calls of an actor don't count each other's seconds."""


THREAD_PROFILE = ThreadProfile()
"""The counters of this thread."""


class ActorTimer(threading.local):
    """Accounts for all the time of one actor, in each of its threads: ``with timer: …`` around each call.

    After a call, ``spent`` is the profile of the time since the thread's call before it ended: the time between two
    calls is stage ``wait``, and the part of a call that lies in no other stage is stage ``write``.
    """

    def __init__(self) -> None:
        self.spent = StageProfile()
        self._ended_s = time.perf_counter()

    def __enter__(self) -> None:
        self._started_s, self._before = time.perf_counter(), THREAD_PROFILE.copy()

    def __exit__(self, *_exc: object) -> None:
        now_s = time.perf_counter()
        self.spent = THREAD_PROFILE - self._before
        self.spent.add("write", max(0.0, now_s - self._started_s - sum(self.spent.wall_s.values())))
        self.spent.add("wait", self._started_s - self._ended_s)
        self._ended_s = now_s
