"""The models that ship with this package: small ones, which know synthetic video only."""

from __future__ import annotations

from importlib import resources

SHIPPED = ("phantom",)
"""Names that stand for a model, wherever a model's folder or URL may stand."""


def model_location(ref: str) -> str:
    """Where the model ``ref`` lies: the folder of a model that ships, else ``ref`` itself."""
    return str(resources.files("halsted_ray.model") / "weights" / ref) if ref in SHIPPED else ref
