"""The atlas's own CSV, with commas: a line for each tag of each sample. What ``write`` wrote, ``read`` reads back as it
was.

``video_id`` names the video by its content; a table made by hand may have ``video`` instead, a path inside the folder
of the videos. Columns that may be missing: see ``DEFAULTS``.
"""

from __future__ import annotations

import csv
import io
import posixpath

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
from halsted_ray.errors import TaxonomyError
from halsted_ray.records import Clip

NEEDED = ("start_s", "stop_s", "task", "tag", "category")
DEFAULTS = {"source": "manual", "annotator": "", "confidence": "1.0", "specialty": "", "procedure": "", "caption": ""}
COLUMNS = ("video_id", *NEEDED, *DEFAULTS)


def read(source: str, settings: ImportSettings) -> list[Recording]:
    reader = csv.DictReader(io.StringIO(read_text(source), newline=""), strict=True)
    samples: dict[tuple, dict[str, str]] = {}
    first: dict[tuple[str, str], int] = {}
    try:
        header = tuple(reader.fieldnames or ())
        if missing := [name for name in NEEDED if name not in header]:
            semicolons = ", with commas between" if any(";" in name for name in header) else ""
            raise wrong(source, 1, list(header), f"a header with {', '.join(missing)} too{semicolons}")
        key_name = next((name for name in ("video_id", "video") if name in header), None)
        if key_name is None:
            raise wrong(source, 1, list(header), "a column video_id (or video: a path inside the folder of the videos)")
        for row in reader:
            line = reader.line_num
            if None in row or None in row.values():
                raise wrong(source, line, len([v for v in row.values() if v]), f"{len(header)} fields")
            key, tag, category = sample_key({**DEFAULTS, **row}, row[key_name], source, line, settings)
            tags = samples.setdefault(key, {})
            if tags.get(tag, category) != category:
                raise wrong(source, line, category, f"one {tag} a sample; it is {tags[tag]!r} above")
            tags[tag] = category
            first.setdefault((key_name, key[0]), line)
    except csv.Error as error:
        raise wrong(source, reader.line_num, str(error), "RFC 4180: fields with commas or quotes in quotes") from error
    clips_of: dict[str, list[Clip]] = {}
    for (video, *values), tags in samples.items():
        start_s, stop_s, task, source_, annotator, confidence, specialty, procedure, caption = values
        clips_of.setdefault(video, []).append(
            Clip("", start_s, stop_s, task, tags, source_, annotator, confidence, specialty, procedure, caption)
        )
    return [recording(settings, source, name, video, first[name, video], clips_of[video]) for name, video in first]


def recording(settings: ImportSettings, source: str, key: str, video: str, line: int, clips: list[Clip]) -> Recording:
    origin = f"{source}:{line}"
    if key == "video_id":
        return Recording(tuple(clips), origin, video_id=video)
    folder = settings.videos or posixpath.dirname(absolute_place(source))
    return Recording(tuple(clips), origin, posixpath.join(absolute_place(folder), video))


def sample_key(row: dict, video: str, file: str, line: int, settings: ImportSettings) -> tuple[tuple, str, str]:
    """(what the lines of one sample share, tag, category), each checked."""
    if not video:
        raise wrong(file, line, video, "the name of a video")
    numbers = ("start_s", "stop_s", "confidence")
    start_s, stop_s, confidence = (as_number(row[name], file, line, name) for name in numbers)
    if not 0 <= start_s < stop_s:
        raise wrong(file, line, (start_s, stop_s), "0 <= start_s < stop_s")
    if not 0 <= confidence <= 1:
        raise wrong(file, line, confidence, "a confidence of 0 to 1")
    if row["source"] not in ("manual", "ai"):
        raise wrong(file, line, row["source"], "the source manual or ai")
    try:
        tag, category = settings.taxonomy.canonical(row["task"], row["tag"], row["category"])
    except TaxonomyError as error:
        got = row["task"], row["tag"], row["category"]
        raise wrong(file, line, got, f"a task, one of its tags and a category of that: {error}") from error
    annotator = row["annotator"] or settings.annotator
    key = (
        video,
        start_s,
        stop_s,
        row["task"],
        row["source"],
        annotator,
        confidence,
        row["specialty"],
        row["procedure"],
        row["caption"],
    )
    return key, tag, category


def write(atlas: Atlas, folder: str, with_files: bool = False) -> list[str]:
    """RFC 4180, numbers at full precision; ``with_files`` adds the column ``uri``, which can hold a patient's name."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, (*COLUMNS, *(("uri",) if with_files else ())), lineterminator="\r\n")
    writer.writeheader()
    uri_of = {video.video_id: video.uri for video in atlas.videos}
    for clip in atlas.clips:
        row = {name: getattr(clip, name) for name in COLUMNS if name not in ("tag", "category")}
        if with_files:
            row["uri"] = uri_of.get(clip.video_id, "")
        for tag, category in clip.tags.items():
            writer.writerow({**row, "tag": tag, "category": category})
    return [save(folder, "samples.csv", text.getvalue())]
