"""What says how well something was done, which a link shows only where its maker chose so."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from halsted_ray.errors import UsageError
from halsted_ray.maps.stitch_table import taxonomy_of
from halsted_ray.service.errors import StateConflict
from halsted_ray.service.links import PROFICIENCY
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.taxonomy.parsing import shipped_of_digest


def proficiency_tags(taxonomy: Taxonomy | None) -> frozenset[str]:
    """The tags of a taxonomy that say how well something was done; without one the tag of those that ship."""
    own = taxonomy.stitch.proficiency if taxonomy and taxonomy.stitch else ""
    return frozenset({PROFICIENCY, own} - {""})


def hidden_tags(timeline: pa.Table, served: Callable[[], Taxonomy]) -> frozenset[str]:
    """The tags in ``timeline`` (TIMELINE_SCHEMA) that say how well something was done, by the taxonomies of its rows.

    ``served``: as of ``Videos.stitches``. Raises StateConflict where the taxonomy of a row is known no more.
    """
    digests: list[str] = timeline["taxonomy_digest"].unique().to_pylist()
    return proficiency_tags(None).union(*(proficiency_tags(_taxonomy_of(digest, served)) for digest in digests))


def _taxonomy_of(digest: str, served: Callable[[], Taxonomy]) -> Taxonomy | None:
    if not digest:
        return None
    try:
        return taxonomy_of(digest, None if shipped_of_digest(digest) else served())
    except UsageError:
        raise StateConflict("this map is in a taxonomy that this service has no more; map the video again").named(
            "map-old"
        ) from None
