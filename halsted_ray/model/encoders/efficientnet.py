"""EfficientNets (Tan and Le, 2019) under the tensor names of their published weights.

``EfficientNet`` has torchvision's names (``features.0.0.weight``), ``EfficientNetLite0`` those of the PyTorch port
(``_conv_stem``, ``_blocks``). Both end with the mean over space before the classifier.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
"""(kernel, stride of the first block, expansion, channels, blocks) of each stage of B0 and of Lite 0."""
STEM_CHANNELS = 32
HEAD_EXPANSION = 4
"""Channels of the last convolution over those of the last stage."""
EFFICIENTNETS = {
    "efficientnet_b0": (1.0, 1.0),
    "efficientnet_b1": (1.0, 1.1),
    "efficientnet_b2": (1.1, 1.2),
    "efficientnet_b3": (1.2, 1.4),
}
"""Name → (factor of all channels, factor of the blocks of each stage)."""
LITE0_EPSILON = 1e-3
"""Of its batch norms."""


class EfficientNet(nn.Module):
    """EfficientNet B0 to B3. Pixels [M, 3, H, W] -> [M, width]; ``width``: 1280, 1280, 1408 or 1536."""

    def __init__(self, channels_factor: float, depth_factor: float) -> None:
        super().__init__()
        channels = _in_eights(STEM_CHANNELS * channels_factor)
        stages: list[nn.Module] = [_filtered(3, channels, 3, 2)]
        for kernel, stride, expansion, base_channels, base_count in STAGES:
            channels_out, blocks = _in_eights(base_channels * channels_factor), []
            for number in range(math.ceil(base_count * depth_factor)):
                blocks.append(_MobileBlock(channels, channels_out, kernel, 1 if number else stride, expansion))
                channels = channels_out
            stages.append(nn.Sequential(*blocks))
        self.width = HEAD_EXPANSION * channels
        self.features = nn.Sequential(*stages, _filtered(channels, self.width, 1))

    def forward(self, pixels_MCHW: torch.Tensor) -> torch.Tensor:
        """The mean over space of the last convolution."""
        maps: torch.Tensor = self.features(pixels_MCHW)
        return maps.mean((2, 3))


def _in_eights(channels: float) -> int:
    """The nearest multiple of 8, one more where that would be less than 90% of ``channels``."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _filtered(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1, activates: bool = True
) -> nn.Sequential:
    """A convolution, its batch norm, and SiLU where it ``activates``."""
    convolution = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), *([nn.SiLU()] if activates else []))


class _MobileBlock(nn.Module):
    """Channels are expanded, filtered one by one, weighted and projected; beside a shortcut where the shape stays."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels_in * expansion
        self.keeps_shape = stride == 1 and channels_in == channels_out
        self.block = nn.Sequential(
            *([_filtered(channels_in, inner, 1)] if expansion > 1 else []),
            _filtered(inner, inner, kernel, stride, inner),
            _ChannelWeights(inner, max(1, channels_in // 4)),
            _filtered(inner, channels_out, 1, activates=False),
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.block(maps)
        return found + maps if self.keeps_shape else found


class _ChannelWeights(nn.Module):
    """Squeeze-and-excitation: each channel is weighted by what all channels are in the mean over space."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        weights = torch.sigmoid(self.fc2(F.silu(self.fc1(maps.mean((2, 3), keepdim=True)))))
        return maps * weights


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite 0: EfficientNet without squeeze-and-excitation, with ReLU6.

    Pixels [M, 3, H, W] -> [M, 1280]. Its convolutions are padded as TensorFlow pads them.
    """

    width = 1280

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, LITE0_EPSILON)
        channels, blocks = 32, []
        for kernel, stride, expansion, channels_out, count in STAGES:
            for number in range(count):
                blocks.append(_LiteBlock(channels, channels_out, kernel, 1 if number else stride, expansion))
                channels = channels_out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(channels, self.width, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(self.width, LITE0_EPSILON)

    def forward(self, pixels_MCHW: torch.Tensor) -> torch.Tensor:
        """The mean over space of the last convolution."""
        maps = F.relu6(self._bn0(_padded(self._conv_stem, pixels_MCHW)))
        for block in self._blocks:
            maps = block(maps)
        return F.relu6(self._bn1(self._conv_head(maps))).mean((2, 3))


class _LiteBlock(nn.Module):
    """Channels are expanded, filtered one by one, and projected; beside a shortcut where the shape stays."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels_in * expansion
        self.expands, self.keeps_shape = expansion > 1, stride == 1 and channels_in == channels_out
        if self.expands:
            self._expand_conv = nn.Conv2d(channels_in, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, LITE0_EPSILON)
        self._depthwise_conv = nn.Conv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, LITE0_EPSILON)
        self._project_conv = nn.Conv2d(inner, channels_out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(channels_out, LITE0_EPSILON)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        beside = maps
        if self.expands:
            maps = F.relu6(self._bn0(self._expand_conv(maps)))
        maps = F.relu6(self._bn1(_padded(self._depthwise_conv, maps)))
        maps = self._bn2(self._project_conv(maps))
        return maps + beside if self.keeps_shape else maps


def _padded(convolution: nn.Conv2d, maps: torch.Tensor) -> torch.Tensor:
    """A convolution whose output has 1/stride of the input's size, rounded up; an odd pixel of padding comes last."""
    kernel, stride = convolution.kernel_size[0], convolution.stride[0]
    pads = []
    for size in (maps.shape[3], maps.shape[2]):
        missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [missing // 2, missing - missing // 2]
    padded: torch.Tensor = convolution(F.pad(maps, pads))
    return padded
