"""Recording: what an importer returns per video. Also how importers read files, and report an error with its line.

An error in one row leaves that row out and the import goes on (``ImportSettings.or_left_out``). An error that makes the
whole file unreadable, such as a missing header, ends the import.
"""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any, Literal, SupportsFloat, TypeVar

from halsted_ray.errors import AtlasError, OutputError
from halsted_ray.records import Caption, Clip
from halsted_ray.storage.files import find_files, write_atomically
from halsted_ray.storage.locations import filesystem, local_path, local_uri
from halsted_ray.taxonomy import Taxonomy

Value = TypeVar("Value")


@dataclass(frozen=True)
class Recording:
    """The annotations of one video, before anybody opens the video.

    ``clips``: without a ``video_id`` yet. Their times count in 1/``rate`` s, or in frames of the video where ``rate``
    is None. A ``stop_s`` of infinity means the video's end. ``origin``: annotation file and line, for messages.
    ``uri``: the video's file; or else ``video_id``: the id of its content. ``part``: its part in the data set's own
    split, '' for none. ``length_s``: how long the annotation file says the video is, None where it does not say.
    ``group``: the name of what the video was cut from (source video, operation, patient), '' where nothing says so.
    ``origins``: the origin of each clip, or empty where all have that of the recording.
    """

    clips: tuple[Clip, ...]
    origin: str
    uri: str = ""
    video_id: str = ""
    part: str = ""
    rate: float | None = 1.0
    length_s: float | None = None
    group: str = ""
    origins: tuple[str, ...] = ()
    captions: tuple[Caption, ...] = ()
    """Without a ``video_id`` yet, in seconds. A ``stop_s`` of infinity means the video's end."""

    def __post_init__(self) -> None:
        assert len(self.origins) in (0, len(self.clips)), "one origin per clip"

    def origin_of(self, number: int) -> str:
        """Returns the annotation file and line of the clip ``number``."""
        return self.origins[number] if self.origins else self.origin


@dataclass(frozen=True)
class LeftOut:
    """What an import did not take. ``code``: the reason as it is counted. ``text``: place and reason, in one line.

    ``samples``: how many rows, regions or clips that is.
    """

    code: str
    text: str
    samples: int = 1

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class ImportSettings:
    """What a person chose for an import, and what the import had to leave out so far.

    ``taxonomy``: of the tags. ``videos``: where the videos are, '' for the place that the format names. ``annotator``:
    for clips that name none. ``mapping``: a file that says what each column means, '' for the format's own. ``fps``:
    frames per second that frame numbers count in, ``video`` for the rate of each video, None where the annotation file
    must say it. ``strict``: the first row that would be left out ends the import. ``fold``: which of the data set's
    folds gives the parts of its videos, None for none. ``make_videos``: whether a data set's folders of pictures become
    video files.

    ``left_out`` grows while the file is read. ``notes``: what a person should know although nothing was left out.
    """

    taxonomy: Taxonomy
    videos: str = ""
    annotator: str = ""
    mapping: str = ""
    fps: float | Literal["video"] | None = None
    strict: bool = False
    fold: int | None = None
    make_videos: bool = False
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def or_left_out(self, samples: int = 1) -> Iterator[None]:
        """Leaves out what the body refuses with an AtlasError, and goes on. With ``strict`` the error is raised."""
        try:
            yield
        except AtlasError as error:
            if self.strict:
                raise
            self.left_out.append(LeftOut(error.code, str(error), samples))

    def frame_rate(self, declared: float | None, file: str, where: int | str, place: str) -> float | None:
        """Returns how many frames per second frame numbers count; None for the rate of the video itself.

        ``declared``: what the annotation file says; ``place``: where it could say so. A rate is never guessed: raises
        AtlasError where neither the file nor the option ``--fps`` says it.
        """
        if self.fps == "video":
            return None
        rate = self.fps or declared
        if rate:
            return rate
        raise format_error(
            file,
            where,
            None,
            f"the frame rate that its frame numbers count in: in {place}, or with --fps (25, say; --fps video takes "
            "the rate of each video)",
            "no-frame-rate",
        )


def format_error(file: str, line: int | str, got: object, expected: str, code: str = "malformed") -> AtlasError:
    """Makes the error for a file that breaks its format. ``line``: a number, or a place in the file in words.

    ``code``: the reason as an import counts it.
    """
    return AtlasError(f"{origin(file, line)}: got {got!r}; expected {expected}", code)


def origin(file: str, line: int | str) -> str:
    """Returns a place in an annotation file in words. ``line``: a number, or a place in the file in words."""
    return f"{file}:{line}" if isinstance(line, int) else f"{file}, {line}"


def read_bytes(uri: str) -> bytes:
    """Returns the content of the file at ``uri``. Raises AtlasError."""
    fs, path = filesystem(uri)
    try:
        data: bytes = fs.cat_file(path)
        return data
    except OSError as error:
        raise AtlasError(f"{uri}: can't be read ({type(error).__name__}); give an existing file") from error


