"""Label Studio's JSON: a task a video, a timeline region for each tag of each sample, in frames.

    [{"data": {"video": …, "video_id": …, "fps": 25.0},
      "annotations": [{"completed_by": 1, "result": [
          {"type": "timelinelabels", "from_name": "action", "to_name": "video", "score": 1.0,
           "value": {"ranges": [{"start": 76, "end": 137}], "timelinelabels": ["Cautery"]}}]}],
      "predictions": [{"model_version": "7", "result": […]}]}]

Frames count from 1, and the last one is inside the range. ``from_name`` is the tag; where a project has another
control, a label that is a category of one tag only is enough. Annotations are a person's samples, predictions a
model's. Regions of one span and task are one sample. Label Studio wants videos of constant frame rate.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from html import escape

from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    absolute_place,
    as_number,
    read_text,
    save,
    wrong,
)
from halsted_ray.errors import AtlasError, TaxonomyError
from halsted_ray.records import Clip, Video
from halsted_ray.taxonomy import Taxonomy

FALLBACK_FPS = 25.0
"""For a video whose rate nobody knows; written into the file, so that it is read back with the same."""


def read(source: str, settings: ImportSettings) -> list[Recording]:
    recordings = []
    for line, number, task in tasks_of(source):
        at = f"line {line}, task {number}"
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            raise wrong(source, at, str(task)[:80], "an object with data and annotations (JSON, not JSON-MIN)")
        data = task["data"]
        rate = as_number(data["fps"], source, at, "data.fps") if data.get("fps") else None
        if rate is not None and rate <= 0:
            raise wrong(source, at, rate, "data.fps above 0")
        samples: dict[tuple, dict] = {}
        for kind, origin in (("annotations", "manual"), ("predictions", "ai")):
            for index, group in enumerate(task.get(kind) or ()):
                if group.get("was_cancelled"):
                    continue  # the annotator skipped the task
                for place, region in enumerate(group.get("result") or ()):
                    if region.get("type") == "timelinelabels":
                        where = f"{at}, {kind} {index}, result {place}"
                        take(samples, region, group, origin, source, where, settings)
        operation = {name: str(data.get(name) or "") for name in ("specialty", "procedure")}
        clips = tuple(
            Clip("", start - 1, end, name, of["tags"], origin, annotator, of["score"], **operation, caption=caption)
            for (start, end, name, origin, annotator, caption), of in samples.items()
        )
        recordings.append(recording(data, clips, source, at, rate, settings))
    return recordings


def tasks_of(source: str) -> Iterator[tuple[int, int, object]]:
    """(line on which it begins, number from 1, value) of the list's members."""
    text = read_text(source)
    decoder = json.JSONDecoder()
    try:
        if not isinstance(json.loads(text), list):
            raise wrong(source, 1, text[:40], "a list of tasks")
    except json.JSONDecodeError as error:
        raise wrong(source, error.lineno, text[error.pos : error.pos + 40], f"JSON ({error.msg})") from error
    position, number = text.index("[") + 1, 1
    while True:
        while text[position] in " \t\r\n,":
            position += 1
        if text[position] == "]":
            return
        value, stop = decoder.raw_decode(text, position)
        yield text.count("\n", 0, position) + 1, number, value
        position, number = stop, number + 1


def take(
    samples: dict, region: dict, group: dict, origin: str, file: str, where: str, settings: ImportSettings
) -> None:
    """Adds one region's tags to the samples of its spans."""
    value = region.get("value") or {}
    ranges, labels = value.get("ranges"), value.get("timelinelabels")
    if not ranges or not labels:
        raise wrong(file, where, value, "ranges and timelinelabels, each with at least one member")
    who = group.get("model_version") if origin == "ai" else group.get("annotator") or completed_by(group)
    caption = " ".join((region.get("meta") or {}).get("text") or ())
    score = region.get("score", group.get("score"))
    score = 1.0 if score is None else as_number(score, file, where, "score")
    for span in ranges:
        start, end = span.get("start"), span.get("end")
        if not (isinstance(start, int) and isinstance(end, int) and 1 <= start <= end):
            raise wrong(file, where, span, "frames with 1 <= start <= end")
        for label in labels:
            task, tag, category = meaning(region.get("from_name", ""), label, file, where, settings.taxonomy)
            key = (start, end, task, origin, str(who or settings.annotator), caption)
            sample = samples.setdefault(key, {"tags": {}, "score": score})
            if sample["tags"].get(tag, category) != category:
                raise wrong(file, where, category, f"one {tag} a span; it is {sample['tags'][tag]!r} too")
            sample["tags"][tag] = category


