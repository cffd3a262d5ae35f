"""Reads and writes projects of the VGG Image Annotator for video (VIA 3, robots.ox.ac.uk/~vgg/software/via).

    {"project": {"data_format_version": "3.1.1", …}, "config": {"file": {"loc_prefix": {"1": "", …}}, …},
     "attribute": {"1": {"aname": "step", "anchor_id": "FILE1_Z2_XY0", "type": 4, "options": {"0": "Suturing", …}}},
     "file": {"1": {"fid": 1, "fname": "case1.mp4", "type": 4, "loc": 1, "src": ""}},
     "view": {"1": {"fid_list": [1]}},
     "metadata": {"1_B5c…": {"vid": "1", "flg": 0, "z": [2, 6.5], "xy": [], "av": {"1": "0"}}}}

(CodeDoc.md of gitlab.com/vgg/via, via-3.x.y.) ``z`` is a span in seconds; one time alone is a frame, and none is the
whole file: both are left out, as are regions of the picture (``xy``). The value of an attribute with options is the id
of its option, ids with commas between for a checkbox; otherwise it is text. An attribute that is named after a tag
gives the tag; the value of another one decides, if it is a category of only one tag.
"""

from __future__ import annotations

import json
from typing import Any

from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.formats.labelled_spans import LabelledSpans, SpanKey, meaning
from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    format_error,
    json_of,
    parse_number,
    read_text,
    write_text,
)
from halsted_ray.atlas.formats.video_names import VideoNames
from halsted_ray.records import SOURCES, Clip, Video
from halsted_ray.taxonomy import Taxonomy

