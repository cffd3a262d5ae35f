"""The batches of an epoch, cut from arrays in memory.

The data are small once they are vectors, so every worker holds all samples and cuts its part of each batch itself.
A batch is the same set of samples however many workers share it, and wherever the vectors lie; so are its noise and
its hidden tags. All that is random is drawn on the CPU.

Legend: W windows, S samples, N samples of this worker's part of a batch, B samples of the whole batch, L tokens of the
longest answer, D encoder width, K tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from halsted_ray.model.vocabulary import PAD
from halsted_ray.training.prefetch import copied_ahead
from halsted_ray.training.recipe import Recipe, passes_per_epoch
from halsted_ray.training.samples import Samples
from halsted_ray.training.vector_placement import is_resident


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


class HostBatch(NamedTuple):
    """What the host gives for a worker's part of a batch.

    ``vectors``: the windows' positions [N] where the vectors lie on the device, else the vectors themselves [N, D], as
    they are stored. ``noise_ND`` and ``is_hidden_NL`` are None where the recipe wants none.
    """

    vectors: torch.Tensor
    task_N: torch.Tensor
    tokens_NL: torch.Tensor
    weight_N: torch.Tensor
    noise_ND: torch.Tensor | None
    is_hidden_NL: torch.Tensor | None


class BatchLoader:
    """Cuts this worker's part of each batch. All workers draw the whole batch alike, then each takes its part.

    ``rank``: number of this worker, from 0 to ``workers`` - 1. ``keep_on_device``: whether the vectors lie on
    ``device``, or on the host, from where each batch is sent; None for the rule of ``vector_placement``. The batches
    are the same.
    """

    def __init__(
        self,
        samples: Samples,
        recipe: Recipe,
        rank: int,
        workers: int,
        device: torch.device,
        keep_on_device: bool | None = None,
    ) -> None:
        self.recipe, self.rank, self.workers, self.device = recipe, rank, workers, device
        vectors_WD = torch.from_numpy(samples.embeddings_WD)
        self.is_resident = is_resident(vectors_WD.nbytes, device) if keep_on_device is None else keep_on_device
        self.embeddings_WD = vectors_WD.to(device) if self.is_resident else vectors_WD
        self.batches_per_pass = -(-len(samples) // recipe.batch_size)
        self.passes = passes_per_epoch(self.batches_per_pass, recipe)
        self.noise_D = recipe.noise * vectors_WD.float().std(0) if recipe.noise else None
        self.window_S, self.task_S, self.tokens_SL, self.weight_S = (
            torch.from_numpy(getattr(samples, name)) for name in ("window_S", "task_S", "tokens_SL", "weight_S")
        )

    def __len__(self) -> int:
        """Batches per epoch."""
        return self.passes * self.batches_per_pass

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch. The recipe's seed and ``epoch`` decide everything that is random in them."""
        on_host = self.host_batches(epoch)
        # Vectors in the CPU's own memory need no copy: there a thread would only cost.
        needs_no_copy = self.is_resident and self.device.type == "cpu"
        for batch in on_host if needs_no_copy else copied_ahead(on_host, self.device):
            yield self.complete(batch)

    def host_batches(self, epoch: int) -> Iterator[HostBatch]:
        """What the host gives for each batch of one epoch, in order: every sample once per pass."""
        for number in range(epoch * self.passes, (epoch + 1) * self.passes):
            yield from self.host_batches_of_pass(number)

    def host_batches_of_pass(self, number: int) -> Iterator[HostBatch]:
        """What the host gives for each batch of one pass over the samples, in order."""
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + number)
        length = self.tokens_SL.shape[1]
        is_category_L = torch.arange(length) % 3 == 2  # BOS, then <tag>, category, </tag> for every tag
        for batch in self.sample_order(generator).split(self.recipe.batch_size):
            part = slice(self.rank, None, self.workers)
            share = 1.0
            if self.rank >= len(batch):  # the last batch has fewer samples than workers: this worker still takes part
                part, share = slice(0, 1), 0.0
            own = batch[part]
            noise_ND = is_hidden_NL = None
            if self.noise_D is not None:
                noise_ND = (torch.randn(len(batch), len(self.noise_D), generator=generator) * self.noise_D)[part]
            if self.recipe.hide_tags:
                is_drawn_BL = torch.rand(len(batch), length, generator=generator) < self.recipe.hide_tags
                is_hidden_NL = (is_drawn_BL & is_category_L)[part]
            window_N = self.window_S[own]
            yield HostBatch(
                window_N if self.is_resident else self.embeddings_WD[window_N],
                self.task_S[own],
                self.tokens_SL[own],
                share * self.weight_S[own] / self.weight_S[batch].sum(),
                noise_ND,
                is_hidden_NL,
            )

    def complete(self, batch: HostBatch) -> Batch:
        """The batch that the decoder learns from, on the device where the tensors of ``batch`` are by now."""
        embeddings_ND = (self.embeddings_WD[batch.vectors] if self.is_resident else batch.vectors).float()
        if batch.noise_ND is not None:
            embeddings_ND = embeddings_ND + batch.noise_ND
        target_NL = shown_NL = batch.tokens_NL.long()
        if batch.is_hidden_NL is not None:
            shown_NL = target_NL.masked_fill(batch.is_hidden_NL, PAD)
        return Batch(embeddings_ND, batch.task_N, shown_NL, target_NL, batch.weight_N)

    def sample_order(self, generator: torch.Generator) -> torch.Tensor:
        """Positions of an epoch's samples [S], in the order in which they are seen.

        ``as_is``: each sample once. ``balanced``: as many draws with replacement, each task as often as the others.
        """
        count = len(self.task_S)
        if self.recipe.sampling == "as_is":
            return torch.randperm(count, generator=generator)
        tasks = torch.unique(self.task_S)
        sorted_S = torch.argsort(self.task_S, stable=True)
        counts_K = torch.tensor([int((self.task_S == task).sum()) for task in tasks])
        first_K = counts_K.cumsum(0) - counts_K
        drawn_task_S = torch.randint(len(tasks), (count,), generator=generator)
        uniform_S = torch.rand(count, generator=generator, dtype=torch.float64)
        return sorted_S[first_K[drawn_task_S] + (uniform_S * counts_K[drawn_task_S]).long()]
