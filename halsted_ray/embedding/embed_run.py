"""One run that gives many windows their vectors and needs none of them itself: ``halsted embed``.

segments ──► a first look in this process ──► nothing lacks: no Ray is started
                                          ──► embed.embed_segments ──► tally ──► summary
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import asdict, dataclass, replace

from halsted_ray.compute.progress import Progress, RunObserver
from halsted_ray.embedding.batching import EncodingFigures, EncodingSummary
from halsted_ray.embedding.embed import LOCALLY_AT_MOST, EmbeddedSegment
from halsted_ray.embedding.segments import ListedSegments, Segments, UnstoredSegments
from halsted_ray.profiling import StageProfile
from halsted_ray.records import JsonObject, Segment, Video
from halsted_ray.storage.vectors import WindowKey
from halsted_ray.video.decoder_tally import DecoderTally

LOOKS_FOR_S = 10.0
"""For so long this process looks by itself for what lacks. A cluster takes as long to start, and looks on."""
WHOLE_WINDOWS = 1.0
"""Share of a window's time that must have a picture. A store holds vectors of whole windows alone, so others are not
encoded."""
WITHOUT_GAP = "no-picture"
"""The reason of a window that lacks pictures although no gap lies in it: none of its frames could be had."""


@dataclass(frozen=True)
class UnreadFile:
    """A file of an archive of which no window gets a vector."""

    video_id: str
    code: str
    reason: str


@dataclass
class DamagedVideo:
    """A video of which some windows got no vector, because some of their pictures are missing."""

    video_id: str
    windows: int = 0
    """How many got none."""
    lost_s: float = 0.0
    """Seconds without picture, in all spans that were decoded."""
    code: str = ""
    reason: str = ""
    """Of the first gap."""


@dataclass(frozen=True)
class EmbeddingSummary:
    """What a run did. ``windows`` = ``windows_before`` + ``windows_made`` + ``windows_lacking``."""

    videos: int
    """Videos whose windows were wanted."""
    windows: int
    """Windows that were wanted."""
    windows_before: int
    """Their vectors were stored before this run."""
    windows_made: int
    """This run stored their vectors."""
    windows_lacking: int
    """They have no vector, because some of their pictures are missing."""
    lacking_by_reason: dict[str, int]
    """Code of a gap → windows that have no vector for this reason."""
    unread: list[UnreadFile]
    """Files that can't be probed."""
    damaged: list[DamagedVideo]
    """In the order of ``video_id``."""
    video_s: float
    """Video-seconds of the spans in which this run made vectors, or tried to."""
    wall_s: float
    stages: dict[str, dict[str, float]]
    """``wall_s`` and ``cpu_s``: stage → seconds over all actors (``profiling.STAGES``)."""
    start_s: dict[str, float]
    """Step of the start → seconds from the call to its end: ``listed``, ``encoder known``, ``planned``, ``cluster``,
    ``encoder loaded``, ``first vectors``; those that the run came to."""
    encoding: EncodingSummary
    """What the encoders did."""
    decoders: DecoderTally
    """Who decoded the spans, and why not NVDEC."""

    @property
    def exit_code(self) -> int:
        """0 where every window has a vector, else 3."""
        return 3 if self.unread or self.windows_lacking else 0

    def asdict(self) -> JsonObject:
        """As JSON values."""
        return asdict(self) | {"decoders": self.decoders.rows()}


def look_for_missing(segments: UnstoredSegments) -> tuple[Segments, float]:
    """(what is left to do, video-seconds of the videos that this found whole).

    Looks at one video after another, until more segments lack vectors than this process would embed by itself, or
    ``LOOKS_FOR_S`` have passed. What was not looked at counts as left.
    """
    until_s = time.monotonic() + LOOKS_FOR_S
    found = ListedSegments()
    incomplete: list[Video] = []
    whole_s = 0.0
    looked_at = 0
    with closing(segments.by_video()) as videos:
        for video, spans in videos:
            looked_at += 1
            lacking = [span for span in spans if span.windows]
            if lacking:
                found.extend(lacking)
                incomplete.append(video)
            else:
                whole_s += video.duration_s
            if len(found) > LOCALLY_AT_MOST or time.monotonic() > until_s:
                break
        else:
            return found, sum(video.duration_s for video in segments.videos) - video_s(found)
    return replace(segments, videos=[*incomplete, *segments.videos[looked_at:]]), whole_s


