"""An encoder that takes its time like a GPU: it computes a batch of any filling in the same time, one after another."""

from __future__ import annotations

import time

import numpy as np
import torch


class SlowEncoder:
    """Its vectors are a window's mean, its first and its last pixel. What it computed is in ``batches``."""

    ref, fingerprint, size_name, device_name = "slow", "slow", "", "slow"
    frames, image_size, dim = 4, (2, 2), 3
    device = torch.device("cpu")

    def __init__(self, batch_s: float = 0.0, micro_batch: int = 8):
        self.batch_s, self.micro_batch = batch_s, micro_batch
        self.batches: list[np.ndarray] = []
        self.fault: Exception | None = None

    def forward_device(self, clips_NTHWC: torch.Tensor) -> torch.Tensor:
        time.sleep(self.batch_s)
        self.batches.append(clips_NTHWC.numpy().copy())
        if self.fault:
            raise self.fault
        return self.vectors(clips_NTHWC.float().flatten(1))

    def encode(self, clips_NTHWC: np.ndarray) -> np.ndarray:
        return self.vectors(torch.from_numpy(clips_NTHWC).float().flatten(1)).half().numpy()

    @staticmethod
    def vectors(pixels_NP: torch.Tensor) -> torch.Tensor:
        return torch.stack([pixels_NP.mean(1), pixels_NP[:, 0], pixels_NP[:, -1]], 1)
