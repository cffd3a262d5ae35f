"""Which videos of an atlas teach and which judge, fold by fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from halsted_ray.atlas import Atlas
from halsted_ray.atlas.split import split_by_video
from halsted_ray.errors import AtlasError
from halsted_ray.evaluation.folds import draw_folds, strategy_for
from halsted_ray.records import Clip


def tested_on(source: Atlas, other: Atlas) -> Atlas:
    """``source`` without its test part, with all annotated videos of ``other`` as its test part. A split that it does
    not fix is drawn as ``train`` draws it. Raises AtlasError."""
    if source.taxonomy_digest != other.taxonomy_digest:
        raise AtlasError(
            f"the atlas {other.name!r} is annotated in taxonomy {other.taxonomy!r} {other.taxonomy_digest}, "
            f"{source.name!r} in {source.taxonomy!r} {source.taxonomy_digest}; name one of the same taxonomy to test on"
        )
    judging = {clip.video_id for clip in other.clips}
    split = source.split or split_by_video([video.video_id for video in source.videos], source.clips)
    learned = {video_id: part for video_id, part in split.items() if part != "test"}
    if both := sorted(judging & set(learned)):
        raise AtlasError(
            f"video {both[0]} and {len(both) - 1} more of {other.name!r} are in {source.name!r} too, to learn from; a "
            "video can't teach and judge: name another archive to test on"
        )
    kept = [video for video in source.videos if video.video_id in learned]
    return replace(
        source,
        split=learned | dict.fromkeys(sorted(judging), "test"),
        videos=(*kept, *(video for video in other.videos if video.video_id in judging)),
        clips=(*(clip for clip in source.clips if clip.video_id in learned), *other.clips),
    )


def splits_of(
    source: Atlas,
    operations: Mapping[str, Mapping[str, str]],
    is_given: bool,
    part: str,
    folds: int,
    strategy: str | None,
    seed: int,
) -> tuple[list[dict[str, str]], str]:
    """(video_id → train, validation or test per fold, how they were drawn). What judges is called ``test``."""
    annotated = sorted({clip.video_id for clip in source.clips})
    if not is_given:
        procedures = {video_id: operations.get(video_id, {}).get("procedure", "") for video_id in annotated}
        chosen = strategy or strategy_for(procedures)
        return draw_folds(procedures, folds, chosen, seed), chosen
    if part == "all":
        return [dict.fromkeys(annotated, "test")], "all videos"
    names = {"train": "train", "validation": "validation"} | {part: "test"}
    split = {v: names[source.split[v]] for v in annotated if source.split.get(v) in names}
    if "test" not in split.values():
        raise AtlasError(
            f"release {source.name!r} has no annotated video in its {part!r} part (parts: "
            f"{sorted(set(source.split.values())) or 'none'}); give it one, name another with --part, or leave the "
            "model out to cross-validate"
        )
    return [split], f"{part} part of {source.name}"


def operation_of_video(clips: Sequence[Clip]) -> dict[str, dict[str, str]]:
    """video_id → specialty and procedure, from the first clip that names them, as a tag or of its operation."""
    found: dict[str, dict[str, str]] = {}
    for clip in clips:
        for tag in ("specialty", "procedure"):
            if name := clip.tags.get(tag) or getattr(clip, tag):
                found.setdefault(clip.video_id, {}).setdefault(tag, name)
    return found
