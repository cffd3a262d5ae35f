"""Which files of an archive are videos: a location is searched with all folders below it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from halsted_ray.errors import ArchiveError
from halsted_ray.storage.files import find_files, lies_at
from halsted_ray.storage.locations import Location, filesystem, is_local, local_path

if TYPE_CHECKING:
    import fsspec

EXTENSIONS = (
    ".mp4",
    ".m4v",
    ".mov",
    ".qt",
    ".3gp",
    ".mkv",
    ".webm",
    ".ts",
    ".mts",
    ".m2ts",
    ".m2t",
    ".avi",
    ".divx",
    ".mpg",
    ".mpeg",
    ".mpe",
    ".vob",
    ".m2p",
    ".asf",
    ".wmv",
    ".mxf",
    ".flv",
    ".f4v",
)
"""The ends of file names under which recorders and editors store the containers of ``container.DEMUXERS``; letter case
does not count."""


def list_videos(archive: Location, outside: str = "", say: Callable[[str], None] = lambda message: None) -> list[str]:
    """URIs of all videos at ``archive``, sorted: absolute paths of a local archive, else URLs (``s3://…``).

    ``archive`` may also be the location of one video. These files are left out: files whose name begins with a dot,
    files in a folder whose name begins with a dot, files of Delta tables, and files in the folder ``outside`` (our own
    output). A link to a file that is not there is listed, because a recording is missing there. ``say`` gets a message
    with the number of files that do not have a video's name.

    Raises ArchiveError where there is no video, or where the archive can't be listed.
    """
    archive = os.fspath(archive)
    try:
        fs, root = filesystem(archive)
        if not _lies_at(fs, root):
            raise ArchiveError(
                f"archive {archive!r}: expected a folder or bucket, got nothing of this name; check the path"
            )
        found = find_files(fs, root)
    except ArchiveError:
        raise
    except PermissionError as error:
        raise ArchiveError(
            f"archive {archive!r}: no permission to list {error.filename or 'a part of it'!r}, so its videos would be "
            "missing from the maps; ask for the permission, or name a folder without this part"
        ) from error
    except Exception as error:
        raise ArchiveError(
            f"archive {archive!r}: could not be listed ({type(error).__name__}: {error}); check the location, "
            "its end point and the credentials"
        ) from error
    root = root.rstrip("/")
    tables = {str(PurePosixPath(path).parent).split("/_delta_log")[0] for path in found if "/_delta_log/" in path}
    is_on_disk = local_path(archive) is not None
    videos: list[str] = []
    hidden: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for path in found:
        uri = path if is_on_disk else str(fs.unstrip_protocol(path))
        inside = PurePosixPath(path[len(root) :].lstrip("/") or PurePosixPath(path).name)
        if any(part.startswith(".") for part in inside.parts):
            hidden["hidden"] += 1
        elif any(path.startswith(table + "/") for table in tables):
            hidden["of a Delta table"] += 1
        elif outside and uri.startswith(f"{outside.rstrip('/')}/"):
            hidden["of the maps"] += 1
        elif inside.suffix.lower() in EXTENSIONS:
            videos.append(uri)
        else:
            others[inside.suffix.lower() or "without an extension"] += 1
    if not videos:
        held = ", ".join(f"{count} {kind}" for kind, count in (others + hidden).most_common(8)) or "no file at all"
        raise ArchiveError(
            f"archive {archive!r}: expected videos ({' '.join(EXTENSIONS[:8])} …), got {held}; "
            "give the folder that holds the videos, or rename them"
        )
    if skipped := others.total():
        say("skipped 1 file that is not a video" if skipped == 1 else f"skipped {skipped:,} files that are not videos")
    return sorted(videos)


def _lies_at(fs: fsspec.AbstractFileSystem, root: str) -> bool:
    """Whether there is anything at ``root``. Raises an error of the store where this can't be told: for fsspec's
    ``exists`` a store that is away holds nothing."""
    if is_local(fs):
        return lies_at(root)
    try:
        fs.info(root)
    except FileNotFoundError:
        return False
    return True
