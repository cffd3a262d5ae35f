"""VideoMAE's encoder in plain torch, under the tensor names of Hugging Face's ``VideoMAEModel``.

It computes what that class computes, with the same operations in the same order, so its vectors are the same bit for
bit. It stands here because importing that class takes 2.6 s of processor time, and every process that maps, trains or
serves would pay for the import before its first video.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from halsted_ray.errors import ModelError

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": nn.functional.gelu,
    "gelu_pytorch_tanh": partial(nn.functional.gelu, approximate="tanh"),
    "relu": nn.functional.relu,
    "silu": nn.functional.silu,
}
"""Of the layers' inner width, by their names in a config.json."""


@dataclass(frozen=True)
class VideoMAESizes:
    """What a config.json says of the encoder, with Hugging Face's names and defaults."""

    image_size: int | Sequence[int] = 224
    patch_size: int | Sequence[int] = 16
    num_channels: int = 3
    num_frames: int = 16
    tubelet_size: int = 2
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    qv_bias: bool = True
    use_mean_pooling: bool = True

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> VideoMAESizes:
        """The sizes in ``config``, whose other entries are left alone. Raises ModelError where no model has them."""
        known = {field.name for field in fields(cls)}
        sizes = cls(**{name: value for name, value in config.items() if name in known})
        if sizes.hidden_act not in ACTIVATIONS:
            raise ModelError(f"hidden_act is {sizes.hidden_act!r}, expected one of: {', '.join(ACTIVATIONS)}")
        if sizes.hidden_size % sizes.num_attention_heads:
            raise ModelError(
                f"hidden_size is {sizes.hidden_size}, expected a multiple of the {sizes.num_attention_heads} heads"
            )
        return sizes

    @property
    def patches(self) -> int:
        """Number of tokens of a clip."""
        (height, width), (high, wide) = _pair(self.image_size), _pair(self.patch_size)
        return (height // high) * (width // wide) * (self.num_frames // self.tubelet_size)


class VideoMAE(nn.Module):
    """The modules of VideoMAE: ``embeddings`` (the patch projection), ``encoder`` (the layers) and ``layernorm``, which
    is None where the tokens are averaged without it."""

    def __init__(self, sizes: VideoMAESizes) -> None:
        super().__init__()
        self.config = sizes
        self.embeddings = _Embeddings(sizes)
        self.encoder = _Layers(sizes)
        self.layernorm = None if sizes.use_mean_pooling else nn.LayerNorm(sizes.hidden_size, eps=sizes.layer_norm_eps)

    def fuse_projections(self) -> None:
        """Makes one matrix of each layer's query, key and value projections, which become views of it.

        The tokens are then read once and multiplied once; on a CPU the results are the same bit for bit. It takes the
        memory of one layer's three matrices for a moment.
        """
        for layer in self.encoder.layer:
            layer.attention.attention.fuse()


def sine_positions(count: int, width: int) -> torch.Tensor:
    """float32 [1, count, width]: the fixed sine and cosine of each token's place, which is added to the token."""
    # A power at a time: numpy's power over an array may differ from this in the last bit.
    wavelengths = np.array([np.power(10000, 2 * (column // 2) / width) for column in range(width)])
    angles = np.arange(count)[:, None] / wavelengths
    angles[:, 0::2] = np.sin(angles[:, 0::2])
    angles[:, 1::2] = np.cos(angles[:, 1::2])
    return torch.from_numpy(angles.astype(np.float32)).unsqueeze(0)


class _Embeddings(nn.Module):
    """Holds the patch projection; the encoder applies its weights itself, as a matrix product."""

    def __init__(self, sizes: VideoMAESizes) -> None:
        super().__init__()
        kernel = (sizes.tubelet_size, *_pair(sizes.patch_size))
        self.patch_embeddings = nn.Module()
        self.patch_embeddings.projection = nn.Conv3d(sizes.num_channels, sizes.hidden_size, kernel, kernel)


class _Layers(nn.Module):
    def __init__(self, sizes: VideoMAESizes) -> None:
        super().__init__()
        self.layer = nn.ModuleList([_Layer(sizes) for _ in range(sizes.num_hidden_layers)])

    def forward(self, tokens_NTD: torch.Tensor) -> torch.Tensor:
        for layer in self.layer:
            tokens_NTD = layer(tokens_NTD)
        return tokens_NTD


class _Layer(nn.Module):
    def __init__(self, sizes: VideoMAESizes) -> None:
        super().__init__()
        width, inner = sizes.hidden_size, sizes.intermediate_size
        self.activation = ACTIVATIONS[sizes.hidden_act]
        self.attention = _Attention(sizes)
        self.intermediate = _Dense(width, inner)
        self.output = _Dense(inner, width)
        self.layernorm_before = nn.LayerNorm(width, eps=sizes.layer_norm_eps)
        self.layernorm_after = nn.LayerNorm(width, eps=sizes.layer_norm_eps)

    def forward(self, tokens_NTD: torch.Tensor) -> torch.Tensor:
        tokens_NTD = self.attention(self.layernorm_before(tokens_NTD)) + tokens_NTD
        inner_NTD = self.activation(self.intermediate.dense(self.layernorm_after(tokens_NTD)))
        return self.output.dense(inner_NTD) + tokens_NTD


class _Attention(nn.Module):
    def __init__(self, sizes: VideoMAESizes) -> None:
        super().__init__()
        self.attention = _SelfAttention(sizes)
        self.output = _Dense(sizes.hidden_size, sizes.hidden_size)

    def forward(self, tokens_NTD: torch.Tensor) -> torch.Tensor:
        return self.output.dense(self.attention(tokens_NTD))


class _SelfAttention(nn.Module):
    def __init__(self, sizes: VideoMAESizes) -> None:
        super().__init__()
        width = sizes.hidden_size
        self.head_width = width // sizes.num_attention_heads
        self.query = nn.Linear(width, width, bias=sizes.qv_bias)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=sizes.qv_bias)

        self.fused: nn.Module | None = None

    def fuse(self) -> None:
        """See ``VideoMAE.fuse_projections``."""
        parts = (self.query, self.key, self.value)
        weight = torch.cat([part.weight.detach() for part in parts])
        for part, rows in zip(parts, weight.chunk(3), strict=True):
            part.weight = nn.Parameter(rows, requires_grad=False)
        bias = None
        if self.query.bias is not None:
            values = [self.query.bias, torch.zeros_like(self.query.bias), self.value.bias]
            bias = torch.cat([value.detach() for value in values])
            for part, rows in ((self.query, bias.chunk(3)[0]), (self.value, bias.chunk(3)[2])):
                part.bias = nn.Parameter(rows, requires_grad=False)
        self.fused = _FusedLinear(weight, bias)

    def forward(self, tokens_NTD: torch.Tensor) -> torch.Tensor:
        if self.fused is None:
            projected = [project(tokens_NTD) for project in (self.query, self.key, self.value)]
        else:
            projected = list(self.fused(tokens_NTD).chunk(3, 2))
        query, key, value = (part.unflatten(2, (-1, self.head_width)).transpose(1, 2) for part in projected)
        attended = nn.functional.scaled_dot_product_attention(query, key, value, scale=self.head_width**-0.5)
        return attended.transpose(1, 2).flatten(2)


class _FusedLinear(nn.Module):
    """A linear map whose weights are no part of the model's state, where they stand under their own names."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(tokens, self.weight, self.bias)


class _Dense(nn.Module):
    """One linear map, under the name that checkpoints give it."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width_in, width_out)


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width), from a number where both are the same."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])
