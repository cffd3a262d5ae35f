"""Splits videos into videos to train a model on and videos to validate or test it on. Groups of videos stay whole.

Held-out videos are chosen one group after another, so that each part resembles the whole by task, procedure and
category: the idea of iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011), with parts of exact size.

Legend: U groups of videos, L labels (a task, a procedure, or a category of a tag).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping

import numpy as np

from halsted_ray.atlas.contents import Atlas, drawn_videos
from halsted_ray.atlas.groups import groups_of
from halsted_ray.errors import UsageError
from halsted_ray.records import Clip

Label = tuple[str, ...]
"""("task", name), ("procedure", name) or ("category", tag, name)."""


def split_of(atlas: Atlas) -> dict[str, str]:
    """Returns the atlas's own split; where it has none, a split of its videos drawn by group, in which videos with
    synthetic samples are only learned from."""
    drawn = drawn_videos(atlas.clips)
    if set(atlas.split) - drawn:
        return atlas.split
    videos = [video.video_id for video in atlas.videos if video.video_id not in drawn]
    parts = split_by_video(videos, atlas.clips, group_of=groups_of(atlas.videos))
    return parts | dict.fromkeys(sorted(drawn), "train")


def split_by_video(
    video_ids: Iterable[str],
    clips: Iterable[Clip],
    *,
    validation: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    fixed: Mapping[str, str] | None = None,
    group_of: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Returns video_id to ``train``, ``validation`` or ``test``. The order of the videos does not matter.

    ``group_of``: video_id to its group (default: each video is one). All videos of a group get one part, except those
    that are ``fixed`` otherwise; the shares are of groups. Each share above 0 gets at least one group, and at least one
    is left for training. Groups in ``fixed`` keep the part of their first fixed video and count towards the shares;
    where too many are fixed, the shares are reached as far as possible.

    A held-out group is the last of its task or procedure in training only where there is no other choice. Each
    held-out part gets every task that two or more groups have, as far as its size allows. Then a category stays in
    training rather than being held out whole, and the shares of all labels come as close to the part's share as they
    can. ``seed`` draws the first group of each part among the equally good ones. Only what persons labelled counts.
    Costs U × L steps per held-out group. Raises UsageError where there are too few groups.
    """
    video_ids = sorted(set(video_ids))
    fixed = {video_id: part for video_id, part in (fixed or {}).items() if video_id in set(video_ids)}
    group_of = group_of or {}
    members: dict[str, list[str]] = {}
    for video_id in sorted(video_ids, key=lambda video_id: (video_id not in fixed, video_id)):
        members.setdefault(group_of.get(video_id, video_id), []).append(video_id)
    kept = {group: fixed[own[0]] for group, own in members.items() if own[0] in fixed}
    wanted = {
        name: max(1, round(share * len(members))) if share else 0
        for name, share in (("validation", validation), ("test", test))
    }
    counts = {name: max(0, count - sum(part == name for part in kept.values())) for name, count in wanted.items()}
    room = len(members) - len(kept) - ("train" not in kept.values())
    if sum(counts.values()) > room and not kept:
        what = f"{len(video_ids)} videos" + (f" of {len(members)} groups" if len(members) < len(video_ids) else "")
        raise UsageError(
            f"{what} can't be split into training and {wanted}; annotate more videos, ask for smaller shares, or give "
            "the split yourself"
        )
    drawn = Stratified(members, clips, kept, random.Random(seed))
    for name, count in counts.items():
        for number in range(min(count, room)):
            drawn.hold_out(name, wanted[name], is_first=not number)
            room -= 1
    part_of = {video_id: drawn.parts[group] for group, own in members.items() for video_id in own}
    return {video_id: fixed.get(video_id) or part_of[video_id] for video_id in video_ids}


class Stratified:
    """Groups of videos with their labels, while they are divided into parts."""

    def __init__(
        self,
        members: Mapping[str, Collection[str]],
        clips: Iterable[Clip],
        kept: Mapping[str, str],
        rng: random.Random,
    ):
        """``members``: group to its videos. ``kept``: group to part, of groups whose part is fixed."""
        self.rng = rng
        self.names = sorted(members)
        self.parts = {name: kept.get(name, "train") for name in self.names}
        self.is_free_U = np.array([name not in kept for name in self.names], bool)
        row_of = {video_id: u for u, name in enumerate(self.names) for video_id in members[name]}
        labels_of: list[set[Label]] = [set() for _ in self.names]
        for clip in clips:
            if clip.source == "manual" and clip.video_id in row_of:
                labels_of[row_of[clip.video_id]].update(labels(clip))
        self.labels = sorted({label for own in labels_of for label in own})
        column = {label: n for n, label in enumerate(self.labels)}
        self.has_UL = np.zeros((len(self.names), len(column)), np.float64)
        for u, own in enumerate(labels_of):
            self.has_UL[u, [column[label] for label in own]] = 1
        kinds = np.array([label[0] for label in self.labels], dtype=object)
        self.is_task_L, self.is_category_L = kinds == "task", kinds == "category"

    def in_part(self, part: str) -> np.ndarray:
        """Returns how many groups of ``part`` have each label [L]."""
        rows = [u for u, name in enumerate(self.names) if self.parts[name] == part]
        found_L: np.ndarray = self.has_UL[rows].sum(0)
        return found_L

    def hold_out(self, part: str, size: int, is_first: bool) -> None:
        """Moves one free group from training to ``part``, which is to have ``size`` groups in all."""
        free = np.flatnonzero(self.is_free_U)
        has_FL = self.has_UL[free]
        trained_L, present_L = self.in_part("train"), self.in_part(part)
        desired_L = self.has_UL.sum(0) * size / len(self.names)
        is_last_L = trained_L == 1
        # The change of the sum over labels of (count - desired)² / desired, were the group added.
        gain_L = (2 * (present_L - desired_L) + 1) / np.maximum(desired_L, 1e-9)
        keys = [
            has_FL @ (is_last_L & ~self.is_category_L),
            -(has_FL @ (self.is_task_L & (present_L == 0))),
            has_FL @ (is_last_L & self.is_category_L),
            *([] if is_first else [has_FL @ gain_L]),
        ]
        best = np.arange(len(free))
        for key in keys:
            best = best[key[best] <= key[best].min() + 1e-9]
        chosen = int(free[self.rng.choice(best.tolist())])
        self.parts[self.names[chosen]] = part
        self.is_free_U[chosen] = False


def labels(clip: Clip) -> set[Label]:
    """Returns the labels of one sample: its task, its operation's procedure, and its categories."""
    found: set[Label] = {("task", clip.task), *(("category", tag, name) for tag, name in clip.tags.items())}
    if procedure := clip.tags.get("procedure") or clip.procedure:
        found.add(("procedure", procedure))
    return found
