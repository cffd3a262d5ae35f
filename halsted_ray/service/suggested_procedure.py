"""Which procedure the maps of a case suggest: one rule for the library, the trend and the cohort."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

MAPPED = ("mapped", "partial")
"""States of a summary whose map is there."""
DECIMALS = 4


class MapOfFile(NamedTuple):
    """What the summary of a file says. ``duration_s``: of the file; ``confidence``: of its procedure."""

    state: str | None
    procedure: str | None
    confidence: float | None
    duration_s: float


def suggested_procedure(files: Iterable[MapOfFile]) -> tuple[str | None, float | None]:
    """(procedure, its mean confidence over the time of the files that name it); None where no map names one.

    Each file counts by its length times its confidence, as a short file, or one that is unsure, may show a part of the
    operation that looks like another one. Of equals, the one named by more of the time, then the last by name.
    """
    weights: dict[str, float] = defaultdict(float)
    lengths_s: dict[str, float] = defaultdict(float)
    for file in files:
        if file.state in MAPPED and file.procedure:
            lengths_s[file.procedure] += file.duration_s
            weights[file.procedure] += file.duration_s * (file.confidence or 0.0)
    if not weights:
        return None, None
    best = max(weights, key=lambda name: (weights[name], lengths_s[name], name))
    return best, round(weights[best] / lengths_s[best], DECIMALS) if lengths_s[best] else None
