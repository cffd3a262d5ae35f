"""How right a linear classifier on a model's clip vectors is that has seen few clips of each label, or all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from halsted_ray.evaluation.baselines import PENALTIES, fit_logistic, logits
from halsted_ray.language.zero_shot import LabelledClips, figures_of

SHOTS = (1, 2, 4, 8, 16)
"""Clips of each label, as in CLIP's and CoOp's comparisons."""
REPEATS = 10
PENALTY = 0.1
"""Where no validation part chooses among ``baselines.PENALTIES``."""
Learn = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""(clip vectors [n, dim], truth [n, K], seed) → scores [N, K] of the clips to judge."""


@dataclass(frozen=True)
class FewShotFigures:
    """``score``: mean over ``repeats`` draws of the accuracy, with several labels of the mean average precision;
    ``deviation``: its standard deviation over the draws (sample, 0 for one draw)."""

    method: str
    shots: int | None
    """Clips drawn of each label; None: all."""
    clips: int
    """That a draw learns from, in the mean, rounded."""
    repeats: int
    score: float
    deviation: float


def drawn(truth_NK: np.ndarray, shots: int | None, seed: int) -> np.ndarray:
    """Rows of ``shots`` clips of each label, without repetition; of a label with fewer clips all of them. None: all
    rows."""
    if shots is None:
        return np.arange(len(truth_NK))
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(own_N))[:shots] for own_N in truth_NK.T]
    return np.unique(np.concatenate(rows))


def few_shot(
    method: str,
    learn: Learn,
    train_ND: np.ndarray,
    train: LabelledClips,
    test: LabelledClips,
    shots: Iterable[int | None],
    repeats: int = REPEATS,
    is_multi_label: bool = False,
    on_draw: Callable[[int, int], None] = lambda done, of: None,
) -> list[FewShotFigures]:
    """The figures of ``learn`` on ``test`` for each number of shots from ``train``, whose vectors are ``train_ND``. All
    clips are drawn once, since every draw would be the same. ``on_draw``: (draws done, of all)."""
    plan = [(shot, 1 if shot is None else repeats) for shot in shots]
    found, done, of = [], 0, sum(draws for _, draws in plan)
    for shot, draws in plan:
        scores, counts = [], []
        for seed in range(draws):
            rows = drawn(train.truth_NK, shot, seed)
            figures = figures_of(learn(train_ND[rows], train.truth_NK[rows], seed), test, is_multi_label)
            score = figures.map if is_multi_label else figures.accuracy
            assert score is not None
            scores.append(score)
            counts.append(len(rows))
            done += 1
            on_draw(done, of)
        deviation = float(np.std(scores, ddof=1)) if draws > 1 else 0.0
        found.append(FewShotFigures(method, shot, round(np.mean(counts)), draws, float(np.mean(scores)), deviation))
    return found


def linear_probe(
    test_ND: np.ndarray, validation: tuple[np.ndarray, np.ndarray] | None, is_multi_label: bool = False
) -> Learn:
    """A logistic regression per draw, whose penalty ``validation`` (vectors, truth) chooses by its accuracy; with
    several labels per clip one regression per label against the rest. A label that a draw has no clip of is never
    answered."""

    def learn(vectors_ND: np.ndarray, truth_NK: np.ndarray, _seed: int) -> np.ndarray:
        if not is_multi_label:
            return _scores(vectors_ND, truth_NK, test_ND, validation)
        scores_NK = np.full((len(test_ND), truth_NK.shape[1]), -np.inf, np.float32)
        for k in np.flatnonzero(truth_NK.any(0)).tolist():
            chosen = None if validation is None else (validation[0], _against_rest(validation[1], k))
            pair_N2 = _scores(vectors_ND, _against_rest(truth_NK, k), test_ND, chosen)
            scores_NK[:, k] = pair_N2[:, 1] - pair_N2[:, 0]
        return np.nan_to_num(scores_NK, nan=0.0)

    return learn


def _against_rest(truth_NK: np.ndarray, k: int) -> np.ndarray:
    return np.stack([~truth_NK[:, k], truth_NK[:, k]], 1)


def _scores(
    vectors_ND: np.ndarray,
    truth_NK: np.ndarray,
    judged_ND: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray] | None,
) -> np.ndarray:
    """Scores [N, K] of ``judged_ND``; -inf for labels without a clip."""
    x, y = _centred(vectors_ND, vectors_ND), torch.from_numpy(truth_NK.argmax(1))
    penalties: Sequence[float] = PENALTIES if validation is not None else (PENALTY,)
    weights = torch.zeros(x.shape[1] + 1, truth_NK.shape[1])
    best, best_accuracy = weights, -1.0
    for penalty in penalties:  # from the strongest: each fit starts where the fit before it ended
        weights = fit_logistic(x, y, weights, penalty)
        accuracy = 0.0
        if validation is not None:
            is_right = logits(_centred(validation[0], vectors_ND), weights).argmax(1).numpy() == validation[1].argmax(1)
            accuracy = float(is_right.mean())
        if accuracy > best_accuracy:
            best, best_accuracy = weights, accuracy
    scores_NK: np.ndarray = logits(_centred(judged_ND, vectors_ND), best).numpy().copy()
    scores_NK[:, ~truth_NK.any(0)] = -np.inf
    return scores_NK


def _centred(vectors_ND: np.ndarray, learned_ND: np.ndarray) -> torch.Tensor:
    """Vectors about the mean of what is learned from, with numbers of size 1: of a single clip per label the deviation
    of each number says nothing."""
    return torch.from_numpy(((vectors_ND - learned_ND.mean(0)) * np.sqrt(vectors_ND.shape[1])).astype(np.float32))
