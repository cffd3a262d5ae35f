"""A temporal convolutional network over the vectors of a whole video, after MS-TCN (Farha and Gall 2019).

    vectors [W, D] ──► standardised ──► 1x1 ──► five slots a window [T, H] ──► dilated residual layers ──► scores [T, ·]

Unlike MS-TCN it has one stage (the chain of ``label_chain`` does the smoothing), one head for every tag, and gives
five answers per vector, so that an edge lies between the edges of windows.

Legend: B sequences, W windows, T slots, D width of a vector, H channels, C categories of all tags together.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from halsted_ray.refining.slots import SLOTS

CHANNELS = 48
DILATIONS = (1, 2, 4, 8, 16)
"""In slots: a slot sees 31 slots to each side (15 s at 2.5-s windows)."""
DROPOUT = 0.3


class TemporalNetwork(nn.Module):
    """Vectors of a video to the scores of every tag's categories in every slot. ``categories``: per tag how many."""

    def __init__(self, dim: int, categories: Sequence[int]):
        super().__init__()
        self.categories = list(categories)
        self.register_buffer("mean_D", torch.zeros(dim))
        self.register_buffer("deviation_D", torch.ones(dim))
        self.drop = nn.Dropout(DROPOUT)
        self.narrow = nn.Linear(dim, CHANNELS)
        self.slots = nn.Linear(CHANNELS, SLOTS * CHANNELS)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(CHANNELS, CHANNELS, 3, padding=dilation, dilation=dilation),
                nn.ReLU(),
                nn.Dropout(DROPOUT),
                nn.Conv1d(CHANNELS, CHANNELS, 1),
            )
            for dilation in DILATIONS
        )
        self.heads = nn.Linear(CHANNELS, sum(self.categories))

    def standardise(self, vectors_ND: torch.Tensor) -> None:
        """Learns the mean and the deviation of the vectors' features, so that any encoder's scale will do."""
        self.mean_D.copy_(vectors_ND.mean(0))
        self.deviation_D.copy_(vectors_ND.std(0).clamp_min(1e-6))

    def forward(self, vectors_BWD: torch.Tensor, present_BW: torch.Tensor, noise: float = 0.0) -> torch.Tensor:
        """Scores float [B, T, C]. Windows that are not ``present_BW`` count as the average vector. ``noise``: standard
        deviation of what is added to standardised vectors (training)."""
        standard = (vectors_BWD - self.mean_D) / self.deviation_D
        if noise:
            standard = standard + noise * torch.randn_like(standard)
        hidden = self.narrow(self.drop(standard * present_BW[..., None]))
        batch, windows, _ = hidden.shape
        hidden = self.slots(torch.relu(hidden)).view(batch, windows * SLOTS, CHANNELS).transpose(1, 2)
        for layer in self.layers:
            hidden = hidden + layer(hidden)
        scores: torch.Tensor = self.heads(torch.relu(hidden).transpose(1, 2))
        return scores
