"""From what stands where a model is asked for to the folder or URL that it lies at."""

from __future__ import annotations

from halsted_ray.registry.references import parse


def resolve(ref: str, uri: str | None = None) -> str:
    """The folder or URL of the model that ``ref`` names: a version of the registry at ``uri`` (None: as
    ``model_registry.Registry`` says), or ``ref`` itself. Raises RegistryError."""
    reference = parse(ref)
    if reference is None:
        return ref
    from halsted_ray.registry.model_registry import (
        Registry,  # here: MLflow takes seconds, and a plain folder needs none of it
    )

    registry = Registry(uri, make=False)
    return registry.folder(registry.find(reference))
