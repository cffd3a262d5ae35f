"""Reads and writes Label Studio's JSON (labelstud.io/guide/export, labelstud.io/tags/timelinelabels).

Each video is one Label Studio task, and each tag of each sample is one region on the timeline:

    [{"data": {"video": …, "video_id": …, "fps": 25.0},
      "annotations": [{"completed_by": 1, "result": [
          {"type": "timelinelabels", "from_name": "action", "to_name": "video", "score": 1.0,
           "value": {"ranges": [{"start": 76, "end": 137}], "timelinelabels": ["Cautery"]}}]}],
      "predictions": [{"model_version": "7", "result": […]}]}]

Frames count from 1, and a range includes its last frame. ``from_name`` is the tag. Where a project's control has
another name, the label decides, if it is a category of only one tag. Annotations are samples of a person, predictions
are samples of a model. Regions with the same span and task are one sample. Label Studio needs videos with a constant
frame rate.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    format_error,
    parse_number,
    read_text,
    write_text,
)
from halsted_ray.errors import AtlasError, TaxonomyError
from halsted_ray.records import Clip, Video
from halsted_ray.storage.locations import absolute_location
from halsted_ray.taxonomy import Taxonomy

FALLBACK_FPS = 25.0
"""For a video without a known frame rate. It is written to the file, so that reading uses the same rate."""
JsonObject = dict[str, Any]
"""A task, an annotation or a region, as in the text above."""


class SampleKey(NamedTuple):
    """What the regions of one sample share. Frames count from 1; ``last_frame`` is inside the sample."""

    first_frame: int
    last_frame: int
    task: str
    source: str
    annotator: str
    caption: str


@dataclass
class RegionTags:
    """The tags of one sample, and its confidence."""

    score: float
    tags: dict[str, str] = field(default_factory=dict)


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the exported file at ``source``; one Recording per task. Raises AtlasError with the place at fault."""
    recordings = []
    for line, number, task in tasks_of(source):
        at = f"line {line}, task {number}"
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            raise format_error(source, at, str(task)[:80], "an object with data and annotations (JSON, not JSON-MIN)")
        data = task["data"]
        rate = parse_number(data["fps"], source, at, "data.fps") if data.get("fps") else None
        if rate is not None and rate <= 0:
            raise format_error(source, at, rate, "data.fps above 0")
        samples: dict[SampleKey, RegionTags] = {}
        for kind, made_by in (("annotations", "manual"), ("predictions", "ai")):
            for index, group in enumerate(task.get(kind) or ()):
                if group.get("was_cancelled"):
                    continue  # the annotator skipped the task
                for place, region in enumerate(group.get("result") or ()):
                    if region.get("type") == "timelinelabels":
                        where = f"{at}, {kind} {index}, result {place}"
                        add_region(samples, region, group, made_by, source, where, settings)
        specialty, procedure = (str(data.get(name) or "") for name in ("specialty", "procedure"))
        clips = tuple(
            Clip(
                "",
                key.first_frame - 1,
                key.last_frame,
                key.task,
                sample.tags,
                key.source,
                key.annotator,
                sample.score,
                specialty,
                procedure,
                key.caption,
            )
            for key, sample in samples.items()
        )
        recordings.append(make_recording(data, clips, source, at, rate, settings))
    return recordings


def tasks_of(source: str) -> Iterator[tuple[int, int, object]]:
    """Yields (line where it begins, number from 1, value) of the members of the file's list. Raises AtlasError."""
    text = read_text(source)
    decoder = json.JSONDecoder()
    try:
        if not isinstance(json.loads(text), list):
            raise format_error(source, 1, text[:40], "a list of tasks")
    except json.JSONDecodeError as error:
        raise format_error(source, error.lineno, text[error.pos : error.pos + 40], f"JSON ({error.msg})") from error
    position, number = text.index("[") + 1, 1
    while True:
        while text[position] in " \t\r\n,":
            position += 1
        if text[position] == "]":
            return
        value, stop = decoder.raw_decode(text, position)
        yield text.count("\n", 0, position) + 1, number, value
        position, number = stop, number + 1


def add_region(
    samples: dict[SampleKey, RegionTags],
    region: JsonObject,
    group: JsonObject,
    made_by: str,
    file: str,
    where: str,
    settings: ImportSettings,
) -> None:
    """Adds one region's tags to the samples of its spans.

    ``group``: the annotation or prediction that holds the region. ``made_by``: ``manual`` or ``ai``. ``where``: the
    region's place in ``file``, for messages. Raises AtlasError.
    """
    value = region.get("value") or {}
    ranges, labels = value.get("ranges"), value.get("timelinelabels")
    if not ranges or not labels:
        raise format_error(file, where, value, "ranges and timelinelabels, each with at least one member")
    who = group.get("model_version") if made_by == "ai" else group.get("annotator") or completed_by(group)
    caption = " ".join((region.get("meta") or {}).get("text") or ())
    score = region.get("score", group.get("score"))
    score = 1.0 if score is None else parse_number(score, file, where, "score")
    for span in ranges:
        start, end = span.get("start"), span.get("end")
        if not (isinstance(start, int) and isinstance(end, int) and 1 <= start <= end):
            raise format_error(file, where, span, "frames with 1 <= start <= end")
        for label in labels:
            task, tag, category = meaning(region.get("from_name", ""), label, file, where, settings.taxonomy)
            key = SampleKey(start, end, task, made_by, str(who or settings.annotator), caption)
            sample = samples.setdefault(key, RegionTags(score))
            if sample.tags.get(tag, category) != category:
                raise format_error(file, where, category, f"one {tag} per span; it is {sample.tags[tag]!r} too")
            sample.tags[tag] = category


