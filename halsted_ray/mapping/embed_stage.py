"""Windows and frames become vectors: the one place where mapping calls the encoder.

``Workflow`` calls ``encode_windows`` for the windows that it decides to look at. ``EmbedStage`` gives the vectors of
all windows of a segment, for an archive that is embedded without being mapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from halsted_ray.compute.resources import ActorResources
from halsted_ray.mapping.stage_schemas import DECODED_SCHEMA, VECTOR_SCHEMA, frames_of, gaps_of, segment_of
from halsted_ray.model.encoder import Encoder
from halsted_ray.profiling import PROCESS_PROFILE
from halsted_ray.records import Segment, Window, WindowSpec
from halsted_ray.video.presence import stand_ins
from halsted_ray.video.windows import frame_rows, windows_of


def encode_windows(
    encoder: Encoder,
    segment: Segment,
    images_NHWC: np.ndarray,
    windows: Sequence[Window],
    spec: WindowSpec,
    present_T: np.ndarray | None = None,
) -> np.ndarray:
    """Vectors of ``windows``, float16 [N, D], in one batch; row n depends on window n alone.

    ``images_NHWC``: uint8, the frames of ``segment`` at ``video.windows.frame_times_s(segment, spec)``. ``present_T``:
    bool, which of them have a picture (None: all); the others are replaced as ``video.presence`` says.
    """
    with PROCESS_PROFILE.stage("encode"):
        rows_NT = np.stack([frame_rows(window, segment, spec) for window in windows])
        if present_T is not None and not present_T.all():
            rows_NT = np.stack([rows_T[stand_ins(present_T[rows_T])] for rows_T in rows_NT])
        return encoder.encode(images_NHWC[rows_NT])


@dataclass(frozen=True)
class EmbedOptions:
    """What the embedding actors of a run need to know."""

    encoder: str
    """Reference of the encoder, as ``Encoder.load`` takes it."""
    spec: WindowSpec
    device: str = "cpu"


class EmbedStage:
    """Table of decoded segments in, one row per window with its vector out. A callable for Ray Data."""

    input_schema = DECODED_SCHEMA
    output_schema = VECTOR_SCHEMA
    resources = ActorResources(cpus=1.0, gpus=1.0, memory_mb=440)

    def __init__(self, options: EmbedOptions):
        if options.device == "cpu":
            torch.set_num_threads(1)
        self.options = options
        self.encoder = Encoder.load(options.encoder, device=options.device)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows of DECODED_SCHEMA in, rows of VECTOR_SCHEMA out: the coarse and then the fine windows of each segment.
        A window that touches a gap has no row, as it has none in the store of vectors."""
        tables = [self._embed(table.slice(number, 1)) for number in range(len(table))]
        return pa.concat_tables([VECTOR_SCHEMA.empty_table(), *tables])

    def _embed(self, row: pa.Table) -> pa.Table:
        segment, images_NHWC, gaps = segment_of(row), frames_of(row, self.encoder.image_size), gaps_of(row)
        coarse, fine_of = windows_of(segment, self.options.spec)
        windows = [
            window
            for window in [*coarse, *(window for fine in fine_of.values() for window in fine)]
            if not any(gap.start_s < window.stop_s and window.start_s < gap.stop_s for gap in gaps)
        ]
        if images_NHWC is None or not windows:
            return VECTOR_SCHEMA.empty_table()
        vectors_ND = encode_windows(self.encoder, segment, images_NHWC, windows, self.options.spec)
        columns = {
            "video_id": [segment.video_id] * len(windows),
            "kind": [window.kind for window in windows],
            "start_s": [window.start_s for window in windows],
            "stop_s": [window.stop_s for window in windows],
            "vector": list(vectors_ND),
        }
        return pa.table(columns, schema=VECTOR_SCHEMA)
