"""A model by whatever names it: a folder, a URL, a version of the registry, or one that ships."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halsted_ray.registry.references import resolve

if TYPE_CHECKING:
    from halsted_ray.model.halsted import Halsted


def load_model(ref: str = "phantom", *, registry: str | None = None, device: str = "cpu") -> Halsted:
    """Loads a model and its taxonomy; its encoder is loaded by ``load_encoder()``.

    >>> from halsted_ray import load_model
    >>> model = load_model("phantom")
    >>> [task.name for task in model.taxonomy.tasks]
    ['macro', 'micro', 'proficiency', 'context']

    Args:
        ref: A folder, a URL, ``registry:halsted@champion``, ``registry:halsted/7``, or ``phantom``, the small model
            that ships and knows synthetic video only.
        registry: MLflow's URI. None: ``MLFLOW_TRACKING_URI``, else ``sqlite:///mlflow.db``.
        device: Where the decoder computes: ``cpu``, ``cuda``.

    Raises:
        ModelError: There is no model at ``ref``, or it can't be read.
        RegistryError: The registry can't be reached, or has no such version.
    """
    from halsted_ray.model.halsted import Halsted  # torch takes seconds to import

    return Halsted.load(resolve(ref, registry), device)
