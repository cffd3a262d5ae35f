"""The moments of a tenant's cases that look most like a span, or that words describe: by stored vectors, so that
nothing is decoded.

There is no index that several people share. Only vectors of cases that the caller may watch are read, their newest
cases first, and each of them is compared. So neither the answer nor the time that it takes depends on a case of
somebody else. Measured figures stand in docs/how-to/correct-maps.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from halsted_ray.errors import StorageUnavailable, UsageError
from halsted_ray.maps import exports
from halsted_ray.search.index_builder import ByExample, Projection
from halsted_ray.search.index_search import FoundMoment, Wanted, nearest_of
from halsted_ray.search.moments import VideoMoments, unit
from halsted_ray.search.results import distinct
from halsted_ray.search.text_question import TextSearch
from halsted_ray.search.words_of_maps import by_words_too
from halsted_ray.service.annotation_log import ModelRow
from halsted_ray.service.cases import Case, Cases
from halsted_ray.service.errors import StateConflict
from halsted_ray.service.moment_cache import MomentCache
from halsted_ray.service.users import Caller
from halsted_ray.service.videos import Videos
from halsted_ray.storage.vector_files import Span
from halsted_ray.storage.vectors import VectorStore, stores_at

MOST_CASES = 200
"""So many cases are looked through: the one that is asked about, and the newest others."""
MOMENTS_OF_CASE = 100
"""Moments of one row are one result, so more are looked for than are wanted. Where a row has more, and all of them are
nearer than any other moment of its case, that case gives one result."""
ReadRows = Callable[[str], Sequence[exports.Row]]
"""video_id → the rows of its timeline, none where it has none."""


@dataclass(frozen=True)
class Moment:
    """A moment of ``case`` that looks like what was asked for. ``similarity``: the cosine of the angle between the two
    vectors, by example without what all vectors have in common, -1 to 1. ``row``: the model's row there, None where it
    has none."""

    case: Case
    start_s: float
    stop_s: float
    similarity: float
    row: ModelRow | None


@dataclass(frozen=True)
class SimilarMoments:
    """Looks through the vectors of the cases that a caller may watch. ``rows_of``: reads the rows of a case's map.
    ``where``: tag → category, what the map must say at a moment that is found. ``tag``: whose row is shown; None: the
    shortest row there."""

    cases: Cases
    videos: Videos
    cache: MomentCache
    rows_of: ReadRows
    where: Mapping[str, str] = field(default_factory=dict)
    tag: str | None = None

    def find(self, case: Case, start_s: float, stop_s: float, limit: int) -> list[Moment]:
        """At most ``limit`` moments like [start_s, stop_s) of ``case``, the most similar first: one per row of the map.

        Raises StateConflict where no vectors of the span are stored, UsageError for times outside of the video.
        """
        if not 0 <= start_s < stop_s <= case.video.duration_s + 0.001:
            raise UsageError(
                f"expected 0 <= start_s < stop_s <= {case.video.duration_s:.3f} s, got [{start_s:g}, {stop_s:g})"
            ).named("span-outside", length_s=case.video.duration_s)
        by_example = ByExample()
        store, vector_D = self._asked(case, by_example, start_s, stop_s)
        cases = {case.video_id: case}
        for other in self.cases.newest(case.caller, "watch", MOST_CASES):
            if len(cases) < MOST_CASES:
                cases.setdefault(other.video_id, other)
        rows = {case.video_id: self.rows_of(case.video_id)}
        asked = row_at(rows[case.video_id], (start_s + stop_s) / 2, self.tag)
        near = (min(start_s, asked.start_s), max(stop_s, asked.stop_s)) if asked else (start_s, stop_s)
        own = (case.video_id, *near)
        return self._nearest(cases, by_example, store, vector_D, limit, rows, own)

    def find_words(self, caller: Caller, words: TextSearch, text: str, limit: int) -> list[Moment]:
        """At most ``limit`` moments that ``text`` describes: the nearest, in an order that also takes its words in the
        maps. Raises UsageError for a text that is empty or too long."""
        vector_D = words.vector(text)
        cases = {case.video_id: case for case in self.cases.newest(caller, "watch", MOST_CASES)}
        return self._nearest(cases, words.by_text, None, vector_D, limit, {}, None, text)

    def _nearest(
        self,
        cases: Mapping[str, Case],
        projection: Projection,
        like: VectorStore | None,
        vector_D: np.ndarray,
        limit: int,
        rows: dict[str, Sequence[exports.Row]],
        left_out: tuple[str, float, float] | None,
        text: str = "",
    ) -> list[Moment]:
        """``like``: only vectors of its encoder and sampling are compared. ``left_out``: a span that is no answer.
        ``text``: words that order the nearest too."""

        def rows_of(video_id: str) -> Sequence[exports.Row]:
            if video_id not in rows:
                rows[video_id] = self.rows_of(video_id)
            return rows[video_id]

        def shown_at(moment: FoundMoment) -> ModelRow | None:
            return row_at(rows_of(moment.video_id), moment.middle_s, self.tag)

        def span_at(moment: FoundMoment) -> Span | None:
            row = shown_at(moment)
            return (row.start_s, row.stop_s) if row else None

        def moments() -> Iterator[VideoMoments]:
            for one in cases.values():
                yield from self._moments(one, projection, like)

        mean_D = _mean(moments(), len(vector_D), projection.is_centred)
        wanted: Wanted | None = None
        if self.where:
            wanted = {video_id: spans for video_id in cases if (spans := spans_of(rows_of(video_id), self.where))}
        query_D = unit(vector_D - mean_D)
        found = nearest_of(moments(), mean_D, query_D, limit * MOMENTS_OF_CASE, wanted, MOMENTS_OF_CASE)
        if text:
            found = by_words_too(found, text, lambda own: [_said(rows_of(one.video_id), one.middle_s) for one in own])
        others = (one for one in found if not (left_out and _touches(one, left_out)))
        return [
            Moment(cases[one.video_id], one.start_s, one.stop_s, round(one.similarity, 4), shown_at(one))
            for one in distinct(others, limit, span_at)
        ]

    def _asked(
        self, case: Case, projection: Projection, start_s: float, stop_s: float
    ) -> tuple[VectorStore, np.ndarray]:
        """(store, vector [D]) of the moments that lie in the span."""
        for store in self._stores(case):
            for moments in self._moments(case, projection, store):
                inside_M = (moments.start_s_M < stop_s) & (start_s < moments.stop_s_M)
                if inside_M.any():
                    return store, moments.vectors_MD[inside_M].mean(0, dtype=np.float64)
        raise StateConflict(
            f"video {case.video_id!r} has no stored vectors in [{start_s:g}, {stop_s:g}) s; map it first"
        ).named("moment-not-mapped")

    def _stores(self, case: Case) -> list[VectorStore]:
        return stores_at(f"{self.videos.maps_location(case.video.tenant_id, case.video_id)}/embeddings")

    def _moments(self, case: Case, projection: Projection, like: VectorStore | None) -> Iterator[VideoMoments]:
        """The moments of a case, named by the id that this service gives the video."""
        try:
            for store in self._stores(case):
                same = like is None or (store.encoder, store.sampling) == (like.encoder, like.sampling)
                if same and projection.fits(store):
                    for moments in self.cache.moments(store, projection):
                        yield replace(moments, video_id=case.video_id)
        except StorageUnavailable:  # deleted meanwhile
            return


def row_at(rows: Sequence[exports.Row], at_s: float, tag: str | None = None) -> ModelRow | None:
    """The model's row of ``tag`` at a time; without a tag the shortest row there. None where there is none."""
    there = [
        row
        for row in rows
        if row["source"] == "ai" and row["start_s"] <= at_s < row["end_s"] and tag in (None, row["tag"])
    ]
    if not there:
        return None
    row = min(there, key=lambda row: (row["end_s"] - row["start_s"], row["tag"]))
    return ModelRow(row["tag"], row["category"], row["start_s"], row["end_s"])


