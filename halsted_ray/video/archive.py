"""Which files of an archive are videos: a location is searched with all folders below it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from halsted_ray.errors import ArchiveError
from halsted_ray.storage.files import REQUESTS_AT_ONCE, lies_at
from halsted_ray.storage.locations import Location, filesystem, is_local, local_path, local_uri
from halsted_ray.storage.tree import FOLDER_MARKER, LISTED_ALREADY, FoundFile, Tree, read_tree
from halsted_ray.video import left_out
from halsted_ray.video.file_head import HEAD_BYTES, dicom_video, is_container, is_dicom

if TYPE_CHECKING:
    import fsspec

EXTENSIONS = (
    ".mp4",
    ".m4v",
    ".mov",
    ".qt",
    ".3gp",
    ".3g2",
    ".mkv",
    ".webm",
    ".ts",
    ".mts",
    ".m2ts",
    ".m2t",
    ".tp",
    ".trp",
    ".tod",
    ".avi",
    ".divx",
    ".mpg",
    ".mpeg",
    ".mpe",
    ".vob",
    ".vro",
    ".mod",
    ".m2p",
    ".asf",
    ".wmv",
    ".mxf",
    ".flv",
    ".f4v",
)
"""The ends of file names under which recorders and editors store the containers of ``container.DEMUXERS``; letter case
does not count."""

OTHERS = frozenset(
    ".txt .csv .tsv .json .jsonl .xml .yaml .yml .md .log .ini .cfg .html .htm .pdf .doc .docx .xls .xlsx .ppt .pptx "
    ".odt .rtf .jpg .jpeg .png .gif .bmp .tif .tiff .webp .heic .svg .thm .wav .mp3 .m4a .aac .flac .ogg .wma .zip .gz "
    ".tgz .bz2 .xz .7z .rar .tar .srt .vtt .ass .sub .idx .ifo .bup .cpi .mpl .bdm .xmp .db .sqlite .parquet .npy .npz "
    ".pt .safetensors .py .sh .exe .dll .lnk .url .ds_store .crc .md5 .sha1 .sha256 .bin .eaf .boris .smi".split()
)
"""Ends of file names of which no file is opened to see whether it is a video all the same."""
PROXIES = (".lrv", ".lrf")
"""GoPro's and DJI's small copies, which lie beside each video."""

HEADS_AT_MOST = 10_000
"""Files that are opened because their names do not say what they are: a second on a disk, 20 s on S3."""

LOOKS_A_THREAD = 100
"""Files that a thread looks at before it takes others: a disk answers sooner than a thread is asked."""
YOUNG_S = 60.0
"""A file that changed within this time before it was listed is looked at twice."""
SETTLE_S = 2.0
"""Seconds from the first look to the second. A run reads the model and probes files meanwhile, so that it waits for
less than this, once for all files, and only where there are young files."""


@dataclass(frozen=True)
class Skipped:
    """A file or folder of an archive that is left out, and why: ``reason`` is one of a few phrases, to be counted."""

    uri: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """What was found in an archive."""

    root: str
    """The archive's path on its file system."""
    uri: str
    videos: list[str]
    """Sorted uris."""
    skipped: list[Skipped]
    led_out: int = 0
    """Links that lead out of the archive, and that were followed."""
    looks: dict[str, tuple[int, int]] = field(default_factory=dict)
    """uri → (size in bytes, time of change in ns) of the videos; on a disk only, because a store shows an object when
    it is whole."""
    young: frozenset[str] = frozenset()
    """The videos that were written to shortly before."""
    listed_s: float = 0.0
    """When that was, by ``time.monotonic``."""

    def still_written(self, settle_s: float = SETTLE_S, sizes: Mapping[str, int] | None = None) -> list[str]:
        """The videos that changed since they were listed: they are still being written.

        Waits until ``settle_s`` have passed since then where there are young files; 0 looks at none. A recorder that
        makes its file as large as it will be changes the time, if not the size. ``sizes``: uri → size in bytes as it
        was found meanwhile; by this a file that grows is seen too where a network drive keeps its old time until it is
        closed. Not noticed: a writer that pauses for longer than ``settle_s``. Its file gets another id when it goes
        on, and the next run maps it anew.
        """
        if not settle_s:
            return []
        if self.young:
            time.sleep(max(0.0, self.listed_s + settle_s - time.monotonic()))
        changed = {uri for uri in self.young if _look(local_path(uri) or uri) != self.looks[uri]}
        grown = {uri for uri, size in (sizes or {}).items() if uri in self.looks and self.looks[uri][0] != size}
        return sorted(changed | grown)

    def holds(self, uri: str) -> bool:
        """Whether the file ``uri`` lies in this archive, or lay there."""
        path = filesystem(uri)[1]
        return path == self.root or path.startswith(self.root.rstrip("/") + "/")

    def messages(self) -> list[str]:
        """What to say about the files that are left out, and about links; counts alone, no names."""
        said = []
        if self.skipped:
            counts = ", ".join(f"{reason} ({count:,})" for reason, count in _counted(self.skipped))
            files = "1 file" if len(self.skipped) == 1 else f"{len(self.skipped):,} files"
            said.append(f"skipped {files} of the archive: {counts}")
        if self.led_out:
            links = "1 link" if self.led_out == 1 else f"{self.led_out:,} links"
            said.append(f"followed {links} out of the archive")
        return said


