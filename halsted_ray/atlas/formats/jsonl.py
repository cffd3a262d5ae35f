"""The atlas as JSON lines (jsonlines.org), one sample per line. This text defines the layout.

The keys are the columns of the samples table (``records.SAMPLE_SCHEMA``); ``tags`` is an object from tag to category.
As in ``csv_table.py``, a file made by hand may have ``video`` (a path in the folder of the videos), not ``video_id``,
and times may be clock times. The exported map as JSON lines is read too: ``tag`` and ``category``, and ``end_s``.
Lines end with line feeds alone: U+2028, U+0085 and the like may stand inside a string.
"""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.formats.csv_table import DEFAULTS, GROUP, NO_TAGS, OTHER_NAMES, Table
from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    format_error,
    json_of,
    numbered_lines,
    write_text,
)
from halsted_ray.records import Clip

NEEDED = ("start_s", "stop_s", "task", "tags")
KNOWN = {"video", "uri", "clip_id", GROUP, "tag", "category", *OTHER_NAMES, *(field.name for field in fields(Clip))}


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the file at ``source``; one Recording per video. Raises AtlasError where it can't be read."""
    table = Table(source, settings)
    for line, text in numbered_lines(source):
        with settings.or_left_out():
            row = whole_row(text, source, line)
            if row.get("tag") in NO_TAGS:
                expected = "a tag; a gap says that the map has nothing here"
                raise format_error(source, line, row.get("category"), expected, row["tag"])
            pairs = [(str(tag), str(category)) for tag, category in row["tags"].items()]
            if not pairs:
                raise format_error(source, line, row["tags"], "at least one tag", "no-label")
            table.add(row, "video_id" if "video_id" in row else "video", line, pairs)
    return table.recordings()


def whole_row(text: str, source: str, line: int) -> dict[str, Any]:
    """Returns the object of one line under the names of the columns, with ``tags``. Raises AtlasError."""
    try:
        said = json_of(text)
    except ValueError as error:
        raise format_error(source, line, text[:80], f"one JSON object per line ({error})") from error
    if not isinstance(said, dict):
        raise format_error(source, line, text[:80], "an object whose tags are an object, from tag to category")
    if unknown := sorted(set(said) - KNOWN):
        raise format_error(source, line, unknown, f"keys of {', '.join(sorted(KNOWN))}")
    row = {
        OTHER_NAMES[name] if name in OTHER_NAMES and OTHER_NAMES[name] not in said else name: found
        for name, found in said.items()
    }
    if "tags" not in row and "tag" in row and "category" in row:
        row["tags"] = {row["tag"]: row["category"]}
    if not isinstance(row.get("tags"), dict):
        raise format_error(source, line, text[:80], "an object whose tags are an object, from tag to category")
    if missing := [name for name in NEEDED if name not in row]:
        raise format_error(source, line, sorted(row), f"the keys {', '.join(missing)} too")
    return {
        **DEFAULTS,
        **{name: found for name, found in row.items() if found not in (None, "") or name not in DEFAULTS},
    }


def write(atlas: Atlas, folder: str, with_files: bool = False) -> list[str]:
    """Writes samples.jsonl; returns its location. Raises OutputError.

    ``with_files`` adds ``uri``, which can contain a patient's name.
    """
    uri_of = {video.video_id: video.uri for video in atlas.videos}
    group_of = {video.video_id: video.group for video in atlas.videos if video.group}
    lines = []
    for clip in atlas.clips:
        more = {"uri": uri_of.get(clip.video_id, "")} if with_files else {}
        more |= {GROUP: group_of[clip.video_id]} if clip.video_id in group_of else {}
        lines.append(json.dumps({"clip_id": clip.clip_id, **vars(clip), **more}, ensure_ascii=False))
    return [write_text(folder, "samples.jsonl", "".join(f"{line}\n" for line in lines))]
