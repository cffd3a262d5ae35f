"""What became of each segment: rows of the last stage, added up as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa

from halsted_ray.compute.progress import Progress, RunObserver
from halsted_ray.embedding.batching import EncodingFigures
from halsted_ray.embedding.stage_schemas import FATAL, NEEDS_FRAMES
from halsted_ray.errors import OutputError
from halsted_ray.mapping.stage_counters import StageCounters
from halsted_ray.profiling import StageProfile
from halsted_ray.video.decoder_tally import DecoderCount, DecoderTally


@dataclass(frozen=True)
class SegmentOutcome:
    """A row of ``stage_schemas.OUTCOME_SCHEMA``."""

    segment_id: str
    video_id: str
    start_s: float
    stop_s: float
    state: str
    message: str
    profile: StageProfile
    decoded_by: list[DecoderCount]
    actor: str
    """Which actor tagged it."""
    figures: EncodingFigures
    """What the encoder of the actor had done until then."""


def read_outcomes(table: pa.Table) -> Iterator[SegmentOutcome]:
    """The rows of a table of OUTCOME_SCHEMA."""
    for row in table.to_pylist():
        encoding = row.pop("encoding")
        yield SegmentOutcome(
            **{
                **row,
                "profile": StageProfile.from_rows(row["profile"]),
                "actor": encoding.pop("actor"),
                "figures": EncodingFigures(**encoding),
            }
        )


class OutcomeTally:
    """Adds up the outcomes of a run and reports progress to the observer.

    ``total_s``: video-seconds of all segments; ``begun_s``: video-seconds of the segments that earlier runs finished.
    ``on_finished`` is called with the outcome of each finished segment.
    """

    def __init__(
        self,
        total_s: float,
        begun_s: float,
        observer: RunObserver,
        on_finished: Callable[[SegmentOutcome], None] = lambda outcome: None,
    ):
        self.total_s, self.begun_s, self.done_s = total_s, begun_s, begun_s
        self.observer, self.on_finished = observer, on_finished
        self.failed = 0
        self.profile = StageProfile()
        self.decoders = DecoderTally()
        """Who decoded."""
        self.encoding: dict[str, EncodingFigures] = {}
        """Actor → what its encoder has done until now."""
        self.counters: StageCounters | None = None
        self.started_s = time.monotonic()

    def count_for_prometheus(self) -> None:
        """From now on outcomes are counted for Prometheus too. This process must be connected to a cluster."""
        self.counters = self.counters or StageCounters()

    def follow(self, count: int, outcomes: Generator[SegmentOutcome, None, None]) -> list[SegmentOutcome]:
        """Adds up ``outcomes`` (of ``count`` segments) to their end; returns those of the segments that need frames.

        Raises OutputError where an actor can't store its results any more.
        """
        needing_frames, came = [], 0
        with closing(outcomes):  # else Ray ends the stages some time later, and logs that after our last message
            for outcome in outcomes:
                came += 1
                if outcome.state == FATAL:
                    raise OutputError(outcome.message)
                self.profile.merge(outcome.profile)
                self.decoders.add_rows(outcome.decoded_by)
                before = self.encoding.get(outcome.actor)
                if before is None or before.last_at <= outcome.figures.last_at:
                    self.encoding[outcome.actor] = outcome.figures
                if outcome.state == NEEDS_FRAMES:
                    needing_frames.append(outcome)
                else:
                    self._add(outcome)
        assert came == count, f"{count} segments were given to the stages, and {came} outcomes came back"
        return needing_frames

    def _add(self, outcome: SegmentOutcome) -> None:
        video_s = outcome.stop_s - outcome.start_s
        self.failed += outcome.state != "done"
        self.done_s += video_s
        if self.counters:
            self.counters.count(video_s, outcome.state, outcome.profile)
        elapsed_s = time.monotonic() - self.started_s
        self.observer.on_progress(Progress(self.done_s, self.total_s, self.begun_s, self.failed, elapsed_s))
        self.on_finished(outcome)
