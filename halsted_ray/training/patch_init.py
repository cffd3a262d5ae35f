"""Where the patch projection starts: smooth patterns over space, time and colour, each scaled to the clips' own spread.

Random filters see mostly the mean brightness of a patch, and an encoder that starts from them must find motion by
luck. Low-frequency cosines (brightness, edges, their change within the tubelet) show it from the first step.
"""

from __future__ import annotations

import math

import torch

COLOURS = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -2.0]])
TIME_COST, COLOUR_COST = 1.5, 3.0
"""How many spatial frequencies one step in time, or leaving brightness for colour, is held to be worth."""


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
    """Sets ``projection`` so that each output has mean about 0 and deviation about 1 over ``pixels_NCTHW``.

    A filter that hardly answers (noise only) is amplified at most 20 times beyond the median one.
    """
    filters, _, tubelet, patch, _ = projection.weight.shape
    basis = cosine_patches(filters, tubelet, patch)
    answers = torch.nn.functional.conv3d(pixels_NCTHW, basis, stride=projection.stride)
    mean, spread = answers.mean((0, 2, 3, 4)), answers.std((0, 2, 3, 4))
    scale = 1 / spread.clamp(min=spread.median() / 20)
    with torch.no_grad():
        projection.weight.copy_(basis * scale[:, None, None, None, None])
        projection.bias.copy_(-mean * scale)


def _cosines(length: int) -> torch.Tensor:
    """[length, length]: row k is the orthonormal DCT-II basis vector of frequency k."""
    k, n = torch.arange(length)[:, None], torch.arange(length)[None]
    rows = torch.cos(math.pi / length * (n + 0.5) * k) * math.sqrt(2 / length)
    rows[0] /= math.sqrt(2)
    return rows
