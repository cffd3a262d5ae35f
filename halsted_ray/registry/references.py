"""What a person may give as a model: a folder, a URL, or a version of the registry. ``resolve`` finds its folder.

Importing this file does not import MLflow, which takes seconds and which a plain folder does not need.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from halsted_ray.errors import RegistryError

MODEL = "halsted"
"""The registered model of the built-in taxonomy. Another taxonomy has one of its own (``registered_name``)."""
BUILT_IN = "halsted"
"""The name of the built-in taxonomy."""
FORM = re.compile(r"(?:registry:|models:/)(?P<name>[^@/:]+)(?:@(?P<alias>[^@/]+)|/(?P<number>\d+))")
EXPECTED = f"registry:{MODEL}@champion, registry:{MODEL}/7, or the same after models:/"


@dataclass(frozen=True)
class Reference:
    """Names a version by its alias or by its number; the other of the two is None."""

    name: str
    alias: str | None
    number: int | None

    def __str__(self) -> str:
        return f"{self.name}@{self.alias}" if self.alias else f"{self.name}/{self.number}"


def registered_name(taxonomy: str) -> str:
    """Returns the registered model of the taxonomy with this name: ``halsted``, or such as ``halsted-cholec80``.

    Models of different taxonomies give different answers, so none of them may replace another one in use.
    """
    return MODEL if taxonomy == BUILT_IN else f"{MODEL}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', taxonomy)}"


def parse(ref: str) -> Reference | None:
    """Returns the version that ``ref`` names; None for a folder or a URL. Raises RegistryError for a wrong form."""
    if not ref.startswith(("registry:", "models:/")):
        return None
    found = FORM.fullmatch(ref)
    if not found:
        raise RegistryError(f"{ref!r} names no version of the registry; expected {EXPECTED}")
    return Reference(found["name"], found["alias"], int(found["number"]) if found["number"] else None)


def resolve(ref: str, uri: str | None = None) -> str:
    """Returns the folder or URL of the model ``ref``.

    ``ref``: a folder or URL, which is returned as it is, or a version of the registry at ``uri`` (default: as in
    ``model_registry.Registry``). Raises RegistryError where the registry has no such version or can't be reached.
    """
    reference = parse(ref)
    if reference is None:
        return ref
    from halsted_ray.registry.model_registry import Registry  # imported here: it brings MLflow

    registry = Registry(uri, make=False)
    return registry.folder(registry.find(reference))
