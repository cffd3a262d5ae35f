"""Reads and writes Label Studio's JSON (labelstud.io/guide/export, labelstud.io/tags/timelinelabels).

Each video is one Label Studio task, and each tag of each sample is one region on the timeline:

    [{"data": {"video": …, "video_id": …, "fps": 25.0},
      "annotations": [{"completed_by": 1, "result": [
          {"type": "timelinelabels", "from_name": "action", "to_name": "video", "score": 1.0,
           "value": {"ranges": [{"start": 76, "end": 137}], "timelinelabels": ["Cautery"]}}]}],
      "predictions": [{"model_version": "7", "result": […]}]}]

Frames count from 1, and a range includes its last frame: frame n is [n - 1, n) / fps. The player with frame-precise
seeking goes to (n - 1) / fps, and the older player to n / fps (``VideoCanvas.tsx`` of HumanSignal/label-studio), so an
annotation made with the older player is up to one frame off. The player counts with the ``frameRate`` of the project's
interface, 24 unless it is set (``Video.js``), and not with the rate of the video. An export does not tell it, unless
the data have ``fps``. Label Studio needs videos with a constant rate.

The template for timeline segmentation puts ``Labels`` on the sound: their ``start`` and ``end`` are seconds.

Read as well: JSON-MIN and its rows as CSV or TSV, a folder or file of single annotations (target storage writes them),
JSON lines, and ``completions``, as versions before 1.0 call annotations.

``from_name`` is the tag. Where a project's control has another name, the label decides, if it is a category of only one
tag. Annotations are samples of a person, predictions are samples of a model, or of a drawn video where
``model_version`` begins with ``synthetic:``. An annotation that its author cancelled is skipped, and noted. A region
without a span is left out: a box, or its phantom, a timeline region without ranges that Label Studio writes for each
box (issue 9744 of HumanSignal/label-studio).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from html import escape
from typing import Any

from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.formats.labelled_spans import LabelledSpans, SpanKey, meaning
from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    format_error,
    is_file,
    json_of,
    matching_files,
    parse_number,
    read_text,
    write_text,
)
from halsted_ray.atlas.formats.video_names import VIDEO_ID, VideoNames, is_video_name
from halsted_ray.errors import AtlasError
from halsted_ray.records import SYNTHETIC, Clip, Video
from halsted_ray.storage.locations import absolute_location
from halsted_ray.taxonomy import Taxonomy

DRAWN_BY = "synthetic:"
"""What a prediction's ``model_version`` begins with where the video is drawn: Label Studio keeps no field of ours."""
FALLBACK_FPS = 25.0
"""For a video without a known frame rate. It is written to the file, so that reading uses the same rate."""
BOXES = ("videorectangle", "videovector", "videopolygon")
ANNOTATION_FIELDS = (
    "annotation_id",
    "annotator",
    "created_at",
    "updated_at",
    "lead_time",
    "id",
    "agreement",
    "annotation",
)
"""What JSON-MIN writes beside the data and the results."""
JsonObject = dict[str, Any]
"""A task, an annotation or a region, as in the text above."""


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the exported file, or the folder of such files, at ``source``; a Recording per task and unit of time.

    Raises AtlasError for a file that is no export.
    """
    files = [source] if is_file(source) else matching_files(absolute_location(source), "*")
    if not files:
        raise AtlasError(f"{source}: can't be read; give an existing file, or the folder of a target storage")
    names = VideoNames(files[0], settings)
    recordings = []
    for file in files:
        names.source = file
        for line, number, value in tasks_of(file):
            with settings.or_left_out():
                task = whole_task(value, file, f"line {line}, task {number}")
                id = task.get("id")
                at = f"line {line}, task {number if id is None else f'{number} (id {id})'}"
                recordings += read_task(task, names, file, at, settings)
    return recordings


def read_task(task: JsonObject, names: VideoNames, file: str, at: str, settings: ImportSettings) -> list[Recording]:
    """Returns the recordings of one task: what counts frames, and what counts seconds. Raises AtlasError."""
    data = task["data"]
    in_frames, in_seconds = LabelledSpans(file), LabelledSpans(file)
    boxes: set[str] = set()
    counted: list[Any] = []
    for kind, made_by in (("annotations", "manual"), ("completions", "manual"), ("predictions", "ai")):
        for index, group in enumerate(listed(task, kind, file, at)):
            place = f"{at}, {kind} {index}"
            if not isinstance(group, dict):
                continue  # an export can list annotations by their ids only
            if group.get("was_cancelled"):
                settings.notes.append(f"{file}, {place}: skipped, because its author cancelled it")
                continue
            for n, region in enumerate(listed(group, "result", file, place)):
                if is_box(region):
                    boxes.add(str(region.get("id") or f"{place}, {n}"))
                    counted.append(region.get("value"))
                    continue
                with settings.or_left_out():
                    add_region(in_frames, in_seconds, region, group, made_by, f"{place}, result {n}", settings)
    if boxes:
        with settings.or_left_out(len(boxes)):
            expected = "regions with a span of time; a box has none, nor has its phantom on the timeline"
            raise format_error(file, at, f"boxes: {len(boxes)}", expected, "box")
    operation = str(data.get("specialty") or ""), str(data.get("procedure") or "")
    recordings = []
    if in_frames.spans:
        with settings.or_left_out(len(in_frames.spans)):
            reference = video_of(data, file, at)
            declared = declared_rate(data, file, at)
            if settings.fps is None and declared:
                check_rate(declared, counted, file, at)
            rate = settings.frame_rate(declared, file, at, "data.fps")
            recordings.append(names.recording(reference, in_frames, at, rate, operation))
    if in_seconds.spans:
        with settings.or_left_out(len(in_seconds.spans)):
            reference = video_of(data, file, at)
            recordings.append(names.recording(reference, in_seconds, at, operation=operation))
    return recordings


def check_rate(rate: float, boxes: list[Any], file: str, at: str) -> None:
    """Raises AtlasError where a box tells that the player counted at another rate than the data have.

    A box holds the length of the video in frames as the player counted them, rounded to a whole frame, and in seconds.
    """
    for box in boxes:
        said: list[Any] = [box.get(name) if isinstance(box, dict) else None for name in ("framesCount", "duration")]
        frames, duration_s = (float(one) if is_number(one) else 0.0 for one in said)
        if frames < 1 or duration_s < 1:
            continue
        if abs(frames / duration_s - rate) > 1.5 / duration_s + 0.01 * rate:
            expected = (
                f"the rate that the player counted with, by --fps: its boxes count {frames / duration_s:.2f} per second"
            )
            raise format_error(file, at, f"data.fps {rate:g}", expected, "no-frame-rate")


def listed(part: JsonObject, name: str, file: str, where: str) -> list[Any]:
    """Returns the list ``name`` of a part of the export; empty where it is missing. Raises AtlasError."""
    found = part.get(name) or []
    if not isinstance(found, list):
        raise format_error(file, where, str(found)[:40], f"a list of {name}")
    return found


def is_box(region: object) -> bool:
    """Returns whether a region is a box, or the phantom that Label Studio writes for a box on the timeline."""
    if not isinstance(region, dict):
        return False
    value = region.get("value")
    has_sequence = isinstance(value, dict) and "sequence" in value and not value.get("ranges")
    return region.get("type") in BOXES or has_sequence


def declared_rate(data: JsonObject, file: str, at: str) -> float | None:
    """Returns the data's frames per second, None where it does not say. Raises AtlasError."""
    said = data.get("fps") or data.get("frame_rate") or data.get("frameRate") or data.get("framerate")
    if not said:
        return None
    rate = parse_number(said, file, at, "data.fps")
    if rate <= 0:
        raise format_error(file, at, rate, "data.fps above 0")
    return rate if rate >= 1 else 1 / rate  # below 1 it is the length of a frame (``Video.js``)