def list_videos(archive: Location, outside: str = "", say: Callable[[str], None] = lambda message: None) -> list[str]:
    """The uris of ``list_archive``; ``say`` gets its messages. Raises ArchiveError."""
    listing = list_archive(archive, outside)
    for message in listing.messages():
        say(message)
    return listing.videos


def list_archive(archive: Location, outside: str = "") -> Listing:
    """All videos at ``archive``, by uris: absolute paths of a local archive, else URLs (``s3://…``).

    ``archive`` may also be the location of one video. A video is a file with an end of ``EXTENSIONS``, and any other
    file that begins like a video. A DICOM file with a video counts, so that it fails with a reason. Left out, with a
    reason in ``Listing.skipped``: what ``left_out`` names, and files of Delta tables. Files in the folder ``outside``
    (our own output) and markers of folders are no files of the archive and are not counted. A link to a file that is
    not there is listed, because a recording is missing there; of several links to one file, and of a link and its file,
    one is listed.

    Raises ArchiveError where there is no video, or where the archive can't be listed.
    """
    archive = os.fspath(archive)
    try:
        fs, root = filesystem(archive)
        if not _lies_at(fs, root):
            raise ArchiveError(
                f"archive {archive!r}: expected a folder or bucket, got nothing of this name; check the path"
            )
        tree = read_tree(fs, root, left_out.folder_reason)
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
    listed_s = time.monotonic()
    videos, skipped = _sorted_out(fs, root.rstrip("/"), tree, filesystem(outside)[1].rstrip("/") if outside else "")
    uri_of = local_uri if is_local(fs) else fs.unstrip_protocol
    left = [
        Skipped(uri_of(path), reason)
        for path, reason in sorted([*tree.left_out, *skipped])
        if reason not in (FOLDER_MARKER, left_out.OF_THE_MAPS) or not videos
    ]
    if not videos:
        held = ", ".join(f"{count:,} {what}" for what, count in _counted(left, by_extension=True)[:8])
        raise ArchiveError(
            f"archive {archive!r}: expected videos ({' '.join(EXTENSIONS[:8])} …), got {held or 'no file at all'}; "
            "give the folder that holds the videos, or rename them"
        )
    uris = sorted(uri_of(path) for path in videos)
    looks = _looks(uris) if is_local(fs) else {}
    # A time in the future counts as young: clocks of recorders are wrong.
    newer_ns = time.time_ns() - int(YOUNG_S * 1e9)
    young = frozenset(uri for uri, (_, changed_ns) in looks.items() if changed_ns > newer_ns)
    return Listing(root, uri_of(root), uris, left, tree.led_out, looks, young, listed_s)


def skipped_of(listing: Listing, changing: Collection[str]) -> list[Skipped]:
    """``listing.skipped`` and the videos ``changing``, which are still being written."""
    return [*listing.skipped, *(Skipped(uri, left_out.BEING_WRITTEN) for uri in sorted(changing))]


