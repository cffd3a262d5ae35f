"""Finished segments become three Delta tables, in one commit per table for ten thousand segments.

    <out>/videos     every file of the archive: what it is, or why it can't be mapped
    <out>/segments   what became of every segment, with the predictions about its windows
    <out>/timeline   table_schemas.TIMELINE_SCHEMA: the current maps; earlier maps stay readable as Delta versions

A run replaces the rows of the videos that it finished, for the tasks that it asked, and touches no other rows. The name
of a file can be a patient's name; it stands in the column ``uri`` of videos and timeline and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import accumulate
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from halsted_ray.maps.commits import commit_rows, sql_in, sql_text
from halsted_ray.maps.former_content import drop_former_content, follow_moved_files, ids_with_rows
from halsted_ray.maps.reading import read_segments, read_table, read_videos
from halsted_ray.maps.staging import SegmentResult, Staging
from halsted_ray.maps.table_schemas import (
    GAP_TYPE,
    PREDICTION_TYPE,
    SEGMENTS_SCHEMA,
    TIMELINE_SCHEMA,
    UNASKED_TYPE,
    VIDEOS_SCHEMA,
    ArchiveFile,
    Provenance,
)
from halsted_ray.maps.timeline import Gap, Interval, Unasked, merge
from halsted_ray.maps.unknown import with_unknown_video
from halsted_ray.records import Prediction, Segment
from halsted_ray.storage.delta import table_uri

TimelineOf: TypeAlias = Callable[[Sequence[SegmentResult]], list[Interval]]
EVERYTHING = "true"
"""The predicate of a commit that replaces all rows."""
SEGMENTS_A_COMMIT = 10_000
"""Segments whose results are in memory at once: about 300 MB where each has 80 predictions."""


def publish(
    out: str,
    staging: Staging,
    planned: Mapping[str, Sequence[Segment]],
    provenance: Provenance,
    run_goes_on: bool = False,
    timeline_of: TimelineOf | None = None,
) -> int | None:
    """Publishes every video of ``planned`` (video_id → all of its segments) that has staged results; all segments of
    such a video must be finished.

    Makes one commit per table for SEGMENTS_A_COMMIT segments, in the order of video_id. What is published together lies
    in files with a range of ids of their own, so that replacing it later reads no other files. Returns the new Delta
    version of the timeline, None where there was nothing to publish. May be repeated: the same staging gives the same
    rows. ``run_goes_on``: more will be staged. ``timeline_of``: gives the timeline of a video from the results of all
    of its segments, in order of time (default: their tags merged). Raises OutputError.
    """
    timeline_of = timeline_of or (lambda results: merged_results(results, provenance.tasks))
    version = None
    chunk: list[str] = []
    segments = 0
    video_ids = sorted(set(staging.states()) & set(planned))
    for video_id in video_ids:
        chunk.append(video_id)
        segments += len(planned[video_id])
        if segments >= SEGMENTS_A_COMMIT or video_id == video_ids[-1]:
            version = _publish_chunk(out, staging, {name: planned[name] for name in chunk}, provenance, timeline_of)
            staging.drop(chunk, run_goes_on=True)
            chunk, segments = [], 0
    if not run_goes_on:
        staging.drop([])
    return version


def merged_results(results: Sequence[SegmentResult], tasks: Sequence[str]) -> list[Interval]:
    """The timeline of a video whose segments' answers stand as they are."""
    return merge(
        (tag for result in results for tag in result.tags),
        [gap for result in results for gap in result.gaps],
        tasks,
        [span for result in results for span in result.unasked],
    )


def _publish_chunk(
    out: str,
    staging: Staging,
    planned: Mapping[str, Sequence[Segment]],
    provenance: Provenance,
    timeline_of: TimelineOf,
) -> int:
    """Publishes the videos of ``planned``, one commit per table; returns the version of the timeline."""
    names = sorted(planned)
    of_videos = [("video_id", ">=", names[0]), ("video_id", "<=", names[-1]), ("video_id", "in", names)]
    of_videos_sql = (
        f"video_id >= {sql_text(names[0])} AND video_id <= {sql_text(names[-1])} AND {sql_in('video_id', names)}"
    )
    earlier = read_segments(out, filters=[*of_videos, ("recipe", "=", provenance.recipe)])
    kept = {row["segment_id"]: _result(row) for row in earlier.to_pylist()} if earlier is not None else {}
    segments, timelines = [], []  # a table per video: as dataclasses, all of them would take three times the memory
    for video_id in names:
        staged = {result.segment.segment_id: result for result in staging.read(video_id)}
        results = [staged.get(segment.segment_id) or kept[segment.segment_id] for segment in planned[video_id]]
        segments.append(segments_table(results, provenance))
        timelines.append(
            timeline_table(timeline_of(with_unknown_video(results, provenance)), planned[video_id][0], provenance)
        )

    # Rows of segments that were asked at least one of the same tasks are replaced; where there are none, None makes
    # the commit an append, which looks at none of the table's files.
    published = read_segments(out, ["tasks"], of_videos)
    overlapping = {
        tasks
        for tasks in (pc.unique(published["tasks"]).to_pylist() if published is not None else ())
        if set(tasks.split(",")) & set(provenance.tasks)
    }
    of_tasks_sql = sql_in("tasks", sorted({*overlapping, ",".join(provenance.tasks)}))
    replaced = f"{of_videos_sql} AND {of_tasks_sql}" if overlapping else None
    commit_rows(table_uri(out, "segments"), pa.concat_tables(segments), replaced, provenance)

    published = read_table(out, "timeline", ["task"], [*of_videos, ("task", "in", provenance.tasks)])
    has_rows = published is not None and published.num_rows
    replaced = f"{of_videos_sql} AND {sql_in('task', provenance.tasks)}" if has_rows else None
    return commit_rows(table_uri(out, "timeline"), pa.concat_tables(timelines), replaced, provenance)


