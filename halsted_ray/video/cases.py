"""Which files of an archive are one case: chapters into which a recorder cut an operation, or files in one folder.

A rule is one of

    folder          all files of a folder
    chapters        files of a folder whose names are chapters of one recording, as recorders and people name them
    a pattern       a regular expression, searched in the path below the archive, with a group ``(?P<case>…)`` and
                    perhaps a group ``(?P<chapter>…)``
    FILE.csv        the columns file, case and perhaps order
    none            every file by itself

The files of a case stand in the natural order of their chapters: 2 before 10, and the chapters of one GoPro recording
before the next recording.
"""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from halsted_ray.errors import UsageError
from halsted_ray.storage.files import read_bytes
from halsted_ray.storage.locations import local_path

FOLDER, CHAPTERS, NONE = "folder", "chapters", "none"
FORMS = "folder, chapters, none, a pattern with (?P<case>…), or a file .csv with the columns file and case"

CHAPTER_NAMES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?P<recording>VTS_\d\d)_(?P<chapter>[1-9])",  # DVD; chapter 0 is the menu
        r"G(?P<kind>[HXLS])(?P<chapter>\d\d)(?P<recording>\d{4})",  # GoPro since the HERO6
        r"GOPR(?P<recording>\d{4})",  # GoPro before it: the first chapter
        r"GP(?P<chapter>\d\d)(?P<recording>\d{4})",  # and the others
        r"(?P<chapter>\d{5})",  # AVCHD and Blu-ray: 00000.MTS; see ONLY_FOR
        r"(?P<recording>.*?)[\s_.-]*\(?(?<!\d)(?P<chapter>\d{1,3})[\s_]*(?:of|von|de)[\s_]*\d{1,3}\)?",  # 2 of 4
        r"(?P<recording>.*?)(?:^|[\s_.(-]+)"
        r"(?:part|pt|teil|partie|parte|chapter|chap|cd|dvd|disc|disk|tape|vol)[\s_.-]*(?P<chapter>\d{1,3})\)?",
    )
)
"""Names of chapters without the end of the file's name."""
AVCHD = re.compile(r"\d{5}")
AVCHD_ENDS = (".mts", ".m2ts", ".m2t", ".ts")

SortKey: TypeAlias = tuple[object, ...]


def chapter_of(uri: str) -> tuple[str, int] | None:
    """(recording, number of the chapter) that the name of a file says, None where it says no chapter.

    The recording is its folder and what the names of its chapters share.
    """
    folder, name = posixpath.split(uri)
    stem, end = posixpath.splitext(name)
    for pattern in CHAPTER_NAMES:
        found = pattern.fullmatch(stem)
        if not found or (AVCHD.fullmatch(stem) and end.lower() not in AVCHD_ENDS):
            continue
        parts = found.groupdict()
        recording = f"{(parts.get('kind') or '').upper()}{(parts.get('recording') or '').strip().lower()}"
        return f"{folder}/{recording}", int(parts.get("chapter") or 0)
    return None


def doubtful_chapters(uris: Iterable[str]) -> list[int]:
    """The numbers of chapters that are missing among the files ``uris`` of a case, or that several files have."""
    numbers: dict[str, Counter[int]] = {}
    for uri in uris:
        if chapter := chapter_of(uri):
            numbers.setdefault(chapter[0], Counter())[chapter[1]] += 1
    return [n for of in numbers.values() for n in range(min(of), max(of) + 1) if of[n] != 1]


def is_csv(rule: str) -> bool:
    """Whether a rule is the name of a CSV file."""
    return rule.lower().endswith(".csv")


def group_cases(uris: Iterable[str], rule: str, archive: str = "", strict: bool = True) -> dict[str, list[str]]:
    """The key of each case → the uris of its files in order; a file that the rule does not name is in no case.

    ``archive``: where paths in a pattern or a CSV file begin. The key is the folder, the recording, or the name of the
    case, and may hold a patient's name. Raises UsageError for a rule that can't be used, such as a CSV file that names
    none of ``uris``; where ``strict``, also for a CSV file that names a file which is not among ``uris``.
    """
    uris = sorted(uris)
    if rule == NONE:
        return {}
    if rule in (FOLDER, CHAPTERS):
        named = {uri: posixpath.dirname(uri) for uri in uris} if rule == FOLDER else recordings(uris)
        order = {uri: _chapter_order(uri) for uri in uris}
    elif is_csv(rule):
        named, order = _from_csv(rule, uris, archive, strict)
    else:
        named, order = _by_pattern(rule, uris, archive)
    cases: dict[str, list[str]] = {}
    for uri in uris:
        if named.get(uri):
            cases.setdefault(named[uri], []).append(uri)
    return {key: sorted(of_case, key=lambda uri: order[uri]) for key, of_case in sorted(cases.items())}


