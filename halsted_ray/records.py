"""What travels between the parts, as frozen dataclasses with their Arrow schemas.

Times are float seconds from the first displayed frame of the video stream ("the stream's start");
ranges are half-open, ``[start_s, stop_s)``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import pyarrow as pa

FRAMES_PER_WINDOW = 16
"""Frames the encoder sees per window (paper, Methods: clips of 16 frames)."""


@dataclass(frozen=True)
class Video:
    """One file of an archive.

    ``video_id`` is computed from the bytes (``video.identity``), so a renamed or copied file keeps it, and it
    is the only name that logs, metrics and errors may carry: a file's name can be a patient's name.
    """

    video_id: str
    uri: str
    size_bytes: int
    duration_s: float
    width: int
    height: int
    fps: float
    codec: str


@dataclass(frozen=True)
class WindowSpec:
    """How time is cut: coarse windows for the macro task, fine ones inside them, 16 frames in each.

    All lengths are multiples of 1/32 s so that window edges are exact in binary floating point. The grid
    starts at 0 of every video; ``coarse_s`` is a whole number of ``fine_s``.
    """

    coarse_s: float = 30.0
    fine_s: float = 2.5
    frames: int = FRAMES_PER_WINDOW

    def __post_init__(self):
        for name in ("coarse_s", "fine_s"):
            if getattr(self, name) <= 0 or (getattr(self, name) * 32) % 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected a positive multiple of 1/32 s")
        if (self.coarse_s / self.fine_s) % 1:
            raise ValueError(f"coarse_s={self.coarse_s} is not a whole number of fine_s={self.fine_s}")

    @property
    def fine_per_coarse(self) -> int:
        return int(self.coarse_s / self.fine_s)


@dataclass(frozen=True)
class Window:
    """``[start_s, stop_s)`` of one video, cut at the video's end; ``kind`` is ``coarse``, ``fine``, or ``clip`` for an
    annotated clip of any length that is one window.

    Its 16 frames are those shown at ``start_s + k * length_s / 16``, k = 0…15, where ``length_s`` is the full
    length of its kind; frames past the end repeat the last one.
    """

    kind: str
    start_s: float
    stop_s: float


@dataclass(frozen=True)
class Segment:
    """The unit of work: ``[start_s, stop_s)`` of one video, on the coarse grid, 60 to 300 s (the last is shorter)."""

    segment_id: str
    video_id: str
    uri: str
    start_s: float
    stop_s: float
    duration_s: float
    """Length of the whole video, so that the last windows know where it ends."""


@dataclass(frozen=True)
class Prediction:
    """One decision of the model about one window."""

    start_s: float
    stop_s: float
    task: str
    tag: str
    category: str
    confidence: float


@dataclass(frozen=True)
class Clip:
    """One sample of the atlas: a clip and the tags of one task (``tags``: tag name → category).

    ``source`` is ``manual`` or ``ai``; ``annotator`` then is a person, or the version of a model. ``specialty`` and
    ``procedure`` are those of the operation, '' where nobody said. ``caption`` is free text (narrated data sets).
    """

    video_id: str
    start_s: float
    stop_s: float
    task: str
    tags: dict[str, str]
    source: str = "manual"
    annotator: str = ""
    confidence: float = 1.0
    specialty: str = ""
    procedure: str = ""
    caption: str = ""

    @property
    def clip_id(self) -> str:
        """The same for all samples (tasks) of one span."""
        return digest(self.video_id, self.start_s, self.stop_s)


def digest(*parts: object) -> str:
    """16 hex digits that name ``parts`` (JSON values); ids are computed, so a rerun finds what is done."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


VIDEO_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("size_bytes", pa.int64()),
        ("duration_s", pa.float64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("fps", pa.float64()),
        ("codec", pa.string()),
    ]
)

SAMPLE_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("video_id", pa.string()),
        ("start_s", pa.float64()),
        ("stop_s", pa.float64()),
        ("task", pa.string()),
        ("tags", pa.map_(pa.string(), pa.string())),
        ("source", pa.string()),
        ("annotator", pa.string()),
        ("confidence", pa.float64()),
        ("specialty", pa.string()),
        ("procedure", pa.string()),
        ("caption", pa.string()),
    ]
)


TIMELINE_ORDER = ("video_id", "start_s", "stop_s", "task", "tag", "category")
"""The order of a timeline's rows wherever they are read, exported, listed or numbered."""
