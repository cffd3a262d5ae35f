"""What a run has to do, for an archive of any size: noted per video, and cut into segments when they are needed.

A segment in memory costs 0.4 KB, so the 6 million segments of 100,000 video-hours would cost 2.4 GB. The numbers of the
segments that wait cost next to nothing, and cutting is cheap. Everything goes in the order of ``video_id``: so what is
published together lies in one range of ids in the tables, and a range is found without reading the others.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from halsted_ray.errors import StorageUnavailable
from halsted_ray.maps.reading import read_segments
from halsted_ray.maps.staging import Staging
from halsted_ray.maps.table_schemas import ArchiveFile
from halsted_ray.records import Segment, Video, WindowSpec
from halsted_ray.video.windows import segments as segments_of

LOOKED_UP_AT_ONCE = 50_000
"""Segments that are compared with the published ones at a time."""
WAVE_SEGMENTS = 10_000
"""Segments that are published together, at least: a commit of five tables takes some seconds."""


@dataclass(frozen=True)
class PendingVideo:
    """A video that has segments to do, or finished segments to publish."""

    video: Video
    waiting: Sequence[int]
    """Numbers of the segments to do."""


@dataclass(frozen=True)
class Cutter:
    """Cuts videos into segments."""

    spec: WindowSpec
    segment_s: float
    recipe: str
    """Digest of the ``MappingRecipe``."""

    def cut(self, video: Video) -> list[Segment]:
        """All segments of a video. Raises UsageError where ``segment_s`` does not fit ``spec``."""
        return segments_of(video, self.spec, self.segment_s, self.recipe)


@dataclass(frozen=True)
class Waiting:
    """Segments that are to do, in the order of their videos. They are cut while they are iterated over."""

    cutter: Cutter
    pending: Sequence[PendingVideo]

    def __len__(self) -> int:
        return sum(len(of_video.waiting) for of_video in self.pending)

    def __iter__(self) -> Iterator[Segment]:
        for of_video in self.pending:
            segments = self.cutter.cut(of_video.video)
            yield from (segments[number] for number in of_video.waiting)

    def split(self, is_first: Callable[[Video, Sequence[int]], Sequence[int]]) -> tuple[Waiting, Waiting]:
        """(those segments whose numbers ``is_first`` gives for a video and the numbers that wait of it, the others);
        it gives none but these."""
        parts: tuple[list[PendingVideo], list[PendingVideo]] = ([], [])
        for of_video in self.pending:
            numbers = set(is_first(of_video.video, of_video.waiting))
            others = [number for number in of_video.waiting if number not in numbers] if numbers else of_video.waiting
            for part, waiting in zip(parts, (sorted(numbers), others), strict=True):
                if waiting:
                    part.append(PendingVideo(of_video.video, waiting))
        return Waiting(self.cutter, parts[0]), Waiting(self.cutter, parts[1])

    def parts(self, size: int) -> list[Waiting]:
        """The same segments in pieces of at least ``size``; the last piece holds what is left."""
        return [Waiting(self.cutter, pending) for pending in _pieces(self.pending, size)]

    def only(self, numbers_of: Mapping[str, Collection[int]]) -> Waiting:
        """Those segments whose numbers ``numbers_of`` gives by video_id."""
        return self.split(lambda video, _: list(numbers_of.get(video.video_id, ())))[0]


@dataclass(frozen=True)
class Wave:
    """Whole videos that are published together."""

    work: WorkList
    pending: Sequence[PendingVideo]

    @property
    def planned(self) -> dict[str, list[Segment]]:
        """video_id → all of its segments."""
        return {of_video.video.video_id: self.work.cutter.cut(of_video.video) for of_video in self.pending}

    @property
    def waiting(self) -> Waiting:
        """The segments of these videos that are to do."""
        return Waiting(self.work.cutter, self.pending)


@dataclass
class WorkList:
    """The videos with something to do, in the order of their ids. The counts are of all videos that can be mapped."""

    cutter: Cutter
    pending: list[PendingVideo] = field(default_factory=list)
    videos: int = 0
    segments: int = 0
    waiting: int = 0
    """Segments to do."""
    total_s: float = 0.0
    """Video-seconds of all segments."""
    waiting_s: float = 0.0
    """Video-seconds of the segments to do."""

    @property
    def all_waiting(self) -> Waiting:
        """All segments to do."""
        return Waiting(self.cutter, self.pending)

    def waves(self, least_segments: int) -> Iterator[Wave]:
        """Waves of at least ``least_segments`` segments to do; the last wave holds what is left."""
        return (Wave(self, pending) for pending in _pieces(self.pending, least_segments))


class OpenWaves:
    """The waves of a run that are not published yet, and how much of each is left to do."""

    def __init__(self, work: WorkList, least_segments: int):
        self.waves = list(work.waves(least_segments))
        self.first_ids = [wave.pending[0].video.video_id for wave in self.waves]
        self.left = [len(wave.waiting) for wave in self.waves]
        self._open = set(range(len(self.waves)))

    def finish(self, video_id: str) -> Wave | None:
        """Counts one finished segment of a video; gives its wave where that was the wave's last one."""
        number = bisect_right(self.first_ids, video_id) - 1
        self.left[number] -= 1
        if self.left[number] or number not in self._open:
            return None
        self._open.discard(number)
        return self.waves[number]

    def rest(self) -> list[Wave]:
        """The waves that ``finish`` did not give, in order; for the end of a run, which finishes everything."""
        rest, self._open = [self.waves[number] for number in sorted(self._open)], set()
        return rest


