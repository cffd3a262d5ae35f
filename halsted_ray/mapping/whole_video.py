"""The timeline of a whole video, when all of its segments are finished: what no single segment can say.

    answers of the windows ──► --refine: the tags over the stored vectors of the video (``refining.refinement``)
                           ──► specialty and procedure, once for the operation     (``refining.operation``)
                           ──► merged to a timeline, less its gaps                   (``maps.timeline``)

Where a window has no stored vector (it touches a gap, or the workflow did not look there), and where the model says
that it does not know, the answers of the windows stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from halsted_ray.maps.staging import SegmentResult
from halsted_ray.maps.timeline import Interval, merge
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import UNKNOWN, Prediction
from halsted_ray.refining.operation import OperationTag, operation_tags
from halsted_ray.refining.refinement import Refinement
from halsted_ray.refining.slots import SLOTS, VideoSequence, sequence_of
from halsted_ray.storage.vectors import VectorStore
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.video.presence import Span, overlapping, union, without


@dataclass(frozen=True)
class Refiner:
    """What ``--refine`` needs: the model, its refinement, and which ``kind`` is asked for."""

    model: Halsted
    refinement: Refinement
    kind: str

    @classmethod
    def load(cls, model: str, kind: str) -> Refiner:
        """Reads model and refinement. Raises ModelError."""
        return cls(Halsted.load(model), Refinement.load(model), kind)


@dataclass(frozen=True)
class WholeVideo:
    """Makes the timeline of each video of a run. ``refiner``: None where the answers of the windows stand."""

    taxonomy: Taxonomy
    tasks: Sequence[str]
    vectors: VectorStore
    refiner: Refiner | None = None

    def __call__(self, results: Sequence[SegmentResult]) -> list[Interval]:
        """The timeline of the video whose segments ``results`` are, all of them and in order of time.

        A tag of the operation gets one row from 0 to the video's end, over gaps too: it states what was operated, and
        not what was seen. Raises StorageUnavailable.
        """
        tags = [tag for result in results for tag in result.tags]
        of_operation = operation_tags(self.taxonomy, tags)
        decided = {found.tag for found in of_operation}
        tags = [tag for tag in tags if tag.tag not in decided]
        if self.refiner is not None:
            unknown = union((s.start_s, s.stop_s) for result in results for s in result.unasked if s.code == UNKNOWN)
            segment = results[0].segment
            tags = self._refined(self.refiner, tags, segment.video_id, segment.duration_s, unknown)
        rows = merge(
            tags,
            [gap for result in results for gap in result.gaps],
            self.tasks,
            [span for result in results for span in result.unasked],
        )
        rows += [_row(found, results[0].segment.duration_s) for found in of_operation]
        return sorted(rows, key=lambda row: (row.start_s, row.task, row.tag))

    def _refined(
        self, refiner: Refiner, tags: list[Prediction], video_id: str, duration_s: float, unknown: list[Span]
    ) -> list[Prediction]:
        """``tags`` with those in their place that the refinement gives where there are vectors. ``unknown``: the spans
        that the model does not know, which stay as they are."""
        stored = self.vectors.get(video_id, 0.0, duration_s)
        sequence = sequence_of(stored, refiner.model.config.windows.fine_s)
        if sequence is None:
            return tags
        closed_T = np.zeros(len(sequence.present_W) * SLOTS, bool)
        for start_s, stop_s in unknown:
            closed_T |= (sequence.middle_s_T >= start_s) & (sequence.middle_s_T < stop_s)
        refined = refiner.refinement.refine(refiner.model, sequence, self.tasks, refiner.kind, closed_T)
        spans = [part for span in _present(sequence) for part in without(span, overlapping(unknown, span))]
        kept = [
            replace(tag, start_s=start_s, stop_s=stop_s)
            for tag in tags
            for span in ((tag.start_s, tag.stop_s),)
            for start_s, stop_s in (
                without(span, overlapping(spans, span))
                if tag.tag in refiner.refinement.stated[refiner.kind]
                else [span]
            )
        ]
        return kept + refined


def _present(sequence: VideoSequence) -> list[Span]:
    """The spans of the windows that have a vector."""
    starts_s = np.flatnonzero(sequence.present_W) * sequence.fine_s
    return union((start_s, min(start_s + sequence.fine_s, sequence.stop_s)) for start_s in starts_s.tolist())


def _row(found: OperationTag, duration_s: float) -> Interval:
    return Interval(
        0.0,
        duration_s,
        found.task,
        found.tag,
        found.category,
        found.confidence,
        "ai",
        found.windows,
        found.share,
        found.margin,
    )
