"""Vectors that someone brings for the videos of an atlas or archive get a place and an identity of their own."""

from __future__ import annotations

import posixpath
import re
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
from halsted_ray.model.brought import BroughtVectors, read_brought, write_brought, write_rows
from halsted_ray.records import Video
from halsted_ray.storage.files import require_writable
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
    """File → why it was refused."""
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
    OutputError.
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
    brought = read_brought(place)
    if brought is not None and brought.digest != digest:
        raise ModelError(
            f"vectors named {name!r} are there with the digest {brought.digest!r}, got {digest!r}; choose another name"
        )
    by_name: dict[str, list[Video]] = defaultdict(list)
    for video in videos:
        for known in {video.video_id, stem_of(video.uri), posixpath.basename(video.uri)}:
            by_name[known].append(video)
    refused: dict[str, str] = {}
    rows_read, taken = 0, dict[str, str]()
    for number, path in enumerate(files):
        observer.on_message(f"{number + 1:,} of {len(files):,} files") if number % 100 == 99 else None
        try:
            video = _video_of(path, by_name)
            if video.video_id in taken:
                raise ModelError(f"is of the same video as {taken[video.video_id]}; expected one file for each video")
            rows = read_vectors_file(path, video.duration_s, rate)
            width = rows.vectors_ND.shape[1]
            if brought is None:
                brought = BroughtVectors(name, digest, width)
            if width != brought.dim:
                raise ModelError(f"has vectors of width {width}, expected {brought.dim} as in the other files")
            if brought.rows.get(video.video_id, rows.digest()) != rows.digest():
                raise ModelError("differs from what was imported for this video before; choose another --name")
        except ModelError as error:
            refused[path] = str(error)
            continue
        taken[video.video_id] = path
        rows_read += len(rows.time_s_N)
        if video.video_id not in brought.rows:
            write_rows(place, video.video_id, rows)
            brought = replace(brought, rows={**brought.rows, video.video_id: rows.digest()})
    if brought is None:
        first = next(iter(refused))
        raise ModelError(f"none of {len(files):,} files could be used; the first: {first} {refused[first]}")
    write_brought(place, brought)
    without = tuple(video.video_id for video in videos if video.video_id not in brought.rows)
    return ImportedVectors(place, brought.fingerprint, brought.dim, len(brought.rows), rows_read, refused, without)


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
