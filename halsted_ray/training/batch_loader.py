"""The batches of an epoch, cut from arrays in memory.

The data are small once they are vectors, so every worker holds all samples and cuts its part of each batch itself.
A batch is the same set of samples however many workers share it; so are its noise and its hidden tags.

Legend: W windows, S samples, N samples of this worker's part of a batch, B samples of the whole batch, L tokens of the
longest answer, D encoder width, K tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from halsted_ray.model.vocabulary import PAD
from halsted_ray.training.recipe import Recipe
from halsted_ray.training.samples import Samples


class Batch(NamedTuple):
    """One worker's part of a batch.

    ``shown_NL`` are the tokens that the decoder sees, ``target_NL`` the tokens that it must predict: they differ where
    the recipe hides tags. ``weight_N``: share of each sample in the batch's loss; the weights of all workers sum to 1.
    """

    embeddings_ND: torch.Tensor
    task_N: torch.Tensor
    shown_NL: torch.Tensor
    target_NL: torch.Tensor
    weight_N: torch.Tensor


class BatchLoader:
    """Cuts this worker's part of each batch. All workers draw the whole batch alike, then each takes its part.

    ``rank``: number of this worker, from 0 to ``workers`` - 1.
    """

    def __init__(self, samples: Samples, recipe: Recipe, rank: int, workers: int, device: torch.device) -> None:
        self.recipe, self.rank, self.workers = recipe, rank, workers
        self.embeddings_WD = torch.from_numpy(samples.embeddings_WD).to(device)
        self.noise_D = recipe.noise * torch.from_numpy(samples.embeddings_WD).float().std(0)
        self.window_S, self.task_S, self.tokens_SL, self.weight_S = (
            torch.from_numpy(getattr(samples, name)).to(device)
            for name in ("window_S", "task_S", "tokens_SL", "weight_S")
        )

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-len(self.task_S) // self.recipe.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch. The recipe's seed and ``epoch`` decide everything that is random in them."""
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + epoch)
        device, length = self.task_S.device, self.tokens_SL.shape[1]
        is_category_L = torch.arange(length) % 3 == 2  # BOS, then <tag>, category, </tag> for every tag
        for batch in self.sample_order(generator).split(self.recipe.batch_size):
            part = slice(self.rank, None, self.workers)
            share = 1.0
            if self.rank >= len(batch):  # the last batch has fewer samples than workers: this worker still takes part
                part, share = slice(0, 1), 0.0
            own = batch[part].to(device)
            weight_N = share * self.weight_S[own] / self.weight_S[batch.to(device)].sum()
            embeddings_ND = self.embeddings_WD[self.window_S[own]].float()
            target_NL = shown_NL = self.tokens_SL[own].long()
            if self.recipe.noise:
                noise_BD = torch.randn(len(batch), len(self.noise_D), generator=generator) * self.noise_D
                embeddings_ND = embeddings_ND + noise_BD[part].to(device)
            if self.recipe.hide_tags:
                is_drawn_BL = torch.rand(len(batch), length, generator=generator) < self.recipe.hide_tags
                shown_NL = target_NL.masked_fill((is_drawn_BL & is_category_L)[part].to(device), PAD)
            yield Batch(embeddings_ND, self.task_S[own], shown_NL, target_NL, weight_N)

    def sample_order(self, generator: torch.Generator) -> torch.Tensor:
        """Positions of an epoch's samples [S], in the order in which they are seen.

        ``as_is``: each sample once. ``balanced``: as many draws with replacement, each task as often as the others.
        """
        count = len(self.task_S)
        if self.recipe.sampling == "as_is":
            return torch.randperm(count, generator=generator)
        task_S = self.task_S.cpu()
        tasks = torch.unique(task_S)
        sorted_S = torch.argsort(task_S, stable=True)
        counts_K = torch.tensor([int((task_S == task).sum()) for task in tasks])
        first_K = counts_K.cumsum(0) - counts_K
        drawn_task_S = torch.randint(len(tasks), (count,), generator=generator)
        uniform_S = torch.rand(count, generator=generator, dtype=torch.float64)
        return sorted_S[first_K[drawn_task_S] + (uniform_S * counts_K[drawn_task_S]).long()]
