"""How far two annotators agree: Cohen's kappa over frames that both annotated, and how far apart their ends are.

Pure functions of labels and times. Whoever corrects what a model or somebody else said starts from it and agrees more
than two people who begin from nothing, so a kappa over corrections is no inter-rater reliability.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

FRAME_S = 1.0
"""Frames in which agreement is counted, as annotators of surgical phases do."""
TimedLabel = tuple[Hashable, float, float]
"""(label, start_s, stop_s), half-open."""


@dataclass(frozen=True)
class Agreement:
    """``kappa``: -1 to 1, NaN where it is not defined. ``boundary_error_s``: the median distance of the ends of matched
    spans, NaN where no two match. ``frames``: how many both annotated."""

    kappa: float
    boundary_error_s: float
    frames: int


def agreement(one: Sequence[TimedLabel], other: Sequence[TimedLabel], frame_s: float = FRAME_S) -> Agreement:
    """How far two annotators of one tag of one video agree. A frame counts where both have a span at its middle: a time
    that one of them left open can mean that nothing is there, or that nobody looked."""
    ours, theirs = frames_of(one, frame_s), frames_of(other, frame_s)
    both = sorted(ours.keys() & theirs.keys())
    errors_s = boundary_errors_s(one, other)
    return Agreement(
        cohen_kappa([ours[frame] for frame in both], [theirs[frame] for frame in both]),
        float(np.median(errors_s)) if errors_s else math.nan,
        len(both),
    )


def frames_of(spans: Iterable[TimedLabel], frame_s: float = FRAME_S) -> dict[int, Hashable]:
    """Number of a frame → its label: of the span that holds the frame's middle, the one that starts last where several
    do. Frames without a span are left out."""
    labels: dict[int, Hashable] = {}
    for label, start_s, stop_s in sorted(spans, key=lambda span: (span[1], span[2])):
        first, end = (math.ceil(edge_s / frame_s - 0.5) for edge_s in (start_s, stop_s))
        labels.update(dict.fromkeys(range(first, end), label))
    return labels


def cohen_kappa(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """Cohen's kappa (1960) of two annotators over the same items: (p_o - p_e) / (1 - p_e).

    NaN without items, and where both use one and the same label throughout: then chance alone agrees always.
    """
    if len(one) != len(other):
        raise ValueError(f"{len(one)} labels beside {len(other)}; expected as many")
    if not one:
        return math.nan
    count = len(one)
    observed = sum(a == b for a, b in zip(one, other, strict=True)) / count
    of_one, of_other = Counter(one), Counter(other)
    expected = sum(of_one[label] * of_other[label] for label in of_one) / count**2
    return (observed - expected) / (1 - expected) if expected < 1 else math.nan


def boundary_errors_s(one: Sequence[TimedLabel], other: Sequence[TimedLabel]) -> list[float]:
    """The distances of starts and of stops, two per matched pair. Spans of one label that overlap are matched one to
    one, those with the largest intersection over union first."""
    pairs = []
    for number, index in _overlapping(one, other):
        (_, start_s, stop_s), (_, other_start_s, other_stop_s) = one[number], other[index]
        shared_s = min(stop_s, other_stop_s) - max(start_s, other_start_s)
        if shared_s > 0:
            whole_s = max(stop_s, other_stop_s) - min(start_s, other_start_s)
            pairs.append((-shared_s / whole_s, number, index))
    errors_s: list[float] = []
    taken: tuple[set[int], set[int]] = set(), set()
    for _, number, index in sorted(pairs):
        if number not in taken[0] and index not in taken[1]:
            taken[0].add(number)
            taken[1].add(index)
            ours, theirs = one[number], other[index]
            errors_s += [abs(ours[1] - theirs[1]), abs(ours[2] - theirs[2])]
    return errors_s


def _overlapping(one: Sequence[TimedLabel], other: Sequence[TimedLabel]) -> Iterator[tuple[int, int]]:
    """(index in ``one``, index in ``other``) of the spans of one label that overlap. Costs a step per pair that is
    found, and not per pair that there is."""
    lanes = (one, other)
    running: dict[Hashable, tuple[list[int], list[int]]] = {}
    begins = sorted((span[1], side, index) for side, lane in enumerate(lanes) for index, span in enumerate(lane))
    for start_s, side, index in begins:
        both = running.setdefault(lanes[side][index][0], ([], []))
        for lane, still in zip(lanes, both, strict=True):
            still[:] = [number for number in still if lane[number][2] > start_s]
        for number in both[1 - side]:
            yield (index, number) if side == 0 else (number, index)
        both[side].append(index)
