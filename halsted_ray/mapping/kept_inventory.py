"""What is known of the files of an archive between two runs that leave no maps, beside the vectors that they make.

    <embeddings>/.inventory/<digest of the archive's place>.json    the files, as they were probed
    <embeddings>/.inventory/packet-indexes/                         as ``maps.packet_indexes``

50,000 files take half an hour to probe, and the packets of some files must be read once. No store of vectors has a name
that begins with a dot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from halsted_ray.maps.table_schemas import ArchiveFile
from halsted_ray.records import Video, digest
from halsted_ray.storage.files import list_folder, read_json, write_json
from halsted_ray.storage.locations import filesystem

FORM = 1
"""Of the file; a file of another form is made anew."""


class KeptInventory:
    """The files of the archive at ``archive``, kept beside the vectors at ``embeddings``."""

    def __init__(self, embeddings: str, archive: str):
        self.folder = f"{embeddings.rstrip('/')}/.inventory"
        self.place = f"{self.folder}/{digest('archive', archive)}.json"

    def read(self) -> dict[str, ArchiveFile]:
        """uri → entry, of the files that the last run probed; empty before the first. Raises StorageUnavailable."""
        return {entry.video.uri: entry for entry in _entries(self.place)}

    def write(self, entries: Sequence[ArchiveFile]) -> None:
        """Keeps ``entries``, all files of the archive. Raises OutputError."""
        write_json(self.place, {"form": FORM, "files": [asdict(entry) for entry in entries]})


def kept_files(embeddings: str) -> list[ArchiveFile]:
    """The files of every archive that was embedded into the store at ``embeddings``. Raises StorageUnavailable."""
    fs, root = filesystem(embeddings)
    paths = list_folder(fs, f"{root.rstrip('/')}/.inventory")
    names = sorted(path.rsplit("/", 1)[-1] for path in paths if path.endswith(".json"))
    return [entry for name in names for entry in _entries(f"{embeddings.rstrip('/')}/.inventory/{name}")]


def _entries(place: str) -> list[ArchiveFile]:
    try:
        kept = read_json(place)
    except (FileNotFoundError, ValueError):  # a power cut may leave a file empty; it is made anew
        return []
    if not isinstance(kept, Mapping) or kept.get("form") != FORM:
        return []
    return [ArchiveFile(**{**row, "video": Video(**row["video"])}) for row in kept["files"]]
