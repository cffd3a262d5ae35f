"""What training writes down: one record per epoch, and how far the run is.

This module imports nothing heavy, since the process that passes the records on (``epoch_queue.py``) imports it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict


class EpochRecord(TypedDict):
    """The figures of one epoch: JSON values, as checkpoints, ``training.json`` and MLflow keep them."""

    epoch: int
    """Counted from 0."""
    loss: float
    """Mean over the epoch's batches and over all workers."""
    learning_rate: float
    """At the epoch's last batch."""
    seconds: float
    """Of training, without validation."""
    samples_per_s: float
    saved: bool
    """Whether the decoder of this epoch became the one to keep; with ``keep=last`` at each validation."""
    worst: float | None
    """Accuracy of the worst task, None where the epoch was not validated."""
    accuracy_of_task: dict[str, float | None]
    """Empty where the epoch was not validated; None for a task without a validation sample."""
    accuracy_of_tag: dict[str, float | None]


@dataclass
class TrainProgress:
    """How far a run is: a checkpoint keeps this beside the weights.

    ``epoch``: epochs that are done. ``best`` and ``best_epoch``: accuracy of the worst task in the epoch whose decoder
    is kept, and the number of that epoch; None before the first validation. ``curve``: one record per epoch.
    """

    epoch: int = 0
    best: float | None = None
    best_epoch: int | None = None
    curve: list[EpochRecord] = field(default_factory=list)
    commonest_of_task: dict[str, float | None] = field(default_factory=dict)
    """Task → accuracy of the commonest category of training, which a decoder must beat. Empty before the first
    validation, and in checkpoints of versions that did not measure it."""