def completed_by(group: JsonObject) -> str:
    """Returns the id of the person who made an annotation, '' where it does not say."""
    who = group.get("completed_by")
    return str(who.get("id", "") if isinstance(who, dict) else who or "")  # the object also holds an e-mail address


def meaning(control: str, label: str, file: str, where: str, taxonomy: Taxonomy) -> tuple[str, str, str]:
    """Returns (task, tag, category) of a label.

    The control's name gives the tag; where it names no tag, the label must be a category of only one tag. Raises
    AtlasError where it is a category of none or of several.
    """
    names = [tag.name for tag in taxonomy.tags if tag.name == control] or [tag.name for tag in taxonomy.tags]
    found, last = [], None
    for name in names:
        task = taxonomy.task_of_tag(name)
        try:
            found.append((task.name, *taxonomy.canonical(task, name, label)))
        except TaxonomyError as error:
            last = error
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(f"{tag}" for _, tag, _ in found)
        raise format_error(file, where, label, f"a control named after its tag, since {several} all have this category")
    raise format_error(
        file, where, label, str(last) if len(names) == 1 else f"a category of taxonomy {taxonomy.name!r}"
    )


def make_recording(
    data: JsonObject, clips: tuple[Clip, ...], source: str, at: str, rate: float | None, settings: ImportSettings
) -> Recording:
    """Makes the Recording of one task from its ``data``. Raises AtlasError where it names no video."""
    origin = f"{source}, {at}"
    if data.get("video_id"):
        return Recording(clips, origin, video_id=str(data["video_id"]), rate=rate)
    name = str(data.get("video") or "")
    if not name:
        raise AtlasError(f"{origin}: got {sorted(data)}; expected data.video (or data.video_id)")
    if settings.videos:
        name = posixpath.join(absolute_location(settings.videos), posixpath.basename(name.split("?d=")[-1]))
    return Recording(clips, origin, name, rate=rate)


def write(atlas: Atlas, folder: str, with_files: bool = False) -> list[str]:
    """Writes tasks for a Label Studio project (JSON), and the project's labelling interface (XML); returns both files.

    With ``with_files``, ``data.video`` is the uri of the file, which Label Studio can play; it can contain a patient's
    name. Otherwise ``data.video`` is the video_id, and the files must be served under that name. Raises OutputError.
    """
    clips_of: dict[str, list[Clip]] = {}
    for clip in atlas.clips:
        clips_of.setdefault(clip.video_id, []).append(clip)
    tasks = [
        task_of(video, clips_of[video.video_id], with_files) for video in atlas.videos if video.video_id in clips_of
    ]
    return [
        write_text(folder, "label-studio.json", json.dumps(tasks, ensure_ascii=False, indent=1)),
        write_text(folder, "label-studio.xml", interface(atlas.load_taxonomy())),
    ]


def task_of(video: Video, clips: list[Clip], with_files: bool) -> JsonObject:
    """Returns the Label Studio task of one video."""
    fps = video.fps or FALLBACK_FPS
    data: JsonObject = {
        "video": video.uri if with_files else video.video_id,
        "video_id": video.video_id,
        "fps": fps,
        "duration_s": video.duration_s,
    }
    for name in ("specialty", "procedure"):
        data[name] = next((getattr(clip, name) for clip in clips if getattr(clip, name)), "")
    groups: dict[tuple[str, str], list[JsonObject]] = {}
    for clip in clips:
        groups.setdefault((clip.source, clip.annotator), []).extend(regions(clip, fps))
    return {
        "data": data,
        "annotations": [
            {"annotator": who, "result": result} for (made_by, who), result in groups.items() if made_by == "manual"
        ],
        "predictions": [
            {"model_version": who, "result": result} for (made_by, who), result in groups.items() if made_by == "ai"
        ],
    }


def regions(clip: Clip, fps: float) -> Iterator[JsonObject]:
    """Yields the timeline region of each tag of ``clip``."""
    first = round(clip.start_s * fps)
    span = {"start": first + 1, "end": max(first + 1, round(clip.stop_s * fps))}
    for tag, category in clip.tags.items():
        yield {
            "id": f"{clip.clip_id[:8]}-{tag}",
            "type": "timelinelabels",
            "from_name": tag,
            "to_name": "video",
            "score": clip.confidence,
            "value": {"ranges": [span], "timelinelabels": [category]},
            **({"meta": {"text": [clip.caption]}} if clip.caption else {}),
        }


def interface(taxonomy: Taxonomy) -> str:
    """Returns the labelling interface: a video player, and one timeline control per tag."""
    lines = ["<View>", '  <Video name="video" value="$video" frameRate="$fps" timelineHeight="240"/>']
    for tag in taxonomy.tags:
        lines.append(f'  <TimelineLabels name="{escape(tag.name)}" toName="video">')
        lines += [f'    <Label value="{escape(category)}"/>' for category in tag.categories]
        lines.append("  </TimelineLabels>")
    return "\n".join([*lines, "</View>", ""])
