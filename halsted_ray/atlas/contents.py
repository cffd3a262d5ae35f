"""Atlas: one version of an atlas in memory. Also which rows are valid, and how rows go into tables and come back."""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa

from halsted_ray import taxonomy as taxonomies
from halsted_ray.errors import AtlasError
from halsted_ray.records import SAMPLE_SCHEMA, SOURCES, SYNTHETIC, Clip, Video, digest

SPLITS = ("train", "validation", "test")
ROUNDING_S = 1e-6
"""Times that differ by less are equal: annotations are rounded in different ways."""
Row = dict[str, object]
"""One row of a table, by column."""


@dataclass(frozen=True)
class Atlas:
    """One version of an atlas, in memory.

    ``root``: the archive. ``videos``: with uris that can be opened as they are. ``split``: video_id to ``train``,
    ``validation`` or ``test``; a video that it does not name has no part yet.
    """

    root: str
    release: str
    """'' where this version is no release."""
    version: int
    """Version of the samples table. Lineage quotes this number."""
    taxonomy: str
    taxonomy_digest: str
    taxonomy_json: str
    """The taxonomy as JSON, as it was when this version was written."""
    split: dict[str, str]
    videos: tuple[Video, ...]
    clips: tuple[Clip, ...]
    captions_version: int | None = None
    """Version of the captions table that belongs to this version; None where there are no captions."""

    @property
    def name(self) -> str:
        """The release's name, or such as ``version 3`` where this version is no release."""
        return self.release or f"version {self.version}"

    @cached_property
    def content_digest(self) -> str:
        """Equal for equal rows, split and taxonomy, wherever the atlas lies. Costs about 5 s per million rows."""
        return content_digest(self.root, self.videos, self.clips, self.split, self.taxonomy_digest)

    def videos_of(self, split: str) -> tuple[Video, ...]:
        """Returns the videos of one part of the split."""
        return tuple(video for video in self.videos if self.split.get(video.video_id) == split)

    def load_taxonomy(self) -> taxonomies.Taxonomy:
        """Returns the taxonomy that the atlas was written with.

        Raises AtlasError where this program reads the taxonomy differently.
        """
        taxonomy = taxonomies.from_dict(json.loads(self.taxonomy_json), f"taxonomy of the atlas {self.name!r}")
        if taxonomy.digest != self.taxonomy_digest:
            raise AtlasError(
                f"the atlas {self.name!r} was written with taxonomy {self.taxonomy!r} {self.taxonomy_digest}, and this "
                f"program reads it as {taxonomy.digest}; write the atlas again, or use the program that wrote it"
            )
        return taxonomy


def content_digest(
    root: str, videos: Iterable[Video], clips: Iterable[Clip], split: Mapping[str, str], taxonomy_digest: str
) -> str:
    """Returns 16 hex digits over rows, split and taxonomy; the place of the archive does not matter."""
    # A video that stands alone counts as before there were groups, so that an older atlas keeps its digest.
    rows = [
        {name: value for name, value in row.items() if name != "group" or value} for row in video_rows(root, videos)
    ]
    return digest(rows, sample_rows(clips), split, taxonomy_digest)


def check_contents(
    videos: Sequence[Video], clips: Iterable[Clip], taxonomy: taxonomies.Taxonomy, split: Mapping[str, str]
) -> None:
    """Raises AtlasError, or TaxonomyError for an unknown task, at the first row that breaks the schema."""
    duration_s = {video.video_id: video.duration_s for video in videos}
    if len(duration_s) != len(videos):
        counts = Counter(video.video_id for video in videos)
        twice = sorted(video_id for video_id, count in counts.items() if count > 1)
        raise AtlasError(f"videos with the same content: {twice}; expected each video once in an atlas")
    if bad := {part for part in split.values() if part not in SPLITS}:
        raise AtlasError(f"unknown part of the split: {sorted(bad)}; expected one of {SPLITS}")
    if unknown := sorted(set(split) - set(duration_s)):
        raise AtlasError(f"the split names videos that the atlas lacks: {unknown}; add them, or take them out")
    clips = list(clips)
    for problem in drawn_problems(clips, split).values():
        raise AtlasError(problem)
    known_tasks = {task.name for task in taxonomy.tasks}
    valid: set[tuple[object, ...]] = set()
    for clip in clips:
        if clip.video_id not in duration_s:
            raise AtlasError(f"{clip_text(clip)}: the atlas has no such video; add its row to videos")
        if problem := time_problem(clip, duration_s[clip.video_id]):
            raise AtlasError(f"{clip_text(clip)}: {problem}")
        if clip.source not in SOURCES:
            raise AtlasError(f"{clip_text(clip)}: source {clip.source!r}; expected one of {SOURCES}")
        if not 0 <= clip.confidence <= 1:
            raise AtlasError(f"{clip_text(clip)}: confidence {clip.confidence}; expected 0 to 1")
        key = (clip.task, *clip.tags.items())
        if key not in valid:  # a million samples have a few hundred different answers
            if clip.task not in known_tasks:
                taxonomy.task(clip.task)  # raises, with the nearest names
            if problem := tags_problem(clip, taxonomy):
                raise AtlasError(f"{clip_text(clip)}: {problem}")
            valid.add(key)


def drawn_videos(clips: Iterable[Clip]) -> set[str]:
    """Returns the ids of the videos that were made for their labels (``records.SYNTHETIC``)."""
    return {clip.video_id for clip in clips if clip.source == SYNTHETIC}


