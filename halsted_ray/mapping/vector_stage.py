"""Stored vectors become tags, many segments at once: the only stage of a segment that needs no frames.

Nothing is decoded and the encoder's weights are not even read. A batch of segments is read, mapped and staged together:
one read per video, one batch of the decoder per step of the workflow (``Workflow.map_many``). Each segment is still
staged as a file of its own, so a run that is killed resumes after the last one.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby

import numpy as np
import pyarrow as pa

from halsted_ray.embedding.batching import EncodingFigures
from halsted_ray.embedding.embed_stage import prepare_torch
from halsted_ray.embedding.stage_schemas import FATAL, NEEDS_FRAMES, OUTCOME_SCHEMA, SEGMENT_SCHEMA, segments_in
from halsted_ray.errors import ModelError, OutputError, StorageUnavailable
from halsted_ray.mapping.tag_stage import TagOptions, TagStage
from halsted_ray.mapping.workflow import Workflow
from halsted_ray.maps.staging import SegmentResult, Staging
from halsted_ray.maps.timeline import unknown_spans
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.model.halsted import Halsted
from halsted_ray.profiling import THREAD_PROFILE, ActorTimer, StageProfile
from halsted_ray.records import Segment
from halsted_ray.storage.vectors import WindowKey

SEGMENTS_AT_ONCE = 64
"""Segments of a batch: some 1,500 fine windows for each of their tasks, and 5 MB of vectors at D = 1408."""


class VectorStage:
    """Table of segments in, one row per segment with its outcome out. A callable for Ray Data that knows nothing of
    Ray; many calls may be under way at once.

    Raises ModelError where the model at ``TagOptions.model`` is not the one that the driver read.
    """

    input_schema = SEGMENT_SCHEMA
    output_schema = OUTCOME_SCHEMA
    resources = TagStage.resources  # not more than that: it holds no frames and no encoder

    def __init__(self, options: TagOptions):
        prepare_torch(options.device)
        self.model = Halsted.load(options.model, options.device)
        if self.model.digest != options.model_digest:
            raise ModelError(
                f"the model at {options.model!r} on this machine is not the one that the run was started with; put the "
                "model at a location that all machines share, and don't change it during a run"
            )
        self.options, self.encoder = options, encoder_identity(options.encoder)
        self.workflow = Workflow(
            self.model,
            self.encoder,
            options.windows,
            options.tasks,
            ask_every_window=options.windows is not None,
            least_present=options.least_present,
        )
        self.staging, self.store = Staging(options.out, options.recipe), options.open_vectors()
        self.timer = ActorTimer()
        self.encoding = {"actor": uuid.uuid4().hex, **asdict(EncodingFigures(loaded_at=time.time()))}

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows of SEGMENT_SCHEMA in, rows of OUTCOME_SCHEMA out, in the same order. The first row has the profile of
        the whole batch."""
        segments = segments_in(table)
        message = ""
        with self.timer:
            try:
                states = self._finish(segments)
            except (ModelError, OutputError, StorageUnavailable) as error:
                states, message = dict.fromkeys(segments, FATAL), f"a result can't be stored or read: {error}"
        return pa.Table.from_pylist(
            [
                {
                    "segment_id": segment.segment_id,
                    "video_id": segment.video_id,
                    "start_s": segment.start_s,
                    "stop_s": segment.stop_s,
                    "state": states[segment],
                    "message": message,
                    "profile": (StageProfile() if number else self.timer.spent).rows(),
                    "decoded_by": [],
                    "encoding": self.encoding,
                }
                for number, segment in enumerate(segments)
            ],
            schema=OUTCOME_SCHEMA,
        )

    def _finish(self, segments: Sequence[Segment]) -> dict[Segment, str]:
        """Segment → its state. What is not staged yet is mapped and staged, unless it needs frames."""
        states: dict[Segment, str] = {}
        waiting: list[Segment] = []
        vectors: list[Mapping[WindowKey, np.ndarray]] = []
        for video_id, of_video in groupby(segments, key=lambda segment: segment.video_id):
            staged, left = self.staging.states_of(video_id), []
            for segment in of_video:
                if segment.segment_id in staged:
                    states[segment] = staged[segment.segment_id]
                else:
                    left.append(segment)
            if left:
                with THREAD_PROFILE.stage("read"):
                    stored = self.store.get(video_id, min(one.start_s for one in left), max(one.stop_s for one in left))
                waiting += left
                vectors += [stored] * len(left)
        before = THREAD_PROFILE.copy()
        found = self.workflow.map_many(waiting, vectors)
        tag_s = (THREAD_PROFILE - before).wall_s["generate"] / max(1, len(waiting))
        results = []
        for segment, predictions in zip(waiting, found, strict=True):
            if predictions.needs_frames:
                states[segment] = NEEDS_FRAMES
                continue
            result = SegmentResult(
                segment,
                predictions.tags,
                [],
                self.options.run_id,
                0,
                predictions.used_vectors,
                {"decode": 0.0, "encode": 0.0, "tag": tag_s},
                encoder=self.encoder.fingerprint,
                encoder_size=self.encoder.size_name,
                device=self.model.device_name,
                unasked=unknown_spans(predictions.unknown),
            )
            results.append(result)
            states[segment] = result.state
        with THREAD_PROFILE.stage("write"):
            self.staging.write_many(results)
        return states
