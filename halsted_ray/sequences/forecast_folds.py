"""How well the next actions are forecast, on videos that were held out, with intervals over videos.

Legend: V videos (those of one group count as one), M moments, K symbols.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from halsted_ray.errors import UsageError
from halsted_ray.evaluation.intervals import ConfidenceInterval, bootstrap, paired_bootstrap
from halsted_ray.evaluation.json_values import without_nan
from halsted_ray.records import JsonObject
from halsted_ray.sequences.action_sequences import ActionSequence, SequenceSource, Symbol
from halsted_ray.sequences.forecaster import learn
from halsted_ray.sequences.moments import HORIZONS, HORIZONS_S, Forecast, Moment, Outcome, moments_of, symbols_of

METHODS = ("commonest", "ngram", "gru")
GOES_ON = "goes on"
"""A method that is judged in seconds alone: the current action goes on."""
TOP = (1, 3)


def fold_of_group(groups: Sequence[str], folds: int, seed: int) -> dict[str, int]:
    """group → the fold that tests it. Raises UsageError for fewer than two groups, or fewer groups than folds."""
    names = sorted(set(groups))
    if not 2 <= folds <= len(names):
        raise UsageError(
            f"{folds} folds over {len(names)} videos or cases; expected 2 to {max(2, len(names))} folds, and at least "
            "2 videos: map or annotate more videos, or lower --folds"
        )
    random.Random(seed).shuffle(names)
    return {name: n % folds for n, name in enumerate(names)}


def evaluate_forecasts(
    source: SequenceSource,
    folds: int = 5,
    seed: int = 0,
    on_fold: Callable[[int, int], None] = lambda done, of: None,
) -> JsonObject:
    """Figures of each method by horizon, as JSON values.

    Each group of videos is tested once, by models that learned from the groups of the other folds. A symbol that only
    a held-out video shows counts as wrong. ``actions``: judged when an action begins, by the first to fifth action
    after it. ``seconds``: judged when an action begins and every 5 s, by what is done some seconds later. Each has
    ``top_1`` and ``top_3``: [value, low, high], from videos drawn with replacement. ``begins``: the mean error of when
    the next action begins, in seconds. ``gru_over_ngram``: the paired difference of the top-1 of the next action.
    Raises UsageError.
    """
    sequences = source.sequences
    fold_of = fold_of_group([sequence.group for sequence in sequences], folds, seed)
    tally = _Tally(sorted({sequence.group for sequence in sequences}))
    for fold in range(folds):
        learning = [sequence for sequence in sequences if fold_of[sequence.group] != fold]
        symbols = symbols_of(learning)
        models = {method: learn(learning, symbols, method, seed) for method in METHODS}
        for sequence in sequences:
            if fold_of[sequence.group] == fold:
                pairs = list(moments_of(sequence))
                for method, model in models.items():
                    forecast = model.forecast([moment for moment, _ in pairs])
                    tally.add(method, sequence, pairs, forecast, symbols)
                tally.add_goes_on(sequence, pairs)
        on_fold(fold + 1, folds)
    return tally.figures(source, folds)


class _Tally:
    """Counts by method and horizon: per group of videos how many are right at each of TOP, and how many there are."""

    def __init__(self, groups: Sequence[str]):
        self.place = {group: v for v, group in enumerate(groups)}
        self.counts: dict[tuple[str, str, float], np.ndarray] = {}
        self.errors: dict[str, np.ndarray] = {}

    def _of(self, method: str, kind: str, horizon: float) -> np.ndarray:
        """[V, 3]: right at top 1, right at top 3, all."""
        return self.counts.setdefault((method, kind, horizon), np.zeros((len(self.place), len(TOP) + 1)))

    def add(
        self,
        method: str,
        sequence: ActionSequence,
        pairs: Sequence[tuple[Moment, Outcome]],
        forecast: Forecast,
        symbols: tuple[Symbol, ...],
    ) -> None:
        v = self.place[sequence.group]
        index = {symbol: k for k, symbol in enumerate(symbols)}
        error_V2 = self.errors.setdefault(method, np.zeros((len(self.place), 2)))
        for m, (moment, outcome) in enumerate(pairs):
            if moment.begins:
                for h, horizon in enumerate(HORIZONS):
                    self._judge(
                        self._of(method, "actions", horizon)[v], forecast.next_MHK[m, h], outcome.next[h], index
                    )
                if outcome.next_begins_s[0] is not None:
                    error_V2[v] += abs(forecast.begins_MH[m, 0] - outcome.next_begins_s[0]), 1
            for s, horizon_s in enumerate(HORIZONS_S):
                self._judge(self._of(method, "seconds", horizon_s)[v], forecast.then_MSK[m, s], outcome.then[s], index)

    def _judge(
        self, counts_3: np.ndarray, shares_K: np.ndarray, truth: Symbol | None, index: dict[Symbol, int]
    ) -> None:
        if truth is None:
            return
        counts_3[-1] += 1
        if truth in index:
            before = np.flatnonzero(np.argsort(-shares_K, kind="stable") == index[truth])[0]
            counts_3[: len(TOP)] += [before < top for top in TOP]

    def add_goes_on(self, sequence: ActionSequence, pairs: Sequence[tuple[Moment, Outcome]]) -> None:
        v = self.place[sequence.group]
        for moment, outcome in pairs:
            for s, horizon_s in enumerate(HORIZONS_S):
                if outcome.then[s] is not None:
                    right = outcome.then[s] == moment.current
                    self._of(GOES_ON, "seconds", horizon_s)[v] += [right, right, 1]

    def figures(self, source: SequenceSource, folds: int) -> JsonObject:
        methods = dict.fromkeys((*METHODS, GOES_ON))
        figures: JsonObject = {
            "learned_from": source.kind,
            "tags": list(source.tags),
            "videos": len(source.sequences),
            "groups": len({sequence.group for sequence in source.sequences}),
            "actions": sum(len(sequence.actions) for sequence in source.sequences),
            "symbols": len(symbols_of(source.sequences)),
            "folds": folds,
            "methods": {},
        }
        for method in methods:
            found: JsonObject = {"actions": {}, "seconds": {}}
            for (name, kind, horizon), counts in self.counts.items():
                if name == method:
                    values = {
                        f"top_{top}": _triple(bootstrap(counts[:, [t]], counts[:, [-1]])) for t, top in enumerate(TOP)
                    }
                    found[kind][f"{horizon:g}"] = values | {"n": int(counts[:, -1].sum())}
            if method in self.errors:
                errors = self.errors[method]
                found["begins_error_s"] = _triple(bootstrap(errors[:, [0]], errors[:, [1]]))
            figures["methods"][method] = found
        second, first = (self.counts.get((name, "actions", 1), np.zeros((1, 3))) for name in ("gru", "ngram"))
        paired = paired_bootstrap(first[:, [0]], second[:, [0]], second[:, [-1]])
        figures["gru_over_ngram"] = [paired.value, paired.low, paired.high]
        known: JsonObject = without_nan(figures)
        return known


def _triple(found: ConfidenceInterval) -> list[float]:
    return [found.value, found.low, found.high]
