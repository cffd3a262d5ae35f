"""What a run asks of every segment, read from the model: the same recipe gives the same rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from halsted_ray.embedding.vector_names import run_precision
from halsted_ray.errors import UsageError
from halsted_ray.mapping.workflow import LEAST_PROBABILITY, wanted_tasks
from halsted_ray.model.encoder import STEPS
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.model.model_file import ModelConfig, read_stated_model
from halsted_ray.records import PICTURES, WindowSpec, digest
from halsted_ray.refining.refinement import KINDS, refinement_digest
from halsted_ray.storage.locations import absolute_location
from halsted_ray.video.presence import LEAST_PRESENT


@dataclass(frozen=True)
class MappingRecipe:
    """Everything that decides what the rows of a segment are. Its digest names what counts as finished, so the names
    of these fields must not change: they are digested too."""

    model_digest: str
    encoder_fingerprint: str
    taxonomy_digest: str
    spec: WindowSpec
    tasks: tuple[str, ...]
    fidelity: str
    alone: bool = False
    """Whether every window is asked the tasks alone, instead of the multi-stage workflow."""
    least_present: float = LEAST_PRESENT
    """Share of a window's time that must have a picture (``video.presence``)."""
    eye: str = "left"
    """Which picture of a stereo pair is read."""
    precision: str = "fp32"
    """In which the encoder runs: one of ``model.precision.PRECISIONS``."""

    of_operation: tuple[str, ...] = ()
    """Tags that are stated once for the whole operation."""
    refinement: str = ""
    """Kind and digest of the refinement, '' where the answers of the windows stand."""

    @property
    def digest(self) -> str:
        """16 hex digits: the name of the recipe in tables and in the staging folder."""
        stated = asdict(self)
        for name in ("of_operation", "refinement"):  # as before there were any
            if not stated[name]:
                del stated[name]
        how = "alone" if stated.pop("alone") else LEAST_PROBABILITY
        if stated["precision"] == "fp32":  # as before there were others
            del stated["precision"]
        return digest(stated, PICTURES, how)


@dataclass(frozen=True)
class RecipeSource:
    """A recipe, and what else a run must know of the model that it was read from."""

    recipe: MappingRecipe
    model: str
    encoder: str
    """Where the model and its encoder lie."""
    config: ModelConfig
    image_size: tuple[int, int]
    """(height, width) of the frames that the encoder wants."""
    refine: str = ""
    """The kind of refinement: one of ``refining.refinement.KINDS``, or '' for none."""


def read_recipe(
    model: str,
    encoder: str | None,
    task: str | Sequence[str] | None,
    instruction: str | None,
    fidelity: str,
    windows: WindowSpec | None = None,
    least_present: float = LEAST_PRESENT,
    eye: str = "left",
    vectors: str = "",
    precision: str | None = None,
    refine: str = "",
) -> RecipeSource:
    """Reads the recipe from the model at ``model``.

    ``encoder``: where the model's encoder lies (None: where the model says). ``task`` and ``instruction``: what is
    asked, as ``workflow.wanted_tasks`` takes them. ``windows``: every window of these lengths is asked, instead of the
    multi-stage workflow. ``least_present``: share of a window's time that must have a picture. ``eye``: one of
    ``video.geometry.EYES``. ``vectors`` and ``precision``: the location and the precision that
    ``embedding.vector_names.run_precision`` takes. ``refine``: one of ``refining.refinement.KINDS``, or ''.
    Reads no weights, but for an encoder that nobody has read before (``encoder_identity``). Raises TaxonomyError,
    UsageError, and ModelError, also where the model has no refinement.
    """
    if refine and refine not in KINDS:
        raise UsageError(f"unknown refinement {refine!r}; expected one of {', '.join(KINDS)}")
    if refine and windows is not None:
        raise UsageError(
            "windows of other lengths than the model's can't be refined; leave either the windows or the refinement out"
        )
    stated = read_stated_model(model)
    tasks = tuple(wanted_tasks(stated.taxonomy, task, instruction))
    encoder = absolute_encoder(encoder or stated.config.encoder_ref)
    identity = encoder_identity(encoder)
    stated.check_encoder(identity)
    recipe = MappingRecipe(
        stated.digest,
        identity.fingerprint,
        stated.taxonomy.digest,
        identity.windows(windows) if windows else stated.config.windows,
        tasks,
        fidelity,
        alone=windows is not None,
        least_present=least_present,
        eye=eye,
        precision=run_precision(vectors, identity, precision),
        of_operation=()
        if windows is not None
        else tuple(tag.name for name in tasks for tag in stated.taxonomy.task(name).tags if tag.per == "operation"),
        refinement=f"{refine}-{refinement_digest(model)}" if refine else "",
    )
    return RecipeSource(recipe, model, encoder, stated.config, identity.image_size, refine)


def absolute_encoder(ref: str) -> str:
    """The reference of an encoder that means the same in every process: a local place by its absolute path."""
    place = ref.removesuffix(STEPS)
    return absolute_location(place) + ref[len(place) :] if os.path.exists(place) else ref
