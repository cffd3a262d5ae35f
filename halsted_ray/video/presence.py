"""How much of a window has a picture, and what becomes of a window that lacks some: the rule, in one place.

A window is asked where at least ``least_present`` of its time has a picture. The frames of its other times are then
taken from the nearest of its own frames that is there. A window with less is not asked. Mapping, training, evaluation
and the service all go by this rule.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # at run time it would import pyarrow into the decoding process
    from halsted_ray.records import Window
    from halsted_ray.video.frames import Frames

LEAST_PRESENT = 0.75
"""The share of a window's time that must have a picture. At 0.75 a coarse window of 30 s may lack 7.5 s, and a fine
window of 2.5 s may lack 0.625 s."""

Span = tuple[float, float]
"""[start_s, stop_s)"""

ROUNDING_S = 1e-9
"""Sums of spans are this exact."""


def union(spans: Iterable[Span]) -> list[Span]:
    """The same time as ``spans``, in order, none over another and none touching another."""
    found: list[Span] = []
    for start_s, stop_s in sorted(spans):
        if found and start_s <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], stop_s)
        elif start_s < stop_s:
            found.append((start_s, stop_s))
    return found


def without(span: Span, holes: Iterable[Span]) -> list[Span]:
    """The parts of ``span`` that lie in none of ``holes``, in order."""
    parts: list[Span] = []
    at_s, stop_s = span
    for hole_start_s, hole_stop_s in union(holes):
        if hole_stop_s <= at_s or hole_start_s >= stop_s:
            continue
        if at_s < hole_start_s:
            parts.append((at_s, hole_start_s))
        at_s = hole_stop_s
    if at_s < stop_s:
        parts.append((at_s, stop_s))
    return parts


def overlapping(spans: Sequence[Span], span: Span) -> Sequence[Span]:
    """Those of ``spans``, as ``union`` gives them, that share time with ``span``: found without looking at the others,
    since a damaged video of hours has thousands of holes and ten thousand windows."""
    start_s, stop_s = span
    first = bisect_right(spans, start_s, key=itemgetter(1))
    return spans[first : bisect_left(spans, stop_s, lo=first, key=itemgetter(0))]


def missing_s(window: Window, missing: Iterable[Span]) -> float:
    """Seconds of the window that lie in the spans ``missing``, which have no picture."""
    window_s = window.stop_s - window.start_s
    return window_s - sum(stop_s - start_s for start_s, stop_s in without((window.start_s, window.stop_s), missing))


def is_asked(window: Window, missing: Sequence[Span], present_T: NDArray[np.bool_], least_present: float) -> bool:
    """Whether a window has enough pictures to be asked.

    ``present_T``: which of the window's frames are there; at least one must be.
    """
    most_s = (1 - least_present) * (window.stop_s - window.start_s)
    return bool(present_T.any()) and missing_s(window, missing) <= most_s + ROUNDING_S


def stand_ins(present_T: NDArray[np.bool_]) -> NDArray[np.int64]:
    """int64 [T]: for each frame of a window the nearest frame that is there, which is itself where it is there.

    Of two that are equally near, the earlier. At least one frame must be there.
    """
    there = np.flatnonzero(present_T)
    distance_TP = np.abs(np.arange(len(present_T))[:, None] - there[None, :])
    return there[distance_TP.argmin(axis=1)]


def pictures_of(frames: Frames, window: Window, least_present: float = LEAST_PRESENT) -> NDArray[np.uint8]:
    """uint8 [T, H, W, 3]: the frames of one window, each missing frame replaced by its nearest neighbour.

    Raises CorruptSegment where the window has too few pictures to be asked.
    """
    missing = [(span.start_s, span.stop_s) for span in frames.missing]
    if not missing:
        return frames.images_NHWC
    if not is_asked(window, missing, frames.present_N, least_present):
        frames.require_whole()
    return frames.images_NHWC[stand_ins(frames.present_N)]
