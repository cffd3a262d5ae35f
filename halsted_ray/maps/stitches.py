"""Stitches: the rows of a timeline become needle handling → driving → withdrawal, one record per stitch.

The rule stands in docs/decisions/what-is-a-stitch.md, with its reasons and how well it counts. Pure functions over
rows, so that the command, the service and the report find the same stitches.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, TypeAlias

from halsted_ray.maps.timeline import DECIMALS
from halsted_ray.records import UNKNOWN, digest
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.taxonomy.names import StitchRoles

Row: TypeAlias = Mapping[str, Any]
"""A row of ``table_schemas.TIMELINE_SCHEMA``, of which start_s, stop_s, task, tag, category, confidence and source are
read."""

NO_ANSWER = ("gap", UNKNOWN)
"""Sources of rows in which the model says nothing."""
HANDLING, DRIVING, WITHDRAWAL = "handling", "driving", "withdrawal"


@dataclass(frozen=True)
class StitchRule:
    """``longest_pause_s``: a stitch goes on after so many seconds without one of its phases. ``longest_reposition_s``:
    so many seconds of handling after driving are the needle taken anew, and longer handling begins the next stitch."""

    longest_pause_s: float = 5.0
    longest_reposition_s: float = 5.0


RULE = StitchRule()
RULE_VERSION = 1
"""Counts up when this file finds other stitches in the same rows, or says something else of them."""


def rule_name() -> str:
    """16 hex digits: another name where the same rows may give other stitches, since the limits or the code of the
    rule changed."""
    return digest("stitches", RULE_VERSION, *astuple(RULE))


@dataclass(frozen=True)
class Stitch:
    """``[start_s, stop_s)`` of one video in which the needle is handled, driven and withdrawn once.

    ``handling_s``, ``driving_s``, ``withdrawal_s``: seconds in each phase; 0 where the map shows no such phase, which
    driving never is. ``target``, ``direction``, ``extent``: what the map says of the driving, None where it says
    nothing. ``proficiency`` with its probability (0 to 1), and whether it ``is_high``: of the whole stitch, None where
    the map says nothing. ``confidence`` (0 to 1): of the least sure phase.
    """

    start_s: float
    stop_s: float
    handling_s: float
    driving_s: float
    withdrawal_s: float
    target: str | None
    direction: str | None
    extent: str | None
    proficiency: str | None
    proficiency_probability: float | None
    is_high: bool | None
    confidence: float


def find_stitches(rows: Iterable[Row], taxonomy: Taxonomy, rule: StitchRule = RULE) -> list[Stitch]:
    """The stitches in ``rows``, the rows of one video in any order; in order of time, no two at the same time.

    Empty where no needle is driven, and where the taxonomy has no phases of suturing (``Taxonomy.stitch``). Where rows
    of one tag lie over one another, the row that begins first keeps the time.
    """
    roles = taxonomy.stitch
    if roles is None:
        return []
    task = taxonomy.task_of_tag(roles.phase).name
    lanes: dict[str, list[Row]] = {}
    breaks = []
    for row in rows:
        if row["source"] not in NO_ANSWER:
            lanes.setdefault(row["tag"], []).append(row)
        elif row["task"] == task:
            breaks.append(row["start_s"])
    role_of = {name: role for role in (HANDLING, DRIVING, WITHDRAWAL) for name in getattr(roles, role)}
    phases = [
        _Phase(role_of[piece.category], piece)
        for piece in _one_after_another(lanes.get(roles.phase, ()))
        if piece.category in role_of
    ]
    described = {tag: _Lane.of(_one_after_another(lanes.get(tag, ()))) for tag in _describing(roles)}
    return [_stitch(found, described, roles, taxonomy) for found in _together(phases, sorted(breaks), rule)]


@dataclass(frozen=True)
class _Piece:
    """``[start_s, stop_s)`` in which one tag has one category."""

    start_s: float
    stop_s: float
    category: str
    confidence: float


@dataclass(frozen=True)
class _Lane:
    """The pieces of one tag, and where each ends: a video of hours has thousands of stitches that look here."""

    pieces: Sequence[_Piece]
    stops_s: Sequence[float]

    @classmethod
    def of(cls, pieces: Sequence[_Piece]) -> _Lane:
        return cls(pieces, [piece.stop_s for piece in pieces])

    def within(self, span: _Piece) -> Iterator[tuple[_Piece, float]]:
        """The pieces that share time with ``span``, with the seconds that they share."""
        for place in range(bisect_right(self.stops_s, span.start_s), len(self.pieces)):
            piece = self.pieces[place]
            if piece.start_s >= span.stop_s:
                return
            yield piece, min(piece.stop_s, span.stop_s) - max(piece.start_s, span.start_s)


@dataclass(frozen=True)
class _Phase:
    role: str
    piece: _Piece


def _describing(roles: StitchRoles) -> list[str]:
    return [tag for tag in (roles.target, roles.direction, roles.extent, roles.proficiency) if tag]


def _one_after_another(rows: Iterable[Row]) -> list[_Piece]:
    """The rows of one tag in order of time, without overlap."""
    pieces: list[_Piece] = []
    for start_s, stop_s, category, confidence in sorted(
        (row["start_s"], row["stop_s"], row["category"], row["confidence"]) for row in rows
    ):
        begin_s = max(start_s, pieces[-1].stop_s) if pieces else start_s
        if begin_s < stop_s:
            pieces.append(_Piece(begin_s, stop_s, category, confidence))
    return pieces


def _together(phases: Sequence[_Phase], breaks: Sequence[float], rule: StitchRule) -> Iterator[list[_Phase]]:
    """The phases of each stitch. ``breaks``: when a gap or an unknown span begins, in order."""
    current: list[_Phase] = []  # a stitch as far as it is known: it holds driving
    again: list[_Phase] = []  # handling since then, which belongs to it or begins the next stitch
    again_s = 0.0
    newest: _Piece | None = None
    for phase in phases:
        is_next = current and current[-1].role == WITHDRAWAL and phase.role != WITHDRAWAL
        is_interrupted = newest is not None and _is_interrupted(newest, phase.piece, breaks, rule)
        newest = phase.piece
        if current and (is_next or is_interrupted):
            yield current
            current = []
        if is_interrupted:
            again, again_s = [], 0.0
        if phase.role == HANDLING:
            again.append(phase)
            again_s += _seconds(phase.piece)
            if current and again_s > rule.longest_reposition_s:
                yield current
                current = []
            continue
        if phase.role == DRIVING or current:
            current += [*again, phase]
        again, again_s = [], 0.0
    if current:
        yield current


def _is_interrupted(before: _Piece, after: _Piece, breaks: Sequence[float], rule: StitchRule) -> bool:
    has_break = bisect_right(breaks, before.start_s) < bisect_right(breaks, after.start_s)
    return has_break or after.start_s - before.stop_s > rule.longest_pause_s


def _stitch(phases: Sequence[_Phase], described: Mapping[str, _Lane], roles: StitchRoles, taxonomy: Taxonomy) -> Stitch:
    of_role = {
        role: [phase.piece for phase in phases if phase.role == role] for role in (HANDLING, DRIVING, WITHDRAWAL)
    }
    seconds = {role: sum(map(_seconds, pieces)) for role, pieces in of_role.items()}
    sure = [
        sum(piece.confidence * _seconds(piece) for piece in pieces) / seconds[role]
        for role, pieces in of_role.items()
        if pieces
    ]

    def said(tag: str, over: Sequence[_Piece]) -> tuple[str | None, float | None]:
        return _majority(described[tag], over, taxonomy.tag(tag).categories) if tag else (None, None)

    proficiency, probability = said(roles.proficiency, [phase.piece for phase in phases])
    return Stitch(
        start_s=phases[0].piece.start_s,
        stop_s=phases[-1].piece.stop_s,
        handling_s=round(seconds[HANDLING], DECIMALS),
        driving_s=round(seconds[DRIVING], DECIMALS),
        withdrawal_s=round(seconds[WITHDRAWAL], DECIMALS),
        target=said(roles.target, of_role[DRIVING])[0],
        direction=said(roles.direction, of_role[DRIVING])[0],
        extent=said(roles.extent, of_role[DRIVING])[0],
        proficiency=proficiency,
        proficiency_probability=probability,
        is_high=None if proficiency is None or not roles.high else proficiency in roles.high,
        confidence=round(min(sure), DECIMALS),
    )


def _majority(lane: _Lane, over: Sequence[_Piece], categories: Sequence[str]) -> tuple[str | None, float | None]:
    """The category of a tag with the highest probability over the time of ``over``, and that probability.

    Each row counts by the seconds that it shares with ``over``. It gives its confidence to its own category and the
    rest to the others in equal parts. (None, None) where no row lies there.
    """
    shared = [found for span in over for found in lane.within(span)]
    if not shared:
        return None, None
    total_s = sum(overlap_s for _, overlap_s in shared)
    others = max(1, len(categories) - 1)
    probability = {
        category: sum(
            overlap_s * (piece.confidence if piece.category == category else (1 - piece.confidence) / others)
            for piece, overlap_s in shared
        )
        / total_s
        for category in sorted({piece.category for piece, _ in shared})
    }
    best = max(probability, key=lambda category: round(probability[category], DECIMALS))
    return best, round(probability[best], DECIMALS)


def _seconds(piece: _Piece) -> float:
    return piece.stop_s - piece.start_s
