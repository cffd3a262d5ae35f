"""The moments of a tenant's cases that look most like a span: by stored vectors, so that nothing is decoded.

Every vector of the cases that are looked through is compared, in the caller's newest cases first. Measured figures
stand in docs/how-to/correct-maps.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from halsted_ray.embedding.look_up import belong, nearest, of_kind
from halsted_ray.errors import StorageUnavailable, UsageError
from halsted_ray.maps import exports
from halsted_ray.service.annotation_log import ModelRow
from halsted_ray.service.cases import Case, Cases
from halsted_ray.service.uploads import StateConflict
from halsted_ray.service.videos import Videos
from halsted_ray.storage.vector_files import VideoVectors
from halsted_ray.storage.vectors import VectorStore, stores_at

MOST_CASES = 200
"""So many cases are looked through: the one that is asked about, and the newest others."""
WINDOWS_OF_CASE = 100
"""Windows of one row are one moment, so more windows are looked for than moments are wanted. Where a row has more, and
all of them are nearer than any other window of its case, that case gives one moment."""
APART_S = 15.0
"""Where the map has no row, windows that are nearer to each other are one moment."""
ReadRows = Callable[[str], Sequence[exports.Row]]
"""video_id → the rows of its timeline, none where it has none."""


@dataclass(frozen=True)
class Moment:
    """A window of ``case`` that looks like what was asked for. ``similarity``: the cosine of the angle between the two
    vectors without what all vectors have in common, -1 to 1. ``row``: the model's row there, None where it has none."""

    case: Case
    start_s: float
    stop_s: float
    similarity: float
    row: ModelRow | None


@dataclass(frozen=True)
class SimilarMoments:
    """Looks through the vectors of the cases that a caller may watch."""

    cases: Cases
    videos: Videos

    def find(
        self, case: Case, start_s: float, stop_s: float, limit: int, rows_of: ReadRows, tag: str | None = None
    ) -> list[Moment]:
        """At most ``limit`` moments like [start_s, stop_s) of ``case``, the most similar first: one per row of the map.

        ``tag``: whose row is shown; None: the shortest row there. Memory holds the vectors of one case at a
        time. Raises StateConflict where no vectors of the span are stored, UsageError for times outside of the video.
        """
        if not 0 <= start_s < stop_s <= case.video.duration_s + 0.001:
            raise UsageError(
                f"expected 0 <= start_s < stop_s <= {case.video.duration_s:.3f} s, got [{start_s:g}, {stop_s:g})"
            )
        clip = (case.video_id, start_s, stop_s)
        store, kind, vector_D = self._asked(case, clip)
        cases = {case.video_id: case}
        for other in self.cases.newest(case.caller, "watch", MOST_CASES):
            if len(cases) < MOST_CASES:
                cases.setdefault(other.video_id, other)

        def windows() -> Iterator[VideoVectors]:
            for one in cases.values():
                yield from self._vectors(one, store.encoder, store.sampling, kind)

        moments: list[Moment] = []
        rows: dict[str, Sequence[exports.Row]] = {case.video_id: rows_of(case.video_id)}
        asked = row_at(rows[case.video_id], (start_s + stop_s) / 2, tag)
        left_out = (case.video_id, min(start_s, asked.start_s), max(stop_s, asked.stop_s)) if asked else clip
        taken: dict[str, list[tuple[float, float]]] = {}
        for window in nearest(windows, vector_D, limit * WINDOWS_OF_CASE, left_out, WINDOWS_OF_CASE):
            if len(moments) == limit:
                break
            middle_s = (window.start_s + window.stop_s) / 2
            own = taken.setdefault(window.video_id, [])
            if any(start <= middle_s < stop for start, stop in own):
                continue
            if window.video_id not in rows:
                rows[window.video_id] = rows_of(window.video_id)
            row = row_at(rows[window.video_id], middle_s, tag)
            own.append((row.start_s, row.stop_s) if row else (middle_s - APART_S, middle_s + APART_S))
            similarity = round(window.similarity, 4)
            moments.append(Moment(cases[window.video_id], window.start_s, window.stop_s, similarity, row))
        return moments

    def _asked(self, case: Case, clip: tuple[str, float, float]) -> tuple[VectorStore, str, np.ndarray]:
        """(store, kind, vector [D]) of the windows that belong to the clip: fine windows where there are some."""
        for kind in ("fine", "coarse"):
            for store in self._stores(case):
                for part in self._vectors(case, store.encoder, store.sampling, kind):
                    belong_N = belong(part, clip)
                    if belong_N.any():
                        return store, kind, part.vectors_ND[belong_N].mean(0, dtype=np.float64)
        raise StateConflict(
            f"video {case.video_id!r} has no stored vectors in [{clip[1]:g}, {clip[2]:g}) s; map it first"
        )

    def _stores(self, case: Case) -> list[VectorStore]:
        return stores_at(f"{self.videos.maps_location(case.video.tenant_id, case.video_id)}/embeddings")

    def _vectors(self, case: Case, encoder: str, sampling: str, kind: str) -> Iterator[VideoVectors]:
        """The vectors of a case, named by the id that this service gives the video."""
        try:
            for store in self._stores(case):
                if (store.encoder, store.sampling) == (encoder, sampling):
                    for found in store.read_videos(None):
                        part = of_kind(found, kind)
                        if len(part):
                            yield replace(part, video_id=case.video_id)
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
