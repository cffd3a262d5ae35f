"""Collections of segments, however many: a list, or spans of videos that are cut while they are read.

Nothing here imports torch, so that a task that reads segments starts quickly.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

from halsted_ray.records import Segment, Video, Window, WindowSpec
from halsted_ray.storage.vectors import VectorStore, WindowKey
from halsted_ray.video.windows import segments as segments_of
from halsted_ray.video.windows import windows_of

SPAN_S = 120.0
"""Decoded at once: 120 s on the fine grid (6.4 frames per second) are 29 MB at 112×112, 116 MB at 224×224."""
LOOKED_UP_AT_ONCE = 16
"""Videos whose stored vectors are looked up side by side: on S3 a look waits 30 ms for a listing."""
WINDOW_KINDS = {"all": ("coarse", "fine"), "coarse": ("coarse",)}
"""Which windows of the grid are wanted, by a name for people."""


class Segments(Protocol):
    """Segments that are made one after another when they are iterated over. Each iteration gives the same ones."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Segment]: ...

    def parts(self, size: int) -> Sequence[Segments]:
        """The same segments in pieces of about ``size``, each of which is sent to the task that makes its segments."""


class ListedSegments(list[Segment]):
    """A list of segments as ``Segments``."""

    def parts(self, size: int) -> Sequence[Segments]:
        """As ``Segments.parts``."""
        return [ListedSegments(self[start : start + size]) for start in range(0, len(self), size)]


@dataclass(frozen=True)
class GridSpans:
    """How videos are cut into spans of about ``SPAN_S``, and which windows of the grid each span is to have.

    A span holds whole coarse windows, so that each window lies in one span.
    """

    spec: WindowSpec
    kinds: tuple[str, ...]

    @property
    def span_s(self) -> float:
        """Seconds of a span; the last span of a video is shorter."""
        return self.spec.coarse_s * max(1, int(SPAN_S / self.spec.coarse_s))

    def count(self, video: Video) -> int:
        """How many spans a video has."""
        return math.ceil(video.duration_s / self.span_s)

    def windows(self, video: Video) -> int:
        """How many windows of the wanted kinds a video has."""
        lengths_s = {"coarse": self.spec.coarse_s, "fine": self.spec.fine_s}
        return sum(math.ceil(video.duration_s / lengths_s[kind]) for kind in self.kinds)

    def cut(self, video: Video) -> list[Segment]:
        """The spans of a video, each with its windows."""
        return [
            replace(
                span, windows=tuple(window for window in wanted_windows(span, self.spec) if window.kind in self.kinds)
            )
            for span in segments_of(video, self.spec, self.span_s, "")
        ]


@dataclass(frozen=True)
class UnstoredSegments:
    """Every span of ``videos`` with those of its windows that ``store`` does not hold when the span is read.

    A span whose windows are all stored comes with none: a task of Ray that is done again after a fault must give the
    same segments in the same places, else Ray would take one for another, and segments would be lost.
    """

    videos: Sequence[Video]
    grid: GridSpans
    store: VectorStore

    def __len__(self) -> int:
        return sum(map(self.grid.count, self.videos))

    def __iter__(self) -> Iterator[Segment]:
        for _, spans in self.by_video():
            yield from spans

    def parts(self, size: int) -> list[UnstoredSegments]:
        """The same spans in pieces of whole videos, of at least ``size`` spans but for the last piece."""
        parts, videos, count = [], list[Video](), 0
        for video in self.videos:
            videos.append(video)
            count += self.grid.count(video)
            if count >= size:
                parts.append(replace(self, videos=videos))
                videos, count = [], 0
        return [*parts, replace(self, videos=videos)] if videos else parts

    def by_video(self) -> Generator[tuple[Video, list[Segment]], None, None]:
        """(video, its spans) of each video in turn. Raises StorageUnavailable, and ModelError as the store does."""

        def spans_of(video: Video) -> list[Segment]:
            return without_stored(self.grid.cut(video), self.store)

        with ThreadPoolExecutor(LOOKED_UP_AT_ONCE) as pool:
            for first in range(0, len(self.videos), LOOKED_UP_AT_ONCE):
                videos = self.videos[first : first + LOOKED_UP_AT_ONCE]
                yield from zip(videos, pool.map(spans_of, videos), strict=True)


def without_stored(spans: Sequence[Segment], store: VectorStore) -> list[Segment]:
    """The spans of one video, each without the windows that ``store`` holds."""
    if not spans:
        return []
    have = store.get(spans[0].video_id, spans[0].start_s, spans[-1].stop_s).keys()
    return [
        replace(span, windows=tuple(window for window in span.windows or () if window_key(window) not in have))
        for span in spans
    ]


def wanted_windows(segment: Segment, spec: WindowSpec) -> list[Window]:
    """The windows of a segment: its own, else those of the grid, coarse and then fine."""
    if segment.windows is not None:
        return list(segment.windows)
    coarse, fine_of = windows_of(segment, spec)
    return [*coarse, *(window for fine in fine_of.values() for window in fine)]


def window_key(window: Window) -> WindowKey:
    """The name of a window in the store."""
    return window.kind, window.start_s, window.stop_s
