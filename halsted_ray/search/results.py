"""What of the nearest moments is shown: neighbours are one result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from halsted_ray.search.index_search import FoundMoment
from halsted_ray.storage.vector_files import Span

APART_S = 15.0
"""Moments of one video that are nearer to each other than this are one result."""


@dataclass
class _Taken:
    """A part of a video that a result stands for. ``grows``: by the neighbours that come to belong to it."""

    start_s: float
    stop_s: float
    grows: bool

    def takes(self, moment: FoundMoment) -> bool:
        """Whether a moment belongs to it."""
        if not self.start_s <= moment.middle_s < self.stop_s:
            return False
        if self.grows:
            self.start_s = min(self.start_s, moment.start_s - APART_S)
            self.stop_s = max(self.stop_s, moment.stop_s + APART_S)
        return True


def distinct(
    found: Iterable[FoundMoment], count: int, span_of: Callable[[FoundMoment], Span | None] = lambda moment: None
) -> list[FoundMoment]:
    """The first ``count`` of ``found`` (the nearest first) that do not belong to one before them.

    ``span_of``: the span of the map's row at a moment. The moments of one row are one result. Where there is no row, a
    moment belongs to a result that is nearer than ``APART_S``, and the neighbours of this moment do so too.
    """
    shown: list[FoundMoment] = []
    taken: dict[str, list[_Taken]] = {}
    for moment in found:
        if len(shown) == count:
            break
        own = taken.setdefault(moment.video_id, [])
        if any([part.takes(moment) for part in own]):
            continue
        row = span_of(moment)
        near = (moment.start_s - APART_S, moment.stop_s + APART_S)
        own.append(_Taken(*(row or near), grows=row is None))
        shown.append(moment)
    return shown
