"""Specialty and procedure are one per operation: decided over the whole video, from the answers of its windows.

Each window that knows an answer votes with its probabilities. The votes' logarithms are added up, less than in full:
windows of one scene err together, so N windows count as N / (1 + (N − 1) ρ) independent ones (the design effect, Kish
1965). Tags that narrow each other are decided together, so that the choice is the most probable pair and not the best
remainder of a first choice. A recording that holds several operations gets one answer; to split it is not done here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from halsted_ray.records import Prediction
from halsted_ray.taxonomy import Tag, Task, Taxonomy

CORRELATION = 0.5
"""ρ, of the windows of one operation. Chosen and not measured: on phantoms nearly every window is right. However many
windows agree, they count as two."""
LEAST_VOTE = 1e-3
"""No single window rules a category out."""
DECIMALS = 4


@dataclass(frozen=True)
class OperationTag:
    """One tag of an operation, and what its windows say of it.

    ``confidence``: probability of ``category``, never below chance. ``windows``: how many voted. ``share``: of their
    time, how much gave this answer itself. ``margin``: the probability less that of the next category.
    """

    task: str
    tag: str
    category: str
    confidence: float
    windows: int
    share: float
    margin: float


def operation_tags(taxonomy: Taxonomy, tags: Iterable[Prediction]) -> list[OperationTag]:
    """The tags of the whole operation, from the answers of one video's windows; none for a tag on which nobody voted.

    An answer that is no category of its tag (not known) does not vote.
    """
    by_tag: dict[str, dict[tuple[float, float], Prediction]] = {}
    for answer in tags:
        by_tag.setdefault(answer.tag, {})[answer.start_s, answer.stop_s] = answer
    found = []
    for task in taxonomy.tasks:
        own = [tag for tag in task.tags if tag.per == "operation"]
        votes = {
            tag.name: {at: vote for at, vote in by_tag.get(tag.name, {}).items() if vote.category in tag.categories}
            for tag in own
        }
        for group in _groups(taxonomy, [tag for tag in own if votes[tag.name]]):
            found += _decide(taxonomy, task, group, votes)
    return found


def _groups(taxonomy: Taxonomy, tags: Sequence[Tag]) -> list[list[Tag]]:
    """``tags`` in groups that narrow each other."""
    groups: list[list[Tag]] = []
    for tag in tags:
        limiting = {narrowing.tag for narrowing in taxonomy.narrowings if narrowing.narrows == tag.name}
        for group in groups:
            if limiting & {other.name for other in group}:
                group.append(tag)
                break
        else:
            groups.append([tag])
    return groups


def _decide(
    taxonomy: Taxonomy,
    task: Task,
    group: Sequence[Tag],
    votes: Mapping[str, Mapping[tuple[float, float], Prediction]],
) -> list[OperationTag]:
    names = [tag.name for tag in group]
    choices = [
        choice
        for choice in product(*(tag.categories for tag in group))
        if all(
            category in taxonomy.allowed(name, dict(zip(names[:n], choice, strict=False)))
            for n, (name, category) in enumerate(zip(names, choice, strict=True))
        )
    ]
    at = sorted({span for name in names for span in votes[name]})
    length_N = np.array([stop_s - start_s for start_s, stop_s in at])
    log_NC = np.zeros((len(at), len(choices)))
    for n, span in enumerate(at):
        log_NC[n] = np.log(_vote(names, choices, [votes[name].get(span) for name in names]))
    weight_N = length_N / length_N.sum()
    independent = len(at) / (1 + (len(at) - 1) * CORRELATION)
    total_C = independent * (weight_N @ log_NC)
    share_C = np.exp(total_C - total_C.max())
    share_C /= share_C.sum()
    best = choices[int(share_C.argmax())]
    found = []
    for g, tag in enumerate(group):
        share_of = {category: 0.0 for category in tag.categories}
        for choice, share in zip(choices, share_C.tolist(), strict=True):
            share_of[choice[g]] += share
        own = share_of.pop(best[g])
        margin = own - max(share_of.values(), default=0.0)
        of_tag = votes[tag.name]
        voted_s = sum(stop_s - start_s for start_s, stop_s in of_tag)
        agreed_s = sum(stop_s - start_s for (start_s, stop_s), vote in of_tag.items() if vote.category == best[g])
        found.append(
            OperationTag(
                task.name,
                tag.name,
                best[g],
                round(max(own, 1 / len(tag.categories)), DECIMALS),
                len(of_tag),
                round(agreed_s / voted_s, DECIMALS),
                round(margin, DECIMALS),
            )
        )
    return found


def _vote(names: Sequence[str], choices: Sequence[tuple[str, ...]], own: Sequence[Prediction | None]) -> np.ndarray:
    """float64 [choices]: the probability that one window gives each choice.

    A window states its category and that category's probability, given the tags before it; what it leaves is spread
    evenly over the choices that agree with the tags before and not with this one.
    """
    share_C = np.zeros(len(choices))
    open_C = np.ones(len(choices), bool)
    left = 1.0
    for g in range(len(names)):
        vote = own[g]
        if vote is None:
            continue
        agrees_C = open_C & np.array([choice[g] == vote.category for choice in choices])
        others_C = open_C & ~agrees_C
        if not agrees_C.any():
            break
        confidence = vote.confidence if others_C.any() else 1.0
        share_C[others_C] += left * (1 - confidence) / max(1, int(others_C.sum()))
        left *= confidence
        open_C = agrees_C
    share_C[open_C] += left / int(open_C.sum())
    floored_C: np.ndarray = np.maximum(share_C, LEAST_VOTE)
    return floored_C / floored_C.sum()
