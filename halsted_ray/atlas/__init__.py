"""The atlas: two Delta tables that say which clip of which video shows what.

``<archive>/atlas/videos`` and ``<archive>/atlas/samples`` (schemas in ``records``). Video uris are relative to the
archive, so an archive can be moved or copied whole. Every change is one commit on ``samples`` with who, from what and
why; it pins the version of ``videos``, the taxonomy and the split by video, and may bear the name of a release.

    delta.py       a table's place and credentials; one writer at a time where the store can't promise it
    contents.py    Atlas: one version in memory, what may stand in it, rows and back
    commits.py     the history, and how a commit is made
    tables.py      read an atlas at a release, write one, add samples (a person's or a model's)
    split.py       which videos a model learns from and which only judge it
    releases.py    name a version and freeze its split
    census.py      what a release holds (the paper's Table 2), and what differs between two
    verify.py      what is wrong with one
    formats/       one file a format of annotations: importers and exporters
    imports.py     annotations of any format become videos and samples
    phantom_archive.py   a synthetic archive with its atlas
"""

from halsted_ray.atlas.atlas_table import add_ai_samples, add_samples, read_atlas, write_atlas
from halsted_ray.atlas.contents import SPLITS, Atlas
from halsted_ray.atlas.releases import release

__all__ = ["SPLITS", "Atlas", "add_ai_samples", "add_samples", "read_atlas", "release", "write_atlas"]
