"""An n-gram with back-off: what followed the same last actions before.

The probability after a context is that of its followers, interpolated with the context one action shorter by the
method of Witten and Bell (1991; Chen and Goodman 1999, section 2.4): a context with many different followers counts
less. The shortest context is none at all, under which stands the uniform distribution.

A forecast of h actions ahead counts what came h actions later, so no error adds up over the steps between. A forecast
in seconds also knows for how long the current action has gone on, in steps that double.

Legend: M moments, H horizons in actions, S horizons in seconds, K symbols.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from halsted_ray.sequences.action_sequences import Symbol
from halsted_ray.sequences.moments import HORIZONS, HORIZONS_S, Forecast, Moment, Outcome

ORDER = 3
"""Actions in the longest context, the current one among them."""
LEAST_TIMES = 4
"""A context says when the next action begins from so many moments on; else a shorter context does."""
Context = tuple[int, ...]


@dataclass
class NGram:
    """Counts of what followed. ``order`` 0 knows only how common each symbol is."""

    symbols: tuple[Symbol, ...]
    order: int = ORDER
    next_counts: list[dict[Context, Counter[int]]] = field(default_factory=lambda: [{} for _ in HORIZONS])
    then_counts: list[dict[Context, Counter[int]]] = field(default_factory=lambda: [{} for _ in HORIZONS_S])
    begins_s: list[dict[Context, float]] = field(default_factory=lambda: [{} for _ in HORIZONS])
    """Context → median seconds until the action of this horizon begins."""

    def __post_init__(self) -> None:
        self._index: dict[Symbol, int] = {symbol: k for k, symbol in enumerate(self.symbols)}

    @classmethod
    def learn(cls, moments: Sequence[tuple[Moment, Outcome]], symbols: tuple[Symbol, ...], order: int = ORDER) -> NGram:
        """Counts ``moments``. What comes in actions is counted once per action, what comes in seconds at every
        moment."""
        model = cls(symbols, order)
        times: list[dict[Context, list[float]]] = [{} for _ in HORIZONS]
        for moment, outcome in moments:
            if moment.begins:
                model._count(model.next_counts, model._contexts(moment), outcome.next)
            timed = model._timed_contexts(moment)
            model._count(model.then_counts, timed, outcome.then)
            for of_horizon, begins_s in zip(times, outcome.next_begins_s, strict=True):
                if begins_s is not None:
                    for context in timed:
                        of_horizon.setdefault(context, []).append(begins_s)
        for kept, of_horizon in zip(model.begins_s, times, strict=True):
            for context, values in of_horizon.items():
                if len(values) >= LEAST_TIMES or not context:
                    kept[context] = median(values)
        return model

    def forecast(self, moments: Sequence[Moment]) -> Forecast:
        """The forecast of each of ``moments``."""
        size = len(self.symbols)
        next_MHK = np.empty((len(moments), len(HORIZONS), size))
        begins_MH = np.zeros((len(moments), len(HORIZONS)))
        then_MSK = np.empty((len(moments), len(HORIZONS_S), size))
        for m, moment in enumerate(moments):
            contexts, timed = self._contexts(moment), self._timed_contexts(moment)
            for h in range(len(HORIZONS)):
                next_MHK[m, h] = witten_bell(self.next_counts[h], contexts, size)
                begins_MH[m, h] = next((self.begins_s[h][c] for c in timed if c in self.begins_s[h]), 0.0)
            for s in range(len(HORIZONS_S)):
                then_MSK[m, s] = witten_bell(self.then_counts[s], timed, size)
        return Forecast(next_MHK, begins_MH, then_MSK)

    def _count(
        self,
        counts: list[dict[Context, Counter[int]]],
        contexts: Sequence[Context],
        followers: Sequence[Symbol | None],
    ) -> None:
        for of_horizon, symbol in zip(counts, followers, strict=True):
            if symbol is not None and symbol in self._index:
                for context in contexts:
                    of_horizon.setdefault(context, Counter())[self._index[symbol]] += 1

    def _contexts(self, moment: Moment) -> list[Context]:
        """The contexts of a moment, the longest first and the empty one last. A symbol that was never learned is a
        place of its own, so that no context with it is known."""
        said = [*(action.symbol for action in moment.past[-ORDER:]), moment.current]
        known = [self._index.get(symbol, len(self.symbols)) for symbol in said]
        return [tuple(known[len(known) - n :]) for n in range(min(self.order, len(known)), 0, -1)] + [()]

    def _timed_contexts(self, moment: Moment) -> list[Context]:
        """As ``_contexts``, each (but the shortest two) with the time since the current action began."""
        plain = self._contexts(moment)
        step = int(np.log2(1 + moment.elapsed_s)) + len(self.symbols) + 1
        return [(*context, step) for context in plain[:-1]] + plain[-2:-1] + [()]

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON values; ``from_dict`` reads them back."""
        return {
            "order": self.order,
            "next": [_pairs({c: sorted(n.items()) for c, n in counts.items()}) for counts in self.next_counts],
            "then": [_pairs({c: sorted(n.items()) for c, n in counts.items()}) for counts in self.then_counts],
            "begins_s": [_pairs(times) for times in self.begins_s],
        }

    @classmethod
    def from_dict(cls, symbols: tuple[Symbol, ...], data: Mapping[str, Any]) -> NGram:
        """What ``to_dict`` gave. Raises KeyError, TypeError, ValueError for anything else."""
        model = cls(symbols, int(data["order"]))
        known = range(len(symbols))
        for name, counts in (("next", model.next_counts), ("then", model.then_counts)):
            for of_horizon, pairs in zip(counts, data[name], strict=True):
                for context, followers in pairs:
                    found = Counter({int(k): int(n) for k, n in followers})
                    if any(k not in known or n < 1 for k, n in found.items()):
                        raise ValueError("a count of no symbol")
                    of_horizon[tuple(map(int, context))] = found
        for of_horizon_s, pairs in zip(model.begins_s, data["begins_s"], strict=True):
            of_horizon_s |= {tuple(map(int, context)): float(value) for context, value in pairs}
        return model


def witten_bell(
    counts: Mapping[Context, Counter[int]], contexts: Sequence[Context], size: int, base_K: np.ndarray | None = None
) -> np.ndarray:
    """[K] the probability of each of ``size`` symbols after the first of ``contexts``, which get shorter. ``base_K``:
    what the shortest context stands on, by default the uniform distribution."""
    shares_K = np.full(size, 1 / size) if base_K is None else base_K.copy()
    for context in reversed(contexts):
        if followers := counts.get(context):
            kinds, total = len(followers), sum(followers.values())
            shares_K = kinds / (total + kinds) * shares_K
            for symbol, count in followers.items():
                shares_K[symbol] += count / (total + kinds)
    return shares_K


def _pairs(table: Mapping[Context, Any]) -> list[list[Any]]:
    return [[list(context), value] for context, value in sorted(table.items())]