def spans_of(rows: Sequence[exports.Row], where: Mapping[str, str]) -> list[Span]:
    """The spans in which the model says all of ``where`` (tag → category)."""
    found: list[Span] = [(0.0, np.inf)]
    for tag, category in where.items():
        own = [
            (row["start_s"], row["end_s"])
            for row in rows
            if row["source"] == "ai" and (row["tag"], row["category"]) == (tag, category)
        ]
        found = [(max(a[0], b[0]), min(a[1], b[1])) for a in found for b in own if max(a[0], b[0]) < min(a[1], b[1])]
    return found


def _said(rows: Sequence[exports.Row], at_s: float) -> str:
    """What the model's rows say at a time, as text."""
    return " ".join(row["category"] for row in rows if row["source"] == "ai" and row["start_s"] <= at_s < row["end_s"])


def _mean(videos: Iterator[VideoMoments], dim: int, is_centred: bool) -> np.ndarray:
    """float32 [D]: what all vectors have in common."""
    total_D, number = np.zeros(dim), 0
    for moments in videos if is_centred else ():
        total_D += moments.vectors_MD.sum(0, dtype=np.float64)
        number += len(moments)
    mean_D: np.ndarray = (total_D / max(1, number)).astype(np.float32)
    return mean_D


def _touches(moment: FoundMoment, span: tuple[str, float, float]) -> bool:
    return moment.video_id == span[0] and moment.start_s < span[2] and span[1] < moment.stop_s
