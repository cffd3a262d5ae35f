"""Which videos of an atlas belong together: cut from one source video, filmed in one operation or of one patient.

Such videos look alike. If one teaches a model and another judges it, the model is tested on what it knows by heart; so
a group lies in one part of every split and every fold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from halsted_ray.atlas.clip_files import source_of_clip_file
from halsted_ray.atlas.contents import SPLITS, Atlas
from halsted_ray.records import Clip, Video, digest

ID = re.compile(r"[0-9a-f]{16}")
LONGEST_CLIP_FILE_S = 60.0
WHOLE_SHARE = 0.9
"""A clip that covers at least this share of its file is the whole file, as data sets of clip files have it."""


def group_id(name: str) -> str:
    """Returns 16 hex digits for a group's name, which can be a patient's; '' and an id stay as they are."""
    return name if not name or ID.fullmatch(name) else digest("group", name)


def groups_of(videos: Iterable[Video]) -> dict[str, str]:
    """Returns video_id to group. A video that belongs to no group is a group of its own."""
    return {video.video_id: video.group or video.video_id for video in videos}


def joined_groups(*groupings: Mapping[str, str]) -> dict[str, str]:
    """Returns video_id to the group that holds all videos which any of ``groupings`` puts together with it.

    Each grouping is video_id to the name of a group. The joined group is named by the least of its video_ids.
    """
    leader: dict[str, str] = {}

    def find(video_id: str) -> str:
        while leader.setdefault(video_id, video_id) != video_id:
            video_id = leader[video_id]
        return video_id

    for grouping in groupings:
        first: dict[str, str] = {}
        for video_id, name in sorted(grouping.items()):
            a, b = sorted((find(video_id), find(first.setdefault(name, video_id))))
            leader[b] = a
    return {video_id: find(video_id) for video_id in leader}


def clip_file_sources(videos: Iterable[Video], clips: Iterable[Clip]) -> dict[str, str]:
    """Returns video_id to source, of those videos without a group that are the file of one clip, by their names."""
    spans: dict[str, set[tuple[float, float]]] = {}
    for clip in clips:
        spans.setdefault(clip.video_id, set()).add((clip.start_s, clip.stop_s))
    found = {}
    for video in videos:
        own = spans.get(video.video_id, set())
        if video.group or video.duration_s > LONGEST_CLIP_FILE_S or len(own) != 1:
            continue
        start_s, stop_s = next(iter(own))
        source = source_of_clip_file(video.uri)
        if source and stop_s - start_s >= WHOLE_SHARE * video.duration_s:
            found[video.video_id] = source
    return found


def leaks(split: Mapping[str, str], group_of: Mapping[str, str]) -> Iterator[dict[str, list[str]]]:
    """Yields part to video_ids, for each group that lies in several parts of ``split``."""
    parts_of: dict[str, dict[str, list[str]]] = {}
    for video_id, group in sorted(group_of.items()):
        if part := split.get(video_id):
            parts_of.setdefault(group, {}).setdefault(part, []).append(video_id)
    for parts in parts_of.values():
        if len(parts) > 1:
            yield {part: parts[part] for part in SPLITS if part in parts}


def leak_texts(atlas: Atlas) -> Iterator[tuple[str, str]]:
    """Yields (video_id, what is wrong) for each group in several parts, and for clip files of one source by name."""
    advice = (
        "a model would be tested on what it learned from; a part never changes, so import the data set into a new "
        "atlas and release that, or leave this release's figures out"
    )
    for parts in leaks(atlas.split, groups_of(atlas.videos)):
        yield next(iter(parts.values()))[0], f"{counted(parts)}: they are of one group; {advice}"
    for parts in leaks(atlas.split, clip_file_sources(atlas.videos, atlas.clips)):
        text = f"{counted(parts)}: by the names of their files they are clips of one source video; {advice}"
        yield next(iter(parts.values()))[0], text


def counted(parts: Mapping[str, list[str]]) -> str:
    """Returns the videos of a group by part, in words, without listing hundreds."""
    listed = (
        f"{' '.join(ids[:3])}{f' and {len(ids) - 3} more' * (len(ids) > 3)} ({part})" for part, ids in parts.items()
    )
    return f"videos {', '.join(listed)}"
