"""What a file carries beside its picture, and where its picture can be cut: one pass over its packets."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from halsted_ray.deidentify.coded_units import HOW_TO_SHOW, MalformedUnits, UnitCleaner, cleaner_of
from halsted_ray.video.container import VideoFile

if TYPE_CHECKING:
    from halsted_ray.records import JsonObject

MOST_REORDERED = 64
"""Frames that may stand between a frame and its place in the order of display. H.264 and HEVC allow 16."""
CUT_CODECS = {"h264": "libx264", "hevc": "libx265"}
"""Codec → the encoder for stretches of a stream that is copied otherwise. Streams of other codecs are coded again as a
whole where anything has to become black."""


class NotCopyable(Exception):
    """The picture can't be copied packet by packet; the message says why in a few words."""


@dataclass(frozen=True)
class Carried:
    """What a file carries beside the picture. Counts and kinds only: no value, no title and no key that could be a
    name."""

    tags: int = 0
    """Entries of metadata at all levels: file, streams, chapters."""
    streams: dict[str, int] = field(default_factory=dict)
    """Kind of stream (audio, subtitle, data, attachment, video: further pictures and covers) → how many."""
    chapters: int = 0
    unread_bytes: int = 0
    """Further recordings at the end of the file, which nothing here reads."""

    def asdict(self) -> JsonObject:
        """As JSON values."""
        return {
            "tags": self.tags,
            "streams": self.streams,
            "chapters": self.chapters,
            "unread_bytes": self.unread_bytes,
        }


@dataclass(frozen=True)
class CutPoints:
    """How the packets of a stream that can be copied lie. ``delay``: how many frames later than in the order of display
    a packet may come. ``alone_pts``: rising pts, in ticks of the source, of the frames from which on nothing refers to
    anything before."""

    delay: int
    alone_pts: tuple[int, ...]
    pts: NDArray[np.int64]
    """Of all frames, rising."""
    shown_by_messages: bool
    """Whether messages among the frames say how pictures are turned, or how two eyes share them."""

    def ranges(self, spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """The stretches [start, stop) in ticks that must be coded again, so that every frame is that is displayed
        within ``spans``. Each begins and ends where nothing refers over the edge; the first may begin, and the last
        end, beyond all frames."""
        grown: list[tuple[int, int]] = []
        for start, stop in sorted(spans):
            shown = int(np.searchsorted(self.pts, start, side="right")) - 1
            start = int(self.pts[max(0, shown)])
            before, after = bisect_right(self.alone_pts, start) - 1, bisect_left(self.alone_pts, stop)
            first = self.alone_pts[before] if before >= 0 else -(1 << 62)
            end = self.alone_pts[after] if after < len(self.alone_pts) else 1 << 62
            if grown and first <= grown[-1][1]:
                grown[-1] = (grown[-1][0], max(grown[-1][1], end))
            else:
                grown.append((first, end))
        return grown


def carried_by(video: VideoFile) -> Carried:
    """What an open file carries beside its picture."""
    container = video.container
    streams: dict[str, int] = {}
    tags = len(container.metadata)
    for stream in container.streams:
        tags += len(stream.metadata)
        if stream.index != video.stream.index:
            streams[stream.type] = streams.get(stream.type, 0) + 1
    chapters = container.chapters()
    tags += sum(len(chapter["metadata"]) for chapter in chapters)
    return Carried(tags, streams, len(chapters), video.unread_bytes)


def cut_points(video: VideoFile) -> CutPoints:
    """Reads all packets once. Raises NotCopyable."""
    codec = video.stream.codec_context.name
    cleaner = new_cleaner(video)
    if not video.has_presentation_times:
        raise NotCopyable("the container states no times of display")
    times, alone = list[int](), list[int]()  # of alone, the places in times
    video.reopen()  # opening it has read the first frames
    for packet in video.packets():
        if packet.pts is None:
            raise NotCopyable("a frame without a time")
        data = cleaned(cleaner, bytes(packet))
        if not data:
            continue
        if codec in CUT_CODECS and cleaner.starts_alone(data):
            alone.append(len(times))
        times.append(packet.pts)
    if not times:
        raise NotCopyable("no frame")
    delay = reorder_delay(times)
    video.reopen()
    pts = np.array(times)
    latest_before = np.concatenate([[np.iinfo(np.int64).min], np.maximum.accumulate(pts)[:-1]])
    earliest_from = np.minimum.accumulate(pts[::-1])[::-1]
    # A frame after it may be displayed before it (HEVC's leading pictures): then nothing is cut there.
    clean = [n for n in alone if latest_before[n] < pts[n] <= earliest_from[n]]
    return CutPoints(delay, tuple(pts[clean].tolist()), np.sort(pts), bool(cleaner.kept_messages & HOW_TO_SHOW))


def reorder_delay(times: Sequence[int]) -> int:
    """How many places later than in the order of display a packet comes, at most. Raises NotCopyable where two frames
    have one time, or where a frame is moved further than any codec moves it."""
    for delay in range(MOST_REORDERED):
        if _rises(times, delay):
            return delay
    raise NotCopyable("times that do not fit the order of the frames")


def _rises(times: Sequence[int], delay: int) -> bool:
    waiting: list[int] = []
    last: int | None = None
    for time in times:
        heapq.heappush(waiting, time)
        if len(waiting) > delay:
            first = heapq.heappop(waiting)
            if last is not None and first <= last:
                return False
            last = first
    for first in sorted(waiting):
        if last is not None and first <= last:
            return False
        last = first
    return True


def new_cleaner(video: VideoFile) -> UnitCleaner:
    """A cleaner for the stream of an open file. Raises NotCopyable."""
    context = video.stream.codec_context
    try:
        cleaner = cleaner_of(context.name, context.extradata or b"")
    except MalformedUnits as error:
        raise NotCopyable(str(error)) from None
    if cleaner is None:
        raise NotCopyable(f"the codec {context.name}")
    return cleaner


def cleaned(cleaner: UnitCleaner, data: bytes) -> bytes:
    """``cleaner.clean``; raises NotCopyable."""
    try:
        return cleaner.clean(data)
    except MalformedUnits as error:
        raise NotCopyable(str(error)) from None
