"""What a clip is to show, and what a generator is: one function from a condition to frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from halsted_ray.phantom.motion import TipPath
from halsted_ray.phantom.tissue import WIDTH

PATH_POINTS_PER_S = 25
"""How densely the way of a tip is given: no motion of a hand has more than a few turns per second."""


@dataclass(frozen=True)
class Example:
    """A sample of the training part that shows the category; a generator may look at it, such as for a first frame."""

    video_id: str
    uri: str
    start_s: float
    stop_s: float


@dataclass(frozen=True)
class Condition:
    """Everything that one clip is made from.

    ``tag`` and ``category``: what the clip is made for. ``task``: the task of the tag. ``tags``: tag → category of
    every tag of the task that the clip shows, ``tag`` among them. ``procedure``: '' where it does not matter.
    ``scene``: a number that decides tissue, light and camera. ``tip_path``: the way of the leading instrument's tip, as
    (x, y) in heights of the picture from its upper left corner, at even steps of time from the first frame to the last.
    ``seed``: decides everything else. ``example``: None where the training part has no sample of the category.
    """

    tag: str
    category: str
    task: str
    tags: tuple[tuple[str, str], ...]
    procedure: str
    scene: int
    tip_path: TipPath
    duration_s: float
    width: int
    height: int
    fps: float
    seed: int
    example: Example | None = None

    @property
    def rate(self) -> Fraction:
        """Frames per second, as video files state it."""
        return Fraction(self.fps).limit_denominator(100_000)

    @property
    def frames(self) -> int:
        """How many frames the clip has: all n with n / fps below ``duration_s``."""
        return -int(-Fraction(self.duration_s).limit_denominator(1_000_000) * self.rate // 1)


Generator = Callable[[Condition], Iterable[NDArray[np.uint8]]]
"""``generator(condition)`` gives ``condition.frames`` pictures, uint8 [condition.height, condition.width, 3] RGB, in
order; frame n is the scene at n / ``condition.fps`` seconds. An array of them will do. The same condition must give the
same pictures."""


def wandering_path(rng: np.random.Generator, duration_s: float) -> TipPath:
    """A smooth way around the middle of the picture, for a category whose motion nobody stated."""
    t_P = np.linspace(0.0, duration_s, max(2, round(duration_s * PATH_POINTS_PER_S)))
    points_P2 = np.tile([WIDTH / 2, 0.5], (len(t_P), 1))
    for period_s in (1.3, 3.1, 7.7):
        size, phase = rng.uniform(0.03, 0.10, 2), rng.uniform(0, 2 * np.pi, 2)
        points_P2 += size * np.sin(2 * np.pi * t_P[:, None] / period_s + phase)
    return as_path(points_P2)


def as_path(points_P2: NDArray[np.float64]) -> TipPath:
    """The points as a path; rounded, so that a path reads the same from a file."""
    return tuple((round(float(x), 4), round(float(y), 4)) for x, y in points_P2)
