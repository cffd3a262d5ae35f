"""Whether a window is unlike all that a model was taught: its "not known".

The score is a relative Mahalanobis distance (Ren et al., 2021), with the videos of the training part as the classes:
the squared distance to the nearest video's mean, measured by the scatter within videos, less the squared distance to
the mean of all, measured by the scatter of all. What is common to all video cancels, and what tells one operation from
another counts. It needs no label, so it fits every taxonomy. ``docs/decisions/not-known.md`` has the comparison.

Shapes: N windows, D width of one vector of the encoder, T vectors per window (their mean counts), K videos.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch

RATE = 0.01
"""Share of the windows of its own kind that a model may call unknown. A higher one cuts the spans of actions: with 0.05
one fine window in 14 of other phantoms was flagged, and nothing more of the foreign pictures than with 0.01."""
VIDEO_RATE = 0.05
"""Share of the videos of its own kind that a model may call unknown as a whole."""
LEAST_SHARE = 0.5
"""A video with a smaller share of unknown windows is never called unknown as a whole."""
LEAST_SHRINKAGE = 0.03
"""Share of the identity in both scatters; with N windows at least D / (D + N), since few windows know few directions.
From 6 videos that made the false alarms .085 instead of .185 (rate 0.01); from 26 videos nothing changed."""
LEAST_WINDOWS, LEAST_VIDEOS = 20, 2
"""With fewer training or validation windows, or fewer training videos, a threshold would be a guess."""
MOST_VIDEOS = 512
"""Training videos whose means are kept: 3 MB with the giant's vectors."""
DECIMALS = 3
"""Scores are rounded, so that a window gets the same answer alone and in a batch."""
PREFIX = "novelty."
"""Before the names of this module's tensors in ``decoder.safetensors``."""


@dataclass(frozen=True)
class NoveltyLimits:
    """From which score on a window is unknown, and from which share of unknown windows on a video."""

    rate: float
    """False alarms per window on which ``threshold`` was set."""
    threshold: float
    video_rate: float
    """False alarms per video on which ``video_share`` was set."""
    video_share: float
    windows: int
    videos: int
    """Validation windows and videos that set the limits."""

    def to_json(self) -> dict[str, float]:
        """As JSON values, for ``ModelConfig.novelty``."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, float] | None) -> NoveltyLimits | None:
        """What ``to_json`` gave; None where a model has none."""
        return None if values is None else cls(**values)  # type: ignore[arg-type]  # counts are whole numbers in JSON


@dataclass(frozen=True)
class Novelty:
    """What the training vectors look like. All tensors are float32, on one device.

    ``mean_D`` of all windows; ``within_DD`` and ``whole_DD`` turn a difference into one whose length is the distance by
    the scatter within videos and of all; ``centres_KD``: each video's difference from ``mean_D``, by ``within_DD``.
    """

    mean_D: torch.Tensor
    within_DD: torch.Tensor
    whole_DD: torch.Tensor
    centres_KD: torch.Tensor

    @torch.inference_mode()
    def scores(self, embeddings_ND: torch.Tensor) -> torch.Tensor:
        """The score [N] of windows, float64, on the device of the tensors; above 0 is unlike, below like.

        ``embeddings_ND``: [N, T · D]. Costs 4 D² multiply-adds per window in float64: below a tenth of the decoder's
        work on a CPU.
        """
        dim = len(self.mean_D)
        vectors = embeddings_ND.to(self.mean_D.device).double().unflatten(1, (-1, dim)).mean(1) - self.mean_D.double()
        within, centres = vectors @ self.within_DD.double(), self.centres_KD.double()
        nearest_N = (
            (within.square().sum(1)[:, None] - 2 * within @ centres.T + centres.square().sum(1)[None]).min(1).values
        )
        whole_N = (vectors @ self.whole_DD.double()).square().sum(1)
        return torch.round((nearest_N - whole_N) / dim, decimals=DECIMALS)

    def to(self, device: torch.device) -> Novelty:
        """The same on another device."""
        return Novelty(**{name: tensor.to(device) for name, tensor in vars(self).items()})

    def tensors(self) -> dict[str, torch.Tensor]:
        """Its tensors under the names of the file, in the host's memory."""
        return {PREFIX + name: tensor.cpu().contiguous() for name, tensor in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> Novelty | None:
        """What ``tensors`` gave, among other tensors of a file; None where it has none."""
        own = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
        return cls(**own) if own else None


def fit_novelty(embeddings_ND: np.ndarray, video_N: np.ndarray, steps: int = 1) -> Novelty | None:
    """What the training windows look like. ``embeddings_ND``: [N, T · D] with T = ``steps``; ``video_N``: whose they
    are. None with too few of them. Costs one pass over the vectors and two eigendecompositions (D³)."""
    videos, row_N = np.unique(video_N, return_inverse=True)
    if len(embeddings_ND) < LEAST_WINDOWS or len(videos) < LEAST_VIDEOS:
        return None
    vectors = torch.from_numpy(np.ascontiguousarray(embeddings_ND)).double().unflatten(1, (steps, -1)).mean(1)
    rows = torch.from_numpy(row_N)
    mean_D = vectors.mean(0)
    sums_KD = torch.zeros(len(videos), vectors.shape[1], dtype=torch.float64).index_add_(0, rows, vectors)
    means_KD = sums_KD / torch.bincount(rows, minlength=len(videos))[:, None]
    within_DD, whole_DD = _whitening(vectors - means_KD[rows]), _whitening(vectors - mean_D)
    kept = np.unique(np.linspace(0, len(videos) - 1, min(len(videos), MOST_VIDEOS)).round().astype(int))
    centres_KD = (means_KD[kept] - mean_D) @ within_DD
    return Novelty(*(tensor.float() for tensor in (mean_D, within_DD, whole_DD, centres_KD)))


def fit_limits(
    scores_N: np.ndarray, video_N: np.ndarray, rate: float = RATE, video_rate: float = VIDEO_RATE
) -> NoveltyLimits | None:
    """The limits that the scores of validation windows give; None with too few windows.

    At most the share ``rate`` of these windows lies above the threshold, and at most ``video_rate`` of their videos has
    more than ``video_share`` of its windows there.
    """
    if len(scores_N) < LEAST_WINDOWS:
        return None
    threshold = _upper(scores_N, rate)
    videos, row_N = np.unique(video_N, return_inverse=True)
    shares_V = np.bincount(row_N, weights=scores_N > threshold) / np.bincount(row_N)
    video_share = max(LEAST_SHARE, _upper(shares_V, video_rate))
    return NoveltyLimits(rate, threshold, video_rate, round(video_share, 4), len(scores_N), len(videos))


def _upper(values: np.ndarray, rate: float) -> float:
    """The smallest of ``values`` that at most the share ``rate`` of them exceeds."""
    return float(np.sort(values)[max(0, math.ceil((1 - rate) * len(values)) - 1)])


def _whitening(centred_ND: torch.Tensor) -> torch.Tensor:
    """The inverse square root [D, D] of the covariance, shrunk towards a multiple of the identity."""
    covariance = centred_ND.T @ centred_ND / len(centred_ND)
    level = covariance.diagonal().mean().clamp_min(1e-12)
    share = max(LEAST_SHRINKAGE, len(covariance) / (len(covariance) + len(centred_ND)))
    covariance = (1 - share) * covariance + share * level * torch.eye(len(covariance)).to(covariance)
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.rsqrt()) @ vectors.T