def completed_by(group: dict) -> str:
    who = group.get("completed_by")
    return str(who.get("id", "") if isinstance(who, dict) else who or "")  # an object holds the person's e-mail too


def meaning(control: str, label: str, file: str, where: str, taxonomy: Taxonomy) -> tuple[str, str, str]:
    """(task, tag, category) of a label: by the control's name, else as the only category of that name."""
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
        raise wrong(file, where, label, f"a control named after its tag, since {several} all have this category")
    raise wrong(file, where, label, str(last) if len(names) == 1 else f"a category of taxonomy {taxonomy.name!r}")


def recording(
    data: dict, clips: tuple[Clip, ...], source: str, at: str, rate: float | None, settings: ImportSettings
) -> Recording:
    origin = f"{source}, {at}"
    if data.get("video_id"):
        return Recording(clips, origin, video_id=str(data["video_id"]), rate=rate)
    name = str(data.get("video") or "")
    if not name:
        raise AtlasError(f"{origin}: got {sorted(data)}; expected data.video (or data.video_id)")
    if settings.videos:
        name = posixpath.join(absolute_place(settings.videos), posixpath.basename(name.split("?d=")[-1]))
    return Recording(clips, origin, name, rate=rate)


def write(atlas: Atlas, folder: str, with_files: bool = False) -> list[str]:
    """Tasks to import into a project, and the project's labelling interface.

    ``with_files`` puts the files' own uris into ``data.video``, so that Label Studio can play them; they can hold a
    patient's name. Without it ``data.video`` is the video_id: serve the files under that name.
    """
    clips_of: dict[str, list[Clip]] = {}
    for clip in atlas.clips:
        clips_of.setdefault(clip.video_id, []).append(clip)
    tasks = [
        task_of(video, clips_of[video.video_id], with_files) for video in atlas.videos if video.video_id in clips_of
    ]
    return [
        save(folder, "label-studio.json", json.dumps(tasks, ensure_ascii=False, indent=1)),
        save(folder, "label-studio.xml", interface(atlas.load_taxonomy())),
    ]


def task_of(video: Video, clips: list[Clip], with_files: bool) -> dict:
    fps = video.fps or FALLBACK_FPS
    data = {
        "video": video.uri if with_files else video.video_id,
        "video_id": video.video_id,
        "fps": fps,
        "duration_s": video.duration_s,
    }
    for name in ("specialty", "procedure"):
        data[name] = next((getattr(clip, name) for clip in clips if getattr(clip, name)), "")
    groups: dict[tuple[str, str], list[dict]] = {}
    for clip in clips:
        groups.setdefault((clip.source, clip.annotator), []).extend(regions(clip, fps))
    return {
        "data": data,
        "annotations": [
            {"annotator": who, "result": result} for (origin, who), result in groups.items() if origin == "manual"
        ],
        "predictions": [
            {"model_version": who, "result": result} for (origin, who), result in groups.items() if origin == "ai"
        ],
    }


def regions(clip: Clip, fps: float) -> Iterator[dict]:
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
    """One timeline control a tag, over one player."""
    lines = ["<View>", '  <Video name="video" value="$video" frameRate="$fps" timelineHeight="240"/>']
    for tag in taxonomy.tags:
        lines.append(f'  <TimelineLabels name="{escape(tag.name)}" toName="video">')
        lines += [f'    <Label value="{escape(category)}"/>' for category in tag.categories]
        lines.append("  </TimelineLabels>")
    return "\n".join([*lines, "</View>", ""])
