"""What the modules of all families have in common.

Shapes: N clips, T frames, M pictures, H and W pixels, S time steps, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from halsted_ray.records import FRAMES_PER_WINDOW


class Network(nn.Module):
    """Pixels float [N, T, 3, H, W] -> float32 [N, S, D], one vector per time step; ``pooled`` gives [N, D].

    ``frames``: T. ``time_steps``: S. ``width``: D. ``size``: (H, W).
    """

    frames: int
    time_steps: int
    width: int
    size: tuple[int, int]
    model: nn.Module

    def forward(self, pixels_NTCHW: torch.Tensor) -> torch.Tensor:
        """One vector per time step."""
        raise NotImplementedError

    def pooled(self, pixels_NTCHW: torch.Tensor) -> torch.Tensor:
        """One vector per clip: here the mean of the time steps."""
        return self(pixels_NTCHW).mean(1)

    def kept_config(self) -> dict[str, Any]:
        """The config.json that, with the tensors of ``state_dict``, makes this network again."""
        raise NotImplementedError


class ImageNetwork(Network):
    """A model of single pictures, asked for each frame; every frame is a time step.

    ``model``: [M, 3, H, W] -> [M, D].
    """

    def __init__(self, model: nn.Module, config: dict[str, Any], width: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.frames = self.time_steps = FRAMES_PER_WINDOW
        self.width, self.size = width, size

    def picture_vectors(self, pixels_MCHW: torch.Tensor) -> torch.Tensor:
        """[M, 3, H, W] -> [M, D]."""
        vectors: torch.Tensor = self.model(pixels_MCHW)
        return vectors

    def forward(self, pixels_NTCHW: torch.Tensor) -> torch.Tensor:
        """One vector per frame."""
        return self.picture_vectors(pixels_NTCHW.flatten(0, 1)).float().unflatten(0, pixels_NTCHW.shape[:2])

    def kept_config(self) -> dict[str, Any]:
        """See ``Network.kept_config``."""
        return self.config
