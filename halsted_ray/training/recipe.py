"""A recipe: every choice that decides the trained weights, as one frozen value; learning rate and save rule.

A run is named by its recipe, so the same recipe on the same atlas is the same run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from halsted_ray.errors import UsageError
from halsted_ray.model.calibration import UNITS as UNITS
from halsted_ray.model.step_pooling import POOLINGS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SAMPLINGS = ("as_is", "balanced")
PRECISIONS = ("fp32", "bf16")
KEEPS = ("best", "last")


@dataclass(frozen=True)
class Recipe:
    """Every choice of a training run. The defaults are the paper's (Methods, Implementation details).

    The paper does not state, and these were chosen here: the floor of the cosine (0), no dropout (its masks would
    differ with the number of workers), the metric of the save rule (exact-match accuracy, mean over the task's tags).
    Raises UsageError for a value that no run can have.
    """

    epochs: int = 40
    least_steps: int = 0
    """Train steps of the whole run, at least. Where few samples make few batches, each epoch passes over the samples
    several times (``passes_per_epoch``), so that 100 samples get as many steps as 100,000. The schedule of the learning
    rate and the validations are those of the epochs."""
    batch_size: int = 128
    """Samples per batch, over all workers: more workers share a batch, they don't enlarge it."""
    learning_rate: float = 1e-4
    weight_decay: float = 1e-2
    warmup_epochs: float = 2.0
    """The learning rate rises in a straight line over so many epochs; then it falls as a cosine."""
    warmup_from: float = 0.1
    """Share of ``learning_rate`` at the very start."""
    layers: int = 2
    heads: int = 8
    width: int | None = None
    """Decoder width; None takes the encoder's width."""
    feedforward: int | None = None
    """Width of the feed-forward layers; None takes 3.5 times the decoder's width."""
    decoder: str = "halsted"
    """``halsted``, or ``llama:FOLDER``: the layers of a Llama in a Hugging Face folder that all workers can read,
    behind an adaptor, with our vocabulary. The Llama then sets layers, heads, width and feedforward."""
    soft_prompt: bool = False
    """Learn 8 vectors per task instead of embedding the words of its instruction."""
    temporal_tokens: bool = False
    """Show the decoder one vector per two frames of a window (8 vectors) instead of their mean. They are stored beside
    the means and take eight times the room."""
    pooling: str = "mean"
    """``mean``: the decoder sees what the encoder gives. ``attention``: it learns to make one vector of those of a
    window's time steps, which are stored beside the means and take their room once per step. Not with
    ``temporal_tokens``, which shows the decoder all of them."""
    label_smoothing: float = 0.0
    """Share of a category's target that goes to all categories of its tag in equal parts."""
    noise: float = 0.0
    """Standard deviation of the noise added to training vectors, in units of each feature's own deviation."""
    hide_tags: float = 0.0
    """Chance that a category is hidden from the tags that follow it in an answer (word dropout, Bowman et al. 2016).
    With few annotated clips, anatomy and extent together nearly identify the stitch, so the decoder would learn the
    needle's direction from these two tags and not from the video."""
    least_share: float = 0.5
    """A fine grid window becomes a training sample of its action or phase only where a clip covers at least this
    share."""
    units: tuple[str, ...] = ("clips",)
    """What is a sample: ``clips``, each annotated clip over its own span (the paper's); ``grid``, the windows that a
    map asks; or both. The save rule and the calibration look at the same units of the validation videos."""
    clip_copies: int = 0
    """Copies of each clip with moved edges, drawn once from ``seed``. Each costs decoding and encoding its span."""
    clip_jitter: float = 0.1
    """How far an edge of such a copy moves, at most, as a share of the clip's length."""
    shifts_s: tuple[float, ...] = (0.0,)
    """Grid windows are cut on the map's grid shifted by each of these. A shift above 0 shows the decoder windows that
    begin elsewhere; it costs decoding and encoding the videos once more."""
    tasks: tuple[str, ...] = ()
    """Names of the tasks to learn; empty means all tasks of the taxonomy."""
    sampling: str = "as_is"
    """``as_is`` (the paper's: every sample once per epoch), or ``balanced``: as many samples per epoch, drawn with
    replacement, each task as often as the others. The paper's atlas has 194 times as many samples of its first task
    as of its last task."""
    ai_weight: float = 1.0
    """Weight of a sample that a model labelled; a sample that a person labelled has weight 1."""
    synthetic_weight: float = 1.0
    """Weight of a sample of a drawn video, beside the 1 of a sample that a person labelled."""
    precision: str = "auto"
    """``fp32``, the paper's; ``bf16``: forward and backward pass in bfloat16 where torch's autocast deems it safe,
    weights and loss in float32, faster on GPUs since the A100; ``auto``: bf16 on a GPU, fp32 on a CPU."""
    keep: str = "best"
    """Which decoder is kept: ``best``, the paper's save rule (``should_save``), or ``last``, that of the last epoch.
    The validation part of a small atlas holds few clips, so the rule picks an epoch by chance, before the learning rate
    has fallen (docs/decisions/recipe-best.md)."""
    seed: int = 0
    validate_every: int = 1
    """Epochs between validations; the last epoch is always validated."""
    checkpoint_every: int = 5
    """Epochs between checkpoints to resume from; a killed run repeats at most this many."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "layers", "heads", "validate_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"recipe: {name}={getattr(self, name)}; expected at least 1")
        for name in ("learning_rate", "warmup_from"):
            if not getattr(self, name) > 0:
                raise UsageError(f"recipe: {name}={getattr(self, name)}; expected more than 0")
        if not 0 <= self.warmup_epochs <= self.epochs:
            raise UsageError(f"recipe: warmup_epochs={self.warmup_epochs}; expected 0 to epochs={self.epochs}")
        if not self.noise >= 0 or not self.weight_decay >= 0:
            raise UsageError(f"recipe: noise={self.noise}, weight_decay={self.weight_decay}; expected at least 0")
        if self.least_steps < 0:
            raise UsageError(f"recipe: least_steps={self.least_steps}; expected at least 0")
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(f"recipe: label_smoothing={self.label_smoothing}; expected 0 to less than 1")
        if self.clip_copies < 0:
            raise UsageError(f"recipe: clip_copies={self.clip_copies}; expected at least 0")
        if not 0 <= self.clip_jitter < 0.5:
            raise UsageError(f"recipe: clip_jitter={self.clip_jitter}; expected 0 to less than 0.5")
        if not self.units or set(self.units) - set(UNITS) or len(set(self.units)) < len(self.units):
            raise UsageError(f"recipe: units={self.units}; expected some of {', '.join(UNITS)}, each once")
        for name in ("hide_tags", "least_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"recipe: {name}={getattr(self, name)}; expected 0 to 1")
        for name, known in (
            ("sampling", SAMPLINGS),
            ("precision", ("auto", *PRECISIONS)),
            ("keep", KEEPS),
            ("pooling", POOLINGS),
        ):
            if getattr(self, name) not in known:
                raise UsageError(f"recipe: {name}={getattr(self, name)!r}; expected one of {', '.join(known)}")
        if self.pooling == "attention" and (self.temporal_tokens or self.llama):
            other = "temporal_tokens" if self.temporal_tokens else f"decoder={self.decoder}"
            raise UsageError(f"recipe: pooling=attention and {other}; expected one of them")
        if self.decoder != "halsted" and not self.llama:
            raise UsageError(f"recipe: decoder={self.decoder!r}; expected halsted, or llama:FOLDER")
        for name in ("ai_weight", "synthetic_weight"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"recipe: {name}={getattr(self, name)}; expected more than 0, 1 at most")
        if not self.shifts_s or any(shift < 0 for shift in self.shifts_s):
            raise UsageError(f"recipe: shifts_s={self.shifts_s}; expected at least one, none below 0")

    @property
    def llama(self) -> str:
        """The folder of the Llama; empty where the decoder is no Llama."""
        return self.decoder.removeprefix("llama:") if self.decoder.startswith("llama:") else ""


def deciding(recipe: Recipe) -> dict[str, Any]:
    """The choices that a run is named by, as JSON values. A weight of drawn samples that is the usual one is left out,
    so that runs from before there were such samples keep their names."""
    choices = {**asdict(recipe), "shifts_s": list(recipe.shifts_s)}
    if recipe.synthetic_weight == Recipe.synthetic_weight:
        del choices["synthetic_weight"]
    return choices


AnyRecipe = TypeVar("AnyRecipe", bound="DataclassInstance")
"""``Recipe``, or the recipe of another objective: a frozen dataclass."""

PAPER = Recipe()
BEST = Recipe(
    epochs=20,
    least_steps=600,
    learning_rate=3e-3,
    weight_decay=1.0,
    layers=1,
    width=192,
    feedforward=64,
    label_smoothing=0.1,
    noise=0.3,
    hide_tags=0.9,
    least_share=0.8,
    units=("clips", "grid"),
    shifts_s=(0.0, 1.25),
    keep="last",
    validate_every=4,
    checkpoint_every=10,
)
"""For minutes to hours of annotated video, where the paper's decoder learns the clips by heart: one thin layer whose
width does not follow the encoder's, so that one learning rate suits all encoders.

docs/decisions/recipe-best.md has the comparison with the linear probe, and what was tried and left out.
"""
RECIPES = {"paper": PAPER, "best": BEST, "demo": BEST}
"""The recipes that the command line knows by name; ``demo`` is the name that ``best`` had in earlier versions."""
READ_WITHOUT_TRAINING = (
    "least_share",
    "units",
    "clip_copies",
    "clip_jitter",
    "shifts_s",
    "tasks",
    "ai_weight",
    "synthetic_weight",
)
"""The choices that decide which windows are asked and what they teach the baselines. A run that trains reads all the
others too."""


def changed(recipe: AnyRecipe, changes: Sequence[str]) -> AnyRecipe:
    """``recipe`` with ``changes`` such as ``layers=10`` or ``sampling=balanced``; values are read as YAML.

    Raises UsageError for a name that no recipe has, or a value of another type than the field's.
    """
    known = {field.name: str(field.type) for field in fields(recipe)}
    found = {}
    for change in changes:
        name, _, text = change.partition("=")
        if name not in known or not text:
            raise UsageError(f"recipe: {change!r}; expected NAME=VALUE with a name of {', '.join(known)}")
        value = yaml.safe_load(text)
        kinds = {kind.split("[")[0] for kind in known[name].replace("None", "NoneType").split(" | ")}
        if known[name].startswith("tuple"):
            value = tuple(value) if isinstance(value, list) else (value,)
        elif "float" in kinds and isinstance(value, int | str) and not isinstance(value, bool):
            value = float(value)  # YAML reads 1e-4 as text
        if type(value).__name__ not in kinds:
            raise UsageError(f"recipe: {change!r}; expected a value of kind {known[name]}")
        found[name] = value
    return replace(recipe, **found)


def precision_on(device: str, recipe: Recipe) -> str:
    """The precision, ``fp32`` or ``bf16``, in which ``recipe`` trains on a device of this type (``cpu``, ``cuda``)."""
    if recipe.precision != "auto":
        return recipe.precision
    return "bf16" if device == "cuda" else "fp32"


def on_device(recipe: Recipe, device: str) -> Recipe:
    """``recipe`` with the precision in which it trains on a device of this type. Weights are named by this recipe."""
    return replace(recipe, precision=precision_on(device, recipe))


def passes_per_epoch(batches: int, recipe: Recipe) -> int:
    """How often an epoch passes over samples that make ``batches`` batches, so that the run has ``least_steps``."""
    return max(1, -(-recipe.least_steps // (recipe.epochs * batches)))


def learning_rate_at(epoch: float, recipe: Recipe) -> float:
    """Learning rate after ``epoch`` epochs (fractions count): linear warm-up, then a cosine down to 0."""
    if epoch < recipe.warmup_epochs:
        share = recipe.warmup_from + (1 - recipe.warmup_from) * epoch / recipe.warmup_epochs
    elif recipe.epochs == recipe.warmup_epochs:
        share = 1.0
    else:
        done = min(1.0, (epoch - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs))
        share = 0.5 * (1 + math.cos(math.pi * done))
    return recipe.learning_rate * share


def lowest_accuracy(accuracy_of_task: Mapping[str, float | None]) -> float:
    """The worst task's accuracy. Tasks that could not be measured (None) do not count; -1 where no task could be."""
    return min((value for value in accuracy_of_task.values() if value is not None), default=-1.0)


def should_save(best: float | None, candidate: float) -> bool:
    """The paper's save rule: a decoder is kept only where its worst task is strictly better than the kept decoder's.

    ``best``: accuracy of the kept decoder's worst task, None before the first; ``candidate``: the new decoder's.
    """
    return best is None or candidate > best
