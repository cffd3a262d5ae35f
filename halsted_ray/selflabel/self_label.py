"""One round of self-labelling, from a model and an archive to a release of the atlas: `halsted self-label`."""

from __future__ import annotations

import json

from halsted_ray.atlas import add_ai_samples, read_atlas
from halsted_ray.atlas import release as name_release
from halsted_ray.atlas.atlas_table import HEAD
from halsted_ray.atlas.commits import history
from halsted_ray.compute.progress import QUIET, RunObserver
from halsted_ray.errors import OutputError, UsageError
from halsted_ray.evaluation.json_values import Figures
from halsted_ray.evaluation.leak_guard import caveats_of, learned_by, require_unlearned
from halsted_ray.evaluation.run_evaluation import require_fit
from halsted_ray.model.halsted import Halsted
from halsted_ray.selflabel.labelling import (
    GATE,
    PRECISION,
    LabellingRules,
    label_archive,
    labelled_tasks,
    videos_to_leave,
)
from halsted_ray.selflabel.validation import PART, manual_clips_only
from halsted_ray.storage.files import read_file, require_writable, write_atomically
from halsted_ray.storage.locations import absolute_location, filesystem


def self_label(
    atlas: str,
    archive: str,
    model: str,
    out: str,
    *,
    precision: float = PRECISION,
    gate: float = GATE,
    task: str = "micro",
    release: str | None = None,
    who: str | None = None,
    encoder: str | None = None,
    embeddings: str | None = None,
    observer: RunObserver = QUIET,
) -> Figures:
    """Labels the videos of ``archive`` that nobody annotated, and adds the labels that are sure enough to the atlas.

    >>> from halsted_ray import self_label
    >>> report = self_label("archive", "archive", "run/model", "labels")
    >>> report["gate"]["passed"]  # two epochs on two videos are not enough
    False

    The steps: the gate and the thresholds (``labelling.LabellingRules``, both on the latest release's validation
    videos), a map of 1-s windows with ``task`` alone, merging windows to labels, one commit of the labels with source
    ``ai``, and with ``release`` a second commit that names the atlas so. Validation and test videos are never labelled,
    nor are videos in which a person labelled this task; a person's clip of another task keeps its time. What an earlier
    model said of the same videos is replaced, also where this one is sure of nothing, so rounds may follow each other:
    a model that learned from labels labels the same videos anew. A model that learned from a validation video is
    refused. Where it is not known what a model learned from, ``report["caveats"]`` says so.

    ``out`` keeps the map, from which a killed run goes on, and ``report.json``. The report is returned: JSON values,
    see ``labelling.LabellingResult``. The same call again adds labels of videos that are new in the archive, and
    changes nothing where no video is new. ``who``: who is named in the commits. ``encoder``: where the model's encoder
    lies, if not where the model says. Vectors are kept in ``embeddings`` (default ``<atlas>/embeddings``).

    Raises UsageError and its subclasses.
    """
    rules = LabellingRules(precision, gate, task)
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
        rules=rules,
        encoder=encoder,
        embeddings=embeddings or f"{atlas.rstrip('/')}/embeddings",
        observer=observer,
    )
    report, clips = found.report, found.clips
    report["caveats"] = caveats_of(labeller.config, learned, judging) if learned is None else []
    if clips:
        new_videos = {clip.video_id for clip in clips} - {video.video_id for video in found.head.videos}
        left_alone = videos_to_leave(found.head, task)
        report["atlas"]["before"] = found.head.version
        report["atlas"]["labelled"] = add_ai_samples(
            atlas,
            clips,
            model_version=labeller.config.version,
            who=who,
            replace_earlier=True,
            replaced_lanes=[
                (video.video_id, task_name)
                for video in found.videos
                if video.video_id not in left_alone
                for task_name in labelled_tasks(labeller.taxonomy, task)
            ],
            why=f"{task} at precision {precision:g} on {report['validation']['videos']} validation videos of "
            f"{source.name}",
            videos=[video for video in found.videos if video.video_id in new_videos],
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
    """Raises OutputError, before hours of work, where the atlas has a release of this name already.

    A release that an earlier call of the same round made is no hindrance.
    """
    log = history(atlas)
    for before, entry in zip(log, log[1:], strict=False):
        if entry.release == release and (before.action, before.source) == ("self-label", f"model {model_version}"):
            return
    if release in {entry.release for entry in log}:
        raise OutputError(
            f"the atlas at {atlas!r} has a release {release!r} already; a release never changes: choose another name"
        )


def read_report(out: str) -> Figures:
    """The report that ``self_label`` left in ``out``. Raises UsageError where there is none."""
    fs, path = filesystem(f"{absolute_location(out)}/report.json")
    try:
        report: Figures = json.loads(read_file(fs, path))
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(f"{out!r} holds no report.json of `halsted self-label` ({error}); name its --out") from error
    return report
