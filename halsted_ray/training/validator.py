"""Accuracy on the validation samples, measured between epochs."""

from __future__ import annotations

import math

import numpy as np
import torch

from halsted_ray.model.decoder import Decoder
from halsted_ray.model.generation import Grammar, generate
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.training.all_reduce import sum_over_workers
from halsted_ray.training.samples import Samples

ROWS_PER_PASS = 64
Accuracies = dict[str, float | None]
"""Of tasks or tags by name; None where no sample could tell."""


class Validator:
    """Exact-match accuracy on the validation samples; each of the workers takes a part of the samples.

    A category that no training sample has (the only video of a procedure is held out) can't be learned, so its samples
    do not count. Otherwise its accuracy would stay at 0 and, as the worst task's, decide which decoder is kept.
    """

    def __init__(
        self, samples: Samples, train: Samples, vocabulary: Vocabulary, rank: int, workers: int, device: torch.device
    ) -> None:
        self.taxonomy, self.workers, self.device = vocabulary.taxonomy, workers, device
        self.grammar = Grammar(vocabulary, {}, device)
        rows = torch.from_numpy(samples.judged_S).nonzero()[:, 0][rank::workers]
        self.embeddings_ND = torch.from_numpy(samples.embeddings_WD[samples.window_S[rows]]).float().to(device)
        self.tasks_N = torch.from_numpy(samples.task_S)[rows].to(device)
        in_training = torch.zeros(len(self.taxonomy.tasks), samples.truth_SG.shape[1], self.grammar.categories + 1)
        for g, truth_S in enumerate(torch.from_numpy(train.truth_SG).long().unbind(1)):
            # -1 means that the sample has no such tag; it marks the last column, which nobody reads.
            in_training[torch.from_numpy(train.task_S), g, truth_S] = 1
        truth_NG = torch.from_numpy(samples.truth_SG).long()[rows]
        tags_G = torch.arange(truth_NG.shape[1])
        is_known_NG = in_training[torch.from_numpy(samples.task_S)[rows][:, None], tags_G[None], truth_NG] > 0
        self.truth_NG = torch.where(is_known_NG, truth_NG, -1).to(device)
        self.commonest_KG = commonest_categories(train, len(self.taxonomy.tasks)).to(device)

    def __call__(self, decoder: Decoder) -> tuple[Accuracies, Accuracies]:
        """(task → mean accuracy of its tags, tag → accuracy); None for a task or tag without a sample."""
        decoder.eval()
        chosen_NG = self.truth_NG  # of no sample, where this worker has none
        if len(self.tasks_N):
            chosen_NG = generate(decoder, self.grammar, self.embeddings_ND, self.tasks_N, ROWS_PER_PASS).chosen_NG
        return self.accuracies(chosen_NG)

    def of_commonest(self) -> tuple[Accuracies, Accuracies]:
        """The accuracies of an answer that never looks at a vector: each tag's commonest category in training."""
        return self.accuracies(self.commonest_KG[self.tasks_N])

    def accuracies(self, chosen_NG: torch.Tensor) -> tuple[Accuracies, Accuracies]:
        """As ``__call__``, where the samples are answered by ``chosen_NG``. All workers must call it."""
        shape = len(self.taxonomy.tasks), self.truth_NG.shape[1]
        counts = torch.zeros(2, *shape, dtype=torch.float64)
        if len(self.tasks_N):
            has_truth_NG = self.truth_NG >= 0
            is_right_NG = has_truth_NG & (chosen_NG == self.truth_NG)
            for side, values_NG in enumerate((is_right_NG, has_truth_NG)):
                counts[side].index_add_(0, self.tasks_N.cpu(), values_NG.cpu().double())
        counts = sum_over_workers(counts, self.workers, self.device)
        share = counts[0] / counts[1]
        of_task: Accuracies = {}
        of_tag: Accuracies = {}
        for k, task in enumerate(self.taxonomy.tasks):
            of_task[task.name] = none_if_nan(share[k].nanmean().item())
            of_tag |= {tag.name: none_if_nan(share[k, g].item()) for g, tag in enumerate(task.tags)}
        return of_task, of_tag


def commonest_categories(train: Samples, tasks: int) -> torch.Tensor:
    """[K, G] the commonest category of each tag of the ``tasks`` tasks in training, 0 where no sample has the tag."""
    found_KG = torch.zeros(tasks, train.truth_SG.shape[1], dtype=torch.long)
    for k in range(tasks):
        for g, truth_S in enumerate(train.truth_SG[train.task_S == k].T):
            if (truth_S >= 0).any():
                found_KG[k, g] = int(np.bincount(truth_S[truth_S >= 0]).argmax())
    return found_KG


def none_if_nan(share: float) -> float | None:
    """JSON has no NaN: None takes its place."""
    return None if math.isnan(share) else share
