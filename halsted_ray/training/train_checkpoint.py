"""The files of a training checkpoint: decoder, optimizer, the decoder to keep, and how far the run is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch

from halsted_ray.training.epoch_record import TrainProgress

Tensors = dict[str, torch.Tensor]
"""Name → tensor, as ``Module.state_dict`` gives them."""


def write_checkpoint(
    folder: str | Path,
    decoder: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    best: Tensors,
    progress: TrainProgress,
) -> None:
    """Writes a checkpoint into ``folder``, which must exist: three safetensors files and ``progress.json``.

    ``best``: the tensors of the decoder that the save rule has kept so far.
    """
    moments = {
        f"{index}.{name}": value.contiguous()
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
    safetensors.torch.save_file(dict(decoder.state_dict()), Path(folder, "decoder.safetensors"))
    safetensors.torch.save_file(moments, Path(folder, "optimizer.safetensors"))
    safetensors.torch.save_file(best, Path(folder, "best.safetensors"))
    Path(folder, "progress.json").write_text(json.dumps(asdict(progress)))


def restore_checkpoint(
    folder: str | Path, decoder: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[TrainProgress, Tensors]:
    """Loads a checkpoint into ``decoder`` and ``optimizer``; gives the run's progress and the decoder to keep."""
    decoder.load_state_dict(safetensors.torch.load_file(Path(folder, "decoder.safetensors")))
    state: dict[int, dict[str, torch.Tensor]] = {}
    moments: Mapping[str, torch.Tensor] = safetensors.torch.load_file(Path(folder, "optimizer.safetensors"))
    for key, value in moments.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return read_progress(folder), read_best(folder)


def read_progress(folder: str | Path) -> TrainProgress:
    """How far the run of the checkpoint in ``folder`` was."""
    return TrainProgress(**json.loads(Path(folder, "progress.json").read_text()))


def read_best(folder: str | Path) -> Tensors:
    """The tensors of the decoder to keep, from the checkpoint in ``folder``."""
    best: Tensors = safetensors.torch.load_file(Path(folder, "best.safetensors"))
    return best
