"""Which categories of a tag are rarest, counted in the training part of an atlas alone."""

from __future__ import annotations

from collections import Counter

from halsted_ray.atlas.contents import Atlas
from halsted_ray.errors import AtlasError
from halsted_ray.records import SYNTHETIC, Clip


def training_clips(atlas: Atlas, tag: str) -> list[Clip]:
    """The samples of the training part that have ``tag`` and are not drawn. Nothing else of the atlas is looked at.

    Raises AtlasError where the atlas has no training part yet.
    """
    training = {video_id for video_id, part in atlas.split.items() if part == "train"}
    found = [
        clip for clip in atlas.clips if clip.video_id in training and tag in clip.tags and clip.source != SYNTHETIC
    ]
    if not found:
        raise AtlasError(
            f"the training part of {atlas.name!r} has no sample with the tag {tag!r} ({len(training)} training "
            f"videos); make a release (`halsted atlas release {atlas.root} NAME --test 0.2`), or name another --tag"
        )
    return found


def samples_by_category(atlas: Atlas, tag: str) -> dict[str, int]:
    """Category of ``tag`` → number of training samples, the fewest first; equal numbers in the taxonomy's order.

    Drawn samples do not count, so that the same call finds the same categories after its clips were added. Raises
    AtlasError, TaxonomyError for an unknown tag.
    """
    categories = atlas.load_taxonomy().tag(tag).categories
    counts = Counter(clip.tags[tag] for clip in training_clips(atlas, tag))
    return dict(sorted(((name, counts[name]) for name in categories), key=lambda item: item[1]))
