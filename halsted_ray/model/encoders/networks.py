"""Modules that turn the pixels of clips into vectors, with the model classes of transformers inside.

Shapes: N clips, T frames, C = 3 channels, H and W pixels, S time steps, P patch tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from torch import nn

from halsted_ray.errors import ModelError, first_line
from halsted_ray.model.checkpoint import Checkpoint
from halsted_ray.model.encoders.families import FAMILIES, Family, pooling_of
from halsted_ray.model.encoders.network import ImageNetwork, Network


class TransformerOfPictures(ImageNetwork):
    """A vision transformer of ``families.FAMILIES`` that looks at single pictures."""

    def __init__(
        self, model: nn.Module, config: dict[str, Any], size: tuple[int, int], family: Family, pooling: str
    ) -> None:
        super().__init__(model, config, config["hidden_size"], size)
        self.family, self.pooling = family, pooling
        self.special = family.special_tokens + config.get("num_register_tokens", 0)

    def picture_vectors(self, pixels_MCHW: torch.Tensor) -> torch.Tensor:
        """The class token after the last norm, the mean of the patch tokens, or the model's own attention pooling."""
        found = self.model(pixel_values=pixels_MCHW)
        if self.pooling == "mean":
            tokens_MPD: torch.Tensor = found.last_hidden_state[:, self.special :]
            return tokens_MPD.mean(1, dtype=torch.float32)
        pooled: torch.Tensor | None = found.pooler_output
        return found.last_hidden_state[:, 0] if pooled is None else pooled


class TransformerOfClips(Network):
    """A video transformer of ``families.FAMILIES``. Its time steps are its tubelets, or its frames."""

    def __init__(self, model: nn.Module, config: dict[str, Any], size: tuple[int, int], family: Family, pooling: str):
        super().__init__()
        self.model, self.config, self.family, self.pooling = model, config, family, pooling
        self.frames, self.width, self.size = config[family.frames_key], config["hidden_size"], size
        tubelet = config.get("tubelet_size", 1)
        self.time_steps = self.frames // (tubelet if isinstance(tubelet, int) else tubelet[0])

    def _tokens(self, pixels_NTCHW: torch.Tensor) -> torch.Tensor:
        name = "pixel_values_videos" if self.config["model_type"] == "vjepa2" else "pixel_values"
        tokens: torch.Tensor = self.model(**{name: pixels_NTCHW}).last_hidden_state
        return tokens

    def forward(self, pixels_NTCHW: torch.Tensor) -> torch.Tensor:
        """The mean of the patch tokens of each time step."""
        tokens_NPD = self._tokens(pixels_NTCHW)[:, self.family.special_tokens :]
        if self.config["model_type"] == "timesformer":  # its tokens come in order of space, then of time
            return tokens_NPD.unflatten(1, (-1, self.time_steps)).mean(1, dtype=torch.float32)
        return tokens_NPD.unflatten(1, (self.time_steps, -1)).mean(2, dtype=torch.float32)

    def pooled(self, pixels_NTCHW: torch.Tensor) -> torch.Tensor:
        """The mean of all patch tokens, or the class token."""
        if self.pooling == "class":
            return self._tokens(pixels_NTCHW)[:, 0].float()
        return super().pooled(pixels_NTCHW)

    def kept_config(self) -> dict[str, Any]:
        """See ``Network.kept_config``."""
        return self.config


