"""Convolutional networks of single pictures, under the tensor names of their published weights.

``ResNet`` has torchvision's names, ``EfficientNetLite0`` those of the PyTorch port of EfficientNet
(``_conv_stem``, ``_blocks``). Both end with the mean over space before the classifier.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from halsted_ray.errors import ModelError
from halsted_ray.model.checkpoint import Checkpoint
from halsted_ray.model.encoders.network import ImageNetwork

RESNETS: dict[str, tuple[bool, tuple[int, int, int, int]]] = {
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
    "resnet101": (True, (3, 4, 23, 3)),
    "resnet152": (True, (3, 8, 36, 3)),
}
"""Name → (whether its blocks are bottlenecks, blocks of each stage)."""
LITE0_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
"""(kernel, stride of the first block, expansion, channels, blocks) of each stage."""
LITE0_EPSILON = 1e-3
"""Of its batch norms."""
HEADS = ("fc.", "_fc.", "classifier.")
"""Classifiers, which no vector needs."""


def image_network_of(checkpoint: Checkpoint, ref: str) -> ImageNetwork:
    """The network that a checkpoint's ``encoder.json`` names, in float32 on the CPU.

    Raises ModelError where its tensors have other names or shapes than the network.
    """
    model: ResNet | EfficientNetLite0
    model = ResNet(*RESNETS[checkpoint.family]) if checkpoint.family in RESNETS else EfficientNetLite0()
    tensors = {
        name: value.float() if value.is_floating_point() else value
        for name, value in checkpoint.tensors.items()
        if not name.startswith(HEADS)
    }
    counted = {name for name in model.state_dict() if name.endswith("num_batches_tracked")}
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items() if name not in counted}
    given = {name: tuple(value.shape) for name, value in tensors.items() if name not in counted}
    if wanted != given:
        wrong = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
        raise ModelError(
            f"encoder {ref!r}: its weights are not those of {checkpoint.family}: "
            + "; ".join(
                f"{name} is {given.get(name, 'missing')}, expected {wanted.get(name, 'no such tensor')}"
                for name in wrong[:3]
            )
            + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        )
    model.load_state_dict(tensors, strict=False)
    assert checkpoint.size is not None, "the reader refuses an image network without a size"
    config: dict[str, Any] = {"architecture": checkpoint.family}
    return ImageNetwork(model.eval(), config, model.width, checkpoint.crop or checkpoint.size)


class ResNet(nn.Module):
    """A residual network (He and others, 2016) with the stride of a bottleneck in its 3×3 convolution, as torchvision
    has it. Pixels [M, 3, H, W] -> [M, width]; ``width``: 512, or 2048 with bottlenecks."""

    def __init__(self, bottleneck: bool, blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.width = 64
        for stage, count in enumerate(blocks):
            layers = []
            for number in range(count):
                stride = 2 if stage and not number else 1
                layers.append(_Residual(self.width, 64 << stage, stride, bottleneck))
                self.width = layers[-1].channels
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))

    def forward(self, pixels_MCHW: torch.Tensor) -> torch.Tensor:
        """The mean over space of the last stage."""
        maps = F.max_pool2d(F.relu(self.bn1(self.conv1(pixels_MCHW))), 3, 2, 1)
        for stage in range(1, 5):
            maps = getattr(self, f"layer{stage}")(maps)
        return maps.mean((2, 3))


class _Residual(nn.Module):
    """Two convolutions of 3×3, or one between two of 1×1, beside a shortcut."""

    def __init__(self, channels_in: int, inner: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        self.channels = inner * 4 if bottleneck else inner
        if bottleneck:
            self.conv1 = nn.Conv2d(channels_in, inner, 1, bias=False)
            self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
            self.conv3 = nn.Conv2d(inner, self.channels, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(self.channels)
        else:
            self.conv1 = nn.Conv2d(channels_in, inner, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(inner, inner, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(inner), nn.BatchNorm2d(inner)
        self.bottleneck = bottleneck
        self.downsample = None
        if stride != 1 or channels_in != self.channels:
            shortcut = nn.Conv2d(channels_in, self.channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(self.channels))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        beside = maps if self.downsample is None else self.downsample(maps)
        maps = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(maps)))))
        if self.bottleneck:
            maps = self.bn3(self.conv3(F.relu(maps)))
        return F.relu(maps + beside)


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
        for kernel, stride, expansion, channels_out, count in LITE0_STAGES:
            for number in range(count):
                blocks.append(_Inverted(channels, channels_out, kernel, 1 if number else stride, expansion))
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


class _Inverted(nn.Module):
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
