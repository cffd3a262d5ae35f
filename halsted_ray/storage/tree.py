"""Every file below a location, each once: links on a disk are followed, and a link that runs in a circle is named."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from halsted_ray.storage.files import find_files, lists_deep
from halsted_ray.storage.locations import is_local

if TYPE_CHECKING:
    import fsspec

CIRCLE = "a link in a circle"
LISTED_ALREADY = "a link to what is listed under another name"
NOT_PERMITTED = "no permission to follow or list"
SNAPSHOT = "in a snapshot of the drive"
"""Of a folder that is not even counted: a drive keeps dozens of snapshots, each with all files of the archive."""
FOLDER_MARKER = "a folder's marker in the store"
SLASH_AT_THE_END = "a key that ends with a slash, by which no file is found"


@dataclass(frozen=True)
class FoundFile:
    """One file below a location."""

    path: str
    """Its path on the file system, below the location that was searched."""
    real: str
    """Its path without links; the same as ``path`` where no link is on the way."""
    is_link: bool = False
    """Whether it is a link to a file."""


@dataclass
class Tree:
    """What lies below a location."""

    files: list[FoundFile] = field(default_factory=list)
    """In order of their paths. A link to a file that is not there is a file too: whoever opens it is told."""
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """(path, reason) of links, folders and keys that were not followed or looked into."""
    led_out: int = 0
    """Links that were followed to a place outside of the location."""


def read_tree(fs: fsspec.AbstractFileSystem, root: str, closed: Callable[[str], str] = lambda name: "") -> Tree:
    """All files below ``root``, or ``root`` itself where it is a file.

    ``closed(name)``: why the files of a folder of this name are left out, '' where they are not. Object stores list all
    levels at once, so there it is not asked. On a disk every folder is listed once, by its name without links where it
    has such a name below ``root``. Raises OSError where a folder can't be listed, but for closed folders and
    ``lost+found`` (on most drives root alone may list it), which stand in ``left_out``; a folder that was removed
    meanwhile is not missed.
    """
    if is_local(fs):
        return _Walk(root, closed).tree if os.path.isdir(root) else Tree([FoundFile(root, root)])
    tree = Tree()
    for path, size_bytes in _remote_files(fs, root):
        # Consoles and old tools make empty objects such as "videos/" or "videos_$folder$" so that a folder shows up.
        if not size_bytes and path.endswith(("/", "_$folder$")):
            tree.left_out.append((path, FOLDER_MARKER))
        elif path.endswith("/"):
            tree.left_out.append((path, SLASH_AT_THE_END))
        else:
            tree.files.append(FoundFile(path, path))
    return tree


def _remote_files(fs: fsspec.AbstractFileSystem, root: str) -> list[tuple[str, int]]:
    """(path, size in bytes) of all files; the size is 0 where the store's listing does not say it."""
    if lists_deep(fs):
        return [(path, info.get("size") or 0) for path, info in sorted(fs.find(root, detail=True).items())]
    return [(path, 0) for path in find_files(fs, root)]


class _Walk:
    """One walk through a local folder: real folders first, so that a folder goes by its own name, then links."""

    def __init__(self, root: str, closed: Callable[[str], str]):
        self.tree = Tree()
        self.root = os.path.realpath(root)
        self.closed = closed
        self.links: deque[str] = deque()
        self.listed = {self.root}
        """Paths without links of the folders that were looked into."""
        self._list(root.rstrip("/"), self.root)
        while self.links:
            self._follow(self.links.popleft())
        self.tree.files.sort(key=lambda file: file.path)
        self.tree.left_out.sort()

    def _list(self, folder: str, real: str) -> None:
        """Lists ``folder`` to the bottom and notes its links. ``real`` is its path without links."""
        folders = [(folder, real)]
        links = []
        while folders:
            folder, real = folders.pop()
            try:
                with os.scandir(folder or "/") as found:
                    entries = list(found)
            except FileNotFoundError:
                continue
            for entry in entries:
                path, real_path = f"{folder}/{entry.name}", f"{real.rstrip('/')}/{entry.name}"
                if entry.is_symlink():
                    links.append(path)
                elif not entry.is_dir(follow_symlinks=False):
                    self.tree.files.append(FoundFile(path, real_path))
                elif reason := self.closed(entry.name):
                    self._leave_out(path, reason)
                elif real_path in self.listed:  # a link led into it before
                    self.tree.left_out.append((path, LISTED_ALREADY))
                else:
                    self.listed.add(real_path)
                    folders.append((path, real_path))
        self.links.extend(sorted(links))

    def _leave_out(self, folder: str, reason: str) -> None:
        """Notes every file of a closed folder, without following links, or the folder alone."""
        if reason == SNAPSHOT:
            self.tree.left_out.append((folder, reason))
            return

        def refused(error: OSError) -> None:
            self.tree.left_out.append((str(error.filename), NOT_PERMITTED))

        for path, _, names in os.walk(folder, onerror=refused):
            self.tree.left_out += [(f"{path}/{name}", reason) for name in names]

    def _follow(self, link: str) -> None:
        """Lists what ``link`` leads to, or notes why not."""
        real = os.path.realpath(link)
        try:
            is_folder = stat.S_ISDIR(os.stat(link).st_mode)
        except FileNotFoundError:
            self.tree.files.append(FoundFile(link, real, is_link=True))
            return
        except PermissionError:
            self.tree.left_out.append((link, NOT_PERMITTED))
            return
        except OSError:  # too many levels of links
            self.tree.left_out.append((link, CIRCLE))
            return
        if is_folder:
            if _lies_in(self.root, real) or _lies_in(os.path.realpath(os.path.dirname(link)), real):
                self.tree.left_out.append((link, CIRCLE))
                return
            if real in self.listed:
                self.tree.left_out.append((link, LISTED_ALREADY))
                return
            if reason := self.closed(os.path.basename(link)) or self.closed(os.path.basename(real)):
                self._leave_out(link, reason)
                return
            self.listed.add(real)
            self._list(link, real)
        else:
            self.tree.files.append(FoundFile(link, real, is_link=True))
        if not _lies_in(real, self.root):
            self.tree.led_out += 1


def _lies_in(path: str, folder: str) -> bool:
    """Whether ``path`` is ``folder`` or lies below it; both without links."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")
