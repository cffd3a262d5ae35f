"""A hidden Markov chain over the categories of one tag: what lasts for seconds does not flicker from window to window.

How long a category lasts and which category follows it are learned from annotated clips; a category lasts geometrically
long about its mean. Decoding (Viterbi 1967; Rabiner 1989, sections III.B and III.A for the posteriors) takes O(T K²).

Legend: T slots, K categories of the tag.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from halsted_ray.refining.slots import UNKNOWN, runs_of

PRIOR_FOLLOWERS = 1.0
"""Added to the number of times that each category followed another (Laplace), shared among all categories."""
PRIOR_SPANS = 3.0
"""A category's mean duration is drawn towards that of its tag as if so many of its spans had lasted that long."""


@dataclass(frozen=True)
class LabelChain:
    """``log_start_K`` and ``log_step_KK`` (from, to): natural logarithms of the chain's probabilities per slot."""

    log_start_K: np.ndarray
    log_step_KK: np.ndarray

    @classmethod
    def learn(cls, truths: Iterable[np.ndarray], categories: int, slots_of_unknown: int) -> LabelChain:
        """The chain of a tag from its true labels [T] in several videos (UNKNOWN where nothing is annotated).

        Clips with at most ``slots_of_unknown`` slots between them follow each other; a longer pause ends a sequence.
        Spans at a pause or at a video's end are cut there, so their lengths count as they are (a little too short).
        """
        lengths: list[list[int]] = [[] for _ in range(categories)]
        follows_KK = np.zeros((categories, categories))
        seen_K = np.zeros(categories)
        for truth_T in truths:
            last = UNKNOWN
            for label, first, stop in runs_of(truth_T):
                if label == UNKNOWN:
                    last = last if stop - first <= slots_of_unknown else UNKNOWN
                    continue
                lengths[label].append(stop - first)
                seen_K[label] += 1
                if last not in (UNKNOWN, label):
                    follows_KK[last, label] += 1
                last = label
        every = [length for of_category in lengths for length in of_category]
        mean = float(np.mean(every)) if every else 1.0
        mean_K = np.array([(sum(own) + PRIOR_SPANS * mean) / (len(own) + PRIOR_SPANS) for own in lengths])
        leave_K = 1 / np.maximum(mean_K, 1.0 + 1e-6)
        follows_KK += PRIOR_FOLLOWERS * (1 - np.eye(categories)) / max(1, categories - 1)
        np.fill_diagonal(follows_KK, 0)
        step_KK = leave_K[:, None] * follows_KK / np.maximum(follows_KK.sum(1, keepdims=True), 1e-12)
        step_KK[np.diag_indices(categories)] = 1 - leave_K if categories > 1 else 1.0
        start_K = (seen_K + 1) / (seen_K.sum() + categories)
        return cls(np.log(start_K), np.log(np.maximum(step_KK, 1e-12)))

    def decode(self, evidence_TK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(the most probable sequence of categories int64 [T], each category's probability per slot float64 [T, K]).

        ``evidence_TK``: log of what each slot alone says of each category, up to a constant per slot; a row of zeros
        says nothing.
        """
        slots, categories = evidence_TK.shape
        if not slots:
            return np.zeros(0, np.int64), np.zeros((0, categories))
        best_K = self.log_start_K + evidence_TK[0]
        forward_TK = np.empty((slots, categories))
        forward_TK[0] = _normal(best_K)
        from_TK = np.zeros((slots, categories), np.int64)
        step_KK = np.exp(self.log_step_KK)
        likely_TK = np.exp(evidence_TK - evidence_TK.max(1, keepdims=True))
        for t in range(1, slots):
            reached_KK = best_K[:, None] + self.log_step_KK
            from_TK[t] = reached_KK.argmax(0)
            best_K = reached_KK.max(0) + evidence_TK[t]
            forward = (forward_TK[t - 1] @ step_KK) * likely_TK[t]
            forward_TK[t] = forward / max(forward.sum(), 1e-300)
        path_T = np.empty(slots, np.int64)
        path_T[-1] = best_K.argmax()
        backward_K = np.ones(categories)
        posterior_TK = np.empty((slots, categories))
        posterior_TK[-1] = forward_TK[-1]
        for t in range(slots - 1, 0, -1):
            path_T[t - 1] = from_TK[t, path_T[t]]
            backward_K = step_KK @ (likely_TK[t] * backward_K)
            backward_K /= backward_K.sum()
            both_K = forward_TK[t - 1] * backward_K
            posterior_TK[t - 1] = both_K / max(both_K.sum(), 1e-300)
        return path_T, posterior_TK


def _normal(log_K: np.ndarray) -> np.ndarray:
    shares_K: np.ndarray = np.exp(log_K - log_K.max())
    return shares_K / shares_K.sum()
