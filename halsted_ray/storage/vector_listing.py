"""Which files of vectors lie in one folder of the store, found with few listings.

Files come and go while others write, pack and read. What makes that safe is an order: a packed file can be seen before
the files that it replaces are removed. So whoever lists looks for span files first and for packed files after that, and
sees every window at least once. A file may be gone when it is opened; then its windows lie in a newer file, and whoever
lists again finds them.
"""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from halsted_ray.storage.files import REQUESTS_AT_ONCE, list_beginning, list_folder, lists_deep
from halsted_ray.storage.locations import is_local
from halsted_ray.storage.vector_files import StoredFile, stored_file

if TYPE_CHECKING:
    import fsspec

RACY_NS = 2_000_000_000
"""A folder that changed this shortly before it was listed may have changed again within one tick of its file system's
clock, without a change of its time. So that listing is not used a second time."""
TRIES = 10
"""How often a folder is listed that changes while it is listed."""


class _Known(NamedTuple):
    """The root's listing, on this machine's disk."""

    changed_ns: int
    listed_ns: int
    paths: list[str]


class VectorListing:
    """The files of vectors below ``root``, the folder of one encoder and sampling. Safe to share between threads."""

    def __init__(self, fs: fsspec.AbstractFileSystem, root: str):
        self.fs, self.root = fs, root
        self._known: _Known | None = None
        self._packed: tuple[list[str], dict[str, list[StoredFile]]] | None = None

    def of_video(self, video_id: str) -> list[StoredFile]:
        """The files of one video by rank: one listing on S3 and its like. On a disk a listing of its folder, and one of
        the root where that has changed. Raises StorageUnavailable."""
        if lists_deep(self.fs):
            paths = list_beginning(self.fs, self.root, video_id)
            return _by_video(paths).get(video_id, [])
        spans = _by_video(list_folder(self.fs, f"{self.root}/{video_id}")).get(video_id, [])
        return _ranked([*self._packed_files().get(video_id, []), *spans])

    def of_all(self) -> dict[str, list[StoredFile]]:
        """video_id → its files by rank: one listing on S3 and its like. On a disk one of the root, and where videos are
        not packed, one of each such video and a second one of the root. Raises StorageUnavailable."""
        if lists_deep(self.fs):
            return _by_video(list_folder(self.fs, self.root, deep=True))
        paths = self._root_paths()
        folders = [path for path in paths if not path.endswith(".arrow")]
        folders = [path for path in folders if not posixpath.basename(path).startswith(".")]
        if folders:
            with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
                spans = [
                    path for found in pool.map(lambda folder: list_folder(self.fs, folder), folders) for path in found
                ]
            paths = [*spans, *self._root_paths()]  # in this order, since a video may have been packed in between
        return _by_video(paths)

    def holds_any(self) -> bool:
        """Whether there is a file, told by the listing of the root where a video is packed. Raises
        StorageUnavailable."""
        if not lists_deep(self.fs) and any(stored_file(path) for path in self._root_paths()):
            return True
        return bool(self.of_all())

    def _packed_files(self) -> dict[str, list[StoredFile]]:
        """video_id → packed files, on a disk."""
        paths, known = self._root_paths(), self._packed
        if known is None or known[0] is not paths:
            known = self._packed = (paths, _by_video(path for path in paths if path.endswith(".arrow")))
        return known[1]

    def _root_paths(self) -> list[str]:
        """What lies directly in the root, from the listing before where nothing was added or removed since."""
        if not is_local(self.fs):
            return list_folder(self.fs, self.root)
        for _ in range(TRIES):
            known, changed_ns = self._known, _changed_ns(self.root)
            if known and known.changed_ns == changed_ns and known.listed_ns - changed_ns > RACY_NS:
                return known.paths
            listed_ns = time.time_ns()
            paths = list_folder(self.fs, self.root)
            self._known = _Known(changed_ns, listed_ns, paths)
            if _changed_ns(self.root) == changed_ns:  # else a file that was renamed meanwhile may not be seen at all
                break
        return paths


def _changed_ns(folder: str) -> int:
    """When a file was last added to the local ``folder`` or removed from it; 0 where there is no such folder."""
    try:
        return os.stat(folder).st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _by_video(paths: Iterable[str]) -> dict[str, list[StoredFile]]:
    found: dict[str, dict[str, StoredFile]] = {}
    for path in paths:
        file = stored_file(path)
        if file is not None:
            found.setdefault(file.video_id, {})[path] = file
    return {video_id: _ranked(files.values()) for video_id, files in found.items()}


def _ranked(files: Iterable[StoredFile]) -> list[StoredFile]:
    return sorted(files, key=lambda file: file.rank)
