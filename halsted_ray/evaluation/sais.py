"""SAIS, written anew from its paper (Kiyasseh et al. 2023, Nature Biomedical Engineering 7:780).

A clip's frame features and a learned class vector go through a small transformer. The output of the class vector,
projected, is compared by cosine with one learned prototype per category.

The features decide what the method is called. ``SAIS``: one vector per frame from a self-supervised ViT that the user
names, as published, and probabilities averaged over three grids of frames. ``SAIS_HEAD``: the time steps of the model's
own encoder (in VideoMAE one per 2 frames), so that every method of an evaluation sees the same vectors, and one grid.

What differs from the paper in both forms:
- RGB only, as in Halsted's comparison.
- The features are standardised by the training part's mean and deviation.
- Batches of 16 clips and not 2, so that training on a CPU is fast enough.
- Gradients are clipped to a norm of 1, since the paper's learning rate of 0.1 needs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

SAIS, SAIS_HEAD = "sais", "sais_head"
"""The two methods' names (see above)."""


@dataclass(frozen=True)
class SaisRecipe:
    """Every choice of a SAIS. The paper states: 4 layers of 4 heads, 256-d prototypes, SGD at 0.1, early stopping on
    the validation loss."""

    layers: int = 4
    heads: int = 4
    prototype_dim: int = 256
    learning_rate: float = 0.1
    batch_size: int = 16
    epochs: int = 40
    patience: int = 4
    """Epochs without a lower validation loss after which training stops."""
    balanced: bool = True
    """Draw the categories of each batch evenly."""
    seed: int = 0


class LabelledVectors(NamedTuple):
    """What a baseline learns one tag from: ``vectors`` float32 [n, D], or [n, G, T, D] of G grids of T time steps;
    ``labels`` int64 [n]."""

    vectors: np.ndarray
    labels: np.ndarray


class Sais(nn.Module):
    """Time steps of a clip [N, T, D] in, log-probabilities of K categories out."""

    def __init__(self, steps: int, dim: int, categories: int, recipe: SaisRecipe) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.class_vector = nn.Parameter(torch.randn(dim))
        self.positions = nn.Parameter(torch.randn(steps + 1, dim))
        layer = nn.TransformerEncoderLayer(dim, recipe.heads, 4 * dim, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, recipe.layers, enable_nested_tensor=False)
        self.projection = nn.Linear(dim, recipe.prototype_dim)
        self.prototypes = nn.Parameter(torch.randn(categories, recipe.prototype_dim))

    def forward(self, steps_NTD: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [N, K] of clips."""
        steps_NTD = (steps_NTD - self.mean) / self.scale
        start = self.class_vector.expand(len(steps_NTD), 1, -1)
        stream = self.encoder(torch.cat([start, steps_NTD], 1) + self.positions)
        projected = self.projection(F.relu(stream[:, 0]))
        # No temperature: with two categories the highest possible probability is .881.
        return (F.normalize(projected, dim=1) @ F.normalize(self.prototypes, dim=1).T).log_softmax(1)

    @torch.inference_mode()
    def probabilities(self, grids_NGTD: np.ndarray) -> np.ndarray:
        """Probabilities [N, K] of clips, as arrays: the mean over G grids of frames of each clip."""
        self.eval()
        parts = torch.from_numpy(grids_NGTD).float().split(512)
        return torch.cat(
            [self(part.flatten(0, 1)).exp().unflatten(0, part.shape[:2]).mean(1) for part in parts]
        ).numpy()


def fit_sais(train: LabelledVectors, validation: LabelledVectors, categories: int, recipe: SaisRecipe) -> Sais:
    """A SAIS of one tag, trained on the first grid of ``train`` and stopped by its loss on ``validation``.

    The same data and seed give the same model.
    """
    steps, labels = torch.from_numpy(train.vectors[:, 0]).float(), torch.from_numpy(train.labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = Sais(steps.shape[1], steps.shape[2], categories, recipe)
        model.mean.copy_(steps.mean((0, 1)))
        model.scale.copy_(steps.std((0, 1)) + 1e-6)
        optimizer = torch.optim.SGD(model.parameters(), lr=recipe.learning_rate)
        weights = 1 / torch.bincount(labels, minlength=categories).clamp_min(1)[labels].double()
        best, best_loss, waited = model.state_dict(), float("inf"), 0
        for epoch in range(recipe.epochs):
            model.train()
            order = (
                torch.multinomial(weights, len(labels), replacement=True)
                if recipe.balanced
                else torch.randperm(len(labels))
            )
            for rows in order.split(recipe.batch_size):
                loss = F.nll_loss(model(steps[rows]), labels[rows])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            loss_now = mean_loss(model, validation) if len(validation.labels) else 0.0
            waited += 1
            if epoch == 0 or not len(validation.labels) or loss_now < best_loss:
                best, best_loss, waited = {k: v.clone() for k, v in model.state_dict().items()}, loss_now, 0
            if waited >= recipe.patience:
                break
    model.load_state_dict(best)
    return model


def mean_loss(model: Sais, validation: LabelledVectors) -> float:
    """Mean cross-entropy on ``validation``."""
    probabilities_NK = model.probabilities(validation.vectors)
    return float(-np.log(probabilities_NK[np.arange(len(validation.labels)), validation.labels]).mean())