TEXT, CHECKBOX, SELECT = 1, 2, 4
SEGMENT = "FILE1_Z2_XY0"
"""The anchor of attributes that describe a span of a video."""
OWN = ("source", "annotator", "confidence", "caption", "specialty", "procedure of the operation")
"""Attributes that ``write`` adds."""
JsonObject = dict[str, Any]
"""A part of the project, as in the text above."""


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the project at ``source``; one Recording per view. Raises AtlasError for a file that is no project."""
    try:
        project = json_of(read_text(source))
    except json.JSONDecodeError as error:
        raise format_error(
            source, error.lineno, error.doc[error.pos : error.pos + 40], f"JSON ({error.msg})"
        ) from error
    except ValueError as error:
        raise format_error(source, 1, str(error)[:80], "JSON that can be read") from error
    parts = ("attribute", "file", "view", "metadata")
    if not isinstance(project, dict) or not all(isinstance(project.get(part), dict) for part in parts):
        raise format_error(source, 1, str(project)[:80], f"a project of VIA 3, with {', '.join(parts)}")
    views: dict[str, dict[tuple[str, str], LabelledSpans]] = {}
    for id, metadata in project["metadata"].items():
        with settings.or_left_out():
            add_metadata(views, f"metadata {id}", metadata, project["attribute"], source, settings)
    names, recordings = VideoNames(source, settings), []
    for view, groups in views.items():
        for operation, spans in groups.items():
            with settings.or_left_out(len(spans.spans)):
                reference = video_of(view, project, source)
                recordings.append(names.recording(reference, spans, f"view {view}", operation=operation))
    return recordings


def add_metadata(
    views: dict[str, dict[tuple[str, str], LabelledSpans]],
    where: str,
    metadata: object,
    attributes: JsonObject,
    file: str,
    settings: ImportSettings,
) -> None:
    """Adds the labels of one segment to the spans of its view. Raises AtlasError."""
    if not isinstance(metadata, dict) or not isinstance(metadata.get("av"), dict):
        raise format_error(file, where, str(metadata)[:80], "an object with vid, z and av")
    times = metadata.get("z") or []
    times = times if isinstance(times, list) else [times]
    if metadata.get("xy") or len(times) != 2:
        what = "a region of the picture" if metadata.get("xy") else f"{len(times)} times"
        raise format_error(file, where, what, "a segment: z with its start and end, and no xy", "no-span")
    start, stop = (parse_number(time, file, where, "z") for time in times)
    own, labels = {}, []
    for id, value in metadata["av"].items():
        found = attributes.get(id)
        attribute = found if isinstance(found, dict) else {}
        listed = attribute.get("options")
        name, options = str(attribute.get("aname", "")), listed if isinstance(listed, dict) else {}
        if name in OWN and attribute.get("desc") == "halsted":
            own[name] = str(value)
            continue
        chosen = str(value).split(",") if attribute.get("type") == CHECKBOX else [str(value)]
        labels += [(name, str(options.get(one, one))) for one in chosen if one not in ("", "_DEFAULT")]
    if not labels:
        raise format_error(file, where, metadata["av"], "at least one label", "no-label")
    made_by = own.get("source", "manual")
    if made_by not in SOURCES:
        raise format_error(file, where, made_by, f"a source of {', '.join(SOURCES)}")
    confidence = parse_number(own.get("confidence", 1.0), file, where, "the confidence")
    annotator = own.get("annotator", settings.annotator)
    operation = own.get("specialty", ""), own.get("procedure of the operation", "")
    said = [meaning(name, label, file, where, settings.taxonomy) for name, label in labels]
    spans = views.setdefault(str(metadata.get("vid")), {}).setdefault(operation, LabelledSpans(file))
    for one in said:
        spans.add(SpanKey(start, stop, one.task, made_by, annotator, own.get("caption", "")), one, confidence, where)


def video_of(view: str, project: JsonObject, file: str) -> str:
    """Returns what the project calls the first file of a view. Raises AtlasError where it has none."""
    shown = project["view"].get(view)
    ids = shown.get("fid_list") if isinstance(shown, dict) else None
    found = project["file"].get(str(ids[0])) if isinstance(ids, list) and ids else None
    if not isinstance(found, dict):
        raise format_error(file, f"view {view}", ids, "a view with a file", "no-video")
    return str(found.get("src") if found.get("loc") in (2, 3) and found.get("src") else found.get("fname") or "")


def write(atlas: Atlas, folder: str, with_files: bool = False) -> list[str]:
    """Writes via.json, one project of all videos that have samples; returns its location. Raises OutputError.

    With ``with_files``, each file's ``src`` is the uri of the video, which can contain a patient's name. Otherwise its
    name is the video_id; choose the file in VIA.
    """
    clips_of: dict[str, list[Clip]] = {}
    for clip in atlas.clips:
        clips_of.setdefault(clip.video_id, []).append(clip)
    videos = [video for video in atlas.videos if video.video_id in clips_of]
    attributes = attributes_of(atlas.load_taxonomy())
    project: JsonObject = {
        "project": {
            "pid": "__VIA_PROJECT_ID__",
            "rev": "__VIA_PROJECT_REV_ID__",
            "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__",
            "pname": "halsted",
            "creator": "VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)",
            "created": 0,
            "data_format_version": "3.1.1",
            "vid_list": [str(n) for n in range(1, len(videos) + 1)],
        },
        "config": {
            "file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}},
            "ui": {
                "file_content_align": "center",
                "file_metadata_editor_visible": True,
                "spatial_metadata_editor_visible": True,
                "temporal_segment_metadata_editor_visible": True,
                "spatial_region_label_attribute_id": "",
                "gtimeline_visible_row_count": "4",
            },
        },
        "attribute": attributes,
        "file": {str(n): file_of(n, video, with_files) for n, video in enumerate(videos, 1)},
        "view": {str(n): {"fid_list": [n]} for n in range(1, len(videos) + 1)},
        "metadata": {
            f"{n}_{index:08d}": metadata_of(str(n), clip, attributes)
            for n, video in enumerate(videos, 1)
            for index, clip in enumerate(clips_of[video.video_id])
        },
    }
    return [write_text(folder, "via.json", json.dumps(project, ensure_ascii=False, indent=1))]


def file_of(n: int, video: Video, with_files: bool) -> JsonObject:
    """Returns the project's entry of one video."""
    if not with_files:
        return {"fid": n, "fname": video.video_id, "type": 4, "loc": 1, "src": ""}
    location = 2 if video.uri.startswith(("http://", "https://")) else 3
    return {"fid": n, "fname": video.video_id, "type": 4, "loc": location, "src": video.uri}


def attributes_of(taxonomy: Taxonomy) -> JsonObject:
    """Returns the project's attributes: a list of categories per tag, and the text fields of ``OWN``."""
    lists = [
        {
            "aname": tag.name,
            "type": SELECT,
            "desc": "",
            "options": {str(n): name for n, name in enumerate(tag.categories)},
        }
        for tag in taxonomy.tags
    ]
    texts = [{"aname": name, "type": TEXT, "desc": "halsted", "options": {}} for name in OWN]
    common = {"anchor_id": SEGMENT, "default_option_id": ""}
    return {str(n): {**common, **attribute} for n, attribute in enumerate((*lists, *texts), 1)}


def metadata_of(view: str, clip: Clip, attributes: JsonObject) -> JsonObject:
    """Returns the project's entry of one sample."""
    own = {
        "source": clip.source,
        "annotator": clip.annotator,
        "confidence": repr(float(clip.confidence)),
        "caption": clip.caption,
        "specialty": clip.specialty,
        "procedure of the operation": clip.procedure,
    }
    values = {}
    for id, attribute in attributes.items():
        name = attribute["aname"]
        if attribute["desc"] == "halsted":
            values[id] = own[name]
        elif name in clip.tags:
            values[id] = next(key for key, category in attribute["options"].items() if category == clip.tags[name])
    return {"vid": view, "flg": 0, "z": [clip.start_s, clip.stop_s], "xy": [], "av": values}
