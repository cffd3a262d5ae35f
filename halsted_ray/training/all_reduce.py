"""Sums over the workers of a training run."""

from __future__ import annotations

import torch
import torch.distributed


def sum_over_workers(value: torch.Tensor, workers: int, device: torch.device) -> torch.Tensor:
    """``value`` (float64, on the CPU) added up over all ``workers``; every worker gets the sum, on the CPU.

    ``device``: the worker's own device, since nccl adds up tensors on GPUs only. All workers must call it.
    """
    if workers > 1:
        value = value.to(device)
        torch.distributed.all_reduce(value)
    return value.cpu()