def tasks_of(source: str) -> Iterator[tuple[int, int, object]]:
    """Yields (line where it begins, number from 1, value) of the tasks in a file: the members of a list, the values one
    after another (JSON lines), or the rows of a table. Raises AtlasError."""
    text = read_text(source)
    if text.lstrip()[:1] not in ("[", "{"):
        yield from rows_of(text, source)
        return
    decoder = json.JSONDecoder()
    position, number, line, counted = 0, 1, 1, 0
    in_list = text.lstrip().startswith("[")
    if in_list:
        position = text.index("[") + 1
    while True:
        while position < len(text) and text[position] in " \t\r\n," + ("]" if in_list else ""):
            position += 1
        if position >= len(text):
            if in_list and not text.rstrip().endswith("]"):
                raise format_error(source, text.count("\n") + 1, text[-40:], "JSON (a list that ends with ])")
            return
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, stop = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise format_error(source, error.lineno, text[error.pos : error.pos + 40], f"JSON ({error.msg})") from error
        except (RecursionError, ValueError) as error:  # too deep, or a whole number of thousands of digits
            raise format_error(source, line, text[position : position + 40], f"JSON ({error})") from error
        yield line, number, value
        position, number = stop, number + 1


def rows_of(text: str, source: str) -> Iterator[tuple[int, int, object]]:
    """Yields (line, number from 1, row) of a table as Label Studio exports it: JSON-MIN, with JSON in the cells.

    Raises AtlasError for a text that is no such table.
    """
    head = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in head else ",", strict=True)
    try:
        if "annotation_id" not in (reader.fieldnames or ()):
            raise format_error(source, 1, head[:40], "JSON, or a table with annotation_id: an export of Label Studio")
        for number, row in enumerate(reader, 1):
            cells: JsonObject = {name: cell for name, cell in row.items() if name and isinstance(cell, str)}
            for name, cell in cells.items():
                if cell.startswith(("[", "{")):
                    try:
                        cells[name] = json_of(cell)
                    except ValueError:
                        continue  # a text that begins with a bracket
            yield reader.line_num, number, cells
    except csv.Error as error:
        raise format_error(source, reader.line_num, str(error), "a table as Label Studio exports it") from error


