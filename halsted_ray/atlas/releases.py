"""A release names one version of an atlas and freezes its split by video, which no later release changes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from halsted_ray.atlas.atlas_table import HEAD, merged_split, read_atlas
from halsted_ray.atlas.captions import read_captions
from halsted_ray.atlas.commits import Change, commit, current_user, history
from halsted_ray.atlas.contents import Atlas, drawn_videos
from halsted_ray.atlas.groups import groups_of, joined_groups
from halsted_ray.atlas.split import split_by_video
from halsted_ray.errors import AtlasError, OutputError
from halsted_ray.video.cases import NONE, group_cases

NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")


def release(
    location: str,
    name: str,
    *,
    why: str = "",
    who: str | None = None,
    validation: float = 0.2,
    test: float = 0.0,
    split: Mapping[str, str] | None = None,
    seed: int = 0,
    case_by: str = NONE,
) -> Atlas:
    """Makes the newest version of the atlas at ``location`` a release, in one commit; returns the atlas at it.

    A video that has a part (from an earlier release or from its data set) keeps it. ``split`` gives parts to other
    videos. The remaining videos are drawn with ``seed``, so that ``validation`` and ``test`` become those shares of the
    videos that a person labelled or that have captions. A video that only a model labelled is always ``train``, because
    no model may be tested on a model's labels; so is a video with synthetic samples, because it never happened. Videos
    of one group (``Video.group``) get one part; the shares are of groups. ``case_by``: a rule by which videos are
    chapters of one case (``video.cases``), which then is a group too.

    A data set is often published with a training and a test part only. Where nothing is left to draw validation videos
    from, they are carved out of the training part: ``validation`` is then the share of its groups. ``split`` may do the
    same by hand. This is possible while the atlas has no validation video: no model can have been trained on it yet.

    Raises AtlasError for a bad name and for a split that moves a video, UsageError for too few videos, OutputError
    where the name is taken or another writer was first.
    """
    if not NAME.fullmatch(name) or name == HEAD:
        raise AtlasError(
            f"got the release name {name!r}; expected a letter, then letters, digits, '.', '_' or '-', such as hsa-v1"
        )
    for found in history(location):
        if found.release == name:
            raise OutputError(
                f"the atlas at {location!r} has a release {name!r}, version {found.version}, which {found.who!r} made "
                f"on {found.at:%Y-%m-%d}; a release never changes, so choose another name"
            )
    base = read_atlas(location, HEAD)
    fixed = merged_split(carvable_split(base.split, split or {}), split or {})
    by_hand = {clip.video_id for clip in base.clips if clip.source == "manual"}
    by_hand |= {caption.video_id for caption in read_captions(base)}
    by_hand -= drawn_videos(base.clips)
    parts = {video.video_id: "train" for video in base.videos}
    if by_hand:
        ids = {video.uri: video.video_id for video in base.videos}
        cases = group_cases(ids, case_by, location, strict=False)
        case_of = {ids[uri]: case for case, uris in cases.items() for uri in uris}
        group_of = joined_groups(groups_of(base.videos), case_of)
        parts |= split_by_video(
            by_hand,
            base.clips,
            validation=validation,
            test=test,
            seed=seed,
            fixed=fixed,
            group_of=group_of,
        )
        if validation and "validation" not in {**parts, **fixed}.values():
            published = sorted(video_id for video_id in by_hand if fixed.get(video_id) == "train")
            fixed |= carve_validation(published, base, group_of, validation, seed)
        held_out = {group_of[video_id] for video_id in by_hand if {**parts, **fixed}[video_id] != "train"}
        # What a model labelled in a held-out group would teach what judges: such a video gets no part at all.
        parts = {v: part for v, part in parts.items() if v in by_hand or group_of[v] not in held_out}
    parts |= fixed
    change = Change(who or current_user(), f"version {base.version}", why, "release")
    version = commit(location, base, base.videos, base.clips, base.load_taxonomy(), parts, change, name)
    return read_atlas(location, version=version)


def carvable_split(known: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Returns the split ``known`` without the training videos that ``given`` takes for validation, where that is
    possible: while no video validates."""
    if "validation" in known.values():
        return dict(known)
    return {v: part for v, part in known.items() if not (part == "train" and given.get(v) == "validation")}


def carve_validation(
    published: Sequence[str], base: Atlas, group_of: Mapping[str, str], validation: float, seed: int
) -> dict[str, str]:
    """Returns video_id to ``validation``, for a share of the groups of a published training part.

    Stratified as ``split_by_video`` does it. Nothing where the part has fewer than two groups.
    """
    if len({group_of[video_id] for video_id in published}) < 2:
        return {}
    drawn = split_by_video(published, base.clips, validation=validation, seed=seed, group_of=group_of)
    return {video_id: part for video_id, part in drawn.items() if part == "validation"}
