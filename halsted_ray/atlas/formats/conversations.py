"""Conversations about clips, as models of vision and language learn from: LLaVA's and ShareGPT's JSON.

    llava.json     [{"id", "video", "conversations": [{"from": "human" or "gpt", "value"}, …], …}, …]
    sharegpt.json  the same with "videos": ["…"], as LLaMA-Factory reads it

The questions are templates in ``conversations.yaml``; an answer is made of labels alone. Beside the conversation stand
the clip's span, tags, source, annotator and confidence, its video's part of the split, and the template, so that a
conversation is never without its provenance. ``video`` is the video's id with the span as a media fragment
(``…#t=3.5,6``, W3C), or its uri where files are named.

Either form is read back: our own by its ``tags``, a foreign one by a mapping of keys (``--mapping``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from itertools import pairwise
from json import dumps
from typing import Any

import yaml

from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.formats.csv_table import DEFAULTS, GROUP, Table
from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    format_error,
    json_of,
    read_text,
    write_text,
)
from halsted_ray.errors import AtlasError, UsageError
from halsted_ray.records import Clip, digest
from halsted_ray.storage.files import read_bytes

LONGEST_PAUSE_S = 1.0
"""A clip that begins within so many seconds of this one's end is the next one."""
FRAGMENT = re.compile(r"(.*)#t=(\d+(?:\.\d+)?),(\d+(?:\.\d+)?)", re.DOTALL)
HUMAN, ASSISTANT = ("human", "user"), ("gpt", "assistant")


def write(atlas: Atlas, folder: str, with_files: bool = False) -> list[str]:
    """Writes llava.json and sharegpt.json; returns their locations. Raises OutputError."""
    entries = list(conversations_of(atlas, with_files))
    sharegpt = [
        {**{key: value for key, value in entry.items() if key != "video"}, "videos": [entry["video"]]}
        for entry in entries
    ]
    return [
        write_text(folder, f"{name}.json", dumps(found, ensure_ascii=False, indent=1) + "\n")
        for name, found in (("llava", entries), ("sharegpt", sharegpt))
    ]


def conversations_of(atlas: Atlas, with_files: bool = False) -> Iterator[dict[str, Any]]:
    """One object of llava.json per clip and template that fits it, in the order of the atlas's clips."""
    templates = read_settings()["templates"]
    uri_of = {video.video_id: video.uri for video in atlas.videos}
    group_of = {video.video_id: video.group for video in atlas.videos if video.group}
    next_of = followers(atlas.clips)
    for number, clip in enumerate(atlas.clips):
        words = words_of(clip, next_of.get(number))
        for template in templates:
            for name, question, answer in asked(template, clip, words):
                place = uri_of[clip.video_id] if with_files else clip.video_id
                yield {
                    "id": digest(clip.clip_id, clip.task, clip.source, clip.annotator, name),
                    "video": f"{place}#t={clip.start_s:.6g},{clip.stop_s:.6g}",
                    "conversations": [
                        {"from": "human", "value": f"<video>\n{question}"},
                        {"from": "gpt", "value": answer},
                    ],
                    **vars(clip),
                    **({GROUP: group_of[clip.video_id]} if clip.video_id in group_of else {}),
                    "split": atlas.split.get(clip.video_id, ""),
                    "atlas_release": atlas.name,
                    "template": name,
                    "template_group": template["group"],
                }


def followers(clips: Sequence[Clip]) -> dict[int, Clip]:
    """Number of a clip → the next clip of its video, task, source and annotator, within LONGEST_PAUSE_S."""
    lanes: dict[tuple[str, ...], list[int]] = {}
    for number, clip in enumerate(clips):
        lanes.setdefault((clip.video_id, clip.task, clip.source, clip.annotator), []).append(number)
    found = {}
    for lane in lanes.values():
        for one, after in pairwise(sorted(lane, key=lambda n: (clips[n].start_s, clips[n].stop_s))):
            if 0 <= clips[after].start_s - clips[one].stop_s <= LONGEST_PAUSE_S:
                found[one] = clips[after]
    return found


def words_of(clip: Clip, after: Clip | None) -> dict[str, str]:
    """What the places of a template stand for; a place without a value is not there."""
    words = dict(clip.tags) | {name: value for name in ("caption",) if (value := getattr(clip, name))}
    if after is not None:
        words |= {f"{tag}.next": category for tag, category in after.tags.items()}
    return words


