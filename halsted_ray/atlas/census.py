"""What a release holds, counted as the paper's Table 2 counts it, and what differs between two releases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from halsted_ray.atlas.commits import identity
from halsted_ray.atlas.contents import Atlas
from halsted_ray.records import Clip


@dataclass(frozen=True)
class Row:
    """One procedure, or all. A video counts for each procedure it has samples of, and once in the whole."""

    specialty: str
    procedure: str
    videos: int
    samples: Mapping[str, int]
    """Task → samples; tasks without any are left out."""
    manual: int

    @property
    def total(self) -> int:
        return sum(self.samples.values())

    @property
    def manual_share(self) -> float | None:
        """Of the samples; None where there is none."""
        return self.manual / self.total if self.total else None


@dataclass(frozen=True)
class Census:
    """The paper's Table 2 (Supplementary of arXiv 2603.22583): a row a procedure, by specialty, and their sum."""

    tasks: tuple[str, ...]
    rows: tuple[Row, ...]
    whole: Row


def census(atlas: Atlas) -> Census:
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
    """``counts``: (specialty, procedure, task, source) → samples; ``videos``: (specialty, procedure) → videos."""
    tasks = tuple(tasks)
    rows = []
    for specialty, procedure in sorted(videos):
        own = {key[2:]: count for key, count in counts.items() if key[:2] == (specialty, procedure)}
        rows.append(row_of(specialty, procedure, videos[specialty, procedure], own, tasks))
    total: Counter[tuple[str, str]] = Counter()
    for (_, _, task, source), count in counts.items():
        total[task, source] += count
    return Census(tasks, tuple(rows), row_of("", "", videos_in_all, total, tasks))


def row_of(specialty: str, procedure: str, videos: int, counts: Mapping[tuple[str, str], int], tasks: tuple) -> Row:
    of_task = {task: sum(count for key, count in counts.items() if key[0] == task) for task in tasks}
    manual = sum(count for (_, source), count in counts.items() if source == "manual")
    return Row(specialty, procedure, videos, {task: count for task, count in of_task.items() if count}, manual)


@dataclass(frozen=True)
class ReleaseDifference:
    """From atlas A to atlas B. ``by``: procedure, task, tag or source → its value → (samples removed, added).

    A sample whose tags, times or source changed counts as one removed and one added; a new confidence is no change.
    """

    added: int
    removed: int
    unchanged: int
    videos_added: tuple[str, ...]
    videos_removed: tuple[str, ...]
    by: Mapping[str, Mapping[str, tuple[int, int]]]


def difference(a: Atlas, b: Atlas) -> ReleaseDifference:
    before, after = ({identity(clip): clip for clip in atlas.clips} for atlas in (a, b))
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
    if name == "tag":
        return [f"{tag}={category}" for tag, category in clip.tags.items()]
    return [getattr(clip, name) or "(none)"]
