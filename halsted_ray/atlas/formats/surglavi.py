"""Reads SurgLaVi-β (github.com/aperezr20/SurgLaVi; arXiv 2509.10555): captions of narrated surgery in SQLite.

    DATA/surglavi_beta.db                tables videos, captions, levels, transcriptions
    DATA/videos/<name>/<name>.mp4        each user downloads the videos; for most users many are missing

All captions become captions of the atlas: the narration as it was said (``raw``) and as it was rewritten
(``enhanced``), on all three levels, and the transcripts, with times where they have them. A caption that the authors'
own loader leaves out says why (``excluded``): it keeps what is surgical, descriptive, longer than 0 s and at most 500 s
long.

What the loader keeps also becomes a sample of the task ``caption``, whose tag is the level.

Rows that contradict other rows are taken, and a note counts them: a duration that is not the length of the span, a
video's name that is another one than the video's own.
"""

from __future__ import annotations

import posixpath
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import closing

from halsted_ray.atlas.captions import COARSE, ENHANCED, FINE, LONGEST_TEXT, MID, RAW, TRANSCRIPT, WHOLE
from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    format_error,
    is_file,
    parse_number,
    read_bytes,
)
from halsted_ray.atlas.formats.transcripts import said_at, whole_text
from halsted_ray.errors import AtlasError, TaxonomyError
from halsted_ray.records import Caption, Clip
from halsted_ray.storage.locations import absolute_location, filesystem, local_path

LONGEST_S = 500.0
SOURCE = "SurgLaVi-β"
DURATION_APART_S = 0.1
"""By which a caption's stated duration may differ from the length of its span, as numbers are rounded."""
LEVEL_OF = {"Phase": COARSE, "Step": MID, "Task": FINE}
COLUMNS = {
    "videos": ("video_id", "name", "procedure_type", "specialty"),
    "captions": (
        "caption_id",
        "video_id",
        "video_name",
        "level_id",
        "raw_narration",
        "start_time",
        "end_time",
        "duration",
        "is_surgical_content",
        "is_descriptive",
        "caption",
    ),
    "levels": ("level_id", "name"),
}
OPTIONAL_COLUMNS = {"transcriptions": ("transcription_id", "video_id", "file_path", "text")}
CAPTIONS = """
select v.name as video, v.specialty, v.procedure_type, c.caption_id, c.start_time, c.end_time, c.duration, c.caption,
       c.raw_narration, c.is_surgical_content, c.is_descriptive, c.video_id, c.video_name, l.name as level
from captions c left join videos v on v.video_id = c.video_id left join levels l on l.level_id = c.level_id
order by v.name, c.start_time, c.caption_id
"""
TRANSCRIPTS = """
select v.name as video, t.transcription_id, t.video_id, t.file_path, t.text
from transcriptions t left join videos v on v.video_id = t.video_id
order by v.name, t.transcription_id
"""


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the database at ``source``; one Recording per video. Raises AtlasError with the row at fault."""
    if not is_file(source):
        raise AtlasError(f"{source}: no such file; expected SurgLaVi's database, surglavi_beta.db")
    place = absolute_location(source)
    videos = absolute_location(settings.videos or f"{posixpath.dirname(place)}/videos")
    with tempfile.TemporaryDirectory() as folder:
        path = local_path(place)
        if path is None:  # SQLite only reads files on this machine
            path = f"{folder}/surglavi.db"
            fs, remote = filesystem(source)
            fs.get_file(remote, path)
        with closing(sqlite3.connect(f"file:{path.replace('?', '%3f').replace('#', '%23')}?mode=ro", uri=True)) as base:
            base.row_factory = sqlite3.Row
            check_columns(base, source, COLUMNS)
            try:
                rows = base.execute(CAPTIONS).fetchall()
                transcripts = base.execute(TRANSCRIPTS).fetchall() if has_transcripts(base, source) else []
            except sqlite3.Error as error:
                raise AtlasError(f"{source}: its rows can't be read ({error}); copy surglavi_beta.db again") from error
    clips_of: dict[str, list[Clip]] = {}
    captions_of: dict[str, list[Caption]] = {}
    for row in rows:
        with settings.or_left_out():
            clip, captions = sample_of(row, source, settings)
            captions_of.setdefault(row["video"], []).extend(captions)
            if clip:
                clips_of.setdefault(row["video"], []).append(clip)
    for row in transcripts:
        with settings.or_left_out():
            captions_of.setdefault(row["video"], []).extend(transcript_of(row, source, settings))
    settings.notes.extend(disagreements(rows, source))
    return [
        Recording(
            tuple(clips_of.get(name, ())),
            f"{source}, table captions",
            f"{videos}/{name}/{name}.mp4",
            captions=tuple(captions),
        )
        for name, captions in captions_of.items()
    ]


def check_columns(base: sqlite3.Connection, source: str, tables: Mapping[str, tuple[str, ...]]) -> None:
    """Raises AtlasError where a table of ``tables`` is missing, lacks a column, or is a view or a virtual table, which
    can have any number of rows in any file."""
    for table, names in tables.items():
        try:
            found = {
                row["name"] for row in base.execute(f"pragma table_info({table})")
            }  # computed columns are not listed
            kinds = [row["type"] for row in base.execute(f"pragma table_list({table})")]
        except sqlite3.DatabaseError as error:
            raise AtlasError(f"{source}: {error}; expected an SQLite database, surglavi_beta.db") from error
        if kinds and set(kinds) != {"table"}:
            raise format_error(source, f"table {table}", kinds[0], "a table that holds its rows")
        if missing := [name for name in names if name not in found]:
            raise format_error(source, f"table {table}", sorted(found), f"the columns {', '.join(missing)} too")


def has_transcripts(base: sqlite3.Connection, source: str) -> bool:
    """Whether there is a table of transcripts. Raises AtlasError where it has other columns."""
    if not base.execute("select 1 from sqlite_master where name = 'transcriptions'").fetchone():
        return False
    check_columns(base, source, OPTIONAL_COLUMNS)
    return True


def sample_of(row: sqlite3.Row, source: str, settings: ImportSettings) -> tuple[Clip | None, list[Caption]]:
    """(the sample of one row of ``CAPTIONS``, None where the loader leaves it out; its captions). Raises AtlasError."""
    at = f"table captions, caption_id {row['caption_id']}"
    if row["video"] is None:
        raise format_error(source, at, row["video_id"], "a video_id of the table videos", "no-video")
    start_s, stop_s = (parse_number(row[name], source, at, name) for name in ("start_time", "end_time"))
    excluded = excluded_by_loader(row)
    if not 0 <= start_s < stop_s:
        raise format_error(source, at, (start_s, stop_s), "0 <= start_time < end_time, in seconds", "no-span")
    try:
        _, level = settings.taxonomy.canonical("caption", "level", str(row["level"]))
    except TaxonomyError as error:
        raise format_error(source, at, row["level"], f"a level_id of the table levels ({error})") from error
    span = start_s, stop_s, LEVEL_OF[level]
    captions = [
        Caption("", *span, text, kind, SOURCE, excluded)
        for kind, column in ((RAW, "raw_narration"), (ENHANCED, "caption"))
        if (text := str(row[column] or "").strip()[:LONGEST_TEXT])
    ]
    if excluded:
        return None, captions
    clip = Clip(
        "",
        start_s,
        stop_s,
        "caption",
        {"level": level},
        annotator=settings.annotator,
        specialty=row["specialty"] or "",
        procedure=row["procedure_type"] or "",
        caption=row["caption"] or "",
    )
    return clip, captions


def excluded_by_loader(row: sqlite3.Row) -> str:
    """Why the authors' loader leaves a caption out, with its default settings; '' where it takes the caption."""
    duration = row["duration"]
    if not isinstance(duration, int | float) or not 0 < duration <= LONGEST_S:
        return f"its duration is not above 0 s and {LONGEST_S:g} s at most"
    if row["is_surgical_content"] != 1:
        return "it is not surgical"
    return "" if row["is_descriptive"] == 1 else "it is not descriptive"


