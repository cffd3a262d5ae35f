"""One epoch of training: a train step per batch, then validation, then the rule that decides which decoder to keep."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from halsted_ray.model.decoder import Decoder, build_decoder
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.training.all_reduce import sum_over_workers
from halsted_ray.training.answer_loss import AnswerLoss
from halsted_ray.training.batch_loader import Batch, BatchLoader
from halsted_ray.training.epoch_record import TrainProgress
from halsted_ray.training.recipe import Recipe, learning_rate_at, lowest_accuracy, precision_on, should_save
from halsted_ray.training.samples import Samples
from halsted_ray.training.train_checkpoint import Tensors
from halsted_ray.training.validator import Validator


class EpochTrainer:
    """Trains a decoder epoch by epoch, on one worker of any number.

    ``decoder`` is the module itself. ``replica`` is what a train step calls: the decoder wrapped by Ray Train, so that
    the workers' gradients are averaged, or the decoder itself in a run of one process. ``progress`` and ``best`` (the
    tensors of the decoder to keep) may be set from a checkpoint.
    """

    def __init__(self, decoder: Decoder, replica: torch.nn.Module, loader: BatchLoader, validator: Validator) -> None:
        self.decoder, self.replica, self.loader, self.validator = decoder, replica, loader, validator
        self.recipe = loader.recipe
        self.optimizer = new_optimizer(replica, self.recipe)
        self.loss = AnswerLoss(Vocabulary(validator.taxonomy), self.recipe.label_smoothing, loader.device)
        self.progress = TrainProgress()
        self.best: Tensors = {}

    @property
    def is_done(self) -> bool:
        """Whether all epochs of the recipe are trained."""
        return self.progress.epoch >= self.recipe.epochs

    def run_epoch(self) -> str | None:
        """Trains one epoch more, validates where it is due, and records the epoch in ``progress``.

        Where the loss is not finite, nothing is recorded and the answer says what is wrong; else it is None.
        """
        recipe, epoch, started_s = self.recipe, self.progress.epoch, time.monotonic()
        loss, broken_batch = train_epoch(self.replica, self.loss, self.optimizer, self.loader, epoch)
        if broken_batch is not None:
            return (
                f"the loss is not finite in epoch {epoch}, batch {broken_batch} (learning rate "
                f"{learning_rate_at(epoch + broken_batch / len(self.loader), recipe):.2g}); lower the learning rate, "
                "or look for embeddings that are not finite"
            )
        seconds = time.monotonic() - started_s
        accuracy_of_task: dict[str, float | None] = {}
        accuracy_of_tag: dict[str, float | None] = {}
        if epoch + 1 == recipe.epochs or (epoch + 1) % recipe.validate_every == 0:
            accuracy_of_task, accuracy_of_tag = self.validator(self.decoder)
            if not self.progress.commonest_of_task:
                self.progress.commonest_of_task, _ = self.validator.of_commonest()
        worst = lowest_accuracy(accuracy_of_task) if accuracy_of_task else None
        # Kept at each validation also where the last one counts, so that a checkpoint always holds a decoder.
        is_saved = worst is not None and (recipe.keep == "last" or should_save(self.progress.best, worst))
        if is_saved:
            self.progress.best, self.progress.best_epoch = worst, epoch
            self.best |= {name: value.detach().cpu().clone() for name, value in self.decoder.state_dict().items()}
        self.progress.epoch = epoch + 1
        self.progress.curve.append(
            {
                "epoch": epoch,
                "loss": loss,
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "seconds": seconds,
                "samples_per_s": self.loader.passes * len(self.loader.task_S) / seconds,
                "saved": is_saved,
                "worst": worst,
                "accuracy_of_task": accuracy_of_task,
                "accuracy_of_tag": accuracy_of_tag,
            }
        )
        return None


def new_decoder(train: Samples, vocabulary: Vocabulary, sizes: Mapping[str, Any], recipe: Recipe) -> Decoder:
    """An untrained decoder that knows the scale of the training vectors; the recipe's seed decides its weights.

    ``sizes``: as ``ModelConfig.decoder_sizes``. Every worker gets the same decoder.
    """
    torch.manual_seed(recipe.seed)
    decoder = build_decoder(vocabulary, sizes)
    if recipe.llama:
        decoder.load_trunk(recipe.llama)
    decoder.fit_features(torch.from_numpy(train.embeddings_WD))
    return decoder


def new_optimizer(replica: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW, as in the paper (Methods, Implementation details)."""
    parameters = list(replica.parameters())
    # On a GPU one kernel updates all weights. On a CPU torch's own choice stays, whose last bits are those of earlier
    # versions.
    fused = True if parameters[0].device.type == "cuda" else None
    return torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=fused)


def train_epoch(
    replica: torch.nn.Module, loss: AnswerLoss, optimizer: torch.optim.Optimizer, loader: BatchLoader, epoch: int
) -> tuple[float, int | None]:
    """One epoch's train steps: the mean loss of a batch, and the number of the first batch whose loss is not finite.

    That batch is looked for after the last train step only: all workers must learn of it at the same point, or the
    others would wait for this worker for ever.
    """
    replica.train()
    losses = []  # stay on their device: reading one of them would make a GPU wait at each step
    for number, batch in enumerate(loader.batches(epoch)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(epoch + number / len(loader), loader.recipe)
        losses.append(train_step(replica, loss, optimizer, batch, loader))
    losses_B, device = torch.stack(losses).double().cpu(), losses[0].device
    is_broken_B = sum_over_workers((~torch.isfinite(losses_B)).double(), loader.workers, device) > 0
    broken_batch = int(is_broken_B.nonzero()[0]) if is_broken_B.any() else None
    return sum_over_workers(losses_B.mean(), loader.workers, device).item(), broken_batch


def train_step(
    replica: torch.nn.Module, loss: AnswerLoss, optimizer: torch.optim.Optimizer, batch: Batch, loader: BatchLoader
) -> torch.Tensor:
    """Forward, backward and one step of the optimizer; gives the batch's loss (this worker's part of it)."""
    device = batch.embeddings_ND.device
    with torch.autocast(device.type, torch.bfloat16, enabled=precision_on(device.type, loader.recipe) == "bf16"):
        logits = replica(batch.embeddings_ND, batch.task_N, batch.shown_NL)
    value = (loss(logits, batch.target_NL) * batch.weight_N).sum()
    optimizer.zero_grad(set_to_none=True)
    (value * loader.workers).backward()  # the workers' gradients are averaged, but their losses add up
    optimizer.step()
    return value.detach()
