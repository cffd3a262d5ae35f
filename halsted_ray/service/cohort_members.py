"""Which cases a cohort is made of, so that nobody reads one case out of two answers. Pure functions.

Whoever sees a median before and after one case came, or went, learns something of this case. So what a cohort is made
of changes only by several cases of several surgeons at once: single cases that come wait for others, and a case that
goes takes others with it. Which others follows from digests that nobody outside can compute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

LEAST_CASES, LEAST_SURGEONS = 20, 5
"""A cohort has so many cases of so many surgeons, those of the caller not counted. ``LEAST_CASES`` is the default."""
FEWEST_EVER = 10
"""What a site may set for ``LEAST_CASES`` at least."""
KEPT = 50
"""With so many earlier states of a cohort a new one is compared."""
CHANGED_CASES, CHANGED_SURGEONS = 5, 3
"""A cohort changes by so many cases of so many surgeons at least, whichever one surgeon's cases are taken away."""


def is_enough(members: Mapping[str, str], least_cases: int) -> bool:
    """Whether these cases (case → surgeon) may be shown as a cohort: enough cases of enough surgeons, and nobody has
    more than half of them."""
    counts = Counter(members.values())
    return (
        len(members) >= least_cases
        and len(counts) >= LEAST_SURGEONS
        and 2 * max(counts.values(), default=0) <= len(members)
    )


def is_hidden_among_others(changed: Mapping[str, str]) -> bool:
    """Whether nobody can tell one of these cases (case → surgeon) from the others, also who knows all that one surgeon
    did."""
    counts = Counter(changed.values())
    others = len(changed) - max(counts.values(), default=0)
    return others >= CHANGED_CASES and len(counts) - 1 >= CHANGED_SURGEONS


def renewed(history: Sequence[Mapping[str, str]], valid: Mapping[str, str], may_grow: bool) -> dict[str, str]:
    """The cases of the cohort now (case → surgeon).

    ``history``: those of every answer until now, the newest last. ``valid``: all that there are now and may be used.
    ``may_grow``: whether cases may be added, once a day. Cases that are not valid any more are never among the result,
    and it differs from each of ``history`` by nothing, or by cases that hide each other.
    """

    def tells_nothing(now: Mapping[str, str]) -> bool:
        return all(is_hidden_among_others(changed) for before in history if (changed := _between(before, now)))

    if may_grow and tells_nothing(valid):
        return dict(valid)
    before = history[-1] if history else {}
    if before.items() <= valid.items():
        return dict(before)  # each of the history was compared with those before it when it was made
    kept = {case: surgeon for case, surgeon in before.items() if case in valid}
    for case in sorted(kept):
        if tells_nothing(kept):
            break
        del kept[case]
    return kept


def _between(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    """The cases that are in one of both alone; none where one of both is empty, which shows no figure."""
    if not one or not other:
        return {}
    return {case: one.get(case) or other[case] for case in one.keys() ^ other.keys()}
