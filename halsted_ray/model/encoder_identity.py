"""Which encoder lies at a place, from a small file beside its weights: a run is planned without reading gigabytes.

The file is made once, on first use or by ``halsted encoder add``, from the weights themselves. It holds for the files
that lay there then: for their sizes, and for the content of the small ones. Whoever loads the weights computes the
fingerprint again (``Encoder.fingerprint``), so weights that were replaced by others of the same size are found out
before a vector is stored.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, dataclass, fields
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from halsted_ray.errors import OutputError, StorageUnavailable
from halsted_ray.model.checkpoint import TENSOR_FILES, JsonObject, locate
from halsted_ray.model.encoder import PRESETS, STEPS, Encoder
from halsted_ray.storage.files import read_json, write_json

if TYPE_CHECKING:
    import fsspec

IDENTITY_FILE = "halsted-encoder.json"
"""Its name in an encoder's folder. Beside a single file of weights the file's name stands before it."""
FORM = 1
"""Raised where the fingerprint of the same weights changes."""
SMALL_BYTES = 1 << 20
"""Smaller files, such as config.json, are read whole."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncoderIdentity:
    """What an encoder is, as ``Encoder`` says it: its reference, fingerprint, and the sizes of what it takes and gives.

    ``image_size``: (height, width) in pixels. ``dim``: width of a window's vector, ``steps * width``.
    """

    ref: str
    fingerprint: str
    image_size: tuple[int, int]
    frames: int
    width: int
    steps: int
    dim: int
    size_name: str

    @classmethod
    def of(cls, encoder: Encoder) -> EncoderIdentity:
        """The identity of a loaded encoder."""
        return cls(**{field.name: getattr(encoder, field.name) for field in fields(cls)})


def encoder_identity(ref: str) -> EncoderIdentity:
    """The identity of the encoder at ``ref`` (as ``Encoder.load`` takes it), without reading its weights where the file
    beside them holds.

    Else the weights are read once, and the file is written where the place can be written. Raises ModelError as
    ``Encoder.load``.
    """
    place = ref.removesuffix(STEPS)
    if place in PRESETS or place.startswith("random:"):  # these ship with the package, or are made from a seed
        return EncoderIdentity.of(Encoder.load(ref))
    kept, present = _kept(place)
    if kept.get("files") == present and ref.removeprefix(place) in kept["identities"]:
        stated = kept["identities"][ref.removeprefix(place)]
        return EncoderIdentity(**{**stated, "ref": ref, "image_size": tuple(stated["image_size"])})
    found = EncoderIdentity.of(Encoder.load(ref))
    identities = kept.get("identities", {}) if kept.get("files") == present else {}
    _keep(place, present, identities | {ref.removeprefix(place): asdict(found)})
    return found


def _kept(place: str) -> tuple[JsonObject, JsonObject]:
    """(what the file beside the weights says, what lies there now); empty where the first is missing or of another
    form."""
    fs, path = locate(place, "encoder")
    try:
        present = {"form": FORM, **_files(fs, path)}
        kept = read_json(_identity_place(place))
    except (OSError, ValueError, StorageUnavailable):
        return {}, {}
    return (kept if isinstance(kept, dict) and {"files", "identities"} <= kept.keys() else {}), present


def _files(fs: fsspec.AbstractFileSystem, path: str) -> JsonObject:
    """Name → size in bytes, or the digest of a small file, of everything that decides what the encoder is."""
    entries = fs.ls(path, detail=True) if fs.isdir(path) else [fs.info(path)]
    described: JsonObject = {}
    for entry in entries:
        name = PurePosixPath(entry["name"]).name
        if entry["type"] != "file" or name == IDENTITY_FILE or not name.endswith((*TENSOR_FILES, ".json")):
            continue
        is_small = entry["size"] < SMALL_BYTES
        described[name] = hashlib.sha256(fs.cat_file(entry["name"])).hexdigest() if is_small else entry["size"]
    return described


def _keep(place: str, present: JsonObject, identities: JsonObject) -> None:
    """Writes the file; a place that can't be written costs reading the weights each time, and is said."""
    if not present:
        fs, path = locate(place, "encoder")
        present = {"form": FORM, **_files(fs, path)}
    try:
        write_json(_identity_place(place), {"files": present, "identities": identities})
    except OutputError:
        log.warning("the encoder's place can't be written, so its weights are read at the start of every run")


def _identity_place(place: str) -> str:
    return f"{place}.{IDENTITY_FILE}" if place.endswith(TENSOR_FILES) else f"{place.rstrip('/')}/{IDENTITY_FILE}"
