"""Moments: what a search finds. A moment has a vector, and is some seconds of one video.

A store holds windows of two lengths. The fine windows whose middle falls into one cell of ``MOMENT_S`` are one moment.
Where a mapping needed no fine windows, a coarse window is a moment of its own. So every stored second is in one moment,
and an hour has 720 of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halsted_ray.storage.vector_files import VideoVectors

MOMENT_S = 5.0
COVERED = 0.5
"""A coarse window of which fine windows cover at least this share is no moment of its own."""


@dataclass(frozen=True)
class VideoMoments:
    """The M moments of one video in order of time. ``start_s_M``, ``stop_s_M``: float64 [M]; ``vectors_MD``: float32
    [M, D]."""

    video_id: str
    start_s_M: np.ndarray
    stop_s_M: np.ndarray
    vectors_MD: np.ndarray

    def __len__(self) -> int:
        return len(self.start_s_M)


@dataclass(frozen=True)
class Cells:
    """Which stored windows belong to one moment. ``rows``: for each of M moments, its rows of the video's vectors."""

    start_s_M: np.ndarray
    stop_s_M: np.ndarray
    rows: list[np.ndarray]


def moments_of(found: VideoVectors) -> VideoMoments:
    """The moments of a video; a vector is the mean of its windows'."""
    cells = cells_of(found, MOMENT_S)
    if not cells.rows:
        empty_MD = np.zeros((0, found.vectors_ND.shape[1]), np.float32)
        return VideoMoments(found.video_id, cells.start_s_M, cells.stop_s_M, empty_MD)
    sizes_M = np.array([len(rows) for rows in cells.rows])
    begins_M = np.r_[0, np.cumsum(sizes_M)[:-1]]
    windows_ND = found.vectors_ND[np.concatenate(cells.rows)].astype(np.float32)
    means_MD = np.add.reduceat(windows_ND, begins_M, axis=0) / sizes_M[:, None].astype(np.float32)
    return VideoMoments(found.video_id, cells.start_s_M, cells.stop_s_M, means_MD)


def cells_of(found: VideoVectors, cell_s: float) -> Cells:
    """The moments of a video, in order of time: fine windows by cells of ``cell_s``, coarse windows where there are no
    fine ones. Windows of kind ``clip`` are left out, since those of training clips overlap."""
    kinds_N = np.array(found.kinds, dtype=object)
    fine, coarse = np.flatnonzero(kinds_N == "fine"), np.flatnonzero(kinds_N == "coarse")
    fine = fine[np.argsort(found.start_s_N[fine], kind="stable")]
    groups = []
    if len(fine):
        cell_N = np.floor((found.start_s_N[fine] + found.stop_s_N[fine]) / 2 / cell_s)
        groups = np.split(fine, np.flatnonzero(np.diff(cell_N)) + 1)
        coarse = coarse[_covered_share(found, coarse, fine) < COVERED]
    groups += [coarse[place : place + 1] for place in range(len(coarse))]
    groups.sort(key=lambda rows: float(found.start_s_N[rows[0]]))
    firsts = np.array([rows[0] for rows in groups], np.int64)
    lasts = np.array([rows[-1] for rows in groups], np.int64)
    return Cells(found.start_s_N[firsts], found.stop_s_N[lasts], groups)


def unit(vectors: np.ndarray) -> np.ndarray:
    """``vectors`` [..., D] at length 1, float32; a vector of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: np.ndarray = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled


def _covered_share(found: VideoVectors, coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """float64: which share of each window of the rows ``coarse`` windows of the rows ``fine`` (by start) cover. Fine
    windows do not overlap each other."""
    edges_s = np.r_[0.0, np.cumsum(found.stop_s_N[fine] - found.start_s_N[fine])]
    starts_s = found.start_s_N[fine]
    first = np.searchsorted(starts_s, found.start_s_N[coarse], side="left")
    last = np.searchsorted(starts_s, found.stop_s_N[coarse], side="left")
    lengths_s = np.maximum(found.stop_s_N[coarse] - found.start_s_N[coarse], 1e-9)
    share: np.ndarray = (edges_s[last] - edges_s[first]) / lengths_s
    return share
