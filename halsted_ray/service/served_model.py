"""Which model is served: a ``ModelSource`` says its version, place and lineage, and looks again every few seconds.

    <folder>/model.json               the folder is the model; a model written over it is a new version
    <folder>/champion                 a text file that names one of the models in the folder, such as ``7``
    <folder>/7/model.json             changing the name in ``champion`` swaps the model, changing it back rolls back
    registry:halsted@champion         the version of the registry that the alias names at the time

This module reads ``model.json`` only: no weights and no torch, so that every replica can afford it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from fsspec import AbstractFileSystem

from halsted_ray.errors import ModelError, UsageError
from halsted_ray.model.shipped import model_location
from halsted_ray.registry.references import Reference, parse
from halsted_ray.storage.locations import filesystem
from halsted_ray.taxonomy import Taxonomy, from_dict

log = logging.getLogger(__name__)
POINTER = "champion"
"""The name of the file that names the model to serve."""
CARDS = ("MODEL_CARD.md", "README.md")
LINEAGE = ("training.json",)
"""Looked for beside the model and in the folder above it, where training leaves it."""
SHOWN = ("samples", "parameters", "accuracy_of_task", "accuracy_of_tag")
"""What ``GET /v1/models`` shows of the summary of the training."""


class ModelStamp(TypedDict):
    """What every answer says about its model."""

    name: str
    version: str
    digest: str
    atlas_release: str


@dataclass(frozen=True)
class ServedModel:
    """A model as it is served. ``digest`` names its content, so that two contents are never the same version.

    ``path``: the folder or URL of the model. ``lineage``: how it was made. ``card``: its model card, if it has one.
    """

    version: str
    path: str
    digest: str
    name: str
    atlas_release: str
    encoder_ref: str
    encoder_fingerprint: str
    taxonomy: Taxonomy
    lineage: dict[str, Any]
    card: str | None

    def described(self) -> dict[str, Any]:
        """What ``GET /v1/models`` shows. It holds no path."""
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            "atlas_release": self.atlas_release,
            "encoder": self.encoder_fingerprint,
            "taxonomy": self.taxonomy.name,
            "taxonomy_digest": self.taxonomy.digest,
            "lineage": self.lineage,
            "card": self.card,
            "instructions": {
                task.instruction: {tag.name: list(tag.categories) for tag in task.tags} for task in self.taxonomy.tasks
            },
        }

    @property
    def stamp(self) -> ModelStamp:
        """What every answer says about its model."""
        return {"name": self.name, "version": self.version, "digest": self.digest, "atlas_release": self.atlas_release}


class ModelSource:
    """A callable that returns the model to serve now. It looks again at most every ``keep_s`` seconds.

    While it can't look (the registry does not answer, a pointer is wrong), it returns the model that it found last.
    Raises UsageError where it never found one.
    """

    def __init__(self, look: Callable[[], ServedModel], keep_s: float = 0.0) -> None:
        self._look, self.keep_s = look, keep_s
        self._found: ServedModel | None = None
        self._looked_s = 0.0

    @property
    def known(self) -> ServedModel | None:
        """The model to serve now, where that is known without a look; else None. It does not wait for a store."""
        return self._found if time.monotonic() - self._looked_s < self.keep_s else None

    def __call__(self) -> ServedModel:
        """The model to serve now."""
        if self.known is None:
            try:
                self._found = self._look()
            except UsageError as error:
                if self._found is None:
                    raise
                log.warning("version %s is still served: %s", self._found.version, error)
            self._looked_s = time.monotonic()
        assert self._found is not None, "a look that finds nothing the first time raises"
        return self._found


def model_source(location: str, keep_s: float = 0.0) -> ModelSource:
    """The source for a site's setting HALSTED_MODEL: a folder, a URL, or a version of the registry."""
    reference = parse(location)
    return ModelSource(lambda: from_registry(reference) if reference else from_folder(location), keep_s)


def from_registry(reference: Reference) -> ServedModel:
    """The model of a version of the registry; its lineage also holds the version's number, aliases and tags. Raises
    RegistryError, ModelError."""
    from halsted_ray.registry.model_registry import Registry  # mlflow takes 3 s to import: only who uses it pays

    registry = Registry(make=False)
    version = registry.find(reference)
    served = from_folder(registry.folder(version))
    return replace(
        served,
        lineage=served.lineage
        | {
            "registry_version": version.number,
            "aliases": list(version.aliases),
            "run_id": version.run_id,
            "created_ms": version.created_ms,
            "tags": version.tags,
        },
    )


def from_folder(location: str) -> ServedModel:
    """The model in a folder or at a URL, or the model that the file ``champion`` there names, or a model that ships.
    Raises ModelError."""
    location = model_location(location)
    fs, root = filesystem(location)
    root = root.rstrip("/")
    pointed = _read(fs, f"{root}/{POINTER}")
    if pointed is not None:
        name = pointed.decode().strip()
        if not name or "/" in name or name.startswith("."):
            raise ModelError(f"the file {POINTER!r} holds {name!r}; expected the name of a folder beside it")
        root, location = f"{root}/{name}", f"{location.rstrip('/')}/{name}"
    text = _read(fs, f"{root}/model.json")
    if text is None:
        raise ModelError(
            f"no model at {location!r}: expected model.json or a file {POINTER!r} that names a folder; "
            "train one (`make demo` leaves one in demo/model/model) or set HALSTED_MODEL"
        )
    try:
        described = json.loads(text)
        config = described["config"]
        taxonomy = from_dict(described["taxonomy"], f"taxonomy of model {location!r}")
        return ServedModel(
            version=config["version"],
            path=location,
            digest=hashlib.sha256(text).hexdigest()[:16],
            name=config["name"],
            atlas_release=config["atlas_release"],
            encoder_ref=config["encoder_ref"],
            encoder_fingerprint=config["encoder_fingerprint"],
            taxonomy=taxonomy,
            lineage=_lineage(fs, root),
            card=_first(fs, root, CARDS),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"model {location!r}: model.json can't be used: {error}") from error


def _lineage(fs: AbstractFileSystem, root: str) -> dict[str, Any]:
    """The run that made the model and its results. Paths on the machine that trained it are left out."""
    text = _first(fs, root, LINEAGE)
    found = json.loads(text) if text else {}
    summary = found.get("summary", {})
    return {"run_id": found.get("run_id"), **{name: summary.get(name) for name in SHOWN}} if found else {}


def _first(fs: AbstractFileSystem, root: str, names: tuple[str, ...]) -> str | None:
    """The text of the first of these files that is in the folder or in the folder above it."""
    for folder in (root, root.rsplit("/", 1)[0]):
        for name in names:
            found = _read(fs, f"{folder}/{name}")
            if found is not None:
                return found.decode(errors="replace")
    return None


def _read(fs: AbstractFileSystem, path: str) -> bytes | None:
    """The content of a file; None where there is none."""
    try:
        return bytes(fs.cat_file(path))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
