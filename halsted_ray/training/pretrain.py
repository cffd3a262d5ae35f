"""Pretrains the tiny encoder on phantom clips: masked video modelling first, then every tag of the taxonomy at once.

    ClipFeed ──► masked stage (VideoMAEForPreTraining) ──► tagged stage (linear heads on the mean vector) ──► folder

The schedule runs on the clock, so that a run lands in the time it was given; for that reason, and because workers
race, two runs of one seed are alike but not equal. What is committed is the result, and from then on it is frozen.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEModel

from halsted_ray.errors import OutputError, UsageError
from halsted_ray.model.checkpoint import IMAGENET_MEAN, IMAGENET_STD
from halsted_ray.taxonomy import Taxonomy, load
from halsted_ray.training.clip_loader import ClipLoader, ClipLoaderSpec, DrawClip, clip_of, tag_names, tag_sizes
from halsted_ray.training.patch_init import start_patches

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PretrainRecipe:
    """Every choice of a run. Minutes are of training, not counting what the feed needs to fill."""

    minutes: float = 30.0
    masked_minutes: float = 1.5
    """The part of ``minutes`` that goes to the masked stage, before the tagged one."""
    seed: int = 0
    taxonomy: str = "halsted"
    image_size: int = 112
    tubelet: int = 4
    width: int = 192
    layers: int = 4
    heads: int = 3
    batch: int = 48
    keep: float = 0.5
    """Share of tokens the tagged stage sees of each clip; the last ``whole_share`` of the time sees all of them."""
    whole_share: float = 0.35
    masked_keep: float = 0.2
    lr: float = 1e-3
    """AdamW's, for the patches, norms, biases and heads (and all the rest when ``muon_lr`` is 0)."""
    muon_lr: float = 0.02
    """Muon's, for the matrices inside the layers; 0 leaves them to AdamW."""
    weight_decay: float = 0.02
    warmup_s: float = 40.0
    cosine_patches: bool = True
    coarse_share: float = 0.2
    tag_weights: tuple[tuple[str, float], ...] = (("action", 2.0), ("direction", 3.0))
    """Weight of a tag's loss; 1 where not named."""
    ema: float = 0.998
    slots: int = 6000
    workers: int = 1
    threads: int = 1
    """One: with two, each operation waits for the slower core, which cost 10 times on a shared machine."""
    validation_clips: int = 600
    log_every_s: float = 30.0
    validate_every_s: float = 180.0

    def __post_init__(self):
        if not 0 <= self.masked_minutes < self.minutes:
            raise UsageError(f"masked_minutes={self.masked_minutes}: expected 0 to below minutes={self.minutes}")
        for name in ("keep", "masked_keep"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"{name}={getattr(self, name)}: expected more than 0 and at most 1")
        unknown = {name for name, _ in self.tag_weights} - set(tag_names(load(self.taxonomy)))
        if unknown:
            raise UsageError(f"tag_weights names {sorted(unknown)}; the taxonomy has {tag_names(load(self.taxonomy))}")

    def config(self) -> VideoMAEConfig:
        return VideoMAEConfig(
            image_size=self.image_size,
            patch_size=16,
            num_frames=16,
            tubelet_size=self.tubelet,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=4 * self.width,
            use_mean_pooling=False,
            norm_pix_loss=True,
            decoder_hidden_size=96,
            decoder_num_hidden_layers=2,
            decoder_num_attention_heads=3,
            decoder_intermediate_size=384,
            attn_implementation="eager",
        )  # eager: half the time of sdpa's flash kernels on CPU at 200 to 400 tokens

    def feed(self, draw: DrawClip, held_out: bool) -> ClipLoaderSpec:
        return ClipLoaderSpec(
            draw, 2 * self.seed + held_out, self.image_size, 16, self.coarse_share, spoil=not held_out
        )


