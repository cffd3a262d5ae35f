"""A gated recurrent network (Cho et al. 2014) over the actions of a video: which come next, and when.

    past actions ──► GRU ──┐
    current action, since ─┴─► one hidden layer ──► scores of the next actions, seconds until each, scores by seconds

It learns by the moments of whole videos and keeps the epoch that was best on videos that it did not learn from. On a
CPU this takes seconds for hours of video.

Legend: M moments, T past actions, K symbols, H horizons in actions, S horizons in seconds, W hidden width.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, smooth_l1_loss

from halsted_ray.sequences.action_sequences import ActionSequence, Symbol
from halsted_ray.sequences.moments import HORIZONS, HORIZONS_S, NOT_KNOWN, Forecast, Moment, Outcome, moments_of

WIDTH = 48
EPOCHS = 100
PATIENCE = 12
"""Epochs without a better one until learning ends."""
BATCH = 64
RATE = 3e-3
DROPOUT = 0.5
"""Of the state after the past actions, so that the current action and its time are learned first."""
TIME_WEIGHT = 2.0
"""Of the loss about seconds, beside that about symbols."""
VALIDATION_SHARE = 0.2
PADDING, UNSEEN = 0, 1
"""Places of the embedding before those of the symbols."""


class RecurrentForecaster(nn.Module):
    """Moments to scores; ``symbols`` are what it can forecast."""

    def __init__(self, symbols: tuple[Symbol, ...]):
        super().__init__()
        self.symbols = symbols
        self._index = {symbol: k for k, symbol in enumerate(symbols)}
        self.embedding = nn.Embedding(len(symbols) + 2, WIDTH, padding_idx=PADDING)
        self.recurrent = nn.GRU(WIDTH + 2, WIDTH, batch_first=True)
        self.forget = nn.Dropout(DROPOUT)
        self.hidden = nn.Sequential(nn.Linear(2 * WIDTH + 2, 2 * WIDTH), nn.ReLU())
        self.next = nn.Linear(2 * WIDTH, len(HORIZONS) * len(symbols))
        self.begins = nn.Linear(2 * WIDTH, len(HORIZONS))
        self.then = nn.Linear(2 * WIDTH, len(HORIZONS_S) * len(symbols))

    def forward(
        self, past_MT: torch.Tensor, times_MT2: torch.Tensor, lengths_M: torch.Tensor, now_M: torch.Tensor,
        now_times_M2: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
        """(scores [M, H, K], log(1 + seconds) [M, H], scores [M, S, K])."""
        steps_MTW, _ = self.recurrent(torch.cat((self.embedding(past_MT), times_MT2), 2))
        last_MW = steps_MTW[torch.arange(len(past_MT)), (lengths_M - 1).clamp_min(0)]
        last_MW = last_MW * (lengths_M > 0)[:, None]
        hidden = self.hidden(torch.cat((self.forget(last_MW), self.embedding(now_M), now_times_M2), 1))
        size = len(self.symbols)
        return (
            self.next(hidden).view(-1, len(HORIZONS), size),
            self.begins(hidden),
            self.then(hidden).view(-1, len(HORIZONS_S), size),
        )

    def inputs(self, moments: Sequence[Moment]) -> tuple[torch.Tensor, ...]:
        """The arguments of ``forward``."""
        longest = max([1, *(len(moment.past) for moment in moments)])
        past = np.zeros((len(moments), longest), np.int32)
        times = np.zeros((len(moments), longest, 2), np.float32)
        for m, moment in enumerate(moments):
            steps = len(moment.past)
            past[m, :steps] = [self._place(action.symbol) for action in moment.past]
            times[m, :steps, 0] = [_seconds(action.stop_s - action.start_s) for action in moment.past]
            times[m, 1:steps, 1] = [_seconds(b.start_s - a.stop_s) for a, b in pairwise(moment.past)]
        now = [self._place(moment.current) for moment in moments]
        now_times = [(_seconds(moment.elapsed_s), _seconds(moment.pause_s)) for moment in moments]
        return (
            torch.from_numpy(past),
            torch.from_numpy(times),
            torch.tensor([len(moment.past) for moment in moments], dtype=torch.int64),
            torch.tensor(now, dtype=torch.int64),
            torch.tensor(now_times, dtype=torch.float32).view(-1, 2),
        )

    def _place(self, symbol: Symbol) -> int:
        return self._index.get(symbol, UNSEEN - 2) + 2

    def targets(self, outcomes: Sequence[Outcome]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(next [M, H], seconds [M, H], then [M, S]); NOT_KNOWN where nothing is known."""

        def places(symbols: Sequence[Symbol | None]) -> list[int]:
            return [NOT_KNOWN if symbol is None else self._index.get(symbol, NOT_KNOWN) for symbol in symbols]

        seconds = [[NOT_KNOWN if s is None else s for s in outcome.next_begins_s] for outcome in outcomes]
        return (
            torch.tensor([places(outcome.next) for outcome in outcomes], dtype=torch.int64),
            torch.tensor(seconds, dtype=torch.float32),
            torch.tensor([places(outcome.then) for outcome in outcomes], dtype=torch.int64),
        )

    @torch.no_grad()
    def begin_with(self, rows: Sequence[torch.Tensor]) -> None:
        """Sets the biases to how common each symbol is and how long each wait, so that learning begins there. ``rows``:
        of ``tensors``."""
        next_MH, seconds_MH, then_MS = rows[5:]
        for layer, truth in ((self.next, next_MH), (self.then, then_MS)):
            counts = [torch.bincount(of[of != NOT_KNOWN], minlength=len(self.symbols)) for of in truth.T]
            layer.bias.copy_(torch.cat([((count + 1) / (count.sum() + len(count))).log() for count in counts]))
        for h, of in enumerate(seconds_MH.T):
            if (of >= 0).any():
                self.begins.bias[h] = of[of >= 0].log1p().median()

    def tensors(self, sequences: Iterable[ActionSequence]) -> list[torch.Tensor]:
        """All moments of ``sequences``: the arguments of ``forward``, then the targets; a row per moment."""
        pairs = [pair for sequence in sequences for pair in moments_of(sequence)]
        inputs = self.inputs([moment for moment, _ in pairs])
        return [*inputs, *self.targets([outcome for _, outcome in pairs])]

    @torch.inference_mode()
    def forecast(self, moments: Sequence[Moment]) -> Forecast:
        """The forecast of each of ``moments``."""
        self.eval()
        parts = []
        for first in range(0, len(moments), 1024):
            next_scores, begins, then_scores = self(*self.inputs(moments[first : first + 1024]))
            parts.append((next_scores.softmax(2), begins.clamp_min(0).expm1(), then_scores.softmax(2)))
        if not parts:
            size = len(self.symbols)
            shapes = ((0, len(HORIZONS), size), (0, len(HORIZONS)), (0, len(HORIZONS_S), size))
            return Forecast(*(np.zeros(shape) for shape in shapes))
        return Forecast(*(torch.cat(part).double().numpy() for part in zip(*parts, strict=True)))