def recordings(uris: Iterable[str]) -> dict[str, str]:
    """uri → the recording of which its name says that it is a chapter; no other uris.

    A file without a number is the first chapter where the others begin with the second: ``op.mp4``, ``op-part2.mp4``.
    """
    uris = list(uris)
    found = {uri: chapter for uri in uris if (chapter := chapter_of(uri)) is not None}
    first: dict[str, int] = {}
    for recording, number in found.values():
        first[recording] = min(number, first.get(recording, number))
    named = {uri: recording for uri, (recording, _) in found.items()}
    for uri in uris:
        if uri not in found and first.get(_stem(uri)) == 2:
            named[uri] = _stem(uri)
    return named


def _compiled(rule: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise UsageError(f"--case-by {rule!r}: no regular expression ({error}); expected {FORMS}") from None
    if "case" not in pattern.groupindex:
        raise UsageError(f"--case-by {rule!r}: expected {FORMS}")
    return pattern


def _by_pattern(rule: str, uris: Sequence[str], archive: str) -> tuple[dict[str, str], dict[str, SortKey]]:
    """(uri → case, uri → its place in the case) by a regular expression."""
    pattern = _compiled(rule)
    named: dict[str, str] = {}
    order: dict[str, SortKey] = {}
    for uri in uris:
        if found := pattern.search(_inside(uri, archive)):
            groups = found.groupdict()
            # A name need not be UTF-8, the key of a case is.
            named[uri] = (groups["case"] or "").encode(errors="surrogateescape").decode(errors="backslashreplace")
            order[uri] = (natural(groups["chapter"]),) if groups.get("chapter") else _chapter_order(uri)
    return named, order


def _from_csv(file: str, uris: Sequence[str], archive: str, strict: bool) -> tuple[dict[str, str], dict[str, SortKey]]:
    """(uri → case, uri → its place in the case) by a CSV file."""
    try:
        text = read_bytes(file).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--case-by {file!r}: can't be read ({type(error).__name__}); give a CSV in UTF-8") from None
    head = text.partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
    if not {"file", "case"} <= set(rows.fieldnames or ()):
        raise UsageError(
            f"--case-by {file!r}: expected a header with file, case and perhaps order, got {rows.fieldnames}"
        )
    known: dict[str, str | None] = {}
    for uri in uris:  # the name alone, or with some of its folders, where no other file ends so
        for end in {end for path in (uri, local_path(uri) or uri) for end in _ends(path)}:
            known[end] = None if end in known else uri
    known |= {uri: uri for uri in uris}
    known |= {_inside(uri, archive): uri for uri in uris} | {local_path(uri) or uri: uri for uri in uris}
    named: dict[str, str] = {}
    order: dict[str, SortKey] = {}
    for row in rows:
        meant = known.get(row["file"] or "")
        if meant is None and not strict:
            continue
        if meant is None or meant in named:
            what = "is named twice" if meant else "is no video of the archive, or several files have this name"
            raise UsageError(
                f"--case-by {file!r}, line {rows.line_num}: {row['file']!r} {what}; expected each file once, by its "
                "path below the archive"
            )
        named[meant] = (row["case"] or "").strip()
        given = (row.get("order") or "").strip()
        order[meant] = (natural(given),) if given else _chapter_order(meant)
    if uris and not named:
        raise UsageError(f"--case-by {file!r}: none of its rows names a video that is here; expected paths or names")
    return named, order


def _ends(path: str) -> list[str]:
    """The name of a file, and the ends of its path with one folder, with two, and so on."""
    parts = path.split("/")
    return ["/".join(parts[n:]) for n in range(len(parts) - 1, 0, -1)]


def _inside(uri: str, archive: str) -> str:
    """The path of a file below the archive."""
    path, root = local_path(uri) or uri, (local_path(archive) or archive).rstrip("/")
    return path[len(root) + 1 :] if root and path.startswith(root + "/") else path


def _chapter_order(uri: str) -> SortKey:
    """The place of a file among files of one folder: by recording, then by chapter."""
    recording, number = chapter_of(uri) or (_stem(uri), 0)
    return natural(recording), number, natural(uri)


def _stem(uri: str) -> str:
    """The recording of which a file without a number may be the first chapter."""
    folder, name = posixpath.split(uri)
    return f"{folder}/{posixpath.splitext(name)[0].strip().lower()}"


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts numbers in a text by their value: ``part 2`` before ``part 10``."""
    pieces = re.findall(r"\d+|\D+", text.casefold())
    return tuple((0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces)
