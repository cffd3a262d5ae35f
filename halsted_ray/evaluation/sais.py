"""SAIS as its paper describes it (Kiyasseh et al. 2023, Nature Biomedical Engineering 7:780), written anew from that.

A clip's frame features and a learned class vector go through a small transformer; the class vector's output, projected,
is compared by cosine with one learned prototype a category.

What differs here: the features are the encoder's time steps of a window (one a tubelet, 8 of 2 frames in VideoMAE),
standardised, and not DINO's of 16 frames, so that every method of an evaluation sees the same pixels by one encoder;
RGB only, as in Halsted's comparison; one grid of frames, so no averaging over three; batches of 16 and not 2, for the
CPU's sake; gradients clipped to a norm of 1, for the sake of that learning rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class SaisRecipe:
    """The paper's, where it states them: 4 layers of 4 heads, 256-d prototypes, SGD at 0.1, early stopping on the
    validation loss."""

    layers: int = 4
    heads: int = 4
    prototype_dim: int = 256
    learning_rate: float = 0.1
    batch_size: int = 16
    epochs: int = 40
    patience: int = 4
    """Epochs without a lower validation loss after which training stops."""
    balanced: bool = True
    """Each batch draws the categories evenly."""
    seed: int = 0


class Sais(nn.Module):
    """Time steps of a clip [N, T, D] in, log-probabilities of K categories out."""

    def __init__(self, steps: int, dim: int, categories: int, recipe: SaisRecipe):
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
        steps_NTD = (steps_NTD - self.mean) / self.scale
        start = self.class_vector.expand(len(steps_NTD), 1, -1)
        stream = self.encoder(torch.cat([start, steps_NTD], 1) + self.positions)
        projected = self.projection(F.relu(stream[:, 0]))
        # No temperature: with two categories the surest answer has a probability of .881.
        return (F.normalize(projected, dim=1) @ F.normalize(self.prototypes, dim=1).T).log_softmax(1)

    @torch.inference_mode()
    def probabilities(self, steps_NTD: np.ndarray) -> np.ndarray:
        """[N, K] of clips as arrays."""
        self.eval()
        parts = torch.from_numpy(steps_NTD).float().split(512)
        return torch.cat([self(part).exp() for part in parts]).numpy()


def fit_sais(learn, check, categories: int, recipe: SaisRecipe) -> Sais:
    """A SAIS of one tag from ``learn``, stopped by its loss on ``check``: (steps [n, T, D], labels [n]) each.

    The same data and seed give the same model.
    """
    steps, labels = torch.from_numpy(learn[0]).float(), torch.from_numpy(learn[1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = Sais(*steps.shape[1:], categories, recipe)
        model.mean.copy_(steps.mean((0, 1)))
        model.scale.copy_(steps.std((0, 1)) + 1e-6)
        optimizer = torch.optim.SGD(model.parameters(), lr=recipe.learning_rate)
        weights = 1 / torch.bincount(labels, minlength=categories).clamp_min(1)[labels].double()
        best, best_loss, waited = None, float("inf"), 0
        for _ in range(recipe.epochs):
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
            reached = loss_on(model, check) if len(check[1]) else 0.0
            waited += 1
            if best is None or not len(check[1]) or reached < best_loss:
                best, best_loss, waited = {k: v.clone() for k, v in model.state_dict().items()}, reached, 0
            if waited >= recipe.patience:
                break
    model.load_state_dict(best)
    return model


def loss_on(model: Sais, check) -> float:
    probabilities_NK = model.probabilities(check[0])
    return float(-np.log(probabilities_NK[np.arange(len(check[1])), check[1]]).mean())
