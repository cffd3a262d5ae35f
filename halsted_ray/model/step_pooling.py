"""Pooling that learns: which time steps of a window count, instead of their mean.

Shapes: N windows, T time steps, W width, H heads of W / H.
"""

from __future__ import annotations

import math

import torch
from torch import nn

POOLINGS = ("mean", "attention")
"""How a window's vectors become the decoder's input: as the encoder gives them, or by ``StepPooling``."""


class StepPooling(nn.Module):
    """Vectors of the time steps [N, T, W] -> one vector [N, 1, W]: their mean, plus what attention adds to it.

    A query per head is learned and looks at the steps, each with a learned position, so their order matters. The last
    projection is zero before training: the untrained pooling is the mean, and training only has to find what the mean
    lacks.
    """

    def __init__(self, width: int, steps: int, heads: int):
        super().__init__()
        self.heads = heads
        self.positions_TW = nn.Parameter(torch.empty(steps, width))
        self.queries_HW = nn.Parameter(torch.empty(heads, width))
        self.values = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def start_as_mean(self) -> None:
        """Sets the last projection to zero."""
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def weights(self, stream_NTW: torch.Tensor) -> torch.Tensor:
        """How much each head looks at each step: [N, H, T], 1 in sum over the steps."""
        scores_NTH = (stream_NTW + self.positions_TW) @ self.queries_HW.T
        return (scores_NTH / math.sqrt(stream_NTW.shape[2])).softmax(1).transpose(1, 2)

    def forward(self, stream_NTW: torch.Tensor) -> torch.Tensor:
        """The pooled vector [N, 1, W]."""
        values_NTHd = self.values(stream_NTW + self.positions_TW).unflatten(2, (self.heads, -1))
        attended_NHd = (self.weights(stream_NTW)[:, :, None] @ values_NTHd.transpose(1, 2))[:, :, 0]
        return stream_NTW.mean(1, keepdim=True) + self.out(attended_NHd.flatten(1))[:, None]
