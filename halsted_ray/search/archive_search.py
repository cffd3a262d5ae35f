"""One search of an archive: by example or in words, over the index where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from halsted_ray.embedding.look_up import one_store
from halsted_ray.errors import UsageError
from halsted_ray.search.index_builder import ByExample, Projection
from halsted_ray.search.index_manifest import stored_contents
from halsted_ray.search.index_search import FoundMoment, MomentIndex, Wanted, best_of, nearest_of
from halsted_ray.search.map_spans import said_at, spans_where
from halsted_ray.search.moments import VideoMoments, unit
from halsted_ray.search.results import distinct
from halsted_ray.search.words_of_maps import by_words_too
from halsted_ray.storage.locations import absolute_location
from halsted_ray.storage.vectors import VectorStore

EXACT_VIDEOS = 100
"""So many videos that no index holds are searched exactly: one takes about 10 ms."""
MOMENTS_A_RESULT = 40
"""Neighbours are one result, so more moments are looked for than results are wanted."""
MOST_MOMENTS = 50_000


@dataclass(frozen=True)
class Result:
    """A moment that was found. ``similarity``: -1 to 1. ``said``: tag → category, what the map says there."""

    video_id: str
    start_s: float
    stop_s: float
    similarity: float
    said: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What a search found, the nearest first. ``videos``: that were searched. ``not_indexed``: videos of the store that
    were not, since the index does not hold them yet."""

    results: list[Result]
    videos: int
    not_indexed: int


def search_by_example(
    out: str,
    video: str,
    at_s: float,
    count: int = 10,
    where: Sequence[str] = (),
    *,
    encoder: str | None = None,
    sampling: str | None = None,
) -> Answer:
    """The ``count`` moments of the archive at ``out`` that are most like second ``at_s`` of ``video``.

    ``video``: its id, or the beginning of it. ``where``: conditions that the maps must meet (``spans_where``).
    ``encoder`` and ``sampling``: where the store has several. The moment itself and its neighbours are no answer.
    Raises UsageError, ModelError, OutputError, StorageUnavailable.
    """
    store = one_store(out, encoder, sampling)
    search = _Search(out, store, ByExample(), where)
    video_id = _full_id(video, search.stored)
    with search:
        here = [_at(moments, at_s) for moments in search.moments_of([video_id])]
        if not here or here[0] is None:
            raise UsageError(f"video {video_id} has no stored vectors at {at_s:g} s; name a second that is mapped")
        vector_D, start_s, stop_s = here[0]
        return search.answer(vector_D, count, FoundMoment(video_id, start_s, stop_s, 1.0))


def search_by_vector(
    out: str,
    vector_D: np.ndarray,
    projection: Projection,
    count: int = 10,
    where: Sequence[str] = (),
    *,
    text: str = "",
    encoder: str | None = None,
    sampling: str | None = None,
) -> Answer:
    """The ``count`` moments, as ``projection`` makes them, that are nearest to ``vector_D`` (float [D]).

    ``text``: the words of the question; the nearest moments are ordered by them too, where the maps say something
    (``words_of_maps``). The rest is as for ``search_by_example``.
    """
    with _Search(out, one_store(out, encoder, sampling), projection, where) as search:
        return search.answer(vector_D, count, text=text)


