"""A keyword search in short texts, and one order made of two.

Legend: Q questions, M moments.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing

import numpy as np

FUSION_K = 60
"""How little the first ranks weigh more than the next: the constant of Cormack, Clarke and Büttcher 2009, not tuned."""


def keyword_scores(queries: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """float [Q, M]: how well the words of each query fit each of ``texts``, by SQLite's full-text search (FTS5: BM25,
    with Porter's stems); 0 where no word fits."""
    scores_QM = np.zeros((len(queries), len(texts)))
    with closing(sqlite3.connect(":memory:")) as base:
        base.execute("create virtual table moments using fts5(text, tokenize = 'porter unicode61')")
        base.executemany("insert into moments(rowid, text) values (?, ?)", enumerate(texts))
        for row, query in enumerate(queries):
            if words := re.findall(r"\w+", query.lower()):
                wanted = " OR ".join(f'"{word}"' for word in dict.fromkeys(words))
                for moment, score in base.execute(
                    "select rowid, bm25(moments) from moments where moments match ?", (wanted,)
                ):
                    scores_QM[row, moment] = -score
    return scores_QM


def fused_scores(first_QM: np.ndarray, second_QM: np.ndarray) -> np.ndarray:
    """float [Q, M]: both scores as one, by their ranks alone (reciprocal rank fusion); equal scores have their mean
    rank, so scores that are all equal change no order."""
    return 1 / (FUSION_K + mean_ranks(first_QM)) + 1 / (FUSION_K + mean_ranks(second_QM))


def mean_ranks(scores_QM: np.ndarray) -> np.ndarray:
    """float [Q, M]: the rank of each score in its row, 1 for the highest; equal scores have the mean of their ranks."""
    ranks_QM = np.empty(scores_QM.shape)
    for row, scores_M in enumerate(scores_QM):
        _, place_M, count = np.unique(-scores_M, return_inverse=True, return_counts=True)
        ranks_QM[row] = (np.cumsum(count) - (count - 1) / 2)[place_M]
    return ranks_QM
