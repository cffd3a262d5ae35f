"""The atlas's own CSV (RFC 4180, with commas), one line per tag of each sample. This text defines the layout.

``video_id`` names the video by its content. A table made by hand may have a column ``video`` instead: a path inside the
folder of the videos. ``NEEDED`` columns must be there; ``DEFAULTS`` lists the columns that may be missing. ``read``
gives back exactly what ``write`` wrote.
"""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Mapping
from typing import NamedTuple

from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    format_error,
    parse_number,
    read_text,
    write_text,
)
from halsted_ray.errors import TaxonomyError
from halsted_ray.records import Clip
from halsted_ray.storage.locations import absolute_location

NEEDED = ("start_s", "stop_s", "task", "tag", "category")
DEFAULTS = {"source": "manual", "annotator": "", "confidence": "1.0", "specialty": "", "procedure": "", "caption": ""}
COLUMNS = ("video_id", *NEEDED, *DEFAULTS)


class SampleKey(NamedTuple):
    """What the lines of one sample share. ``video``: the value of the column video_id or video."""

    video: str
    start_s: float
    stop_s: float
    task: str
    source: str
    annotator: str
    confidence: float
    specialty: str
    procedure: str
    caption: str

    def clip(self, tags: dict[str, str]) -> Clip:
        """Returns the sample with these tags, still without a video_id."""
        return Clip("", self.start_s, self.stop_s, self.task, tags, *self[4:])


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the table at ``source``; one Recording per video. Raises AtlasError with the line that is wrong."""
    reader = csv.DictReader(io.StringIO(read_text(source), newline=""), strict=True)
    samples: dict[SampleKey, dict[str, str]] = {}
    first_line: dict[tuple[str, str], int] = {}
    try:
        header = tuple(reader.fieldnames or ())
        if missing := [name for name in NEEDED if name not in header]:
            semicolons = ", with commas between" if any(";" in name for name in header) else ""
            raise format_error(source, 1, list(header), f"a header with {', '.join(missing)} too{semicolons}")
        video_column = next((name for name in ("video_id", "video") if name in header), None)
        if video_column is None:
            raise format_error(
                source, 1, list(header), "a column video_id (or video: a path inside the folder of the videos)"
            )
        for row in reader:
            line = reader.line_num
            if None in row or None in row.values():
                raise format_error(source, line, len([v for v in row.values() if v]), f"{len(header)} fields")
            key, tag, category = parse_sample({**DEFAULTS, **row}, row[video_column], source, line, settings)
            tags = samples.setdefault(key, {})
            if tags.get(tag, category) != category:
                raise format_error(source, line, category, f"one {tag} per sample; it is {tags[tag]!r} above")
            tags[tag] = category
            first_line.setdefault((video_column, key.video), line)
    except csv.Error as error:
        raise format_error(
            source, reader.line_num, str(error), "RFC 4180: fields with commas or quotes in quotes"
        ) from error
    clips_of: dict[str, list[Clip]] = {}
    for key, tags in samples.items():
        clips_of.setdefault(key.video, []).append(key.clip(tags))
    return [
        make_recording(settings, source, column, video, line, clips_of[video])
        for (column, video), line in first_line.items()
    ]


def make_recording(
    settings: ImportSettings, source: str, column: str, video: str, line: int, clips: list[Clip]
) -> Recording:
    """Makes the Recording of one video. ``column``: whether ``video`` is a video_id or a path ("video")."""
    origin = f"{source}:{line}"
    if column == "video_id":
        return Recording(tuple(clips), origin, video_id=video)
    folder = settings.videos or posixpath.dirname(absolute_location(source))
    return Recording(tuple(clips), origin, posixpath.join(absolute_location(folder), video))


def parse_sample(
    row: Mapping[str, str], video: str, file: str, line: int, settings: ImportSettings
) -> tuple[SampleKey, str, str]:
    """Checks one line; returns (what the lines of its sample share, tag, category). Raises AtlasError."""
    if not video:
        raise format_error(file, line, video, "the name of a video")
    numbers = ("start_s", "stop_s", "confidence")
    start_s, stop_s, confidence = (parse_number(row[name], file, line, name) for name in numbers)
    if not 0 <= start_s < stop_s:
        raise format_error(file, line, (start_s, stop_s), "0 <= start_s < stop_s")
    if not 0 <= confidence <= 1:
        raise format_error(file, line, confidence, "a confidence of 0 to 1")
    if row["source"] not in ("manual", "ai"):
        raise format_error(file, line, row["source"], "the source manual or ai")
    try:
        tag, category = settings.taxonomy.canonical(row["task"], row["tag"], row["category"])
    except TaxonomyError as error:
        got = row["task"], row["tag"], row["category"]
        raise format_error(
            file, line, got, f"a task, one of its tags, and one of that tag's categories: {error}"
        ) from error
    annotator = row["annotator"] or settings.annotator
    operation = row["specialty"], row["procedure"]
    key = SampleKey(
        video, start_s, stop_s, row["task"], row["source"], annotator, confidence, *operation, row["caption"]
    )
    return key, tag, category


def write(atlas: Atlas, folder: str, with_files: bool = False) -> list[str]:
    """Writes samples.csv with numbers at full precision; returns its location. Raises OutputError.

    ``with_files`` adds the column ``uri``, which can contain a patient's name.
    """
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
    return [write_text(folder, "samples.csv", text.getvalue())]