def read_text(uri: str) -> str:
    """Returns the UTF-8 text at ``uri`` without a byte-order mark. Raises AtlasError."""
    try:
        return read_bytes(uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise AtlasError(f"{uri}:{line}: not UTF-8 text ({error.reason}); save the file as UTF-8") from error


def read_table_text(uri: str, settings: ImportSettings) -> str:
    """Returns the text of a table as spreadsheets save it: UTF-8, UTF-16, or else Windows-1252.

    Nothing in a file says that it is Windows-1252, so this is noted for the person, and refused with ``strict``.
    Raises AtlasError.
    """
    data = read_bytes(uri)
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise AtlasError(f"{uri}: a workbook of a spreadsheet; save its sheet as CSV (UTF-8)")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:2]:
        # Without a mark, the zero byte of the first letter tells the order: a header begins with an ASCII letter.
        name = (
            "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
        )
        try:
            return data.decode(name)
        except UnicodeDecodeError as error:
            raise AtlasError(f"{uri}: not UTF-16 text ({error.reason}); save the file as UTF-8") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        if settings.strict:
            raise AtlasError(f"{uri}:{line}: not UTF-8 text ({error.reason}); save the file as UTF-8") from error
        settings.notes.append(
            f"{uri}:{line}: not UTF-8, so it was read as Windows-1252; check its letters with accents, or save it as "
            "UTF-8"
        )
        return data.decode("cp1252", "replace")


def text_lines(text: str, keep_ends: bool = False) -> list[str]:
    """Returns the lines of ``text``, with their ends if ``keep_ends``. Only line feed and carriage return end a line.

    ``str.splitlines`` also cuts at U+2028, U+0085 and others, which JSON leaves unescaped inside strings.
    """
    return re.findall(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+", text) if keep_ends else re.split(r"\r\n|\n|\r", text)


def json_of(text: str) -> Any:
    """Returns the value of a JSON text. Raises ValueError (JSONDecodeError where it is no JSON), also for values that
    are too deep and for whole numbers of thousands of digits."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("brackets that are too deep") from error


def json_at(uri: str) -> Any:
    """Returns the value of the JSON file at ``uri``. Raises AtlasError. Any: whatever the file holds."""
    text = read_text(uri)
    try:
        return json_of(text)
    except ValueError as error:
        raise AtlasError(f"{uri}: not JSON ({error}); fetch the file again") from error


def numbered_lines(uri: str) -> Iterator[tuple[int, str]]:
    """Yields (number from 1, line) of the lines at ``uri`` that are not blank. Raises AtlasError."""
    for number, line in enumerate(text_lines(read_text(uri)), 1):
        if line.strip():
            yield number, line


def matching_files(folder: str, pattern: str) -> list[str]:
    """Returns the sorted URIs of the files in ``folder`` whose path inside it fits ``pattern``.

    A ``*`` stands for any text without a slash. Raises AtlasError where the folder can't be listed.
    """
    fs, root = filesystem(folder)
    root = root.rstrip("/")
    depth = pattern.count("/")
    is_local = local_path(folder) is not None
    try:
        paths = find_files(fs, root, depth + 1)
    except OSError as error:
        raise AtlasError(
            f"{folder}: can't be listed ({type(error).__name__}); check the place and the credentials"
        ) from error
    names = [path[len(root) + 1 :] for path in paths if path.startswith(root + "/")]
    found = [
        name
        for name in names
        if name.count("/") == depth
        and all(fnmatch(*pair) for pair in zip(name.split("/"), pattern.split("/"), strict=True))
    ]
    return sorted(
        local_uri(f"{root}/{name}") if is_local else str(fs.unstrip_protocol(f"{root}/{name}")) for name in found
    )


def is_file(uri: str) -> bool:
    """Returns whether there is a file at ``uri``."""
    fs, path = filesystem(uri)
    return bool(fs.isfile(path))


def parse_number(value: object, file: str, line: int | str, what: str, decimal_comma: bool = False) -> float:
    """Returns ``value`` as a finite number, with a decimal point or comma. Raises AtlasError that calls it ``what``.

    ``12,500`` is refused, because it may mean 12.5 or 12500, unless ``decimal_comma`` says that commas are decimal.
    """
    expected = f"{what} as a number"
    if isinstance(value, str) and "," in value:
        if not decimal_comma and re.fullmatch(r"\s*-?[1-9]\d{0,2}(,\d{3})+\s*", value):
            raise format_error(file, line, value, f"{expected} that can't be misread: with a decimal point")
        value = value.replace(",", ".")
    # Python reads 1_5 as 15; nobody who writes annotations does.
    if isinstance(value, str | SupportsFloat) and not isinstance(value, bool) and "_" not in str(value)[:40]:
        try:
            number = float(value)
            if math.isfinite(number):
                return number
        except (ValueError, OverflowError):
            pass
    raise format_error(file, line, value, expected)


def parse_index(text: str, file: str, line: int, what: str) -> int:
    """Returns ``text`` as a whole number of 0 or more. Raises AtlasError that calls it ``what``."""
    if not re.fullmatch(r"\s*\d{1,12}\s*", text):
        raise format_error(file, line, text, f"{what} as a whole number from 0 on")
    return int(text)


def runs(rows: Iterable[tuple[int, Value]], step: int) -> Iterator[tuple[int, int, Value]]:
    """Joins rows of (frame, value) with equal values; yields (first frame, frame after the last, value) per run.

    The frames must rise. Each row holds until the next row, and the last row for ``step`` frames.
    """
    run: tuple[int, Value] | None = None
    last = 0
    for frame, value in rows:
        if run is not None and value != run[1]:
            yield run[0], frame, run[1]
            run = None
        if run is None:
            run = frame, value
        last = frame
    if run is not None:
        yield run[0], last + step, run[1]


def write_text(folder: str, name: str, text: str) -> str:
    """Writes ``text`` as the file ``name`` in ``folder``; returns the file's location. Raises OutputError."""
    fs, root = filesystem(folder)
    try:
        write_atomically(fs, posixpath.join(root, name), text.encode())
    except OSError as error:
        raise OutputError(f"can't write {name} to {folder!r}: {error}; name a place that you may write to") from error
    return posixpath.join(folder, name)
