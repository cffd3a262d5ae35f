"""Predictions about windows become a timeline: neighbours with the same category merge, and a span that failed or is
unknown to the model is a row of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from halsted_ray.records import UNKNOWN, Prediction
from halsted_ray.video.presence import Span, overlapping, union, without

DECIMALS = 4
"""Of a merged confidence."""
TOUCHING_S = 1e-6
"""Spans that are no further apart touch: sums of lengths are not exact."""


@dataclass(frozen=True)
class Interval:
    """``[start_s, stop_s)`` of one video in which a tag keeps its category, or which could not be mapped, or which the
    model does not know.

    ``source`` is ``ai``, ``gap`` or ``records.UNKNOWN``.
    """

    start_s: float
    stop_s: float
    task: str
    tag: str
    category: str
    confidence: float
    source: str
    windows: int | None = None
    """Of a tag of the whole operation: how many windows voted; ``share``: how much of their time gave this answer
    itself; ``margin``: by how much its probability exceeds that of the next category. None for every other row."""
    share: float | None = None
    margin: float | None = None


@dataclass(frozen=True)
class Gap:
    """``[start_s, stop_s)`` of one video without picture: ``code`` is for tables and counts, ``reason`` for people."""

    start_s: float
    stop_s: float
    code: str
    reason: str


@dataclass(frozen=True)
class Unasked:
    """``[start_s, stop_s)`` in which ``task`` was not asked, because too much of a window's time lies in gaps
    (``video.presence``): ``code`` is then the code that most of the time in these gaps has. Or the model does not know
    what is there: then ``code`` is ``records.UNKNOWN``."""

    task: str
    start_s: float
    stop_s: float
    code: str


def merge(
    tags: Iterable[Prediction],
    gaps: Iterable[Gap] = (),
    tasks: Sequence[str] = (),
    unasked: Iterable[Unasked] = (),
) -> list[Interval]:
    """The timeline of one video, in order of time, task and tag.

    Windows merge when they touch and agree on task, tag and category. They merge across segments too, so that a map
    does not show how the video was cut. The confidence of merged windows is the mean of theirs, weighted by their
    length. A gap gives one row for each of ``tasks`` (tag ``gap``, category its code, confidence 0), and so does what a
    task was not asked. What the model does not know gives a row with tag and category ``unknown``. No other row of that
    task lies over such a row, so that a row claims only time that was seen.
    """
    gaps, unasked = list(gaps), list(unasked)
    gap_rows = {task: _gap_rows(gaps, [span for span in unasked if span.task == task], task) for task in tasks}
    by_lane: dict[tuple[str, str], list[Prediction]] = {}
    for tag in tags:
        by_lane.setdefault((tag.task, tag.tag), []).append(tag)
    rows = [row for of_task in gap_rows.values() for row in of_task]
    for (task, _), lane in by_lane.items():
        holes = union((row.start_s, row.stop_s) for row in gap_rows.get(task, ()))
        rows += _merged([part for tag in sorted(lane, key=lambda t: t.start_s) for part in _seen(tag, holes)])
    return sorted(rows, key=lambda row: (row.start_s, row.task, row.tag))


def unknown_spans(spans: Iterable[tuple[str, float, float]]) -> list[Unasked]:
    """(task, start_s, stop_s) that a model does not know, as ``Unasked``."""
    return [Unasked(*span, UNKNOWN) for span in spans]


def _seen(tag: Prediction, holes: list[Span]) -> list[Prediction]:
    """The parts of a prediction that lie in none of ``holes``."""
    span = (tag.start_s, tag.stop_s)
    over_it = overlapping(holes, span)
    if not over_it:
        return [tag]
    parts = without(span, over_it)
    return [replace(tag, start_s=start_s, stop_s=stop_s) for start_s, stop_s in parts]


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


def _gap_rows(gaps: Sequence[Gap], unasked: Iterable[Unasked], task: str) -> list[Interval]:
    """The gap rows and unknown rows of ``task`` in order of time. Rows with the same code that touch are one row."""
    holes = union((gap.start_s, gap.stop_s) for gap in gaps)
    parts = [(gap.start_s, gap.stop_s, gap.code) for gap in gaps]
    for of_task in unasked:
        span = (of_task.start_s, of_task.stop_s)
        parts += [(*part, of_task.code) for part in without(span, overlapping(holes, span))]
    rows: list[Interval] = []
    for start_s, stop_s, code in sorted(parts):
        if rows and rows[-1].stop_s >= start_s and rows[-1].category == code:
            rows[-1] = replace(rows[-1], stop_s=max(rows[-1].stop_s, stop_s))
        else:
            kind = UNKNOWN if code == UNKNOWN else "gap"
            rows.append(Interval(start_s, stop_s, task, kind, code, 0.0, kind))
    return rows
