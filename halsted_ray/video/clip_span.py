"""The part of a video that a request wants as one clip, and the times of the frames that stand for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from halsted_ray.errors import UsageError


@dataclass(frozen=True)
class ClipSpan:
    """[start_s, stop_s) of a video as it was asked for, in seconds; None stands for its begin and its end.

    ``longest_s``: the longest clip that is taken. ``frames``: how many frames stand for it.
    """

    start_s: float | None
    stop_s: float | None
    longest_s: float
    frames: int

    def within(self, duration_s: float) -> tuple[float, float]:
        """The span [start_s, stop_s) in seconds, cut at the end of a video of ``duration_s``.

        Raises UsageError for a span that is empty, outside the video, or too long.
        """
        first_s = self.start_s or 0.0
        last_s = duration_s if self.stop_s is None else min(self.stop_s, duration_s)
        if not 0 <= first_s < last_s:
            raise UsageError(
                f"start_s={self.start_s}, stop_s={self.stop_s}: expected a span within the {duration_s:.3f} s that the "
                "video lasts"
            )
        if last_s - first_s > self.longest_s:
            raise UsageError(
                f"a clip has at most {self.longest_s:g} s, got {last_s - first_s:.1f} s; give start_s and stop_s, or "
                "upload the video and ask for a map"
            )
        return first_s, last_s

    def times_s(self, duration_s: float) -> NDArray[np.float64]:
        """The times of the frames in a video of ``duration_s``: float64 [frames], evenly spaced from the span's start.
        Raises UsageError as ``within``."""
        start_s, stop_s = self.within(duration_s)
        return np.asarray(start_s + np.arange(self.frames) * ((stop_s - start_s) / self.frames), np.float64)
