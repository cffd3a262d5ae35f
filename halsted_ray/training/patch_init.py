"""The patch projection's first weights: smooth patterns over space, time and colour, scaled to the clips' deviation.

Random filters see mostly the mean brightness of a patch, so an encoder that starts from them must find motion by luck.
Low-frequency cosines (brightness, edges, their change within the tubelet) show motion from the first step on.
"""

from __future__ import annotations

import math

import torch

COLOURS = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -2.0]])
TIME_COST, COLOUR_COST = 1.5, 3.0
"""The cost of one frequency step in time, and of a pattern of colour instead of brightness, in spatial frequencies."""


def cosine_patches(filters: int, tubelet: int, patch: int) -> torch.Tensor:
    """[filters, 3, tubelet, patch, patch], orthonormal, the cheapest (smoothest) first."""
    time_basis, space_basis = _cosines(tubelet), _cosines(patch)
    colours = COLOURS / COLOURS.norm(dim=1, keepdim=True)
    order = sorted(
        (math.hypot(u, v) + TIME_COST * t + COLOUR_COST * (c > 0), c, t, u, v)
        for c in range(3)
        for t in range(tubelet)
        for u in range(patch)
        for v in range(patch)
    )
    return torch.stack(
        [
            torch.einsum("c,t,h,w->cthw", colours[c], time_basis[t], space_basis[u], space_basis[v])
            for _, c, t, u, v in order[:filters]
        ]
    )


def start_patches(projection: torch.nn.Conv3d, pixels_NCTHW: torch.Tensor) -> None:
    """Sets ``projection`` so that each output has a mean of about 0 and a deviation of about 1 over ``pixels_NCTHW``.

    A filter whose output hardly varies (noise only) is amplified at most 20 times more than the median filter.
    """
    filters, _, tubelet, patch, _ = projection.weight.shape
    basis = cosine_patches(filters, tubelet, patch)
    outputs = torch.nn.functional.conv3d(pixels_NCTHW, basis, stride=projection.stride)
    mean, deviation = outputs.mean((0, 2, 3, 4)), outputs.std((0, 2, 3, 4))
    scale = 1 / deviation.clamp(min=deviation.median() / 20)
    with torch.no_grad():
        projection.weight.copy_(basis * scale[:, None, None, None, None])
        projection.bias.copy_(-mean * scale)


def _cosines(length: int) -> torch.Tensor:
    """[length, length]: row k is the orthonormal DCT-II basis vector of frequency k."""
    k, n = torch.arange(length)[:, None], torch.arange(length)[None]
    rows = torch.cos(math.pi / length * (n + 0.5) * k) * math.sqrt(2 / length)
    rows[0] /= math.sqrt(2)
    return rows
