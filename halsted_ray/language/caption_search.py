"""Captions and transcripts of an atlas, found by their words: SQLite's full-text search (FTS5: BM25, Porter's stems).

What was said is searched sentence by sentence. The first search of a version writes an index beside the captions, in
``<archive>/atlas/.words``, and removes those of other versions. It may be deleted at any time. Where it can't be
written, as on S3, a search makes it in a temporary folder and drops it.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from unicodedata import category, normalize

from halsted_ray.atlas.captions import HOW_TO_CAPTION, KINDS, WHOLE, caption_table, caption_table_id
from halsted_ray.atlas.contents import Atlas
from halsted_ray.errors import AtlasError, OutputError, UsageError
from halsted_ray.storage.locations import local_path

RULE = 2
"""Counts up when the index is made in another way."""
LONGEST_SENTENCE = 300
"""Characters. A longer one, such as speech without full stops, is cut at a space."""
LONGEST_QUESTION = 1000
"""Characters."""
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")
PIECE = re.compile(rf".{{1,{LONGEST_SENTENCE}}}(?:\s+|$)|.{{1,{LONGEST_SENTENCE}}}", re.S)
PHRASE = re.compile(r'"([^"]*)"|([^"]+)')
LEFT_BEHIND_S = 24 * 3600
"""So old is what a killed search has left."""
SCHEMA = """
create table captions(id integer primary key, video_id, start_s, stop_s, level, kind, source, excluded);
create virtual table sentences using fts5(text, caption unindexed,
    tokenize = "porter unicode61 remove_diacritics 2 categories 'L* N* M*'");
"""
FOUND = """
select c.video_id, c.start_s, c.stop_s, c.level, c.kind, c.source, c.excluded, s.text, -best.rank
from (select rowid, rank from sentences where sentences match ? order by rank limit ?) best
join sentences s on s.rowid = best.rowid join captions c on c.id = s.caption order by best.rank, best.rowid
"""
"""The best sentences; their texts are read for these alone."""
LOOKED_AT = 16
"""So many sentences per result are looked at first, and as many times more where too many are of one span."""
MOST_ROWS = 2**62
"""SQLite's whole numbers end there."""


@dataclass(frozen=True)
class FoundText:
    """A sentence that fits. ``start_s``, ``stop_s``: of its caption in seconds; None for a text about the whole video,
    such as a transcript without times. ``text``: the sentence. ``score``: BM25, higher is better; it compares the
    sentences of one answer only. ``excluded``: as of ``records.Caption``."""

    video_id: str
    start_s: float | None
    stop_s: float | None
    level: str
    kind: str
    source: str
    excluded: str
    text: str
    score: float


