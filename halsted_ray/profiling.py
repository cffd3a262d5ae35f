"""Where time goes: seconds of wall clock and CPU by stage, counted in the process that does the work.

``HERE`` holds the counters of this process; like its CPU time they only grow, and whoever wants to know what a piece of
work took takes the difference. Entering and leaving a stage costs 1 µs.
"""

from __future__ import annotations

import time

STAGES = {
    "read": "packets of the file, stored vectors",
    "decode": "libavcodec",
    "convert": "frames to model size",
    "encode": "windows to vectors",
    "generate": "vectors to tags",
    "write": "frames handed on, vectors and results stored",
    "wait": "an actor without work",
}
"""Name → what it is."""


class StageProfile:
    """``wall_s`` and ``cpu_s``: stage → seconds, every stage there. CPU seconds are those of all threads."""

    def __init__(self, wall_s: dict[str, float] | None = None, cpu_s: dict[str, float] | None = None):
        self.wall_s = dict.fromkeys(STAGES, 0.0) | (wall_s or {})
        self.cpu_s = dict.fromkeys(STAGES, 0.0) | (cpu_s or {})

    def stage(self, name: str) -> _Running:
        """``with profile.stage("decode"): …`` adds what the block takes. Stages don't nest."""
        return _Running(self, name)

    def add(self, name: str, wall_s: float, cpu_s: float = 0.0) -> None:
        self.wall_s[name] += wall_s
        self.cpu_s[name] += cpu_s

    def copy(self) -> StageProfile:
        return StageProfile(self.wall_s, self.cpu_s)

    def merge(self, other: StageProfile) -> None:
        for name in STAGES:
            self.add(name, other.wall_s[name], other.cpu_s[name])

    def __sub__(self, other: StageProfile) -> StageProfile:
        return StageProfile(
            {name: self.wall_s[name] - other.wall_s[name] for name in STAGES},
            {name: self.cpu_s[name] - other.cpu_s[name] for name in STAGES},
        )

    def asdict(self) -> dict[str, dict[str, float]]:
        """JSON values; ``Profile(**…)`` reads them back."""
        return {
            "wall_s": {name: round(value, 6) for name, value in self.wall_s.items()},
            "cpu_s": {name: round(value, 6) for name, value in self.cpu_s.items()},
        }


class _Running:
    __slots__ = ("profile", "name", "wall_s", "cpu_s")

    def __init__(self, profile: StageProfile, name: str):
        self.profile, self.name = profile, name

    def __enter__(self) -> None:
        self.wall_s, self.cpu_s = time.perf_counter(), time.process_time()

    def __exit__(self, *_exc) -> None:
        self.profile.add(self.name, time.perf_counter() - self.wall_s, time.process_time() - self.cpu_s)


PROCESS_PROFILE = StageProfile()


class ActorTimer:
    """The time of one actor without a rest: ``with shift: …`` around each call. ``spent`` is then what it took since
    the call before; what lies between calls is waiting, and what a call spends in no stage of its own is ``write``."""

    def __init__(self):
        self.left_s = time.perf_counter()
        self.spent = StageProfile()

    def __enter__(self) -> None:
        self.came_s, self.before = time.perf_counter(), PROCESS_PROFILE.copy()

    def __exit__(self, *_exc) -> None:
        now_s = time.perf_counter()
        self.spent = PROCESS_PROFILE - self.before
        self.spent.add("write", max(0.0, now_s - self.came_s - sum(self.spent.wall_s.values())))
        self.spent.add("wait", self.came_s - self.left_s)
        self.left_s = now_s
