"""Trains a model of video and text epoch by epoch, on one worker of any number."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from halsted_ray.language.captioned_clips import CaptionedClips
from halsted_ray.language.contrast_loss import contrast_loss, gathered, shared
from halsted_ray.language.contrast_model import VideoTextConfig, VideoTextModel, padded
from halsted_ray.language.contrast_recipe import ContrastRecipe
from halsted_ray.language.retrieval import text_to_clip
from halsted_ray.training.epoch_record import EpochRecord, TrainProgress
from halsted_ray.training.loop import WorkerPlace
from halsted_ray.training.recipe import learning_rate_at, should_save
from halsted_ray.training.train_checkpoint import Tensors

RECALL = "recall_at_5"
"""The figure that decides which epoch is kept: text to clip, on the validation captions."""


class ContrastTrainer:
    """As ``training.loop.ModuleTrainer``. ``decoder`` is the model of video and text."""

    def __init__(
        self,
        model: VideoTextModel,
        train: CaptionedClips,
        validation: CaptionedClips,
        recipe: ContrastRecipe,
        place: WorkerPlace,
    ) -> None:
        self.decoder, self.train, self.validation, self.recipe, self.place = model, train, validation, recipe, place
        self.replica = place.prepare(model)
        self.optimizer = torch.optim.AdamW(
            self.replica.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
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
        batches = epoch_batches(self.train, recipe, epoch)
        self.replica.train()
        losses = []
        for number, rows in enumerate(batches):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate_at(epoch + number / len(batches), recipe.schedule)
            torch.manual_seed(int(np.random.SeedSequence([recipe.seed, epoch, number]).generate_state(1)[0]))
            losses.append(self.step(rows))
        loss = float(np.mean(losses))  # of the whole batch, so the same on every worker
        if not np.isfinite(loss):
            return f"the loss is not finite in epoch {epoch}; lower the learning rate, or look for vectors that are not"
        seconds = time.monotonic() - started_s
        figures: dict[str, float | None] = {}
        if epoch + 1 == recipe.epochs or (epoch + 1) % recipe.validate_every == 0:
            found = text_to_clip(self.decoder, self.validation)
            figures = {RECALL: found.recall_at_5, "chance": found.chance}
        value = figures.get(RECALL)
        is_saved = value is not None and should_save(self.progress.best, value)
        if is_saved:
            self.progress.best, self.progress.best_epoch = value, epoch
            self.best |= {name: tensor.detach().cpu().clone() for name, tensor in self.decoder.state_dict().items()}
        self.progress.epoch = epoch + 1
        record: EpochRecord = {
            "epoch": epoch,
            "loss": loss,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds": seconds,
            "samples_per_s": len(self.train) / seconds,
            "saved": is_saved,
            "worst": value,
            "accuracy_of_task": figures,
            "accuracy_of_tag": {},
        }
        self.progress.curve.append(record)
        return None

    def step(self, rows_N: np.ndarray) -> float:
        """Forward, backward and one step of the optimizer on the captions ``rows_N``, this worker's share of which it
        computes; gives the loss of the whole batch."""
        rank, workers, device = self.place.rank, self.place.workers, self.place.device
        shares = np.array_split(rows_N, workers)
        own = shares[rank]
        windows_NWD, present_NW = padded([self.train.windows(row, self.recipe.most_windows) for row in own])
        noise = self.recipe.noise * self.decoder.std_D.cpu()
        windows_NWD = windows_NWD + torch.randn_like(windows_NWD) * noise
        texts_NT = torch.from_numpy(self.train.texts_TW[self.train.text_C[own]])
        clips_ND, texts_ND, temperature = self.replica(
            windows_NWD.to(device), present_NW.to(device), texts_NT.to(device)
        )
        sizes = [len(share) for share in shares]
        loss = contrast_loss(
            gathered(clips_ND, rank, sizes),
            gathered(texts_ND, rank, sizes),
            shared(temperature, workers),
            torch.from_numpy(self.train.not_negative(rows_N)).to(device),
        )
        self.optimizer.zero_grad(set_to_none=True)
        (loss * workers).backward()  # the workers' gradients are averaged, but those of their rows add up
        self.optimizer.step()
        return float(loss.detach())


def contrast_trainer(given: Mapping[str, Any], place: WorkerPlace) -> ContrastTrainer:
    """What trains on one worker. ``given``: the locations ``train`` and ``validation``, ``model`` (a
    ``VideoTextConfig``) and ``recipe``."""
    train, validation = CaptionedClips.load(given["train"]), CaptionedClips.load(given["validation"])
    model = new_model(given["model"], train, given["recipe"].seed)
    return ContrastTrainer(model, train, validation, given["recipe"], place)


def new_model(config: VideoTextConfig, train: CaptionedClips, seed: int) -> VideoTextModel:
    """An untrained model that knows the scale of the training vectors; ``seed`` decides its weights."""
    torch.manual_seed(seed)
    model = VideoTextModel(config)
    vectors_WD = train.vectors_WD.astype(np.float32)
    model.mean_D.copy_(torch.from_numpy(vectors_WD.mean(0)))
    model.std_D.copy_(torch.from_numpy(np.maximum(vectors_WD.std(0), 1e-6)))
    return model


def epoch_batches(clips: CaptionedClips, recipe: ContrastRecipe, epoch: int) -> list[np.ndarray]:
    """The captions of each batch of an epoch, each caption once: runs of ``per_video`` captions of one video and of
    mixed levels, in an order that ``seed`` and ``epoch`` draw."""
    rng = np.random.default_rng([recipe.seed, epoch])
    runs = []
    for video in range(len(clips.video_ids)):
        own = rng.permutation(np.flatnonzero(clips.video_C == video))
        runs += [own[first : first + recipe.per_video] for first in range(0, len(own), recipe.per_video)]
    order = np.concatenate([runs[n] for n in rng.permutation(len(runs))])
    return np.array_split(order, max(1, round(len(order) / recipe.batch_size)))
