"""A small network that says of one frame whether the camera is outside of the body.

Four convolutions over 64 × 64 pixels, then the mean and the maximum of each channel, and a linear layer. 0.16 million
weights, so it runs on any CPU. A file of it holds the weights in half precision and the settings of the search as text.

Shapes: N frames, S = 64 pixels, C channels.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import resources
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from halsted_ray.errors import ModelError, UsageError, VideoError
from halsted_ray.storage.files import read_bytes, write_bytes

SIZE = 64
"""Height and width of what the network sees; a wide picture is squeezed."""
CHANNELS = (24, 48, 96, 128)
BATCH = 256
"""Frames per call of the network; 200 MB of activations."""
SHIPPED = "phantom"
"""Stands for the network that ships, which was trained on synthetic pictures alone."""
KIND = "out_of_body"
"""The name of this kind of file, in its metadata."""
Made = TypeVar("Made")


@dataclass(frozen=True)
class SearchSettings:
    """How scores become spans: a span goes as far as its frames have ``edge_threshold``, and somewhere in it the score
    is ``threshold`` or more (0 to 1, both set on validation videos). ``trained_on``: what the network was trained on,
    for people."""

    threshold: float = 0.5
    trained_on: str = ""
    edge_threshold: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.edge_threshold <= self.threshold < 1:
            raise ModelError(
                f"threshold={self.threshold}, edge_threshold={self.edge_threshold}: expected scores between 0 and 1, "
                "the second at most the first; train the detector again"
            )


class OutOfBodyNet(nn.Module):
    """``forward(frames_NCHW)``: float32 [N, 3, S, S], 0 to 1, to logits [N]; above 0 is more likely outside."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for channels in CHANNELS:
            layers += [
                nn.Conv2d(before, channels, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            before = channels
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(2 * before, 1)

    def forward(self, frames_NCHW: torch.Tensor) -> torch.Tensor:
        """As of the class."""
        maps = self.features(frames_NCHW * 2 - 1).flatten(2)
        pooled: torch.Tensor = self.head(torch.cat((maps.mean(2), maps.amax(2)), 1))
        return pooled.squeeze(1)


@dataclass(frozen=True)
class OutOfBodyDetector:
    """The network with the settings that were chosen for it."""

    net: OutOfBodyNet
    settings: SearchSettings

    @torch.inference_mode()
    def scores(self, frames_NHWC: NDArray[np.uint8]) -> NDArray[np.float64]:
        """How likely each frame is outside of the body: [N], 0 to 1. ``frames_NHWC``: uint8 [N, S, S, 3] RGB.

        Raises ValueError for another size.
        """
        if frames_NHWC.shape[1:] != (SIZE, SIZE, 3):
            raise ValueError(f"expected frames of shape [N, {SIZE}, {SIZE}, 3], got {list(frames_NHWC.shape)}")
        logits = [
            self.net(torch.from_numpy(frames_NHWC[n : n + BATCH]).permute(0, 3, 1, 2).float() / 255)
            for n in range(0, len(frames_NHWC), BATCH)
        ]
        return torch.sigmoid(torch.cat(logits)).double().numpy() if logits else np.zeros(0)


def save_detector(detector: OutOfBodyDetector, path: str) -> None:
    """Writes a detector as one safetensors file of half a megabyte, whole or not at all. Raises OutputError."""
    tensors = {name: tensor.half().contiguous() for name, tensor in detector.net.state_dict().items()}
    metadata = {"kind": KIND, "settings": json.dumps(asdict(detector.settings))}
    write_bytes(path, save(tensors, metadata))


def load_detector(ref: str = SHIPPED) -> OutOfBodyDetector:
    """The detector in the file ``ref`` (a path or any fsspec URL), or the one that ships (``phantom``).

    Raises ModelError where there is no such file or it is of another kind.
    """

    def detector_of(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> OutOfBodyDetector:
        net = OutOfBodyNet()
        net.load_state_dict(
            {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
        )
        return OutOfBodyDetector(net.eval(), SearchSettings(**json.loads(metadata["settings"])))

    return read_weights(ref, KIND, detector_of, f"`halsted out-of-body train` wrote, or {SHIPPED!r}")


def read_weights(
    ref: str, kind: str, make: Callable[[dict[str, torch.Tensor], dict[str, str]], Made], expected: str
) -> Made:
    """``make(tensors, metadata)`` of the safetensors file ``ref``, or of the detector that ships (``phantom``).

    ``kind``: what its metadata must say. ``expected``: ends the sentence "give a file that …". Raises ModelError where
    there is no such file, it is of another kind, or ``make`` can't use it.
    """
    try:
        data = shipped_bytes() if ref == SHIPPED else read_bytes(ref)
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        if metadata["kind"] != kind:
            raise ModelError(
                f"{ref!r} is a file of the kind {metadata['kind']!r}, expected {kind!r}; give a file that {expected}"
            )
        return make(load(data), metadata)
    except ModelError:
        raise
    except (OSError, UsageError, VideoError) as error:
        raise ModelError(f"{ref!r} can't be read: {error}; give a file that {expected}") from error
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{ref!r} is no file of the kind {kind!r} ({type(error).__name__}); give a file that {expected}"
        ) from error


def shipped_bytes() -> bytes:
    """The file that ships with this package."""
    return (resources.files("halsted_ray.deidentify") / "weights" / "out_of_body.safetensors").read_bytes()


__all__ = [
    "SIZE",
    "OutOfBodyDetector",
    "OutOfBodyNet",
    "SearchSettings",
    "load_detector",
    "read_weights",
    "save_detector",
]