def timeline_table(intervals: Sequence[Interval], segment: Segment, provenance: Provenance) -> pa.Table:
    """``intervals`` as rows of TIMELINE_SCHEMA. ``segment`` is any segment of their video."""
    columns = {name: [getattr(interval, name) for interval in intervals] for name in Interval.__dataclass_fields__}
    shared = {
        "video_id": segment.video_id,
        "uri": segment.uri,
        **{name: getattr(provenance, name) for name in ("model", "model_version", "atlas_release", "taxonomy_digest")},
    }
    columns |= {name: pa.repeat(value, len(intervals)) for name, value in shared.items()}
    return pa.table(columns, schema=TIMELINE_SCHEMA)


def publish_videos(
    out: str, entries: Sequence[ArchiveFile], is_gone: Callable[[str], bool] = lambda uri: False
) -> None:
    """Brings the tables up to date with what the archive holds now. Commits only where something is new.

    A file that is not among ``entries`` keeps its row, with ``gone`` where ``is_gone(uri)``; a file that is gone and
    has no map loses its row. A file that holds other content than before loses the rows of its former content in all
    tables, unless another file still has that content. Raises OutputError.
    """
    known = read_videos(out)
    listed = {entry.video.uri: entry for entry in entries}
    # A file that was moved or renamed is listed under its new name; the row with its old name becomes a copy.
    mapped = {entry.video.video_id: uri for uri, entry in listed.items() if not entry.copy_of}
    others = {
        uri: replace(entry, copy_of=mapped.get(entry.video.video_id, entry.copy_of), gone=is_gone(uri))
        for uri, entry in known.items()
        if uri not in listed
    }
    with_map = ids_with_rows(out, [entry.video.video_id for entry in others.values() if entry.gone])
    others = {
        uri: entry
        for uri, entry in others.items()
        if not entry.gone or (entry.video.video_id in with_map and not entry.copy_of)
    }
    wanted = {**others, **listed}
    if wanted == known and known:
        return
    # Before the table of videos forgets the former content: a run that is killed in between does it again.
    drop_former_content(out, known, wanted)
    follow_moved_files(out, known, wanted)
    rows = [
        {
            **asdict(entry.video),
            "stamp": entry.stamp,
            "code": entry.code,
            "reason": entry.reason,
            "copy_of": entry.copy_of,
            "gone": entry.gone,
            "probe_version": entry.probe_version,
        }
        for _, entry in sorted(wanted.items())
    ]
    commit_rows(table_uri(out, "videos"), pa.Table.from_pylist(rows, schema=VIDEOS_SCHEMA), EVERYTHING, None)


def segments_table(results: Sequence[SegmentResult], provenance: Provenance) -> pa.Table:
    """``results`` as rows of SEGMENTS_SCHEMA. Built column by column: a dict per prediction would take twenty times as
    long."""
    columns = {
        name: [getattr(result.segment, name) for result in results]
        for name in Segment.__dataclass_fields__
        if name != "uri"
    }
    columns |= {
        name: [getattr(result, name) for result in results]
        for name in ("state", "run_id", "new_vectors", "used_vectors", "encoder", "encoder_size", "device")
    }
    columns |= {
        f"{stage}_s": [result.seconds.get(stage, 0.0) for result in results] for stage in ("decode", "encode", "tag")
    }
    columns |= {
        name: pa.repeat(value, len(results))
        for name, value in (
            ("tasks", ",".join(provenance.tasks)),
            ("recipe", provenance.recipe),
            ("model_version", provenance.model_version),
        )
    }
    columns["tags"] = _lists([result.tags for result in results], PREDICTION_TYPE)
    columns["gaps"] = _lists([result.gaps for result in results], GAP_TYPE)
    columns["unasked"] = _lists([result.unasked for result in results], UNASKED_TYPE)
    return pa.table(columns, schema=SEGMENTS_SCHEMA)


def _lists(rows: Sequence[Sequence[Prediction | Gap | Unasked]], kind: pa.StructType) -> pa.ListArray:
    """A list column of structs, from lists of dataclasses with the same fields."""
    offsets = pa.array([0, *accumulate(len(row) for row in rows)], pa.int32())
    fields = [pa.array([getattr(item, field.name) for row in rows for item in row], field.type) for field in kind]
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(fields, fields=list(kind)))


def _result(row: dict[str, Any]) -> SegmentResult:
    """A row of the segments table as the result that it was made from, less the ``uri``."""
    columns = ("segment_id", "video_id", "start_s", "stop_s", "duration_s")
    segment = Segment(**{name: row[name] for name in columns}, uri="")
    return SegmentResult(
        segment,
        [Prediction(**tag) for tag in row["tags"]],
        [Gap(**gap) for gap in row["gaps"]],
        row["run_id"],
        row["new_vectors"],
        row["used_vectors"],
        {stage: row[f"{stage}_s"] for stage in ("decode", "encode", "tag")},
        encoder=row["encoder"] or "",
        encoder_size=row["encoder_size"] or "",
        device=row["device"] or "",
        unasked=[Unasked(**span) for span in row["unasked"] or ()],
    )
