"""The atlas as JSON lines, a sample each: the samples table's columns, ``tags`` as an object."""

from __future__ import annotations

import json
from dataclasses import fields

from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.formats.csv_table import DEFAULTS, recording, sample_key
from halsted_ray.atlas.formats.recording import ImportSettings, Recording, numbered_lines, save, wrong
from halsted_ray.records import Clip

NEEDED = ("start_s", "stop_s", "task", "tags")
KNOWN = {"video", "uri", "clip_id", *(field.name for field in fields(Clip))}


def read(source: str, settings: ImportSettings) -> list[Recording]:
    clips_of: dict[tuple[str, str], list[Clip]] = {}
    first: dict[tuple[str, str], int] = {}
    for line, text in numbered_lines(source):
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            raise wrong(source, line, text[:80], f"one JSON object a line ({error})") from error
        if not isinstance(row, dict) or not isinstance(row.get("tags"), dict):
            raise wrong(source, line, text[:80], "an object whose tags are an object, tag to category")
        if missing := [name for name in NEEDED if name not in row]:
            raise wrong(source, line, sorted(row), f"the keys {', '.join(missing)} too")
        if unknown := sorted(set(row) - KNOWN):
            raise wrong(source, line, unknown, f"keys of {', '.join(sorted(KNOWN))}")
        name = "video_id" if "video_id" in row else "video"
        tags = {}
        for tag, category in row["tags"].items():
            one = {**DEFAULTS, **row, "tag": tag, "category": str(category)}
            key, tag, category = sample_key(one, str(row.get(name, "")), source, line, settings)
            tags[tag] = category
        if not tags:
            raise wrong(source, line, row["tags"], "at least one tag")
        video, start_s, stop_s, task, source_, annotator, confidence, specialty, procedure, caption = key
        clips_of.setdefault((name, video), []).append(
            Clip("", start_s, stop_s, task, tags, source_, annotator, confidence, specialty, procedure, caption)
        )
        first.setdefault((name, video), line)
    return [recording(settings, source, *key, first[key], clips) for key, clips in clips_of.items()]


def write(atlas: Atlas, folder: str, with_files: bool = False) -> list[str]:
    """``with_files`` adds ``uri``, which can hold a patient's name."""
    uri_of = {video.video_id: video.uri for video in atlas.videos}
    lines = []
    for clip in atlas.clips:
        uri = {"uri": uri_of.get(clip.video_id, "")} if with_files else {}
        lines.append(json.dumps({"clip_id": clip.clip_id, **vars(clip), **uri}, ensure_ascii=False))
    return [save(folder, "samples.jsonl", "".join(f"{line}\n" for line in lines))]
