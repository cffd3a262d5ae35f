"""When the steps of the start of a run were done, for people who wait for its first result."""

from __future__ import annotations

import time
from collections.abc import Sequence

from halsted_ray.embedding.batching import EncodingFigures, in_all


class RunStart:
    """When the steps of the start of a run were done."""

    def __init__(self) -> None:
        self.began_at = time.time()  # not monotonic: compared with what actors on other machines say
        self.steps_s: dict[str, float] = {}

    def reached(self, step: str) -> None:
        """Notes the first time that a step is done."""
        self.steps_s.setdefault(step, round(time.time() - self.began_at, 3))

    def add(self, cluster_at: float | None, encoders: Sequence[EncodingFigures]) -> None:
        """Adds what others noted, in the order of time: when the cluster stood, and what the encoders did."""
        figures = in_all(encoders)
        for step, at in (
            ("cluster", cluster_at),
            ("encoder loaded", figures.loaded_at),
            ("first vectors", figures.first_at),
        ):
            if at:
                self.steps_s[step] = round(max(0.0, at - self.began_at), 3)
        self.steps_s = dict(sorted(self.steps_s.items(), key=lambda step: step[1]))
