"""Whether a model learned from the videos that are to judge it.

Videos are compared by their ids and not releases by their names: a video may teach in one release and judge in another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from halsted_ray.atlas import read_atlas
from halsted_ray.atlas.split import split_of
from halsted_ray.errors import AtlasError, UsageError
from halsted_ray.model.halsted import ModelConfig

Learned = Mapping[str, Collection[str]]
"""``train`` → ids of the videos that taught a model, ``validation`` → ids of the videos that it was chosen on."""


def learned_by(config: ModelConfig, locations: Iterable[str]) -> Learned | None:
    """What a model learned from and was chosen on; None where that can't be known.

    The model says it itself (``ModelConfig.learned_from``). A model that was saved before models did is looked up: one
    of the atlases at ``locations`` may hold the release that it names at the version that it names.
    """
    if config.learned_from is not None:
        return config.learned_from
    for location in locations if config.atlas_release and config.atlas_version is not None else ():
        try:
            taught = read_atlas(location, version=config.atlas_version)
        except AtlasError:  # another atlas, which has no such version
            continue
        if taught.name == config.atlas_release:
            split = split_of(taught)
            return {part: {v for v in split if split[v] == part} for part in ("train", "validation")}
    return None


def require_unlearned(
    config: ModelConfig,
    learned: Learned | None,
    judging: Collection[str],
    advice: str,
    parts: Sequence[str] = ("train", "validation"),
) -> None:
    """Raises UsageError where one of the videos ``judging`` is in one of the ``parts`` of what a model ``learned``."""
    own = {video_id for part in parts for video_id in (learned or {}).get(part, ())}
    if both := sorted(own & set(judging)):
        raise UsageError(
            f"model {config.version!r} learned from {len(both)} of the {len(judging)} videos that would judge it, such "
            f"as {both[0]}; that it is right about them says nothing: {advice}"
        )


def caveats_of(config: ModelConfig, learned: Learned | None, judging: Collection[str]) -> list[str]:
    """Sentences about why the figures of a model on the videos ``judging`` may be too good; none where they are not."""
    if learned is None:
        return [
            f"it is not known which videos model {config.version!r} learned from; if it learned from some of the "
            f"{len(judging)} videos that judge it, these figures are too good"
        ]
    chosen = set(learned.get("validation", ())) & set(judging)
    return (
        [
            f"model {config.version!r} was chosen on {len(chosen)} of the {len(judging)} videos that judge it (its "
            "epoch and its calibration), so these figures are a little too good"
        ]
        if chosen
        else []
    )
