"""The columns of the three Delta tables of a mapped archive, and the records that become their rows."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from halsted_ray.records import VIDEO_SCHEMA, Video


@dataclass(frozen=True)
class ArchiveFile:
    """One file of an archive that is named like a video."""

    video: Video
    stamp: str
    """The storage's own mark of the content (ETag, or time of change). While it and the size stay the same, the file is
    not read again."""
    code: str = ""
    reason: str = ""
    """Why the file can't be mapped; both are empty where it can be."""
    copy_of: str = ""
    """The uri of the file with the same id that is mapped instead. This file stands in where that one is damaged."""
    gone: bool = False
    """Whether the file was not among the videos of its archive when the archive was last listed. Its map is kept."""
    probe_version: int = 0
    """The ``probe.PROBE_VERSION`` by which it was probed. A file that an earlier version probed is probed again, since
    that version may have taken it for shorter, or for no video."""

    @property
    def is_mapped(self) -> bool:
        """Whether the file can be mapped and is not left out as a copy."""
        return not self.code and not self.copy_of


VIDEOS_SCHEMA = pa.schema(
    [
        *VIDEO_SCHEMA,
        ("stamp", pa.string()),
        ("code", pa.string()),
        ("reason", pa.string()),
        ("copy_of", pa.string()),
        ("gone", pa.bool_()),
        ("probe_version", pa.int32()),
    ]
)
"""Every file that was ever listed and that is still there or has a map; the fields of ``ArchiveFile``. ``uri`` is
``storage.locations.local_uri`` of a local file. ``gone`` and ``probe_version`` are null in rows that were written
before they existed."""

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
"""The fields of ``records.Prediction``."""

GAP_TYPE = pa.struct(
    [
        ("start_s", pa.float64()),
        ("stop_s", pa.float64()),
        ("code", pa.string()),
        ("reason", pa.string()),
    ]
)
"""The fields of ``maps.timeline.Gap``."""

UNASKED_TYPE = pa.struct(
    [
        ("task", pa.string()),
        ("start_s", pa.float64()),
        ("stop_s", pa.float64()),
        ("code", pa.string()),
    ]
)
"""The fields of ``maps.timeline.Unasked``."""

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
        ("unasked", pa.list_(UNASKED_TYPE)),
    ]
)
"""What became of every segment. ``state`` is one of ``maps.staging.STATES``; ``tasks`` are the names of the tasks that
were asked, joined by commas; ``decode_s``, ``encode_s`` and ``tag_s`` are wall seconds. ``encoder``
(a fingerprint), ``encoder_size``, ``device`` and ``unasked`` are those of ``maps.staging.SegmentResult``, and null in
rows that were written before these columns existed."""


@dataclass(frozen=True)
class Provenance:
    """Where the rows of a run come from. Some fields stand in every row, all in the metadata of every commit."""

    run_id: str
    recipe: str
    tasks: tuple[str, ...]
    model: str
    model_version: str
    atlas_release: str
    taxonomy_digest: str
    code_version: str
    unknown_share: float | None = None
    """From which share of unknown time on a whole video is unknown (``model.novelty``); None: the model can't say."""


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
        ("windows", pa.int32()),
        ("share", pa.float64()),
        ("margin", pa.float64()),
    ]
)
"""``source`` is ``ai``, or ``gap`` for a span that could not be mapped (``tag`` ``gap``, ``category`` its code), or
``unknown`` for a span that is outside of what the model has learned (``tag`` and ``category`` ``unknown``). Rows of
both kinds have confidence 0 and there is one for each task.
The last three columns are the evidence for a tag of the whole operation (``maps.timeline.Interval``): null in all other
rows, and in those that were written before these columns existed."""
