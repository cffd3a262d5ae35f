"""Pretrains the tiny encoder on phantom clips: masked video modelling first, then every tag of the taxonomy at once.

    ClipLoader ──► masked stage (VideoMAEForPreTraining) ──► tag stage (linear heads on the mean vector) ──► folder

The schedule follows the clock, so that a run takes the time it was given. For this reason, and because the rendering
processes race, two runs of one seed are alike but not equal. The resulting encoder is committed and frozen.
"""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import VideoMAEModel

from halsted_ray.storage.files import make_local_folder
from halsted_ray.training.clip_loader import ClipLoader, DrawClip
from halsted_ray.training.patch_init import start_patches
from halsted_ray.training.pretrain_model import TagHeads, masked_loss, normalised, tag_loss, update_average
from halsted_ray.training.pretrain_recipe import PretrainRecipe
from halsted_ray.training.pretrain_run import CurveRow, PretrainRun

log = logging.getLogger(__name__)


def pretrain(recipe: PretrainRecipe, folder: str | Path, draw: DrawClip) -> CurveRow:
    """Runs, or continues, a pretraining in ``folder``; returns its summary. The weights are in ``folder/encoder``.

    ``draw``: renders one clip, such as ``halsted_ray.phantom.training_clips.random_clip``. Raises OutputError where
    ``folder`` holds a run of another shape.
    """
    folder = make_local_folder(folder)
    torch.set_num_threads(recipe.threads)
    run = PretrainRun(recipe, folder, draw)
    spec = recipe.clips(draw, held_out=False)
    loader = ClipLoader(spec, run.taxonomy, recipe.slots, recipe.workers, run.rendered, nice=1)
    try:
        validation = run.validation_clips()
        loader.wait(min(recipe.slots, 20 * recipe.batch))
        if not run.resumed and recipe.cosine_patches:
            pixels = normalised(loader.batch(64, np.random.default_rng(recipe.seed))[0]).permute(0, 2, 1, 3, 4)
            start_patches(run.tagger.encoder.embeddings.patch_embeddings.projection, pixels)
            run.restart_average()
        log.info(
            "pretraining %s: %.1f M parameters, %d tokens per clip, %d tags, from %.1f of %.1f min",
            folder.name,
            sum(p.numel() for p in run.tagger.encoder.parameters()) / 1e6,
            run.tagger.encoder.embeddings.num_patches,
            len(run.tags),
            run.elapsed_s / 60,
            recipe.minutes,
        )
        train_until_time_is_up(run, loader, validation)
    finally:
        loader.close()
    run.export(folder / "encoder")
    return {**run.curve[-1], "clips_rendered": run.rendered, "encoder": str(folder / "encoder")}


def train_until_time_is_up(run: PretrainRun, loader: ClipLoader, validation: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Train steps until the recipe's minutes are over; adds a row to the curve every ``log_every_s``."""
    recipe, rng = run.recipe, np.random.default_rng([run.recipe.seed, run.steps, 7])
    total_s, last = 60 * recipe.minutes, time.monotonic()
    losses, logged_s, logged_views, validated_s = [], run.elapsed_s, run.views, run.elapsed_s
    while run.elapsed_s < total_s:
        is_masked_stage = run.elapsed_s < 60 * recipe.masked_minutes
        losses.append(train_step(run, loader, rng, is_masked_stage))
        run.steps, run.views, run.rendered = run.steps + 1, run.views + recipe.batch, loader.rendered
        now = time.monotonic()
        run.elapsed_s, last = run.elapsed_s + now - last, now
        if run.elapsed_s - logged_s < recipe.log_every_s and run.elapsed_s < total_s:
            continue
        row: CurveRow = {
            "minutes": round(run.elapsed_s / 60, 2),
            "stage": "masked" if is_masked_stage else "tags",
            "views": run.views,
            "rendered": run.rendered,
            "loss": round(float(np.mean(losses)), 4),
            "ms_per_clip": round((run.elapsed_s - logged_s) * 1e3 / max(1, run.views - logged_views), 1),
        }
        is_due = run.elapsed_s - validated_s >= recipe.validate_every_s or run.elapsed_s >= total_s
        if not is_masked_stage and is_due:
            row["accuracy"] = validate(run, *validation)
            validated_s = run.elapsed_s
            last = time.monotonic()  # the time of validation is not training time
        run.curve.append(row)
        log.info("%s", json.dumps(row))
        if "accuracy" in row or is_masked_stage:
            run.save()
        losses, logged_s, logged_views = [], run.elapsed_s, run.views


def train_step(run: PretrainRun, loader: ClipLoader, rng: np.random.Generator, is_masked_stage: bool) -> float:
    """One batch forward and backward, one step of the optimizers and of the average; gives the loss."""
    recipe = run.recipe
    scale = learning_rate(run.elapsed_s, recipe)
    for optimizer in run.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * scale
    pixels, labels = loader.batch(recipe.batch, rng)
    is_whole = run.elapsed_s > (1 - recipe.whole_share) * 60 * recipe.minutes
    weights = [dict(recipe.tag_weights).get(tag, 1.0) for tag in run.tags]
    with torch.autocast("cpu", torch.bfloat16):
        loss = (
            masked_loss(run.masked_model, pixels, recipe.masked_keep)
            if is_masked_stage
            else tag_loss(run.tagger(pixels, 1.0 if is_whole else recipe.keep, shake=True), labels, weights)
        )
    loss.backward()
    nn.utils.clip_grad_norm_(run.masked_model.parameters(), 1.0)
    for optimizer in run.optimizers:
        optimizer.step()
        optimizer.zero_grad()
    update_average(run.average, run.tagger, min(recipe.ema, (run.steps + 1) / (run.steps + 20)))
    return float(loss.item())


def learning_rate(elapsed_s: float, recipe: PretrainRecipe) -> float:
    """Share of the base rate: a linear warm-up, then half a cosine down to 0 at the end of the time."""
    warm = min(1.0, (elapsed_s + 1) / recipe.warmup_s)
    return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, elapsed_s / (60 * recipe.minutes))))


def validate(run: PretrainRun, pixels: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Tag → share of right answers over the clips that have it, with the averaged weights."""
    average = TagHeads(VideoMAEModel(run.recipe.config()), run.sizes)
    average.load_state_dict(run.average)
    average.eval()
    right = torch.zeros(len(run.tags))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for rows in torch.arange(len(pixels)).split(50):
            for n, logits in enumerate(average(pixels[rows])):
                right[n] += (logits.argmax(1) == labels[rows, n]).sum()
    return {tag: round(float(right[n] / max(1, int((labels[:, n] >= 0).sum()))), 4) for n, tag in enumerate(run.tags)}