class TagHeads(nn.Module):
    """The encoder's mean vector, standardised, through one linear layer for all tags: what a decoder could read."""

    def __init__(self, encoder: VideoMAEModel, sizes: list[int]):
        super().__init__()
        self.encoder, self.sizes = encoder, sizes
        self.standardise = nn.BatchNorm1d(encoder.config.hidden_size, affine=False, momentum=0.02)
        self.heads = nn.Linear(encoder.config.hidden_size, sum(sizes))

    def forward(self, clips_NTHWC: torch.Tensor, keep: float = 1.0, shake: bool = False) -> tuple[torch.Tensor, ...]:
        """Logits [N, categories] for each tag, from a random ``keep`` of the tokens."""
        hidden = self.encoder.encoder(self.tokens(clips_NTHWC, keep, shake)).last_hidden_state
        vectors_ND = self.encoder.layernorm(hidden).float().mean(1)
        return self.heads(self.standardise(vectors_ND)).float().split(self.sizes, dim=1)

    def tokens(self, clips_NTHWC: torch.Tensor, keep: float, shake: bool) -> torch.Tensor:
        """What the encoder's own embedding gives for the kept patches, at a third of its cost.

        Dropped patches are never copied, and normalising is folded into the projection's weights. ``shake`` gives
        each clip another gain per colour; never a mirror image, since arms and directions have sides.
        """
        projection = self.encoder.embeddings.patch_embeddings.projection
        _, _, tube, patch, _ = projection.weight.shape
        count, frames, height, width, _ = clips_NTHWC.shape
        grid = (frames // tube, height // patch, width // patch)
        chosen = torch.arange(math.prod(grid)).expand(count, -1)
        if keep < 1:
            chosen = torch.rand(chosen.shape).argsort(1)[:, : round(keep * chosen.shape[1])]
        t, y, x = chosen // (grid[1] * grid[2]), chosen // grid[2] % grid[1], chosen % grid[2]
        patches = clips_NTHWC.view(count, grid[0], tube, grid[1], patch, grid[2], patch, 3)
        patches = patches.permute(0, 1, 3, 5, 2, 4, 6, 7)
        dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
        pixels = patches[torch.arange(count)[:, None], t, y, x].to(dtype).flatten(2, 4)  # [N, K, pixels, 3]
        if shake:
            gain = 1 + 0.08 * torch.randn(count, 1, 1, 1) + 0.04 * torch.randn(count, 1, 1, 3)
            pixels = pixels * gain.to(dtype)
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        middle = 124.0  # bfloat16 holds whole numbers to 256 exactly; near zero the sums lose the least
        weight = projection.weight.permute(0, 2, 3, 4, 1).flatten(1, 3)
        bias = projection.bias + (weight.sum(1) * ((middle / 255 - mean) / std)).sum(1)
        projected = nn.functional.linear((pixels - middle).flatten(2), (weight / (255 * std)).flatten(1), bias)
        return projected.float() + self.encoder.embeddings.position_embeddings[0][chosen]


class PretrainRun:
    """The state of a run, all of it in ``folder``: what is there is continued."""

    def __init__(self, recipe: PretrainRecipe, folder: Path, draw: DrawClip):
        self.recipe, self.folder, self.draw = recipe, folder, draw
        self.taxonomy: Taxonomy = load(recipe.taxonomy)
        self.tags, self.sizes = tag_names(self.taxonomy), tag_sizes(self.taxonomy)
        torch.manual_seed(recipe.seed)
        self.masked_model = VideoMAEForPreTraining(recipe.config())
        self.tagger = TagHeads(self.masked_model.videomae, self.sizes)
        self.average = {name: value.clone() for name, value in self.tagger.state_dict().items()}
        self.optimisers = _optimisers(recipe, self.tagger, self.masked_model)
        self.elapsed_s, self.steps, self.views, self.rendered = 0.0, 0, 0, 0
        self.curve: list[dict] = []
        self.resumed = self._resume()

    def save(self) -> None:
        """Weights, averages and optimiser state as tensors; counters and the curve as JSON beside them."""
        tensors = {f"masked.{k}": v for k, v in self.masked_model.state_dict().items()}
        tensors |= {f"tagger.{k}": v for k, v in self.tagger.state_dict().items() if not k.startswith("encoder.")}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        for n, optimiser in enumerate(self.optimisers):
            for index, state in optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser.{n}.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
        _replace(
            self.folder / "checkpoint.safetensors",
            lambda path: save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, path),
        )
        state = {
            "recipe": asdict(self.recipe),
            "elapsed_s": self.elapsed_s,
            "steps": self.steps,
            "views": self.views,
            "rendered": self.rendered,
            "curve": self.curve,
        }
        _replace(self.folder / "run.json", lambda path: Path(path).write_text(json.dumps(state, indent=1)))

    def _resume(self) -> bool:
        if not (self.folder / "run.json").is_file():
            return False
        state = json.loads((self.folder / "run.json").read_text())
        shape = ("image_size", "tubelet", "width", "layers", "heads", "taxonomy", "muon_lr", "seed")
        changed = [name for name in shape if state["recipe"][name] != getattr(self.recipe, name)]
        if changed:
            raise OutputError(f"{self.folder} holds a run with other {', '.join(changed)}; give it another folder")
        tensors = load_file(self.folder / "checkpoint.safetensors")
        self.masked_model.load_state_dict(_under(tensors, "masked."))
        self.tagger.load_state_dict(_under(tensors, "tagger."), strict=False)  # its encoder is the line above
        self.average = _under(tensors, "average.")
        for n, optimiser in enumerate(self.optimisers):
            whole = optimiser.state_dict()
            for name, value in _under(tensors, f"optimiser.{n}.").items():
                index, key = name.split(".")
                whole["state"].setdefault(int(index), {})[key] = value
            optimiser.load_state_dict(whole)
        for name in ("elapsed_s", "steps", "views", "rendered", "curve"):
            setattr(self, name, state[name])
        return True


