"""The records that travel between the parts of the package: frozen dataclasses, and the Arrow schemas of two tables.

Every time is in seconds (float), counted from the first displayed frame of the video. Every range is half-open:
``[start_s, stop_s)``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

JsonObject = dict[str, Any]
"""A JSON object as ``json.loads`` gives it: text to JSON values."""

FRAMES_PER_WINDOW = 16
"""Frames that the encoder sees per window (paper, Methods: clips of 16 frames)."""


@dataclass(frozen=True)
class Video:
    """One video file of an archive.

    ``video_id`` is computed from the file's bytes (``video.identity``), so a renamed or copied file keeps it. It is the
    only name of a video that logs, metrics and errors may carry, because a file's name can be a patient's name.
    ``width`` and ``height`` are pixels as displayed; ``fps`` is frames per second, 0 where the file does not say.
    """

    video_id: str
    uri: str
    size_bytes: int
    duration_s: float
    width: int
    height: int
    fps: float
    codec: str
    group: str = ""
    """What an atlas's video was cut from: a source video, an operation or a patient. '' means that it stands alone.
    Videos of one group are never in two parts of a split (``atlas.groups``)."""


@dataclass(frozen=True)
class WindowSpec:
    """How a video's time is cut: coarse windows for the macro task, fine windows inside them, 16 frames per window.

    Both lengths are multiples of 1/32 s, so that window edges are exact in binary floating point. The grid starts at
    0 s of every video. ``coarse_s`` is a whole multiple of ``fine_s``. Raises ValueError for other lengths.
    """

    coarse_s: float = 30.0
    fine_s: float = 2.5
    frames: int = FRAMES_PER_WINDOW

    def __post_init__(self) -> None:
        for name in ("coarse_s", "fine_s"):
            if getattr(self, name) <= 0 or (getattr(self, name) * 32) % 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected a positive multiple of 1/32 s")
        if (self.coarse_s / self.fine_s) % 1:
            raise ValueError(f"coarse_s={self.coarse_s} is not a whole multiple of fine_s={self.fine_s}")

    @property
    def fine_per_coarse(self) -> int:
        """How many fine windows fill one coarse window."""
        return int(self.coarse_s / self.fine_s)


@dataclass(frozen=True)
class Window:
    """The span ``[start_s, stop_s)`` of one video that the model looks at as one clip, cut at the video's end.

    ``kind`` is ``coarse`` or ``fine``, or ``clip`` for an annotated clip of any length. The window's 16 frames are the
    frames displayed at ``start_s + k * length_s / 16``, k = 0…15, where ``length_s`` is the full length of its kind.
    Times past the video's end repeat its last frame.
    """

    kind: str
    start_s: float
    stop_s: float


@dataclass(frozen=True)
class Segment:
    """The unit of work: the span ``[start_s, stop_s)`` of one video, on the grid of coarse windows.

    A segment lasts 60 to 300 s; the last segment of a video is shorter.
    """

    segment_id: str
    video_id: str
    uri: str
    start_s: float
    stop_s: float
    duration_s: float
    """Length of the whole video, so that the last windows are cut at its end."""
    windows: tuple[Window, ...] | None = None
    """The windows that are wanted, all of them in the span; None: those of the grid. A span with windows of its own
    need not lie on the grid."""


@dataclass(frozen=True)
class Prediction:
    """One answer of the model: ``tag`` of ``task`` has the value ``category`` in the window ``[start_s, stop_s)``.

    A window that is asked about a task gets one prediction per tag of that task (``taxonomy.Task``). ``confidence`` is
    the calibrated probability of ``category``, from 0 to 1. Predictions about neighbouring windows become the rows of
    the timeline (``maps.timeline``).
    """

    start_s: float
    stop_s: float
    task: str
    tag: str
    category: str
    confidence: float


SYNTHETIC = "synthetic"
SOURCES = ("manual", "ai", SYNTHETIC)
"""How a sample came to be: a person labelled it, a model labelled it, or the video itself was made for its label."""


@dataclass(frozen=True)
class Clip:
    """One sample of the atlas: the span of a clip, and the tags of one task that hold in it.

    ``tags`` maps tag name → category. ``source`` is one of ``SOURCES``; ``annotator`` names the person, the version of
    the model, or what drew the video. ``confidence`` runs from 0 to 1 and is 1 for samples that no model labelled.
    ``specialty`` and ``procedure`` describe the whole operation and are empty where the data set does not say.
    ``caption`` is free text (narrated data sets).
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
        """The id of the span: all samples (one per task) of one span share it."""
        return digest(self.video_id, self.start_s, self.stop_s)


@dataclass(frozen=True)
class Caption:
    """A sentence about the span ``[start_s, stop_s)`` of one video.

    ``level``: ``coarse``, ``mid`` or ``fine``, or ``video`` for a text about the whole. ``kind``: ``raw`` as it was
    said or written, ``enhanced`` as a program rewrote it, ``transcript`` for everything that was said. ``source``: the
    data set or the person. ``excluded``: why the source's own filters leave it out of training, '' where they keep it.
    """

    video_id: str
    start_s: float
    stop_s: float
    level: str
    text: str
    kind: str = "raw"
    source: str = ""
    excluded: str = ""


UNKNOWN = "unknown"
"""Tag, category and source of the rows of time that is outside of what the model has learned."""
UNKNOWN_REASON = "outside of what the model has learned: unlike its atlas"


PICTURES = "p2"
"""How a decoded frame becomes the picture that a model sees. It is part of the names of stored vectors and of recipes,
so that vectors of different pictures are not mixed: whoever changes the pictures of existing videos changes it too. p2
knows HD without tags as BT.709, mirrors, stereo pairs and fields."""


def digest(*parts: object) -> str:
    """16 hex digits computed from ``parts`` (JSON values).

    Ids are computed and not issued, so that a rerun finds the work that is already done.
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


VIDEO_SCHEMA: pa.Schema = pa.schema(
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
"""One row per video, a column per field of ``Video`` but its group, which only an atlas knows."""

ATLAS_VIDEO_SCHEMA: pa.Schema = VIDEO_SCHEMA.append(pa.field("group", pa.string()))
"""One row per video of an atlas, a column per field of ``Video``. Atlases from before groups lack the last column."""

SAMPLE_SCHEMA: pa.Schema = pa.schema(
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
"""One row per sample of the atlas, a column per field of ``Clip``, and ``clip_id``."""

CAPTION_SCHEMA: pa.Schema = pa.schema(
    [
        ("video_id", pa.string()),
        ("start_s", pa.float64()),
        ("stop_s", pa.float64()),
        ("level", pa.string()),
        ("text", pa.string()),
        ("kind", pa.string()),
        ("source", pa.string()),
        ("excluded", pa.string()),
    ]
)
"""One row per caption of an atlas, a column per field of ``Caption``."""


TIMELINE_ORDER = ("video_id", "start_s", "stop_s", "task", "tag", "category")
"""The order of a timeline's rows wherever they are read, exported, listed or numbered."""
