"""Reads and writes ELAN's annotation files (.eaf, mpi.nl/tools/elan/EAF_Annotation_Format_3.0_and_ELAN.pdf).

    <ANNOTATION_DOCUMENT FORMAT="3.0" VERSION="3.0" …>
      <HEADER TIME_UNITS="milliseconds">
        <MEDIA_DESCRIPTOR MEDIA_URL="file:///D:/or2/case%201.mp4" MIME_TYPE="video/mp4" TIME_ORIGIN="…"/></HEADER>
      <TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="4080"/>…</TIME_ORDER>
      <TIER TIER_ID="step" ANNOTATOR="ben" LINGUISTIC_TYPE_REF="step">
        <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
          <ANNOTATION_VALUE>Suturing</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>…

A tier that is named after a tag gives the tag (what follows ``@`` is the speaker's name, by ELAN's convention). On
another tier the value decides, if it is a category of only one tag; a tier without any such value is left out as one
line. A tier of references has the spans of its parent tier. An annotation without a time of its own is left out.

An annotated span belongs to the first video of the header: its time in the video is TIME_ORIGIN later.

ELAN's tiers can't hold overlapping spans, so ``write`` makes as many tiers as it needs: ``step``, ``step #2``, and
``step (ai)`` for a model's labels and ``step (synthetic)`` for drawn videos. Captions and confidences are references on
tiers of their own. Times are whole milliseconds. ``write`` makes one file per video, named by its video_id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.formats.labelled_spans import LabelledSpans, SpanKey, meaning, tag_named
from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    format_error,
    is_file,
    matching_files,
    parse_number,
    write_text,
)
from halsted_ray.atlas.formats.video_names import VideoNames
from halsted_ray.atlas.formats.xml_files import from_xml, line_of, parse, to_xml
from halsted_ray.errors import AtlasError
from halsted_ray.records import Clip, Video
from halsted_ray.storage.locations import absolute_location
from halsted_ray.taxonomy import Taxonomy

PER_S = 1000.0
"""ELAN counts milliseconds."""
TIER = re.compile(r"(?P<control>.*?)(?:@.*?)?(?: \((?P<source>ai|synthetic)\))?(?: #\d+)?", re.DOTALL)
NOTES = ("confidence", "caption")
"""What ``write`` puts on tiers of references, named ``TIER confidence`` and ``TIER caption``."""


@dataclass(frozen=True)
class Annotation:
    """One annotation. ``start`` and ``stop``: milliseconds of ELAN's time; None where it has no time."""

    id: str
    line: int
    start: float | None
    stop: float | None
    value: str


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the file, or the folder of .eaf files, at ``source``; one Recording per file. Raises AtlasError."""
    files = [source] if is_file(source) else matching_files(absolute_location(source), "*.eaf")
    if not files:
        raise AtlasError(f"{source}: no .eaf file here; give an existing file, or the folder that holds the files")
    names = VideoNames(files[0], settings)
    recordings = []
    for file in files:
        names.source = file
        recordings += read_file(file, names, settings)
    return recordings


def read_file(file: str, names: VideoNames, settings: ImportSettings) -> list[Recording]:
    """Returns the Recording of one file; nothing where its video is left out. Raises AtlasError."""
    root = parse(file)
    if root.tag != "ANNOTATION_DOCUMENT":
        raise format_error(file, 1, root.tag, "ELAN's ANNOTATION_DOCUMENT")
    header = root.find("HEADER")
    if header is not None and header.get("TIME_UNITS", "milliseconds") != "milliseconds":
        raise format_error(file, line_of(header), header.get("TIME_UNITS"), "times in milliseconds")
    tiers = annotations_of(root, file)
    notes = notes_of(root, tiers)
    spans = LabelledSpans(file)
    media = [found for found in root.iter("MEDIA_DESCRIPTOR") if not found.get("MIME_TYPE", "").startswith("audio")]
    origin = parse_number((media[0].get("TIME_ORIGIN") if media else None) or 0, file, 1, "TIME_ORIGIN")
    for tier in root.iter("TIER"):
        name = tier.get("TIER_ID", "")
        if name in notes:
            continue
        add_tier(spans, tier, tiers[name], notes, origin, settings)
    if not spans.spans:
        return []
    recordings = []
    with settings.or_left_out(len(spans.spans)):
        if not media:
            raise format_error(file, 1, None, "a MEDIA_DESCRIPTOR of a video in the HEADER", "no-video")
        if len(media) > 1:
            settings.notes.append(f"{file}: of {len(media)} videos only the first one gets the annotations")
        url = media[0].get("MEDIA_URL") or media[0].get("RELATIVE_MEDIA_URL") or ""
        properties = {str(found.get("NAME")): from_xml(found.text or "") for found in root.iter("PROPERTY")}
        operation = properties.get("specialty", ""), properties.get("procedure", "")
        recordings.append(names.recording(from_xml(url), spans, line_of(media[0]), PER_S, operation))
    return recordings


def annotations_of(root: Element, file: str) -> dict[str, list[Annotation]]:
    """Returns the annotations of each tier. References have the times of what they refer to. Raises AtlasError."""
    slots: dict[str | None, float] = {}
    for slot in root.iter("TIME_SLOT"):
        with suppress(AtlasError):  # its annotations are left out, as those without a time
            slots[slot.get("TIME_SLOT_ID")] = parse_number(slot.get("TIME_VALUE"), file, line_of(slot), "TIME_VALUE")
    spans: dict[str, tuple[float | None, float | None]] = {}
    parents: dict[str, str] = {}
    for found in root.iter("ALIGNABLE_ANNOTATION"):
        times = slots.get(found.get("TIME_SLOT_REF1")), slots.get(found.get("TIME_SLOT_REF2"))
        spans[found.get("ANNOTATION_ID", "")] = times
    for found in root.iter("REF_ANNOTATION"):
        parents[found.get("ANNOTATION_ID", "")] = found.get("ANNOTATION_REF", "")

    def span_of(id: str) -> tuple[float | None, float | None]:
        for _ in range(64):  # a tier of references can refer to another one; a circle ends here
            if id in spans:
                return spans[id]
            id = parents.get(id, "")
        return None, None

    tiers: dict[str, list[Annotation]] = {}
    for tier in root.iter("TIER"):
        own = tiers.setdefault(tier.get("TIER_ID", ""), [])
        for found in (*tier.iter("ALIGNABLE_ANNOTATION"), *tier.iter("REF_ANNOTATION")):
            id = found.get("ANNOTATION_ID", "")
            value = from_xml(found.findtext("ANNOTATION_VALUE") or "")
            own.append(Annotation(id, line_of(found), *span_of(id), value))
    return tiers


def notes_of(root: Element, tiers: dict[str, list[Annotation]]) -> dict[str, dict[str, str]]:
    """Returns the tiers of captions and confidences that ``write`` made: tier to (id of an annotation to its note)."""
    notes = {}
    for tier in root.iter("TIER"):
        name, parent = tier.get("TIER_ID", ""), tier.get("PARENT_REF", "")
        if parent in tiers and any(name == f"{parent} {note}" for note in NOTES):
            values = {found.id: found.value for found in tiers[name]}
            notes[name] = {
                found.get("ANNOTATION_REF", ""): values[found.get("ANNOTATION_ID", "")]
                for found in tier.iter("REF_ANNOTATION")
            }
    return notes


def add_tier(
    spans: LabelledSpans,
    tier: Element,
    annotations: list[Annotation],
    notes: dict[str, dict[str, str]],
    origin: float,
    settings: ImportSettings,
) -> None:
    """Adds the annotations of one tier. ``origin``: milliseconds from ELAN's time to the video's. Raises AtlasError."""
    file, name = spans.file, tier.get("TIER_ID", "")
    found = TIER.fullmatch(from_xml(name))
    control = found["control"] if found else name
    made_by = (found and found["source"]) or "manual"
    annotator = from_xml(tier.get("ANNOTATOR", "")) or settings.annotator
    if not tag_named(control, settings.taxonomy) and annotations:
        refused = 0
        for annotation in annotations:
            try:
                meaning(control, annotation.value, file, annotation.line, settings.taxonomy)
            except AtlasError:
                refused += 1
        if refused == len(annotations):  # a transcript, say: thousands of lines would hide what matters
            with settings.or_left_out(refused):
                expected = (
                    f"a tier that is named after a tag, or categories of taxonomy {settings.taxonomy.name!r} on it"
                )
                raise format_error(file, line_of(tier), f"tier {name}", expected, "unknown-label")
            return
    for annotation in annotations:
        with settings.or_left_out():
            if annotation.start is None or annotation.stop is None:
                raise format_error(
                    file, annotation.line, annotation.id, "an annotation with a start and an end", "no-span"
                )
            said = meaning(control, annotation.value, file, annotation.line, settings.taxonomy)
            note = {kind: notes.get(f"{name} {kind}", {}).get(annotation.id, "") for kind in NOTES}
            confidence = parse_number(note["confidence"] or 1.0, file, annotation.line, "the confidence")
            times = annotation.start + origin, annotation.stop + origin
            spans.add(
                SpanKey(*times, said.task, made_by, annotator, note["caption"]), said, confidence, annotation.line
            )


def write(atlas: Atlas, folder: str, with_files: bool = False) -> list[str]:
    """Writes one .eaf file per video that has samples; returns the files. Raises OutputError.

    With ``with_files``, the media are the uris of the videos, which can contain a patient's name. Otherwise they are
    the video_ids: in ELAN, answer its question for the media with the video.
    """
    clips_of: dict[str, list[Clip]] = {}
    for clip in atlas.clips:
        clips_of.setdefault(clip.video_id, []).append(clip)
    terms = atlas.load_taxonomy()
    return [
        write_text(folder, f"{video.video_id}.eaf", document(video, clips_of[video.video_id], terms, with_files))
        for video in atlas.videos
        if video.video_id in clips_of
    ]


def document(video: Video, clips: list[Clip], taxonomy: Taxonomy, with_files: bool) -> str:
    """Returns the file of one video."""
    schema = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
    root = Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "",
            "DATE": "1970-01-01T00:00:00Z",  # equal atlases give equal files
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:noNamespaceSchemaLocation": schema,
        },
    )
    header = SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    url = to_xml(video.uri if with_files else video.video_id)
    suffix = video.uri.rsplit(".", 1)[-1].lower()
    mime = {"mpg": "video/mpeg", "mpeg": "video/mpeg", "mov": "video/quicktime"}.get(suffix, "video/mp4")
    SubElement(header, "MEDIA_DESCRIPTOR", {"MEDIA_URL": url, "MIME_TYPE": mime})
    for name in ("specialty", "procedure"):
        value = next((getattr(clip, name) for clip in clips if getattr(clip, name)), "")
        SubElement(header, "PROPERTY", {"NAME": name}).text = to_xml(value)
    lanes = lanes_of(clips)
    times = sorted({time for lane in lanes.values() for start, stop, *_ in lane for time in (start, stop)})
    order = SubElement(root, "TIME_ORDER")
    for n, time in enumerate(times, 1):
        SubElement(order, "TIME_SLOT", {"TIME_SLOT_ID": f"ts{n}", "TIME_VALUE": str(time)})
    slot = {time: f"ts{n}" for n, time in enumerate(times, 1)}
    ids = iter(range(1, 1 << 62))
    for (tier_id, annotator), lane in lanes.items():
        add_lane(root, tier_id, annotator, lane, slot, ids)
    used = {tier_id for tier_id, _ in lanes}
    for tag in taxonomy.tags:
        if tag.name not in used:
            SubElement(root, "TIER", {"LINGUISTIC_TYPE_REF": to_xml(tag.name), "TIER_ID": to_xml(tag.name)})
    add_types(root, taxonomy)
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, "unicode") + "\n"


Placed = tuple[int, int, str, Clip]
"""(start, stop, tag, clip) of one annotation, in milliseconds."""


def lanes_of(clips: list[Clip]) -> dict[tuple[str, str], list[Placed]]:
    """Returns the annotations of each (tier, annotator), such that no tier holds overlapping ones."""
    lanes: dict[tuple[str, str], list[Placed]] = {}
    of_tag: dict[tuple[str, str], list[tuple[str, str]]] = {}
    """(tag, source) to its tiers so far."""
    for clip in sorted(clips, key=lambda clip: (clip.start_s, clip.stop_s)):
        start = round(clip.start_s * PER_S)
        stop = max(start + 1, round(clip.stop_s * PER_S))
        for tag in clip.tags:
            tiers = of_tag.setdefault((tag, clip.source), [])
            free = (tier for tier in tiers if tier[1] == clip.annotator and lanes[tier][-1][1] <= start)
            tier = next(free, None)
            if tier is None:
                number = f" #{len(tiers) + 1}" if tiers else ""
                tier = f"{tag}{'' if clip.source == 'manual' else f' ({clip.source})'}{number}", clip.annotator
                tiers.append(tier)
            lanes.setdefault(tier, []).append((start, stop, tag, clip))
    return lanes


def add_lane(
    root: Element, tier_id: str, annotator: str, lane: list[Placed], slot: dict[int, str], ids: Iterator[int]
) -> None:
    """Adds a tier, and its tiers of captions and confidences. ``slot``: time to time slot. ``ids``: free numbers."""
    attributes = {"LINGUISTIC_TYPE_REF": to_xml(lane[0][2]), "TIER_ID": to_xml(tier_id)}
    if annotator:
        attributes["ANNOTATOR"] = to_xml(annotator)
    tier = SubElement(root, "TIER", attributes)
    noted: dict[str, list[tuple[str, str]]] = {note: [] for note in NOTES}
    for start, stop, tag, clip in lane:
        id = f"a{next(ids)}"
        times = {"TIME_SLOT_REF1": slot[start], "TIME_SLOT_REF2": slot[stop]}
        found = SubElement(SubElement(tier, "ANNOTATION"), "ALIGNABLE_ANNOTATION", {"ANNOTATION_ID": id, **times})
        SubElement(found, "ANNOTATION_VALUE").text = to_xml(clip.tags[tag])
        if clip.confidence != 1.0:
            noted["confidence"].append((id, repr(float(clip.confidence))))
        if clip.caption:
            noted["caption"].append((id, clip.caption))
    for note, values in noted.items():
        if values:
            names = {"TIER_ID": to_xml(f"{tier_id} {note}"), "PARENT_REF": to_xml(tier_id)}
            own = SubElement(root, "TIER", {"LINGUISTIC_TYPE_REF": "note", **names})
            for parent, value in values:
                ids_of = {"ANNOTATION_ID": f"a{next(ids)}", "ANNOTATION_REF": parent}
                found = SubElement(SubElement(own, "ANNOTATION"), "REF_ANNOTATION", ids_of)
                SubElement(found, "ANNOTATION_VALUE").text = to_xml(value)


def add_types(root: Element, taxonomy: Taxonomy) -> None:
    """Adds the types of the tiers, and a controlled vocabulary per tag."""
    common = {"GRAPHIC_REFERENCES": "false"}
    for tag in taxonomy.tags:
        name = to_xml(tag.name)
        kind = {"CONTROLLED_VOCABULARY_REF": name, "LINGUISTIC_TYPE_ID": name, "TIME_ALIGNABLE": "true"}
        SubElement(root, "LINGUISTIC_TYPE", {**common, **kind})
    note = {"CONSTRAINTS": "Symbolic_Association", "LINGUISTIC_TYPE_ID": "note", "TIME_ALIGNABLE": "false"}
    SubElement(root, "LINGUISTIC_TYPE", {**common, **note})
    undetermined = {"LANG_DEF": "http://cdb.iso.org/lg/CDB-00130975-001", "LANG_LABEL": "undetermined (und)"}
    SubElement(root, "LANGUAGE", {**undetermined, "LANG_ID": "und"})
    described = {"DESCRIPTION": "1-1 association with a parent annotation", "STEREOTYPE": "Symbolic_Association"}
    SubElement(root, "CONSTRAINT", described)
    for tag in taxonomy.tags:
        vocabulary = SubElement(root, "CONTROLLED_VOCABULARY", {"CV_ID": to_xml(tag.name)})
        SubElement(vocabulary, "DESCRIPTION", {"LANG_REF": "und"})
        for n, category in enumerate(tag.categories):
            entry = SubElement(vocabulary, "CV_ENTRY_ML", {"CVE_ID": f"cve_{tag.name}_{n}"})
            SubElement(entry, "CVE_VALUE", {"DESCRIPTION": "", "LANG_REF": "und"}).text = to_xml(category)
