"""Frames of a segment become tags and vectors, both stored: the encoding stage of the pipeline, on a GPU where there
is one. The only place where a segment is declared finished."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import torch

from halsted_ray.errors import ModelError, OutputError, StorageUnavailable
from halsted_ray.mapping.decode_stage import SEGMENT_SCHEMA
from halsted_ray.mapping.workflow import SegmentPredictions, Workflow
from halsted_ray.maps.staging import SegmentResult, Staging
from halsted_ray.maps.timeline import Gap
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.profiling import PROCESS_PROFILE, ActorTimer, StageProfile
from halsted_ray.records import Segment, WindowSpec
from halsted_ray.storage.vectors import VectorStore

OUTCOME_SCHEMA = pa.schema(
    [
        ("segment_id", pa.string()),
        ("video_id", pa.string()),
        ("start_s", pa.float64()),
        ("stop_s", pa.float64()),
        ("state", pa.string()),
        ("message", pa.string()),
        ("profile", pa.string()),
    ]
)
"""``state``: as in ``staging.STATES``; ``frames`` where the stored vectors were not enough; ``fatal`` where nothing
can be stored any more, so that the run must end. ``profile``: JSON of ``profiling.StageProfile.asdict``, of all stages."""


class TagStage:
    """Table of segments, with or without frames, in; one row each with its outcome out.

    Callable of Ray Data; nothing in it knows Ray. ``model_digest`` is what the driver read at ``model``. ``windows``:
    those to ask instead of the workflow's.
    """

    def __init__(
        self,
        staging: tuple[str, str],
        store: tuple[str, str, str],
        model: str,
        encoder: str,
        model_digest: str,
        tasks: list[str],
        run_id: str,
        device: str = "cpu",
        windows: WindowSpec | None = None,
    ):
        if device == "cpu":
            torch.set_num_threads(1)
        loaded = Halsted.load(model, device)
        if loaded.digest != model_digest:
            raise ModelError(
                f"model {model!r} is another one here than where the run was started; put it at a "
                "location that all machines share, and don't change it during a run"
            )
        self.workflow = Workflow(loaded, Encoder.load(encoder, device=device), windows, tasks, windows is not None)
        self.staging, self.store, self.run_id = Staging(*staging), VectorStore(*store), run_id
        self.shift = ActorTimer()

    def __call__(self, segments: pa.Table) -> pa.Table:
        rows = []
        for number in range(len(segments)):
            row = segments.slice(number, 1)
            segment = Segment(**row.select(SEGMENT_SCHEMA.names).to_pylist()[0])
            spent = (
                StageProfile(**json.loads(row["profile"][0].as_py()))
                if "profile" in row.column_names
                else StageProfile()
            )
            with self.shift:
                try:
                    state, message = self._finish(segment, row, spent.wall_s["decode"])
                except (ModelError, OutputError, StorageUnavailable) as error:
                    state, message = "fatal", f"a result can't be stored or read: {error}"
            spent.merge(self.shift.spent)
            rows.append(
                {
                    "segment_id": segment.segment_id,
                    "video_id": segment.video_id,
                    "start_s": segment.start_s,
                    "stop_s": segment.stop_s,
                    "state": state,
                    "message": message,
                    "profile": json.dumps(spent.asdict()),
                }
            )
        return pa.Table.from_pylist(rows, schema=OUTCOME_SCHEMA)

    def _finish(self, segment: Segment, row: pa.Table, decode_s: float) -> tuple[str, str]:
        done = self.staging.state_of(segment)
        if done:
            return done, ""
        decoded = "frames" in row.column_names
        gaps = [Gap(**gap) for gap in json.loads(row["gaps"][0].as_py())] if decoded else []
        images_NHWC = self._frames(row) if decoded else None
        before = PROCESS_PROFILE.copy()
        with PROCESS_PROFILE.stage("read"):
            vectors = self.store.get(segment.video_id, segment.start_s, segment.stop_s)
        if decoded and images_NHWC is None:
            found = SegmentPredictions()
        else:
            found = self.workflow(segment, images_NHWC, vectors, [(gap.start_s, gap.stop_s) for gap in gaps])
        if found.needs_frames:
            return "frames", ""
        spent = PROCESS_PROFILE - before
        seconds = {"decode": decode_s, "encode": spent.wall_s["encode"], "tag": spent.wall_s["generate"]}
        result = SegmentResult(
            segment,
            found.tags,
            gaps,
            self.run_id,
            len(found.new_vectors),
            found.used_vectors,
            seconds,
            encoder=self.workflow.encoder.fingerprint,
            encoder_size=self.workflow.encoder.size_name,
            device=self.workflow.encoder.device_name,
        )
        with PROCESS_PROFILE.stage("write"):
            self.store.put(segment.video_id, segment.start_s, segment.stop_s, found.new_vectors)
            self.staging.write(result)
        return result.state, "; ".join(dict.fromkeys(gap.reason for gap in gaps))

    def _frames(self, row: pa.Table) -> np.ndarray | None:
        """uint8 [T, H, W, 3] that lies where Arrow has it: nothing is copied."""
        column = row["frames"].combine_chunks()
        if column.null_count:
            return None
        height, width = self.workflow.encoder.image_size
        return np.frombuffer(column[0].as_buffer(), np.uint8).reshape(-1, height, width, 3)
