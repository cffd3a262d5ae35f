"""Convolutional networks of single pictures, under the tensor names of their published weights.

``ResNet`` has torchvision's names; ``efficientnet`` has the others. All end with the mean over space before the
classifier.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from halsted_ray.model.checkpoint import Checkpoint
from halsted_ray.model.encoders.efficientnet import EFFICIENTNETS, EfficientNet, EfficientNetLite0
from halsted_ray.model.encoders.network import ImageNetwork
from halsted_ray.model.encoders.published_shapes import require_shapes, shapes_of

RESNETS: dict[str, tuple[bool, tuple[int, int, int, int]]] = {
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
    "resnet101": (True, (3, 4, 23, 3)),
    "resnet152": (True, (3, 8, 36, 3)),
}
"""Name → (whether its blocks are bottlenecks, blocks of each stage)."""
HEADS = ("fc.", "_fc.", "classifier.")
"""Classifiers, which no vector needs."""


def image_network_of(checkpoint: Checkpoint, ref: str) -> ImageNetwork:
    """The network that a checkpoint's ``encoder.json`` names, in float32 on the CPU.

    Raises ModelError where its tensors have other names or shapes than the network.
    """
    model = _untrained(checkpoint.family)
    tensors = {
        name: value.float() if value.is_floating_point() else value
        for name, value in checkpoint.tensors.items()
        if not name.startswith(HEADS)
    }
    require_shapes(tensors, shapes_of(model.state_dict()), checkpoint.family, ref)
    model.load_state_dict(tensors, strict=False)
    assert checkpoint.size is not None, "the reader refuses an image network without a size"
    config: dict[str, Any] = {"architecture": checkpoint.family}
    return ImageNetwork(model.eval(), config, model.width, checkpoint.crop or checkpoint.size)


def _untrained(architecture: str) -> ResNet | EfficientNet | EfficientNetLite0:
    if architecture in RESNETS:
        return ResNet(*RESNETS[architecture])
    return EfficientNet(*EFFICIENTNETS[architecture]) if architecture in EFFICIENTNETS else EfficientNetLite0()


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
