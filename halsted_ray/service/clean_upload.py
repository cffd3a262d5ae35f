"""The work of a cleaning job: the original of an upload becomes its clean copy, in the process of the job.

Whatever ends the process, the next try begins anew and overwrites what was left. Where the store is no folder, the
bytes are fetched to a folder of this machine that only this user can read; what a process that was killed left there
is removed by the next job of this machine.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halsted_ray.deidentify.clean import CleaningOptions, clean_file, has_text_reader, steps_of
from halsted_ray.errors import DecoderKilled, OutputError, StorageUnavailable, VideoError
from halsted_ray.service import temporary_room
from halsted_ray.service.playback import playback_of
from halsted_ray.service.poster import make_poster, store_poster
from halsted_ray.storage.locations import filesystem, local_path
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.probe import Probe

if TYPE_CHECKING:
    from halsted_ray.records import JsonObject

UNFINISHED_NAME = "unfinished.mp4"
WORK_FOLDERS = f"halsted-cleaning-{os.getuid()}"
"""The folder below that of temporary files in which each job on a remote store has one of its own."""


@dataclass(frozen=True)
class CleanRequest:
    """The job: the upload's bytes at ``original``, the clean copy at ``out``; both are places of one store. ``level``:
    full or metadata. ``duration_s``: of the video, for the progress."""

    original: str
    out: str
    level: str
    duration_s: float


@dataclass(frozen=True)
class CleanCopy:
    """The ``certificate``, not signed yet. ``clean``: the columns of a video that the clean copy decides."""

    certificate: JsonObject
    clean: JsonObject


def clean_upload(request: CleanRequest, on_progress: Callable[[float], None]) -> CleanCopy:
    """Cleans one upload. ``on_progress`` gets the seconds of video that are done.

    Raises VideoError where the file can't be cleaned, StorageUnavailable and OutputError where the store or the disk
    fails now.
    """
    has_text = has_text_reader()
    options = CleaningOptions(text=request.level == "full" and has_text, spans=request.level == "full")
    steps = steps_of(options)

    def tell(step: str, at_s: float) -> None:
        share = min(1.0, at_s / request.duration_s) if request.duration_s > 0 else 0.0
        on_progress((steps.index(step) + share) / len(steps) * request.duration_s)

    with at_hand(request.original, UNFINISHED_NAME) as (source, unfinished):
        unfinished.unlink(missing_ok=True)
        try:
            try:
                cleaned = clean_file(source, unfinished, options, on_progress=tell)
            except DecoderKilled:  # the first time can be the fault of the machine
                unfinished.unlink(missing_ok=True)
                cleaned = clean_file(source, unfinished, options, on_progress=tell)
            with DecodeProcess() as process:
                probe = process.probe(os.fspath(unfinished))
            poster = _store_poster(unfinished, probe, request.out)
            size_bytes = unfinished.stat().st_size
            store(unfinished, request.out)
        finally:
            unfinished.unlink(missing_ok=True)
    found = {name: getattr(probe, name) for name in ("duration_s", "width", "height", "fps", "codec")}
    found["playback"] = playback_of(probe)
    return CleanCopy(cleaned.certificate, {"size_bytes": size_bytes, "poster": poster, **found})


def _store_poster(clean: Path, probe: Probe, out: str) -> dict[str, Any] | None:
    """Makes the poster of a clean copy that comes to lie at ``out``: the column ``poster`` of its video. A video
    without a poster is as good as one with it, so nothing here fails the cleaning."""
    try:
        data, at_s = make_poster(os.fspath(clean), probe.duration_s, probe.width, probe.height)
        store_poster(out, data)
    except VideoError as error:
        return {"none": str(error)} if error.permanent else None
    except OutputError:
        return None  # it is made when somebody asks for it
    return {"at_s": at_s}


def store(unfinished: Path, out: str) -> None:
    """Gives the finished file its place, whole or not at all."""
    local = local_path(out)
    try:
        if local is not None:
            with open(unfinished, "rb") as file:
                os.fsync(file.fileno())  # the original is deleted next
            os.chmod(unfinished, 0o600)
            os.replace(unfinished, local)
            return
        fs, path = filesystem(out)
        fs.put_file(os.fspath(unfinished), path)
    except Exception as error:  # each store has errors of its own
        raise OutputError(f"the copy can't be stored now: {type(error).__name__}") from None


@contextmanager
def at_hand(original: str, name: str) -> Iterator[tuple[Path, Path]]:
    """(the file at ``original`` as a local file, where its copy is to be written: a file ``name``)."""
    local = local_path(original)
    if local is not None:
        yield Path(local), Path(local).with_name(name)
        return
    with work_folder() as folder:
        fs, path = filesystem(original)
        try:
            _check_room(fs.size(path) or 0)
            fs.get_file(path, str(folder / "original"))
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"the upload can't be fetched now: {os.strerror(error.errno or 0)}") from None
        except Exception as error:  # each store has errors of its own
            raise StorageUnavailable(f"the upload can't be fetched now: {type(error).__name__}") from None
        yield folder / "original", folder / name


def _check_room(size_bytes: int) -> None:
    """Raises OutputError where the folder of temporary files has no room for an upload and its clean copy: half of one
    would take the room of others, for nothing."""
    free, needed = temporary_room.free_bytes(), temporary_room.CLEANING_COPIES * size_bytes
    if needed > free:
        raise OutputError(
            f"the folder of temporary files has {free} bytes free, {needed} are needed to clean this upload; give it "
            "more room (TMPDIR)"
        )


@contextmanager
def work_folder() -> Iterator[Path]:
    """A new folder for one job, which is removed at the end. Folders whose process has ended are removed first: a
    process that lives holds a lock on its folder."""
    above = Path(tempfile.gettempdir()) / WORK_FOLDERS
    above.mkdir(mode=0o700, exist_ok=True)
    for left in above.iterdir():
        with suppress(OSError):  # its process lives, or another one removes it
            with _locked(left):
                shutil.rmtree(left)
    folder = Path(tempfile.mkdtemp(dir=above))
    with _locked(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder. Raises OSError where another process does."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
