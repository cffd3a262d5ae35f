"""One round of self-labelling, from a model and an archive to a release of the atlas: `halsted self-label`."""

from __future__ import annotations

import json

from halsted_ray.atlas import add_ai_samples, read_atlas
from halsted_ray.atlas import release as name_release
from halsted_ray.atlas.atlas_table import HEAD
from halsted_ray.atlas.commits import history
from halsted_ray.errors import OutputError, UsageError
from halsted_ray.evaluation.folds import caveats_of, learned_by, require_unlearned
from halsted_ray.evaluation.run_evaluation import require_fit
from halsted_ray.mapping.progress import QUIET, RunObserver
from halsted_ray.model.halsted import Halsted
from halsted_ray.selflabel.labelling import label_archive
from halsted_ray.selflabel.validation import PART, manual_clips_only
from halsted_ray.storage.files import read_file, require_writable, write_atomically
from halsted_ray.storage.locations import absolute_location, filesystem

GATE = 0.80
"""Paper, Methods: a model labels nothing unless its average accuracy over all tasks is at least this."""
PRECISION = 0.9
"""The paper chooses thresholds on validation and names no target; nine labels of ten are right at this one."""


def self_label(
    atlas: str,
    archive: str,
    model: str,
    out: str,
    *,
    precision: float = PRECISION,
    gate: float = GATE,
    release: str | None = None,
    task: str = "micro",
    encoder: str | None = None,
    embeddings: str | None = None,
    who: str | None = None,
    observer: RunObserver = QUIET,
) -> dict:
    """Labels the videos of ``archive`` that nobody annotated, and adds what is sure enough to the atlas as ``ai``.

    Gate, thresholds (both on the latest release's validation videos), a map of 1-s windows with ``task`` alone, merge,
    one commit, and with ``release`` a second one that names it. Validation and test videos are never labelled, nor
    are videos in which a person labelled this task; a person's clip of another task keeps its time. What an earlier
    model said of the same videos is replaced. A model that learned from a validation video is refused; where it can't
    be known what a model learned from, ``report["caveats"]`` says so.

    ``out`` keeps the map, by which a killed run goes on, and ``report.json``, which is returned: JSON values, see
    ``report_of``. The same call again adds what is new in the archive, and changes nothing where nothing is. Vectors
    are kept in ``embeddings`` (default ``<atlas>/embeddings``). Raises UsageError and its kinds.
    """
    if not 0 < precision < 1:
        raise UsageError(f"precision {precision:g}; expected more than 0, less than 1")
    source = read_atlas(atlas)
    labeller = Halsted.load(model)
    require_fit(labeller, source, source.load_taxonomy())
    learned = learned_by(labeller.config, [atlas])
    judging = {clip.video_id for clip in manual_clips_only(source).clips if source.split.get(clip.video_id) == PART}
    require_unlearned(labeller.config, learned, judging, "train a model on this release first", ("train",))
    if release:
        require_free(atlas, release, labeller.config.version)
    for place in (atlas, out):  # both are written after hours of work
        require_writable(place)
    found = label_archive(
        model,
        source,
        read_atlas(atlas, HEAD),
        archive,
        out,
        precision=precision,
        gate=gate,
        task=task,
        encoder=encoder,
        embeddings=embeddings or f"{atlas.rstrip('/')}/embeddings",
        observer=observer,
    )
    report, clips = found.report, found.clips
    report["caveats"] = caveats_of(labeller.config, learned, judging) if learned is None else []
    if clips:
        names = {clip.video_id for clip in clips} - {video.video_id for video in found.head.videos}
        report["atlas"]["before"] = found.head.version
        report["atlas"]["labelled"] = add_ai_samples(
            atlas,
            clips,
            model_version=labeller.config.version,
            who=who,
            replace_earlier=True,
            why=f"{task} at precision {precision:g} on {report['validation']['videos']} validation videos of "
            f"{source.name}",
            videos=[video for video in found.videos if video.video_id in names],
        )
    if release and clips:
        newest = history(atlas)[-1]
        made = (
            newest
            if newest.release == release
            else name_release(atlas, release, who=who, why=f"labels of model {labeller.config.version}")
        )
        report["atlas"] |= {"released": release, "released_version": made.version}
    fs, path = filesystem(f"{absolute_location(out)}/report.json")
    write_atomically(fs, path, json.dumps(report, indent=1, ensure_ascii=False).encode())
    return report


def require_free(atlas: str, release: str, model_version: str) -> None:
    """Raises OutputError, before hours of work, where the name is taken by anything but an earlier end of this run."""
    log = history(atlas)
    for before, found in zip(log, log[1:], strict=False):
        if found.release == release and (before.action, before.source) == ("self-label", f"model {model_version}"):
            return
    if release in {found.release for found in log}:
        raise OutputError(
            f"the atlas at {atlas!r} has a release {release!r} already; a release never changes: choose another name"
        )


def read_report(out: str) -> dict:
    """What ``self_label`` left in ``out``. Raises UsageError."""
    fs, path = filesystem(f"{absolute_location(out)}/report.json")
    try:
        return json.loads(read_file(fs, path))
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(f"{out!r} holds no report.json of `halsted self-label` ({error}); name its --out") from error
