"""Whole files at any location: written so that no reader ever sees a part, read with patience."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress

from halsted_ray.errors import OutputError, StorageUnavailable, UnreadableVideo
from halsted_ray.storage.locations import absolute_location, filesystem
from halsted_ray.storage.retry import PATIENCE_S, with_retries


def write_atomically(fs, path: str, data: bytes) -> None:
    """Writes a file so that no reader ever sees a part of it. Raises OutputError; waits for a remote store as long
    as reading does."""
    try:
        if "file" in fs.protocol:
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
            with_retries(lambda: fs.pipe_file(path, data), "the place to write to", PATIENCE_S)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise OutputError(
            f"can't write {path!r}: {error.strerror or error}; "
            + ("make room" if full else "name a place that can be written")
            + " and give the same command again"
        ) from error
    except (StorageUnavailable, UnreadableVideo) as error:
        raise OutputError(f"can't write {path!r}: {error}") from error


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
        reason = error.__cause__ if isinstance(error, OutputError) else error
        raise OutputError(f"can't write to {location!r}: {reason}; name a folder that can be written") from error


def read_file(fs, path: str) -> bytes:
    """A file's bytes; waits for a remote store. Raises FileNotFoundError, StorageUnavailable."""
    if "file" in fs.protocol:
        return fs.cat_file(path)
    return _patiently(lambda: fs.cat_file(path), "a stored result")


def list_folder(fs, folder: str, deep: bool = False) -> list[str]:
    """Paths under ``folder``, none where it is not there; what other machines wrote is seen too. Waits likewise."""
    fs.invalidate_cache(folder)
    read = (lambda: fs.find(folder)) if deep else (lambda: fs.ls(folder, detail=False))
    try:
        return read() if "file" in fs.protocol else _patiently(read, "a listing")
    except (FileNotFoundError, NotADirectoryError):
        return []


def _patiently(read: Callable, what: str):
    def once():
        try:
            return read()
        except FileNotFoundError as error:
            return error  # an answer, not an outage

    found = with_retries(once, what, PATIENCE_S)
    if isinstance(found, FileNotFoundError):
        raise found
    return found
