"""The atlas: two Delta tables that say which clip of which video shows what.

``<archive>/atlas/videos`` and ``<archive>/atlas/samples`` (schemas in ``records``). Video uris are relative to the
archive, so an archive can be moved or copied whole. Every change is one commit on ``samples``, whose metadata pins
the version of ``videos``, the release's name, the taxonomy's digest and the split by video; the commit of
``samples`` comes last, so a reader sees a whole release or the one before it.
"""

from halsted_ray.atlas.tables import SPLITS, Atlas, read_atlas, write_atlas

__all__ = ["SPLITS", "Atlas", "read_atlas", "write_atlas"]
