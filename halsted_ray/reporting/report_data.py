"""ReportData: what a report is made from: the maps at OUT and, where given, an annotated archive (the truth)."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from halsted_ray import taxonomy as taxonomies
from halsted_ray.atlas import read_atlas
from halsted_ray.errors import AtlasError, UsageError
from halsted_ray.maps.cases import Chapter, case_statuses, case_timeline, read_cases
from halsted_ray.maps.reading import read_timeline
from halsted_ray.maps.run_profile import RunProfile, read_profile
from halsted_ray.maps.status import status_of
from halsted_ray.maps.stitch_table import VideoStitches, asked_of_cases, asked_tasks, stitches_of_video
from halsted_ray.maps.table_schemas import TIMELINE_SCHEMA
from halsted_ray.records import Clip, WindowSpec
from halsted_ray.sequences.economy import VideoEconomy, economy_of
from halsted_ray.storage.locations import local_path, printable
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.taxonomy.parsing import SHIPPED

JsonObject = dict[str, Any]
"""A JSON object, or a table's row by column."""


@dataclass(frozen=True)
class ReportData:
    """Everything that a report needs.

    ``videos``: per video the keys of ``maps.status.status_of`` (``duration_s`` is None for a video that can't be read).
    ``rows``: of ``maps.table_schemas.TIMELINE_SCHEMA``. ``truth``: annotated clips, None where no truth was given.
    ``spec``: the windows that map and truth are compared in.
    """

    videos: list[JsonObject]
    rows: list[JsonObject]
    truth: list[Clip] | None
    taxonomy: Taxonomy
    spec: WindowSpec
    profile: RunProfile | None = None
    """Where the time of the newest run went; None where the run kept no profile."""
    chapters: Sequence[Chapter] = ()
    """The videos of all cases."""
    asked: Mapping[str, Collection[str]] = field(default_factory=dict)
    """video_id → the tasks that it was asked, as ``maps.stitch_table.asked_tasks`` has them."""

    @cached_property
    def _rows_by_video(self) -> dict[str, list[JsonObject]]:
        by_video: dict[str, list[JsonObject]] = defaultdict(list)
        for row in self.rows:
            by_video[row["video_id"]].append(row)
        return by_video

    @cached_property
    def _truth_by_video(self) -> dict[str, list[Clip]]:
        by_video: dict[str, list[Clip]] = defaultdict(list)
        for clip in self.truth or ():
            by_video[clip.video_id].append(clip)
        return by_video

    @cached_property
    def stitches(self) -> list[VideoStitches]:
        """The stitches of each video that has rows, in the order of ``videos``."""
        drawn = [(video["video_id"], self.rows_of(video["video_id"])) for video in self.videos]
        return [
            stitches_of_video(video_id, rows, self.asked.get(video_id, ()), self.taxonomy, rows[-1]["model_version"])
            for video_id, rows in drawn
            if rows
        ]

    @cached_property
    def economy(self) -> list[VideoEconomy]:
        """The economy of motion of each video that has rows, in the order of ``videos``."""
        drawn = [(video["video_id"], self.rows_of(video["video_id"])) for video in self.videos]
        return [
            economy_of(video_id, rows, self.taxonomy, model_version=rows[-1]["model_version"])
            for video_id, rows in drawn
            if rows
        ]

    def rows_of(self, video_id: str) -> list[JsonObject]:
        """Returns the rows of one video."""
        return self._rows_by_video.get(video_id, [])

    def truth_of(self, video_id: str) -> list[Clip] | None:
        """Returns the annotated clips of one video; None where it has none, so that no empty lane is drawn for it."""
        return self._truth_by_video.get(video_id)

    def with_case(self, name: str) -> ReportData:
        """The same with one case in place of its videos, where ``name`` is the id of a case or its beginning."""
        case_ids = {chapter.case_id for chapter in self.chapters}
        fits = [case_id for case_id in case_ids if name and case_id.startswith(name)]
        if len(fits) != 1 or any(video["video_id"].startswith(name) for video in self.videos):
            return self
        chapters = [chapter for chapter in self.chapters if chapter.case_id == fits[0]]
        members = {chapter.video_id: chapter for chapter in chapters}
        rows = pa.Table.from_pylist(self.rows, schema=TIMELINE_SCHEMA)
        truth = self.truth and [
            replace(
                clip,
                video_id=fits[0],
                start_s=clip.start_s + members[clip.video_id].offset_s,
                stop_s=clip.stop_s + members[clip.video_id].offset_s,
            )
            if clip.video_id in members
            else clip
            for clip in self.truth
        ]
        return replace(
            self,
            videos=case_statuses(self.videos, chapters),
            rows=case_timeline(rows, chapters).to_pylist(),
            truth=truth,
            asked=asked_of_cases(self.asked, chapters),
        )

    def find(self, name: str) -> JsonObject:
        """Returns the video of that id, that beginning of an id, or that file name. Raises UsageError."""
        return find_video(self.videos, name)


