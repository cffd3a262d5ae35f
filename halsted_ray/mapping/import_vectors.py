"""Vectors that someone brings for the videos of an atlas or archive get a place and an identity of their own."""

from __future__ import annotations

import posixpath
import re
import secrets
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from halsted_ray.atlas import read_atlas
from halsted_ray.compute.progress import QUIET, RunObserver
from halsted_ray.embedding.brought_files import list_files, read_vectors_file, stem_of
from halsted_ray.errors import AtlasError, ModelError, UsageError
from halsted_ray.mapping.kept_inventory import KeptInventory
from halsted_ray.mapping.run_plan import settled_inventory
from halsted_ray.maps.packet_indexes import PacketIndexes
from halsted_ray.model.brought import BroughtVectors, brought_at, write_brought, write_rows
from halsted_ray.records import Video
from halsted_ray.storage.files import require_writable
from halsted_ray.storage.lease import Lease
from halsted_ray.storage.locations import absolute_location
from halsted_ray.video.archive import SETTLE_S, list_archive

FOLDER = ".brought"
"""Below the store; no store of vectors has a name that begins with a dot."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class ImportedVectors:
    """What an import did."""

    encoder: str
    """What to give as the encoder: the folder of these vectors."""
    fingerprint: str
    dim: int
    videos: int
    """Videos whose vectors are there now, with those of earlier imports."""
    rows: int
    """Rows that this import read."""
    refused: dict[str, str]
    """What tells a file without its name, which may be private (``named``) → why it was refused."""
    refused_files: dict[str, str]
    """The same → the file."""
    without: tuple[str, ...]
    """Ids of videos of the atlas or archive that have no vectors."""

    @property
    def exit_code(self) -> int:
        """0 where every file was taken, else 3."""
        return 3 if self.refused else 0


def import_vectors(
    folder: str,
    of: str,
    embeddings: str,
    name: str,
    digest: str,
    *,
    rate: float | None = None,
    observer: RunObserver = QUIET,
) -> ImportedVectors:
    """Takes the files of vectors in ``folder``, one per video of the atlas or archive at ``of``.

    A file bears the name of its video, or its video_id. ``embeddings``: the store at which they are kept. ``name`` and
    ``digest``: what made them, such as a model's name and the sha256 of its weights; both are their identity. ``rate``:
    rows per second of files without times.

    A file that can't be used is refused with a reason and leaves the others alone. The same call may be repeated.

    Raises UsageError (name, digest, rate), ModelError (no file; the name is taken by other vectors), ArchiveError,
    OutputError, StorageUnavailable.
    """
    if not NAME.fullmatch(name) or not digest.strip():
        raise UsageError(
            f"name {name!r} and digest {digest!r}: expected a name of letters, digits, '.', '_' and '-', and the "
            "digest of what made the vectors, such as the sha256 of the weights"
        )
    if rate is not None and rate <= 0:
        raise UsageError(f"rate {rate:g}: expected rows per second, above 0")
    embeddings = absolute_location(embeddings)
    files = list_files(absolute_location(folder))
    require_writable(embeddings)
    videos = videos_of(absolute_location(of), embeddings, observer)
    place = f"{embeddings.rstrip('/')}/{FOLDER}/{name}"
    with Lease(place, secrets.token_hex(6), observer.on_message):
        return _taken(files, videos, place, name, digest, rate, observer)


def _taken(
    files: Sequence[str],
    videos: Sequence[Video],
    place: str,
    name: str,
    digest: str,
    rate: float | None,
    observer: RunObserver,
) -> ImportedVectors:
    """What an import of ``files`` did, which adds to the vectors that earlier imports left at ``place``."""
    brought = brought_at(place)
    if brought is not None and brought.digest != digest:
        raise ModelError(
            f"vectors named {name!r} are there with the digest {brought.digest!r}, got {digest!r}; choose another name"
        )
    by_name: dict[str, list[Video]] = defaultdict(list)
    for listed in videos:
        for known in {listed.video_id, stem_of(listed.uri), posixpath.basename(listed.uri)}:
            by_name[known].append(listed)
    refused, refused_files = dict[str, str](), dict[str, str]()
    rows_read, taken, made = 0, dict[str, int](), dict[str, str]()
    for number, path in enumerate(files, 1):
        observer.on_message(f"{number:,} of {len(files):,} files") if number % 100 == 0 else None
        video: Video | None = None
        try:
            video = _video_of(path, by_name)
            if video.video_id in taken:
                raise ModelError(
                    f"is of the same video as file {taken[video.video_id]}; expected one file for each video"
                )
            rows = read_vectors_file(path, video.duration_s, rate)
            width = rows.vectors_ND.shape[1]
            if brought is None:
                brought = BroughtVectors(name, digest, width)
            if width != brought.dim:
                raise ModelError(f"has vectors of width {width}, expected {brought.dim} as in the other files")
            if brought.rows.get(video.video_id, rows.digest()) != rows.digest():
                raise ModelError("differs from what was imported for this video before; choose another --name")
        except ModelError as error:
            refused[named(number, video)] = str(error)
            refused_files[named(number, video)] = path
            continue
        taken[video.video_id] = number
        rows_read += len(rows.time_s_N)
        if video.video_id not in brought.rows:
            write_rows(place, video.video_id, rows)
            made[video.video_id] = rows.digest()
    if brought is None:
        first = next(iter(refused))
        raise ModelError(f"none of {len(files):,} files could be used; the first: {first} {refused[first]}")
    brought = replace(brought, rows={**brought.rows, **made})
    write_brought(place, brought)
    without = tuple(video.video_id for video in videos if video.video_id not in brought.rows)
    return ImportedVectors(
        encoder=place,
        fingerprint=brought.fingerprint,
        dim=brought.dim,
        videos=len(brought.rows),
        rows=rows_read,
        refused=refused,
        refused_files=refused_files,
        without=without,
    )


def named(number: int, video: Video | None) -> str:
    """What tells a file without its name: its ``number`` in the order of names, from 1, and its video where it has
    one."""
    return f"file {number}" if video is None else f"file {number}, of video {video.video_id},"


def videos_of(of: str, embeddings: str, observer: RunObserver) -> Sequence[Video]:
    """The videos of the atlas at ``of``, else of the archive there. Raises ArchiveError."""
    try:
        return read_atlas(of).videos
    except AtlasError:
        listing = list_archive(of, outside=embeddings)
        kept = KeptInventory(embeddings, listing.uri)
        entries, _ = settled_inventory(listing, kept.read(), PacketIndexes(kept.folder), False, SETTLE_S, observer)
        kept.write(entries)
        return [entry.video for entry in entries if entry.is_mapped]


def _video_of(path: str, by_name: dict[str, list[Video]]) -> Video:
    found = by_name.get(stem_of(path), [])
    if len(found) != 1:
        raise ModelError(
            "bears the name of no video of the atlas or archive"
            if not found
            else f"bears the name of {len(found)} videos; name it by its video_id"
        )
    return found[0]
