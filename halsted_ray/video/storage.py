"""Where the bytes are: a local path, or a file behind fsspec that is read by ranges.

Credentials and end points come from the environment, as fsspec and the client libraries read them
(``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ``FSSPEC_S3_…``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from halsted_ray.errors import StorageUnavailable, UnreadableVideo
from halsted_ray.video.ranges import RangeFile

REFUSALS = ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "ProfileNotFound")
"""Of botocore, by name since it need not be installed: no wait helps."""

PATIENCE_S = 60.0
"""How long a read is tried again before the video is put off: a store that restarts is back within it."""


class ShortRead(OSError):
    """The store gave fewer bytes than were asked for, though the file has them."""


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


def fetcher(location: str, patience_s: float = PATIENCE_S) -> tuple[Callable[[int, int], bytes], int]:
    """(``fetch(start, stop) -> bytes``, size in bytes) of a remote file; both try again for ``patience_s``.

    Raises UnreadableVideo where the file is not there, StorageUnavailable where it can't be fetched now.
    """
    fs, path = filesystem(location)
    size_bytes = patiently(lambda: fs.size(path), "its size", patience_s)
    if size_bytes is None:
        raise UnreadableVideo("expected a file of known size to read by ranges, got a stream; copy it to a store first")

    def fetch_once(start: int, stop: int) -> bytes:
        data = fs.cat_file(path, start=start, end=stop)
        if len(data) != stop - start:  # the file is being written, or the store is in trouble
            raise ShortRead
        return data

    def fetch(start: int, stop: int) -> bytes:
        return patiently(lambda: fetch_once(start, stop), f"bytes [{start}, {stop})", patience_s)

    return fetch, size_bytes


def patiently(read: Callable, what: str, patience_s: float):
    """``read()``, tried again with growing pauses until ``patience_s`` are over. Raises StorageUnavailable then, and
    at once where the right to read is missing; UnreadableVideo where there is no such file."""
    started_s = time.monotonic()
    pause_s = 0.25
    while True:
        try:
            return read()
        except (FileNotFoundError, IsADirectoryError) as error:
            raise UnreadableVideo(
                f"expected a file, got {type(error).__name__}: it was moved or deleted after the archive was listed, "
                "or is a link to a file that is not there; bring it back, or remove the link, and run again"
            ) from None  # the cause carries the file's name, which may be a patient's
        except (TypeError, AttributeError, NameError, KeyError):
            raise  # a bug, here or in the file system's package; it would not pass by waiting
        except Exception as error:
            waited_s = time.monotonic() - started_s
            if isinstance(error, PermissionError) or type(error).__name__ in REFUSALS:
                raise StorageUnavailable(
                    f"was refused {what}: {type(error).__name__}; give this account the right to read it, or check "
                    "the credentials, then run again"
                ) from None
            if waited_s + pause_s > patience_s:
                raise StorageUnavailable(
                    f"could not fetch {what} within {waited_s:.0f} s: {type(error).__name__}; check the store and the "
                    "network, then run again"
                ) from None
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 5.0)


def open_source(location: str | os.PathLike) -> str | RangeFile:
    """What ``container.open_video`` takes: a local path, or the remote file as ranges."""
    path = local_path(location)
    return path if path is not None else RangeFile(*fetcher(os.fspath(location)))
