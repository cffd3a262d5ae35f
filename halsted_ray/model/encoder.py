"""The frozen video encoder: the frames of a window become one vector (paper, Methods: "Video encoder").

VideoMAE stands here: the vector is the mean of its final tokens, and where the checkpoint has an ``fc_norm``, that is
applied to the mean. ``encoders.module_encoder`` has the other families.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib import resources
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
from torch import nn

from halsted_ray.errors import ModelError
from halsted_ray.model.captured_forward import CapturedForward
from halsted_ray.model.checkpoint import (
    AS_STORED,
    Checkpoint,
    JsonObject,
    Placement,
    kept_type,
    read_checkpoint,
    write_checkpoint,
)
from halsted_ray.model.encoders.families import VIDEOMAE
from halsted_ray.model.file_digests import FileDigests
from halsted_ray.model.identity_file import IdentityFile, read_identity_file
from halsted_ray.model.precision import (
    COMPUTED_IN,
    KEPT_PRECISIONS,
    choose_precision,
    is_compiled_by_default,
    require_support,
)
from halsted_ray.model.presets import PLAIN_PIXELS as PLAIN_PIXELS
from halsted_ray.model.presets import PRESETS as PRESETS
from halsted_ray.model.presets import random_checkpoint, size_name
from halsted_ray.model.quantized_linear import quantize_linears
from halsted_ray.model.videomae import VideoMAE, VideoMAESizes, sine_positions
from halsted_ray.storage.vectors import encoder_name

STEPS = "#steps"
"""Appended to an encoder's reference: the encoder then gives a vector per time step (per tubelet), not their mean."""


class EncoderOptions(TypedDict, total=False):
    """What ``Encoder.load`` and ``Encoder.create`` pass on to ``Encoder``."""

    device: str
    precision: str | None
    micro_batch: int | None
    compile: bool | None
    graph: bool
    steps: bool


