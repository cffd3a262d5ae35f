"""What an importer returns, and how it says which line of which file is wrong."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch

from halsted_ray.errors import AtlasError, OutputError
from halsted_ray.records import Clip
from halsted_ray.storage.locations import filesystem, local_path
from halsted_ray.taxonomy import Taxonomy


@dataclass(frozen=True)
class Recording:
    """What a source says of one video, before anybody opened it.

    The video is the file at ``uri``, or the one whose content has ``video_id``. Clips have no ``video_id`` yet and
    count time in 1/``rate`` s; without a rate, in frames of the video at its own rate. A ``stop_s`` of infinity is
    the video's end. ``part`` is what the data set's own split says, '' for nothing. ``origin`` is file and line.
    """

    clips: tuple[Clip, ...]
    origin: str
    uri: str = ""
    video_id: str = ""
    part: str = ""
    rate: float | None = 1.0


@dataclass(frozen=True)
class ImportSettings:
    """``videos``: where the videos lie, '' for where the format puts them; ``mapping``: a file that names columns."""

    taxonomy: Taxonomy
    videos: str = ""
    annotator: str = ""
    mapping: str = ""


def wrong(file: str, line: int | str, got: object, expected: str) -> AtlasError:
    """``line`` is a number, or another place in the file in words."""
    at = f"{file}:{line}" if isinstance(line, int) else f"{file}, {line}"
    return AtlasError(f"{at}: got {got!r}; expected {expected}")


def read_text(uri: str) -> str:
    """The UTF-8 text at ``uri``, without a byte-order mark. Raises AtlasError."""
    fs, path = filesystem(uri)
    try:
        return fs.cat_file(path).decode("utf-8-sig")
    except OSError as error:
        raise AtlasError(f"{uri}: can't be read ({type(error).__name__}); give an existing file") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise AtlasError(f"{uri}:{line}: not UTF-8 text ({error.reason}); save the file as UTF-8") from error


def numbered_lines(uri: str) -> Iterator[tuple[int, str]]:
    """(number, line) of the lines that hold something."""
    for number, line in enumerate(read_text(uri).splitlines(), 1):
        if line.strip():
            yield number, line


def files_at(folder: str, pattern: str) -> list[str]:
    """URIs of the files under ``folder`` whose path inside it fits ``pattern`` (``*`` stands for no slash), sorted."""
    fs, root = filesystem(folder)
    root = root.rstrip("/")
    depth = pattern.count("/")
    is_local = local_path(folder) is not None
    try:
        paths = fs.find(root, maxdepth=depth + 1)
    except OSError as error:
        raise AtlasError(f"{folder}: can't be listed ({type(error).__name__}); check the place and its keys") from error
    names = [path[len(root) + 1 :] for path in paths if path.startswith(root + "/")]
    found = [
        name
        for name in names
        if name.count("/") == depth
        and all(fnmatch(*pair) for pair in zip(name.split("/"), pattern.split("/"), strict=True))
    ]
    return sorted(f"{root}/{name}" if is_local else str(fs.unstrip_protocol(f"{root}/{name}")) for name in found)


def is_file(uri: str) -> bool:
    fs, path = filesystem(uri)
    return fs.isfile(path)


def absolute_place(uri: str) -> str:
    """A local path in full, so that it means the same from everywhere; a URL as it is."""
    return uri if local_path(uri) is None else filesystem(uri)[1]


def as_number(text: object, file: str, line: int | str, what: str) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        raise wrong(file, line, text, f"{what} as a number") from None


def as_index(text: str, file: str, line: int, what: str) -> int:
    if not text.strip().isdigit():
        raise wrong(file, line, text, f"{what} as a whole number from 0 on")
    return int(text)


def runs(rows: Iterable[tuple[int, object]], step: int) -> Iterator[tuple[int, int, object]]:
    """(first frame, frame after the last, value) of each stretch of equal values in ``rows`` of (frame, value),
    whose frames rise; each row stands until the next one, and the last one for ``step`` frames."""
    first = last = value = None
    for frame, new in rows:
        if first is not None and new != value:
            yield first, frame, value
            first = None
        if first is None:
            first, value = frame, new
        last = frame
    if first is not None:
        yield first, last + step, value


def save(folder: str, name: str, text: str) -> str:
    """Writes ``text`` as one file; returns where. Raises OutputError."""
    fs, root = filesystem(folder)
    path = posixpath.join(root, name)
    try:
        fs.makedirs(root, exist_ok=True)
        fs.pipe_file(path, text.encode())
    except OSError as error:
        raise OutputError(f"can't write {name} to {folder!r}: {error}; name a place you may write") from error
    return posixpath.join(folder, name)
