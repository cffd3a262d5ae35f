"""The state of a pretraining run and its files: checkpoint, curve, held-out clips and the exported encoder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import VideoMAEForPreTraining, VideoMAEModel

from halsted_ray.errors import OutputError
from halsted_ray.model.checkpoint import IMAGENET_MEAN, IMAGENET_STD
from halsted_ray.taxonomy import Taxonomy, load
from halsted_ray.training.clip_loader import DrawClip, clip_of, tag_names, tag_sizes
from halsted_ray.training.pretrain_model import TagHeads, new_optimizers
from halsted_ray.training.pretrain_recipe import PretrainRecipe

CurveRow = dict[str, Any]
"""JSON values of one stretch of training: minutes, stage, views, rendered, loss, ms_per_clip, and accuracy by tag where
the run validated."""
SHAPE = ("image_size", "tubelet", "width", "layers", "heads", "taxonomy", "muon_lr", "seed")
"""Fields of the recipe that a continued run must not change."""
COUNTERS = ("elapsed_s", "steps", "views", "rendered", "curve")


class PretrainRun:
    """A run's networks, optimizers and counters. All of it is kept in ``folder``, and what is there is continued.

    ``views``: clips that the trainer has seen, repeats included; ``rendered``: clips that were rendered. Raises
    OutputError where ``folder`` holds a run of another shape.
    """

    def __init__(self, recipe: PretrainRecipe, folder: Path, draw: DrawClip) -> None:
        self.recipe, self.folder, self.draw = recipe, folder, draw
        self.taxonomy: Taxonomy = load(recipe.taxonomy)
        self.tags, self.sizes = tag_names(self.taxonomy), tag_sizes(self.taxonomy)
        torch.manual_seed(recipe.seed)
        self.masked_model = VideoMAEForPreTraining(recipe.config())
        self.tagger = TagHeads(self.masked_model.videomae, self.sizes)
        self.average: dict[str, torch.Tensor] = {}
        self.restart_average()
        self.optimizers = new_optimizers(recipe, self.tagger, self.masked_model)
        self.elapsed_s, self.steps, self.views, self.rendered = 0.0, 0, 0, 0
        self.curve: list[CurveRow] = []
        self.resumed = self._resume()

    def restart_average(self) -> None:
        """Sets the moving average to the present weights."""
        self.average = {name: value.clone() for name, value in self.tagger.state_dict().items()}

    def save(self) -> None:
        """Writes weights, average and optimizer state as tensors; counters and the curve as JSON beside them."""
        tensors = {f"masked.{k}": v for k, v in self.masked_model.state_dict().items()}
        tensors |= {f"tagger.{k}": v for k, v in self.tagger.state_dict().items() if not k.startswith("encoder.")}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        for n, optimizer in enumerate(self.optimizers):
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimiser.{n}.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
        _replace(
            self.folder / "checkpoint.safetensors",
            lambda path: save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, path),
        )
        state = {"recipe": asdict(self.recipe)} | {name: getattr(self, name) for name in COUNTERS}
        _replace(self.folder / "run.json", lambda path: path.write_text(json.dumps(state, indent=1)))

    def _resume(self) -> bool:
        """Takes the state of the run in the folder, where there is one."""
        if not (self.folder / "run.json").is_file():
            return False
        state = json.loads((self.folder / "run.json").read_text())
        changed = [name for name in SHAPE if state["recipe"][name] != getattr(self.recipe, name)]
        if changed:
            raise OutputError(f"{self.folder} holds a run with other {', '.join(changed)}; give it another folder")
        tensors = load_file(self.folder / "checkpoint.safetensors")
        self.masked_model.load_state_dict(_under(tensors, "masked."))
        self.tagger.load_state_dict(_under(tensors, "tagger."), strict=False)  # its encoder is the masked model's
        self.average = _under(tensors, "average.")
        for n, optimizer in enumerate(self.optimizers):
            whole = optimizer.state_dict()
            for name, value in _under(tensors, f"optimiser.{n}.").items():
                index, key = name.split(".")
                whole["state"].setdefault(int(index), {})[key] = value
            optimizer.load_state_dict(whole)
        for name in COUNTERS:
            setattr(self, name, state[name])
        return True

    def validation_clips(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(pixels uint8 [N, T, H, W, 3], labels int64 [N, tags]) of the held-out seed, rendered once per folder."""
        path = self.folder / "validation.safetensors"
        if not path.is_file():
            spec = self.recipe.clips(self.draw, held_out=True)
            clips = [clip_of(spec, self.taxonomy, number) for number in range(self.recipe.validation_clips)]
            tensors = {
                "pixels": torch.from_numpy(np.stack([frames for frames, _ in clips])),
                "labels": torch.tensor([labels for _, labels in clips]),
            }
            _replace(path, lambda target: save_file(tensors, target))
        tensors = load_file(path)
        return tensors["pixels"], tensors["labels"]

    def export(self, folder: Path) -> None:
        """Writes the averaged encoder as a Hugging Face folder, float16, readable by ``Encoder.load``."""
        encoder = VideoMAEModel(replace(self.recipe, masked_minutes=0).config())
        encoder.load_state_dict(_under(self.average, "encoder."))
        encoder.half().save_pretrained(folder)
        preprocessing = {
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(IMAGENET_MEAN),
            "image_std": list(IMAGENET_STD),
            "size": self.recipe.image_size,
        }
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2) + "\n")


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Writes beside ``path`` and moves into place, so that a kill leaves the old file or the new file."""
    partial = path.with_name(path.name + ".partial")
    write(partial)
    os.replace(partial, path)
