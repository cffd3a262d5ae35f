"""One round of self-labelling, from a model and an archive to a release of the atlas: `halsted self-label`."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

from halsted_ray.atlas import Atlas, add_ai_samples, read_atlas
from halsted_ray.atlas import release as name_release
from halsted_ray.atlas.commits import history
from halsted_ray.atlas.tables import HEAD
from halsted_ray.embeddings import absolute, write_whole
from halsted_ray.errors import OutputError, UsageError
from halsted_ray.evaluation.run import require_fit
from halsted_ray.mapping.pipeline import Summary, map_archive
from halsted_ray.mapping.progress import Progress
from halsted_ray.mapping.publish import read_segments, read_videos
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Clip, Video
from halsted_ray.selflabel.judge import PART, WINDOWS, accuracy_of_tasks, average, examine
from halsted_ray.selflabel.merge import Label, Span, apart, merge, union, without
from halsted_ray.selflabel.thresholds import Threshold, thresholds
from halsted_ray.taxonomy import Task, Taxonomy
from halsted_ray.video.storage import filesystem

GATE = 0.80
"""Paper, Methods: a model labels nothing unless its average accuracy over all tasks is at least this."""
PRECISION = 0.9
"""The paper chooses thresholds on validation and names no target; nine labels of ten are right at this one."""


@dataclass(frozen=True)
class Labelled:
    """The labels of one video: clips ready for the atlas, and per action the windows said, kept, and clips made."""

    clips: list[Clip]
    said: Counter
    kept: Counter
    made: Counter
    label_s: float


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
    on_progress: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda message: None,
) -> dict:
    """Labels the videos of ``archive`` that nobody annotated, and adds what is sure enough to the atlas as ``ai``.

    Gate, thresholds (both on the latest release's validation videos), a map of 1-s windows with ``task`` alone, merge,
    one commit, and with ``release`` a second one that names it. Validation and test videos are never labelled, nor
    are videos in which a person labelled this task; a person's clip of another task keeps its time. What an earlier
    model said of the same videos is replaced.

    ``out`` keeps the map, by which a killed run goes on, and ``report.json``, which is returned: JSON values, see
    ``report_of``. The same call again adds what is new in the archive, and changes nothing where nothing is. Vectors
    are kept in ``embeddings`` (default ``<atlas>/embeddings``). Raises UsageError and its kinds.
    """
    if not 0 < precision <= 1:
        raise UsageError(f"precision {precision:g}; expected more than 0, 1 at most")
    source = read_atlas(atlas)
    taxonomy = source.load_taxonomy()
    labeller = Halsted.load(model)
    require_fit(labeller, source, taxonomy, PART)
    asked = taxonomy.task(task)
    if release:
        require_free(atlas, release, labeller.config.version)
    encoder = encoder or labeller.config.encoder_ref
    labeller.check_encoder(Encoder.load(encoder))  # before its vectors are stored under the model's encoder
    embeddings = embeddings or f"{atlas.rstrip('/')}/embeddings"

    tasks = accuracy_of_tasks(labeller, source, encoder, embeddings)
    report = {
        "atlas": {"release": source.name, "version": source.version},
        "model": {"version": labeller.config.version, "digest": labeller.digest},
        "gate": {"least": gate, "mean": average(tasks), "tasks": tasks, "passed": average(tasks) >= gate},
    }
    if not report["gate"]["passed"]:
        return left(out, report)
    judged = examine(labeller, source, asked, encoder, embeddings)
    trusted = thresholds(judged.said_N, judged.confidence_N, judged.right_N, precision)
    report["validation"] = {"videos": judged.videos, "windows": len(judged.said_N), "others": judged.others,
                            "precision": precision}
    if not any(math.isfinite(threshold.least) for threshold in trusted.values()):
        return left(out, report | report_of(trusted, [], None, taxonomy))

    head = read_atlas(atlas, HEAD)
    place = f"{absolute(out)}/map"
    summary = map_archive(
        archive, place, model, asked.name, encoder=encoder, embeddings=embeddings, windows=WINDOWS,
        without=not_to_label(head, asked.name), on_progress=on_progress, say=say,
    )
    persons = spans_of_persons(head)
    found = [labels_of(place, video["video_id"], summary.recipe, asked, taxonomy, trusted, persons)
             for video in summary.videos]
    clips = [clip for labelled in found for clip in labelled.clips]
    report |= report_of(trusted, found, summary, taxonomy)
    report["atlas"]["labelled"] = head.version
    if clips:
        names = {clip.video_id for clip in clips} - {video.video_id for video in head.videos}
        report["atlas"]["labelled"] = add_ai_samples(
            atlas, clips, model_version=labeller.config.version, who=who, replace_earlier=True,
            why=f"{asked.name} at precision {precision:g} on {judged.videos} validation videos of {source.name}",
            videos=[video for video in videos_at(place) if video.video_id in names],
        )
    if release and clips:
        newest = history(atlas)[-1]
        made = newest if newest.release == release else name_release(
            atlas, release, who=who, why=f"labels of model {labeller.config.version}")
        report["atlas"] |= {"released": release, "released_version": made.version}
    return left(out, report)


def require_free(atlas: str, release: str, model_version: str) -> None:
    """Raises OutputError, before hours of work, where the name is taken by anything but an earlier end of this run."""
    log = history(atlas)
    for before, found in zip(log, log[1:], strict=False):
        if found.release == release and (before.action, before.source) == ("self-label", f"model {model_version}"):
            return
    if release in {found.release for found in log}:
        raise OutputError(f"the atlas at {atlas!r} has a release {release!r} already; a release never changes: choose "
                          "another name")


def not_to_label(head: Atlas, task: str) -> set[str]:
    """Videos that judge models, now or perhaps in the next release, and those in which a person labelled ``task``."""
    by_hand = {clip.video_id for clip in head.clips if clip.source == "manual"}
    return {video_id for video_id, part in head.split.items() if part != "train"} | {
        clip.video_id for clip in head.clips if clip.source == "manual" and clip.task == task
    } | {video_id for video_id in by_hand if video_id not in head.split}


def labels_of(
    place: str, video_id: str, recipe: str, task: Task, taxonomy: Taxonomy, trusted: dict[str, Threshold],
    persons: dict[tuple[str, str], list[Span]],
) -> Labelled:
    """Clips of one video: of ``task``, and of the tasks whose tags it asks for (paper, Table 2: every micro-activity
    is a dissection, so its clip is a sample of the macro task too). ``persons``: see ``spans_of_persons``."""
    tag = task.tags[0].name
    windows = windows_at(place, video_id, recipe, tag)
    labels = [label for label in windows
              if label.tags[tag] in trusted and label.confidence >= trusted[label.tags[tag]].least]
    parts = apart(merge(labels, tag), labels, tag)
    made = {task.name: [(part, part.tags) for part in parts]}
    implied: dict[str, dict[str, str]] = {}
    for name, category in task.when:
        implied.setdefault(taxonomy.task_of_tag(name).name, {})[name] = category
    for owner, tags in implied.items():
        made[owner] = [(part, tags) for part in parts]
    clips = [
        Clip(video_id, part.start_s, part.stop_s, name, dict(tags), confidence=part.confidence)
        for name, own in made.items() for label, tags in own
        for part in without(label, persons.get((video_id, name), ()))
    ]
    return Labelled(
        clips, *(Counter(label.tags[tag] for label in some) for some in (windows, labels, parts)),
        sum(part.stop_s - part.start_s for part in parts),
    )


def windows_at(place: str, video_id: str, recipe: str, tag: str) -> list[Label]:
    """The model's answers about a video's windows, with the confidence of ``tag``."""
    filters = [("video_id", "=", video_id), ("recipe", "=", recipe)]
    table = read_segments(place, ["tags"], filters)
    answers: dict[Span, dict[str, dict]] = {}
    for row in table.to_pylist() if table is not None else ():
        for said in row["tags"]:
            answers.setdefault((said["start_s"], said["stop_s"]), {})[said["tag"]] = said
    return [
        Label(*span, {name: said["category"] for name, said in tags.items()}, tags[tag]["confidence"])
        for span, tags in sorted(answers.items())
    ]


def spans_of_persons(head: Atlas) -> dict[tuple[str, str], list[Span]]:
    """(video_id, task) → the time that persons labelled."""
    spans: dict[tuple[str, str], list[Span]] = {}
    for clip in head.clips:
        if clip.source == "manual":
            spans.setdefault((clip.video_id, clip.task), []).append((clip.start_s, clip.stop_s))
    return {lane: union(own) for lane, own in spans.items()}


def videos_at(place: str) -> list[Video]:
    return [entry.video for entry in read_videos(place).values() if entry.is_mapped]


def report_of(
    trusted: dict[str, Threshold], found: list[Labelled], summary: Summary | None, taxonomy: Taxonomy
) -> dict:
    """``actions``: category → its ``threshold`` (None: none is sure enough), where that comes from, and the archive's
    windows said, kept, dropped, and ``clips`` made of them; ``videos``: state → number; ``added``: task → samples."""
    said, kept, made = (sum((getattr(labelled, name) for labelled in found), Counter())
                        for name in ("said", "kept", "made"))
    unseen = Threshold(math.inf, 0, 0, 0)
    actions = {}
    for name in sorted({*trusted, *said}, key=lambda name: (-said[name], name)):
        threshold = trusted.get(name, unseen)
        actions[name] = {
            "threshold": threshold.least if math.isfinite(threshold.least) else None,
            "precision": threshold.precision if threshold.kept else None,
            "validation": {"said": threshold.said, "kept": threshold.kept, "right": threshold.right},
            "said": said[name], "kept": kept[name], "dropped": said[name] - kept[name], "clips": made[name],
        }
    clips = [clip for labelled in found for clip in labelled.clips]
    return {
        "actions": actions,
        "videos": dict(Counter(video["status"] for video in summary.videos)) if summary else {},
        "labelled_s": sum(labelled.label_s for labelled in found),
        "confidence": fmean(clip.confidence for clip in clips) if clips else None,
        "added": dict(Counter(clip.task for clip in clips)),
    }


def left(out: str, report: dict) -> dict:
    """``report``, and a copy of it in ``out``."""
    fs, path = filesystem(f"{absolute(out)}/report.json")
    write_whole(fs, path, json.dumps(report, indent=1, ensure_ascii=False).encode())
    return report
