"""What a run has to do, for an archive of any size: noted a video, cut into segments a wave at a time.

A segment in memory costs 0.4 KB, so the 6 million of 100,000 video-hours would cost 2.4 GB; the numbers of the segments
that wait cost next to nothing, and cutting is cheap. Everything goes in the order of ``video_id``, so that what is
published lies in the tables in ranges of it, and a range is found without reading the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from halsted_ray.errors import StorageUnavailable
from halsted_ray.maps.reading import read_segments
from halsted_ray.maps.staging import Staging
from halsted_ray.maps.table_schemas import ArchiveFile
from halsted_ray.records import Segment, Video, WindowSpec
from halsted_ray.video.windows import segments as segments_of

LOOKED_UP_AT_ONCE = 50_000
"""Segments that are compared with the published ones at a time."""


@dataclass(frozen=True)
class VideoWork:
    """A video that has segments to do, or finished ones to publish. ``waiting``: numbers of those to do."""

    video: Video
    waiting: Sequence[int]


@dataclass(frozen=True)
class Wave:
    """Whole videos that are mapped and published together."""

    planned: dict[str, list[Segment]]
    """video_id → all of its segments."""
    waiting: list[Segment]


@dataclass
class WorkList:
    """The videos to work on, in the order of their ids; the counts are of all videos that can be mapped."""

    spec: WindowSpec
    segment_s: float
    recipe: str
    works: list[VideoWork] = field(default_factory=list)
    videos: int = 0
    segments: int = 0
    waiting: int = 0
    total_s: float = 0.0
    waiting_s: float = 0.0

    def cut(self, video: Video) -> list[Segment]:
        return segments_of(video, self.spec, self.segment_s, self.recipe)

    def waves(self, least: Callable[[], int]) -> Iterator[Wave]:
        """Waves of at least ``least()`` segments to do (the last one: what is left); asked before each."""
        planned: dict[str, list[Segment]] = {}
        waiting: list[Segment] = []
        wanted = least()
        for work in self.works:
            own = planned[work.video.video_id] = self.cut(work.video)
            waiting += [own[number] for number in work.waiting]
            if len(waiting) >= wanted:
                yield Wave(planned, waiting)
                planned, waiting, wanted = {}, [], least()
        if planned:
            yield Wave(planned, waiting)


def build_work_list(
    out: str,
    staging: Staging,
    entries: Sequence[ArchiveFile],
    spec: WindowSpec,
    segment_s: float,
    recipe: str,
    again: Collection[str] = (),
) -> WorkList:
    """What is left to do of ``entries`` beside what is published at ``out`` and staged. ``again``: ids of videos whose
    segments are tried again where they failed for good. Raises UsageError for a ``segment_s`` that does not fit
    ``spec``."""
    work = WorkList(spec, segment_s, recipe)
    staged = staging.states()
    videos = sorted((entry.video for entry in entries if entry.is_mapped), key=lambda video: video.video_id)
    for chunk in _chunks(videos, segment_s):
        finished = finished_segments(out, recipe, again, (chunk[0].video_id, chunk[-1].video_id))
        for video in chunk:
            own = work.cut(video)
            done = staged.get(video.video_id, {})
            waiting = [
                number
                for number, segment in enumerate(own)
                if segment.segment_id not in finished and segment.segment_id not in done
            ]
            work.videos += 1
            work.segments += len(own)
            work.waiting += len(waiting)
            work.total_s += sum(segment.stop_s - segment.start_s for segment in own)
            work.waiting_s += sum(own[number].stop_s - own[number].start_s for number in waiting)
            if waiting or done:
                work.works.append(VideoWork(video, waiting if len(waiting) < len(own) else range(len(own))))
    return work


def finished_segments(
    out: str, recipe: str, again: Collection[str] = (), within: tuple[str, str] | None = None
) -> set[str]:
    """Ids of published segments that need no more work: mapped, or failed for good (everything but storage) and not
    of a video of ``again``. ``within``: the first and the last video_id that are asked for."""
    filters = [("recipe", "=", recipe)]
    if within:
        filters += [("video_id", ">=", within[0]), ("video_id", "<=", within[1])]
    whole = read_segments(out, ["segment_id"], [*filters, ("state", "=", "done")])
    if whole is None:
        return set()
    finished = set(whole["segment_id"].to_pylist())
    columns = ["segment_id", "video_id", "gaps"]
    for row in read_segments(out, columns, [*filters, ("state", "!=", "done")]).to_pylist():
        if row["video_id"] not in again and StorageUnavailable.code not in {gap["code"] for gap in row["gaps"]}:
            finished.add(row["segment_id"])
    return finished


def _chunks(videos: Sequence[Video], segment_s: float) -> Iterator[list[Video]]:
    """``videos`` in runs of about LOOKED_UP_AT_ONCE segments."""
    chunk, length_s = [], 0.0
    for video in videos:
        chunk.append(video)
        length_s += video.duration_s
        if length_s >= LOOKED_UP_AT_ONCE * segment_s:
            yield chunk
            chunk, length_s = [], 0.0
    if chunk:
        yield chunk