class EmbeddingTally:
    """Adds up what became of the segments of a run, and reports progress to the observer.

    ``total_s``: video-seconds of all segments that are wanted; ``begun_s``: those of which all vectors are stored.
    """

    def __init__(self, total_s: float, begun_s: float, observer: RunObserver):
        self.total_s, self.begun_s, self.done_s = total_s, begun_s, begun_s
        self.observer = observer
        self.made = self.damaged_segments = 0
        self.lacking: dict[str, int] = {}
        self.damaged: dict[str, DamagedVideo] = {}
        self.profile = StageProfile()
        self.decoders = DecoderTally()
        self.encoding: dict[str, EncodingFigures] = {}
        """Actor → what its encoder has done until now."""
        self.started_s = time.monotonic()

    def follow(self, count: int, rows: Generator[EmbeddedSegment, None, None]) -> None:
        """Adds up ``rows`` (of ``count`` segments) to their end. Raises OutputError where an actor can't store."""
        came = 0
        with closing(rows):
            for row in rows:
                came += 1
                self._add(row)
        assert came == count, f"{count} segments were given to the stages, and {came} came back"

    def _add(self, row: EmbeddedSegment) -> None:
        without_vector = [*row.mended, *row.left_out]
        self.made += row.stored
        self.profile.merge(row.profile)
        self.decoders.add_rows(row.decoded_by)
        before = self.encoding.get(row.actor)
        if before is None or before.last_at <= row.figures.last_at:
            self.encoding[row.actor] = row.figures
        span_s = row.stop_s - row.start_s
        self.done_s += span_s
        if not row.stored and not without_vector:  # another run stored them, or this one did before a fault
            self.begun_s += span_s
        if without_vector:
            self._note_damage(row, without_vector)
        elapsed_s = time.monotonic() - self.started_s
        self.observer.on_progress(Progress(self.done_s, self.total_s, self.begun_s, self.damaged_segments, elapsed_s))

    def _note_damage(self, row: EmbeddedSegment, without_vector: list[WindowKey]) -> None:
        video = self.damaged.setdefault(row.video_id, DamagedVideo(row.video_id))
        self.damaged_segments += 1
        video.windows += len(without_vector)
        video.lost_s += sum(gap.stop_s - gap.start_s for gap in row.gaps)
        if row.gaps and not video.code:
            video.code, video.reason = row.gaps[0].code, row.gaps[0].reason
        for _, start_s, stop_s in without_vector:
            code = next((gap.code for gap in row.gaps if gap.start_s < stop_s and start_s < gap.stop_s), WITHOUT_GAP)
            self.lacking[code] = self.lacking.get(code, 0) + 1

    def summary(
        self,
        videos: int,
        windows: int,
        wall_s: float,
        start_s: dict[str, float],
        unread: Iterable[UnreadFile] = (),
    ) -> EmbeddingSummary:
        """What the run did. ``videos`` and ``windows``: how many were wanted."""
        lacking = sum(self.lacking.values())
        return EmbeddingSummary(
            videos=videos,
            windows=windows,
            windows_before=windows - self.made - lacking,
            windows_made=self.made,
            windows_lacking=lacking,
            lacking_by_reason=dict(sorted(self.lacking.items())),
            unread=list(unread),
            damaged=[self.damaged[video_id] for video_id in sorted(self.damaged)],
            video_s=self.done_s - self.begun_s,
            wall_s=wall_s,
            stages=self.profile.asdict(),
            start_s=start_s,
            encoding=EncodingSummary.of(list(self.encoding.values())),
            decoders=self.decoders,
        )


def video_s(segments: Iterable[Segment]) -> float:
    """Video-seconds of ``segments``."""
    return sum(segment.stop_s - segment.start_s for segment in segments)