def build_work_list(
    out: str,
    staging: Staging,
    entries: Sequence[ArchiveFile],
    spec: WindowSpec,
    segment_s: float,
    recipe: str,
    retried: Collection[str] = (),
) -> WorkList:
    """What is left to do of ``entries`` beside what is published at ``out`` and what is staged.

    ``retried``: ids of videos whose segments are tried again where they failed for good. Raises UsageError for a
    ``segment_s`` that does not fit ``spec``.
    """
    work_list = WorkList(Cutter(spec, segment_s, recipe))
    staged = staging.states()
    videos = sorted((entry.video for entry in entries if entry.is_mapped), key=lambda video: video.video_id)
    for chunk in _chunks(videos, segment_s):
        finished = finished_segments(out, recipe, retried, (chunk[0].video_id, chunk[-1].video_id))
        for video in chunk:
            of_video = work_list.cutter.cut(video)
            staged_of_video = staged.get(video.video_id, {})
            waiting = [
                number
                for number, segment in enumerate(of_video)
                if segment.segment_id not in finished and segment.segment_id not in staged_of_video
            ]
            work_list.videos += 1
            work_list.segments += len(of_video)
            work_list.waiting += len(waiting)
            work_list.total_s += sum(segment.stop_s - segment.start_s for segment in of_video)
            work_list.waiting_s += sum(of_video[number].stop_s - of_video[number].start_s for number in waiting)
            if waiting or staged_of_video:
                # A range takes no memory per segment.
                numbers = waiting if len(waiting) < len(of_video) else range(len(of_video))
                work_list.pending.append(PendingVideo(video, numbers))
    return work_list


def finished_segments(
    out: str, recipe: str, retried: Collection[str] = (), within: tuple[str, str] | None = None
) -> set[str]:
    """Ids of the published segments of ``recipe`` that need no more work.

    These were mapped, or failed for good: for any reason but storage, and not in a video of ``retried``. ``within`` is
    the first and the last video_id to look at.
    """
    filters = [("recipe", "=", recipe)]
    if within:
        filters += [("video_id", ">=", within[0]), ("video_id", "<=", within[1])]
    whole = read_segments(out, ["segment_id"], [*filters, ("state", "=", "done")])
    failed = read_segments(out, ["segment_id", "video_id", "gaps"], [*filters, ("state", "!=", "done")])
    if whole is None or failed is None:
        return set()
    finished = set(whole["segment_id"].to_pylist())
    for row in failed.to_pylist():
        if row["video_id"] not in retried and StorageUnavailable.code not in {gap["code"] for gap in row["gaps"]}:
            finished.add(row["segment_id"])
    return finished


def _pieces(pending: Sequence[PendingVideo], least_segments: int) -> Iterator[list[PendingVideo]]:
    """``pending`` in runs of at least ``least_segments`` segments to do."""
    piece: list[PendingVideo] = []
    count = 0
    for of_video in pending:
        piece.append(of_video)
        count += len(of_video.waiting)
        if count >= least_segments:
            yield piece
            piece, count = [], 0
    if piece:
        yield piece


def _chunks(videos: Sequence[Video], segment_s: float) -> Iterator[list[Video]]:
    """``videos`` in runs of about LOOKED_UP_AT_ONCE segments."""
    chunk: list[Video] = []
    length_s = 0.0
    for video in videos:
        chunk.append(video)
        length_s += video.duration_s
        if length_s >= LOOKED_UP_AT_ONCE * segment_s:
            yield chunk
            chunk, length_s = [], 0.0
    if chunk:
        yield chunk
