"""The tables that travel between the stages: what a stage takes and what it gives, as Arrow schemas.

    SEGMENT_SCHEMA ──► DecodeStage ──► DECODED_SCHEMA ──► EmbedStage ──► EMBEDDED_SCHEMA
                                                     └──► mapping.TagStage ──► OUTCOME_SCHEMA

A row is one segment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from halsted_ray.maps.table_schemas import GAP_TYPE
from halsted_ray.maps.timeline import Gap
from halsted_ray.profiling import StageProfile
from halsted_ray.records import Segment, Window
from halsted_ray.video.decoder_tally import DecoderCount

WINDOW_TYPE = pa.struct([("kind", pa.string()), ("start_s", pa.float64()), ("stop_s", pa.float64())])
"""The fields of ``records.Window``."""

SEGMENT_SCHEMA = pa.schema(
    [
        ("segment_id", pa.string()),
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("start_s", pa.float64()),
        ("stop_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("windows", pa.list_(WINDOW_TYPE)),
    ]
)
"""The fields of ``records.Segment``."""

PROFILE_TYPE = pa.list_(pa.struct([("stage", pa.string()), ("wall_s", pa.float64()), ("cpu_s", pa.float64())]))
"""Rows of ``profiling.StageProfile.rows``: one per stage that took time."""

DECODED_BY_TYPE = pa.list_(pa.struct([("decoder", pa.string()), ("reason", pa.string()), ("requests", pa.int64())]))
"""Rows of ``video.decoder_tally.DecoderTally``: who decoded, and why not NVDEC."""

DECODED_SCHEMA = pa.schema(
    [
        *SEGMENT_SCHEMA,
        ("frames", pa.large_binary()),
        ("gaps", pa.list_(GAP_TYPE)),
        ("profile", PROFILE_TYPE),
        ("decoded_by", DECODED_BY_TYPE),
    ]
)
"""``frames`` is uint8 [T, H, W, 3] at the times of ``video.windows.frame_times_s``, null where no time has a picture.
``gaps`` are the spans without picture, with the reasons; the frames of times in them are zeros. ``profile`` is what
decoding took."""

ENCODING_TYPE = pa.struct(
    [
        ("actor", pa.string()),
        ("clips", pa.int64()),
        ("computed", pa.int64()),
        ("busy_s", pa.float64()),
        ("loaded_at", pa.float64()),
        ("began_at", pa.float64()),
        ("first_at", pa.float64()),
        ("last_at", pa.float64()),
    ]
)
"""The fields of ``batching.EncodingFigures`` at the time of the row, and whose they are."""

EMBEDDED_SCHEMA = pa.schema(
    [
        ("segment_id", pa.string()),
        ("video_id", pa.string()),
        ("start_s", pa.float64()),
        ("stop_s", pa.float64()),
        ("stored", pa.int64()),
        (
            "mended",
            pa.list_(pa.struct([*WINDOW_TYPE, ("vector", pa.list_(pa.float16()))])),
        ),
        ("left_out", pa.list_(WINDOW_TYPE)),
        ("gaps", pa.list_(GAP_TYPE)),
        ("fatal", pa.string()),
        ("profile", PROFILE_TYPE),
        ("decoded_by", DECODED_BY_TYPE),
        ("encoding", ENCODING_TYPE),
    ]
)
"""What became of a segment that was embedded. ``stored``: number of windows whose vectors were stored. ``mended``:
windows that lack some pictures, with the vectors that were made from the others; these are not stored. ``left_out``:
windows that lack too many. ``fatal``: why the run must end, null where it need not."""

OUTCOME_SCHEMA = pa.schema(
    [
        ("segment_id", pa.string()),
        ("video_id", pa.string()),
        ("start_s", pa.float64()),
        ("stop_s", pa.float64()),
        ("state", pa.string()),
        ("message", pa.string()),
        ("profile", PROFILE_TYPE),
        ("decoded_by", DECODED_BY_TYPE),
        ("encoding", ENCODING_TYPE),
    ]
)
"""``state`` is one of ``maps.staging.STATES``, or one of ``NEEDS_FRAMES`` and ``FATAL``. ``profile`` is what all stages
of the segment took."""

NEEDS_FRAMES = "frames"
"""State of a segment that was not decoded and whose stored vectors are not enough."""
FATAL = "fatal"
"""State of a segment whose result can't be stored: the run must end."""


def segments_table(segments: Iterable[Segment]) -> pa.Table:
    """Rows of SEGMENT_SCHEMA."""
    return pa.Table.from_pylist([asdict(segment) for segment in segments], schema=SEGMENT_SCHEMA)


def decoded_table(
    segments: Sequence[Segment],
    frames: Sequence[np.ndarray | None],
    gaps: Sequence[Sequence[Gap]],
    profiles: Sequence[StageProfile],
    decoded_by: Sequence[Sequence[DecoderCount]],
) -> pa.Table:
    """Rows of DECODED_SCHEMA. ``frames`` are uint8 [T, H, W, 3]; the frames of a single segment are not copied."""
    rows = segments_table(segments)
    columns: dict[str, Any] = {name: rows[name] for name in SEGMENT_SCHEMA.names}
    columns["frames"] = _frames_column(frames)
    columns["gaps"] = [[asdict(gap) for gap in of_segment] for of_segment in gaps]
    columns["profile"] = [profile.rows() for profile in profiles]
    columns["decoded_by"] = [list(rows) for rows in decoded_by]
    return pa.table(columns, schema=DECODED_SCHEMA)


def segments_in(table: pa.Table) -> list[Segment]:
    """The segments of a table, one per row."""
    segments = []
    for row in table.select(SEGMENT_SCHEMA.names).to_pylist():
        windows = row.pop("windows")
        segments.append(Segment(**row, windows=windows and tuple(Window(**window) for window in windows)))
    return segments


def segment_of(row: pa.Table) -> Segment:
    """The segment of a table of one row."""
    return segments_in(row)[0]


def frames_of(row: pa.Table, image_size: tuple[int, int]) -> np.ndarray | None:
    """The frames in a table of one row, uint8 [T, H, W, 3], or None where there are none.

    The array lies where Arrow has its bytes: nothing is copied. ``image_size`` is (height, width).
    """
    if "frames" not in row.column_names:
        return None
    column = row["frames"].combine_chunks()
    if column.null_count:
        return None
    return np.frombuffer(column[0].as_buffer(), np.uint8).reshape(-1, *image_size, 3)


def gaps_of(row: pa.Table) -> list[Gap]:
    """The gaps in a table of one row."""
    return [Gap(**gap) for gap in row["gaps"][0].as_py()] if "gaps" in row.column_names else []


def decoded_by_of(row: pa.Table) -> list[DecoderCount]:
    """Who decoded the segment of a table of one row; nobody where the table has no frames."""
    return row["decoded_by"][0].as_py() if "decoded_by" in row.column_names else []


def profile_of(row: pa.Table) -> StageProfile:
    """The stage profile in a table of one row; an empty one where the table has none."""
    return StageProfile.from_rows(row["profile"][0].as_py() if "profile" in row.column_names else [])


def _frames_column(frames: Sequence[np.ndarray | None]) -> pa.LargeBinaryArray:
    if len(frames) == 1 and frames[0] is not None:
        offsets = pa.py_buffer(np.array([0, frames[0].nbytes], np.int64))
        data = pa.py_buffer(np.ascontiguousarray(frames[0]))
        return pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, data])
    return pa.array([None if images is None else images.tobytes() for images in frames], pa.large_binary())
