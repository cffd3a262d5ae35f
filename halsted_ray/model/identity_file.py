"""The small file beside an encoder's weights that says what they are, so that nobody reads gigabytes to find out.

It holds for the files that lay there when it was written: for their sizes, for the content of the small ones, and by
its digests for the content of the weights. Whoever loads the weights checks the digests.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import fsspec

from halsted_ray.errors import ModelError, OutputError, StorageUnavailable
from halsted_ray.model.checkpoint import TENSOR_FILES, JsonObject, locate
from halsted_ray.model.file_digests import digest_file
from halsted_ray.storage.files import read_json, write_json

IDENTITY_FILE = "halsted-encoder.json"
"""Its name in an encoder's folder. Beside a single file of weights the file's name stands before it."""
FORM = 1
"""Raised where the fingerprint of the same weights changes."""
SMALL_BYTES = 1 << 20
"""Smaller files, such as config.json, are read whole."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IdentityFile:
    """What the file says.

    ``files``: name → size in bytes, or sha256 of a small file, of everything that decides what the encoder is.
    ``identities``: what follows the place in a reference ('' or ``#steps``) → the fields of an ``EncoderIdentity``.
    ``digests``: name → sha256 of each file of weights; empty in files of earlier versions.
    """

    files: JsonObject = field(default_factory=dict)
    identities: JsonObject = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def check(self, found: dict[str, str], ref: str) -> None:
        """Raises ModelError where the weights that were loaded have other digests than stated."""
        for name, digest in found.items():
            if self.digests.get(name) != digest:
                raise ModelError(
                    f"encoder {ref!r}: the content of {name} has the sha256 {digest[:16]}…, its "
                    f"{IDENTITY_FILE} states {self.digests.get(name, 'none')[:16]}…; the weights were replaced or "
                    f"damaged: copy them again, or accept them with `halsted encoder add`"
                )


def read_identity_file(place: str) -> IdentityFile | None:
    """What the file beside the weights at ``place`` says; None where there is none that holds for what lies there."""
    fs, path = locate(place, "encoder")
    try:
        present = describe_files(fs, path)
        kept = read_json(_identity_place(place))
    except (OSError, ValueError, StorageUnavailable):
        return None
    if not isinstance(kept, dict) or kept.get("files") != present or not isinstance(kept.get("identities"), dict):
        return None
    digests = kept.get("digests", {})
    return IdentityFile(present, kept["identities"], digests if isinstance(digests, dict) else {})


def write_identity_file(place: str, identities: JsonObject, digests: dict[str, str]) -> None:
    """Writes the file; a place that can't be written costs reading the weights each time, and is said."""
    fs, path = locate(place, "encoder")
    content = {"files": describe_files(fs, path), "identities": identities, "digests": digests}
    try:
        write_json(_identity_place(place), content)
    except OutputError:
        log.warning("the encoder's place can't be written, so its weights are read at the start of every run")


def remove_identity_file(place: str) -> None:
    """Removes the file, where there is one. Raises OutputError."""
    fs, path = locate(_identity_place(place), "encoder")
    try:
        fs.rm_file(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{_identity_place(place)!r} states other weights and can't be removed: {error}") from error


def describe_files(fs: fsspec.AbstractFileSystem, path: str) -> JsonObject:
    """``IdentityFile.files`` of what lies at ``path`` now. Raises OSError."""
    described: JsonObject = {"form": FORM}
    for entry in _entries(fs, path):
        is_small = entry["size"] < SMALL_BYTES
        name = PurePosixPath(entry["name"]).name
        described[name] = hashlib.sha256(fs.cat_file(entry["name"])).hexdigest() if is_small else entry["size"]
    return described


def digest_weights(place: str) -> dict[str, str]:
    """Name → sha256 of each file of weights at ``place``. Reads them whole. Raises OSError."""
    fs, path = locate(place, "encoder")
    weights = [entry["name"] for entry in _entries(fs, path) if entry["name"].endswith(TENSOR_FILES)]
    return {PurePosixPath(name).name: digest_file(fs, name) for name in weights}


def _entries(fs: fsspec.AbstractFileSystem, path: str) -> list[JsonObject]:
    """What decides what the encoder is: its weights and its settings, without the identity file itself."""
    entries = fs.ls(path, detail=True) if fs.isdir(path) else [fs.info(path)]
    return [
        entry
        for entry in entries
        if entry["type"] == "file"
        and PurePosixPath(entry["name"]).name != IDENTITY_FILE
        and entry["name"].endswith((*TENSOR_FILES, ".json"))
    ]


def _identity_place(place: str) -> str:
    return f"{place}.{IDENTITY_FILE}" if place.endswith(TENSOR_FILES) else f"{place.rstrip('/')}/{IDENTITY_FILE}"
