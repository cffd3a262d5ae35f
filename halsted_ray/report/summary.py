"""The figures of a report: how much was mapped, how time was spent, and how well the map agrees with the truth."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict

from halsted_ray.evaluation.map_accuracy import score_timeline
from halsted_ray.report.report_data import ReportData, read_report_data

STEP_TAG, PROCEDURE_TAG = "step", "procedure"
NOTHING = "no step"
UNMAPPED = "not mapped"


def report(out: str, truth: str | None = None, taxonomy: str | None = None) -> dict:
    """``figures`` of the maps at ``out``, held against the annotated archive ``truth`` where one is given.

    Arguments and errors are those of ``report_data.read_report_data``.
    """
    return summarise(read_report_data(out, truth, taxonomy))


def summarise(material: ReportData) -> dict:
    """JSON values; all times in seconds.

    ``videos``: counts by status, ``video_s`` and ``gap_s`` in all. ``models``: what the rows came from. ``steps``:
    category → seconds over all videos. ``per_video``: video_id → status, reason, duration_s, procedure, ``steps_s``.
    ``failures``: the videos that are not mapped whole. ``accuracy``: ``evaluation.map_accuracy`` where truth is given,
    else null. ``profile``: the newest run's ``maps.run_profile.RunProfile``, null where it was not kept.
    """
    per_video = {video["video_id"]: of_video(video, material.rows_of(video["video_id"])) for video in material.videos}
    steps: Counter[str] = Counter()
    for entry in per_video.values():
        steps.update(entry["steps_s"])
    statuses = Counter(video["status"] for video in material.videos)
    durations_s = {video["video_id"]: video["duration_s"] for video in material.videos if video["duration_s"]}
    return {
        "videos": {
            "total": len(material.videos),
            **{status: statuses.get(status, 0) for status in ("mapped", "partial", "failed", "pending")},
            "video_s": sum(durations_s.values()),
            "gap_s": sum(entry["gap_s"] for entry in per_video.values()),
        },
        "models": lineage(material.rows),
        "steps_s": dict(steps.most_common()),
        "per_video": per_video,
        "failures": [
            {"video_id": video_id, **{key: entry[key] for key in ("status", "reason", "duration_s", "gap_s")}}
            for video_id, entry in per_video.items()
            if entry["status"] != "mapped"
        ],
        "accuracy": None
        if material.truth is None
        else score_timeline(material.rows, material.truth, material.taxonomy, material.spec, durations_s),
        "profile": asdict(material.profile) if material.profile else None,
    }


def of_video(video: dict, rows: list[dict]) -> dict:
    steps_s: dict[str, float] = defaultdict(float)
    for row in rows:
        if row["tag"] == STEP_TAG:
            steps_s[row["category"]] += row["stop_s"] - row["start_s"]
    gap_s = covered_s([(row["start_s"], row["stop_s"]) for row in rows if row["source"] == "gap"])
    duration_s = video["duration_s"] or 0.0
    rest_s = duration_s - gap_s - sum(steps_s.values())
    steps_s |= {name: seconds for name, seconds in ((NOTHING, rest_s), (UNMAPPED, gap_s)) if seconds > 1e-3}
    procedures: Counter[str] = Counter()
    for row in rows:
        if row["tag"] == PROCEDURE_TAG:
            procedures[row["category"]] += row["stop_s"] - row["start_s"]
    return {
        "status": video["status"],
        "reason": video["reason"],
        "duration_s": duration_s,
        "gap_s": gap_s,
        "procedure": procedures.most_common(1)[0][0] if procedures else None,
        "steps_s": dict(steps_s),
    }


def covered_s(spans: list[tuple[float, float]]) -> float:
    """Length of the union: a span that failed is a gap of every task asked for."""
    total_s, reached_s = 0.0, float("-inf")
    for start_s, stop_s in sorted(spans):
        total_s += max(0.0, stop_s - max(start_s, reached_s))
        reached_s = max(reached_s, stop_s)
    return total_s


def lineage(rows: list[dict]) -> list[dict]:
    """The models that the rows came from, with their number of rows."""
    names = ("model", "model_version", "atlas_release", "taxonomy_digest")
    counts = Counter(tuple(row[name] for name in names) for row in rows)
    return [dict(zip(names, key, strict=True)) | {"rows": count} for key, count in counts.most_common()]
