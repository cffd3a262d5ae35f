"""How far every video is, from what is published and what is staged; during a run as well as after it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from halsted_ray.errors import UsageError
from halsted_ray.mapping.inventory import Entry
from halsted_ray.mapping.publish import last_published_ms, read_segments, read_videos
from halsted_ray.mapping.staging import Run, stagings

STATUSES = ("mapped", "partial", "failed", "pending")


def status_of(out: str) -> list[dict]:
    """One dict a video, in the order of their files, JSON values only:

    ``video_id, uri, status`` (mapped | partial | failed | pending), ``duration_s`` (None where it can't be read),
    ``segments, segments_done`` (without a failure), ``segments_failed`` (all or part of them is a gap), ``code,
    reason`` ('' where nothing failed), ``copies`` (further files with the same content, mapped once).

    While a run is under way it describes that run. Raises UsageError where nothing was mapped to ``out``.
    """
    entries = read_videos(out)
    if not entries:
        raise UsageError(f"{out!r} holds no maps: expected the tables of `halsted map`; map an archive to it first")
    run, staged = _under_way(out)
    published = _published(out)
    copies: dict[str, int] = {}
    for entry in entries.values():
        if entry.copy_of:
            copies[entry.video.video_id] = copies.get(entry.video.video_id, 0) + 1
    return [
        {**_status(entry, run, staged.get(entry.video.video_id, {}), published.get(entry.video.video_id, {})),
         "copies": copies.get(entry.video.video_id, 0)}
        for _, entry in sorted(entries.items()) if not entry.copy_of
    ]


def _status(entry: Entry, run: Run | None, staged: Mapping[str, str],
            published: Mapping[str, tuple[str, str, str, str]]) -> dict:
    video = entry.video
    shown = {"video_id": video.video_id, "uri": video.uri, "status": "failed", "duration_s": None, "segments": 0,
             "segments_done": 0, "segments_failed": 0, "code": entry.code, "reason": entry.reason}
    if entry.code:
        return shown
    states, count = {segment_id: row[0] for segment_id, row in published.items()}, len(published)
    gap = next((row[2:] for row in published.values() if row[2]), ("", ""))
    if run is not None and (staged or not any(row[1] == run.recipe for row in published.values())):
        states = {segment_id: row[0] for segment_id, row in published.items() if row[1] == run.recipe} | dict(staged)
        count = math.ceil(video.duration_s / run.segment_s)
    failed = sum(state != "done" for state in states.values())
    if len(states) < count or not count:
        status = "pending"
    elif not failed:
        status = "mapped"
    else:
        status = "failed" if all(state == "fail" for state in states.values()) else "partial"
    return {**shown, "status": status, "duration_s": video.duration_s, "segments": count,
            "segments_done": len(states) - failed, "segments_failed": failed,
            "code": gap[0] if failed else "", "reason": gap[1] if failed else ""}


def _under_way(out: str) -> tuple[Run | None, dict[str, dict[str, str]]]:
    """The newest run that began after the last one was published, and its video_id → segment_id → state."""
    published_ms = last_published_ms(out)
    runs = [(run, staging) for staging in stagings(out)
            if (run := staging.run()) is not None and run.started_ms > published_ms]
    if not runs:
        return None, {}
    run, staging = max(runs, key=lambda pair: pair[0].started_ms)
    return run, staging.states()


def _published(out: str) -> dict[str, dict[str, tuple[str, str, str, str]]]:
    """video_id → segment_id → (state, recipe, code of its first gap, reason), of the newest commit's tasks."""
    table = read_segments(out, ["segment_id", "video_id", "state", "recipe", "gaps"])
    found: dict[str, dict[str, tuple[str, str, str, str]]] = {}
    for row in table.to_pylist() if table is not None else ():
        first = row["gaps"][0] if row["gaps"] else {"code": "", "reason": ""}
        found.setdefault(row["video_id"], {})[row["segment_id"]] = (
            row["state"], row["recipe"], first["code"], first["reason"])
    return found
