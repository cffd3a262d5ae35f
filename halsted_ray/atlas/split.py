"""Splits videos into videos to train a model on and videos to validate or test it on. Videos stay whole."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace

from halsted_ray.errors import UsageError
from halsted_ray.records import Clip


def split_by_video(
    video_ids: Iterable[str],
    clips: Iterable[Clip],
    *,
    validation: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    fixed: Mapping[str, str] | None = None,
    case_of: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Returns video_id to ``train``, ``validation`` or ``test``. The order of the videos does not matter.

    Held-out videos come from the procedures that have the most videos left. So all videos of a procedure are held out
    only where there is no other choice. Each share above 0 gets at least one video, and at least one video is left for
    training. Videos in ``fixed`` keep their part and count towards the shares; where too many are fixed, the shares are
    reached as far as possible. ``case_of``: video_id to the case of which the video is a chapter; a case is drawn as
    one video, and all of its videos get its part, but for those that are fixed otherwise. Raises UsageError where there
    are too few videos.
    """
    video_ids = sorted(set(video_ids))
    if case_of:
        return _split_by_case(video_ids, clips, validation, test, seed, fixed or {}, case_of)
    kept = {video_id: part for video_id, part in (fixed or {}).items() if video_id in set(video_ids)}
    free = [video_id for video_id in video_ids if video_id not in kept]
    wanted = {
        name: max(1, round(share * len(video_ids))) if share else 0
        for name, share in (("validation", validation), ("test", test))
    }
    counts = {name: max(0, count - sum(part == name for part in kept.values())) for name, count in wanted.items()}
    room = len(free) - ("train" not in kept.values())
    if sum(counts.values()) > room and not kept:
        raise UsageError(
            f"{len(video_ids)} videos can't be split into training and {wanted}; annotate more videos, ask for smaller "
            "shares, or give the split yourself"
        )
    procedure: dict[str, str] = {}
    for clip in clips:
        if name := clip.tags.get("procedure") or clip.procedure:
            procedure.setdefault(clip.video_id, name)
    left: dict[str, list[str]] = {}
    for video_id in free:
        left.setdefault(procedure.get(video_id, ""), []).append(video_id)
    rng = random.Random(seed)
    for members in left.values():
        rng.shuffle(members)
    split: dict[str, str] = {}
    for name, count in counts.items():
        for _ in range(min(count, room - len(split))):
            most = max(len(members) for members in left.values())
            chosen = rng.choice([key for key, members in left.items() if len(members) == most])
            split[left[chosen].pop()] = name
    return {video_id: kept.get(video_id) or split.get(video_id, "train") for video_id in video_ids}


def _split_by_case(
    video_ids: list[str],
    clips: Iterable[Clip],
    validation: float,
    test: float,
    seed: int,
    fixed: Mapping[str, str],
    case_of: Mapping[str, str],
) -> dict[str, str]:
    """``split_by_video`` of one video per case, whose part is then that of all videos of the case. A case of which a
    video is fixed has the part of its first fixed video."""
    first: dict[str, str] = {}
    for video_id in sorted(video_ids, key=lambda video_id: (video_id not in fixed, video_id)):
        first.setdefault(case_of.get(video_id, video_id), video_id)
    standing_in = {video_id: first[case_of.get(video_id, video_id)] for video_id in video_ids}
    of_cases = [replace(clip, video_id=standing_in.get(clip.video_id, clip.video_id)) for clip in clips]
    drawn = split_by_video(first.values(), of_cases, validation=validation, test=test, seed=seed, fixed=fixed)
    return {video_id: fixed.get(video_id) or drawn[standing_in[video_id]] for video_id in video_ids}