def drawn_problems(clips: Sequence[Clip], split: Mapping[str, str]) -> dict[str, str]:
    """Returns video_id to what is wrong with a drawn video: it judges models, or holds samples of another source.

    What is drawn is never held out: a model's figures are about surgery. A drawn video holds drawn samples alone, so
    that no relabelling turns it into one that may be held out.
    """
    drawn = drawn_videos(clips)
    sources: dict[str, set[str]] = {}
    for clip in clips if drawn else ():
        if clip.video_id in drawn:
            sources.setdefault(clip.video_id, set()).add(clip.source)
    problems = {}
    for video_id in sorted(drawn):
        if (part := split.get(video_id, "train")) != "train":
            problems[video_id] = (
                f"video {video_id} has synthetic samples and is in the part {part!r}; what is drawn may be learned "
                "from and never judges a model: leave it to the part 'train', or take its samples out"
            )
        elif others := sources[video_id] - {SYNTHETIC}:
            problems[video_id] = (
                f"video {video_id} has synthetic samples and {' and '.join(sorted(others))} ones; a video is drawn or "
                "it is not: give all samples of a drawn video the source synthetic (--said-by synthetic)"
            )
    return problems


def clip_text(clip: Clip) -> str:
    """Returns the name of a clip for messages: its times, video and task."""
    return f"clip [{clip.start_s}, {clip.stop_s}) s of video {clip.video_id}, task {clip.task!r}"


def time_problem(clip: Clip, duration_s: float) -> str:
    """Returns what is wrong with a clip's times; '' for a clip inside its video."""
    if 0 <= clip.start_s < clip.stop_s <= duration_s + ROUNDING_S:
        return ""
    return f"expected 0 <= start < stop <= duration {duration_s} s"


def tags_problem(clip: Clip, taxonomy: taxonomies.Taxonomy) -> str:
    """Returns what is wrong with a clip's tags; '' where all tags and categories belong to the clip's task."""
    known = {tag.name: tag.categories for tag in taxonomy.task(clip.task).tags}
    for tag, category in clip.tags.items():
        if category not in known.get(tag, ()):
            expected = f"one of {known[tag]}" if tag in known else f"a tag of {sorted(known)}"
            return f"{tag}={category!r} is not in taxonomy {taxonomy.name!r}; expected {expected}"
    return ""


def complete_clips(clips: Iterable[Clip], annotator: str = "") -> list[Clip]:
    """Returns the clips in the table's order, with missing annotator, specialty and procedure filled in.

    Specialty and procedure come from the clip's tags, or else from other clips of its video. ``annotator``: for clips
    that name none.
    """
    clips = sorted(clips, key=lambda clip: (clip.video_id, clip.start_s, clip.stop_s, clip.task, clip.source))
    operation: dict[str, dict[str, str]] = {}
    for clip in clips:
        if "procedure" in clip.tags or "specialty" in clip.tags:
            operation.setdefault(clip.video_id, clip.tags)
    filled = []
    for clip in clips:
        of_video = operation.get(clip.video_id, {})
        who = clip.annotator or annotator
        specialty = clip.tags.get("specialty") or clip.specialty or of_video.get("specialty", "")
        procedure = clip.tags.get("procedure") or clip.procedure or of_video.get("procedure", "")
        if (who, specialty, procedure) != (clip.annotator, clip.specialty, clip.procedure):
            clip = replace(clip, annotator=who, specialty=specialty, procedure=procedure)
        filled.append(clip)
    return filled


def video_rows(root: str, videos: Iterable[Video]) -> list[Row]:
    """Returns the rows of the videos table, ordered by video_id."""
    ordered = sorted(videos, key=lambda video: video.video_id)
    return [{**vars(video), "uri": relative_uri(root, video.uri)} for video in ordered]


def sample_rows(clips: Iterable[Clip]) -> list[Row]:
    """Returns the rows of the samples table, in the order of ``clips``."""
    return [{"clip_id": clip.clip_id, **vars(clip), "tags": sorted(clip.tags.items())} for clip in clips]


def videos_of_table(root: str, table: pa.Table) -> tuple[Video, ...]:
    """Returns the videos of a videos table, with uris that can be opened from anywhere.

    In a table from before groups, and where a row has none, a video stands alone.
    """
    return tuple(
        Video(**{**row, "uri": absolute_uri(root, row["uri"]), "group": row.get("group") or ""})
        for row in table.to_pylist()
    )


def clips_of_table(table: pa.Table) -> tuple[Clip, ...]:
    """Returns the clips of a samples table."""
    # Reading by column takes half the time of making a dict per row first.
    names = [name for name in SAMPLE_SCHEMA.names if name != "clip_id"]
    columns = [table.column(name).to_pylist() for name in names]
    columns[names.index("tags")] = [dict(pairs) for pairs in columns[names.index("tags")]]
    return tuple(Clip(**dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True))


def relative_uri(location: str, uri: str) -> str:
    """Returns ``uri`` relative to the archive at ``location``; the uri of a file elsewhere stays absolute."""
    prefix = location.rstrip("/") + "/"
    return uri[len(prefix) :] if uri.startswith(prefix) else uri


def absolute_uri(location: str, uri: str) -> str:
    """Returns a row's ``uri`` as it can be opened, given the archive at ``location``."""
    return uri if "://" in uri else posixpath.join(location, uri)
