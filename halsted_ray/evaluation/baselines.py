"""What a model must beat, taught and tested on the same windows as it: chance, majority, a linear probe, SAIS.

Each is a function of (train, what it is asked) to answers, one tag at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from halsted_ray.evaluation.predictions import NO_CATEGORY, TagPredictions, TagTargets
from halsted_ray.evaluation.sais import SaisRecipe, fit_sais
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.training.samples import Samples

BASELINES = ("chance", "majority", "linear", "sais")
PENALTIES = (1.0, 0.1, 0.01, 0.001)
"""Of the linear probe's squared weights; the validation part chooses."""
ITERATIONS = 100


def chance(asked: TagTargets, categories: int) -> TagPredictions:
    """A uniform guess: right with probability 1/K (the paper's chance)."""
    count = len(asked.row_N)
    each_N, scores_NK = np.full(count, 1 / categories), np.full((count, categories), 1 / categories)
    return TagPredictions("chance", asked, np.full(count, NO_CATEGORY), each_N, each_N, scores_NK)


def majority(asked: TagTargets, labels_N: np.ndarray, categories: int) -> TagPredictions:
    """Always the commonest category of the training part."""
    share_K = np.bincount(labels_N, minlength=categories) / max(1, len(labels_N))
    return TagPredictions.of_scores("majority", asked, np.repeat(share_K[None], len(asked.row_N), 0))


def linear(asked: TagTargets, features_ND: np.ndarray, learn, check, categories: int) -> TagPredictions:
    """Multinomial logistic regression on the encoder's vectors, features standardised, the penalty chosen by the
    accuracy on ``check``. ``learn``, ``check``: (vectors [n, D], labels [n])."""
    mean_D, std_D = learn[0].mean(0), learn[0].std(0) + 1e-6

    def scaled(vectors_ND: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((vectors_ND - mean_D) / std_D).float()

    x, y = scaled(learn[0]), torch.from_numpy(learn[1])
    check_x, check_y = scaled(check[0]), torch.from_numpy(check[1])
    best, best_right = None, -1.0
    weights = torch.zeros(x.shape[1] + 1, categories)
    for penalty in PENALTIES:  # from the strongest: each starts where the one before it ended
        weights = logistic(x, y, weights, penalty)
        right = float((logits(check_x, weights).argmax(1) == check_y).float().mean()) if len(check_y) else 0.0
        if right > best_right:
            best, best_right = weights, right
    scores_NK = logits(scaled(features_ND), best).softmax(1).numpy()
    return TagPredictions.of_scores("linear", asked, scores_NK)


def logits(features_ND: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return features_ND @ weights[:-1] + weights[-1]


def logistic(features_ND: torch.Tensor, labels_N: torch.Tensor, start: torch.Tensor, penalty: float) -> torch.Tensor:
    weights = start.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS([weights], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(logits(features_ND, weights), labels_N) + penalty * weights[:-1].square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach()


def labelled_rows(samples: Samples, task: int, g: int) -> tuple[np.ndarray, np.ndarray]:
    """(positions, labels) of the samples that are a window's truth for the g-th tag of a task."""
    rows = np.flatnonzero(samples.judged_S & (samples.task_S == task) & (samples.truth_SG[:, g] >= 0))
    return rows, samples.truth_SG[rows, g].astype(np.int64)


def baseline_predictions(
    names: Sequence[str],
    asked: Sequence[TagTargets],
    train: Samples,
    validation: Samples,
    test: Samples,
    taxonomy: Taxonomy,
    *,
    steps: dict[str, np.ndarray] | None = None,
    sais: SaisRecipe | None = None,
) -> list[TagPredictions]:
    """Answers of the baselines ``names`` to all that is ``asked`` of ``test``.

    ``steps``: part of the split → the windows' vectors by time step [W, steps, D], row-aligned with that part's
    ``embeddings_WD``; SAIS needs them.
    """
    found = []
    tasks = [task.name for task in taxonomy.tasks]
    for of_tag in asked:
        k = tasks.index(of_tag.task)
        g = [tag.name for tag in taxonomy.tasks[k].tags].index(of_tag.tag)
        categories = len(taxonomy.tag(of_tag.tag).categories)
        parts = {"train": train, "validation": validation}
        labelled = {part: labelled_rows(samples, k, g) for part, samples in parts.items()}
        labels_N = labelled["train"][1]
        if "chance" in names:
            found.append(chance(of_tag, categories))
        if "majority" in names:
            found.append(majority(of_tag, labels_N, categories))
        if not len(labels_N):
            continue  # nobody taught the tag: there is nothing to fit
        if "linear" in names:
            pairs = [
                (parts[part].embeddings_WD[parts[part].window_S[rows]].astype(np.float32), labels)
                for part, (rows, labels) in labelled.items()
            ]
            vectors = test.embeddings_WD[test.window_S[of_tag.row_N]].astype(np.float32)
            found.append(linear(of_tag, vectors, *pairs, categories))
        if "sais" in names:
            pairs = [
                (steps[part][parts[part].window_S[rows]].astype(np.float32), labels)
                for part, (rows, labels) in labelled.items()
            ]
            model = fit_sais(*pairs, categories, sais or SaisRecipe())
            vectors = steps["test"][test.window_S[of_tag.row_N]].astype(np.float32)
            found.append(TagPredictions.of_scores("sais", of_tag, model.probabilities(vectors)))
    return found
