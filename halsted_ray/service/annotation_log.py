"""What people say about a map, as a log of changes: what holds now, who contradicts whom, and what is cut from the map.

Nothing here knows a database or HTTP. A change carries the whole span that its author now means, so the last change of
a span is what holds, and the changes of one person alone are that person's layer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal

OPS = ("add", "change", "remove", "accept", "reject")
State = Literal["accepted", "rejected", "added", "changed"]
ENDS_AGREE_S = 1.0
"""Two people's ends of one row agree up to here: at 1-s frames, in which agreement is counted, nobody is more exact."""


@dataclass(frozen=True)
class ModelRow:
    """The row of the model's timeline that a span answers. Times in seconds, [start_s, stop_s)."""

    tag: str
    category: str
    start_s: float
    stop_s: float


@dataclass(frozen=True)
class Change:
    """One change of the layer, numbered from 1 by ``revision``. ``op``: one of ``OPS``.

    The span is [start_s, stop_s) of the video. ``row``: the row that it answers; None for a span that the model does
    not have. ``model_version``: of the map that its author saw, '' where nobody knows.
    """

    revision: int
    author_id: str
    at_s: float
    op: str
    span_id: str
    tag: str
    category: str
    start_s: float
    stop_s: float
    row: ModelRow | None = None
    model_version: str = ""


@dataclass(frozen=True)
class Span:
    """What somebody says now: by the last change of it. ``is_rejected``: that the category does not hold there."""

    last: Change

    @property
    def span_id(self) -> str:
        """Its id, which stays the same through all changes."""
        return self.last.span_id

    @property
    def is_rejected(self) -> bool:
        """Whether its author says that this is not so."""
        return self.last.op == "reject"

    @property
    def content(self) -> ModelRow:
        """Tag, category and times."""
        return ModelRow(self.last.tag, self.last.category, self.last.start_s, self.last.stop_s)

    @property
    def state(self) -> State:
        """rejected; added, where the model has no such row; accepted, where it is as the model's row; else changed. It
        follows from the content, so that the inverse of a change leads back to the state before it."""
        if self.is_rejected:
            return "rejected"
        if self.last.row is None:
            return "added"
        return "accepted" if self.content == self.last.row else "changed"


@dataclass(frozen=True)
class Conflict:
    """Two people say different things of one ``tag`` in [start_s, stop_s). ``span_ids``: of the spans that do."""

    tag: str
    start_s: float
    stop_s: float
    span_ids: tuple[str, ...]


def replay(changes: Iterable[Change]) -> dict[str, Span]:
    """span_id → the span, after ``changes`` in the order of their revisions. Costs one step per change."""
    spans: dict[str, Span] = {}
    for change in changes:
        apply(spans, change)
    return spans


def apply(spans: dict[str, Span], change: Change) -> None:
    """Makes one change to ``spans`` (span_id → span)."""
    if change.op == "remove":
        spans.pop(change.span_id, None)
    else:
        spans[change.span_id] = Span(change)


def in_order(spans: Iterable[Span]) -> list[Span]:
    """``spans`` by their start, stop, tag and category."""
    return sorted(spans, key=lambda span: (span.last.start_s, span.last.stop_s, span.last.tag, span.last.category))


def layers(changes: Sequence[Change]) -> dict[str, list[Span]]:
    """author_id → what this person says, by their own changes alone: also of a span that somebody else has changed
    since. A person who says nothing any more has an empty list."""
    own: dict[str, list[Change]] = {}
    for change in changes:
        own.setdefault(change.author_id, []).append(change)
    return {author_id: in_order(replay(theirs).values()) for author_id, theirs in own.items()}


