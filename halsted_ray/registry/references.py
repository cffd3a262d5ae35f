"""What may stand where a model is asked for: a folder, a URL, or a version of the registry."""

from __future__ import annotations

import re
from dataclasses import dataclass

from halsted_ray.errors import RegistryError

MODEL = "halsted"
"""The one registered model."""
FORM = re.compile(r"(?:registry:|models:/)(?P<name>[^@/:]+)(?:@(?P<alias>[^@/]+)|/(?P<number>\d+))")
EXPECTED = f"registry:{MODEL}@champion, registry:{MODEL}/7, or the same after models:/"


@dataclass(frozen=True)
class Reference:
    """A version by its alias or its number; the other one is None."""

    name: str
    alias: str | None
    number: int | None

    def __str__(self) -> str:
        return f"{self.name}@{self.alias}" if self.alias else f"{self.name}/{self.number}"


def parse(ref: str) -> Reference | None:
    """The version that ``ref`` names, None where it is a folder or a URL. Raises RegistryError when ill-formed."""
    if not ref.startswith(("registry:", "models:/")):
        return None
    found = FORM.fullmatch(ref)
    if not found:
        raise RegistryError(f"{ref!r} names no version of the registry; expected {EXPECTED}")
    return Reference(found["name"], found["alias"], int(found["number"]) if found["number"] else None)