def learn_recurrent(
    sequences: Sequence[ActionSequence], symbols: tuple[Symbol, ...], seed: int = 0
) -> RecurrentForecaster:
    """A network that learned from ``sequences``; the same for the same sequences and seed on one machine.

    A fifth of the groups is kept aside to choose the epoch, where there are at least two groups.
    """
    groups = sorted({sequence.group for sequence in sequences})
    random.Random(seed).shuffle(groups)
    aside = set(groups[: max(1, round(VALIDATION_SHARE * len(groups)))]) if len(groups) > 1 else set()
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(seed)
        model = RecurrentForecaster(symbols)
        learning = model.tensors([one for one in sequences if one.group not in aside])
        judging = model.tensors([one for one in sequences if one.group in aside])
        model.begin_with(learning)
        optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=1e-2)
        best, best_loss, since = copy.deepcopy(model.state_dict()), float("inf"), 0
        for _ in range(EPOCHS):
            model.train()
            for batch in torch.randperm(len(learning[0])).split(BATCH):
                optimizer.zero_grad()
                loss_of(model, [part[batch] for part in learning]).backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            if not len(judging[0]):
                continue
            loss = _mean_loss(model, judging)
            since = 0 if loss < best_loss else since + 1
            if loss < best_loss:
                best, best_loss = copy.deepcopy(model.state_dict()), loss
            if since >= PATIENCE:
                break
    if len(judging[0]):
        model.load_state_dict(best)
    return model.eval()


def loss_of(model: RecurrentForecaster, batch: Sequence[torch.Tensor]) -> torch.Tensor:
    """Cross entropy of the symbols, plus the error of log(1 + seconds); 0 where nothing is known. ``batch``: rows of
    ``RecurrentForecaster.tensors``."""
    next_scores, begins, then_scores = model(*batch[:5])
    next_MH, seconds_MH, then_MS = batch[5:]
    loss = begins.sum() * 0
    for scores, truth in ((next_scores, next_MH), (then_scores, then_MS)):
        if (truth != NOT_KNOWN).any():
            loss = loss + cross_entropy(scores.flatten(0, 1), truth.flatten(), ignore_index=NOT_KNOWN)
    if (known := seconds_MH >= 0).any():
        loss = loss + TIME_WEIGHT * smooth_l1_loss(begins[known], seconds_MH[known].log1p())
    return loss


@contextmanager
def one_thread() -> Iterator[None]:
    """Steps of this size take longer on several threads than on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def _mean_loss(model: RecurrentForecaster, rows: Sequence[torch.Tensor]) -> float:
    model.eval()
    count = len(rows[0])
    parts = [[part[first : first + 1024] for part in rows] for first in range(0, count, 1024)]
    return sum(float(loss_of(model, part)) * len(part[0]) for part in parts) / count


def _seconds(value_s: float) -> float:
    return math.log1p(max(0.0, value_s))
