"""The nearest moments: by an index, which looks at the lists of the nearest centres, or exactly, which looks at all."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from halsted_ray.search.centres import centres_of
from halsted_ray.search.index_manifest import Manifest, index_place, read_manifest
from halsted_ray.search.index_parts import MomentRows, PartFile, open_parts, read_lists
from halsted_ray.search.moments import VideoMoments, unit
from halsted_ray.storage.vector_files import Span, joined
from halsted_ray.storage.vectors import VectorStore

PROBES = 48
"""Lists that a search looks at first: docs/decisions/search-index.md has recall and time by this number."""
TRIES = 5
"""How often an index is opened that another process replaces meanwhile."""
LAST_S = 2.0**31 / 1000
"""No video is longer: times are int32 in milliseconds."""
Wanted = Mapping[str, Sequence[Span] | None]
"""video_id → the only spans of it that may be found, None for all of it."""


@dataclass(frozen=True)
class FoundMoment:
    """A moment, and the cosine of the angle between its vector and the one that was asked for, -1 to 1."""

    video_id: str
    start_s: float
    stop_s: float
    similarity: float

    @property
    def middle_s(self) -> float:
        """The middle of the moment."""
        return (self.start_s + self.stop_s) / 2


class MomentIndex:
    """An open index: ``with MomentIndex.opened(store, name) as index``."""

    def __init__(self, place: str, manifest: Manifest):
        self.manifest, self.centres_LD = manifest, centres_of(place, manifest)
        self._open = ExitStack()
        files = [(f"{place}/{part.name}", part.size_bytes) for part in manifest.parts]
        try:
            self.parts: list[PartFile] = open_parts(self._open, files, manifest.dim, manifest.lists)
        except BaseException:
            self._open.close()
            raise

    @classmethod
    def opened(cls, store: VectorStore, name: str) -> MomentIndex | None:
        """The index ``name`` of a store; None where there is none. Raises ModelError."""
        for tries_left in reversed(range(TRIES)):
            manifest = read_manifest(store, name)
            if manifest is None:
                return None
            try:
                return cls(index_place(store, name), manifest)
            except FileNotFoundError:  # another process has just replaced it, and removed the old files
                if not tries_left:
                    raise
        return None

    def __enter__(self) -> MomentIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def nearest(
        self, query_D: np.ndarray, count: int, wanted: Wanted | None = None, probes: int = PROBES
    ) -> list[FoundMoment]:
        """About the ``count`` moments that are nearest to ``query_D`` (float32 [D], without the mean and then at
        length 1), nearest first.

        ``wanted``: the only videos and spans to find; None: all. Looks at ``probes`` lists, and at more where these
        have fewer than ``count`` moments that are wanted.
        """
        filters = [_Filter(part.videos, wanted) for part in self.manifest.parts]
        centre_L = self.centres_LD @ query_D
        order = np.argsort(-centre_L, kind="stable").tolist()
        best = _Best(count)
        for begin in range(0, len(order), probes):
            for place, number, rows in read_lists(self.parts, order[begin : begin + probes]):
                best.add(place, rows, filters[place], query_D, centre_L[number])
            if best.is_full:
                break
        return [
            FoundMoment(self.manifest.parts[place].videos[video], start_ms / 1000, stop_ms / 1000, similarity)
            for place, video, start_ms, stop_ms, similarity in best.sorted()
        ]


class _Filter:
    """Which rows of a part are wanted."""

    def __init__(self, videos: Sequence[str], wanted: Wanted | None):
        self.all = wanted is None
        if wanted is None:
            return
        spans: list[tuple[int, int]] = []
        for number, video in enumerate(videos):
            if video in wanted:
                own = wanted[video]
                for start_s, stop_s in [(0.0, LAST_S)] if own is None else joined(own):
                    spans.append(
                        ((number << 32) + round(start_s * 1000), (number << 32) + round(min(stop_s, LAST_S) * 1000))
                    )
        self.start_S, self.stop_S = np.array(spans, np.int64).reshape(-1, 2).T

    def rows(self, rows: MomentRows) -> np.ndarray | slice:
        """The rows whose middle is wanted."""
        if self.all:
            return slice(None)
        middle_N = (rows.start_ms_N.astype(np.int64) + rows.stop_ms_N) // 2
        key_N = (rows.video_N.astype(np.int64) << 32) + middle_N
        span_N = np.searchsorted(self.start_S, key_N, side="right") - 1
        if not len(self.start_S):
            return np.zeros(0, np.int64)
        return np.flatnonzero((span_N >= 0) & (key_N < self.stop_S[span_N]))


class _Best:
    """The best rows so far."""

    def __init__(self, count: int):
        self.count = count
        self.found: list[tuple[int, int, int, int, float]] = []
        self.least = -np.inf

    @property
    def is_full(self) -> bool:
        return len(self.found) >= self.count

    def add(
        self, place: int, rows: MomentRows, wanted: _Filter, query_D: np.ndarray, centre_similarity: np.float32
    ) -> None:
        chosen = wanted.rows(rows)
        rows = rows if isinstance(chosen, slice) else rows.take(chosen)
        if not len(rows):
            return
        similarity_N = centre_similarity + (rows.code_ND.astype(np.float32) @ query_D) * rows.scale_N
        top = np.flatnonzero(similarity_N > self.least)
        if len(top) > self.count:
            top = top[np.argpartition(-similarity_N[top], self.count - 1)[: self.count]]
        for row in top.tolist():
            times = int(rows.start_ms_N[row]), int(rows.stop_ms_N[row])
            self.found.append((place, int(rows.video_N[row]), *times, float(similarity_N[row])))
        if len(self.found) > 4 * self.count:
            self.found = self.sorted()
            self.least = self.found[-1][-1]

    def sorted(self) -> list[tuple[int, int, int, int, float]]:
        """The ``count`` best, best first."""
        return sorted(self.found, key=lambda one: (-one[-1], one[:3]))[: self.count]


def nearest_of(
    videos: Iterable[VideoMoments],
    mean_D: np.ndarray,
    query_D: np.ndarray,
    count: int,
    wanted: Wanted | None = None,
    count_of_video: int | None = None,
) -> list[FoundMoment]:
    """The ``count`` moments of ``videos`` that are nearest to ``query_D``, exactly, as ``MomentIndex.nearest`` asks for
    them. ``mean_D``: is taken from each vector first. ``count_of_video``: the most of one video; None: ``count``.
    Memory holds one video at a time."""
    most = min(count, count_of_video or count)
    found: list[FoundMoment] = []
    for moments in videos:
        allowed = _Filter([moments.video_id], wanted)
        similarity_M = unit(moments.vectors_MD - mean_D) @ query_D
        rows = np.arange(len(moments))
        if not allowed.all:
            start_ms, stop_ms = (np.rint(of * 1000).astype(np.int32) for of in (moments.start_s_M, moments.stop_s_M))
            empty = np.zeros((len(rows), 0), np.int16)
            held = MomentRows(np.zeros(len(rows), np.int32), start_ms, stop_ms, np.ones(len(rows), np.float32), empty)
            rows = rows[allowed.rows(held)]
        rows = rows[np.argsort(-similarity_M[rows], kind="stable")[:most]]
        found += [
            FoundMoment(
                moments.video_id,
                float(moments.start_s_M[row]),
                float(moments.stop_s_M[row]),
                float(similarity_M[row]),
            )
            for row in rows.tolist()
        ]
        found = best_of(found, count)
    return found


def best_of(found: Collection[FoundMoment], count: int) -> list[FoundMoment]:
    """The ``count`` best, best first; of like ones the first by video and time."""
    return sorted(found, key=lambda one: (-one.similarity, one.video_id, one.start_s))[:count]
