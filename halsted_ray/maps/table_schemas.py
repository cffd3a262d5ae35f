"""TODO."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from halsted_ray.records import VIDEO_SCHEMA, Video


@dataclass(frozen=True)
class ArchiveFile:
    """One file. ``code`` is empty where the video can be mapped, else it and ``reason`` say why not.

    ``stamp`` is the storage's own mark of the content (ETag, or time of change): while it and the size stay, the
    file is not read again. ``copy_of`` is the uri of the file with the same id that is mapped instead; this one
    stands in where that one is damaged.
    """

    video: Video
    stamp: str
    code: str = ""
    reason: str = ""
    copy_of: str = ""

    @property
    def is_mapped(self) -> bool:
        return not self.code and not self.copy_of


VIDEOS_SCHEMA = pa.schema(
    [
        *VIDEO_SCHEMA,
        ("stamp", pa.string()),
        ("code", pa.string()),
        ("reason", pa.string()),
        ("copy_of", pa.string()),
    ]
)


PREDICTION_TYPE = pa.struct(
    [
        ("start_s", pa.float64()),
        ("stop_s", pa.float64()),
        ("task", pa.string()),
        ("tag", pa.string()),
        ("category", pa.string()),
        ("confidence", pa.float64()),
    ]
)


GAP_TYPE = pa.struct(
    [
        ("start_s", pa.float64()),
        ("stop_s", pa.float64()),
        ("code", pa.string()),
        ("reason", pa.string()),
    ]
)


SEGMENTS_SCHEMA = pa.schema(
    [
        ("segment_id", pa.string()),
        ("video_id", pa.string()),
        ("start_s", pa.float64()),
        ("stop_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("state", pa.string()),
        ("tasks", pa.string()),
        ("recipe", pa.string()),
        ("run_id", pa.string()),
        ("model_version", pa.string()),
        ("new_vectors", pa.int32()),
        ("used_vectors", pa.int32()),
        ("decode_s", pa.float64()),
        ("encode_s", pa.float64()),
        ("tag_s", pa.float64()),
        ("tags", pa.list_(PREDICTION_TYPE)),
        ("gaps", pa.list_(GAP_TYPE)),
        ("encoder", pa.string()),
        ("encoder_size", pa.string()),
        ("device", pa.string()),
    ]
)
"""``encoder`` is a fingerprint. It, ``encoder_size`` and ``device`` (see ``staging.SegmentResult``) are null in rows that were
written before there were these columns."""


@dataclass(frozen=True)
class Provenance:
    """Where a run's rows come from: stands in every row, and in the commit's metadata."""

    run_id: str
    recipe: str
    tasks: tuple[str, ...]
    model: str
    model_version: str
    atlas_release: str
    taxonomy_digest: str
    code_version: str


TIMELINE_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("start_s", pa.float64()),
        ("stop_s", pa.float64()),
        ("task", pa.string()),
        ("tag", pa.string()),
        ("category", pa.string()),
        ("confidence", pa.float64()),
        ("source", pa.string()),
        ("model", pa.string()),
        ("model_version", pa.string()),
        ("atlas_release", pa.string()),
        ("taxonomy_digest", pa.string()),
    ]
)
"""``source`` is ``ai``, or ``gap`` for a span that could not be mapped (``tag`` ``gap``, ``category`` the reason)."""
