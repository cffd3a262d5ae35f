"""Where the vectors of the training set lie: on the device that trains, or in the memory of its host."""

from __future__ import annotations

import torch

RESIDENT_SHARE = 0.5
"""Of the device's free memory: the most that vectors take there. The rest is for gradients, the optimizer's moments
and activations, which do not exist yet when the vectors are placed."""


def fits_on_device(vector_bytes: int, free_bytes: int) -> bool:
    """The rule: the vectors lie on the device where they take at most ``RESIDENT_SHARE`` of its free memory."""
    return vector_bytes <= RESIDENT_SHARE * free_bytes


def is_resident(vector_bytes: int, device: torch.device) -> bool:
    """Whether vectors of so many bytes lie on ``device``. On a CPU they always do: its memory is the host's."""
    return device.type == "cpu" or fits_on_device(vector_bytes, free_device_bytes(device))


def free_device_bytes(device: torch.device) -> int:
    """Bytes that this process can still allocate on the GPU ``device``: what nobody holds, and no more than its own
    share where the GPU is shared (``compute.parallel``)."""
    if device.index is None:  # torch asks for a number here, and takes ``cuda`` elsewhere
        device = torch.device(device.type, torch.cuda.current_device())
    free, total = torch.cuda.mem_get_info(device)
    own = torch.cuda.get_per_process_memory_fraction(device) * total - torch.cuda.memory_reserved(device)
    return max(0, min(free, int(own)))
