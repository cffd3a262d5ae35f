"""An ``Encoder`` of any other family than VideoMAE: its network is a module of ``networks`` or ``image_networks``."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from halsted_ray.errors import ModelError
from halsted_ray.model.checkpoint import Checkpoint, JsonObject, write_checkpoint
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.encoders.families import FAMILIES
from halsted_ray.model.encoders.network import Network
from halsted_ray.model.precision import COMPUTED_IN, KEPT_PRECISIONS, require_unquantised


class ModuleEncoder(Encoder):
    """As ``Encoder``; precisions are fp32 and bf16. Its vectors per time step are those of ``Network.forward``."""

    network: Network

    def _describe(self, checkpoint: Checkpoint) -> None:
        self.network = network_of(checkpoint, self.ref)
        self.model_size = self.network.size
        self.frames, self.width, self.time_steps = self.network.frames, self.network.width, self.network.time_steps

    def _take_weights(self, checkpoint: Checkpoint, fingerprint: str) -> None:
        require_unquantised(self.family, self.precision)
        self.fingerprint = fingerprint or self._fingerprint_of(dict(self.network.model.state_dict()))
        self.parameters = sum(parameter.numel() for parameter in self.network.parameters())
        self.network = self.network.to(self.device, self.dtype).eval().requires_grad_(False)

    def _compile(self) -> None:
        self.network.compile(dynamic=False)

    def save(self, folder: str, precision: str = "fp32") -> None:
        """As ``Encoder.save``: the network's own tensors and configuration, without text models and heads."""
        if precision not in KEPT_PRECISIONS:
            raise ModelError(f"encoder {self.ref!r} was to be saved in {precision}, expected fp32 or bf16")
        dtype = COMPUTED_IN[precision]
        tensors = {
            name: value.to("cpu", dtype if value.is_floating_point() else None).contiguous()
            for name, value in self.network.model.state_dict().items()
        }
        config = json.loads(json.dumps(self.network.kept_config(), default=str))
        config["image_size"] = config.get("image_size", self.model_size[0])
        write_checkpoint(
            Checkpoint(config, tensors, self.mean, self.std, self.image_size, self.crop, self.family), folder
        )

    @property
    def size_name(self) -> str:
        """'': plans know no rate of this encoder and measure it."""
        return ""

    @property
    def flops_per_clip(self) -> float:
        """As ``Encoder.flops_per_clip``, counted while one clip runs."""
        clip = torch.from_numpy(np.zeros((1, *self.clip_shape), np.uint8)).to(self.device)
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            self._vectors(clip)
        return float(counter.get_total_flops())

    def _vectors(self, clips_NTHWC: torch.Tensor, steps: int = 0) -> torch.Tensor:
        """Returns [N, width], or [N, steps, width] for ``steps`` > 0."""
        pixels = (self._seen(clips_NTHWC).float() * self.scale + self.shift).to(self.dtype)
        pixels_NTCHW = pixels.permute(0, 1, 4, 2, 3)
        vectors: torch.Tensor = self.network(pixels_NTCHW) if steps else self.network.pooled(pixels_NTCHW)
        return vectors.float()

    def _settings(self) -> JsonObject:
        """Everything beside the weights that decides the vectors, as JSON values."""
        config: dict[str, Any] = json.loads(json.dumps(self.network.kept_config(), default=str))
        for name in ("transformers_version", "dtype", "torch_dtype", "_name_or_path", "architectures"):
            config.pop(name, None)  # they say who wrote the file
        return {
            "config": config,
            "mean": list(self.mean),
            "std": list(self.std),
            "size": list(self.image_size),
            "crop": list(self.crop or ()),
        }


def network_of(checkpoint: Checkpoint, ref: str) -> Network:
    """The network of a checkpoint, in float32 on the CPU. Raises ModelError where its files do not fit together."""
    if checkpoint.family in FAMILIES:
        from halsted_ray.model.encoders.networks import transformer_of  # here: an image network needs no transformers

        return transformer_of(checkpoint, ref)
    from halsted_ray.model.encoders.image_networks import image_network_of

    return image_network_of(checkpoint, ref)
