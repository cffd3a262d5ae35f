"""One temperature per tag and unit, so that a confidence of 0.9 is right 9 times in 10 (Guo et al., 2017).

A few videos can't tell how sure a tag may be: of six videos whose procedure is right six times, the likeliest
temperature is 0. So each tag's temperature is drawn towards the one that fits all tags together, and that one towards
1. How strongly depends on the independent observations of the tag: a category in a video counts once, however many
windows show it. Measured on 24 phantoms, with 6 for validation: the calibration error of instrument fell from .081
(drawn towards 1) to .057, of anatomy from .114 to .072, and of the other tags it is below .04
(``docs/decisions/temperatures-with-a-prior.md``).

A model can know a tag on the map's windows and guess it on annotated clips, or the other way round. So a tag has a
temperature for each of these units: the tag's own or a higher one (``docs/decisions/temperatures-by-unit.md``).

Legend: N samples, G tags of a task at most, C categories at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch

from halsted_ray.taxonomy import Taxonomy

Unit = Literal["clips", "grid"]
"""What is tagged: an annotated or requested clip over its own span, or a window of the grid that a map asks."""
UNITS: tuple[Unit, ...] = ("clips", "grid")
COMMON_SPREAD, TAG_SPREAD, UNIT_SPREAD = 0.5, 0.25, 2.0
"""Standard deviations of the logarithms: of the common temperature about 1, of a tag's about the common one, and of a
unit's above its tag's."""
MOST_LOG = 2.5
"""Temperatures are searched between exp(−2.5) = 0.08 and exp(2.5) = 12."""


@dataclass(frozen=True)
class TagLogits:
    """What calibration knows of one tag on one unit.

    ``logits_NC``; ``labels_N``: index of the true category; ``observations``: how many of the samples stand for
    themselves, the others being more windows of the same thing.
    """

    logits_NC: torch.Tensor
    labels_N: torch.Tensor
    observations: int

    def loss(self, log_temperature: float) -> float:
        """−log p of all observations at a temperature: the mean over samples, times the observations."""
        if not len(self.labels_N):
            return 0.0
        log_p_NC = (self.logits_NC.double() / math.exp(log_temperature)).log_softmax(1)
        return -float(log_p_NC.gather(1, self.labels_N[:, None]).mean()) * self.observations


def logits_of_tags(
    taxonomy: Taxonomy,
    logits_NGC: torch.Tensor,
    truth_NG: torch.Tensor,
    tasks_N: torch.Tensor,
    unit_N: np.ndarray,
    video_N: np.ndarray,
) -> dict[str, dict[Unit, TagLogits]]:
    """Tag → unit → what the samples tell of it. ``truth_NG``: the true category of each tag of the sample's task, -1
    where it is not known. ``video_N``: whose the samples are; a category of one video is one observation of a unit.
    """
    found: dict[str, dict[Unit, TagLogits]] = {}
    for k, task in enumerate(taxonomy.tasks):
        for g, tag in enumerate(task.tags):
            known_N = (tasks_N == k) & (truth_NG[:, g] >= 0)
            found[tag.name] = {}
            for unit in UNITS:
                rows_N = known_N & torch.from_numpy(unit_N == unit)
                labels = truth_NG[rows_N, g]
                seen = set(zip(video_N[rows_N.numpy()].tolist(), labels.tolist(), strict=True))
                found[tag.name][unit] = TagLogits(logits_NGC[rows_N, g, : len(tag.categories)], labels, len(seen))
    return found


def fit_temperatures(
    tags: Mapping[str, Mapping[Unit, TagLogits]], unit_spread: float = UNIT_SPREAD
) -> dict[Unit, dict[str, float]]:
    """Unit → tag → temperature to 3 decimals; a tag without a sample gets the one that fits all tags together.

    ``unit_spread``: as ``UNIT_SPREAD``; 0 gives both units of a tag the same temperature.
    """
    common = _least(lambda log: sum(_loss(units, log) for units in tags.values()) + _far(log, 0.0, COMMON_SPREAD))
    found: dict[Unit, dict[str, float]] = {unit: {} for unit in UNITS}
    for tag, units in tags.items():
        own = _least(partial(_cost, units, common, TAG_SPREAD))
        for unit in UNITS:
            log = own
            if unit_spread and unit in units:
                # Never surer than the tag: the same few videos would speak for it twice.
                log = max(own, _least(partial(_cost, {unit: units[unit]}, own, unit_spread)))
            found[unit][tag] = round(math.exp(log), 3)
    return found


def _cost(units: Mapping[Unit, TagLogits], near: float, spread: float, log: float) -> float:
    """−log of what speaks for a temperature: the observations on ``units``, and its nearness to another temperature."""
    return _loss(units, log) + _far(log, near, spread)


def _loss(units: Mapping[Unit, TagLogits], log: float) -> float:
    """−log p of a tag's observations on all ``units`` at one temperature."""
    return sum(of_unit.loss(log) for of_unit in units.values())


def _far(log: float, near: float, spread: float) -> float:
    """−log of the density of ``log`` about ``near``, but for a constant."""
    return (log - near) ** 2 / (2 * spread**2)


def _least(cost: Callable[[float], float]) -> float:
    """Where ``cost`` is least: on a grid of 0.25, and then by thirds of the interval around the best point."""
    grid = [-MOST_LOG + 0.25 * n for n in range(int(2 * MOST_LOG / 0.25) + 1)]
    best = min(grid, key=cost)
    low, high = best - 0.25, best + 0.25
    for _ in range(16):
        first, second = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, second) if cost(first) < cost(second) else (first, high)
    return (low + high) / 2
