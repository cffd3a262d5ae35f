"""Linear layers that multiply in 8 bits: float8 on a GPU (emulated on a CPU), integers on a CPU.

Weights have a scale per output channel and are quantised once. Activations are quantised as they come: in float8 with
a scale per token, in integers with a scale per clip. So a clip's vector never depends on its neighbours in a batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import nn

from halsted_ray.errors import ModelError
from halsted_ray.model.videomae import VideoMAE

FP8_MAX = torch.finfo(torch.float8_e4m3fn).max
"""448, the largest number of e4m3."""
FP8_MULTIPLE = 16
"""Both widths of a float8 product must be multiples of this (PyTorch's check)."""
SMALLEST_SCALE = 1e-12
"""For a row of zeros, whose scale would be 0."""


def quantize_linears(model: VideoMAE, precision: str) -> None:
    """Replaces the linear layers of ``model``, whose projections are fused, by those of ``precision`` (fp8 or int8).

    Each layer's former weights are freed before the next layer's are replaced. Raises ModelError.
    """
    make: Callable[[torch.Tensor, torch.Tensor | None], nn.Module] = Fp8Linear if precision == "fp8" else Int8Linear
    for layer in model.encoder.layer:
        attention = layer.attention.attention
        del attention.query, attention.key, attention.value  # views of the fused weights, which they would keep alive
        attention.fused = make(attention.fused.weight, attention.fused.bias)
        for part in (layer.attention.output, layer.intermediate, layer.output):
            part.dense = make(part.dense.weight, part.dense.bias)


class Fp8Linear(nn.Module):
    """bfloat16 [..., K] -> bfloat16 [..., N], multiplied in float8 (e4m3) with a scale per row and output channel."""

    def __init__(self, weight_NK: torch.Tensor, bias_N: torch.Tensor | None):
        """Quantises the weights. Raises ModelError where K or N is no multiple of 16."""
        super().__init__()
        if weight_NK.shape[0] % FP8_MULTIPLE or weight_NK.shape[1] % FP8_MULTIPLE:
            raise ModelError(
                f"precision fp8 needs linear layers whose widths are multiples of {FP8_MULTIPLE}, this encoder has one "
                f"of {weight_NK.shape[1]} to {weight_NK.shape[0]}; choose bf16"
            )
        quantized_NK, scale_N1 = quantize_rows(weight_NK)
        self.register_buffer("weight", quantized_NK)
        self.register_buffer("scale", scale_N1.t().contiguous())  # [1, N]
        self.register_buffer("bias", None if bias_N is None else bias_N.to(torch.bfloat16))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        rows_MK, scale_M1 = quantize_rows(tokens.flatten(0, -2))
        multiply = multiply_on_gpu if tokens.is_cuda else multiply_emulated
        return multiply(rows_MK, scale_M1, self.weight, self.scale, self.bias).unflatten(0, tokens.shape[:-1])


def quantize_rows(rows_MK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (float8 [M, K], float32 [M, 1]): the rows divided by their scales, and the scales.

    The largest number of a row becomes 448, give or take a rounding of float32, which float8 rounds away. Run eagerly,
    each step passes over the memory; compiled, they become one pass with the norm or the activation before them.
    """
    largest_M1 = rows_MK.abs().amax(1, keepdim=True).float()
    scale_M1 = (largest_M1 / FP8_MAX).clamp(min=SMALLEST_SCALE)
    return (rows_MK / scale_M1).to(torch.float8_e4m3fn), scale_M1


def multiply_on_gpu(
    rows_MK: torch.Tensor,
    scale_M1: torch.Tensor,
    weight_NK: torch.Tensor,
    scale_1N: torch.Tensor,
    bias_N: torch.Tensor | None,
) -> torch.Tensor:
    """bfloat16 [M, N] by ``torch._scaled_mm``, with fast accumulation (fewer bits in sums than float32).

    PyTorch wants the first operand row by row and the second column by column, which the transposed weights are; scales
    in contiguous float32 of shape [M, 1] and [1, N]; a bias in the output's type.
    """
    return torch._scaled_mm(
        rows_MK,
        weight_NK.t(),
        scale_a=scale_M1,
        scale_b=scale_1N,
        bias=bias_N,
        out_dtype=torch.bfloat16,
        use_fast_accum=True,
    )


def multiply_emulated(
    rows_MK: torch.Tensor,
    scale_M1: torch.Tensor,
    weight_NK: torch.Tensor,
    scale_1N: torch.Tensor,
    bias_N: torch.Tensor | None,
) -> torch.Tensor:
    """As ``multiply_on_gpu``, on any device: the same float8 numbers, multiplied and summed in float32. Slow."""
    product_MN = rows_MK.float() @ weight_NK.float().t() * scale_M1 * scale_1N
    return (product_MN if bias_N is None else product_MN + bias_N).to(torch.bfloat16)


class Int8Linear(nn.Module):
    """float32 [clips, tokens, K] -> float32 [clips, tokens, N], multiplied in 8-bit integers on a CPU.

    PyTorch quantises the activations with one scale per call, so each clip is a call of its own. Activations have 7
    bits, with which no sum overflows on a CPU without VNNI either.
    """

    def __init__(self, weight_NK: torch.Tensor, bias_N: torch.Tensor | None):
        """Quantises the weights and packs them for this machine's CPU."""
        super().__init__()
        weight_NK = weight_NK.float()
        scale_N = (weight_NK.abs().amax(1) / 127).clamp(min=SMALLEST_SCALE)
        with warnings.catch_warnings():  # PyTorch means to move its quantised tensors to torchao in a later version
            warnings.simplefilter("ignore")
            zeros = torch.zeros(len(scale_N), dtype=torch.long)
            quantized = torch.quantize_per_channel(weight_NK, scale_N, zeros, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(quantized, None if bias_N is None else bias_N.float())

    def forward(self, tokens_NTK: torch.Tensor) -> torch.Tensor:
        clips = [torch.ops.quantized.linear_dynamic(clip, self.packed, True) for clip in tokens_NTK]
        return torch.stack(clips) if len(clips) > 1 else clips[0].unsqueeze(0)