def transcript_of(row: sqlite3.Row, source: str, settings: ImportSettings) -> list[Caption]:
    """The captions of a transcript: its row's text, else that of the file that it names below the folder of the
    database. Where the text has times, one of the level ``fine`` per part; else one about the whole video, or none.
    Raises AtlasError."""
    at = f"table transcriptions, transcription_id {row['transcription_id']}"
    if row["video"] is None:
        raise format_error(source, at, row["video_id"], "a video_id of the table videos", "no-video")
    text, path, file = str(row["text"] or "").strip(), str(row["file_path"] or ""), source
    if not text and path:
        if path.startswith("/") or "://" in path or ".." in path.split("/"):
            raise format_error(source, at, "a path that leads out of it", "a path below the folder of the database")
        file = posixpath.join(posixpath.dirname(absolute_location(source)), path)
        text = read_bytes(file).decode("utf-8", "replace").strip() if is_file(file) else ""
    said = said_at(text, file, at, settings)
    level = WHOLE if said is None else FINE
    return [
        Caption("", start_s, stop_s, level, words[:LONGEST_TEXT], TRANSCRIPT, SOURCE)
        for start_s, stop_s, words in ([(0.0, float("inf"), whole_text(text, file, at))] if said is None else said)
        if words
    ]


def disagreements(rows: list[sqlite3.Row], source: str) -> list[str]:
    """Sentences that count the captions which contradict themselves or the table of videos, each with the first one."""
    count: Counter[str] = Counter()
    first: dict[str, object] = {}
    for row in rows:
        for what in contradictions(row):
            count[what] += 1
            first.setdefault(what, row["caption_id"])
    return [
        f"{source}, table captions: {number} rows disagree: {what} (the first: caption_id {first[what]})"
        for what, number in count.most_common()
    ]


def contradictions(row: sqlite3.Row) -> list[str]:
    """What in a row of ``CAPTIONS`` contradicts the rest of it."""
    found = []
    start, stop, duration = row["start_time"], row["end_time"], row["duration"]
    if all(isinstance(value, int | float) for value in (start, stop, duration)):
        if abs(stop - start - duration) > DURATION_APART_S:
            found.append("the duration is not end_time - start_time")
    if row["video"] is not None and row["video_name"] not in (None, "", row["video"]):
        found.append("video_name is not the name of the video_id")
    for flag in ("is_surgical_content", "is_descriptive"):
        if row[flag] not in (0, 1):
            found.append(f"{flag} is neither 0 nor 1")
    return found
