"""What the map of one video says in short: the procedure, a strip of steps, stitches, and rows that are worth a look.

Pure functions over the rows of a timeline. A list of ten thousand videos shows summaries and reads no map.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeAlias

from halsted_ray.maps.stitches import NO_ANSWER, Stitch
from halsted_ray.taxonomy import Taxonomy

Row: TypeAlias = Mapping[str, Any]
"""A row of ``table_schemas.TIMELINE_SCHEMA``."""

STRIP_BINS = 200
"""A strip shows each step to this share of the video: 54 s of three hours."""
STRIP_DECIMALS = 4
FEWEST_ALIKE = 8
"""A row is unlike the others of its kind only where there are so many of them."""
LEAST_SPREAD = 0.1
"""Of the logarithm of lengths: rows of nearly one length are not unlike each other for a tenth more or less."""


@dataclass(frozen=True)
class Moment:
    """A row that is worth a look. ``value``: by what it was chosen, see ``Moments``."""

    start_s: float
    stop_s: float
    tag: str
    category: str
    value: float


@dataclass(frozen=True)
class Moments:
    """``least_sure``: the row of least confidence. ``longest``: in seconds. ``unlike``: the row, other than the
    longest, whose length is furthest from the others of its category, in deviations of the logarithm. None where there
    is none.

    They are rows of the first tag of each fine task; of the coarse tasks where no fine task has rows.
    """

    least_sure: Moment | None = None
    longest: Moment | None = None
    unlike: Moment | None = None


@dataclass(frozen=True)
class MapSummary:
    """``procedure`` with its mean confidence, None where the map names none. ``strip``: (start, stop, index of
    ``strip_categories``) of each step as shares of the video, in order. ``asked``: tasks that the map answers;
    ``not_asked``: the other tasks of its taxonomy. ``stitches``: None where nobody asked for the phases of suturing.
    ``rated``: the stitches whose proficiency the map states; ``rated_high``: those of high proficiency.
    ``phase_times_s``: phase of suturing → the seconds that each stitch took for it. ``step_times_s``: step → its
    seconds, to which the parts without an answer add nothing."""

    procedure: str | None
    procedure_confidence: float | None
    strip: tuple[tuple[float, float, int], ...]
    strip_categories: tuple[str, ...]
    asked: tuple[str, ...]
    not_asked: tuple[str, ...]
    stitches: int | None
    rated: int
    rated_high: int
    phase_times_s: Mapping[str, Sequence[float]]
    step_times_s: Mapping[str, float]
    moments: Moments


def summarise(
    rows: Sequence[Row],
    duration_s: float,
    asked: Collection[str],
    taxonomy: Taxonomy,
    stitches: Sequence[Stitch] | None,
) -> MapSummary:
    """The summary of one video. ``rows``: of its timeline, in the order of time. ``asked``: the tasks that some segment
    was asked. ``stitches``: those found over the rows, None where the phases of suturing were not asked."""
    seen = [row for row in rows if row["source"] not in NO_ANSWER]
    procedure, confidence = _procedure(seen, taxonomy)
    strip, categories = _strip(seen, duration_s, taxonomy)
    rated = [stitch.is_high for stitch in stitches or () if stitch.is_high is not None]
    names = [task.name for task in taxonomy.tasks]
    return MapSummary(
        procedure,
        confidence,
        strip,
        categories,
        tuple(name for name in names if name in asked),
        tuple(name for name in names if name not in asked),
        None if stitches is None else len(stitches),
        len(rated),
        sum(rated),
        _phase_times(stitches or (), taxonomy),
        _step_times(seen, taxonomy),
        find_moments(seen, taxonomy),
    )


def find_moments(rows: Sequence[Row], taxonomy: Taxonomy) -> Moments:
    """Which of ``rows`` are worth a look; among equals the first."""
    chosen: list[Row] = []
    for window in ("fine", "coarse"):
        tags = {tag for task in taxonomy.tasks if task.window == window and (tag := _main_tag(task.tags))}
        chosen = [row for row in rows if row["tag"] in tags]
        if chosen:
            break
    else:
        return Moments()
    least = min(chosen, key=lambda row: row["confidence"])
    longest = max(chosen, key=_length)
    kinds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in chosen:
        kinds[row["tag"], row["category"]].append(math.log(max(_length(row), 1e-3)))
    usual = {kind: _usual(logs) for kind, logs in kinds.items() if len(logs) >= FEWEST_ALIKE}

    def distance(row: Row) -> float:
        middle, spread = usual[row["tag"], row["category"]]
        return abs(math.log(max(_length(row), 1e-3)) - middle) / spread

    others = [row for row in chosen if row is not longest and (row["tag"], row["category"]) in usual]
    unlike = max(others, key=distance, default=None)
    return Moments(
        _moment(least, least["confidence"]),
        _moment(longest, _length(longest)),
        None if unlike is None else _moment(unlike, distance(unlike)),
    )


def _procedure(rows: Sequence[Row], taxonomy: Taxonomy) -> tuple[str | None, float | None]:
    """The category of the last tag that a map states once per operation, by the time that it has, and its mean
    confidence over that time."""
    tags = [tag.name for task in taxonomy.tasks for tag in task.tags if tag.per == "operation"]
    lengths_s: dict[str, float] = defaultdict(float)
    weights: dict[str, float] = defaultdict(float)
    for row in rows:
        if tags and row["tag"] == tags[-1]:
            lengths_s[row["category"]] += _length(row)
            weights[row["category"]] += _length(row) * row["confidence"]
    if not lengths_s:
        return None, None
    best = max(lengths_s, key=lambda category: (lengths_s[category], category))
    return best, round(weights[best] / lengths_s[best], STRIP_DECIMALS)


def _strip(
    rows: Sequence[Row], duration_s: float, taxonomy: Taxonomy
) -> tuple[tuple[tuple[float, float, int], ...], tuple[str, ...]]:
    """The steps: in each of STRIP_BINS equal parts of the video the category that fills most of it, if any fills half.
    ``strip_categories`` has them in the order in which they first occur."""
    tag = _step_tag(taxonomy)
    if duration_s <= 0 or tag is None:
        return (), ()
    bin_s = duration_s / STRIP_BINS
    filled: list[dict[str, float]] = [defaultdict(float) for _ in range(STRIP_BINS)]
    for row in rows:
        if row["tag"] != tag:
            continue
        first, last = max(0, int(row["start_s"] / bin_s)), min(STRIP_BINS - 1, int(row["stop_s"] / bin_s))
        for place in range(first, last + 1):
            overlap_s = min(row["stop_s"], (place + 1) * bin_s) - max(row["start_s"], place * bin_s)
            filled[place][row["category"]] += max(0.0, overlap_s)
    runs: list[tuple[int, int, str]] = []
    for place, lengths_s in enumerate(filled):
        best = max(lengths_s, key=lambda category: (lengths_s[category], category), default="")
        if not best or lengths_s[best] < bin_s / 2:
            continue
        if runs and runs[-1][1:] == (place, best):
            runs[-1] = (runs[-1][0], place + 1, best)
        else:
            runs.append((place, place + 1, best))
    categories = tuple(dict.fromkeys(category for _, _, category in runs))
    return (
        tuple(
            (
                round(start / STRIP_BINS, STRIP_DECIMALS),
                round(stop / STRIP_BINS, STRIP_DECIMALS),
                categories.index(name),
            )
            for start, stop, name in runs
        ),
        categories,
    )


def _phase_times(stitches: Sequence[Stitch], taxonomy: Taxonomy) -> dict[str, list[float]]:
    """By the first category of each phase; a stitch without the phase says nothing of it."""
    roles = taxonomy.stitch
    if roles is None:
        return {}
    times = {"handling": roles.handling, "driving": roles.driving, "withdrawal": roles.withdrawal}
    return {
        categories[0]: [seconds for stitch in stitches if (seconds := getattr(stitch, f"{role}_s")) > 0]
        for role, categories in times.items()
        if categories
    }


def _step_times(rows: Sequence[Row], taxonomy: Taxonomy) -> dict[str, float]:
    """Step → seconds, in the order in which steps first occur."""
    times_s: dict[str, float] = defaultdict(float)
    tag = _step_tag(taxonomy)
    for row in rows:
        if row["tag"] == tag:
            times_s[row["category"]] += _length(row)
    return dict(times_s)


def _step_tag(taxonomy: Taxonomy) -> str | None:
    """The tag whose categories are the steps: the first that may change from window to window."""
    return next((tag for task in taxonomy.tasks if (tag := _main_tag(task.tags))), None)


def _main_tag(tags: Sequence[Any]) -> str | None:
    """The first tag that may change from window to window."""
    return next((tag.name for tag in tags if tag.per != "operation"), None)


def _usual(logs: Sequence[float]) -> tuple[float, float]:
    """(median, spread) of logarithms of lengths; the spread as a standard deviation would be, of a normal law."""
    middle = median(logs)
    return middle, max(LEAST_SPREAD, 1.4826 * median(abs(value - middle) for value in logs))


def _length(row: Row) -> float:
    length_s: float = row["stop_s"] - row["start_s"]
    return length_s


def _moment(row: Row, value: float) -> Moment:
    return Moment(row["start_s"], row["stop_s"], row["tag"], row["category"], round(value, STRIP_DECIMALS))
