"""How long a video may be. What a file states is a claim, so it is held against a bound before work is made of it.

A file of 30 kB can hold 700 pictures an hour apart: 29 days to decode, map and keep. The bound is on what a probe found
(``probe.Probe``), so it costs no more than the probe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from halsted_ray.errors import BeyondLimits, UsageError

if TYPE_CHECKING:
    from halsted_ray.video.probe import Probe


@dataclass(frozen=True)
class VideoLimits:
    """The longest video that is taken, in hours and in frames. Raises UsageError for a bound that no video meets."""

    hours: float = 48.0
    frames: int = 20_000_000
    """48 hours at 60 frames per second are 10,368,000 frames."""

    def __post_init__(self) -> None:
        for name in ("hours", "frames"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name}: expected a number above 0, got {getattr(self, name)}")

    def check(self, found: Probe) -> None:
        """Raises BeyondLimits where the video is longer. The frames of a Matroska file with cues are not counted."""
        if found.duration_s > self.hours * 3600:
            raise BeyondLimits(
                f"expected a video of at most {self.hours:g} hours, got {found.duration_s / 3600:,.1f} hours of it; "
                "cut it into parts, or export it again where its times are damaged"
            )
        if found.frames > self.frames:
            raise BeyondLimits(
                f"expected a video of at most {self.frames:,} frames, got {found.frames:,}; cut it into parts"
            )


DEFAULT_LIMITS = VideoLimits()
