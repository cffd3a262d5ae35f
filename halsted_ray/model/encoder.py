"""The frozen video encoder: 16 frames of a window become one vector (paper, Methods: "Video encoder").

The vector is the mean of VideoMAE's final tokens. Where the checkpoint has an ``fc_norm``, it is applied to the mean.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib import resources
from typing import TypedDict, Unpack

import numpy as np
import safetensors.torch
import torch
from torch import nn

from halsted_ray.errors import ModelError
from halsted_ray.model.checkpoint import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Checkpoint,
    JsonObject,
    locate,
    read_checkpoint,
)
from halsted_ray.model.videomae import VideoMAE, VideoMAESizes, sine_positions
from halsted_ray.storage.files import write_atomically

PRESETS: dict[str, dict[str, int]] = {
    "tiny": {
        "image_size": 112,
        "patch_size": 16,
        "hidden_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "intermediate_size": 768,
    },
    "base": {
        "image_size": 224,
        "patch_size": 16,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
    "large": {
        "image_size": 224,
        "patch_size": 16,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
    # VideoMAE V2-g, the paper's encoder: 2048 tokens, each of width 1408.
    "giant": {
        "image_size": 224,
        "patch_size": 14,
        "hidden_size": 1408,
        "num_hidden_layers": 40,
        "num_attention_heads": 16,
        "intermediate_size": 6144,
    },
}
"""Sizes by name. All presets take 16 frames in tubelets of 2 frames."""
PLAIN_PIXELS = ("giant",)
"""Presets whose pixels are only scaled to [0, 1] (VideoMAE V2). The others use ImageNet's mean and deviation."""
STEPS = "#steps"
"""Appended to an encoder's reference: the encoder then gives a vector per time step (per tubelet), not their mean."""


class EncoderOptions(TypedDict, total=False):
    """What ``Encoder.load`` and ``Encoder.create`` pass on to ``Encoder``."""

    device: str
    dtype: torch.dtype | None
    micro_batch: int | None
    compile: bool
    steps: bool


