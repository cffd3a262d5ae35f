"""Whole files at any location: written so that no reader ever sees a part of one, read with patience.

The functions in the first half take a location, the functions in the second half a file system and a path on it (for
callers that work on many files of one place). "With patience" means that a remote store that is away is waited for, up
to ``retry.PATIENCE_S``. The local disk is never waited for.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from halsted_ray.errors import OutputError, StorageUnavailable, UnreadableVideo
from halsted_ray.storage.locations import Location, absolute_location, filesystem, is_local
from halsted_ray.storage.retry import PATIENCE_S, with_retries

if TYPE_CHECKING:
    import fsspec
    import pyarrow.fs

Answer = TypeVar("Answer")

REQUESTS_AT_ONCE = 16


def exists(location: Location) -> bool:
    """Whether there is a file or folder at ``location``, asked with patience. Raises StorageUnavailable, and
    PermissionError (OSError) where this can't be told."""
    fs, path = filesystem(location)
    if is_local(fs):
        return lies_at(path)
    fs.invalidate_cache()  # another machine may have written it since
    return with_retries(lambda: fs.exists(path), "whether a file exists", PATIENCE_S)


def lies_at(path: str) -> bool:
    """Whether there is a file or folder at the local ``path``.

    Raises OSError where this can't be told: in a folder that this account may not read, or on a drive that is away.
    ``os.path.exists`` says False there.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def read_bytes(location: Location) -> bytes:
    """The bytes of one file, read with patience. Raises FileNotFoundError, StorageUnavailable."""
    return read_file(*filesystem(location))


def read_json(location: Location) -> Any:
    """The JSON value in one file, read with patience. Raises FileNotFoundError, StorageUnavailable, and ValueError
    where the file holds no JSON."""
    return json.loads(read_bytes(location))


def write_bytes(location: Location, data: bytes) -> None:
    """Writes one file, whole or not at all; makes its folder. Raises OutputError."""
    write_atomically(*filesystem(location), data)


def write_json(location: Location, value: object) -> None:
    """Writes ``value`` as one JSON file, whole or not at all; makes its folder. Raises OutputError."""
    write_bytes(location, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def make_folder(location: Location) -> tuple[fsspec.AbstractFileSystem, str]:
    """Makes the folder ``location`` where it is not there yet; its file system, and its path on it.

    Raises OutputError.
    """
    fs, path = filesystem(location)
    try:
        fs.makedirs(path, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"can't write to {os.fspath(location)!r}: {why_not_written(path, error)}; name a folder that can be written"
        ) from error
    return fs, path


def make_local_folder(path: str | os.PathLike[str], mode: int = 0o777) -> Path:
    """Makes the folder ``path`` of this machine, and those above it, where they are not there yet. Raises
    OutputError."""
    folder = Path(path)
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        reason = why_not_written(str(folder.absolute()), error)
        raise OutputError(f"can't write to {str(folder)!r}: {reason}; name a folder that can be written") from error
    return folder


def why_not_written(path: str, error: OSError) -> str:
    """What to say of ``error``, which writing to the local ``path`` raised: also which file stands in the place of a
    folder."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        for place in (Path(path), *Path(path).parents):
            if place.is_file():
                return f"expected a folder, got a file at {str(place)!r}"
    return error.strerror or str(error)


def download(location: Location, path: str) -> None:
    """Copies one file, or a folder with all that is in it, to the local ``path``, which must not be there yet.

    Reads with patience. Raises FileNotFoundError, StorageUnavailable.
    """
    fs, source = filesystem(location)
    source = source.rstrip("/")
    if is_local(fs) and os.path.isdir(source):
        shutil.copytree(source, path)
    elif is_local(fs):
        shutil.copyfile(source, path)
    elif _patiently(lambda: fs.isdir(source), "a folder"):
        _patiently(lambda: fs.get(f"{source}/", f"{path}/", recursive=True), "a folder")
    else:
        _patiently(lambda: fs.get_file(source, path), "a file")