def transformer_of(checkpoint: Checkpoint, ref: str) -> Network:
    """The network of a checkpoint of ``FAMILIES``, in float32 on the CPU, with all its weights.

    Raises ModelError where weights, configuration and preprocessing do not fit together.
    """
    family = FAMILIES[checkpoint.family]
    pooling = pooling_of(checkpoint.config, ref)
    model_class = getattr(transformers, family.model_class)
    stated = checkpoint.config.get(family.part, {}) if family.part else checkpoint.config
    try:
        config = model_class.config_class.from_dict(dict(stated))
    except Exception as error:  # of many kinds, by the entry that is wrong
        raise ModelError(f"encoder {ref!r}: its config.json can't be used: {first_line(error)}") from error
    known = config.to_dict()
    size = _picture_size(known, family, checkpoint, ref)
    model = _loaded(model_class, config, family, checkpoint, ref)
    known |= {"model_type": model_class.config_class.model_type, "halsted_pooling": pooling}
    if pooling == "head" and not known.get("vision_use_head", True):
        raise ModelError(
            f"encoder {ref!r}: vision_use_head is false, so it has no attention pooling; expected "
            '"halsted_pooling": "mean" in its config.json'
        )
    if checkpoint.family == "vjepa2":
        model = _JepaEncoder(model.encoder)  # its predictor guesses masked tokens in training, and gives no vector
    kind = TransformerOfClips if family.is_video else TransformerOfPictures
    return kind(model, known, size, family, pooling)


class _JepaEncoder(nn.Module):
    """V-JEPA 2's encoder under the tensor names of ``VJEPA2Model``."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixel_values_videos: torch.Tensor) -> Any:
        return self.encoder(pixel_values_videos)


def _picture_size(config: dict[str, Any], family: Family, checkpoint: Checkpoint, ref: str) -> tuple[int, int]:
    """(height, width) of the pictures that the model sees. Raises ModelError where its files contradict each other."""
    wanted, patch = config[family.size_key], config.get("patch_size") or config["tubelet_size"][1:]
    stated = (wanted, wanted) if isinstance(wanted, int) else (wanted[0], wanted[1])
    seen = checkpoint.crop or checkpoint.size or stated
    if seen != stated and not family.any_size:
        raise ModelError(
            f"encoder {ref!r}: its preprocessing gives pictures of {seen[0]}×{seen[1]}, {family.size_key} in its "
            f"config.json is {stated[0]}×{stated[1]}; make both files say the same"
        )
    high, wide = (patch, patch) if isinstance(patch, int) else (patch[0], patch[1])
    if seen[0] % high or seen[1] % wide:
        raise ModelError(
            f"encoder {ref!r}: its preprocessing gives pictures of {seen[0]}×{seen[1]}, expected a multiple of its "
            f"patches of {high}×{wide}"
        )
    return seen


def _loaded(model_class: Any, config: Any, family: Family, checkpoint: Checkpoint, ref: str) -> Any:
    """The model with the checkpoint's tensors. transformers knows the names that its earlier releases gave them."""
    with _silent():
        try:
            model, found = model_class.from_pretrained(
                None,
                config=config,
                state_dict=dict(checkpoint.tensors),
                output_loading_info=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # they are refused below, with names
                **dict(family.arguments),
            )
        except (RuntimeError, ValueError, KeyError) as error:
            raise ModelError(f"encoder {ref!r}: its weights can't be used: {first_line(error)}") from error
    parts = {name for name, _ in model.named_children()}
    missing = [name for name in found["missing_keys"] if not name.startswith("predictor.")]
    surplus = [name for name in found["unexpected_keys"] if _is_of(name, model.base_model_prefix, parts)]
    other = [name if isinstance(name, str) else name[0] for name in found["mismatched_keys"]]
    wrong = {"missing": missing, "of another shape": other, "that the configuration does not have": surplus}
    if any(wrong.values()):
        listed = "; ".join(f"tensors {what}: {_some(names)}" for what, names in wrong.items() if names)
        raise ModelError(f"encoder {ref!r} (model_type {checkpoint.family!r}) does not fit its config.json: {listed}")
    return model.eval()


def _is_of(name: str, prefix: str, parts: set[str]) -> bool:
    """Whether a tensor belongs to the part of a larger model that is loaded, such as a layer too many."""
    for before in (f"{prefix}.", "vision_model."):
        name = name.removeprefix(before)
    return name.split(".")[0] in parts


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + (f" and {len(ordered) - 3} more" if len(ordered) > 3 else "")


@contextmanager
def _silent() -> Iterator[None]:
    """Without the library's own report, which lists text models and heads that are left out on purpose."""
    logging = transformers.utils.logging
    level, has_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bar:
            logging.enable_progress_bar()
