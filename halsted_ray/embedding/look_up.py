"""Stored vectors as arrays with their times, and the windows that are nearest to a clip or a vector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from halsted_ray.errors import UsageError
from halsted_ray.storage.locations import absolute_location
from halsted_ray.storage.vector_files import VideoVectors
from halsted_ray.storage.vectors import VectorStore, stores_at

ClipSpan = tuple[str, float, float]
"""(video_id, start_s, stop_s)."""
LEAST_OVERLAP = 0.5
"""A window belongs to a clip where at least this share of the window, or of the clip, lies in the other."""


@dataclass(frozen=True)
class WindowVectors:
    """Vectors of N windows, row-aligned, by video and then by start.

    ``video_ids`` and ``kinds``: N names. ``start_s_N``, ``stop_s_N``: float64 [N]. ``vectors_ND``: float16 [N, D].
    """

    video_ids: tuple[str, ...]
    kinds: tuple[str, ...]
    start_s_N: np.ndarray
    stop_s_N: np.ndarray
    vectors_ND: np.ndarray

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.kinds)


@dataclass(frozen=True)
class SimilarWindow:
    """A window, and the cosine of the angle between its vector and the one that was asked for, -1 to 1."""

    video_id: str
    kind: str
    start_s: float
    stop_s: float
    similarity: float


def embeddings(
    location: str,
    video_ids: Sequence[str] | None = None,
    *,
    kind: str | None = None,
    encoder: str | None = None,
    sampling: str | None = None,
) -> WindowVectors:
    """The stored vectors of windows, with their times.

    >>> from halsted_ray import embeddings
    >>> found = embeddings("maps", kind="coarse")
    >>> found.vectors_ND.shape, found.start_s_N[0]
    ((6, 192), 0.0)

    ``location``: where maps or an atlas lie, or a store of vectors. ``video_ids``: default all. ``kind``: ``coarse``,
    ``fine`` or ``clip``; default all. ``encoder`` and ``sampling``: the names of the store's folders, where it holds
    several. All vectors are in memory at once: 10 MB per video-hour of 1-s windows at D = 1408. Raises UsageError where
    nothing is stored, or the vectors of several encoders are; StorageUnavailable.
    """
    store = one_store(location, encoder, sampling)
    parts = list(_of_kind(store, video_ids, kind))
    if not parts:
        raise UsageError(
            f"no such vectors at {location!r}: the store holds none of kind {kind or 'any'!r} of these videos; check "
            "the names, or make vectors with halsted embed"
        )
    return WindowVectors(
        tuple(part.video_id for part in parts for _ in range(len(part))),
        tuple(name for part in parts for name in part.kinds),
        np.concatenate([part.start_s_N for part in parts]),
        np.concatenate([part.stop_s_N for part in parts]),
        np.concatenate([part.vectors_ND for part in parts]),
    )


def similar(
    location: str,
    query: ClipSpan | np.ndarray,
    count: int = 10,
    *,
    kind: str = "fine",
    encoder: str | None = None,
    sampling: str | None = None,
) -> list[SimilarWindow]:
    """The ``count`` windows of a store that are nearest to ``query``, the nearest first.

    >>> from halsted_ray import open_maps, similar
    >>> video = open_maps("maps").video_ids[0]
    >>> len(similar("maps", (video, 0.0, 30.0), 3, kind="coarse"))
    3

    ``query``: a vector [D], or (video_id, start_s, stop_s), which stands for the mean of its stored windows of
    ``kind``; these windows are left out of the answer. ``location``, ``kind``, ``encoder`` and ``sampling`` as for
    ``embeddings``. The store's mean is taken from every vector first, since all vectors of an encoder have a large part
    in common. The store is read twice, video by video. Raises UsageError.
    """
    store = one_store(location, encoder, sampling)
    asked = None if isinstance(query, np.ndarray) else query
    vector_D = query if isinstance(query, np.ndarray) else _vector_of(store, query, kind)
    try:
        return nearest(lambda: _of_kind(store, None, kind), vector_D, count, asked)
    except UsageError as error:
        raise UsageError(f"vectors at {location!r}, kind {kind!r}: {error}") from None


def nearest(
    windows: Callable[[], Iterable[VideoVectors]],
    vector_D: np.ndarray,
    count: int,
    left_out: ClipSpan | None = None,
) -> list[SimilarWindow]:
    """The ``count`` windows whose vectors are nearest to ``vector_D`` [D], as ``similar`` finds them, nearest first.

    ``windows``: gives the windows to look through, video by video; it is called twice, first for their mean.
    ``left_out``: a clip whose own windows are no answer. Costs one product of N x D. Raises UsageError for no windows
    and for a vector of another length.
    """
    if count < 1:
        raise UsageError(f"count is {count}, expected 1 or more")
    total_D, number = np.zeros(0), 0
    for part in windows():
        total_D = part.vectors_ND.sum(0, dtype=np.float64) + (total_D if number else 0.0)
        number += len(part)
    if not number:
        raise UsageError("there are no windows to look through")
    mean_D = total_D / number
    if vector_D.shape != mean_D.shape:
        raise UsageError(f"the vector has the shape {vector_D.shape}, expected {mean_D.shape}")
    wanted_D = _unit(vector_D.astype(np.float64) - mean_D).astype(np.float32)
    mean_D = mean_D.astype(np.float32)
    found: list[SimilarWindow] = []
    for part in windows():
        apart_ND = part.vectors_ND.astype(np.float32) - mean_D
        similarity_N = (apart_ND @ wanted_D) / np.maximum(np.linalg.norm(apart_ND, axis=-1), 1e-12)
        if left_out is not None and left_out[0] == part.video_id:
            similarity_N[belong(part, left_out)] = -np.inf
        best = np.argsort(-similarity_N, kind="stable")[:count]
        found += [
            SimilarWindow(
                part.video_id,
                part.kinds[row],
                float(part.start_s_N[row]),
                float(part.stop_s_N[row]),
                float(similarity_N[row]),
            )
            for row in best.tolist()
            if np.isfinite(similarity_N[row])
        ]
        found = sorted(found, key=lambda window: (-window.similarity, window.video_id, window.start_s))[:count]
    return found


def one_store(location: str, encoder: str | None, sampling: str | None) -> VectorStore:
    """The store of one encoder and sampling. Raises UsageError where there is none, or more than one."""
    place = absolute_location(location).rstrip("/")
    beside = [store for store in stores_at(f"{place}/embeddings") if store.holds_any()]
    stores = beside or [store for store in stores_at(place) if store.holds_any()]
    fitting = [store for store in stores if encoder in (None, store.encoder) and sampling in (None, store.sampling)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(f"{store.encoder} {store.sampling}" for store in stores) or "none"
    raise UsageError(
        f"{location!r} holds {len(fitting)} fitting sets of vectors (encoder and sampling: {names}), expected one; "
        "give maps, an atlas or a store, and name encoder and sampling where there are several"
    )


def _of_kind(store: VectorStore, video_ids: Sequence[str] | None, kind: str | None) -> Iterator[VideoVectors]:
    for found in store.read_videos(video_ids):
        part = of_kind(found, kind)
        if len(part):
            yield part


def of_kind(found: VideoVectors, kind: str | None) -> VideoVectors:
    """The windows of one kind, None for all."""
    rows = [row for row, name in enumerate(found.kinds) if kind in (None, name)]
    return VideoVectors(
        found.video_id,
        [found.kinds[row] for row in rows],
        found.start_s_N[rows],
        found.stop_s_N[rows],
        found.vectors_ND[rows],
        found.spans,
    )


def _vector_of(store: VectorStore, clip: ClipSpan, kind: str) -> np.ndarray:
    """The mean of the vectors of a clip's windows. Raises UsageError where none is stored."""
    video_id, start_s, stop_s = clip
    for part in _of_kind(store, [video_id], kind):
        belong_N = belong(part, clip)
        if belong_N.any():
            mean_D: np.ndarray = part.vectors_ND[belong_N].mean(0, dtype=np.float64)
            return mean_D
    raise UsageError(
        f"video {video_id}, [{start_s:g}, {stop_s:g}) s: no window of kind {kind!r} is stored there; name another "
        "kind, or give a vector"
    )


def belong(part: VideoVectors, clip: ClipSpan) -> np.ndarray:
    """bool [N]: which windows belong to a clip."""
    overlap_N = np.minimum(part.stop_s_N, clip[2]) - np.maximum(part.start_s_N, clip[1])
    shorter_N = np.minimum(part.stop_s_N - part.start_s_N, clip[2] - clip[1])
    belong_N: np.ndarray = (overlap_N > 0) & (overlap_N >= LEAST_OVERLAP * shorter_N)
    return belong_N


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths: np.ndarray = np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    unit: np.ndarray = vectors / lengths
    return unit
