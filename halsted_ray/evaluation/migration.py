"""How the predictions of one taxonomy read in another, so that models of both taxonomies can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import yaml

from halsted_ray.errors import TaxonomyError, UsageError, VideoError
from halsted_ray.storage.files import read_file
from halsted_ray.storage.locations import filesystem
from halsted_ray.taxonomy import Tag, Taxonomy


@dataclass(frozen=True)
class Migration:
    """From the taxonomy with digest ``old`` to the taxonomy with digest ``new``.

    ``categories``: tag → old category → new category; a category that is not named keeps its name.
    """

    old: str
    new: str
    reason: str
    categories: Mapping[str, Mapping[str, str]]

    @classmethod
    def read(cls, location: str) -> Migration:
        """From a YAML file with ``from``, ``to`` (taxonomy digests), ``reason`` and ``categories``.

        Raises UsageError for a file that can't be read or lacks one of these.
        """
        fs, path = filesystem(location)
        try:
            stated = yaml.safe_load(read_file(fs, path))
            return cls(stated["from"], stated["to"], stated["reason"], stated["categories"])
        except (OSError, VideoError, yaml.YAMLError, KeyError, TypeError) as error:
            raise UsageError(
                f"the migration {location!r} can't be read: {error!r}; expected YAML with 'from', 'to' "
                "(taxonomy digests), 'reason' and 'categories' (tag: {old: new})"
            ) from error


def require_bridge(theirs: Taxonomy, ours: Taxonomy, migration: Migration | None, version: str, atlas: str) -> None:
    """Raises TaxonomyError unless ``theirs`` (a model's) is ``ours`` (an atlas's), or ``migration`` leads there."""
    if theirs.digest == ours.digest or (migration and (migration.old, migration.new) == (theirs.digest, ours.digest)):
        return
    raise TaxonomyError(
        f"model {version!r} has taxonomy {theirs.name!r} {theirs.digest}, the atlas {atlas!r} has {ours.name!r} "
        f"{ours.digest}"
        + (f", and the migration leads from {migration.old} to {migration.new}" if migration else "")
        + f"; name a migration from {theirs.digest} to {ours.digest} (--migration), or an atlas of the model's taxonomy"
    )


def category_matrix(theirs: Tag, ours: Tag, migration: Migration | None) -> np.ndarray:
    """float [O, K]: 1 where the model's category o is the atlas's category k; a row of zeros where the atlas has none.

    ``theirs``: the tag in the model's taxonomy, O categories; ``ours``: in the atlas's, K categories.
    """
    renamed = migration.categories.get(ours.name, {}) if migration else {}
    index = {category: k for k, category in enumerate(ours.categories)}
    found_OK = np.zeros((len(theirs.categories), len(ours.categories)))
    for o, category in enumerate(theirs.categories):
        if (new := renamed.get(category, category)) in index:
            found_OK[o, index[new]] = 1
    return found_OK
