"""Recording: what an importer returns per video. Also how importers read files, and report an error with its line."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import SupportsFloat, TypeVar

from halsted_ray.errors import AtlasError, OutputError
from halsted_ray.records import Clip
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
    split, '' for none.
    """

    clips: tuple[Clip, ...]
    origin: str
    uri: str = ""
    video_id: str = ""
    part: str = ""
    rate: float | None = 1.0


@dataclass(frozen=True)
class ImportSettings:
    """What a person chose for an import.

    ``taxonomy``: of the tags. ``videos``: where the videos are, '' for the place that the format names. ``annotator``:
    for clips that name none. ``mapping``: a file that says what each column means, '' for the format's own.
    """

    taxonomy: Taxonomy
    videos: str = ""
    annotator: str = ""
    mapping: str = ""


def format_error(file: str, line: int | str, got: object, expected: str) -> AtlasError:
    """Makes the error for a file that breaks its format. ``line``: a number, or a place in the file in words."""
    at = f"{file}:{line}" if isinstance(line, int) else f"{file}, {line}"
    return AtlasError(f"{at}: got {got!r}; expected {expected}")


def read_text(uri: str) -> str:
    """Returns the UTF-8 text at ``uri`` without a byte-order mark. Raises AtlasError."""
    fs, path = filesystem(uri)
    try:
        text: str = fs.cat_file(path).decode("utf-8-sig")
        return text
    except OSError as error:
        raise AtlasError(f"{uri}: can't be read ({type(error).__name__}); give an existing file") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise AtlasError(f"{uri}:{line}: not UTF-8 text ({error.reason}); save the file as UTF-8") from error


def numbered_lines(uri: str) -> Iterator[tuple[int, str]]:
    """Yields (number from 1, line) of the lines at ``uri`` that are not blank. Raises AtlasError."""
    for number, line in enumerate(read_text(uri).splitlines(), 1):
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


def parse_number(value: object, file: str, line: int | str, what: str) -> float:
    """Returns ``value`` as a number. Raises AtlasError that calls it ``what``."""
    if isinstance(value, str | SupportsFloat):
        try:
            return float(value)
        except ValueError:
            pass
    raise format_error(file, line, value, f"{what} as a number")


def parse_index(text: str, file: str, line: int, what: str) -> int:
    """Returns ``text`` as a whole number of 0 or more. Raises AtlasError that calls it ``what``."""
    if not text.strip().isdigit():
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
