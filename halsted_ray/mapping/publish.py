"""Finished segments become three Delta tables, the timeline in one commit a run.

    <out>/videos     every file of the archive: what it is, or why it can't be mapped
    <out>/segments   what every segment came to, with the decisions about its windows
    <out>/timeline   records.TIMELINE_SCHEMA: the current maps; earlier ones stay readable as Delta versions

A run replaces the rows of the videos that it finished, for the tasks that it asked, and touches no others. A file's
name, which can be a patient's, stands in ``uri`` of videos and timeline and nowhere else.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake
from deltalake.exceptions import DeltaError

from halsted_ray.atlas.delta import is_table, open_table, storage_options, table_uri
from halsted_ray.errors import OutputError, UsageError
from halsted_ray.mapping.inventory import Entry
from halsted_ray.mapping.staging import Result, Staging
from halsted_ray.mapping.timeline import Gap, merge
from halsted_ray.records import TIMELINE_SCHEMA, VIDEO_SCHEMA, Segment, Tag, Video

VIDEOS_SCHEMA = pa.schema([
    *VIDEO_SCHEMA, ("stamp", pa.string()), ("code", pa.string()), ("reason", pa.string()), ("copy_of", pa.string()),
])
TAG_TYPE = pa.struct([
    ("start_s", pa.float64()), ("stop_s", pa.float64()), ("task", pa.string()), ("tag", pa.string()),
    ("category", pa.string()), ("confidence", pa.float64()),
])
GAP_TYPE = pa.struct([
    ("start_s", pa.float64()), ("stop_s", pa.float64()), ("code", pa.string()), ("reason", pa.string()),
])
SEGMENTS_SCHEMA = pa.schema([
    ("segment_id", pa.string()), ("video_id", pa.string()), ("start_s", pa.float64()), ("stop_s", pa.float64()),
    ("duration_s", pa.float64()), ("state", pa.string()), ("tasks", pa.string()), ("recipe", pa.string()),
    ("run_id", pa.string()), ("model_version", pa.string()), ("new_vectors", pa.int32()), ("used_vectors", pa.int32()),
    ("decode_s", pa.float64()), ("encode_s", pa.float64()), ("tag_s", pa.float64()), ("tags", pa.list_(TAG_TYPE)),
    ("gaps", pa.list_(GAP_TYPE)),
])

VIDEOS_A_BATCH = 32
"""Videos whose rows are in memory at once while publishing."""


@dataclass(frozen=True)
class Provenance:
    """Where a run's rows come from: stands in every row, and in the commit's metadata."""

    run_id: str
    recipe: str
    tasks: tuple[str, ...]
    model: str
    model_version: str
    atlas_release: str
    taxonomy_digest: str
    code_version: str


def publish(out: str, staging: Staging, planned: Mapping[str, Sequence[Segment]], origin: Provenance) -> int | None:
    """Publishes every video that has staged results; all of its ``planned`` segments must be finished.

    Returns the timeline's new Delta version, None where there was nothing to publish. May be repeated: the same
    staging gives the same rows. Raises OutputError.
    """
    video_ids = sorted(set(staging.states()) & set(planned))
    if not video_ids:
        staging.drop([])
        return None
    here = f"video_id IN ({', '.join(repr(video_id) for video_id in video_ids)})"
    earlier = read_segments(out, filters=[("video_id", "in", video_ids), ("recipe", "=", origin.recipe)])
    kept = {row["segment_id"]: _result(row) for row in earlier.to_pylist()} if earlier is not None else {}

    def results(video_id: str) -> list[Result]:
        at_hand = {result.segment.segment_id: result for result in staging.read(video_id)}
        return [at_hand.get(segment.segment_id) or kept[segment.segment_id] for segment in planned[video_id]]

    overlapping = [tasks for tasks in published_tasks(out) if set(tasks.split(",")) & set(origin.tasks)]
    same = f"{here} AND tasks IN ({', '.join(repr(tasks) for tasks in [*overlapping, ','.join(origin.tasks)])})"
    segment_rows = _batches(video_ids, SEGMENTS_SCHEMA, lambda v: [_segment_row(r, origin) for r in results(v)])
    _commit(table_uri(out, "segments"), SEGMENTS_SCHEMA, segment_rows, same, origin)
    timeline_rows = _batches(video_ids, TIMELINE_SCHEMA,
                             lambda v: timeline_rows_of(results(v), planned[v][0].uri, origin))
    asked = ", ".join(repr(task) for task in origin.tasks)
    version = _commit(table_uri(out, "timeline"), TIMELINE_SCHEMA, timeline_rows, f"{here} AND task IN ({asked})",
                      origin)
    staging.drop(video_ids)
    return version


def timeline_rows_of(results: Iterable[Result], uri: str, origin: Provenance) -> list[dict]:
    """Rows of ``records.TIMELINE_SCHEMA`` of one video, in order of time, task and tag."""
    results = list(results)
    intervals = merge((tag for r in results for tag in r.tags), [gap for r in results for gap in r.gaps], origin.tasks)
    shared = {
        "video_id": results[0].segment.video_id, "uri": uri, "model": origin.model,
        "model_version": origin.model_version, "atlas_release": origin.atlas_release,
        "taxonomy_digest": origin.taxonomy_digest,
    }
    return [{**asdict(interval), **shared} for interval in intervals]


def publish_videos(out: str, entries: Sequence[Entry]) -> None:
    """Brings the table of videos up to date with what the archive holds now; commits only when that is new."""
    known = read_videos(out)
    listed = {entry.video.uri: entry for entry in entries}
    # A file that was moved or renamed is listed under its new name: under the old one it counts as a copy.
    mapped = {entry.video.video_id: uri for uri, entry in listed.items() if not entry.copy_of}
    gone = {uri: replace(entry, copy_of=mapped.get(entry.video.video_id, entry.copy_of))
            for uri, entry in known.items() if uri not in listed}
    wanted = {**gone, **listed}
    if wanted == known and known:
        return
    rows = [{**asdict(entry.video), "stamp": entry.stamp, "code": entry.code, "reason": entry.reason,
             "copy_of": entry.copy_of} for _, entry in sorted(wanted.items())]
    _commit(table_uri(out, "videos"), VIDEOS_SCHEMA, pa.Table.from_pylist(rows, schema=VIDEOS_SCHEMA), None, None)


def read_videos(out: str) -> dict[str, Entry]:
    """uri → entry, of all files that were ever listed for ``out``."""
    table = _read(out, "videos")
    if table is None:
        return {}
    entries = {}
    for row in table.to_pylist():
        video = Video(**{name: row[name] for name in VIDEO_SCHEMA.names})
        entries[video.uri] = Entry(video, row["stamp"], row["code"], row["reason"], row["copy_of"])
    return entries


def read_segments(out: str, columns: list[str] | None = None, filters: list | None = None) -> pa.Table | None:
    """Rows of the segments table, None where nothing was published."""
    return _read(out, "segments", columns, filters)


def read_timeline(out: str, version: int | None = None) -> pa.Table:
    """The maps at ``out`` in order of video, time, task and tag; empty where every video failed.

    Raises UsageError where nothing was mapped to ``out``.
    """
    table = _read(out, "timeline", version=version)
    if table is None:
        if not is_table(table_uri(out, "videos")):
            raise UsageError(f"{out!r} holds no maps: expected the tables of `halsted map`; map an archive to it first")
        table = TIMELINE_SCHEMA.empty_table()
    return table.sort_by([(name, "ascending") for name in ("video_id", "start_s", "task", "tag")])


def last_published_ms(out: str) -> int:
    """When the timeline was last committed to, in ms since 1970; 0 where it never was."""
    uri = table_uri(out, "timeline")
    return open_table(uri).history(1)[0]["timestamp"] if is_table(uri) else 0


def published_tasks(out: str) -> list[str]:
    """The sets of tasks ('macro,micro') of the runs whose segments are in the table."""
    table = read_segments(out, ["tasks"])
    return [] if table is None else sorted(set(table["tasks"].to_pylist()))


def _segment_row(result: Result, origin: Provenance) -> dict:
    segment = asdict(result.segment)
    del segment["uri"]
    return {
        **segment, "state": result.state, "tasks": ",".join(origin.tasks), "recipe": origin.recipe,
        "run_id": result.run_id, "model_version": origin.model_version, "new_vectors": result.new_vectors,
        "used_vectors": result.used_vectors, "tags": [asdict(tag) for tag in result.tags],
        "gaps": [asdict(gap) for gap in result.gaps],
        **{f"{stage}_s": result.seconds.get(stage, 0.0) for stage in ("decode", "encode", "tag")},
    }


def _result(row: dict) -> Result:
    segment = Segment(**{name: row[name] for name in Segment.__dataclass_fields__ if name != "uri"}, uri="")
    return Result(segment, [Tag(**tag) for tag in row["tags"]], [Gap(**gap) for gap in row["gaps"]], row["run_id"],
                  row["new_vectors"], row["used_vectors"],
                  {stage: row[f"{stage}_s"] for stage in ("decode", "encode", "tag")})


def _batches(video_ids: list[str], schema: pa.Schema, rows_of: Callable[[str], list[dict]]) -> pa.RecordBatchReader:
    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(video_ids), VIDEOS_A_BATCH):
            rows = [row for video_id in video_ids[start : start + VIDEOS_A_BATCH] for row in rows_of(video_id)]
            yield pa.RecordBatch.from_pylist(rows, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _read(out: str, name: str, columns=None, filters=None, version: int | None = None) -> pa.Table | None:
    uri = table_uri(out, name)
    try:
        if not is_table(uri):
            return None
        return open_table(uri, version).to_pyarrow_table(columns=columns, filters=filters)
    except OSError as error:
        raise OutputError(
            f"can't read the table {uri!r}: {_one_line(error)}; check the place, the network and the credentials, then "
            "give the same command again"
        ) from error


def _commit(uri: str, schema: pa.Schema, data, predicate: str | None, origin: Provenance | None) -> int:
    """One commit that replaces what ``predicate`` selects (None: everything)."""
    metadata = {} if origin is None else {
        name: ",".join(value) if isinstance(value, tuple) else value for name, value in asdict(origin).items()
    }
    try:
        exists = is_table(uri)
        write_deltalake(
            uri, data, mode="overwrite" if exists else "append", predicate=predicate if exists else None,
            commit_properties=CommitProperties(custom_metadata=metadata),
            storage_options=storage_options(uri) or None,
        )
        return open_table(uri).version()
    except (DeltaError, OSError) as error:
        said = _one_line(error)
        is_full = any(f"os error {code}" in said for code in (errno.ENOSPC, errno.EDQUOT))
        raise OutputError(
            f"can't commit to the table {uri!r}: {said}; what was published before stays; "
            + ("make room" if is_full else "make the place writable") + " and give the same command again"
        ) from error


def _one_line(error: Exception) -> str:
    """deltalake's messages come in colours and several lines."""
    return " ".join(re.sub(r"\x1b\[\d+m|↳", " ", str(error)).split())
