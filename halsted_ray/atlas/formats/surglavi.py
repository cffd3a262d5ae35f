"""Reads SurgLaVi-β (github.com/aperezr20/SurgLaVi; arXiv 2509.10555): captions of narrated surgery in SQLite.

    DATA/surglavi_beta.db                tables videos, captions, levels, transcriptions
    DATA/videos/<name>/<name>.mp4        each user downloads the videos; for most users many are missing

A caption becomes a sample of the task ``caption``. Its level is the tag, its text is the sample's ``caption``. As in
the authors' own loader, only captions are read that are surgical, descriptive, longer than 0 s and at most 500 s long.
"""

from __future__ import annotations

import posixpath
import sqlite3
import tempfile
from contextlib import closing

from halsted_ray.atlas.formats.recording import ImportSettings, Recording, format_error, is_file, parse_number
from halsted_ray.errors import AtlasError, TaxonomyError
from halsted_ray.records import Clip
from halsted_ray.storage.locations import absolute_location, filesystem, local_path

LONGEST_S = 500.0
COLUMNS = {
    "videos": ("video_id", "name", "procedure_type", "specialty"),
    "captions": (
        "caption_id",
        "video_id",
        "level_id",
        "start_time",
        "end_time",
        "duration",
        "is_surgical_content",
        "is_descriptive",
        "caption",
    ),
    "levels": ("level_id", "name"),
}
QUERY = """
select v.name as video, v.specialty, v.procedure_type, c.caption_id, c.start_time, c.end_time, c.caption,
       l.name as level
from captions c join videos v on v.video_id = c.video_id left join levels l on l.level_id = c.level_id
where c.is_descriptive = 1 and c.is_surgical_content = 1 and c.duration > 0 and c.duration <= ?
order by v.name, c.start_time, c.caption_id
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
            check_columns(base, source)
            try:
                rows = base.execute(QUERY, (LONGEST_S,)).fetchall()
            except sqlite3.Error as error:
                raise AtlasError(f"{source}: its rows can't be read ({error}); copy surglavi_beta.db again") from error
    clips_of: dict[str, list[Clip]] = {}
    for row in rows:
        with settings.or_left_out():
            clips_of.setdefault(row["video"], []).append(clip_of(row, source, settings))
    return [
        Recording(tuple(clips), f"{source}, table captions", f"{videos}/{name}/{name}.mp4")
        for name, clips in clips_of.items()
    ]


def check_columns(base: sqlite3.Connection, source: str) -> None:
    """Raises AtlasError where a table of ``COLUMNS`` is missing, lacks a column, or is a view or a virtual table, which
    can have any number of rows in any file."""
    for table, names in COLUMNS.items():
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


def clip_of(row: sqlite3.Row, source: str, settings: ImportSettings) -> Clip:
    """Makes the sample of one row of ``QUERY``. Raises AtlasError."""
    at = f"table captions, caption_id {row['caption_id']}"
    start_s, stop_s = (parse_number(row[name], source, at, name) for name in ("start_time", "end_time"))
    if not 0 <= start_s < stop_s:
        raise format_error(source, at, (start_s, stop_s), "0 <= start_time < end_time, in seconds", "no-span")
    try:
        _, level = settings.taxonomy.canonical("caption", "level", str(row["level"]))
    except TaxonomyError as error:
        raise format_error(source, at, row["level"], f"a level_id of the table levels ({error})") from error
    return Clip(
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