def pretrain(recipe: PretrainRecipe, folder: str | Path, draw: DrawClip) -> dict:
    """Runs, or continues, a pretraining in ``folder``; returns its summary. The weights are in ``folder/encoder``.

    ``draw``: renders one clip; ``halsted_ray.phantom.training_clips.random_clip``. Raises OutputError when ``folder``
    holds a run of another shape.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(recipe.threads)
    run = PretrainRun(recipe, folder, draw)
    feed = ClipLoader(recipe.feed(draw, False), run.taxonomy, recipe.slots, recipe.workers, run.rendered, nice=1)
    try:
        validation = _validation(recipe, run.taxonomy, draw, folder)
        feed.wait(min(recipe.slots, 20 * recipe.batch))
        if not run.resumed and recipe.cosine_patches:
            pixels = _normalised(feed.batch(64, np.random.default_rng(recipe.seed))[0]).permute(0, 2, 1, 3, 4)
            start_patches(run.tagger.encoder.embeddings.patch_embeddings.projection, pixels)
            run.average = {name: value.clone() for name, value in run.tagger.state_dict().items()}
        log.info(
            "pretraining %s: %.1f M parameters, %d tokens a clip, %d tags, from %.1f of %.1f min",
            folder.name,
            sum(p.numel() for p in run.tagger.encoder.parameters()) / 1e6,
            run.tagger.encoder.embeddings.num_patches,
            len(run.tags),
            run.elapsed_s / 60,
            recipe.minutes,
        )
        _loop(run, feed, validation)
    finally:
        feed.close()
    export(run, folder / "encoder")
    return {**run.curve[-1], "clips_rendered": run.rendered, "encoder": str(folder / "encoder")}


def _loop(run: PretrainRun, feed: ClipLoader, validation: tuple[torch.Tensor, torch.Tensor]) -> None:
    recipe, rng = run.recipe, np.random.default_rng([run.recipe.seed, run.steps, 7])
    weights = [dict(recipe.tag_weights).get(tag, 1.0) for tag in run.tags]
    total_s, last = 60 * recipe.minutes, time.monotonic()
    losses, logged_s, views, validated_s = [], run.elapsed_s, run.views, run.elapsed_s
    while run.elapsed_s < total_s:
        masked = run.elapsed_s < 60 * recipe.masked_minutes
        scale = learning_rate(run.elapsed_s, recipe)
        for optimiser in run.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["base"] * scale
        pixels, labels = feed.batch(recipe.batch, rng)
        whole = run.elapsed_s > (1 - recipe.whole_share) * total_s
        with torch.autocast("cpu", torch.bfloat16):
            loss = (
                _masked_loss(run, pixels)
                if masked
                else _tag_loss(run.tagger(pixels, 1.0 if whole else recipe.keep, shake=True), labels, weights)
            )
        loss.backward()
        nn.utils.clip_grad_norm_(run.masked_model.parameters(), 1.0)
        for optimiser in run.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        _follow(run.average, run.tagger, min(recipe.ema, (run.steps + 1) / (run.steps + 20)))
        losses.append(loss.item())
        run.steps, run.views, run.rendered = run.steps + 1, run.views + recipe.batch, feed.rendered
        now = time.monotonic()
        run.elapsed_s, last = run.elapsed_s + now - last, now
        if run.elapsed_s - logged_s < recipe.log_every_s and run.elapsed_s < total_s:
            continue
        row = {
            "minutes": round(run.elapsed_s / 60, 2),
            "stage": "masked" if masked else "tags",
            "views": run.views,
            "rendered": run.rendered,
            "loss": round(float(np.mean(losses)), 4),
            "ms_per_clip": round((run.elapsed_s - logged_s) * 1e3 / max(1, run.views - views), 1),
        }
        if not masked and (run.elapsed_s - validated_s >= recipe.validate_every_s or run.elapsed_s >= total_s):
            row["accuracy"] = accuracies(run, *validation)
            validated_s = run.elapsed_s
            last = time.monotonic()  # judging is not training
        run.curve.append(row)
        log.info("%s", json.dumps(row))
        if "accuracy" in row or masked:
            run.save()
        losses, logged_s, views = [], run.elapsed_s, run.views


def learning_rate(elapsed_s: float, recipe: PretrainRecipe) -> float:
    """Share of the base rate: a linear warm-up, then half a cosine down to 0 at the end of the time."""
    warm = min(1.0, (elapsed_s + 1) / recipe.warmup_s)
    return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, elapsed_s / (60 * recipe.minutes))))


def accuracies(run: PretrainRun, pixels: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Share of right answers per tag over the clips that have it, with the averaged weights."""
    average = TagHeads(VideoMAEModel(run.recipe.config()), run.sizes)
    average.load_state_dict(run.average)
    average.eval()
    right = torch.zeros(len(run.tags))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for rows in torch.arange(len(pixels)).split(50):
            for n, logits in enumerate(average(pixels[rows])):
                right[n] += (logits.argmax(1) == labels[rows, n]).sum()
    return {tag: round(float(right[n] / max(1, int((labels[:, n] >= 0).sum()))), 4) for n, tag in enumerate(run.tags)}


