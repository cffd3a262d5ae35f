"""Moments: what is known at a time of a sequence of actions, and what came after it.

A forecaster learns from moments and is judged on them. Nothing of a moment's past lies after its time: of the action
that goes on, only the time since it began is known.

Legend: M moments, H horizons in actions, S horizons in seconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from halsted_ray.sequences.action_sequences import Action, ActionSequence, Symbol

HORIZONS = (1, 2, 3, 4, 5)
"""How many actions ahead."""
HORIZONS_S = (2.0, 5.0, 10.0, 20.0, 30.0)
"""How many seconds ahead."""
EVERY_S = 5.0
"""Between two moments while an action goes on."""
LONGEST_PAST = 16
"""Actions before the current one that a moment keeps."""
NOT_KNOWN = -1


@dataclass(frozen=True)
class Moment:
    """``past``: the actions that are over or were overtaken, oldest first. ``current``: the action that goes on since
    ``elapsed_s``; ``pause_s``: between it and the action before. ``begins``: whether it begins right now."""

    video_id: str
    at_s: float
    past: tuple[Action, ...]
    current: Symbol
    elapsed_s: float
    pause_s: float

    @property
    def begins(self) -> bool:
        """Whether the current action begins at this moment."""
        return self.elapsed_s == 0


@dataclass(frozen=True)
class Outcome:
    """What came after a moment. ``next``: the symbols of the actions after the current one, one per horizon;
    ``next_begins_s``: in how many seconds each begins; ``then``: what was done after each of HORIZONS_S. None where
    the piece ends before."""

    next: tuple[Symbol | None, ...]
    next_begins_s: tuple[float | None, ...]
    then: tuple[Symbol | None, ...]


def moments_of(sequence: ActionSequence, every_s: float = EVERY_S) -> Iterator[tuple[Moment, Outcome]]:
    """The moments of one video: at the beginning of each action, and every ``every_s`` while it goes on."""
    for piece in sequence.pieces:
        starts = [action.start_s for action in piece]
        ends_s = max(action.stop_s for action in piece)
        for n, action in enumerate(piece):
            until_s = piece[n + 1].start_s if n + 1 < len(piece) else action.stop_s
            at_s = action.start_s
            while at_s < until_s or at_s == action.start_s:
                moment = moment_at(sequence.video_id, piece, n, at_s)
                yield moment, _outcome(piece, starts, ends_s, n, at_s)
                at_s += every_s


def moment_at(video_id: str, piece: Sequence[Action], n: int, at_s: float) -> Moment:
    """The moment ``at_s`` at which the action ``n`` of ``piece`` goes on."""
    current = piece[n]
    pause_s = max(0.0, current.start_s - piece[n - 1].stop_s) if n else 0.0
    past = tuple(piece[max(0, n - LONGEST_PAST) : n])
    return Moment(video_id, at_s, past, current.symbol, at_s - current.start_s, pause_s)


def _outcome(piece: Sequence[Action], starts: Sequence[float], ends_s: float, n: int, at_s: float) -> Outcome:
    later = [piece[n + h] if n + h < len(piece) else None for h in HORIZONS]
    then: list[Symbol | None] = []
    for ahead_s in HORIZONS_S:
        t_s = at_s + ahead_s
        then.append(piece[bisect_right(starts, t_s) - 1].symbol if t_s < ends_s else None)
    return Outcome(
        tuple(action.symbol if action else None for action in later),
        tuple(action.start_s - at_s if action else None for action in later),
        tuple(then),
    )


@dataclass(frozen=True)
class Forecast:
    """What a forecaster says of M moments, over K symbols: ``next_MHK`` and ``then_MSK`` are probabilities,
    ``begins_MH`` seconds."""

    next_MHK: np.ndarray
    begins_MH: np.ndarray
    then_MSK: np.ndarray


def symbols_of(sequences: Iterable[ActionSequence]) -> tuple[Symbol, ...]:
    """Every symbol of ``sequences``, in the order of their names."""
    return tuple(sorted({action.symbol for sequence in sequences for action in sequence.actions}))
