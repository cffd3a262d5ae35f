"""The moments that a question in words found, in an order that also takes what the maps say there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from halsted_ray.language.keywords import fused_scores, keyword_scores
from halsted_ray.search.index_search import FoundMoment

REORDERED = 400
"""So many of the nearest moments are put in order anew; what is behind them stays behind."""


def by_words_too(
    found: Sequence[FoundMoment], text: str, said_at: Callable[[Sequence[FoundMoment]], Sequence[str]]
) -> list[FoundMoment]:
    """``found`` (the nearest first), ordered by nearness and by the words of ``text`` in what the maps say.

    ``said_at``: what the maps say at each of some moments, as text. Maps that say nothing change no order.
    """
    first = list(found[:REORDERED])
    if not first:
        return []
    near_1M = np.array([[moment.similarity for moment in first]])
    fused_M = fused_scores(near_1M, keyword_scores([text], said_at(first)))[0]
    return [first[n] for n in np.argsort(-fused_M, kind="stable")] + list(found[REORDERED:])