def _sorted_out(
    fs: fsspec.AbstractFileSystem, root: str, tree: Tree, outside: str
) -> tuple[list[str], list[tuple[str, str]]]:
    """(paths of the videos, (path, reason) of the files that are left out)."""
    tables = {file.path.split("/_delta_log/")[0] for file in tree.files if "/_delta_log/" in file.path}
    real_outside = os.path.realpath(outside) if is_local(fs) else outside
    videos: list[FoundFile] = []
    unclear: list[FoundFile] = []
    skipped: list[tuple[str, str]] = []
    for file in tree.files:
        inside = PurePosixPath(file.path[len(root) :].lstrip("/") or PurePosixPath(file.path).name)
        suffix = inside.suffix.lower()
        if reason := left_out.name_reason(inside.parts):
            skipped.append((file.path, reason))
        elif any(file.path.startswith(table + "/") for table in tables):
            skipped.append((file.path, left_out.OF_A_TABLE))
        elif outside and (file.path.startswith(outside + "/") or file.real.startswith(real_outside + "/")):
            skipped.append((file.path, left_out.OF_THE_MAPS))
        elif suffix in EXTENSIONS:
            videos.append(file)
        elif suffix in PROXIES:
            skipped.append((file.path, left_out.PROXY))
        elif suffix in OTHERS:
            skipped.append((file.path, left_out.NO_VIDEO))
        else:
            unclear.append(file)
    for file, reason in zip(unclear, _reasons_by_head(fs, unclear), strict=True):
        if reason:
            skipped.append((file.path, reason))
        else:
            videos.append(file)
    # A link stands behind the file that it leads to, and of several links the first by name is taken.
    taken: set[str] = set()
    paths = []
    for file in sorted(videos, key=lambda file: (file.is_link, file.path)):
        if file.real in taken:
            skipped.append((file.path, LISTED_ALREADY))
        else:
            taken.add(file.real)
            paths.append(file.path)
    return paths, skipped


def _reasons_by_head(fs: fsspec.AbstractFileSystem, files: Sequence[FoundFile]) -> list[str]:
    """Why each of ``files`` is no video, '' where it is, told from its first bytes."""

    def reason(file: FoundFile) -> str:
        try:
            if is_local(fs) and not os.path.isfile(file.path):
                return left_out.NO_VIDEO  # a pipe would keep its reader waiting
            head = fs.cat_file(file.path, start=0, end=HEAD_BYTES)
        except Exception:  # a link to nothing, no right to read, an empty or archived object
            return left_out.NOT_LOOKED_AT
        if dicom_video(head) or is_container(head):
            return ""
        return left_out.DICOM if is_dicom(head) else left_out.NO_VIDEO

    # The first file of each folder, then the second: thousands of slices of one scan must not hide the other folders.
    seen: Counter[str] = Counter()
    ranks = []
    for number, file in enumerate(files):
        folder = os.path.dirname(file.path)
        seen[folder] += 1
        ranks.append((seen[folder], number))
    chosen = [number for _, number in sorted(ranks)[:HEADS_AT_MOST]]
    reasons = [left_out.NOT_LOOKED_AT] * len(files)
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        for number, told in zip(chosen, pool.map(lambda number: reason(files[number]), chosen), strict=True):
            reasons[number] = told
    return reasons


def _counted(skipped: Sequence[Skipped], by_extension: bool = False) -> list[tuple[str, int]]:
    """(reason, how many), the commonest first; ``by_extension`` tells files that are no videos by their ends."""

    def what(left: Skipped) -> str:
        if by_extension and left.reason == left_out.NO_VIDEO:
            return PurePosixPath(left.uri).suffix.lower() or "without an extension"
        return left.reason

    return Counter(what(left) for left in skipped).most_common()


def _looks(uris: Sequence[str]) -> dict[str, tuple[int, int]]:
    """``Listing.looks`` of local videos that are there."""

    def look_at(first: int) -> dict[str, tuple[int, int]]:
        some = uris[first : first + LOOKS_A_THREAD]
        return {uri: look for uri in some if (look := _look(local_path(uri) or uri)) is not None}

    looks: dict[str, tuple[int, int]] = {}
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:  # on a network drive each look is a request
        for found in pool.map(look_at, range(0, len(uris), LOOKS_A_THREAD)):
            looks |= found
    return looks


def _look(path: str) -> tuple[int, int] | None:
    """(size in bytes, time of change in ns) of a local file, None where it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


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
