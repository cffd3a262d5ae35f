"""The videos of an archive: any fsspec location, searched to the bottom."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import PurePosixPath

from halsted_ray.errors import ArchiveError
from halsted_ray.storage.locations import filesystem, local_path

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
"""Names by which recorders and editors store what ``container.DEMUXERS`` opens; upper or lower case."""


def list_videos(
    archive: str | os.PathLike, outside: str = "", say: Callable[[str], None] = lambda message: None
) -> list[str]:
    """URIs of all videos at ``archive``, sorted: absolute paths when it is local, ``s3://…`` and the like when not.

    A single video's location gives itself. Left out: names that begin with a dot, what lies in a folder whose name
    begins with a dot, Delta tables, and what lies in the folder ``outside`` (our own output). Links that lead nowhere
    are listed: a recording is missing there. ``say`` is told how many files have no video's name. Raises
    ArchiveError where there is none, or nothing can be listed.
    """
    archive = os.fspath(archive)
    try:
        fs, root = filesystem(archive)
        if not fs.exists(root):
            raise ArchiveError(
                f"archive {archive!r}: expected a folder or bucket, got nothing of this name; check the path"
            )
        found = fs.find(root)
    except ArchiveError:
        raise
    except Exception as error:
        raise ArchiveError(
            f"archive {archive!r}: could not be listed ({type(error).__name__}: {error}); check the location, "
            "its end point and the credentials"
        ) from error
    root = root.rstrip("/")
    tables = {str(PurePosixPath(path).parent).split("/_delta_log")[0] for path in found if "/_delta_log/" in path}
    is_local = local_path(archive) is not None
    videos, hidden, others = [], Counter(), Counter()
    for path in found:
        uri = path if is_local else str(fs.unstrip_protocol(path))
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
