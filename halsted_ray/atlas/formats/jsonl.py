"""The atlas as JSON lines (jsonlines.org), one sample per line. This text defines the layout.

The keys are the columns of the samples table (``records.SAMPLE_SCHEMA``); ``tags`` is an object from tag to category.
As in ``csv_table.py``, a file made by hand may have ``video`` (a path in the folder of the videos), not ``video_id``.
"""

from __future__ import annotations

import json
from dataclasses import fields

from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.formats.csv_table import DEFAULTS, SampleKey, make_recording, parse_sample
from halsted_ray.atlas.formats.recording import ImportSettings, Recording, format_error, numbered_lines, write_text
from halsted_ray.records import Clip

NEEDED = ("start_s", "stop_s", "task", "tags")
KNOWN = {"video", "uri", "clip_id", *(field.name for field in fields(Clip))}


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the file at ``source``; one Recording per video. Raises AtlasError with the line that is wrong."""
    clips_of: dict[tuple[str, str], list[Clip]] = {}
    first_line: dict[tuple[str, str], int] = {}
    for line, text in numbered_lines(source):
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            raise format_error(source, line, text[:80], f"one JSON object per line ({error})") from error
        if not isinstance(row, dict) or not isinstance(row.get("tags"), dict):
            raise format_error(source, line, text[:80], "an object whose tags are an object, from tag to category")
        if missing := [name for name in NEEDED if name not in row]:
            raise format_error(source, line, sorted(row), f"the keys {', '.join(missing)} too")
        if unknown := sorted(set(row) - KNOWN):
            raise format_error(source, line, unknown, f"keys of {', '.join(sorted(KNOWN))}")
        name = "video_id" if "video_id" in row else "video"
        tags: dict[str, str] = {}
        key: SampleKey | None = None
        for tag, category in row["tags"].items():
            cells = {**DEFAULTS, **row, "tag": tag, "category": str(category)}
            key, tag, category = parse_sample(cells, str(row.get(name, "")), source, line, settings)
            tags[tag] = category
        if key is None:
            raise format_error(source, line, row["tags"], "at least one tag")
        clips_of.setdefault((name, key.video), []).append(key.clip(tags))
        first_line.setdefault((name, key.video), line)
    return [
        make_recording(settings, source, *column_and_video, first_line[column_and_video], clips)
        for column_and_video, clips in clips_of.items()
    ]


def write(atlas: Atlas, folder: str, with_files: bool = False) -> list[str]:
    """Writes samples.jsonl; returns its location. Raises OutputError.

    ``with_files`` adds ``uri``, which can contain a patient's name.
    """
    uri_of = {video.video_id: video.uri for video in atlas.videos}
    lines = []
    for clip in atlas.clips:
        uri = {"uri": uri_of.get(clip.video_id, "")} if with_files else {}
        lines.append(json.dumps({"clip_id": clip.clip_id, **vars(clip), **uri}, ensure_ascii=False))
    return [write_text(folder, "samples.jsonl", "".join(f"{line}\n" for line in lines))]
