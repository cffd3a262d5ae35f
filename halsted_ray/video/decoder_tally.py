"""How many requests NVDEC decoded and how many the CPU, and why."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from typing import TypedDict

log = logging.getLogger(__name__)

NVDEC, CPU = "nvdec", "cpu"


class DecoderCount(TypedDict):
    """One row of a tally. ``reason`` is why NVDEC was asked and the CPU decoded; '' where it was not asked, or did."""

    decoder: str
    reason: str
    requests: int


class DecoderTally:
    """Counts requests by the decoder that answered them; a run adds up those of its actors."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, decoder: str, reason: str = "", requests: int = 1) -> None:
        """Counts requests that ``decoder`` (``NVDEC`` or ``CPU``) answered, for ``reason``; logs each reason once."""
        if reason and not self._counts[decoder, reason]:
            log.warning("NVDEC leaves segments to the CPU: %s", reason)
        self._counts[decoder, reason] += requests

    def merge(self, other: DecoderTally) -> None:
        """Adds the counts of another tally."""
        self._counts.update(other._counts)

    def take(self) -> list[DecoderCount]:
        """The counts as ``rows``; counting begins again."""
        rows = self.rows()
        self._counts.clear()
        return rows

    def add_rows(self, rows: Iterable[DecoderCount]) -> None:
        """Adds what ``rows`` or ``take`` gave."""
        for row in rows:
            self.add(row["decoder"], row["reason"], row["requests"])

    def of(self, decoder: str) -> int:
        """How many requests ``decoder`` answered."""
        return sum(count for (name, _), count in self._counts.items() if name == decoder)

    def rows(self) -> list[DecoderCount]:
        """The counts, the most frequent first."""
        return [
            DecoderCount(decoder=decoder, reason=reason, requests=count)
            for (decoder, reason), count in self._counts.most_common()
        ]

    @property
    def has_nvdec(self) -> bool:
        """Whether NVDEC was asked."""
        return any(decoder == NVDEC or reason for decoder, reason in self._counts)

    def sentence(self) -> str:
        """The counts in words, such as ``NVDEC decoded 12 segments, the CPU 3 (2: codec mpeg4)``."""
        reasons = [f"{row['requests']}: {row['reason']}" for row in self.rows() if row["reason"]]
        because = f" ({'; '.join(reasons)})" if reasons else ""
        return f"NVDEC decoded {self.of(NVDEC)} segments, the CPU {self.of(CPU)}{because}"
