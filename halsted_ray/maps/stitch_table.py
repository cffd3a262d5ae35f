"""The stitches of a mapped archive: read from its timeline, as a table, and as the texts that other programs read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from halsted_ray import taxonomy as taxonomies
from halsted_ray.errors import UsageError
from halsted_ray.maps.cases import Chapter, case_timeline, read_cases
from halsted_ray.maps.reading import read_segments, read_timeline
from halsted_ray.maps.stitch_totals import MedianTime, StitchTotals, totals_of
from halsted_ray.maps.stitches import NO_ANSWER, Row, Stitch, find_stitches
from halsted_ray.records import JsonObject
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.taxonomy.parsing import shipped_of_digest

STITCHES_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("index", pa.int32()),
        ("start_s", pa.float64()),
        ("stop_s", pa.float64()),
        ("target", pa.string()),
        ("direction", pa.string()),
        ("extent", pa.string()),
        ("handling_s", pa.float64()),
        ("driving_s", pa.float64()),
        ("withdrawal_s", pa.float64()),
        ("proficiency", pa.string()),
        ("proficiency_probability", pa.float64()),
        ("confidence", pa.float64()),
        ("model_version", pa.string()),
    ]
)
"""A row per stitch. ``index`` counts the stitches of a video from 1; the other columns but the last are the fields of
``maps.stitches.Stitch``. Nothing of it is stored: it is computed from the timeline whenever it is read."""

WHY_NONE = {
    "not in taxonomy": "no suturing in this taxonomy",
    "not asked": "the suturing tasks were not asked",
    "none": "no suturing found",
    "found": "",
}
"""``VideoStitches.state`` → why there are no stitches, for people."""


@dataclass(frozen=True)
class VideoStitches:
    """The stitches of one video, or of a case. ``state``: a key of ``WHY_NONE``. ``is_complete``: no gap and no unknown
    span lies in what was asked about suturing. ``model_version``: of its rows; '' where there are none."""

    video_id: str
    stitches: Sequence[Stitch]
    state: str
    is_complete: bool
    model_version: str

    @property
    def is_asked(self) -> bool:
        """Whether the model was asked for the phases of suturing."""
        return self.state in ("none", "found")


def read_stitches(out: str, taxonomy: Taxonomy | None = None, by_case: bool = False) -> list[VideoStitches]:
    """The stitches of each video that was mapped to ``out``, in the order of the ids.

    ``taxonomy``: of maps whose taxonomy does not ship with this package. ``by_case``: a case stands in place of its
    videos, with its own axis of time. Raises UsageError where nothing was mapped to ``out`` and where maps are in
    another taxonomy, OutputError where the tables can't be read.
    """
    timeline, asked = read_timeline(out), asked_tasks(out)
    if by_case and (chapters := read_cases(out)):
        timeline, asked = case_timeline(timeline, chapters), asked_of_cases(asked, chapters)
    return stitches_of_timeline(timeline, asked, taxonomy)


def asked_tasks(out: str) -> dict[str, set[str]]:
    """video_id → the tasks that some segment of the video was asked."""
    segments = read_segments(out, ["video_id", "tasks"])
    asked: dict[str, set[str]] = {}
    for row in segments.group_by(["video_id", "tasks"]).aggregate([]).to_pylist() if segments is not None else ():
        asked.setdefault(row["video_id"], set()).update(row["tasks"].split(","))
    return asked


def asked_of_cases(asked: Mapping[str, Collection[str]], chapters: Iterable[Chapter]) -> dict[str, set[str]]:
    """``asked`` with one entry per case in place of its videos: the tasks that any of them was asked."""
    case_of = {chapter.video_id: chapter.case_id for chapter in chapters}
    by_case: dict[str, set[str]] = {}
    for video_id, tasks in asked.items():
        by_case.setdefault(case_of.get(video_id, video_id), set()).update(tasks)
    return by_case


def stitches_of_timeline(
    timeline: pa.Table, asked: Mapping[str, Collection[str]], taxonomy: Taxonomy | None = None
) -> list[VideoStitches]:
    """The stitches of each video of ``asked`` (``asked_tasks``) or of ``timeline`` (TIMELINE_SCHEMA), by their ids.

    The roles are those of the taxonomy that a video's rows name: a shipped one, or ``taxonomy``. Raises UsageError for
    another.
    """
    by_video: dict[str, list[dict[str, Any]]] = {video_id: [] for video_id in asked}
    for row in _rows_that_matter(timeline, taxonomy):
        by_video.setdefault(row["video_id"], []).append(row)
    digests = dict.fromkeys(by_video, "")
    versions = dict.fromkeys(by_video, "")
    origins = timeline.group_by(["video_id", "taxonomy_digest", "model_version"]).aggregate([])
    for row in origins.sort_by([(name, "ascending") for name in origins.column_names]).to_pylist():
        digests[row["video_id"]], versions[row["video_id"]] = row["taxonomy_digest"], row["model_version"]
        by_video.setdefault(row["video_id"], [])
    return [
        stitches_of_video(
            video_id, rows, asked.get(video_id, ()), taxonomy_of(digests[video_id], taxonomy), versions[video_id]
        )
        for video_id, rows in sorted(by_video.items())
    ]


def _rows_that_matter(timeline: pa.Table, taxonomy: Taxonomy | None) -> list[dict[str, Any]]:
    """The rows with tags of a stitch, and those of gaps and unknown spans: most rows of an archive say neither."""
    known = [taxonomy_of(digest, taxonomy) for digest in pc.unique(timeline["taxonomy_digest"]).to_pylist()]
    tags = {
        tag
        for each in known
        if (roles := each.stitch) is not None
        for tag in (roles.phase, roles.target, roles.direction, roles.extent, roles.proficiency)
    }
    matters = pc.or_(
        pc.is_in(timeline["tag"], pa.array(sorted(tags), pa.string())),
        pc.is_in(timeline["source"], pa.array(NO_ANSWER)),
    )
    columns = ["video_id", "start_s", "stop_s", "task", "tag", "category", "confidence", "source"]
    rows: list[dict[str, Any]] = timeline.filter(matters).select(columns).to_pylist()
    return rows


def taxonomy_of(digest: str, given: Taxonomy | None) -> Taxonomy:
    """The taxonomy that rows name by their ``digest``: ``given``, or one that ships; ``given`` or the default for '',
    of a video without rows. Raises UsageError for another digest."""
    if not digest:
        return given or taxonomies.load()
    # The phases of stitches are not in the digest: a model of before brings the same taxonomy without them.
    if given is not None and given.digest == digest and given.stitch is not None:
        return given
    found = shipped_of_digest(digest) or (given if given is not None and given.digest == digest else None)
    if found is None:
        raise UsageError(
            f"the maps are in taxonomy {digest}, which does not ship with this package"
            f"{f', and not in {given.name!r} {given.digest}' if given else ''}; give the file of their taxonomy"
        )
    return found


def stitches_of_video(
    video_id: str, rows: Sequence[Row], asked: Collection[str], taxonomy: Taxonomy, version: str
) -> VideoStitches:
    """The stitches in ``rows``, those of one video. ``asked``: the tasks that it was asked; ``version``: of its
    model."""
    if taxonomy.stitch is None:
        return VideoStitches(video_id, (), "not in taxonomy", True, version)
    task = taxonomy.task_of_tag(taxonomy.stitch.phase).name
    of_task = [row for row in rows if row["task"] == task]
    if not of_task and task not in asked:
        return VideoStitches(video_id, (), "not asked", True, version)
    found = find_stitches(rows, taxonomy)
    is_complete = not any(row["source"] in NO_ANSWER for row in of_task)
    return VideoStitches(video_id, found, "found" if found else "none", is_complete, version)


def stitch_rows(videos: Iterable[VideoStitches]) -> list[JsonObject]:
    """Rows of STITCHES_SCHEMA."""
    return [
        {name: values[name] for name in STITCHES_SCHEMA.names}
        for video in videos
        for index, stitch in enumerate(video.stitches, 1)
        for values in (
            asdict(stitch) | {"video_id": video.video_id, "index": index, "model_version": video.model_version},
        )
    ]


def totals_json(totals: StitchTotals) -> JsonObject:
    """The totals as JSON values: medians under ``handling_s`` and so on, with their intervals as ``handling_low_s`` and
    ``handling_high_s`` over ``handling_n`` stitches."""

    def median(name: str, time: MedianTime) -> JsonObject:
        return {
            f"{name}_s": time.median_s,
            f"{name}_low_s": time.low_s,
            f"{name}_high_s": time.high_s,
            f"{name}_n": time.n,
        }

    return {
        "count": totals.count,
        **median("handling", totals.handling),
        **median("driving", totals.driving),
        **median("withdrawal", totals.withdrawal),
        "high_share": totals.high_share,
        "high_low": totals.high_low,
        "high_high": totals.high_high,
        "proficiency_n": totals.proficiency_n,
    }


def video_json(video: VideoStitches) -> JsonObject:
    """One video as JSON values: its model, whether suturing was asked, its stitches and their totals."""
    left_out = ("video_id", "model_version")
    return {
        "video_id": video.video_id,
        "model_version": video.model_version,
        "asked": video.is_asked,
        "complete": video.is_complete,
        "why_none": WHY_NONE[video.state],
        "stitches": [
            {name: value for name, value in row.items() if name not in left_out} for row in stitch_rows([video])
        ],
        "totals": totals_json(totals_of(video.stitches)),
    }


def write_csv(videos: Iterable[VideoStitches]) -> str:
    """CSV by RFC 4180 with the columns of STITCHES_SCHEMA; numbers at full precision, what is unknown is empty."""
    return write_rows(stitch_rows(videos), STITCHES_SCHEMA.names)


def write_rows(rows: Iterable[JsonObject], columns: Sequence[str]) -> str:
    """The same of ``rows`` with these columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_jsonl(videos: Iterable[VideoStitches]) -> str:
    """JSON Lines: one object per stitch, with the columns of STITCHES_SCHEMA."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in stitch_rows(videos))
