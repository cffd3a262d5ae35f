"""What a model must beat: chance, majority, a linear probe and SAIS, trained and tested on the same windows as it.

Each method predicts one tag at a time.

Legend: N test windows of one tag, K its categories, W windows, D encoder width, G grids of frames, T time steps of a
window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from halsted_ray.evaluation.predictions import NO_CATEGORY, TagPredictions, TagTargets
from halsted_ray.evaluation.sais import SAIS_HEAD, LabelledVectors, SaisRecipe, fit_sais
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.training.samples import Samples

BASELINES = ("chance", "majority", "linear", "sais")
PENALTIES = (1.0, 0.1, 0.01, 0.001)
"""Of the linear probe's squared weights; the validation part chooses."""
ITERATIONS = 100
"""Of L-BFGS, at most, for each penalty."""


def chance(targets: TagTargets, categories: int) -> TagPredictions:
    """A uniform guess: right with probability 1/K (the paper's chance)."""
    count = len(targets.row_N)
    share_N, scores_NK = np.full(count, 1 / categories), np.full((count, categories), 1 / categories)
    return TagPredictions("chance", targets, np.full(count, NO_CATEGORY), share_N, share_N, scores_NK)


def majority(targets: TagTargets, labels: np.ndarray, categories: int) -> TagPredictions:
    """Always the commonest category of the training part. ``labels``: the training windows' categories."""
    share_K = np.bincount(labels, minlength=categories) / max(1, len(labels))
    return TagPredictions.from_scores("majority", targets, np.repeat(share_K[None], len(targets.row_N), 0))


def linear(
    targets: TagTargets, vectors_ND: np.ndarray, train: LabelledVectors, validation: LabelledVectors, categories: int
) -> TagPredictions:
    """Multinomial logistic regression on the encoder's vectors, standardised; the accuracy on ``validation`` chooses
    the penalty. ``vectors_ND``: of the targets' windows."""
    mean_D, std_D = train.vectors.mean(0), train.vectors.std(0) + 1e-6

    def standardised(vectors: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((vectors - mean_D) / std_D).float()

    x, y = standardised(train.vectors), torch.from_numpy(train.labels)
    validation_x, validation_y = standardised(validation.vectors), torch.from_numpy(validation.labels)
    best, best_accuracy = torch.empty(0), -1.0
    weights = torch.zeros(x.shape[1] + 1, categories)
    for penalty in PENALTIES:  # from the strongest: each fit starts where the fit before it ended
        weights = fit_logistic(x, y, weights, penalty)
        is_right = logits(validation_x, weights).argmax(1) == validation_y
        accuracy = float(is_right.float().mean()) if len(validation_y) else 0.0
        if accuracy > best_accuracy:
            best, best_accuracy = weights, accuracy
    scores_NK = logits(standardised(vectors_ND), best).softmax(1).numpy()
    return TagPredictions.from_scores("linear", targets, scores_NK)


def logits(features_ND: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """[N, K] of a linear layer; the last row of ``weights`` [D + 1, K] is the bias."""
    return features_ND @ weights[:-1] + weights[-1]


def fit_logistic(
    features_ND: torch.Tensor, labels_N: torch.Tensor, start: torch.Tensor, penalty: float
) -> torch.Tensor:
    """Weights [D + 1, K] of a logistic regression, by L-BFGS from ``start``."""
    weights = start.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS([weights], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(logits(features_ND, weights), labels_N) + penalty * weights[:-1].square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach()


def baseline_predictions(
    names: Sequence[str],
    targets: Sequence[TagTargets],
    train: Samples,
    validation: Samples,
    test: Samples,
    taxonomy: Taxonomy,
    *,
    steps: Mapping[str, np.ndarray] | None = None,
    sais: SaisRecipe | None = None,
    sais_method: str = SAIS_HEAD,
) -> list[TagPredictions]:
    """Predictions of the baselines ``names`` for all ``targets`` of ``test``.

    ``steps``: part of the split (``train``, ``validation``, ``test``) → the windows' vectors by grid and time step
    [W, G, T, D], row-aligned with that part's ``embeddings_WD``; only SAIS needs them. ``sais_method``: what SAIS is
    called with these vectors (``sais.SAIS`` or ``SAIS_HEAD``).
    """
    found = []
    tasks = [task.name for task in taxonomy.tasks]
    for of_tag in targets:
        k = tasks.index(of_tag.task)
        g = [tag.name for tag in taxonomy.tasks[k].tags].index(of_tag.tag)
        categories = len(taxonomy.tag(of_tag.tag).categories)
        train_rows, validation_rows = (rows_with_truth(samples, k, g) for samples in (train, validation))
        labels = train.truth_SG[train_rows, g].astype(np.int64)
        if "chance" in names:
            found.append(chance(of_tag, categories))
        if "majority" in names:
            found.append(majority(of_tag, labels, categories))
        if not len(labels):
            continue  # no training window has the tag: there is nothing to fit
        if "linear" in names:
            learned, validated = (
                labelled_vectors(samples, rows, g, samples.embeddings_WD)
                for samples, rows in ((train, train_rows), (validation, validation_rows))
            )
            vectors_ND = test.embeddings_WD[test.window_S[of_tag.row_N]].astype(np.float32)
            found.append(linear(of_tag, vectors_ND, learned, validated, categories))
        if "sais" in names:
            assert steps is not None, "SAIS needs the windows' time steps"
            learned, validated = (
                labelled_vectors(samples, rows, g, steps[part])
                for part, samples, rows in (("train", train, train_rows), ("validation", validation, validation_rows))
            )
            model = fit_sais(learned, validated, categories, sais or SaisRecipe())
            vectors_NGTD = steps["test"][test.window_S[of_tag.row_N]].astype(np.float32)
            found.append(TagPredictions.from_scores(sais_method, of_tag, model.probabilities(vectors_NGTD)))
    return found


def rows_with_truth(samples: Samples, task: int, g: int) -> np.ndarray:
    """Positions of the samples that are a window's truth for the g-th tag of the task with index ``task``."""
    return np.flatnonzero(samples.judged_S & (samples.task_S == task) & (samples.truth_SG[:, g] >= 0))


def labelled_vectors(samples: Samples, rows: np.ndarray, g: int, vectors: np.ndarray) -> LabelledVectors:
    """The vectors of the windows of the samples at ``rows``, and their categories of the g-th tag."""
    return LabelledVectors(
        vectors[samples.window_S[rows]].astype(np.float32), samples.truth_SG[rows, g].astype(np.int64)
    )
