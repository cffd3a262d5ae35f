"""Predictions about windows become a timeline: neighbours with the same category merge, and a failed span is a row of
its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from halsted_ray.records import Prediction

DECIMALS = 4
"""Of a merged confidence."""


@dataclass(frozen=True)
class Interval:
    """``[start_s, stop_s)`` of one video in which a tag keeps its category, or which could not be mapped.

    ``source`` is ``ai`` or ``gap``.
    """

    start_s: float
    stop_s: float
    task: str
    tag: str
    category: str
    confidence: float
    source: str


@dataclass(frozen=True)
class Gap:
    """``[start_s, stop_s)`` of one video that could not be mapped: ``code`` is for tables and counts, ``reason`` for
    people."""

    start_s: float
    stop_s: float
    code: str
    reason: str


def merge(tags: Iterable[Prediction], gaps: Iterable[Gap] = (), tasks: Sequence[str] = ()) -> list[Interval]:
    """The timeline of one video, in order of time, task and tag.

    Windows merge when they touch and agree on task, tag and category. They merge across segments too, so that a map
    does not show how the video was cut. The confidence of merged windows is the mean of theirs, weighted by their
    length. A gap gives one row for each of ``tasks`` (tag ``gap``, category its code, confidence 0).
    """
    by_lane: dict[tuple[str, str], list[Prediction]] = {}
    for tag in tags:
        by_lane.setdefault((tag.task, tag.tag), []).append(tag)
    rows = [row for lane in by_lane.values() for row in _merged(sorted(lane, key=lambda t: t.start_s))]
    rows += [row for task in tasks for row in _gap_rows(sorted(gaps, key=lambda g: g.start_s), task)]
    return sorted(rows, key=lambda row: (row.start_s, row.task, row.tag))


def _merged(lane: list[Prediction]) -> Iterable[Interval]:
    """``lane``: the predictions of one tag, in order of time."""
    first = 0
    for n in range(1, len(lane) + 1):
        if n < len(lane) and lane[n].start_s == lane[n - 1].stop_s and lane[n].category == lane[first].category:
            continue
        run = lane[first:n]
        lengths_s = [tag.stop_s - tag.start_s for tag in run]
        weighted = sum(tag.confidence * length_s for tag, length_s in zip(run, lengths_s, strict=True))
        yield Interval(
            run[0].start_s,
            run[-1].stop_s,
            run[0].task,
            run[0].tag,
            run[0].category,
            round(weighted / sum(lengths_s), DECIMALS),
            "ai",
        )
        first = n


def _gap_rows(gaps: list[Gap], task: str) -> Iterable[Interval]:
    """``gaps`` in order of time. Gaps that touch and have the same code become one row."""
    first = 0
    for n in range(1, len(gaps) + 1):
        if n < len(gaps) and gaps[n].start_s == gaps[n - 1].stop_s and gaps[n].code == gaps[first].code:
            continue
        yield Interval(gaps[first].start_s, gaps[n - 1].stop_s, task, "gap", gaps[first].code, 0.0, "gap")
        first = n
