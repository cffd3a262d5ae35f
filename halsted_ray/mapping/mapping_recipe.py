"""What a run asks of every segment, read from the model: the same recipe gives the same rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from halsted_ray.mapping.workflow import POSSIBLE, wanted_tasks
from halsted_ray.model.encoder import STEPS, Encoder
from halsted_ray.model.halsted import Halsted, ModelConfig
from halsted_ray.records import WindowSpec, digest
from halsted_ray.storage.locations import absolute_location


@dataclass(frozen=True)
class MappingRecipe:
    """Everything that decides what the rows of a segment are; its digest names what counts as finished."""

    model_digest: str
    encoder_fingerprint: str
    taxonomy_digest: str
    spec: WindowSpec
    tasks: tuple[str, ...]
    fidelity: str
    alone: bool = False
    """Every window is asked, instead of the multi-stage workflow."""

    @property
    def digest(self) -> str:
        stated = asdict(self)
        return digest(stated, "alone") if stated.pop("alone") else digest(stated, POSSIBLE)


def read_recipe(
    model: str,
    encoder: str | None,
    task: str | Sequence[str] | None,
    instruction: str | None,
    fidelity: str,
    windows: WindowSpec | None = None,
) -> tuple[MappingRecipe, str, ModelConfig, tuple[int, int]]:
    """(recipe, the encoder's reference, the model's description, size of the frames it wants). Reads all weights
    once and keeps none; raises ModelError, TaxonomyError."""
    loaded = Halsted.load(model)
    tasks = tuple(wanted_tasks(loaded.taxonomy, task, instruction))
    encoder = encoder or loaded.config.encoder_ref
    place = encoder.removesuffix(STEPS)
    if os.path.exists(place):
        encoder = absolute_location(place) + encoder[len(place) :]
    frozen = Encoder.load(encoder)
    loaded.check_encoder(frozen)
    recipe = MappingRecipe(
        loaded.digest,
        frozen.fingerprint,
        loaded.taxonomy.digest,
        windows or loaded.config.windows,
        tasks,
        fidelity,
        alone=windows is not None,
    )
    return recipe, encoder, loaded.config, frozen.image_size
