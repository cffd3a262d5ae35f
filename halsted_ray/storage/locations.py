"""What a location is: a path on this machine, or an fsspec file system and a path on it."""

from __future__ import annotations

import os


def absolute_location(location: str) -> str:
    """Workers have a working directory of their own: a local path must not be relative."""
    path = local_path(location)
    return (os.path.abspath(os.path.expanduser(path)) if path is not None else location).rstrip("/")


def local_path(location: str | os.PathLike) -> str | None:
    """The path when ``location`` is on this machine, else None. A path is taken as it is: a name may hold ``::``,
    ``#`` or ``%``, which fsspec would read as its own syntax."""
    location = os.fspath(location)
    for prefix in ("file://", "local://"):
        if location.startswith(prefix):
            return location[len(prefix) :]
    return None if "://" in location else location


def filesystem(location: str | os.PathLike):
    """(fsspec file system, path on it) of a location."""
    import fsspec  # here, because the decoding process imports this module and must start quickly

    path = local_path(location)
    if path is not None:
        return fsspec.filesystem("file"), os.path.abspath(path)
    if "::" in location:
        # A chained URL is fsspec's own syntax; a plain object key may hold "::" too and must not become a chain.
        protocol = location.split("://", 1)[0]
        if "::" not in protocol:
            fs = fsspec.filesystem(protocol)
            return fs, fs._strip_protocol(location)
    return fsspec.core.url_to_fs(location)