def asked(template: Mapping[str, Any], clip: Clip, words: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """(name of the template, question, answer), for each question that the template asks of ``clip``."""
    wordings = template["questions"]
    question = wordings[int(clip.clip_id, 16) % len(wordings)]
    if template.get("each_tag"):
        for tag, category in clip.tags.items():
            own = {"title": tag.replace("_", " "), "category": category}
            yield f"{template['name']} {tag}", filled(question, own), filled(template["answer"], own)
    elif all(name in words for name in template["needs"]):
        yield template["name"], filled(question, words), filled(template["answer"], words)


def filled(text: str, words: Mapping[str, str]) -> str:
    """``text`` with each ``{place}`` as its word; nothing in a word is read as a place."""
    return re.sub(r"\{([\w.]+)\}", lambda found: words[found[1]], text)


def read_settings(location: str = "") -> dict[str, Any]:
    """The templates and keys that ship, or those of the YAML file at ``location``. Raises UsageError."""
    own = resources.files("halsted_ray.atlas.formats").joinpath("conversations.yaml").read_text("utf-8")
    shipped: dict[str, Any] = yaml.safe_load(own)
    if not location:
        return shipped
    try:
        found = yaml.safe_load(read_bytes(location).decode())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"the mapping {location!r} can't be read: {type(error).__name__}; give a YAML file") from error
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, dict) or not set(keys) <= set(shipped["keys"]):
        raise UsageError(f"the mapping {location!r}: expected `keys` with some of {', '.join(shipped['keys'])}")
    answers = found.get("answers") or []
    if not isinstance(answers, list) or any(
        not isinstance(one, dict) or set(one) != {"question", "tag"} for one in answers
    ):
        raise UsageError(f"the mapping {location!r}: expected `answers` as a list of {{question: words, tag: name}}")
    return {"keys": {name: str(key) for name, key in keys.items()}, "answers": answers}


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the file at ``source``; one Recording per video. Conversations about one clip become one sample. Raises
    AtlasError where the file is no list of conversations."""
    stated, table = read_settings(settings.mapping), Table(source, settings)
    try:
        entries = json_of(read_text(source))
    except ValueError as error:
        raise AtlasError(f"{source}: no JSON ({error}); expected a list of conversations") from error
    if not isinstance(entries, list):
        raise AtlasError(f"{source}: got {type(entries).__name__}; expected a list of conversations")
    seen = set()
    for number, entry in enumerate(entries, 1):
        with settings.or_left_out():
            row, pairs = row_of(entry, source, number, stated)
            column = "video_id" if row.get("video_id") else "video"
            key = dumps([row, pairs], sort_keys=True)
            if key not in seen:
                seen.add(key)
                table.add(row, column, number, pairs)
    return table.recordings()


def row_of(
    entry: Any, source: str, number: int, stated: Mapping[str, Any]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """(the columns of a sample, its tags and categories) of one conversation. Raises AtlasError."""
    if not isinstance(entry, dict):
        raise format_error(source, number, type(entry).__name__, "an object with a conversation")
    row = {name: value for name, key in stated["keys"].items() if (value := value_at(entry, key)) not in (None, "")}
    videos = entry.get("videos")
    if "video" not in row and isinstance(videos, list) and len(videos) == 1:
        row["video"] = videos[0]
    if fragment := FRAGMENT.fullmatch(str(row.get("video", ""))):
        row["video"] = fragment[1]
        row = {"start_s": fragment[2], "stop_s": fragment[3]} | row
    if missing := [name for name in ("start_s", "stop_s") if name not in row]:
        raise format_error(source, number, sorted(row), f"a span: {missing[0]}, or …#t=start,stop", "no-span")
    tags = row.pop("tags", None)
    pairs = [(str(tag), str(category)) for tag, category in tags.items()] if isinstance(tags, dict) else []
    for question, answer in [] if pairs else turns(entry):
        for rule in stated["answers"]:
            if str(rule["question"]).casefold() in question.casefold():
                pairs.append((str(rule["tag"]), answer.strip().rstrip(".")))
    if not pairs:
        raise format_error(source, number, "no label", "tags, or an answer that the mapping gives a tag", "no-label")
    return {**DEFAULTS, **row}, pairs


def turns(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(question, answer) of each pair of turns; ``messages`` with role and content are read too."""
    said = entry.get("conversations") or entry.get("messages") or []
    if not isinstance(said, list):
        return
    spoken = [
        (str(turn.get("from") or turn.get("role")), str(turn.get("value") or turn.get("content") or ""))
        for turn in said
        if isinstance(turn, dict)
    ]
    for (one, question), (other, answer) in pairwise(spoken):
        if one in HUMAN and other in ASSISTANT:
            yield question, answer


def value_at(entry: Mapping[str, Any], path: str) -> Any:
    """The value at a path such as ``clip.start_s``; None where there is none."""
    found: Any = entry
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found