def export(run: PretrainRun, folder: Path) -> None:
    """The averaged encoder as a Hugging Face folder, float16, readable by ``Encoder.load``."""
    encoder = VideoMAEModel(replace(run.recipe, masked_minutes=0).config())
    encoder.load_state_dict(_under(run.average, "encoder."))
    encoder.half().save_pretrained(folder)
    preprocessing = {
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
        "size": run.recipe.image_size,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2) + "\n")


def _validation(recipe, taxonomy: Taxonomy, draw: DrawClip, folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips of the held-out seed, rendered once per folder."""
    path = folder / "validation.safetensors"
    if not path.is_file():
        spec = recipe.feed(draw, held_out=True)
        clips = [clip_of(spec, taxonomy, number) for number in range(recipe.validation_clips)]
        tensors = {
            "pixels": torch.from_numpy(np.stack([c[0] for c in clips])),
            "labels": torch.tensor([c[1] for c in clips]),
        }
        _replace(path, lambda target: save_file(tensors, target))
    tensors = load_file(path)
    return tensors["pixels"], tensors["labels"]


def _masked_loss(run: PretrainRun, pixels: torch.Tensor) -> torch.Tensor:
    """VideoMAE's: the same places hidden in every tubelet, their normalised pixels predicted."""
    patches = run.tagger.encoder.embeddings.num_patches
    tubelets = 16 // run.recipe.tubelet
    masked = _masked(len(pixels), patches // tubelets, run.recipe.masked_keep).repeat(1, tubelets)
    return run.masked_model(_normalised(pixels), bool_masked_pos=masked).loss


def _tag_loss(logits: tuple[torch.Tensor, ...], labels: torch.Tensor, weights: list[float]) -> torch.Tensor:
    """Cross-entropy summed over the tags, each a mean over the clips that have it."""
    total = logits[0].new_zeros(())
    for n, (scores, weight) in enumerate(zip(logits, weights, strict=True)):
        if (labels[:, n] >= 0).any():
            # by the batch's size: a rare tag's few clips must not weigh as much as everyone's
            summed = nn.functional.cross_entropy(scores, labels[:, n], ignore_index=-1, reduction="sum")
            total = total + weight * summed / len(labels)
    return total


def _normalised(clips_NTHWC: torch.Tensor) -> torch.Tensor:
    """uint8 [N, T, H, W, 3] -> float [N, T, 3, H, W]."""
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return ((clips_NTHWC.float() / 255 - mean) / std).permute(0, 1, 4, 2, 3)


def _masked(count: int, patches: int, keep: float) -> torch.Tensor:
    """bool [count, patches], True where hidden; every row hides the same number."""
    return torch.rand(count, patches).argsort(1) >= max(1, round(keep * patches))


def _optimisers(recipe: PretrainRecipe, tagger: TagHeads, masked_model: nn.Module) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in tagger.named_parameters() if ".layer." in name and p.dim() == 2]
    muon = {id(p) for p in matrices} if recipe.muon_lr else set()
    rest = {id(p): p for p in (*tagger.parameters(), *masked_model.parameters()) if id(p) not in muon}
    decayed = [p for p in rest.values() if p.dim() > 1]
    plain = [p for p in rest.values() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimisers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.95))]
    if muon:
        optimisers.append(torch.optim.Muon(matrices, lr=recipe.muon_lr, weight_decay=recipe.weight_decay))
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["base"] = group["lr"]
    return optimisers


@torch.no_grad()
def _follow(average: dict[str, torch.Tensor], model: nn.Module, decay: float) -> None:
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _replace(path: Path, write) -> None:
    """Writes beside ``path`` and moves into place, so that a kill leaves the old file or the new one."""
    partial = path.with_name(path.name + ".partial")
    write(str(partial))
    os.replace(partial, path)
