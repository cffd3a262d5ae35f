"""The figures of a report: how much is mapped, how much time each step took, how well the map agrees with the truth."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from halsted_ray.evaluation.map_accuracy import score_timeline
from halsted_ray.evaluation.map_certainty import map_certainty
from halsted_ray.maps.stitch_table import WHY_NONE, totals_json
from halsted_ray.maps.stitch_totals import totals_of
from halsted_ray.records import UNKNOWN
from halsted_ray.reporting.report_data import JsonObject, ReportData, read_report_data

STEP_TAG, PROCEDURE_TAG = "step", "procedure"
NO_STEP = "no step"
NOT_MAPPED = "not mapped"
"""Beside the steps: ``NO_STEP``, ``NOT_MAPPED``, and ``records.UNKNOWN`` for what the model does not know."""
FAILURE_KEYS = ("status", "reason", "duration_s", "gap_s", "missing_s")


def report(out: str, truth: str | None = None, taxonomy: str | None = None) -> JsonObject:
    """Returns the figures of the maps at ``out`` (see ``summarise``), compared with the annotated archive ``truth``.

    >>> from halsted_ray import report
    >>> figures = report("maps", truth="archive")
    >>> figures["videos"]["mapped"]
    6

    Arguments and errors as of ``report_data.read_report_data``.
    """
    return summarise(read_report_data(out, truth, taxonomy))


def summarise(data: ReportData) -> JsonObject:
    """Returns the figures as JSON values. All times are in seconds.

    ``videos``: counts by status, and ``video_s``, ``gap_s``, ``missing_s`` and ``unknown_s`` of all videos. ``gap_s``
    is the time that was not mapped for at least one task. ``missing_s`` is the part of it that has no picture, as
    ``maps.status`` has it, and so is ``unknown_s``, the time that is outside of what the model has learned. ``models``:
    the models that made the rows. ``steps_s``: step to seconds over all videos. ``per_video``: video_id to status,
    reason, duration_s, gap_s, missing_s, unknown_s, procedure and ``steps_s``. ``failures``: the videos that are not
    mapped or have gaps. ``confidence``: step to its mean confidence over all videos, weighted by time; ``per_video``
    has the same over all steps of a video, None where it has no step. ``stitches``: under ``totals`` those of all
    stitches (``maps.stitch_table.totals_json``), and ``per_video``: video_id to the number of its stitches and why
    there are none. ``accuracy``: of ``evaluation.map_accuracy`` and, under ``certainty``, of
    ``evaluation.map_certainty``; None without a truth.
    ``profile``: the newest run's ``maps.run_profile.RunProfile``, None where it kept none.
    """
    per_video = {video["video_id"]: video_figures(video, data.rows_of(video["video_id"])) for video in data.videos}
    steps: Counter[str] = Counter()
    for entry in per_video.values():
        steps.update(entry["steps_s"])
    step_rows = [row for row in data.rows if row["tag"] == STEP_TAG]
    statuses = Counter(video["status"] for video in data.videos)
    durations_s = {video["video_id"]: video["duration_s"] for video in data.videos if video["duration_s"]}
    return {
        "videos": {
            "total": len(data.videos),
            **{status: statuses.get(status, 0) for status in ("mapped", "partial", "failed", "pending")},
            "video_s": sum(durations_s.values()),
            "gap_s": sum(entry["gap_s"] for entry in per_video.values()),
            "missing_s": sum(entry["missing_s"] or 0.0 for entry in per_video.values()),
            "unknown_s": sum(entry["unknown_s"] or 0.0 for entry in per_video.values()),
        },
        "models": lineage(data.rows),
        "steps_s": dict(steps.most_common()),
        "confidence": {
            step: mean_confidence(of_step)
            for step in steps
            if (of_step := [row for row in step_rows if row["category"] == step])
        },
        "per_video": per_video,
        "failures": [
            {"video_id": video_id, **{key: entry[key] for key in FAILURE_KEYS}}
            for video_id, entry in per_video.items()
            if entry["status"] != "mapped"
        ],
        "stitches": {
            "totals": totals_json(totals_of([stitch for video in data.stitches for stitch in video.stitches])),
            "per_video": {
                video.video_id: {"count": len(video.stitches), "why_none": WHY_NONE[video.state]}
                for video in data.stitches
            },
        },
        "accuracy": accuracy_of(data, durations_s),
        "profile": asdict(data.profile) if data.profile else None,
    }


def accuracy_of(data: ReportData, durations_s: Mapping[str, float]) -> JsonObject | None:
    """Returns how well the map agrees with the truth, and how sure that is; None without a truth."""
    if data.truth is None:
        return None
    accuracy = score_timeline(data.rows, data.truth, data.taxonomy, data.spec, durations_s)
    certainty = map_certainty(data.rows, data.truth, data.taxonomy, accuracy, data.spec, durations_s)
    return accuracy | {"certainty": certainty}


def video_figures(video: JsonObject, rows: list[JsonObject]) -> JsonObject:
    """Returns the entry of one video in ``per_video`` (``summarise``)."""
    steps_s: dict[str, float] = defaultdict(float)
    for row in rows:
        if row["tag"] == STEP_TAG:
            steps_s[row["category"]] += row["stop_s"] - row["start_s"]
    gaps = [row for row in rows if row["source"] == "gap"]
    gap_s = covered_s([(row["start_s"], row["stop_s"]) for row in gaps])
    step_tasks = {row["task"] for row in rows if row["tag"] == STEP_TAG} or {row["task"] for row in rows}
    unmapped_s = covered_s([(row["start_s"], row["stop_s"]) for row in gaps if row["task"] in step_tasks])
    unknown = [row for row in rows if row["source"] == UNKNOWN and row["task"] in step_tasks]
    unknown_s = covered_s([(row["start_s"], row["stop_s"]) for row in unknown])
    duration_s = video["duration_s"] or 0.0
    rest_s = duration_s - unmapped_s - unknown_s - sum(steps_s.values())
    others = ((NO_STEP, rest_s), (NOT_MAPPED, unmapped_s), (UNKNOWN, unknown_s))
    steps_s |= {name: seconds for name, seconds in others if seconds > 1e-3}
    procedures: Counter[str] = Counter()
    for row in rows:
        if row["tag"] == PROCEDURE_TAG:
            procedures[row["category"]] += row["stop_s"] - row["start_s"]
    return {
        "status": video["status"],
        "reason": video["reason"],
        "duration_s": duration_s,
        "gap_s": gap_s,
        "missing_s": video["missing_s"],
        "unknown_s": video["unknown_s"],
        "procedure": procedures.most_common(1)[0][0] if procedures else None,
        "steps_s": dict(steps_s),
        "confidence": mean_confidence([row for row in rows if row["tag"] == STEP_TAG]),
    }


def mean_confidence(rows: Sequence[JsonObject]) -> float | None:
    """Returns the mean confidence of ``rows``, weighted by time; None without rows."""
    total_s = sum(row["stop_s"] - row["start_s"] for row in rows)
    return sum(row["confidence"] * (row["stop_s"] - row["start_s"]) for row in rows) / total_s if total_s else None


def covered_s(spans: list[tuple[float, float]]) -> float:
    """Returns the length of the union of ``spans``. A failed span is a gap in every task, but counts once."""
    total_s, reached_s = 0.0, float("-inf")
    for start_s, stop_s in sorted(spans):
        total_s += max(0.0, stop_s - max(start_s, reached_s))
        reached_s = max(reached_s, stop_s)
    return total_s


def lineage(rows: list[JsonObject]) -> list[JsonObject]:
    """Returns the models that made the rows, each with its number of rows, the largest number first."""
    names = ("model", "model_version", "atlas_release", "taxonomy_digest")
    counts = Counter(tuple(row[name] for name in names) for row in rows)
    return [dict(zip(names, key, strict=True)) | {"rows": count} for key, count in counts.most_common()]
