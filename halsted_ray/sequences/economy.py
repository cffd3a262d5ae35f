"""Economy of motion from the map itself: how many actions, how long, how much idle time, how often the needle is driven
again. Pure functions over rows; no picture is looked at.

What it must not be used for stands in ``WARNING``, and wherever the figures are shown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import pyarrow as pa

from halsted_ray.maps.reading import read_timeline
from halsted_ray.maps.stitch_table import taxonomy_of
from halsted_ray.maps.stitches import find_stitches
from halsted_ray.records import JsonObject
from halsted_ray.sequences.action_sequences import TAGS, Action, pieces_of_rows
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.taxonomy.names import fold

WARNING = (
    "For research and teaching alone. These figures come from a model's map: they depend on the case, the patient, the "
    "assistant and the model's mistakes. Do not use them for credentialing, to rank surgeons, or to judge a person."
)
IDLE_NAMES = ("idle",)
"""Categories (as ``taxonomy.names.fold`` gives them) in which nobody acts."""
DECIMALS = 4

ECONOMY_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("acting_s", pa.float64()),
        ("actions", pa.int32()),
        ("kinds", pa.int32()),
        ("median_action_s", pa.float64()),
        ("actions_per_min", pa.float64()),
        ("transitions", pa.int32()),
        ("transition_kinds", pa.int32()),
        ("idle_share", pa.float64()),
        ("stitches", pa.int32()),
        ("stitch_s", pa.float64()),
        ("repeated_attempts", pa.int32()),
        ("direct_path_share", pa.float64()),
        ("mean_confidence", pa.float64()),
        ("model_version", pa.string()),
    ]
)
"""A row per video: the fields of ``VideoEconomy``. It is computed whenever it is read."""
FEATURES = tuple(
    name
    for name in ECONOMY_SCHEMA.names
    if name not in ("video_id", "model_version", "mean_confidence", "acting_s", "actions", "transitions", "stitches")
)
"""The figures that a regression may learn from: those that do not only say how long the video is."""


@dataclass(frozen=True)
class VideoEconomy:
    """The figures of one video. None where the map does not say.

    ``acting_s``: seconds with an action, idle ones among them. ``actions``: runs of one category; ``kinds``: different
    categories. ``median_action_s``: of the length of a run. ``transitions``: from one action to the next without a gap
    between; ``transition_kinds``: different pairs. ``idle_share``: of ``acting_s``, 0 to 1; None where the taxonomy has
    no idle category. ``stitches`` and ``stitch_s`` (median seconds): see ``maps.stitches``. ``repeated_attempts``: how
    often the needle was driven again within a stitch. ``direct_path_share``: of the transitions between phases of
    suturing, those from handling to driving, to withdrawal, and to handling again. ``mean_confidence``: of the rows, by
    their length.
    """

    video_id: str
    acting_s: float
    actions: int
    kinds: int
    median_action_s: float | None
    actions_per_min: float | None
    transitions: int
    transition_kinds: int
    idle_share: float | None
    stitches: int | None
    stitch_s: float | None
    repeated_attempts: int | None
    direct_path_share: float | None
    mean_confidence: float | None
    model_version: str


def read_economy(
    out: str, tags: Sequence[str] = TAGS, taxonomy: Taxonomy | None = None, video_ids: Collection[str] = ()
) -> list[VideoEconomy]:
    """The figures of each video that was mapped to ``out``, in the order of the ids; of ``video_ids`` alone where any
    is given.

    ``taxonomy``: of maps whose taxonomy does not ship with this package. Raises UsageError where nothing was mapped to
    ``out`` and for a taxonomy that is not known, OutputError.
    """
    by_video: dict[str, list[dict[str, Any]]] = {}
    for row in read_timeline(out).to_pylist():
        if not video_ids or row["video_id"] in video_ids:
            by_video.setdefault(row["video_id"], []).append(row)
    return [
        economy_of(video_id, rows, taxonomy_of(rows[0]["taxonomy_digest"], taxonomy), tags, rows[0]["model_version"])
        for video_id, rows in sorted(by_video.items())
    ]


def economy_of(
    video_id: str,
    rows: Iterable[Mapping[str, Any]],
    taxonomy: Taxonomy,
    tags: Sequence[str] = TAGS,
    model_version: str = "",
) -> VideoEconomy:
    """The figures of the ``rows`` of one video, rows of ``table_schemas.TIMELINE_SCHEMA`` in any order."""
    rows = list(rows)
    pieces = pieces_of_rows(rows, tags)
    actions = [action for piece in pieces for action in piece]
    lengths_s = [action.stop_s - action.start_s for action in actions]
    acting_s = sum(lengths_s)
    pairs = [(before.symbol, after.symbol) for piece in pieces for before, after in pairwise(piece)]
    has_idle = any(fold(name) in IDLE_NAMES for tag in taxonomy.tags if tag.name in tags for name in tag.categories)
    idle_s = sum(action.stop_s - action.start_s for action in actions if fold(action.symbol[1]) in IDLE_NAMES)
    sure = sum(action.confidence * length_s for action, length_s in zip(actions, lengths_s, strict=True))
    return VideoEconomy(
        video_id,
        acting_s=round(acting_s, DECIMALS),
        actions=len(actions),
        kinds=len({action.symbol for action in actions}),
        median_action_s=round(median(lengths_s), DECIMALS) if actions else None,
        actions_per_min=round(60 * len(actions) / acting_s, DECIMALS) if acting_s else None,
        transitions=len(pairs),
        transition_kinds=len(set(pairs)),
        idle_share=round(idle_s / acting_s, DECIMALS) if acting_s and has_idle else None,
        **_suturing(rows, taxonomy),
        mean_confidence=round(sure / acting_s, DECIMALS) if acting_s else None,
        model_version=model_version,
    )


def _suturing(rows: Sequence[Mapping[str, Any]], taxonomy: Taxonomy) -> dict[str, Any]:
    """The figures about stitches; None of each where the map says nothing of suturing."""
    names = ("stitches", "stitch_s", "repeated_attempts", "direct_path_share")
    roles = taxonomy.stitch
    if roles is None or not any(row["tag"] == roles.phase for row in rows):
        return dict.fromkeys(names)
    role_of = {
        category: k for k, group in enumerate((roles.handling, roles.driving, roles.withdrawal)) for category in group
    }
    pieces = pieces_of_rows(rows, (roles.phase,))
    steps = [
        (role_of.get(before.symbol[1]), role_of.get(after.symbol[1]))
        for piece in pieces
        for before, after in pairwise(piece)
    ]
    steps = [pair for pair in steps if None not in pair and pair[0] != pair[1]]
    found = find_stitches(rows, taxonomy)
    drives_s = sorted(action.start_s for piece in pieces for action in _runs(piece, set(roles.driving)))
    again = sum(
        max(0, bisect_left(drives_s, stitch.stop_s) - bisect_left(drives_s, stitch.start_s) - 1) for stitch in found
    )
    direct = sum(pair in ((0, 1), (1, 2), (2, 0)) for pair in steps)
    return {
        "stitches": len(found),
        "stitch_s": round(median(one.stop_s - one.start_s for one in found), DECIMALS) if found else None,
        "repeated_attempts": again,
        "direct_path_share": round(direct / len(steps), DECIMALS) if steps else None,
    }


def _runs(piece: Sequence[Action], categories: Collection[str]) -> list[Action]:
    """The first action of each run of ``categories``."""
    is_in = [action.symbol[1] in categories for action in piece]
    return [action for n, action in enumerate(piece) if is_in[n] and not (n and is_in[n - 1])]


def economy_rows(videos: Iterable[VideoEconomy]) -> list[JsonObject]:
    """Rows of ECONOMY_SCHEMA."""
    return [asdict(video) for video in videos]