def move_file(path: str, location: Location) -> None:
    """Moves a finished local file to ``location``; makes the folder. Raises OutputError.

    Where ``location`` is on this machine, ``path`` must lie on the same disk: then the move is one rename, so that no
    reader sees a part of the file. A remote store shows an object only when it is whole.
    """
    fs, target = filesystem(location)
    try:
        if is_local(fs):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.replace(path, target)
        else:
            with_retries(lambda: fs.put_file(path, target), "the place to write to", PATIENCE_S, "write to")
            os.unlink(path)
    except (OSError, StorageUnavailable, UnreadableVideo) as error:
        raise _not_written(target, error) from error


def write_atomically(fs: fsspec.AbstractFileSystem, path: str, data: bytes) -> None:
    """Writes one file so that no reader ever sees a part of it; makes its folder.

    A remote store that is away is waited for as long as in reading. Raises OutputError.
    """
    try:
        if is_local(fs):
            folder = os.path.dirname(path)
            os.makedirs(folder, exist_ok=True)
            handle, written = tempfile.mkstemp(prefix=".part-", dir=folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                os.chmod(written, 0o644)
                os.replace(written, path)
            except BaseException:
                os.unlink(written)
                raise
        else:
            with_retries(lambda: fs.pipe_file(path, data), "the place to write to", PATIENCE_S, "write to")
    except (OSError, StorageUnavailable, UnreadableVideo) as error:
        raise _not_written(path, error) from error


def require_writable(location: str) -> None:
    """Makes the folder ``location`` and writes a file into it, which is removed again: so that hours of work are not
    done before it shows that nothing can be kept. Raises OutputError."""
    fs, root = filesystem(absolute_location(location))
    trial = f"{root.rstrip('/')}/.writable"
    try:
        fs.makedirs(root, exist_ok=True)
        write_atomically(fs, trial, b"")
        with suppress(OSError):  # another run has removed it already, or this store lets nothing be removed
            fs.rm_file(trial)
    except (OSError, OutputError) as error:
        cause = error.__cause__ if isinstance(error, OutputError) else error
        reason = why_not_written(root, cause) if isinstance(cause, OSError) else cause
        raise OutputError(f"can't write to {location!r}: {reason}; name a folder that can be written") from error


def read_file(fs: fsspec.AbstractFileSystem, path: str) -> bytes:
    """The bytes of one file, read with patience. Raises FileNotFoundError, StorageUnavailable."""
    if is_local(fs):
        return fs.cat_file(path)
    return _patiently(lambda: fs.cat_file(path), "a stored result")


def read_natively(store: pyarrow.fs.FileSystem, path: str) -> pyarrow.Buffer:
    """The bytes of one file at a remote store, read by Arrow's own client with patience. Raises as ``read_file``."""

    def read() -> pyarrow.Buffer:
        with store.open_input_file(path) as file:
            return file.read_buffer()

    return _patiently(read, "a stored result")


def read_head(fs: fsspec.AbstractFileSystem, path: str, count: int) -> bytes:
    """The first ``count`` bytes of one file, or all that it has. Raises as ``read_file``."""
    if is_local(fs):
        return fs.cat_file(path, start=0, end=count)
    return _patiently(lambda: fs.cat_file(path, start=0, end=count), "a stored result")


def list_folder(fs: fsspec.AbstractFileSystem, folder: str, deep: bool = False) -> list[str]:
    """The paths under ``folder``, listed with patience; no path where the folder is not there.

    ``deep`` lists the files of all folders below; else files and folders directly in it. What other machines wrote is
    seen too. Raises StorageUnavailable, and OSError for a local folder that can't be listed.
    """
    fs.invalidate_cache(folder)

    def read() -> list[str]:
        return find_files(fs, folder) if deep else fs.ls(folder, detail=False)

    try:
        return read() if is_local(fs) else _patiently(read, "a listing")
    except (FileNotFoundError, NotADirectoryError):
        return []


def file_sizes(fs: fsspec.AbstractFileSystem, root: str) -> dict[str, int]:
    """path → bytes of every file below ``root``, listed with patience; a file that goes away meanwhile may be missing.

    Raises as ``list_folder``.
    """
    if lists_deep(fs):
        fs.invalidate_cache(root)
        found = _patiently(lambda: fs.find(root, detail=True), "a listing")
        return {path: info.get("size") or 0 for path, info in found.items()}
    sizes = {}
    for path in list_folder(fs, root, deep=True):
        with suppress(FileNotFoundError):
            sizes[path] = fs.size(path) or 0
    return sizes


def list_beginning(fs: fsspec.AbstractFileSystem, folder: str, beginning: str) -> list[str]:
    """The paths of all files below ``folder`` whose path there begins with ``beginning``: one listing, with patience.

    For S3 and its like alone (``lists_deep``). What other machines wrote is seen too. Raises StorageUnavailable.
    """
    fs.invalidate_cache(folder)
    try:
        return list(_patiently(lambda: fs.find(folder, prefix=beginning), "a listing"))
    except FileNotFoundError:
        return []


def find_files(fs: fsspec.AbstractFileSystem, root: str, depth: int | None = None) -> list[str]:
    """The paths of all files below ``root``, in at most ``depth`` levels of folders. ``root`` may also be a file.

    Raises OSError where a folder can't be listed. fsspec by itself leaves out all files of such a folder. Not missed
    are hidden folders, ``lost+found`` (on most drives root alone may list it), and a folder that was removed meanwhile.
    """
    if lists_deep(fs):
        return list(fs.find(root, maxdepth=depth))
    found: list[str] = []
    folders = [(root.rstrip("/") or "/", 1)]
    while folders:
        folder, level = folders.pop()
        try:
            entries = fs.ls(folder, detail=True)
        except FileNotFoundError:
            continue
        except OSError:
            name = os.path.basename(folder)
            if name == "lost+found" or name.startswith("."):
                continue
            raise
        for entry in entries:
            path = entry["name"].rstrip("/")
            if entry["type"] != "directory" or path == folder:
                found.append(path)
            elif depth is None or level < depth:
                folders.append((path, level + 1))
    return sorted(found)


def lists_deep(fs: fsspec.AbstractFileSystem) -> bool:
    """Whether this is S3 or its like: one listing gives all levels, and fails as a whole."""
    from fsspec.asyn import AsyncFileSystem

    return isinstance(fs, AsyncFileSystem) and type(fs)._find is not AsyncFileSystem._find


def remove_folder(fs: fsspec.AbstractFileSystem, folder: str) -> None:
    """Removes a folder with all files in it, where it is there. Raises StorageUnavailable; a local file that can't be
    removed is left."""
    if is_local(fs):
        shutil.rmtree(folder, ignore_errors=True)
        return
    # One request per file: many S3-compatible stores refuse the request for many files at once, since it lacks the MD5
    # that clients no longer send.
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        list(pool.map(fs.rm_file, list_folder(fs, folder, deep=True)))


def _not_written(path: str, error: Exception) -> OutputError:
    if not isinstance(error, OSError):
        return OutputError(f"can't write {path!r}: {error}")
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return OutputError(
        f"can't write {path!r}: {why_not_written(path, error)}; "
        + ("make room" if full else "name a place that can be written")
        + " and give the same command again"
    )


def _patiently(read: Callable[[], Answer], what: str) -> Answer:
    """``with_retries``, except that a file that is not there is FileNotFoundError at once."""

    def once() -> Answer | FileNotFoundError:
        try:
            return read()
        except FileNotFoundError as error:
            return error  # an answer, not an outage

    found = with_retries(once, what, PATIENCE_S)
    if isinstance(found, FileNotFoundError):
        raise found
    return found
