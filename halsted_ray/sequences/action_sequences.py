"""Sequences of actions: what a map, or an atlas, says of the order in which things were done in each video."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from halsted_ray.atlas import Atlas, read_atlas
from halsted_ray.atlas.groups import groups_of
from halsted_ray.errors import UsageError
from halsted_ray.maps.cases import read_cases
from halsted_ray.maps.reading import read_timeline
from halsted_ray.maps.stitches import NO_ANSWER
from halsted_ray.maps.timeline import TOUCHING_S
from halsted_ray.records import SYNTHETIC
from halsted_ray.storage.delta import is_table, table_uri
from halsted_ray.taxonomy import Taxonomy

TAGS = ("action", "phase")
"""The tags of halsted.yaml that say what is being done: actions in dissection, phases in suturing."""
LONGEST_PAUSE_S = 30.0
"""After so long without any action, what follows is no continuation. Annotated clips can be minutes apart."""

Symbol = tuple[str, str]
"""(tag, category): what is being done."""


@dataclass(frozen=True)
class Action:
    """``symbol`` is being done in ``[start_s, stop_s)`` of one video, ``confidence`` (0 to 1) sure."""

    start_s: float
    stop_s: float
    symbol: Symbol
    confidence: float = 1.0


@dataclass(frozen=True)
class ActionSequence:
    """The actions of one video. ``pieces``: actions in order of their start; nothing is known of what lies between two
    pieces (a gap, time that the model does not know, or a pause). ``group``: videos of one group are never held out
    without each other."""

    video_id: str
    group: str
    pieces: tuple[tuple[Action, ...], ...]

    @property
    def actions(self) -> tuple[Action, ...]:
        """All actions, in order."""
        return tuple(action for piece in self.pieces for action in piece)


@dataclass(frozen=True)
class SequenceSource:
    """``sequences``: one per video that has an action. ``kind``: ``maps`` or ``atlas``. ``taxonomy_digest``: of the
    rows; '' where rows of several taxonomies are mixed."""

    sequences: tuple[ActionSequence, ...]
    kind: str
    taxonomy_digest: str
    tags: tuple[str, ...]


def read_sequences(location: str, tags: Sequence[str] = TAGS, release: str | None = None) -> SequenceSource:
    """The sequences of the maps at ``location`` (the OUT of a mapping), or of the annotated archive at ``location``.

    ``tags``: whose categories are actions. ``release``: of the atlas. Raises UsageError where the location holds
    neither, where no row has one of ``tags``, and AtlasError.
    """
    if is_table(table_uri(location, "timeline")) or is_table(table_uri(location, "videos")):
        source = sequences_of_maps(location, tags)
    elif is_table(table_uri(location, "atlas", "samples")):
        source = sequences_of_atlas(read_atlas(location, release), tags)
    else:
        raise UsageError(
            f"{location!r} holds neither maps nor an atlas; give the OUT of `halsted map`, or an archive that holds "
            "atlas/"
        )
    if not source.sequences:
        raise UsageError(
            f"no row at {location!r} has a tag of {', '.join(tags)}; name the tags that say what is being done (--tags)"
        )
    return source


def sequences_of_maps(out: str, tags: Sequence[str] = TAGS) -> SequenceSource:
    """The sequences of the maps at ``out``. The videos of a case are one group. Raises UsageError, OutputError."""
    timeline = read_timeline(out)
    group_of = {chapter.video_id: chapter.case_id for chapter in read_cases(out)}
    columns = ["video_id", "start_s", "stop_s", "task", "tag", "category", "confidence", "source", "taxonomy_digest"]
    by_video: dict[str, list[dict[str, Any]]] = {}
    digests = set()
    for row in timeline.select(columns).to_pylist():
        by_video.setdefault(row["video_id"], []).append(row)
        digests.add(row["taxonomy_digest"])
    found = (
        ActionSequence(video_id, group_of.get(video_id, video_id), pieces_of_rows(rows, tags))
        for video_id, rows in sorted(by_video.items())
    )
    digest = digests.pop() if len(digests) == 1 else ""
    return SequenceSource(tuple(sequence for sequence in found if sequence.pieces), "maps", digest, tuple(tags))


def sequences_of_atlas(atlas: Atlas, tags: Sequence[str] = TAGS) -> SequenceSource:
    """The sequences of the clips of ``atlas`` but its drawn ones, which follow nothing; groups are those of the atlas.
    Raises TaxonomyError for an unknown tag."""
    known_tags(tags, atlas.load_taxonomy())
    group_of = groups_of(atlas.videos)
    by_video: dict[str, list[Action]] = {}
    for clip in atlas.clips:
        for tag in tags:
            if tag in clip.tags and clip.source != SYNTHETIC:
                action = Action(clip.start_s, clip.stop_s, (tag, clip.tags[tag]), clip.confidence)
                by_video.setdefault(clip.video_id, []).append(action)
    found = (
        ActionSequence(video_id, group_of.get(video_id, video_id), pieces_of_actions(actions, ()))
        for video_id, actions in sorted(by_video.items())
    )
    return SequenceSource(tuple(found), "atlas", atlas.taxonomy_digest, tuple(tags))


def known_tags(tags: Sequence[str], taxonomy: Taxonomy) -> None:
    """Raises TaxonomyError for a tag that the taxonomy does not have."""
    for tag in tags:
        taxonomy.tag(tag)


def pieces_of_rows(rows: Iterable[Mapping[str, Any]], tags: Sequence[str]) -> tuple[tuple[Action, ...], ...]:
    """The pieces of one video, from its rows of a timeline in any order.

    A row without an answer (``stitches.NO_ANSWER``) ends a piece where its task is the task of one of ``tags``.
    """
    rows = list(rows)
    tasks = {row["task"] for row in rows if row["tag"] in tags}
    actions = [
        Action(row["start_s"], row["stop_s"], (row["tag"], row["category"]), row["confidence"])
        for row in rows
        if row["tag"] in tags and row["source"] not in NO_ANSWER
    ]
    breaks = [row["start_s"] for row in rows if row["source"] in NO_ANSWER and row["task"] in tasks]
    return pieces_of_actions(actions, breaks)


def pieces_of_actions(
    actions: Iterable[Action], breaks: Iterable[float], longest_pause_s: float = LONGEST_PAUSE_S
) -> tuple[tuple[Action, ...], ...]:
    """``actions`` in order of their start, cut at ``breaks`` (seconds) and at pauses longer than ``longest_pause_s``.

    Neighbours of one symbol that touch or overlap become one action: two annotators may have said the same.
    """
    at_s = sorted(breaks)
    pieces: list[list[Action]] = []
    for action in sorted(actions, key=lambda action: (action.start_s, action.stop_s, action.symbol)):
        last = pieces[-1][-1] if pieces else None
        if last is None or _is_broken(last, action, at_s, longest_pause_s):
            pieces.append([action])
        elif last.symbol == action.symbol and action.start_s <= last.stop_s + TOUCHING_S:
            pieces[-1][-1] = replace(last, stop_s=max(last.stop_s, action.stop_s))
        else:
            pieces[-1].append(action)
    return tuple(tuple(piece) for piece in pieces)


def _is_broken(last: Action, action: Action, breaks: Sequence[float], longest_pause_s: float) -> bool:
    has_break = bisect_right(breaks, last.start_s) < bisect_right(breaks, action.start_s)
    return has_break or action.start_s - last.stop_s > longest_pause_s