def search_captions(
    atlas: Atlas,
    text: str,
    count: int = 10,
    kinds: Iterable[str] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> list[FoundText]:
    """The ``count`` best sentences, one per span of a video (its best), so one per transcript without times.

    ``text``: words, any of which may fit; a phrase in double quotes stays together. ``kinds``: only these kinds
    (``captions.KINDS``); none: all. ``progress`` is told when an index is made. Raises UsageError for a text without a
    word, a count below 1 or an unknown kind, AtlasError where the atlas has no captions, or they or their index
    can't be read, OutputError where there is no place to make the index.
    """
    wanted, kinds = _query(text), set(kinds)
    if count < 1:
        raise UsageError(f"a count of {count}; expected 1 or more")
    if unknown := sorted(kinds.difference(KINDS)):
        raise UsageError(f"no kind {unknown[0]!r}; expected some of {', '.join(KINDS)}")
    if atlas.captions_version is None:
        raise AtlasError(f"the atlas {atlas.name!r} has no captions; {HOW_TO_CAPTION}")
    try:
        with closing(_index(atlas, progress)) as base:
            return _best(base, wanted, count, kinds)
    except sqlite3.DatabaseError as error:
        raise AtlasError(
            f"the index in {_folder(atlas)} can't be read ({error}); remove it and search again"
        ) from error


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text, each of LONGEST_SENTENCE characters at most, with single spaces."""
    for sentence in SENTENCE_END.split(normalize("NFC", text)):
        yield from filter(None, (" ".join(piece.split()) for piece in PIECE.findall(sentence)))


def _query(text: str) -> str:
    """The question as FTS5 takes it: letters with their marks and digits, so that nothing in it is an operator."""
    if len(text) > LONGEST_QUESTION:
        raise UsageError(f"a question of {len(text):,} characters; expected {LONGEST_QUESTION:,} at most")
    wanted: dict[str, None] = {}
    plain = "".join(one if one == '"' or category(one)[0] in "LNM" else " " for one in normalize("NFC", text))
    for phrase, words in PHRASE.findall(plain):
        found = [phrase.split()] if phrase else [[word] for word in words.split()]
        wanted.update((f'"{" ".join(one)}"', None) for one in found if any(map(str.isalnum, "".join(one))))
    if not wanted:
        raise UsageError("a question without a word; expected such as 'cystic duct'")
    return " OR ".join(wanted)


def _best(base: sqlite3.Connection, wanted: str, count: int, kinds: set[str]) -> list[FoundText]:
    base.execute("pragma trusted_schema = off")
    most = min(LOOKED_AT * count, MOST_ROWS)
    while True:
        rows = base.execute(FOUND, (wanted, most)).fetchall()
        found: dict[tuple[str, float, float], FoundText] = {}
        for video_id, start_s, stop_s, level, kind, source, excluded, sentence, score in rows:
            if kinds and kind not in kinds:
                continue
            said_s = (None, None) if level == WHOLE else (start_s, stop_s)
            about = (level, kind, source, excluded, sentence, float(f"{score:.6g}"))
            one = FoundText(video_id, said_s[0], said_s[1], *about)
            found.setdefault((video_id, start_s, stop_s), one)
        if len(found) >= count or len(rows) < most:
            return list(found.values())[:count]
        most = min(LOOKED_AT * most, MOST_ROWS)


def _index(atlas: Atlas, progress: Callable[[str], None]) -> sqlite3.Connection:
    """The index of this version of the captions, open; made where it is not there. Raises OutputError, AtlasError."""
    name = f"{caption_table_id(atlas)}-{atlas.captions_version}-{RULE}.sqlite"
    folder = _folder(atlas)
    if folder:
        _remove_left_behind(folder)
        with suppress(sqlite3.OperationalError):  # it is not there, or was removed since by a search of another version
            return _opened(folder / name)
    progress("making the index of its words, which takes up to a minute")
    if folder:
        try:
            folder.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as part:
                _make(atlas, Path(part) / name)
                base = _opened(Path(part) / name)  # before a search of another version can remove it
                (Path(part) / name).replace(folder / name)
            _remove_others(folder, name)
            return base
        except (OSError, sqlite3.OperationalError) as error:
            progress(f"the index can't be kept beside the captions ({error}), so it is made for this search alone")
    try:
        with tempfile.TemporaryDirectory() as part:
            _make(atlas, Path(part) / name)
            return _opened(Path(part) / name)  # an open file outlives its folder
    except (OSError, sqlite3.OperationalError) as error:
        raise OutputError(
            f"the index of the captions can't be made in the folder for temporary files: {error}; free space there, "
            "or name another folder in TMPDIR"
        ) from error


def _folder(atlas: Atlas) -> Path | None:
    """Where the indices lie; None where the atlas lies on no disk."""
    root = local_path(atlas.root)
    return None if root is None else Path(root) / "atlas" / ".words"


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def _make(atlas: Atlas, path: Path) -> None:
    rows = caption_table(atlas)
    with closing(sqlite3.connect(path)) as base:
        try:
            base.executescript(f"pragma journal_mode = off; pragma synchronous = off; {SCHEMA}")
        except sqlite3.OperationalError as error:
            if "fts5" not in str(error):
                raise
            raise OutputError(
                f"the SQLite of this Python ({sqlite3.sqlite_version}) has no full-text search (FTS5); use a Python "
                "whose SQLite has it, such as those of python.org"
            ) from error
        number = 0
        for batch in rows.to_batches() if rows is not None else ():
            for row in batch.to_pylist():
                number += 1
                columns = ("video_id", "start_s", "stop_s", "level", "kind", "source", "excluded")
                base.execute(
                    "insert into captions values (?, ?, ?, ?, ?, ?, ?, ?)", (number, *(row[name] for name in columns))
                )
                base.executemany(
                    "insert into sentences values (?, ?)", ((one, number) for one in sentences(row["text"]))
                )
        base.commit()


def _remove_others(folder: Path, name: str) -> None:
    """Removes the indices of other versions."""
    for other in folder.glob("*.sqlite"):
        if other.name != name:
            other.unlink(missing_ok=True)


def _remove_left_behind(folder: Path) -> None:
    """Removes what killed searches have left, where it can be removed."""
    for other in folder.glob("tmp*"):
        with suppress(OSError):  # another search removes it too
            if time.time() - other.stat().st_mtime > LEFT_BEHIND_S:
                shutil.rmtree(other, ignore_errors=True)
