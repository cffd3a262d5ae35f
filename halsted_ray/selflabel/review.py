"""The labels that most need a person's eye, as a Label Studio project: `halsted review`.

The reviewed project is imported as any Label Studio file (`halsted atlas import … --format label-studio`): a person's
label takes the place of the model's label of the same span.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from halsted_ray.atlas import Atlas, read_atlas
from halsted_ray.atlas.atlas_table import HEAD
from halsted_ray.atlas.formats.label_studio import interface, task_of
from halsted_ray.errors import AtlasError
from halsted_ray.maps.reading import read_timeline
from halsted_ray.records import SYNTHETIC, Clip
from halsted_ray.storage.files import write_atomically
from halsted_ray.storage.locations import absolute_location, filesystem

MOST = 50
"""Clips in the project, at most."""

Lanes = Mapping[tuple[str, str, str], Sequence[tuple[float, float, str, float]]]
"""(video_id, task, tag) → (start_s, stop_s, category, confidence) of each interval of a map."""
SpanKey = tuple[str, float, float]
"""(video_id, start_s, stop_s)."""


@dataclass(frozen=True)
class Doubt:
    """A span to look at. ``clips``: its samples, one per task. ``kind``: ``uncertain`` or ``disagrees``.

    ``size``: how large the doubt is, 0 to 1; ``why``: the reason in words.
    """

    clips: tuple[Clip, ...]
    kind: str
    size: float
    why: str


def review(atlas: str, out: str, *, maps: str | None = None, most: int = MOST, with_files: bool = False) -> list[Doubt]:
    """Writes the ``most`` most doubtful spans of the atlas's newest version to the file ``out``, and the project's
    labelling interface beside it (``.xml``); returns them.

    A model's clip is uncertain where its confidence is low. A clip, a person's too, disagrees where the maps at
    ``maps`` (of another model, say) show another category. Videos that judge models are left out: correcting only what
    a model doubts would bend the truth towards the model. ``with_files``: name each video's file, which may be private.
    Raises AtlasError where nothing is in doubt, OutputError, and UsageError where nothing was mapped to ``maps``.
    """
    head = read_atlas(atlas, HEAD)
    doubts = largest_doubts(head, read_lanes(maps) if maps else {}, most)
    if not doubts:
        raise AtlasError(
            f"the atlas {head.name!r} has no clip in doubt: none of its clips is a model's"
            + ("" if maps else ", and no maps are named to compare with (--maps)")
        )
    of_video: dict[str, list[Doubt]] = {}
    for doubt in doubts:
        of_video.setdefault(doubt.clips[0].video_id, []).append(doubt)
    videos = {video.video_id: video for video in head.videos}
    tasks = []
    for video_id, own in of_video.items():
        task = task_of(videos[video_id], [clip for doubt in own for clip in doubt.clips], with_files)
        task["data"]["review"] = [
            f"[{doubt.clips[0].start_s:g}, {doubt.clips[0].stop_s:g}) s: {doubt.why}" for doubt in own
        ]
        tasks.append(task)
    fs, path = filesystem(absolute_location(out))
    write_atomically(fs, path, json.dumps(tasks, ensure_ascii=False, indent=1).encode())
    write_atomically(fs, f"{os.path.splitext(path)[0]}.xml", interface(head.load_taxonomy()).encode())
    return doubts


def largest_doubts(head: Atlas, lanes: Lanes, most: int) -> list[Doubt]:
    """The largest doubts, the two kinds taking turns; each span is named once."""
    judging = {video_id for video_id, part in head.split.items() if part != "train"}
    spans: dict[SpanKey, list[Clip]] = {}
    for clip in head.clips:
        if clip.video_id not in judging and clip.source != SYNTHETIC:
            spans.setdefault((clip.video_id, clip.start_s, clip.stop_s), []).append(clip)
    found: dict[str, list[tuple[float, SpanKey, str]]] = {"uncertain": [], "disagrees": []}
    for key, clips in spans.items():
        unsure = min((clip for clip in clips if clip.source == "ai"), key=lambda clip: clip.confidence, default=None)
        if unsure is not None:
            found["uncertain"].append((1 - unsure.confidence, key, f"{unsure.task} at {unsure.confidence:.2f}"))
        size, why = max(disagreement(clip, lanes) for clip in clips)
        if size > 0:
            found["disagrees"].append((size, key, why))
    ranked = [
        [(kind, size, key, why) for size, key, why in sorted(of_kind, key=lambda doubt: (-doubt[0], doubt[1]))]
        for kind, of_kind in found.items()
    ]
    doubts: dict[SpanKey, Doubt] = {}
    for kind, size, key, why in filter(None, chain.from_iterable(zip_longest(*ranked))):
        if len(doubts) < most:
            doubts.setdefault(key, Doubt(tuple(spans[key]), kind, size, why))
    return list(doubts.values())


def disagreement(clip: Clip, lanes: Lanes) -> tuple[float, str]:
    """(share of the clip, weighted by confidence, in which the map shows another category of a tag; which category).

    Of the clip's tags the largest share counts; (0, "") where the map agrees.
    """
    largest = (0.0, "")
    for tag, category in clip.tags.items():
        others: dict[str, float] = {}
        for start_s, stop_s, mapped, confidence in lanes.get((clip.video_id, clip.task, tag), ()):
            shared_s = min(stop_s, clip.stop_s) - max(start_s, clip.start_s)
            if shared_s > 0 and mapped != category:
                others[mapped] = others.get(mapped, 0.0) + shared_s * confidence
        if others:
            commonest = max(others, key=lambda name: others[name])
            share = sum(others.values()) / (clip.stop_s - clip.start_s)
            largest = max(largest, (share, f"{tag} is {category} here, {commonest} on the map"))
    return largest


def read_lanes(maps: str) -> Lanes:
    """The intervals of the maps at ``maps`` that a model predicted. Raises UsageError where nothing was mapped."""
    table = read_timeline(maps)
    names = ("video_id", "task", "tag", "start_s", "stop_s", "category", "confidence", "source")
    lanes: dict[tuple[str, str, str], list[tuple[float, float, str, float]]] = {}
    for video_id, task, tag, start_s, stop_s, category, confidence, source in zip(
        *(table[name].to_pylist() for name in names), strict=True
    ):
        if source == "ai":
            lanes.setdefault((video_id, task, tag), []).append((start_s, stop_s, category, confidence))
    return lanes
