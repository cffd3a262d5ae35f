"""The atlas: two Delta tables that say which clip of which video shows what.

What a row holds (schemas in ``halsted_ray.records``):

    <archive>/atlas/videos    one row per video: video_id, uri (relative to the archive, so that an archive can be
                              moved or copied whole), size, duration, picture size, frame rate, codec
    <archive>/atlas/samples   one row per clip and task: video_id, [start_s, stop_s), the task, its tags (tag name to
                              category), who said it (``source`` manual, ai or synthetic, ``annotator`` a person, a
                              model's version or what drew the video, ``confidence``), specialty and procedure of the
                              operation, caption
    <archive>/atlas/captions  one row per sentence about a span: level, text, kind (raw, enhanced, transcript), source;
                              only where the atlas has captions

Every change is one commit on ``samples``. The commit says who made it, from what and why. It also holds the version of
``videos`` and of ``captions`` that belongs to it, the taxonomy, the split by video and, if it is a release, the
release's name.

    contents.py         Atlas: one version in memory; which rows are valid; rows to tables and back
    captions.py         sentences about spans
    commits.py          the history, and how a commit is made
    atlas_table.py      read an atlas at a release, write a whole one, add samples of a person or a model
    split.py            which videos a model is trained on, and which only test it
    releases.py         name a version and freeze its split
    census.py           what a release holds (the paper's Table 2), and what differs between two releases
    verify.py           what is wrong with an atlas
    imports.py          annotations of any format become videos and samples; an atlas is exported
    formats/            one file per annotation format
    phantom_archive.py  renders a synthetic archive together with its atlas
"""

from halsted_ray.atlas.atlas_table import add_ai_samples, add_samples, read_atlas, withdraw_samples, write_atlas
from halsted_ray.atlas.contents import SPLITS, Atlas
from halsted_ray.atlas.releases import release

__all__ = [
    "SPLITS",
    "Atlas",
    "add_ai_samples",
    "add_samples",
    "read_atlas",
    "release",
    "withdraw_samples",
    "write_atlas",
]
