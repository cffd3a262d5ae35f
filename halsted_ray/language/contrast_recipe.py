"""Every choice that decides a trained model of video and text, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from halsted_ray.atlas.captions import COARSE, ENHANCED, FINE, MID, RAW, TRANSCRIPT, WHOLE
from halsted_ray.errors import UsageError
from halsted_ray.training.recipe import Recipe


@dataclass(frozen=True)
class ContrastRecipe:
    """Every choice of a run with ``--objective contrast``. Raises UsageError for a value that no run can have.

    The objective is CLIP's (Radford et al. 2021), on captions of several levels, as SurgLaVi has them (Perez et al.
    2026). All numbers were chosen here, on phantoms.
    """

    epochs: int = 60
    batch_size: int = 128
    """Captions per batch, over all workers. Each is a negative for all others."""
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 3.0
    dim: int = 128
    """Width of the common space."""
    hidden: int = 256
    """Width of the hidden layer of both projections."""
    dropout: float = 0.1
    noise: float = 0.2
    """Standard deviation of the noise added to window vectors, in units of each feature's own deviation."""
    per_video: int = 8
    """So many captions of a batch come from one video: hard negatives, since all else in the picture is alike."""
    most_windows: int = 12
    """A longer clip is shown with so many of its windows, spread evenly."""
    levels: tuple[str, ...] = (COARSE, MID, FINE)
    """The levels whose captions are mixed in each batch."""
    kinds: tuple[str, ...] = (RAW, ENHANCED)
    seed: int = 0
    validate_every: int = 4
    """Epochs between validations; the last epoch is always validated, and the best is kept."""
    checkpoint_every: int = 20

    def __post_init__(self) -> None:
        whole = ("epochs", "batch_size", "dim", "hidden", "per_video", "most_windows", "validate_every")
        for name in (*whole, "checkpoint_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"recipe: {name}={getattr(self, name)}; expected at least 1")
        if self.batch_size < 2:
            raise UsageError(f"recipe: batch_size={self.batch_size}; expected 2 or more, for there must be negatives")
        if not 0 <= self.dropout < 1 or self.noise < 0:
            raise UsageError(f"recipe: dropout={self.dropout}, noise={self.noise}; expected 0 to 1, and at least 0")
        for name, known in (("levels", (COARSE, MID, FINE)), ("kinds", (RAW, ENHANCED))):
            given = getattr(self, name)
            if not given or set(given) - set(known):
                raise UsageError(f"recipe: {name}={given}; expected some of {', '.join(known)}")
        assert {WHOLE, TRANSCRIPT}.isdisjoint((*self.levels, *self.kinds))
        _ = self.schedule

    @cached_property
    def schedule(self) -> Recipe:
        """How the learning rate moves (``training.recipe.learning_rate_at``)."""
        return Recipe(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            warmup_epochs=self.warmup_epochs,
            weight_decay=self.weight_decay,
        )