class Encoder:
    """VideoMAE as one function from frames to vectors.

    ``width``: width of VideoMAE's tokens. ``steps``: vectors per window, 1 by default. ``dim``: width D of a window's
    vector, ``steps * width``. ``image_size``: (height, width) of the frames it expects. ``frames``: frames per window.

    ``fingerprint``: 16 hex digits over configuration, weights and preprocessing. Two encoders with the same
    fingerprint give the same vectors, up to the precision they run in.

    ``micro_batch``: clips per forward pass. Every pass has exactly this size (the last one is padded), so that the
    vector of a clip never depends on the other clips. The fingerprint does not depend on it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        micro_batch: int | None = None,
        compile: bool = False,
        ref: str = "",
        steps: bool = False,
    ):
        """Puts the weights of ``checkpoint`` on ``device``.

        ``dtype``: default bfloat16 on a GPU, float32 on a CPU. ``micro_batch``: default 16 on a GPU, 1 on a CPU.
        ``compile``: run the forward pass through ``torch.compile``. ``ref``: the reference it was loaded from, for
        messages. ``steps``: see ``STEPS``. Raises ModelError where the weights do not fit the configuration.
        """
        config = dict(checkpoint.config)
        tensors = dict(checkpoint.tensors)
        fc_norm = {name: tensors.pop(name) for name in ("fc_norm.weight", "fc_norm.bias") if name in tensors}
        config["use_mean_pooling"] = "layernorm.weight" not in tensors
        self.config = VideoMAESizes.from_dict(config)
        self.mean, self.std = checkpoint.mean, checkpoint.std
        self.ref = ref
        size = self.config.image_size
        self.image_size: tuple[int, int] = (size, size) if isinstance(size, int) else (size[0], size[1])
        self.frames: int = self.config.num_frames
        self.width: int = self.config.hidden_size
        self.steps = self.frames // self.config.tubelet_size if steps else 1
        self.dim = self.steps * self.width
        self.device = torch.device(device)
        self.dtype = dtype or (torch.bfloat16 if self.device.type == "cuda" else torch.float32)
        self.micro_batch = micro_batch or (16 if self.device.type == "cuda" else 1)
        settings = self._settings() | ({"steps": self.steps} if steps else {})
        self.fingerprint = _fingerprint(settings, tensors | fc_norm)

        with torch.device("meta"):  # spends no time on random weights that are replaced at once
            model = VideoMAE(self.config)
        _load_tensors(model, tensors, ref)
        _require_biases(model, ref)
        self.norm = None
        if fc_norm:
            self.norm = nn.LayerNorm(self.width, eps=1e-6)
            self.norm.load_state_dict({name.split(".")[1]: value for name, value in fc_norm.items()})
            self.norm.to(self.device, torch.float32).eval().requires_grad_(False)
        self.model = model.to(self.device, self.dtype).eval().requires_grad_(False)
        # A fixed sine table, which is moved to the device once.
        self.positions = sine_positions(self.config.patches, self.width).to(self.device, self.dtype)
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        self.scale, self.shift = (1 / (255 * std)).to(self.device), (-mean / std).to(self.device)
        self._forward: Callable[[torch.Tensor], torch.Tensor] = (
            torch.compile(self._vectors) if compile else self._vectors
        )

    @classmethod
    def load(cls, ref: str = "tiny", **options: Unpack[EncoderOptions]) -> Encoder:
        """Loads the encoder at ``ref``.

        ``ref``: ``tiny`` (ships with this package); a folder with config.json (Hugging Face); or a file of VideoMAE V2
        weights (.safetensors, .pth). Folder and file may be local or at any fsspec URL. ``random:PRESET:SEED`` gives
        an untrained encoder for tests and benchmarks. ``#steps`` may follow any of them: see ``STEPS``.

        Raises ModelError where there is no such encoder or its weights can't be used.
        """
        if ref.endswith(STEPS):
            options["steps"] = True
            encoder = cls.load(ref.removesuffix(STEPS), **options)
            encoder.ref = ref
            return encoder
        if ref.startswith("random:"):
            parts = ref.split(":")
            if len(parts) != 3 or not parts[2].isdigit():
                raise ModelError(f"encoder {ref!r}: expected random:PRESET:SEED, such as random:tiny:0")
            return cls.create(parts[1], int(parts[2]), **options)
        if ref == "tiny":
            folder = resources.files("halsted_ray.model") / "weights" / "tiny"
            if not (folder / "model.safetensors").is_file():
                raise ModelError(
                    "the weights of encoder 'tiny' are not in this installation; install the package again"
                )
            return cls(read_checkpoint(str(folder)), ref=ref, **options)
        if ref in PRESETS:
            raise ModelError(
                f"the weights of encoder {ref!r} do not ship with this package; give the folder or file that holds "
                f"them, or random:{ref}:0 for an untrained encoder"
            )
        return cls(read_checkpoint(ref), ref=ref, **options)

    @classmethod
    def create(cls, preset: str, seed: int, **options: Unpack[EncoderOptions]) -> Encoder:
        """Makes an untrained encoder of a preset's size. The same seed gives the same weights."""
        return cls(random_checkpoint(preset, seed), ref=f"random:{preset}:{seed}", **options)

    def save(self, folder: str) -> None:
        """Writes config.json, preprocessor_config.json and model.safetensors (float32) to a folder or fsspec URL.

        Raises OutputError where the folder can't be written.
        """
        fs, path = locate(folder, "encoder")
        tensors = {name: value.float().cpu().contiguous() for name, value in self.model.state_dict().items()}
        if self.norm is not None:
            tensors |= {f"fc_norm.{name}": value.cpu() for name, value in self.norm.state_dict().items()}
        settings = self._settings()
        preprocessing = {
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "size": settings["config"]["image_size"],
        }
        write_atomically(fs, f"{path}/model.safetensors", safetensors.torch.save(tensors))
        for name, content in (("config", settings["config"]), ("preprocessor_config", preprocessing)):
            write_atomically(fs, f"{path}/{name}.json", (json.dumps(content, indent=2) + "\n").encode())

    @torch.inference_mode()
    def encode(self, clips_NTHWC: np.ndarray) -> np.ndarray:
        """Encodes clips: uint8 [N, frames, height, width, 3] -> float16 [N, dim]. Row n depends on clip n alone.

        Raises ModelError where the clips have another shape, or a vector does not fit into float16.
        """
        if self.steps > 1:
            return self.encode_steps(clips_NTHWC).reshape(len(clips_NTHWC), self.dim)
        return self._run_in_batches(clips_NTHWC, self._forward, (self.dim,))

    def encode_frames(self, images_NHWC: np.ndarray, rows_NT: np.ndarray) -> np.ndarray:
        """As ``encode``; clip n consists of the frames ``images_NHWC[rows_NT[n]]``."""
        return self.encode(images_NHWC[rows_NT])

    def forward_device(self, clips_NTHWC: torch.Tensor) -> torch.Tensor:
        """One batch as it is: uint8 [micro_batch, frames, height, width, 3] on ``device`` -> [micro_batch, dim] there,
        without waiting for the result."""
        return self._forward(clips_NTHWC) if self.steps == 1 else self._vectors(clips_NTHWC, self.steps).flatten(1)

    @torch.inference_mode()
    def encode_steps(self, clips_NTHWC: np.ndarray) -> np.ndarray:
        """As ``encode``, but averaged over space only: float16 [N, steps, width], with one step per tubelet."""
        steps = self.frames // self.config.tubelet_size
        return self._run_in_batches(clips_NTHWC, lambda clips: self._vectors(clips, steps), (steps, self.width))

    def _run_in_batches(
        self, clips_NTHWC: np.ndarray, forward: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, ...]
    ) -> np.ndarray:
        """Runs ``forward``, which gives ``shape`` per clip, over micro-batches; float16 [N, *shape]."""
        wanted = (self.frames, *self.image_size, 3)
        if clips_NTHWC.dtype != np.uint8 or clips_NTHWC.shape[1:] != wanted:
            raise ModelError(
                f"encoder {self.ref!r} got clips {clips_NTHWC.dtype} {clips_NTHWC.shape}, expected uint8 "
                f"{('N', *wanted)}"
            )
        vectors_ND = np.empty((len(clips_NTHWC), *shape), np.float16)
        pending: list[tuple[int, torch.Tensor]] = []
        for start in range(0, len(clips_NTHWC), self.micro_batch):
            chunk = torch.from_numpy(np.ascontiguousarray(clips_NTHWC[start : start + self.micro_batch]))
            if len(chunk) < self.micro_batch:
                padding = torch.zeros((self.micro_batch - len(chunk), *wanted), dtype=torch.uint8)
                chunk = torch.cat([chunk, padding])
            if self.device.type == "cuda":  # copies bytes while the GPU computes; the GPU makes floats of them
                chunk = chunk.pin_memory().to(self.device, non_blocking=True)
            pending.append((start, forward(chunk)))
        for start, vectors in pending:
            rows = vectors_ND[start : start + self.micro_batch]
            with np.errstate(over="ignore"):  # an overflow is caught below
                rows[:] = vectors[: len(rows)].cpu().numpy().astype(np.float16)
        if not np.isfinite(vectors_ND).all():
            raise ModelError(
                f"encoder {self.ref!r} gave a vector outside float16's range; check that its weights are complete"
            )
        return vectors_ND

    def _vectors(self, clips_NTHWC: torch.Tensor, steps: int = 0) -> torch.Tensor:
        """Returns [N, width], or [N, steps, width] for ``steps`` > 0. Tokens come in order of time, then of space."""
        tokens = self._patches(clips_NTHWC) + self.positions
        tokens = self.model.encoder(tokens)
        if self.model.layernorm is not None:
            tokens = self.model.layernorm(tokens)
        tokens = tokens.float()
        vectors = tokens.unflatten(1, (steps, -1)).mean(2) if steps else tokens.mean(1)
        return vectors if self.norm is None else self.norm(vectors)

    def _patches(self, clips_NTHWC: torch.Tensor) -> torch.Tensor:
        """Normalises pixels and projects patches. The convolution's stride equals its size, so it is a matmul."""
        count, _, height, width, channels = clips_NTHWC.shape
        projection = self.model.embeddings.patch_embeddings.projection
        _, _, tube, high, wide = projection.weight.shape
        pixels = (clips_NTHWC.float() * self.scale + self.shift).to(self.dtype)
        pixels = pixels.view(count, -1, tube, height // high, high, width // wide, wide, channels)
        pixels = pixels.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(count, -1, channels * tube * high * wide)
        return nn.functional.linear(pixels, projection.weight.flatten(1), projection.bias)

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(p.numel() for p in self.model.parameters()) + (0 if self.norm is None else 2 * self.width)

    @property
    def size_name(self) -> str:
        """The name of the encoder's size, by which ``halsted plan`` knows what it costs.

        This is the name of a preset, with one exception: ``tiny`` is the size of the encoder that ships, and
        ``random:tiny`` is the preset ``tiny``, which has twice the tokens. '' for any other size.
        """
        for name, preset in PRESETS.items():
            if all(getattr(self.config, key) == preset[key] for key in preset if key != "num_attention_heads"):
                if self.config.tubelet_size == 2:
                    return "random:tiny" if name == "tiny" else name
                if name == "tiny" and self.config.tubelet_size == 4:
                    return "tiny"
        return ""

    @property
    def device_name(self) -> str:
        """The device that the encoder runs on: ``cpu``, or the name that the driver gives the GPU."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    @property
    def flops_per_clip(self) -> float:
        """Floating-point operations of the forward pass per clip; a multiply-add counts as two (giant: 5.09e12)."""
        tokens, width, layers = self.positions.shape[1], self.width, self.config.num_hidden_layers
        matmuls = sum(p.numel() for p in self.model.parameters() if p.dim() > 1)
        return 2.0 * tokens * matmuls + 4.0 * tokens**2 * width * layers

    def _settings(self) -> JsonObject:
        """Returns everything beside the weights that decides the vectors, as JSON values."""
        names = (
            "image_size",
            "patch_size",
            "num_channels",
            "num_frames",
            "tubelet_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "hidden_act",
            "layer_norm_eps",
            "qv_bias",
            "use_mean_pooling",
        )
        config = {"model_type": "videomae", **{name: getattr(self.config, name) for name in names}}
        return {"config": config, "mean": list(self.mean), "std": list(self.std)}


def random_checkpoint(preset: str, seed: int) -> Checkpoint:
    """Makes untrained weights of a preset's size, for tests, benchmarks and the start of pretraining.

    Raises ModelError for an unknown preset.
    """
    if preset not in PRESETS:
        raise ModelError(f"no encoder preset {preset!r}; known: {', '.join(PRESETS)}")
    config = {**PRESETS[preset], "num_frames": 16, "tubelet_size": 2, "use_mean_pooling": False}
    with torch.device("meta"):  # names and shapes alone
        model = VideoMAE(VideoMAESizes.from_dict(config))
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, value in model.state_dict().items():
        if "layernorm" in name:
            tensors[name] = torch.ones(value.shape) if name.endswith("weight") else torch.zeros(value.shape)
        else:  # random biases too, so that a test sees whether they are used
            tensors[name] = torch.empty(value.shape).normal_(std=0.02, generator=generator)
    plain = preset in PLAIN_PIXELS
    return Checkpoint(config, tensors, (0.0,) * 3 if plain else IMAGENET_MEAN, (1.0,) * 3 if plain else IMAGENET_STD)


def _fingerprint(settings: JsonObject, tensors: dict[str, torch.Tensor]) -> str:
    """Hashes the settings and every weight: 0.1 s per 100 MB."""
    hasher = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(tensors):
        hasher.update(f"{name}{tuple(tensors[name].shape)}".encode())
        hasher.update(tensors[name].detach().float().cpu().contiguous().numpy())
    return hasher.hexdigest()[:16]


def _load_tensors(model: nn.Module, tensors: dict[str, torch.Tensor], ref: str) -> None:
    """Puts ``tensors`` into ``model``. Raises ModelError unless exactly its names and shapes are given."""
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in tensors.items()}
    if wanted != given:
        wrong = [
            f"{name} is {given.get(name, 'missing')}, expected {wanted.get(name, 'no such tensor')}"
            for name in sorted(wanted.keys() | given.keys())
            if wanted.get(name) != given.get(name)
        ]
        raise ModelError(
            f"encoder {ref!r} does not fit its configuration: {'; '.join(wrong[:4])}"
            + (f"; and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        )
    model.load_state_dict({name: value.detach() for name, value in tensors.items()}, assign=True)


def _require_biases(model: VideoMAE, ref: str) -> None:
    """Raises ModelError where all query or value biases are zero.

    A trained VideoMAE has such biases, and some library versions lost them without a message.
    """
    if not model.config.qv_bias:
        return
    for part in ("query", "value"):
        if not any(getattr(layer.attention.attention, part).bias.any() for layer in model.encoder.layer):
            raise ModelError(
                f"encoder {ref!r}: every {part} bias is zero, so the checkpoint was saved by a version that lost "
                f"them; take the original file"
            )
