"""How long decoding takes on cores and on NVDEC side by side.

A decoding actor takes one segment after another. It decodes on an engine of NVDEC where one is free, and else on its
core. So an engine always has its actor, and the other actors decode on cores.
"""

from __future__ import annotations

from dataclasses import dataclass

READERS = ("pyav", "nvdec", "auto")
"""What decodes: cores; NVDEC, and cores only where it can't; or both at once."""


@dataclass(frozen=True)
class DecodeWork:
    """All that is to be decoded, in seconds of what could decode it."""

    core_s: float
    """Core-seconds of the videos that both can decode."""
    engine_s: float
    """Engine-seconds of the same videos; 0 where there are none."""
    core_only_s: float
    """Core-seconds of the videos that NVDEC can't decode."""
    overhead_core_s: float
    """Core-seconds of handing the segments on, whoever decodes them."""

    @property
    def all_core_s(self) -> float:
        """Core-seconds where NVDEC decodes nothing."""
        return self.core_s + self.core_only_s


def decode_s(work: DecodeWork, actors: float, engines: int, reader: str) -> float:
    """Wall seconds of ``work`` with ``actors`` on as many cores, and ``engines`` of NVDEC.

    Nothing is lost at the end: segments are small against the work. Infinite where work is left that nobody can do.
    """
    engines = 0 if reader == "pyav" or not work.engine_s else min(engines, int(actors))
    cores = actors - engines
    overhead_s = work.overhead_core_s / actors
    if not engines:
        return work.all_core_s / actors + overhead_s
    engines_alone_s = work.engine_s / engines
    cores_first_s = 0.0 if not work.core_only_s else work.core_only_s / cores if cores else float("inf")
    if reader == "nvdec" or not cores or engines_alone_s <= cores_first_s:
        return max(engines_alone_s, cores_first_s) + overhead_s
    # Both finish together: in t seconds the cores do their own videos and a share x of the others, engines the rest.
    share_per_s = cores / work.core_s + engines / work.engine_s
    return (1 + work.core_only_s / work.core_s) / share_per_s + overhead_s


def actors_for(work: DecodeWork, within_s: float, engines: int, reader: str) -> float:
    """The least number of actors, whole or not, that finish ``work`` within ``within_s``. Infinite where none do."""
    if within_s <= 0:
        return float("inf")
    least, most = 0.0, (work.all_core_s + work.overhead_core_s) / within_s + engines + 1
    if decode_s(work, most, engines, reader) > within_s * (1 + 1e-9):
        return float("inf")
    for _ in range(60):
        middle = (least + most) / 2
        least, most = (least, middle) if decode_s(work, middle, engines, reader) <= within_s else (middle, most)
    return most
