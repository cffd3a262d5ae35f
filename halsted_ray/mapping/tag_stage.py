"""Frames of a segment become vectors and tags, and both are stored: the encoding stage of the pipeline, on a GPU where
there is one. The only place where a segment is declared finished."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from halsted_ray.compute.resources import ActorResources
from halsted_ray.embedding.embed_stage import EncodingActor, prepare_torch
from halsted_ray.embedding.stage_schemas import (
    DECODED_SCHEMA,
    FATAL,
    NEEDS_FRAMES,
    OUTCOME_SCHEMA,
    decoded_by_of,
    frames_of,
    gaps_of,
    profile_of,
    segment_of,
)
from halsted_ray.errors import ModelError, OutputError, StorageUnavailable
from halsted_ray.mapping.workflow import Workflow
from halsted_ray.maps.staging import SegmentResult, Staging
from halsted_ray.maps.timeline import Gap, Unasked, unknown_spans
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.profiling import THREAD_PROFILE, ActorTimer
from halsted_ray.records import Segment, WindowSpec
from halsted_ray.storage.vectors import VectorStore, encoder_name
from halsted_ray.video.presence import LEAST_PRESENT, Span


@dataclass(frozen=True)
class TagOptions:
    """What the tagging actors of a run need to know."""

    out: str
    """Where the maps lie; finished segments are staged there."""
    recipe: str
    """Digest of the ``MappingRecipe``."""
    run_id: str
    vectors: str
    """Location of the vector store."""
    encoder_fingerprint: str
    precision: str
    """In which the encoder runs: one of ``model.precision.PRECISIONS``."""
    sampling: str
    """Name of ``storage.vectors.sampling_name``: how the frames of a window were picked."""
    model: str
    encoder: str
    """Where the model and its encoder lie."""
    model_digest: str
    """Digest of the model that the driver read at ``model``."""
    tasks: tuple[str, ...]
    windows: WindowSpec | None = None
    """Every window of these lengths is asked the tasks, instead of the model's windows by the workflow."""
    device: str = "cpu"
    callers: int = 1
    """How many calls an actor gets at once."""
    least_present: float = LEAST_PRESENT
    """Share of a window's time that must have a picture (``video.presence``)."""

    def open_vectors(self) -> VectorStore:
        """The store of vectors that fit the encoder and the frames of this run."""
        return VectorStore(self.vectors, encoder_name(self.encoder_fingerprint, self.precision), self.sampling)


class TagStage:
    """Table of segments in, one row per segment with its outcome out. A callable for Ray Data that knows nothing of
    Ray; many calls may be under way at once.

    Raises ModelError where the model at ``TagOptions.model`` is not the one that the driver read.
    """

    input_schema = DECODED_SCHEMA
    """Rows of SEGMENT_SCHEMA alone are tagged from stored vectors."""
    output_schema = OUTCOME_SCHEMA
    resources = ActorResources(cpus=1.0, gpus=1.0, memory_mb=440)

    def __init__(self, options: TagOptions):
        prepare_torch(options.device)
        model = Halsted.load(options.model, options.device)
        if model.digest != options.model_digest:
            raise ModelError(
                f"the model at {options.model!r} on this machine is not the one that the run was started with; put the "
                "model at a location that all machines share, and don't change it during a run"
            )
        self.options = options
        self.actor = EncodingActor(
            Encoder.load(options.encoder, device=options.device, precision=options.precision), options.callers
        )
        self.workflow = Workflow(
            model,
            self.actor.encoder,
            options.windows,
            options.tasks,
            ask_every_window=options.windows is not None,
            least_present=options.least_present,
        )
        self.staging, self.store = Staging(options.out, options.recipe), options.open_vectors()
        self.timer = ActorTimer()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows of DECODED_SCHEMA (or SEGMENT_SCHEMA) in, rows of OUTCOME_SCHEMA out, in the same order."""
        outcomes = []
        for number in range(len(table)):
            row = table.slice(number, 1)
            segment, profile = segment_of(row), profile_of(row)
            with self.timer:
                try:
                    state, message = self._finish(segment, row, profile.wall_s["decode"])
                except (ModelError, OutputError, StorageUnavailable) as error:
                    state, message = FATAL, f"a result can't be stored or read: {error}"
            profile.merge(self.timer.spent)
            outcomes.append(
                {
                    "segment_id": segment.segment_id,
                    "video_id": segment.video_id,
                    "start_s": segment.start_s,
                    "stop_s": segment.stop_s,
                    "state": state,
                    "message": message,
                    "profile": profile.rows(),
                    "decoded_by": decoded_by_of(row),
                    "encoding": self.actor.figures(),
                }
            )
        return pa.Table.from_pylist(outcomes, schema=OUTCOME_SCHEMA)

    def _finish(self, segment: Segment, row: pa.Table, decode_s: float) -> tuple[str, str]:
        """(state, message) of the segment; unless it needs frames, its result is staged and its vectors are stored."""
        finished = self.staging.state_of(segment)
        if finished:
            return finished, ""
        images_NHWC, gaps = frames_of(row, self.workflow.encoder.image_size), gaps_of(row)
        before = THREAD_PROFILE.copy()
        with THREAD_PROFILE.stage("read"):
            vectors = self.store.get(segment.video_id, segment.start_s, segment.stop_s)
        predictions = self.workflow(segment, images_NHWC, vectors, [(gap.start_s, gap.stop_s) for gap in gaps])
        if predictions.needs_frames:
            return NEEDS_FRAMES, ""
        spent = THREAD_PROFILE - before
        result = SegmentResult(
            segment,
            predictions.tags,
            gaps,
            self.options.run_id,
            len(predictions.new_vectors) + predictions.passing_vectors,
            predictions.used_vectors,
            {"decode": decode_s, "encode": spent.wall_s["encode"], "tag": spent.wall_s["generate"]},
            encoder=self.workflow.encoder.fingerprint,
            encoder_size=self.workflow.encoder.size_name,
            device=self.actor.encoder.device_name,
            unasked=[
                *(Unasked(*span, longest_code(gaps, span[1:])) for span in predictions.unasked),
                *unknown_spans(predictions.unknown),
            ],
        )
        with THREAD_PROFILE.stage("write"):
            self.store.put(segment.video_id, segment.start_s, segment.stop_s, predictions.new_vectors)
            self.staging.write(result)
        return result.state, "; ".join(dict.fromkeys(gap.reason for gap in gaps))


def longest_code(gaps: Sequence[Gap], span: Span) -> str:
    """The code that most of the gap time inside ``span`` has."""
    seconds: dict[str, float] = defaultdict(float)
    for gap in gaps:
        seconds[gap.code] += max(0.0, min(gap.stop_s, span[1]) - max(gap.start_s, span[0]))
    return max(seconds, key=lambda code: seconds[code])
