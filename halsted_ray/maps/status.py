"""How far each video is, from what is published and what is staged; during a run as well as after it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from halsted_ray.errors import UsageError
from halsted_ray.maps.reading import last_published, read_videos, segment_batches
from halsted_ray.maps.staging import MappingRun, stagings
from halsted_ray.maps.table_schemas import ArchiveFile
from halsted_ray.maps.unknown import unknown_seconds
from halsted_ray.video.presence import Span, union

STATUSES = ("mapped", "partial", "failed", "pending")

VideoStatus: TypeAlias = dict[str, Any]
"""JSON values of one video, with the keys that ``status_of`` names."""


def status_of(out: str) -> list[VideoStatus]:
    """One dict per video, in the order of their files, JSON values only:

    ``video_id, uri, status`` (mapped | partial | failed | pending), ``duration_s`` (None where it can't be read),
    ``segments, segments_done`` (without a failure), ``segments_failed`` (all or part of them is a gap), ``missing_s``
    (seconds without picture in what is published; None where ``duration_s`` is), ``unknown_s`` (seconds that are
    outside of what the model has learned; None where ``duration_s`` is), ``code, reason`` ('' where nothing
    failed), ``copies`` (further files with the same content, mapped once), ``gone`` (whether the
    file was no longer in its archive when this was last listed).

    While a run is under way it describes that run. Raises UsageError where nothing was mapped to ``out``.
    """
    entries = read_videos(out)
    if not entries:
        raise UsageError(f"{out!r} holds no maps: expected the tables of `halsted map`; map an archive to it first")
    run, staged = _under_way(out)
    published, unknown_s = _published(out, staged), unknown_seconds(out)
    copies = Counter(entry.video.video_id for entry in entries.values() if entry.copy_of and not entry.gone)
    return [
        {
            **_status(
                entry, run, staged.get(entry.video.video_id, {}), published.get(entry.video.video_id, _Published())
            ),
            "unknown_s": None if entry.code else unknown_s.get(entry.video.video_id, 0.0),
            "copies": copies[entry.video.video_id],
            "gone": entry.gone,
        }
        for _, entry in sorted(entries.items())
        if not entry.copy_of
    ]


@dataclass
class _Published:
    """What the segments table holds of one video."""

    count: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(recipe, state) → number of segments"""
    restaged: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The same, of the segments that are staged for a second time and not published yet."""
    first_gap: tuple[str, str] = ("", "")
    """(code, reason)"""
    gaps: list[Span] = field(default_factory=list)
    """Of all recipes, so that they can lie over one another."""


def _status(
    entry: ArchiveFile, run: MappingRun | None, staged: Mapping[str, str], published: _Published
) -> VideoStatus:
    video = entry.video
    status: VideoStatus = {
        "video_id": video.video_id,
        "uri": video.uri,
        "status": "failed",
        "duration_s": None,
        "segments": 0,
        "segments_done": 0,
        "segments_failed": 0,
        "missing_s": None,
        "code": entry.code,
        "reason": entry.reason,
    }
    if entry.code:
        return status
    states: Counter[str] = Counter()
    for (_, state), number in published.count.items():
        states[state] += number
    planned = states.total()
    if run is not None and (staged or run.recipe not in {recipe for recipe, _ in published.count}):
        states = Counter(staged.values())
        for (recipe, state), number in (published.count - published.restaged).items():
            if recipe == run.recipe:
                states[state] += number
        planned = math.ceil(video.duration_s / run.segment_s)
    finished, failed = states.total(), states.total() - states["done"]
    if finished < planned or not planned:
        word = "pending"
    elif not failed:
        word = "mapped"
    else:
        word = "failed" if states["fail"] == finished else "partial"
    return {
        **status,
        "status": word,
        "duration_s": video.duration_s,
        "segments": planned,
        "segments_done": finished - failed,
        "segments_failed": failed,
        "missing_s": round(sum(stop_s - start_s for start_s, stop_s in union(published.gaps)), 6),
        "code": published.first_gap[0] if failed else "",
        "reason": published.first_gap[1] if failed else "",
    }


def _under_way(out: str) -> tuple[MappingRun | None, dict[str, dict[str, str]]]:
    """(run, video_id → segment_id → state of what it staged) of the newest run that is not published whole: it began
    after the last commit, or made this commit itself because it publishes wave by wave."""
    published_ms, publisher = last_published(out)
    runs = [
        (run, staging)
        for staging in stagings(out)
        if (run := staging.run()) is not None and (run.started_ms > published_ms or run.run_id == publisher)
    ]
    if not runs:
        return None, {}
    run, staging = max(runs, key=lambda pair: pair[0].started_ms)
    return run, staging.states()


def _published(out: str, staged: Mapping[str, Mapping[str, str]]) -> dict[str, _Published]:
    """video_id → what is published of it, for the tasks of the newest commit."""
    found: dict[str, _Published] = {}
    for batch in segment_batches(out, ["video_id", "recipe", "state"]):
        counted = pa.table(batch).group_by(["video_id", "recipe", "state"]).aggregate([([], "count_all")])
        for row in counted.to_pylist():
            of_video = found.setdefault(row["video_id"], _Published())
            of_video.count[row["recipe"], row["state"]] += row["count_all"]
    if staged:
        for batch in segment_batches(out, ["segment_id", "video_id", "recipe", "state"]):
            for row in batch.filter(pc.is_in(batch["video_id"], pa.array(list(staged)))).to_pylist():
                if row["segment_id"] in staged[row["video_id"]]:
                    found[row["video_id"]].restaged[row["recipe"], row["state"]] += 1
    for batch in segment_batches(out, ["video_id", "state", "gaps"]):
        for row in batch.filter(pc.not_equal(batch["state"], "done")).to_pylist():
            of_video = found[row["video_id"]]
            of_video.gaps += [(gap["start_s"], gap["stop_s"]) for gap in row["gaps"]]
            if not of_video.first_gap[0]:
                of_video.first_gap = row["gaps"][0]["code"], row["gaps"][0]["reason"]
    return found
