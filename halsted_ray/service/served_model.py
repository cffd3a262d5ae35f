"""Which model is served: a source says (version, place, lineage), and is asked again every few seconds.

    <folder>/model.json               the folder is the model; another one written over it is a new version
    <folder>/champion                 a text file that names one of the folder's models, such as ``7``
    <folder>/7/model.json             moving the pointer swaps the model, moving it back is the rollback
    registry:halsted@champion         a version of the registry, as its alias moves

Reads ``model.json`` only: no weights and no torch, so that every replica can afford it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from halsted_ray.errors import ModelError, UsageError
from halsted_ray.registry.references import Reference, parse
from halsted_ray.storage.locations import filesystem
from halsted_ray.taxonomy import Taxonomy, from_dict

log = logging.getLogger(__name__)
POINTER = "champion"
CARDS = ("MODEL_CARD.md", "README.md")
LINEAGE = ("training.json",)
"""Beside the model or in the folder above it, as training leaves it."""
SHOWN = ("samples", "parameters", "accuracy_of_task", "accuracy_of_tag")


@dataclass(frozen=True)
class Release:
    """One model as it is served. ``digest`` names its content, so the same version is never two things."""

    version: str
    path: str
    digest: str
    name: str
    atlas_release: str
    encoder_ref: str
    encoder_fingerprint: str
    taxonomy: Taxonomy
    lineage: dict
    card: str | None

    def described(self) -> dict:
        """What ``GET /v1/models`` shows; no path."""
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
    def stamp(self) -> dict:
        """What every answer carries."""
        return {"name": self.name, "version": self.version, "digest": self.digest, "atlas_release": self.atlas_release}


class ModelSource:
    """Called, it gives what is to be served now; it asks at most every ``keep_s``. While there is no answer (the
    registry is away, a pointer is wrong) the last one holds. Raises UsageError where there is none yet."""

    def __init__(self, ask: Callable[[], Release], keep_s: float = 0.0):
        self._ask, self.keep_s = ask, keep_s
        self._kept: Release | None = None
        self._asked_s = 0.0

    def __call__(self) -> Release:
        if self._kept is None or time.monotonic() - self._asked_s >= self.keep_s:
            try:
                self._kept = self._ask()
            except UsageError as error:
                if self._kept is None:
                    raise
                log.warning("version %s goes on serving: %s", self._kept.version, error)
            self._asked_s = time.monotonic()
        return self._kept


def source_of(location: str, keep_s: float = 0.0) -> ModelSource:
    """The source that a site's setting names: a folder, a URL, or a version of the registry."""
    reference = parse(location)
    return ModelSource(lambda: from_registry(reference) if reference else from_folder(location), keep_s)


def from_registry(reference: Reference) -> Release:
    """The model of a version, with its number and its tags beside the lineage. Raises RegistryError, ModelError."""
    from halsted_ray.registry.model_registry import Registry  # 3 s of mlflow, for those who use it

    registry = Registry(make=False)
    version = registry.find(reference)
    release = from_folder(registry.folder(version))
    return replace(
        release,
        lineage=release.lineage
        | {
            "registry_version": version.number,
            "aliases": list(version.aliases),
            "run_id": version.run_id,
            "created_ms": version.created_ms,
            "tags": version.tags,
        },
    )


def from_folder(location: str) -> Release:
    """The model in, or pointed at from, a folder or fsspec URI."""
    fs, root = filesystem(location)
    root = root.rstrip("/")
    pointed = _read(fs, f"{root}/{POINTER}")
    if pointed is not None:
        name = pointed.decode().strip()
        if not name or "/" in name or name.startswith("."):
            raise ModelError(f"the pointer {POINTER!r} reads {name!r}; expected the name of a folder beside it")
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
        return Release(
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


def _lineage(fs, root: str) -> dict:
    """The run that made the model and how it did; places on the machine that trained it are left out."""
    text = _first(fs, root, LINEAGE)
    found = json.loads(text) if text else {}
    summary = found.get("summary", {})
    return {"run_id": found.get("run_id"), **{name: summary.get(name) for name in SHOWN}} if found else {}


def _first(fs, root: str, names: tuple[str, ...]) -> str | None:
    for folder in (root, root.rsplit("/", 1)[0]):
        for name in names:
            found = _read(fs, f"{folder}/{name}")
            if found is not None:
                return found.decode(errors="replace")
    return None


def _read(fs, path: str) -> bytes | None:
    try:
        return fs.cat_file(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
