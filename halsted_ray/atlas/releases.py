"""A release: a name for one version, and with it a split by video that no later release changes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from halsted_ray.atlas.atlas_table import HEAD, joined_split, read_atlas
from halsted_ray.atlas.commits import Change, commit, history, user
from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.split import split_by_video
from halsted_ray.errors import AtlasError, OutputError

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
) -> Atlas:
    """Names the newest version of the atlas at ``location``; the release is one commit, and returned as read back.

    Videos that have a part (of an earlier release, or of their data set) keep it; ``split`` gives parts of others;
    what is left is drawn so that ``validation`` and ``test`` become those shares of the videos with a person's
    labels. A video that only a model labelled is always ``train``: it must judge nobody.

    Raises AtlasError for a bad name or a split that moves a video, UsageError for too few videos, OutputError when
    the name is taken or another writer came first.
    """
    if not NAME.fullmatch(name) or name == HEAD:
        raise AtlasError(f"release name {name!r}; expected a letter, then letters, digits, '.', '_', '-', as in hsa-v1")
    for found in history(location):
        if found.release == name:
            raise OutputError(
                f"the atlas at {location!r} has a release {name!r}, version {found.version}, by {found.who!r} of "
                f"{found.at:%Y-%m-%d}; a release never changes: choose another name"
            )
    base = read_atlas(location, HEAD)
    fixed = joined_split(base.split, split or {})
    by_hand = {clip.video_id for clip in base.clips if clip.source == "manual"}
    parts = {video.video_id: "train" for video in base.videos}
    if by_hand:
        parts |= split_by_video(by_hand, base.clips, validation=validation, test=test, seed=seed, fixed=fixed)
    parts |= fixed
    change = Change(who or user(), f"version {base.version}", why, "release")
    version = commit(location, base, base.videos, base.clips, base.load_taxonomy(), parts, change, name)
    return read_atlas(location, version=version)