def whole_task(value: object, file: str, at: str) -> JsonObject:
    """Returns a task in the form above, from any of the forms that are exported. Raises AtlasError."""
    if isinstance(value, dict):
        if isinstance(value.get("data"), dict):
            return value
        if isinstance(value.get("task"), dict) and isinstance(value["task"].get("data"), dict) and "result" in value:
            return {"id": value["task"].get("id"), "data": value["task"]["data"], "annotations": [value]}
        results = {name: found for name, found in value.items() if is_min_result(found)}
        if results or "annotation_id" in value:  # JSON-MIN: a row per annotation, its results beside the data
            rest = {name: found for name, found in value.items() if name not in results}
            data = {name: found for name, found in rest.items() if name not in ANNOTATION_FIELDS}
            result = [
                {"from_name": name, "value": part, "type": "timelinelabels" if "timelinelabels" in part else "labels"}
                for name, found in results.items()
                for part in found
            ]
            annotation = {"id": value.get("annotation_id"), "completed_by": value.get("annotator"), "result": result}
            return {"id": value.get("id"), "data": data, "annotations": [annotation]}
    raise format_error(file, at, str(value)[:80], "a task: an object with data and annotations, or a row of JSON-MIN")


def is_min_result(value: object) -> bool:
    """Returns whether a value of JSON-MIN is the results of a control: objects with a range or a start."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(part, dict) and ({"ranges", "start", "sequence", "timelinelabels"} & set(part)) for part in value
        )
    )


def add_region(
    in_frames: LabelledSpans,
    in_seconds: LabelledSpans,
    region: object,
    group: JsonObject,
    made_by: str,
    where: str,
    settings: ImportSettings,
) -> None:
    """Adds one region's tags to the samples of its spans.

    ``group``: the annotation or prediction that holds the region. ``made_by``: ``manual`` or ``ai``. ``where``: the
    region's place in the file, for messages. Raises AtlasError.
    """
    file = in_frames.file
    if not isinstance(region, dict) or not isinstance(region.get("value") or {}, dict):
        raise format_error(file, where, str(region)[:80], "a region with a value")
    value, kind = region.get("value") or {}, str(region.get("type"))
    ranges, labels = value.get("ranges"), value.get("timelinelabels")
    on_sound = labels is None and "text" not in value and is_number(value.get("start")) and is_number(value.get("end"))
    if labels is None and on_sound:
        labels = value.get("labels")
    if labels is None:
        if not kind.endswith("labels"):  # choices, ratings, texts, relations
            settings.notes.append(f"{file}, {where}: skipped, because a region of type {kind!r} is no labelled span")
            return
        raise format_error(file, where, f"{kind} {str(value)[:80]}", "labels with a span of time", "no-span")
    if not labels or not (on_sound or (isinstance(ranges, list) and ranges)):
        raise format_error(
            file, where, str(value)[:80], "ranges and timelinelabels, each with at least one member", "no-span"
        )
    who = group.get("model_version") if made_by == "ai" else group.get("annotator") or completed_by(group)
    if made_by == "ai" and str(who or "").startswith(DRAWN_BY):
        made_by, who = SYNTHETIC, str(who).removeprefix(DRAWN_BY)
    meta = region.get("meta")
    texts = meta.get("text") if isinstance(meta, dict) else None
    caption = " ".join(map(str, texts)) if isinstance(texts, list) else str(texts or "")
    score = region.get("score", group.get("score"))
    score = 1.0 if score is None else parse_number(score, file, where, "score")
    spans, samples = (
        ([(value["start"], value["end"])], in_seconds)
        if on_sound
        else (frames_of(ranges or [], file, where), in_frames)
    )
    for start, stop in spans:
        for label in labels if isinstance(labels, list) else [labels]:
            said = meaning(str(region.get("from_name", "")), str(label), file, where, settings.taxonomy)
            key = SpanKey(start, stop, said.task, made_by, str(who or settings.annotator), caption)
            samples.add(key, said, score, where)


def frames_of(ranges: list[Any], file: str, where: str) -> list[tuple[int, int]]:
    """Returns [first, stop) in frames from 0 of a region's ranges. Raises AtlasError."""
    spans = []
    for span in ranges:
        ends: list[Any] = [span.get(name) if isinstance(span, dict) else None for name in ("start", "end")]
        start, end = (int(frame) if is_number(frame) and frame == int(frame) else 0 for frame in ends)
        if not 1 <= start <= end:
            raise format_error(file, where, span, "frames with 1 <= start <= end", "no-span")
        spans.append((start - 1, end))
    return spans


def is_number(value: Any) -> bool:
    """Returns whether a JSON value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


def completed_by(group: JsonObject) -> str:
    """Returns the id of the person who made an annotation, '' where it does not say."""
    who = group.get("completed_by")
    return str(who.get("id", "") if isinstance(who, dict) else who or "")  # the object also holds an e-mail address


def video_of(data: JsonObject, file: str, at: str) -> str:
    """Returns what a task's ``data`` calls its video: video_id, video, or the only value that is a video's name.

    Raises AtlasError where there is none, or where there are several.
    """
    if VIDEO_ID.fullmatch(str(data.get("video_id"))):
        return str(data["video_id"])
    if data.get("video"):
        return str(data["video"])
    found = {str(value) for name, value in data.items() if is_video_name(value)}
    found = found or {str(data[name]) for name in ("video_url", "url") if data.get(name)}
    if len(found) != 1:
        raise format_error(
            file, at, sorted(data), "data.video (or data.video_id), or one value that names a video", "no-video"
        )
    return found.pop()


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
            {"model_version": f"{DRAWN_BY}{who}" if made_by == SYNTHETIC else who, "result": result}
            for (made_by, who), result in groups.items()
            if made_by != "manual"
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
