"""Time in slots, five to a fine window: half a second each where a fine window lasts 2.5 s.

An edge between two categories is rarely an edge of the grid. On whole windows it can't be found better than to 0.6 s in
the median (a quarter of a window); on slots it can.

Legend: T slots of a video, W fine windows of it, K categories of a tag, D width of a vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from halsted_ray.records import Clip
from halsted_ray.storage.vectors import WindowKey
from halsted_ray.taxonomy import Taxonomy

SLOTS = 5
"""Slots of a fine window."""
UNKNOWN = -1
"""In the place of a category where the truth is not annotated."""


@dataclass(frozen=True)
class VideoSequence:
    """The stored vectors of one video's fine windows, in order of time.

    ``vectors_WD``: float32, zero where a window has no stored vector; ``present_W``: where it has one. Window w
    begins at ``w * fine_s``.
    """

    vectors_WD: np.ndarray
    present_W: np.ndarray
    fine_s: float
    stop_s: float
    """The end of the last window."""

    @property
    def slot_s(self) -> float:
        """Length of a slot in seconds."""
        return self.fine_s / SLOTS

    @property
    def present_T(self) -> np.ndarray:
        """bool [T]: the slots whose window has a vector."""
        present: np.ndarray = np.repeat(self.present_W, SLOTS)
        return present

    @property
    def middle_s_T(self) -> np.ndarray:
        """float64 [T]: the middle of each slot in seconds."""
        middle: np.ndarray = (np.arange(len(self.present_W) * SLOTS) + 0.5) * self.slot_s
        return middle


def sequence_of(vectors: Mapping[WindowKey, np.ndarray], fine_s: float) -> VideoSequence | None:
    """The sequence of the fine windows among ``vectors`` that lie on the map's grid.

    None where there is no such window. ``vectors``: (kind, start_s, stop_s) → float [D].
    """
    rows: dict[int, tuple[float, np.ndarray]] = {}
    for (kind, start_s, stop_s), vector in vectors.items():
        number = start_s / fine_s
        if kind == "fine" and number == int(number):
            rows[int(number)] = stop_s, vector
    if not rows:
        return None
    windows = max(rows) + 1
    vectors_WD = np.zeros((windows, len(next(iter(rows.values()))[1])), np.float32)
    present_W = np.zeros(windows, bool)
    for number, (_, vector) in rows.items():
        vectors_WD[number], present_W[number] = vector, True
    return VideoSequence(vectors_WD, present_W, fine_s, rows[max(rows)][0])


def truth_of(clips: Iterable[Clip], taxonomy: Taxonomy, sequence: VideoSequence) -> dict[str, np.ndarray]:
    """tag → int64 [T], the category that the clips of a video state at the middle of each slot, else UNKNOWN."""
    middle_s_T = sequence.middle_s_T
    truth = {tag.name: np.full(len(middle_s_T), UNKNOWN) for tag in taxonomy.tags}
    for clip in clips:
        inside_T = (middle_s_T >= clip.start_s) & (middle_s_T < clip.stop_s)
        for name, category in clip.tags.items():
            truth[name][inside_T] = taxonomy.tag(name).categories.index(category)
    return truth


def on_slots(shares_WK: np.ndarray, present_W: np.ndarray) -> np.ndarray:
    """float [T, K]: the shares of windows at their slots, in a straight line from the middle of a window to the next.

    So a window that holds the edge between two categories places the edge by its shares. Where the next window is not
    ``present_W`` the window's own share holds; the slots of absent windows are 0.
    """
    windows = len(present_W)
    at_T = (np.arange(windows * SLOTS) + 0.5) / SLOTS - 0.5
    before_T = np.floor(at_T).astype(int)
    own_T = np.arange(windows * SLOTS) // SLOTS
    part_T = at_T - before_T
    near = [np.clip(index_T, 0, windows - 1) for index_T in (before_T, before_T + 1)]
    near = [np.where(present_W[index_T], index_T, own_T) for index_T in near]
    shares_TK: np.ndarray = shares_WK[near[0]] * (1 - part_T)[:, None] + shares_WK[near[1]] * part_T[:, None]
    shares_TK[~np.repeat(present_W, SLOTS)] = 0
    return shares_TK


def runs_of(labels_T: np.ndarray) -> list[tuple[int, int, int]]:
    """(label, first slot, slot after the last) of each maximal run of equal labels."""
    if not len(labels_T):
        return []
    edges = [0, *(np.flatnonzero(np.diff(labels_T)) + 1).tolist(), len(labels_T)]
    return [(int(labels_T[a]), a, b) for a, b in zip(edges, edges[1:], strict=False)]