class Encoder:
    """A frozen encoder as one function from frames to vectors; this class is VideoMAE's, ``ModuleEncoder`` the others'.

    ``family``: as ``Checkpoint.family``. ``width``: width of its tokens. ``steps``: vectors per window, 1 by default.
    ``dim``: width D of a window's vector, ``steps * width``. ``image_size``: (height, width) of the frames it expects;
    ``crop``: the size of their middle, where it looks at no more. ``frames``: frames per window. ``time_steps``:
    vectors per window that ``encode_steps`` gives.

    ``fingerprint``: 16 hex digits over configuration, weights and preprocessing. Two encoders with the same
    fingerprint give the same vectors, up to the precision they run in. ``precision``: one of ``precision.PRECISIONS``.
    ``vectors_name``: the name of its vectors, from both. ``kept_in``: the precision of its weights on disk.

    ``micro_batch``: clips per forward pass. Every pass has exactly this size (the last one is padded), so that the
    vector of a clip never depends on the other clips. The fingerprint does not depend on it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "cpu",
        precision: str | None = None,
        micro_batch: int | None = None,
        compile: bool | None = None,
        graph: bool = False,
        ref: str = "",
        steps: bool = False,
        fingerprint: str = "",
        kept_in: str = "fp32",
    ):
        """Puts the weights of ``checkpoint`` on ``device``.

        ``precision``: see ``precision.choose_precision``. ``micro_batch``: default 8 on a GPU, 1 on a CPU.
        ``compile``: run the layers through ``torch.compile`` (all layers share one compilation), which needs a C
        compiler; default see ``precision.is_compiled_by_default``. ``graph``: replay the forward pass as a CUDA graph
        (``CapturedForward``), on a GPU only. ``ref``: the reference it was loaded from, for messages. ``steps``: see
        ``STEPS``. ``fingerprint``: where it is known; else it is computed from the weights, 0.1 s per 100 MB.

        Raises ModelError where the weights do not fit the configuration, or the precision does not fit the device.
        """
        self.family = checkpoint.family
        self.mean, self.std = checkpoint.mean, checkpoint.std
        self.ref = ref
        self._describe(checkpoint)
        self.image_size, self.crop = self._pictures(checkpoint)
        self.gives_steps, self.steps = steps, self.time_steps if steps else 1
        self.dim = self.steps * self.width
        self.device = torch.device(device)
        self.kept_in = kept_in
        self.precision = choose_precision(device, precision, kept_in)
        require_support(self.precision, self.device)
        is_gpu = self.device.type == "cuda"
        if graph and not is_gpu:
            raise ModelError(f"graph=True needs a GPU, the device is {device!r}")
        self.dtype = COMPUTED_IN[self.precision]
        self.micro_batch = micro_batch or (8 if is_gpu else 1)
        self._take_weights(checkpoint, fingerprint)
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        self.scale, self.shift = (1 / (255 * std)).to(self.device), (-mean / std).to(self.device)
        if is_compiled_by_default(self.precision, self.device) if compile is None else compile:
            self._compile()
        self._forward: Callable[[torch.Tensor], torch.Tensor] = self._pooled
        if graph:
            with torch.inference_mode():
                shape = (self.micro_batch, *self.clip_shape)
                self._forward = CapturedForward(self._pooled, torch.zeros(shape, dtype=torch.uint8, device=device))

    def _describe(self, checkpoint: Checkpoint) -> None:
        """Sets ``config``, ``model_size``, ``frames``, ``width`` and ``time_steps``. Raises ModelError."""
        config = dict(checkpoint.config)
        config["use_mean_pooling"] = "layernorm.weight" not in checkpoint.tensors
        self.config = VideoMAESizes.from_dict(config)
        size = self.config.image_size
        self.model_size: tuple[int, int] = (size, size) if isinstance(size, int) else (size[0], size[1])
        self.frames: int = self.config.num_frames
        self.width: int = self.config.hidden_size
        self.time_steps: int = self.frames // self.config.tubelet_size

    def _pictures(self, checkpoint: Checkpoint) -> tuple[tuple[int, int], tuple[int, int] | None]:
        """(height, width) of the frames to ask for, and what the model sees of them where that is less."""
        seen = checkpoint.crop or checkpoint.size or self.model_size
        if seen != self.model_size:
            raise ModelError(
                f"encoder {self.ref!r}: its preprocessing gives pictures of {seen[0]}×{seen[1]}, its config.json wants "
                f"{self.model_size[0]}×{self.model_size[1]}; make both files say the same"
            )
        return checkpoint.size or self.model_size, checkpoint.crop

    def _take_weights(self, checkpoint: Checkpoint, fingerprint: str) -> None:
        """Sets ``fingerprint``, ``model`` (on the device, in its precision) and ``parameters``. Raises ModelError."""
        tensors = dict(checkpoint.tensors)
        fc_norm = {name: tensors.pop(name) for name in ("fc_norm.weight", "fc_norm.bias") if name in tensors}
        self.fingerprint = fingerprint or self._fingerprint_of(tensors | fc_norm)
        with torch.device("meta"):  # spends no time on random weights that are replaced at once
            model = VideoMAE(self.config)
        _load_tensors(model, tensors, self.ref)
        _require_biases(model, self.ref)
        self.parameters: int = sum(p.numel() for p in model.parameters()) + (2 * self.width if fc_norm else 0)
        self._multiplied = sum(p.numel() for p in model.parameters() if p.dim() > 1)
        self.norm = None
        if fc_norm:
            self.norm = nn.LayerNorm(self.width, eps=1e-6)
            self.norm.load_state_dict({name.split(".")[1]: value for name, value in fc_norm.items()})
            self.norm.to(self.device, torch.float32).eval().requires_grad_(False)
        self.model = _to_precision(model, self.device, self.precision)
        # A fixed sine table, which is moved to the device once.
        self.positions = sine_positions(self.config.patches, self.width).to(self.device, self.dtype)

    def _fingerprint_of(self, tensors: dict[str, torch.Tensor]) -> str:
        settings = self._settings() | ({"steps": self.steps} if self.gives_steps else {})
        return _fingerprint(settings, tensors)

    def _compile(self) -> None:
        """Has the layers compiled at their first run."""
        for layer in self.model.encoder.layer:
            layer.compile(fullgraph=True, dynamic=False)

    @classmethod
    def load(cls, ref: str = "tiny", **options: Unpack[EncoderOptions]) -> Encoder:
        """Loads the encoder at ``ref``.

        ``ref``: ``tiny`` (ships with this package); a folder with config.json (Hugging Face), whose ``model_type`` is
        ``videomae`` or one of ``encoders.families.FAMILIES``; a folder with encoder.json and the weights of an image
        network; or a file of VideoMAE V2 weights (.safetensors, .pth). Folder and file may be local or at any fsspec
        URL. ``random:PRESET:SEED`` gives an untrained encoder for tests and benchmarks. ``#steps`` may follow any of
        them: see ``STEPS``.

        Raises ModelError where there is no such encoder or its weights can't be used.
        """
        place = ref.removesuffix(STEPS)
        if place != ref:
            options["steps"] = True
        if place.startswith("random:"):
            parts = place.split(":")
            if len(parts) != 3 or not parts[2].isdigit():
                raise ModelError(f"encoder {ref!r}: expected random:PRESET:SEED, such as random:tiny:0")
            return _encoder_of(random_checkpoint(parts[1], int(parts[2])), ref=ref, **options)
        if place == "tiny":
            folder = resources.files("halsted_ray.model") / "weights" / "tiny"
            if not (folder / "model.safetensors").is_file():
                raise ModelError(
                    "the weights of encoder 'tiny' are not in this installation; install the package again"
                )
            return _encoder_of(read_checkpoint(str(folder)), ref=ref, **options)
        if place in PRESETS:
            raise ModelError(
                f"the weights of encoder {place!r} do not ship with this package; give the folder or file that holds "
                f"them, or random:{place}:0 for an untrained encoder"
            )
        kept = read_identity_file(place)
        if kept and kept.digests and "fingerprint" in kept.identities.get(ref.removeprefix(place), {}):
            return cls._load_identified(ref, place, kept, **options)
        return _encoder_of(read_checkpoint(place, AS_STORED), ref=ref, **options)

    @classmethod
    def _load_identified(cls, ref: str, place: str, kept: IdentityFile, **options: Unpack[EncoderOptions]) -> Encoder:
        """Loads weights whose fingerprint a file states, straight to the device and in the precision they run in.

        A thread computes their digests meanwhile. Raises ModelError where they are not the stated ones.
        """
        stated = kept.identities[ref.removeprefix(place)]
        device, kept_in = options.get("device", "cpu"), stated.get("kept_in", "fp32")
        dtype = COMPUTED_IN[choose_precision(device, options.get("precision"), kept_in)]
        with FileDigests() as digests:
            checkpoint = read_checkpoint(place, Placement(device, dtype, digests))
            encoder = _encoder_of(checkpoint, ref=ref, fingerprint=stated["fingerprint"], kept_in=kept_in, **options)
            try:
                found = digests.result()
            except OSError as error:
                raise ModelError(f"encoder {ref!r}: its weights can't be read to be checked: {error}") from error
        kept.check(found, ref)
        return encoder

    @classmethod
    def create(cls, preset: str, seed: int, **options: Unpack[EncoderOptions]) -> Encoder:
        """Makes an untrained encoder of a preset's size. The same seed gives the same weights."""
        return cls(random_checkpoint(preset, seed), ref=f"random:{preset}:{seed}", **options)

    def save(self, folder: str, precision: str = "fp32") -> None:
        """Writes config.json, preprocessor_config.json and model.safetensors to a folder or fsspec URL.

        ``precision`` of the weights: ``fp32`` or ``bf16``. Raises ModelError where this encoder runs in fp8 or int8,
        OutputError where the folder can't be written.
        """
        if self.precision not in KEPT_PRECISIONS or precision not in KEPT_PRECISIONS:
            raise ModelError(
                f"encoder {self.ref!r} runs in {self.precision} and was to be saved in {precision}, expected "
                f"{' or '.join(KEPT_PRECISIONS)} for both"
            )
        tensors = dict(self.model.state_dict())
        if self.norm is not None:
            tensors |= {f"fc_norm.{name}": value for name, value in self.norm.state_dict().items()}
        kept = {
            name: value.to("cpu", kept_type(name, COMPUTED_IN[precision])).contiguous()
            for name, value in tensors.items()
        }
        size = self.image_size if self.image_size != self.model_size else None
        write_checkpoint(Checkpoint(self._settings()["config"], kept, self.mean, self.std, size, self.crop), folder)

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(frames, height, width, channels) of a clip."""
        return self.frames, *self.image_size, 3

    @property
    def vectors_name(self) -> str:
        """The name under which its vectors are stored (``storage.vectors.encoder_name``)."""
        return encoder_name(self.fingerprint, self.precision)

    @torch.inference_mode()
    def encode(self, clips_NTHWC: np.ndarray) -> np.ndarray:
        """Encodes clips: uint8 [N, frames, height, width, 3] -> float16 [N, dim]. Row n depends on clip n alone.

        Raises ModelError where the clips have another shape, or a vector does not fit into float16.
        """
        return self._run_in_batches(clips_NTHWC, self.forward_device, (self.dim,))

    def encode_frames(self, images_NHWC: np.ndarray, rows_NT: np.ndarray) -> np.ndarray:
        """As ``encode``; clip n consists of the frames ``images_NHWC[rows_NT[n]]``."""
        return self.encode(images_NHWC[rows_NT])

    @torch.inference_mode()
    def encode_steps(self, clips_NTHWC: np.ndarray) -> np.ndarray:
        """As ``encode``, but averaged over space only: float16 [N, steps, width], with one step per tubelet."""
        steps = self.time_steps
        return self._run_in_batches(clips_NTHWC, lambda clips: self._vectors(clips, steps), (steps, self.width))

    @torch.inference_mode()
    def forward_device(self, clips_NTHWC: torch.Tensor) -> torch.Tensor:
        """Encodes one micro-batch where it lies: uint8 [micro_batch, frames, height, width, 3] on the encoder's device
        -> float32 [micro_batch, dim] on it.

        The work is put on the current stream and not waited for; with ``graph`` all calls must come on one stream.
        Rows that pad the batch cost as much as others. Raises ModelError for another shape, type or device. Whether the
        vectors fit into float16 is the caller's to check.
        """
        wanted = (self.micro_batch, *self.clip_shape)
        if clips_NTHWC.dtype != torch.uint8 or clips_NTHWC.shape != wanted or clips_NTHWC.device != self.scale.device:
            raise ModelError(
                f"encoder {self.ref!r} got clips {clips_NTHWC.dtype} {tuple(clips_NTHWC.shape)} on "
                f"{clips_NTHWC.device}, expected torch.uint8 {wanted} on {self.scale.device}"
            )
        return self._forward(clips_NTHWC)

    def _run_in_batches(
        self, clips_NTHWC: np.ndarray, forward: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, ...]
    ) -> np.ndarray:
        """Runs ``forward``, which gives ``shape`` per clip, over micro-batches; float16 [N, *shape]."""
        wanted = self.clip_shape
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

    def _pooled(self, clips_NTHWC: torch.Tensor) -> torch.Tensor:
        """Returns [N, dim]: the mean of all tokens, or with ``steps`` the means of each step one after another."""
        return self._vectors(clips_NTHWC, self.steps if self.steps > 1 else 0).flatten(1)

    def _vectors(self, clips_NTHWC: torch.Tensor, steps: int = 0) -> torch.Tensor:
        """Returns [N, width], or [N, steps, width] for ``steps`` > 0. Tokens come in order of time, then of space."""
        tokens = self._patches(self._seen(clips_NTHWC)) + self.positions
        tokens = self.model.encoder(tokens)
        if self.model.layernorm is not None:
            tokens = self.model.layernorm(tokens)
        if steps:
            tokens = tokens.unflatten(1, (steps, -1))
        vectors = tokens.mean(-2, dtype=torch.float32)  # without a float32 copy of all tokens
        return vectors if self.norm is None else self.norm(vectors)

    def _seen(self, clips_NTHWC: torch.Tensor) -> torch.Tensor:
        """The middle of each frame where the model's preprocessing cuts it out; else the frames as they are."""
        if self.crop is None:
            return clips_NTHWC
        top, left = ((have - want) // 2 for have, want in zip(self.image_size, self.crop, strict=True))
        return clips_NTHWC[:, :, top : top + self.crop[0], left : left + self.crop[1]]

    def _patches(self, clips_NTHWC: torch.Tensor) -> torch.Tensor:
        """Normalises pixels and projects patches. The convolution's stride equals its size, so it is a matmul."""
        count, _, height, width, channels = clips_NTHWC.shape
        projection = self.model.embeddings.patch_embeddings.projection
        _, _, tube, high, wide = projection.weight.shape
        pixels = clips_NTHWC.reshape(count, -1, tube, height // high, high, width // wide, wide, channels)
        # Bytes are put in order, not floats: a quarter of the memory. Then each colour lies together, so that its scale
        # is one number for many pixels. On one core it takes a third of the time, and the values are the same.
        pixels = pixels.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(count, -1, channels, tube * high * wide).float()
        pixels = pixels.mul_(self.scale[:, None]).add_(self.shift[:, None]).to(self.dtype).flatten(2)
        return nn.functional.linear(pixels, projection.weight.flatten(1), projection.bias)

    @property
    def size_name(self) -> str:
        """The name of the encoder's size (``presets.size_name``)."""
        return size_name(self.config)

    @property
    def device_name(self) -> str:
        """The device that the encoder runs on: ``cpu``, or the name that the driver gives the GPU."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    @property
    def flops_per_clip(self) -> float:
        """Floating-point operations of the forward pass per clip; a multiply-add counts as two (giant: 5.09e12)."""
        tokens, width, layers = self.positions.shape[1], self.width, self.config.num_hidden_layers
        return 2.0 * tokens * self._multiplied + 4.0 * tokens**2 * width * layers

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
        settings = {"config": config, "mean": list(self.mean), "std": list(self.std)}
        return settings if self.crop is None else settings | {"size": list(self.image_size), "crop": list(self.crop)}


def _encoder_of(checkpoint: Checkpoint, **options: Any) -> Encoder:
    """The encoder of a checkpoint of any family, with the other arguments of ``Encoder``."""
    if checkpoint.family == VIDEOMAE:
        return Encoder(checkpoint, **options)
    from halsted_ray.model.encoders.module_encoder import ModuleEncoder  # here, since it imports this module

    return ModuleEncoder(checkpoint, **options)


def _to_precision(model: VideoMAE, device: torch.device, precision: str) -> VideoMAE:
    """Puts ``model`` on ``device`` in ``precision``, ready to run."""
    model = model.to(device, COMPUTED_IN[precision]).eval().requires_grad_(False)
    # On a CPU the weights of a file are pages of that file, which all processes share; fused, each would have its own.
    if device.type == "cuda" or precision in ("fp8", "int8"):
        model.fuse_projections()
    if precision in ("fp8", "int8"):
        quantize_linears(model, precision)
    return model


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
