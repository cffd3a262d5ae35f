"""Counts what a release holds, as the paper's Table 2 does, and what differs between two releases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from halsted_ray.atlas.commits import sample_identity
from halsted_ray.atlas.contents import Atlas
from halsted_ray.records import SOURCES, SYNTHETIC, Clip


@dataclass(frozen=True)
class CensusRow:
    """The counts of one procedure, or of the whole atlas.

    A video counts once for each procedure that it has samples of, and once for the whole.
    """

    specialty: str
    procedure: str
    videos: int
    samples: Mapping[str, int]
    """Task to number of samples. A task without samples is left out."""
    manual: int
    """Samples of persons."""
    synthetic: int = 0
    """Samples of drawn videos."""

    @property
    def total(self) -> int:
        """The number of samples of all tasks."""
        return sum(self.samples.values())

    @property
    def manual_share(self) -> float | None:
        """The share of samples that persons made, in [0, 1]; None where there is no sample."""
        return self.manual / self.total if self.total else None


@dataclass(frozen=True)
class Census:
    """The paper's Table 2 (Supplementary of arXiv 2603.22583): one row per procedure, by specialty, and the whole."""

    tasks: tuple[str, ...]
    rows: tuple[CensusRow, ...]
    whole: CensusRow


def census(atlas: Atlas) -> Census:
    """Counts the videos and samples of ``atlas``."""
    counts = Counter((clip.specialty, clip.procedure, clip.task, clip.source) for clip in atlas.clips)
    seen: dict[tuple[str, str], set[str]] = {}
    for clip in atlas.clips:
        seen.setdefault((clip.specialty, clip.procedure), set()).add(clip.video_id)
    videos = {key: len(ids) for key, ids in seen.items()}
    tasks = [task.name for task in atlas.load_taxonomy().tasks]
    return census_of_counts(counts, videos, len(atlas.videos), tasks)


def census_of_counts(
    counts: Mapping[tuple[str, str, str, str], int],
    videos: Mapping[tuple[str, str], int],
    videos_in_all: int,
    tasks: Iterable[str],
) -> Census:
    """Makes a census from counts.

    ``counts``: (specialty, procedure, task, source) to number of samples. ``videos``: (specialty, procedure) to number
    of videos. ``videos_in_all``: the number of different videos. ``tasks``: names in the order of the columns.
    """
    tasks = tuple(tasks)
    rows = []
    for specialty, procedure in sorted(videos):
        own = {(task, source): count for (*key, task, source), count in counts.items() if key == [specialty, procedure]}
        rows.append(count_row(specialty, procedure, videos[specialty, procedure], own, tasks))
    total: Counter[tuple[str, str]] = Counter()
    for (_, _, task, source), count in counts.items():
        total[task, source] += count
    return Census(tasks, tuple(rows), count_row("", "", videos_in_all, total, tasks))


def count_row(
    specialty: str, procedure: str, videos: int, counts: Mapping[tuple[str, str], int], tasks: tuple[str, ...]
) -> CensusRow:
    """Makes one row. ``counts``: (task, source) to number of samples."""
    of_task = {task: sum(count for key, count in counts.items() if key[0] == task) for task in tasks}
    of_source = {name: sum(count for (_, source), count in counts.items() if source == name) for name in SOURCES}
    samples = {task: count for task, count in of_task.items() if count}
    return CensusRow(specialty, procedure, videos, samples, of_source["manual"], of_source[SYNTHETIC])


def without_validation(atlas: Atlas) -> dict[str, list[tuple[str, str]]]:
    """Returns what the training part of ``atlas`` has and its validation part lacks.

    Task to the (tag, category) that are lacking; to an empty list where validation lacks the whole task. Tasks that
    lack nothing are left out. Only what persons labelled validates.
    """
    found: dict[str, dict[str, set[tuple[str, str]]]] = {"train": {}, "validation": {}}
    for clip in atlas.clips:
        part = atlas.split.get(clip.video_id, "")
        if part == "train" or (part == "validation" and clip.source == "manual"):
            found[part].setdefault(clip.task, set()).update(clip.tags.items())
    lacking = {
        task: sorted(pairs - found["validation"][task]) if task in found["validation"] else []
        for task, pairs in sorted(found["train"].items())
    }
    return {task: pairs for task, pairs in lacking.items() if pairs or task not in found["validation"]}


@dataclass(frozen=True)
class ReleaseDifference:
    """What changed from atlas A to atlas B.

    ``by``: "procedure", "task", "tag" or "source", then its value, to (samples removed, samples added). A sample whose
    tags, times or source changed counts as one removed and one added sample. A new confidence is no change.
    """

    added: int
    removed: int
    unchanged: int
    videos_added: tuple[str, ...]
    videos_removed: tuple[str, ...]
    by: Mapping[str, Mapping[str, tuple[int, int]]]


def difference(a: Atlas, b: Atlas) -> ReleaseDifference:
    """Counts what ``b`` has added to ``a`` and removed from it."""
    before, after = ({sample_identity(clip): clip for clip in atlas.clips} for atlas in (a, b))
    removed = [clip for key, clip in before.items() if key not in after]
    added = [clip for key, clip in after.items() if key not in before]
    by: dict[str, dict[str, tuple[int, int]]] = {}
    for name in ("procedure", "task", "tag", "source"):
        gone, new = (Counter(value for clip in clips for value in values_of(clip, name)) for clips in (removed, added))
        by[name] = {value: (gone[value], new[value]) for value in sorted({*gone, *new})}
    ids_a, ids_b = ({video.video_id for video in atlas.videos} for atlas in (a, b))
    return ReleaseDifference(
        len(added),
        len(removed),
        len(after) - len(added),
        tuple(sorted(ids_b - ids_a)),
        tuple(sorted(ids_a - ids_b)),
        by,
    )


def values_of(clip: Clip, name: str) -> list[str]:
    """Returns a clip's values of "procedure", "task", "source" or "tag" (as ``tag=category``)."""
    if name == "tag":
        return [f"{tag}={category}" for tag, category in clip.tags.items()]
    return [getattr(clip, name) or "(none)"]
