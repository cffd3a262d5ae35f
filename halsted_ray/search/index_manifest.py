"""What an index holds: a JSON file beside its parts, replaced whole. A reader sees the old index or the new one.

    <store>/<encoder>/<sampling>/.search/<name>/index.json

``name`` is ``like`` for moments as they are stored, and ``text-<fingerprint>`` for moments that a text model projects.
The folder begins with a dot: listings of the store pass over it.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from halsted_ray.errors import ModelError
from halsted_ray.records import digest
from halsted_ray.storage.files import read_bytes, write_bytes
from halsted_ray.storage.vector_files import StoredFile
from halsted_ray.storage.vectors import VectorStore

FORM = 1
"""Changes with the form of the files and with how moments are made. An index of another form is made anew."""
NAMED = re.compile(r"[0-9a-f]{32}\.(part|centres)\.arrow")


@dataclass(frozen=True)
class IndexPart:
    """A file of moments. ``videos``: the id of each of its videos, by number; ``contents``: what was stored of each
    when it was read (``content_of``). ``digest``: of the file's content; its name states it too."""

    name: str
    size_bytes: int
    digest: str
    rows: int
    videos: list[str]
    contents: list[str]


@dataclass(frozen=True)
class Manifest:
    """An index. ``encoder``, ``sampling``: whose vectors it holds. ``mean``: what all vectors have in common, float
    [D], taken from each before its length is made 1. ``trained_rows``: moments when the centres were chosen."""

    encoder: str
    sampling: str
    dim: int
    lists: int
    mean: list[float]
    trained_rows: int
    centres: str
    parts: list[IndexPart] = field(default_factory=list)
    form: int = FORM

    @property
    def mean_D(self) -> np.ndarray:
        """float32 [D]."""
        return np.array(self.mean, np.float32)

    @property
    def rows(self) -> int:
        """Moments in all parts."""
        return sum(part.rows for part in self.parts)

    def contents(self) -> dict[str, str]:
        """video_id → what was stored of it when it was read."""
        return {
            video: content for part in self.parts for video, content in zip(part.videos, part.contents, strict=True)
        }

    def files(self) -> set[str]:
        """The names of all files of the index beside this one."""
        return {self.centres, *(part.name for part in self.parts)}


def index_place(store: VectorStore, name: str) -> str:
    """Where the index ``name`` of a store lies."""
    return f"{store.location.rstrip('/')}/{store.encoder}/{store.sampling}/.search/{name}"


def read_manifest(store: VectorStore, name: str) -> Manifest | None:
    """The index ``name`` of a store; None where there is none, or one of an earlier form. Raises ModelError for an
    index of other vectors and one that can't be read."""
    place = index_place(store, name)
    try:
        found = json.loads(read_bytes(f"{place}/index.json"))
        if found["form"] != FORM:
            return None
        manifest = Manifest(**{**found, "parts": [IndexPart(**part) for part in found["parts"]]})
        named = all(NAMED.fullmatch(name) for name in manifest.files())
        sized = all(len(part.videos) == len(part.contents) for part in manifest.parts)
        if not named or not sized or len(manifest.mean) != manifest.dim or manifest.lists < 1:
            raise ValueError("its fields contradict each other")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"the search index at {place!r} can't be read ({error}); delete this folder, and give halsted "
            "search-index again"
        ) from error
    if (manifest.encoder, manifest.sampling) != (store.encoder, store.sampling):
        raise ModelError(
            f"the search index at {place!r} is of vectors of encoder {manifest.encoder} and sampling "
            f"{manifest.sampling}, expected {store.encoder} and {store.sampling}; delete this folder, and give halsted "
            "search-index again"
        )
    return manifest


def write_manifest(store: VectorStore, name: str, manifest: Manifest) -> None:
    """Makes ``manifest`` the index from now on. Raises OutputError."""
    value: dict[str, Any] = asdict(manifest)
    write_bytes(f"{index_place(store, name)}/index.json", json.dumps(value, separators=(",", ":")).encode())


def stored_contents(store: VectorStore) -> dict[str, str]:
    """video_id → ``content_of`` its files, of every video of a store, by listings alone."""
    return {video_id: content_of(files) for video_id, files in store.listing.of_all().items()}


def content_of(files: list[StoredFile]) -> str:
    """A short name of what is stored of a video. It changes when windows are added or encoded anew."""
    if len(files) == 1 and files[0].is_packed:
        return files[0].content
    return digest(*sorted(file.path.rsplit("/", 1)[-1] for file in files))
