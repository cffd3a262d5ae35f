"""One operation over its files: one axis of time, and the rows and the stitches on it, as one caller may see them.

Files are joined as the batch side joins takes (``maps.cases``): each begins where the one before it ends. How much time
really lies between two files nobody knows, and none is invented. A file without a map that the caller may read keeps
its length, in which every task has a gap. Of a file that the caller may not see nothing is known, not even its length:
the files behind it move up, and that something is missing there is said.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from halsted_ray.errors import UsageError
from halsted_ray.maps import exports
from halsted_ray.maps.cases import Chapter, case_timeline
from halsted_ray.maps.stitch_table import (
    STITCHES_SCHEMA,
    VideoStitches,
    stitch_rows,
    stitches_of_timeline,
    video_json,
    write_rows,
)
from halsted_ray.maps.table_schemas import TIMELINE_SCHEMA
from halsted_ray.records import JsonObject, digest
from halsted_ray.service.cases import Case
from halsted_ray.service.errors import NotFound, StateConflict
from halsted_ray.service.library import LibraryCase
from halsted_ray.service.videos import NotMapped, Videos, render_timeline
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.taxonomy.parsing import shipped_of_digest

UPLOADED = "uploaded"
"""``Chapter.rule`` of the files of a case of the service: they are those that people put together."""
FILE_COLUMNS = ("case_id", "file", "file_start_s")
"""Columns of a case's rows and stitches besides those of a video's. ``file``: the number of the file in which it
begins, whose id is ``video_id``; ``file_start_s``: when it begins there. All other times are of the case."""
HIDDEN = "hidden"
"""The code of a gap of which the caller may not see the map."""


@dataclass(frozen=True)
class FileOnAxis:
    """A file of a case. ``number``: among those that the caller may see, from 1 on. ``offset_s``: when it begins on the
    axis of the case. ``state``: cleaning, failed, review, new, queued, mapping, mapped or partial. ``after_hidden``:
    whether files lie before it that the caller may not see."""

    file: Case
    number: int
    offset_s: float
    state: str
    after_hidden: bool

    @property
    def stop_s(self) -> float:
        """When it ends on the axis of the case."""
        return self.offset_s + self.file.video.duration_s


def axis_of(case: LibraryCase) -> list[FileOnAxis]:
    """The files of a case on one axis of time, in order."""
    found, offset_s = list[FileOnAxis](), 0.0
    for number, file in enumerate(case.files, start=1):
        found.append(
            FileOnAxis(file, number, offset_s, _state(case, file), file.video_id in case.after_hidden),
        )
        offset_s += file.video.duration_s
    return found


def _state(case: LibraryCase, file: Case) -> str:
    """How far a file is, in the words of the library."""
    job, summary = case.jobs.get(file.video_id), case.summaries.get(file.video_id)
    if file.video.state in ("cleaning", "failed"):
        return file.video.state
    if job is not None and job.kind == "map":
        return "mapping" if job.state == "running" else "queued"
    if summary is not None:
        return summary.state
    return "review" if file.video.state == "review" else "new"


def readable(case: LibraryCase) -> list[FileOnAxis]:
    """The files whose maps the caller may read, mapped or not."""
    return [one for one in axis_of(case) if "timeline" in one.file.rights]


@dataclass(frozen=True)
class CaseMap:
    """What the maps of a case say together. ``timeline``: TIMELINE_SCHEMA on the axis of the case, ``video_id`` is the
    case's; with a gap per task for each file without a map. ``asked``: the tasks that some file was asked.
    ``model_versions``: of its rows, sorted. ``taxonomy_digests``: video id → that of the first row of its map, '' for a
    map without rows."""

    case_id: str
    axis: Sequence[FileOnAxis]
    timeline: pa.Table
    asked: set[str]
    model_versions: Sequence[str]
    taxonomy_digests: Mapping[str, str]

    @property
    def rows(self) -> list[exports.Row]:
        """Rows with the keys of ``exports.COLUMNS`` and FILE_COLUMNS, in order of time."""
        return [
            {**row, **file_of(self.case_id, self.axis, row["start_s"])}
            for row in exports.canonical_rows(self.timeline)
            if row["end_s"] > row["start_s"]
        ]

    def stitches(self, served: Callable[[], Taxonomy]) -> VideoStitches:
        """The stitches over all files. None lies over a file without a map, or over one that is hidden. ``served``: as
        of ``Videos.stitches``. Raises StateConflict where the taxonomy of a map is known no more."""
        digests = pc.unique(self.timeline["taxonomy_digest"]).to_pylist()
        is_own = any(shipped_of_digest(digest) is None for digest in digests)
        try:
            [found] = stitches_of_timeline(self.timeline, {self.case_id: self.asked}, served() if is_own else None)
        except UsageError:
            raise StateConflict(
                f"a map of case {self.case_id!r} is in a taxonomy that this service has no more; map its files again"
            ).named("map-old") from None
        return replace(found, model_version=", ".join(self.model_versions))


def version_of(videos: Videos, case: LibraryCase) -> str:
    """The name of what the maps of a case say together to this caller: another one wherever it may be another."""
    parts = [
        [one.file.video_id, one.offset_s, one.file.video.duration_s, one.state, one.after_hidden, _version(videos, one)]
        for one in axis_of(case)
    ]
    return digest(case.case_id, json.dumps([parts, case.ends_hidden]))


def _version(videos: Videos, one: FileOnAxis) -> str:
    if "timeline" not in one.file.rights:
        return HIDDEN
    try:
        return videos.timeline_version(one.file.video.tenant_id, one.file.video_id)
    except NotFound:  # not mapped, or deleted meanwhile
        return ""


def read_case_map(videos: Videos, case: LibraryCase) -> CaseMap:
    """Reads the maps of a case's files that the caller may read. Raises NotMapped where none of them has one."""
    axis = axis_of(case)
    tables, asked, digests = list[pa.Table](), set[str](), dict[str, str]()
    for one in readable(case):
        tenant_id, video_id = one.file.video.tenant_id, one.file.video_id
        try:
            table = videos.timeline(tenant_id, video_id).select(TIMELINE_SCHEMA.names)
            asked |= videos.asked(tenant_id, video_id)
        except NotFound:  # not mapped, or deleted meanwhile
            continue
        tables.append(table)
        digests[video_id] = table["taxonomy_digest"][0].as_py() if len(table) else ""
    if not tables:
        raise NotMapped(f"no file of case {case.case_id!r} is mapped yet; ask for maps of its files first").named(
            "not-mapped"
        )
    rows = pa.concat_tables(tables)
    tasks = sorted(asked | set(pc.unique(rows["task"]).to_pylist()))
    chapters = [
        Chapter(case.case_id, one.file.video_id, one.number, one.offset_s, one.file.video.duration_s, UPLOADED)
        for one in axis
    ]
    missing = _missing(case, axis, digests.keys(), tasks, _origin(rows))
    joined = case_timeline(rows, chapters, case.after_hidden)
    versions = sorted({version for version in pc.unique(rows["model_version"]).to_pylist() if version})
    return CaseMap(case.case_id, axis, pa.concat_tables([joined, missing]), asked, versions, digests)


