"""What a location is: a path on this machine, or an fsspec file system and a path on it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from halsted_ray.errors import UsageError

if TYPE_CHECKING:
    import fsspec

Location = str | os.PathLike[str]
"""A local path or an fsspec URL (``s3://bucket/folder``)."""


def absolute_location(location: str) -> str:
    """A local path in full, without a slash at its end; a URL as it is.

    Worker processes have working directories of their own, so no relative path may be handed to them.
    """
    path = local_path(location)
    return (os.path.abspath(os.path.expanduser(path)) if path is not None else location).rstrip("/")


def local_path(location: Location) -> str | None:
    """The path where ``location`` is on this machine, else None.

    A path is taken literally: a name may hold ``::``, ``#`` or ``%``, which fsspec would read as its own syntax.
    """
    location = os.fspath(location)
    for prefix in ("file://", "local://"):
        if location.startswith(prefix):
            return location[len(prefix) :]
    return None if "://" in location else location


def filesystem(location: Location) -> tuple[fsspec.AbstractFileSystem, str]:
    """The fsspec file system of a location, and the absolute path on it.

    Raises UsageError where fsspec knows no such kind of location. Nothing is asked of the store yet.
    """
    import fsspec  # here, because the decoding process imports this module and must start quickly

    location = os.fspath(location)
    path = local_path(location)
    if path is not None:
        return fsspec.filesystem("file"), os.path.abspath(os.path.expanduser(path))
    try:
        if "::" in location:
            # A chained URL is fsspec's own syntax; a plain object key may hold "::" too and must not become a chain.
            protocol = location.split("://", 1)[0]
            if "::" not in protocol:
                fs = fsspec.filesystem(protocol)
                return fs, fs._strip_protocol(location)
        return fsspec.core.url_to_fs(location)
    except (ValueError, ImportError) as error:
        raise UsageError(f"{location!r}: {error}; expected a path, or a URL such as s3://bucket/folder") from error


def is_local(fs: fsspec.AbstractFileSystem) -> bool:
    """Whether the file system is this machine's own."""
    return "file" in fs.protocol
