"""Makes an index of a store's moments, and brings it up to date: new videos come in, deleted ones leave.

An index is made by choosing centres from a sample of the moments, and by writing a part per ``CHUNK_ROWS`` moments,
which are then merged list by list. So memory holds one chunk, and the archive is read once and its sample twice. What
changed since is a part of its own, with the same centres. A video that is gone is taken out of the file that held it.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from halsted_ray.errors import ModelError, UsageError
from halsted_ray.search.index_builder import MOST_LISTS, IndexBuilder, Progress, Projection, Refreshed
from halsted_ray.search.index_manifest import (
    Manifest,
    index_place,
    read_manifest,
    stored_contents,
    write_manifest,
)
from halsted_ray.search.index_parts import file_digest
from halsted_ray.storage.files import list_folder, make_local_folder
from halsted_ray.storage.lease import Lease
from halsted_ray.storage.locations import filesystem, local_path
from halsted_ray.storage.vectors import VectorStore

WORK = ".work-"
GROWN = 4.0
"""An index that has grown so many times since its centres were chosen is made anew, while it has fewer centres than
``MOST_LISTS``."""


def refresh(
    store: VectorStore, projection: Projection, progress: Progress = lambda done, of: None, anew: bool = False
) -> Refreshed:
    """Makes the index of a store or brings it up to date; ``anew``: makes it in any case.

    May be killed at any moment and repeated: until the manifest is replaced, the old index is what a search reads.
    Raises OutputError where another process does the same now, UsageError where nothing is stored or the package that
    chooses centres is not installed, ModelError for an index of another encoder.
    """
    projection.check(store)
    place = index_place(store, projection.name)
    with Lease(place, uuid.uuid4().hex[:16]) as lease, _work_folder(place) as folder:
        stored = stored_contents(store)
        if not stored:
            raise UsageError("the store holds no vectors to index; make some with halsted map or halsted embed")
        before = None if anew else read_manifest(store, projection.name)
        if before is not None and _has_outgrown(before, len(stored)):
            before = None
        builder = IndexBuilder(store, projection, place, folder, progress)
        done, manifest = builder.make(sorted(stored)) if before is None else builder.change(before, stored)
        lease.check()
        if manifest != before:
            write_manifest(store, projection.name, manifest)
        _remove_others(place, manifest)
    return done


def _has_outgrown(manifest: Manifest, videos: int) -> bool:
    known = sum(len(part.videos) for part in manifest.parts)
    rows = manifest.rows * videos / known if known else 0.0
    return not known or (manifest.lists < MOST_LISTS and rows > GROWN * manifest.trained_rows)


def check(store: VectorStore, name: str) -> int:
    """Reads every file of an index whole, and compares it with the digest that the manifest states: how many files.

    Raises ModelError for a file of another content, UsageError where there is no index.
    """
    manifest, place = read_manifest(store, name), index_place(store, name)
    if manifest is None:
        raise UsageError(f"there is no search index {name!r}; make it with halsted search-index")
    fs, root = filesystem(place)
    for file_name in sorted(manifest.files()):
        with fs.open(f"{root}/{file_name}", "rb") as file:
            found = file_digest(file)
        if found != file_name.split(".")[0]:
            raise ModelError(
                f"the search index's file {file_name!r} has other content than its manifest says ({found}); delete "
                "the folder .search beside the vectors, and give halsted search-index again"
            )
    return len(manifest.files())


def _remove_others(place: str, manifest: Manifest) -> None:
    """Removes files of the index that ``manifest`` does not name. A search that still reads them keeps them open."""
    fs, root = filesystem(place)
    for path in list_folder(fs, root):
        name = path.rsplit("/", 1)[-1]
        if name.endswith(".arrow") and name not in manifest.files():
            with suppress(OSError):
                fs.rm_file(path)


@contextmanager
def _work_folder(place: str) -> Iterator[Path]:
    """A folder for unfinished files, removed at the end: on the disk of the index where that is on this machine."""
    path = local_path(place)
    if path is not None:
        make_local_folder(path)
        _remove_abandoned(Path(path))
    with tempfile.TemporaryDirectory(prefix=WORK, dir=path) as folder:
        yield Path(folder)


def _remove_abandoned(place: Path) -> None:
    """Removes what killed runs left. The lease says that no other run works here."""
    for folder in place.glob(f"{WORK}*"):
        shutil.rmtree(folder, ignore_errors=True)