def _origin(rows: pa.Table) -> dict[str, Any]:
    """The model of the first row, which stands in the rows of gaps too; '' where the maps have no row."""
    names = ("model", "model_version", "atlas_release", "taxonomy_digest")
    first = rows.slice(0, 1).to_pylist()
    return {name: first[0][name] if first else "" for name in names}


def _missing(
    case: LibraryCase,
    axis: Sequence[FileOnAxis],
    mapped: Collection[str],
    tasks: Sequence[str],
    origin: Mapping[str, Any],
) -> pa.Table:
    """A gap per task for each file without a map, with its state as the code; and one of no length where hidden files
    are, so that nothing goes on over them."""
    spans = [(one.offset_s, one.offset_s, HIDDEN) for one in axis if one.after_hidden]
    spans += [(axis[-1].stop_s, axis[-1].stop_s, HIDDEN)] if case.ends_hidden else []
    for one in axis:
        if one.file.video_id not in mapped:
            code = one.state if "timeline" in one.file.rights else HIDDEN
            spans.append((one.offset_s, one.stop_s, code))
    rows = [
        {
            **dict.fromkeys(TIMELINE_SCHEMA.names),
            **origin,
            "video_id": case.case_id,
            "uri": "",
            "start_s": start_s,
            "stop_s": stop_s,
            "task": task,
            "tag": "gap",
            "category": code,
            "confidence": 0.0,
            "source": "gap",
        }
        for start_s, stop_s, code in spans
        for task in tasks
    ]
    return pa.Table.from_pylist(rows, schema=TIMELINE_SCHEMA)


def file_of(case_id: str, axis: Sequence[FileOnAxis], start_s: float) -> JsonObject:
    """FILE_COLUMNS and ``video_id`` of what begins at ``start_s`` of the case."""
    one = next((one for one in reversed(axis) if one.offset_s <= start_s), axis[0])
    return {
        "case_id": case_id,
        "file": one.number,
        "file_start_s": start_s - one.offset_s,
        "video_id": one.file.video_id,
    }


def render_case_timeline(found: CaseMap, head: JsonObject, format: str, kind: str) -> str:
    """The rows of a case in ``format`` (``videos.FORMATS``). ``head``: what JSON has besides its rows."""
    columns = (*FILE_COLUMNS, *exports.COLUMNS)
    if format == "json":
        return json.dumps({**head, "rows": found.rows}, ensure_ascii=False)
    if format == "csv":
        return exports.write_csv(found.rows, columns)
    if format == "jsonl":
        return exports.write_jsonl(found.rows, columns)
    if format == "vtt" and kind == "metadata":
        return exports.write_metadata_vtt(found.rows, columns)
    return render_timeline(found.rows, format, kind)


def render_case_stitches(found: CaseMap, format: str, served: Callable[[], Taxonomy]) -> str:
    """The stitches of a case as json or csv. Raises StateConflict as ``CaseMap.stitches``."""
    shown = found.stitches(served)
    rows = [{**row, **file_of(found.case_id, found.axis, row["start_s"])} for row in stitch_rows([shown])]
    if format == "csv":
        return write_rows(rows, (*FILE_COLUMNS, *STITCHES_SCHEMA.names))
    answer = video_json(shown) | {"case_id": found.case_id}
    answer["stitches"] = [
        {name: value for name, value in row.items() if name not in ("case_id", "model_version")} for row in rows
    ]
    del answer["video_id"]
    return json.dumps(answer, ensure_ascii=False)
