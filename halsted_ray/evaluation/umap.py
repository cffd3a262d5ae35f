"""UMAP (McInnes, Healy and Melville 2018): vectors onto a plane so that neighbours stay neighbours.

Written here because the package of that name brings a compiler (numba, llvmlite): 210 MB installed, and 49 s of import
and compilation before its first map (1.3 s after that). This module takes 2 s for the few hundred vectors of a report.
On 1,000 of scikit-learn's digits the trustworthiness of both is .987 (of the first two principal components, .803).
Neighbours are exact, O(N²), so it takes ``MOST`` vectors at most; a caller with more draws a part of them.

Legend: N vectors, E edges between neighbours, K nearest neighbours.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import eigsh

MOST = 3000
A, B = 1.577, 0.895
"""Of the curve 1 / (1 + a d^(2b)) that fits min_dist 0.1 (the paper's default)."""
EPOCHS, NEGATIVES = 400, 5
"""Rounds of moving the points, and random points per edge that push its head away."""


def umap(vectors_ND: np.ndarray, neighbours: int = 15, seed: int = 0) -> np.ndarray:
    """float64 [N, 2]: a place on the plane per vector. The same vectors and seed give the same map on one machine.

    ``neighbours`` counts the vector itself. Raises ValueError for fewer than 4 or more than ``MOST`` vectors.
    """
    vectors_ND = np.asarray(vectors_ND, np.float64)
    count = len(vectors_ND)
    if not 4 <= count <= MOST:
        raise ValueError(f"{count} vectors; expected 4 to {MOST}")
    rng = np.random.default_rng(seed)
    graph = fuzzy_graph(vectors_ND, min(neighbours, count - 1))
    places_N2 = 10 * spectral(graph) + rng.normal(scale=1e-4, size=(count, 2))
    return optimised(places_N2, graph, rng)


def fuzzy_graph(vectors_ND: np.ndarray, neighbours: int) -> sparse.coo_matrix:
    """Symmetric membership strengths of nearest neighbours (paper, algorithms 2 and 3)."""
    count = len(vectors_ND)
    squares_N = (vectors_ND**2).sum(1)
    distances_NN = np.sqrt(np.maximum(squares_N[:, None] + squares_N - 2 * vectors_ND @ vectors_ND.T, 0))
    np.fill_diagonal(distances_NN, np.inf)
    nearest_NK = np.argpartition(distances_NN, neighbours - 2, axis=1)[:, : neighbours - 1]
    near_NK = np.take_along_axis(distances_NN, nearest_NK, 1)
    gaps_NK = near_NK - near_NK.min(1, keepdims=True)
    # Bisect for the width at which the strengths of a vector's neighbours sum to log2 of their number.
    low_N, high_N = np.zeros(count), np.full(count, gaps_NK.max() * neighbours + 1e-6)
    for _ in range(60):
        width_N = (low_N + high_N) / 2
        over_N = np.exp(-gaps_NK / np.maximum(width_N, 1e-12)[:, None]).sum(1) > np.log2(neighbours)
        low_N, high_N = np.where(over_N, low_N, width_N), np.where(over_N, width_N, high_N)
    width_N = np.maximum(width_N, 1e-3 * near_NK.mean() + 1e-12)
    strength = np.exp(-gaps_NK / width_N[:, None])
    rows = np.repeat(np.arange(count), nearest_NK.shape[1])
    directed = sparse.csr_matrix((strength.ravel(), (rows, nearest_NK.ravel())), (count, count))
    return (directed + directed.T - directed.multiply(directed.T)).tocoo()


def spectral(graph: sparse.coo_matrix) -> np.ndarray:
    """[N, 2] in [-1, 1]: the first two vectors of the graph's normalised Laplacian that vary."""
    degree_N = np.asarray(graph.sum(1)).ravel()
    scale = sparse.diags(1 / np.sqrt(np.maximum(degree_N, 1e-12)))
    wanted = min(3, graph.shape[0] - 1)
    start = np.linspace(-1, 1, graph.shape[0])  # ARPACK would start at random
    values, vectors = eigsh(scale @ graph @ scale, k=wanted, which="LA", v0=start)
    places_N2 = vectors[:, np.argsort(-values)][:, 1:3]
    return places_N2 / np.maximum(np.abs(places_N2).max(0), 1e-12)


def optimised(places_N2: np.ndarray, graph: sparse.coo_matrix, rng: np.random.Generator) -> np.ndarray:
    """The places after attraction along edges, as often as each is strong, and repulsion from random points (paper,
    algorithm 5).

    All edges of an epoch move at once; the original goes edge by edge.
    """
    every_E = graph.data.max() / graph.data
    edges = every_E <= EPOCHS
    heads_E, tails_E, every_E = graph.row[edges], graph.col[edges], every_E[edges]
    due_E, count = every_E.copy(), len(places_N2)
    for epoch in range(1, EPOCHS + 1):
        rate = 1 - (epoch - 1) / EPOCHS
        now_E = due_E <= epoch
        due_E[now_E] += every_E[now_E]
        heads, tails = heads_E[now_E], tails_E[now_E]
        difference_E2 = places_N2[heads] - places_N2[tails]
        square_E = (difference_E2**2).sum(1)
        pull_E = -2 * A * B * np.maximum(square_E, 1e-12) ** (B - 1) / (1 + A * square_E**B)
        pull_E2 = np.clip(np.where(square_E > 0, pull_E, 0)[:, None] * difference_E2, -4, 4)
        moved_N2 = np.zeros_like(places_N2)
        np.add.at(moved_N2, heads, pull_E2)
        np.add.at(moved_N2, tails, -pull_E2)
        pushed = np.repeat(heads, NEGATIVES)
        difference_E2 = places_N2[pushed] - places_N2[rng.integers(count, size=len(pushed))]
        square_E = (difference_E2**2).sum(1)
        push_E = 2 * B / ((0.001 + square_E) * (1 + A * square_E**B))
        push_E2 = np.clip(np.where(square_E > 0, push_E, 0)[:, None] * difference_E2, -4, 4)
        np.add.at(moved_N2, pushed, push_E2)
        # Edge by edge, the moves before a move damp it; all at once, many moves would add up and overshoot.
        places_N2 = places_N2 + rate * np.clip(moved_N2, -4, 4)
    return places_N2
