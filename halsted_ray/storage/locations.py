"""What a location is: a path on this machine, or an fsspec file system and a path on it.

A file's name on a disk is bytes, and need not be text. Python holds such a name as text with surrogates, which no
table, no JSON reader and no terminal takes. So a path that is not UTF-8 stands in tables, messages between machines and
exports as ``file+percent://`` and its percent-encoded bytes (``local_uri``). ``local_path`` and ``filesystem`` find the
file again by it. Every other name stands as it is, byte by byte: no normal form is applied, and a ``%`` means itself.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from halsted_ray.errors import UsageError

if TYPE_CHECKING:
    import fsspec

Location = str | os.PathLike[str]
"""A local path or an fsspec URL (``s3://bucket/folder``)."""

PERCENT_ENCODED = "file+percent://"
"""How the uri of a local path begins that is not UTF-8. No path begins so, since an absolute path has no ``//``."""


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
    if location.startswith(PERCENT_ENCODED):
        return unquote(location[len(PERCENT_ENCODED) :], errors="surrogateescape")
    for prefix in ("file://", "local://"):
        if location.startswith(prefix):
            return location[len(prefix) :]
    return None if "://" in location else location


def local_uri(path: str) -> str:
    """The uri of a local path, always UTF-8: the path itself where it is text, else ``file+percent://…``."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return PERCENT_ENCODED + quote(os.fsencode(path))
    return path


def printable(name: str) -> str:
    """A name or uri for people: control characters, line breaks and bytes that are not UTF-8 as ``\\n``, ``\\xfc`` and
    the like, so that a name takes one line and changes no terminal. Not reversible: a backslash stands as it is."""
    name = local_path(name) or name if name.startswith(PERCENT_ENCODED) else name
    return "".join(
        letter
        if letter.isprintable()
        else f"\\x{ord(letter) - 0xDC00:02x}"
        if 0xDC80 <= ord(letter) <= 0xDCFF
        else letter.encode("unicode_escape").decode()
        for letter in name
    )


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
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)  # "filecache" is another one