def find_video(videos: Sequence[JsonObject], name: str) -> JsonObject:
    """The one of ``videos`` with that id, that beginning of an id, or that file name. Raises UsageError when none or
    several fit."""
    fits = [video for video in videos if video["video_id"] == name]
    fits = fits or [video for video in videos if name and video["video_id"].startswith(name)]
    fits = fits or [video for video in videos if name == posixpath.basename(local_path(video["uri"]) or video["uri"])]
    fits = fits or [video for video in videos if name in _file_names(video["uri"])]
    if len(fits) == 1:
        return fits[0]
    ids = [video["video_id"] for video in fits or videos]
    listed = ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
    what = "several videos fit" if fits else "no video has the id or file name"
    raise UsageError(f"{what} {name!r}; expected one of {listed or 'none: nothing is mapped here yet'}")


def _file_names(uri: str) -> set[str]:
    """The name of a file as a person may type it: as it is, and without a store's percent encoding."""
    names = {uri, unquote(uri), local_path(uri) or uri, printable(uri)}
    return {name.rsplit("/", 1)[-1] for name in names}


def read_report_data(out: str, truth: str | None = None, taxonomy: str | None = None) -> ReportData:
    """Reads the maps at ``out`` and the clips of the annotated archive ``truth``.

    ``taxonomy``: name or file of the maps' taxonomy, needed only where it does not ship with this package. Raises
    UsageError where there are no maps, or where they are in another taxonomy. Raises AtlasError where the truth can't
    be read, is in another taxonomy, or annotates none of the videos.
    """
    rows, videos = read_timeline(out).to_pylist(), status_of(out)
    of_maps = taxonomy_of(rows, taxonomy)
    clips = None
    if truth is not None:
        atlas = read_atlas(truth)
        if atlas.taxonomy_digest != of_maps.digest:
            raise AtlasError(
                f"the truth at {truth!r} is annotated in taxonomy {atlas.taxonomy!r} {atlas.taxonomy_digest}, the maps "
                f"at {out!r} are in {of_maps.name!r} {of_maps.digest}; compare with an atlas of the maps' taxonomy"
            )
        annotated = {clip.video_id for clip in atlas.clips}
        if videos and not annotated & {video["video_id"] for video in videos}:
            raise AtlasError(
                f"the truth at {truth!r} annotates other videos: of the {len(videos)} at {out!r}, 0 are among its "
                f"{len(annotated)}; compare with the atlas of the archive that was mapped"
            )
        clips = list(atlas.clips)
    return ReportData(videos, rows, clips, of_maps, WindowSpec(), read_profile(out), read_cases(out), asked_tasks(out))


def taxonomy_of(rows: list[JsonObject], given: str | None = None) -> Taxonomy:
    """Returns the taxonomy of all ``rows``, found by its digest: ``given`` (a name or file), or a shipped taxonomy.

    Raises UsageError where the rows have another taxonomy, or several.
    """
    known = [taxonomies.load(name) for name in ([given] if given else SHIPPED)]
    digests = sorted({row["taxonomy_digest"] for row in rows})
    if not digests:
        return known[0]
    for taxonomy in known:
        if digests == [taxonomy.digest]:
            return taxonomy
    expected = ", ".join(f"{taxonomy.name!r} {taxonomy.digest}" for taxonomy in known)
    raise UsageError(
        f"the maps are in taxonomy {' and '.join(digests)}, expected {expected}; give the file of their taxonomy with "
        "--taxonomy, or map the whole archive again with one model"
    )
