"""Reads and writes CVAT's XML 1.1 (docs.cvat.ai/docs/dataset_management/formats/format-cvat): video and image layout.

    <annotations><version>1.1</version>
      <meta><task><id>3</id><name>OR 2</name><size>500</size><start_frame>0</start_frame><stop_frame>499</stop_frame>
        <frame_filter>step=5</frame_filter> … <source>case1.mp4</source></task></meta>
      <track id="0" label="step" source="manual">
        <box frame="25" keyframe="1" outside="0" occluded="0" xtl="…" …>
          <attribute name="category">Suturing</attribute></box>
        <box frame="75" keyframe="1" outside="1" …>…</box></track>
      <image id="0" name="frame_000000"><tag label="step" source="manual"><attribute …/></tag></image>
    </annotations>

Frames count from 0 in the whole video, whatever the task's first frame and step are. A track is there from a shape with
``outside="0"`` up to the next one with ``outside="1"``; a track that is not ended goes on to the task's last frame.
Attributes that change inside a track divide it. In the image layout, a tag or shape on consecutive frames is one span.

What a label says: an attribute that is named after a tag gives that tag's category; so does the attribute ``category``
of a label that is named after a tag; else the label itself decides, if it is a category of only one tag. The places of
boxes are not read. The export may be packed (ZIP) or its annotations.xml alone. The file of a project may hold several
tasks; that of a job names its task's video too.

CVAT's file does not hold the frame rate. ``write`` adds it as ``frame_rate``, which CVAT drops; so a file that comes
out of CVAT needs ``--fps``. ``write`` makes one file per video: a track per tag of each sample, as a box of the whole
picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.formats.labelled_spans import LabelledSpans, Meaning, Operation, SpanKey, meaning, tag_named
from halsted_ray.atlas.formats.recording import ImportSettings, Recording, format_error, parse_number, write_text
from halsted_ray.atlas.formats.video_names import VideoNames
from halsted_ray.atlas.formats.xml_files import from_xml, line_of, parse, to_xml
from halsted_ray.records import SOURCES, Clip, Video
from halsted_ray.taxonomy import Taxonomy

FALLBACK_FPS = 25.0
"""For a video without a known frame rate. It is written to the file, so that reading uses the same rate."""
UNSET = ("", "__undefined__")
"""Values of an attribute that nobody chose (CVAT's user guide)."""
OWN = ("source", "annotator", "confidence", "caption")
"""Attributes that ``write`` adds to each label."""


@dataclass
class Task:
    """A task of CVAT. ``last_frame``: of the whole video. ``step``: frames of the video per frame of the task."""

    id: str
    video: str
    line: int
    last_frame: int | None
    step: int
    rate: float | None
    spans: LabelledSpans
    operation: Operation
    on_images: dict[tuple[Meaning, SpanKey, float], list[int]] = field(default_factory=dict)
    """What the image layout says, to its frames."""


class Change(NamedTuple):
    """The state of a track from a frame on. ``attributes``: None where the track is outside the picture."""

    frame: int
    attributes: tuple[tuple[str, str], ...] | None
    line: int


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the file at ``source``; one Recording per task. Raises AtlasError for a file that is not CVAT's XML."""
    tasks: list[Task] = []

    def add(element: Element) -> None:
        if element.tag == "meta":
            tasks.extend(tasks_of(element, source))
            return
        if not tasks:
            raise format_error(source, line_of(element), element.tag, "CVAT's meta before the first track or image")
        with settings.or_left_out():
            task = task_of(element, tasks, source)
            if element.tag == "track":
                add_track(task, element, settings)
            else:
                add_image(task, element, settings)

    root = parse(source, add, ("meta", "track", "image"), "annotations.xml")
    if root.tag != "annotations":
        raise format_error(source, 1, root.tag, "CVAT's <annotations>")
    names, recordings = VideoNames(source, settings), []
    for task in tasks:
        add_images(task, settings)
        if task.spans.spans:
            with settings.or_left_out(len(task.spans.spans)):
                rate = settings.frame_rate(task.rate, source, task.line, "the task's <frame_rate>")
                recordings.append(names.recording(task.video, task.spans, task.line, rate, task.operation))
    return recordings


def tasks_of(meta: Element, file: str) -> Iterator[Task]:
    """Yields the tasks that ``meta`` describes: of a task, a project or a job. Raises AtlasError."""
    found = [*meta.iter("task"), *meta.iter("job")]
    for task in found:
        line = line_of(task)
        step = re.search(r"step\s*=\s*(\d{1,9})(?!\d)", task.findtext("frame_filter") or "")
        per_frame = max(1, int(step[1])) if step else 1
        last = task.findtext("stop_frame")
        rate = task.findtext("frame_rate")
        yield Task(
            task.findtext("id") or "",
            from_xml(task.findtext("source") or meta.findtext(".//source") or task.findtext("name") or ""),
            line,
            int(parse_number(last, file, line, "stop_frame")) if last else None,
            per_frame,
            parse_number(rate, file, line, "frame_rate") if rate else None,
            LabelledSpans(file),
            (from_xml(task.findtext("specialty") or ""), from_xml(task.findtext("procedure") or "")),
        )


def task_of(element: Element, tasks: list[Task], file: str) -> Task:
    """Returns the task that a track or image belongs to. Raises AtlasError where the file does not say."""
    id = element.get("task_id")
    if id is None and len(tasks) == 1:
        return tasks[0]
    found = next((task for task in tasks if task.id == id), None)
    if found is None:
        known = ", ".join(task.id for task in tasks)
        raise format_error(file, line_of(element), id, f"the task_id of a task of this file ({known})", "no-video")
    return found


def attributes_of(shape: Element) -> tuple[tuple[str, str], ...]:
    """Returns (name, value) of the attributes of a shape or tag that somebody chose."""
    found = ((str(part.get("name")), from_xml(part.text or "")) for part in shape.findall("attribute"))
    return tuple((name, value) for name, value in found if name in OWN or value not in UNSET)


def add_track(task: Task, track: Element, settings: ImportSettings) -> None:
    """Adds one track: a span for each stretch in which it is in the picture and says the same. Raises AtlasError."""
    file, label = task.spans.file, from_xml(track.get("label", ""))
    changes = []
    for shape in track:
        frame = parse_number(shape.get("frame"), file, line_of(shape), "frame")
        # A skeleton has no state of its own: it is outside where all of its points are.
        said = [part.get("outside") for part in (shape, *shape.findall("points")) if part.get("outside") is not None]
        outside = bool(said) and all(one == "1" for one in said)
        changes.append(Change(int(frame), None if outside else attributes_of(shape), line_of(shape)))
    if not changes:
        raise format_error(file, line_of(track), label, "a track with shapes", "no-span")
    changes.sort(key=lambda change: change.frame)
    end = max(changes[-1].frame + 1, (task.last_frame or 0) + 1)
    begun: Change | None = None
    for change in (*changes, Change(end, None, changes[-1].line)):
        if begun is not None and change.attributes != begun.attributes:
            with settings.or_left_out():
                add_span(task, begun, change.frame, label, track.get("source", ""), settings)
            begun = None
        if begun is None and change.attributes is not None:
            begun = change


def add_span(task: Task, begun: Change, stop: int, label: str, source: str, settings: ImportSettings) -> None:
    """Adds the tags of one stretch of a track. Raises AtlasError."""
    for said, key, confidence in meanings(begun.attributes or (), label, source, task.spans.file, begun.line, settings):
        task.spans.add(key._replace(start=begun.frame, stop=stop), said, confidence, begun.line)


def add_image(task: Task, image: Element, settings: ImportSettings) -> None:
    """Notes what the tags and shapes of one image say. Raises AtlasError."""
    file = task.spans.file
    frame = int(parse_number(image.get("id"), file, line_of(image), "the image's id"))
    for part in image:
        with settings.or_left_out():
            label = from_xml(part.get("label", ""))
            for said in meanings(attributes_of(part), label, part.get("source", ""), file, line_of(part), settings):
                frames = task.on_images.setdefault((said[0], said[1], said[2]), [])
                if not frames or frames[-1] != frame:
                    frames.append(frame)


def add_images(task: Task, settings: ImportSettings) -> None:
    """Adds the spans of consecutive frames that say the same."""
    for (said, key, confidence), frames in task.on_images.items():
        begun = before = frames[0]
        for frame in (*sorted(frames)[1:], None):
            if frame is None or frame > before + task.step:
                with settings.or_left_out():
                    task.spans.add(key._replace(start=begun, stop=before + task.step), said, confidence, task.line)
                begun = frame if frame is not None else begun
            before = frame if frame is not None else before


def meanings(
    attributes: tuple[tuple[str, str], ...], label: str, source: str, file: str, line: int, settings: ImportSettings
) -> Iterator[tuple[Meaning, SpanKey, float]]:
    """Yields (meaning, key of its span without times, confidence) of each tag of a label. Raises AtlasError."""
    terms = settings.taxonomy
    own = {name: value for name, value in attributes if name in OWN}
    made_by = own.get("source") or ("ai" if source == "auto" else "manual")
    if made_by not in SOURCES:
        raise format_error(file, line, made_by, f"a source of {', '.join(SOURCES)}")
    confidence = parse_number(own.get("confidence", 1.0), file, line, "the confidence")
    key = SpanKey(0, 1, "", made_by, own.get("annotator", settings.annotator), own.get("caption", ""))
    pairs = [(tag, value) for name, value in attributes if name not in OWN and (tag := tag_named(name, terms))]
    category = dict(attributes).get("category")
    if category is not None and tag_named(label, terms):
        pairs.append((label, category))
    for control, value in pairs or [("", label)]:
        said = meaning(control, value, file, line, terms)
        yield said, key._replace(task=said.task), confidence


def write(atlas: Atlas, folder: str, with_files: bool = False) -> list[str]:
    """Writes one XML file per video that has samples, named by its video_id; returns the files. Raises OutputError.

    Upload a file to a task of its video (CVAT for video 1.1) whose labels are those of the file's ``meta``. With
    ``with_files`` the file holds the uri of the video, which can contain a patient's name.
    """
    clips_of: dict[str, list[Clip]] = {}
    for clip in atlas.clips:
        clips_of.setdefault(clip.video_id, []).append(clip)
    terms = atlas.load_taxonomy()
    return [
        write_text(folder, f"{video.video_id}.xml", document(video, clips_of[video.video_id], terms, with_files))
        for video in atlas.videos
        if video.video_id in clips_of
    ]


def document(video: Video, clips: list[Clip], taxonomy: Taxonomy, with_files: bool) -> str:
    """Returns the file of one video."""
    fps = video.fps or FALLBACK_FPS
    frames = max(1, round(video.duration_s * fps))
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    task = SubElement(SubElement(root, "meta"), "task")
    operation = {
        name: next((getattr(clip, name) for clip in clips if getattr(clip, name)), "")
        for name in ("specialty", "procedure")
    }
    facts = {
        "name": video.video_id,
        "size": str(frames),
        "mode": "interpolation",
        "start_frame": "0",
        "stop_frame": str(frames - 1),
        "frame_filter": "",
        "frame_rate": repr(float(fps)),
        **operation,
    }
    for name, value in facts.items():
        SubElement(task, name).text = to_xml(value)
    labels = SubElement(task, "labels")
    for tag in taxonomy.tags:
        add_label(labels, tag.name, tag.categories)
    size = SubElement(task, "original_size")
    SubElement(size, "width").text, SubElement(size, "height").text = str(video.width), str(video.height)
    SubElement(task, "source").text = to_xml(video.uri if with_files else video.video_id)
    number = 0
    for clip in clips:
        first = min(round(clip.start_s * fps), frames - 1)
        stop = max(first + 1, round(clip.stop_s * fps))
        for name, category in clip.tags.items():
            source = "auto" if clip.source == "ai" else "manual"
            track = SubElement(root, "track", {"id": str(number), "label": to_xml(name), "source": source})
            number += 1
            for frame, outside in ((first, "0"), (stop, "1")):
                if frame < frames:
                    add_box(track, frame, outside, category, clip, video)
    indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(root, "unicode") + "\n"


def add_box(track: Element, frame: int, outside: str, category: str, clip: Clip, video: Video) -> None:
    """Adds one end of a track: a box of the whole picture."""
    place = {"xtl": "0.00", "ytl": "0.00", "xbr": f"{video.width:.2f}", "ybr": f"{video.height:.2f}", "z_order": "0"}
    state = {"frame": str(frame), "keyframe": "1", "outside": outside, "occluded": "0"}
    box = SubElement(track, "box", {**state, **place})
    values = {
        "category": category,
        "source": clip.source,
        "annotator": clip.annotator,
        "confidence": repr(float(clip.confidence)),
        "caption": clip.caption,
    }
    for name, value in values.items():
        SubElement(box, "attribute", {"name": name}).text = to_xml(value)


def add_label(labels: Element, name: str, categories: tuple[str, ...]) -> None:
    """Adds the definition of one label: what a task of CVAT needs to take the file."""
    label = SubElement(labels, "label")
    SubElement(label, "name").text = to_xml(name)
    SubElement(label, "type").text = "any"
    attributes = SubElement(label, "attributes")
    kinds = {"category": ("select", categories), "source": ("select", SOURCES)}
    for own in ("category", *OWN):
        kind, values = kinds.get(own, ("text", ()))
        attribute = SubElement(attributes, "attribute")
        SubElement(attribute, "name").text = own
        SubElement(attribute, "mutable").text = "False"
        SubElement(attribute, "input_type").text = kind
        SubElement(attribute, "default_value").text = to_xml(values[0]) if values else ""
        SubElement(attribute, "values").text = to_xml("\n".join(values))
