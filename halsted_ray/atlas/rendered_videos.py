"""Videos that a program makes: each is rendered in a folder of its own and appears in ``<location>/videos`` whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from halsted_ray.errors import OutputError
from halsted_ray.records import Video
from halsted_ray.storage.files import why_not_written
from halsted_ray.storage.locations import filesystem, local_path
from halsted_ray.video.identity import video_id
from halsted_ray.video.probe import probe


@contextmanager
def rendering_folder(location: str) -> Iterator[str]:
    """A folder on this machine for files that are being rendered, removed at the end with all that stopped processes
    left in it. It lies beside the videos where they are on this machine, so that a file appears whole, by a rename.
    Raises OutputError."""
    path = local_path(location)
    try:
        if path is not None:
            os.makedirs(os.path.join(path, "videos"), exist_ok=True)
        beside = os.path.join(path, "videos") if path is not None else None
        folder = tempfile.TemporaryDirectory(prefix=".", dir=beside, ignore_cleanup_errors=True)
    except OSError as error:
        raise cannot_write(location, error) from error
    with folder as name:
        yield name


def rendered_video(location: str, name: str, folder: str, render: Callable[[str], None]) -> Video:
    """What the file ``<location>/videos/<name>`` is, by its own bytes. Where it is missing, ``render(path)`` makes it
    first, in ``folder`` (of ``rendering_folder``). Raises OutputError."""
    fs, root = filesystem(location)
    target, uri = f"{root.rstrip('/')}/videos/{name}", f"{location.rstrip('/')}/videos/{name}"
    if not fs.exists(target):
        made = os.path.join(folder, name)
        try:
            render(made)
            if local_path(location) is not None:
                os.replace(made, target)
            else:
                fs.makedirs(os.path.dirname(target), exist_ok=True)
                fs.put_file(made, target)
                os.remove(made)
        except OSError as error:
            raise cannot_write(location, error) from error
    facts = probe(uri)
    return Video(
        video_id(fs, target), uri, facts.size_bytes, facts.duration_s, facts.width, facts.height, facts.fps, facts.codec
    )


def refuse_other_videos(location: str, names: set[str]) -> None:
    """Raises OutputError where ``<location>/videos`` holds files that are not among ``names``."""
    fs, path = filesystem(location)
    folder = f"{path.rstrip('/')}/videos"
    there = {Path(entry).name for entry in fs.ls(folder, detail=False)} if fs.exists(folder) else set()
    if others := {name for name in there if not name.startswith(".")} - names:
        raise OutputError(
            f"{location!r} already holds {len(others)} other file(s) in videos/ (other arguments, or another atlas); "
            "name an empty folder"
        )


def cannot_write(location: str, error: OSError) -> OutputError:
    """What to say where a video can't be written."""
    path = local_path(location)
    reason = error if path is None else why_not_written(os.path.join(path, "videos"), error)
    return OutputError(f"can't write videos to {location!r} ({reason}); name a place that you may write to")