def conflicts(spans: Iterable[Span]) -> list[Conflict]:
    """Where two people's spans of one tag contradict each other, in order of time.

    They do where they answer the same row and one rejects it, or their ends are more than ``ENDS_AGREE_S`` apart; and
    where they overlap with different categories, or one rejects the category that the other sees. Overlaps of at most
    ``ENDS_AGREE_S`` (half of the shorter span, where that is less) are neighbours whose ends are not exact.
    """
    found: dict[tuple[str, str], Conflict] = {}
    running: dict[str, list[Span]] = {}
    answers: dict[ModelRow, list[Span]] = {}
    for span in in_order(spans):
        for other in answers.setdefault(span.last.row, []) if span.last.row else ():
            if _answers_differ(other, span):
                start_s, stop_s = other.last.start_s, max(other.last.stop_s, span.last.stop_s)
                found[_pair(other, span)] = Conflict(span.last.tag, start_s, stop_s, _pair(other, span))
        if span.last.row:
            answers[span.last.row].append(span)
        still = [other for other in running.get(span.last.tag, ()) if other.last.stop_s > span.last.start_s]
        for other in still:
            if _pair(other, span) not in found and _contradict(other, span):
                stop_s = min(other.last.stop_s, span.last.stop_s)
                found[_pair(other, span)] = Conflict(span.last.tag, span.last.start_s, stop_s, _pair(other, span))
        running[span.last.tag] = [*still, span]
    return sorted(found.values(), key=lambda conflict: (conflict.start_s, conflict.stop_s, conflict.tag))


def without(rows: Iterable[ModelRow], spans: Iterable[Span]) -> Iterator[tuple[int, float, float]]:
    """(number of the row, start_s, stop_s) of what is left of the model's ``rows`` where people say otherwise.

    A person's span cuts every row of its tag, and takes the place of the whole row that it answers. A rejected span
    cuts the rows of its tag and category alone.
    """
    spans = list(spans)
    covered: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for number, row in enumerate(rows):
        lane = (row.tag, row.category)
        if lane not in covered:
            covered[lane] = _covered(spans, *lane)
        left_s, cuts = row.start_s, covered[lane]
        for cut in range(bisect_right(cuts, row.start_s, key=itemgetter(1)), len(cuts)):
            start_s, stop_s = cuts[cut]
            if start_s >= row.stop_s:
                break
            if start_s > left_s:
                yield number, left_s, start_s
            left_s = stop_s
        if left_s < row.stop_s:
            yield number, left_s, row.stop_s


def _covered(spans: Iterable[Span], tag: str, category: str) -> list[tuple[float, float]]:
    """The disjoint spans of time, in order, in which people's spans cut rows of this tag and category."""
    cuts: list[tuple[float, float]] = []
    for last in (span.last for span in spans):
        if last.tag == tag and (last.op != "reject" or last.category == category):
            cuts.append((last.start_s, last.stop_s))
        if last.row and (last.row.tag, last.row.category) == (tag, category):
            cuts.append((last.row.start_s, last.row.stop_s))
    found: list[tuple[float, float]] = []
    for start_s, stop_s in sorted(cuts):
        if found and start_s <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], stop_s))
        else:
            found.append((start_s, stop_s))
    return found


def _pair(one: Span, other: Span) -> tuple[str, str]:
    first, second = sorted((one.span_id, other.span_id))
    return first, second


def _answers_differ(one: Span, other: Span) -> bool:
    """Whether two spans that answer one row are of two people who do not agree."""
    a, b = one.last, other.last
    if a.author_id == b.author_id:
        return False
    if one.is_rejected or other.is_rejected:
        return one.is_rejected != other.is_rejected
    apart_s = max(abs(a.start_s - b.start_s), abs(a.stop_s - b.stop_s))
    return a.tag == b.tag and (a.category != b.category or apart_s > ENDS_AGREE_S)


def _contradict(one: Span, other: Span) -> bool:
    """Whether two spans of one tag are of two people who see different things in the time that both cover."""
    a, b = one.last, other.last
    if a.author_id == b.author_id or (one.is_rejected and other.is_rejected):
        return False
    if one.is_rejected or other.is_rejected:
        differ = a.category == b.category
    else:
        differ = a.category != b.category
    shared_s = min(a.stop_s, b.stop_s) - max(a.start_s, b.start_s)
    shorter_s = min(a.stop_s - a.start_s, b.stop_s - b.start_s)
    return differ and shared_s > min(ENDS_AGREE_S, shorter_s / 2)