class _Search:
    """The videos of one store, those of the index and the others."""

    def __init__(self, out: str, store: VectorStore, projection: Projection, where: Sequence[str]):
        self.out, self.store, self.projection = out, store, projection
        projection.check(store)
        self.stored = stored_contents(store)
        self.wanted: Wanted | None = spans_where(absolute_location(out), where) if where else None
        self.index = MomentIndex.opened(store, projection.name)
        known = self.index.manifest.contents() if self.index else {}
        self.current = {video for video, content in known.items() if self.stored.get(video) == content}
        self.stale = known.keys() - self.current
        self.others = sorted(self.stored.keys() - self.current)
        if self.index is None and len(self.others) > EXACT_VIDEOS:
            raise UsageError(
                f"{out!r} holds {len(self.others):,} videos and no search index; make one with halsted search-index"
            )
        self.not_indexed = len(self.others) if len(self.others) > EXACT_VIDEOS else 0
        self._stack = ExitStack()
        if self.index:
            self._stack.enter_context(self.index)

    def __enter__(self) -> _Search:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def moments_of(self, video_ids: Sequence[str]) -> list[VideoMoments]:
        """The moments of videos, read from the store."""
        return [self.projection.moments(found) for found in self.store.read_videos(video_ids)]

    def answer(self, vector_D: np.ndarray, count: int, asked: FoundMoment | None = None, text: str = "") -> Answer:
        """The ``count`` results that are nearest to a vector as the store or the projection gives it. ``asked``: a
        moment that is no answer, nor are its neighbours. ``text``: words that order the nearest too."""
        before = [asked] if asked else []
        exact = [] if self.not_indexed else self.moments_of(self.others)
        mean_D = self._mean(exact)
        if vector_D.shape != mean_D.shape:
            raise UsageError(f"the question has a vector of width {len(vector_D)}, expected {len(mean_D)}")
        query_D = unit(vector_D - mean_D)
        moments = MOMENTS_A_RESULT * count
        while True:
            found = nearest_of(exact, mean_D, query_D, moments, self.wanted)
            if self.index:
                found = best_of([*found, *self.index.nearest(query_D, moments, self._wanted_of_index())], moments)
            ordered = by_words_too(found, text, self._said) if text else found
            shown = distinct([*before, *ordered], count + len(before))[len(before) :]
            if len(shown) == count or len(found) < moments or moments >= MOST_MOMENTS:
                return Answer(self._with_maps(shown), len(self.stored) - self.not_indexed, self.not_indexed)
            moments *= 8

    def _mean(self, exact: list[VideoMoments]) -> np.ndarray:
        if self.index:
            return self.index.manifest.mean_D
        total = sum(moments.vectors_MD.sum(0, dtype=np.float64) for moments in exact)
        mean_D: np.ndarray = total / max(1, sum(map(len, exact))) * self.projection.is_centred
        return mean_D.astype(np.float32)

    def _wanted_of_index(self) -> Wanted | None:
        if self.wanted is None:
            return dict.fromkeys(self.current) if self.stale else None
        return {video: spans for video, spans in self.wanted.items() if video in self.current}

    def _said(self, moments: Sequence[FoundMoment]) -> list[str]:
        places = [(one.video_id, one.middle_s) for one in moments]
        said = said_at(absolute_location(self.out), places)
        return [" ".join(said[place].values()) for place in places]

    def _with_maps(self, shown: list[FoundMoment]) -> list[Result]:
        said = said_at(absolute_location(self.out), [(one.video_id, one.middle_s) for one in shown])
        return [
            Result(one.video_id, one.start_s, one.stop_s, round(one.similarity, 4), said[one.video_id, one.middle_s])
            for one in shown
        ]


def _at(moments: VideoMoments, at_s: float) -> tuple[np.ndarray, float, float] | None:
    """(vector [D], start, stop) of the moment at a second, None where there is none."""
    here = np.flatnonzero((moments.start_s_M <= at_s) & (at_s < moments.stop_s_M))
    if not len(here):
        return None
    return moments.vectors_MD[here[0]], float(moments.start_s_M[here[0]]), float(moments.stop_s_M[here[0]])


def _full_id(video: str, stored: dict[str, str]) -> str:
    """The one id that begins so. Raises UsageError."""
    found = [video_id for video_id in stored if video_id.startswith(video)] if video else []
    if video in stored:
        return video
    if len(found) != 1:
        raise UsageError(
            f"{len(found)} videos with stored vectors have an id that begins with {video!r}, expected one; halsted "
            "status lists the ids"
        )
    return found[0]
