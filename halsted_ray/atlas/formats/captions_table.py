"""Captions as CSV or JSON lines, one caption per line. This text defines the layout.

    video_id or video    the video's content by its id, or a path inside the folder of the videos
    start_s, stop_s      seconds, or clock times (``clock_times``); ``end_s`` is read too; of a text about the whole
                         video both may be left out
    level                coarse, mid, fine or video; SurgLaVi's phase, step and task are coarse, mid and fine
    text                 the sentence; ``caption`` is read too
    kind                 raw (default), enhanced or transcript
    source               the data set or the person
    excluded             why it is not for training, empty where it is

Other columns are not read. A line that begins with ``{`` makes the file JSON lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from halsted_ray.atlas.captions import COARSE, FINE, LEVELS, MID, RAW, WHOLE, caption_problem, read_captions
from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.formats.clock_times import parse_time
from halsted_ray.atlas.formats.csv_table import column_names, rows_of
from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    format_error,
    json_of,
    numbered_lines,
    origin,
    read_bytes,
    write_text,
)
from halsted_ray.atlas.formats.video_names import VIDEO_ID, VideoNames
from halsted_ray.records import Caption

LEVEL_NAMES = {"phase": COARSE, "step": MID, "task": FINE, **{level: level for level in LEVELS}}
"""A level as people write it, in small letters, to its name here."""
NEEDED = ("level", "text")
Line = tuple[int, Mapping[str, Any], bool]
"""(number, row by column, whether commas are decimal)."""


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the file at ``source``; one Recording per video. Raises AtlasError where it can't be read."""
    is_json = read_bytes(source).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
    names, found, first = VideoNames(source, settings), dict[str, list[Caption]](), dict[str, int]()
    for line, row, decimal_comma in json_rows(source, settings) if is_json else csv_rows(source, settings):
        with settings.or_left_out():
            caption = caption_of(row, source, line, settings, decimal_comma)
            video = str(row.get("video_id") or row.get("video") or "").strip()
            if not video:
                raise format_error(source, line, video, "the name of a video", "no-video")
            found.setdefault(video, []).append(caption)
            first.setdefault(video, line)
    recordings = []
    for video, captions in found.items():
        with settings.or_left_out(len(captions)):
            at = origin(source, first[video])
            if VIDEO_ID.fullmatch(video):
                recordings.append(Recording((), at, video_id=video, captions=tuple(captions)))
            else:
                recordings.append(Recording((), at, names.find(video, first[video]), captions=tuple(captions)))
    return recordings


def json_rows(source: str, settings: ImportSettings) -> Iterator[Line]:
    """The objects of JSON lines."""
    for line, text in numbered_lines(source):
        with settings.or_left_out():
            try:
                said = json_of(text)
            except ValueError as error:
                raise format_error(source, line, text[:80], f"one JSON object per line ({error})") from error
            if not isinstance(said, dict):
                raise format_error(source, line, text[:80], "one JSON object per line")
            yield line, dict(zip(own_names(list(said)), said.values(), strict=True)), False


def csv_rows(source: str, settings: ImportSettings) -> Iterator[Line]:
    """The rows of a CSV table. Raises AtlasError for a table without the columns."""
    header: list[str] = []
    for line, cells, delimiter in rows_of(source, settings):
        if header:
            yield line, dict(zip(header, cells, strict=False)), delimiter != ","
            continue
        header = own_names(column_names(cells))
        if missing := [name for name in NEEDED if name not in header]:
            raise format_error(source, line, header, f"a header with {', '.join(missing)} too")
    if not header:
        raise format_error(source, 1, "", f"a header with video, start_s, stop_s, {', '.join(NEEDED)}")


def own_names(names: list[str]) -> list[str]:
    """The names of columns, with the names that other tables have for them replaced."""
    other = {"caption": "text", "end_s": "stop_s"}
    return [other[name] if name in other and other[name] not in names else name for name in names]


def caption_of(
    row: Mapping[str, Any], source: str, line: int, settings: ImportSettings, decimal_comma: bool
) -> Caption:
    """One row as a caption without its video. Raises AtlasError."""
    level = LEVEL_NAMES.get(str(row.get("level") or "").strip().lower(), str(row.get("level") or ""))
    times = [row.get(name) for name in ("start_s", "stop_s")]
    if level == WHOLE and times[0] in (None, "") and times[1] in (None, ""):
        start_s, stop_s = 0.0, float("inf")
    else:
        start_s, stop_s = (
            parse_time(value, source, line, name, settings, decimal_comma)
            for value, name in zip(times, ("start_s", "stop_s"), strict=True)
        )
    if not 0 <= start_s < stop_s:
        raise format_error(source, line, (start_s, stop_s), "0 <= start_s < stop_s", "no-span")
    caption = Caption(
        "",
        start_s,
        stop_s,
        level,
        str(row.get("text") or "").strip(),
        str(row.get("kind") or RAW).strip().lower(),
        str(row.get("source") or settings.annotator),
        str(row.get("excluded") or ""),
    )
    if problem := caption_problem(caption):
        raise format_error(source, line, problem.partition(";")[0], problem.partition("expected ")[2], "no-caption")
    return caption


def write(atlas: Atlas, folder: str, with_files: bool = False) -> list[str]:
    """Writes captions.jsonl; returns its location. Raises OutputError.

    ``with_files`` adds ``uri``, which can contain a patient's name.
    """
    uri_of = {video.video_id: video.uri for video in atlas.videos} if with_files else {}
    rows = [
        {**vars(caption), **({"uri": uri_of.get(caption.video_id, "")} if with_files else {})}
        for caption in read_captions(atlas)
    ]
    text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    return [write_text(folder, "captions.jsonl", text)]
