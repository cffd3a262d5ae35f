"""A small head that says of one stored vector whether its window shows anything outside of the body.

Standardised vectors, one hidden layer, one logit. A head belongs to one encoder, one sampling of frames and one kind of
window, which its file states: over other vectors its scores would mean nothing.

Shapes: N windows, D width of a vector.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import nn

from halsted_ray.deidentify.out_of_body_net import SearchSettings, read_weights
from halsted_ray.errors import ModelError
from halsted_ray.storage.files import write_bytes
from halsted_ray.storage.vector_files import VideoVectors

KIND = "out_of_body_head"
"""The name of this kind of file, in its metadata."""
HIDDEN = 64
BATCH = 65_536
"""Windows per call: 370 MB at D = 1408."""
LARGEST_DIM = 1 << 16
"""A file that states wider vectors than this is no head."""


@dataclass(frozen=True)
class Source:
    """The vectors that a head is for. ``fingerprint``: the encoder's; ``sampling``: as of ``vectors.sampling_name``;
    ``kind``: ``coarse`` or ``fine``; ``window_s``: how long such a window is."""

    fingerprint: str
    sampling: str
    kind: str
    window_s: float

    def __post_init__(self) -> None:
        if self.kind not in ("coarse", "fine") or not 0 < self.window_s <= 3600:
            raise ModelError(
                f"windows of the kind {self.kind!r} and {self.window_s:g} s: expected coarse or fine windows of up to "
                "an hour; train the head again"
            )


class HeadNet(nn.Module):
    """``forward(vectors_ND)``: float32 [N, D] to logits [N]; above 0 is more likely outside."""

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))
        self.layers = nn.Sequential(nn.Dropout(0.1), nn.Linear(dim, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 1))

    def forward(self, vectors_ND: torch.Tensor) -> torch.Tensor:
        """As of the class."""
        mean, deviation = self.get_buffer("mean"), self.get_buffer("deviation")
        logits: torch.Tensor = self.layers(((vectors_ND - mean) / deviation).clamp(-8, 8))
        return logits.squeeze(1)


@dataclass(frozen=True)
class OutOfBodyHead:
    """The network, the vectors that it is for, and the settings that were chosen for it."""

    net: HeadNet
    source: Source
    settings: SearchSettings

    @torch.inference_mode()
    def scores(self, vectors_ND: NDArray[np.floating]) -> NDArray[np.float64]:
        """How likely each window shows the outside: [N], 0 to 1. ``vectors_ND``: [N, D] of this head's source.

        Raises ModelError for another width.
        """
        dim = len(self.net.get_buffer("mean"))
        if vectors_ND.ndim != 2 or vectors_ND.shape[1] != dim:
            raise ModelError(
                f"the head is for vectors of width {dim}, got {list(vectors_ND.shape)}; train a head on these vectors"
            )
        logits = [
            self.net(torch.from_numpy(vectors_ND[n : n + BATCH].astype(np.float32)))
            for n in range(0, len(vectors_ND), BATCH)
        ]
        return torch.sigmoid(torch.cat(logits)).double().numpy() if logits else np.zeros(0)

    def scores_of(self, found: VideoVectors) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """(start_s [N], stop_s [N], score [N]) of the video's windows of this head's kind, in order."""
        rows = np.array([row for row, kind in enumerate(found.kinds) if kind == self.source.kind], int)
        return found.start_s_N[rows], found.stop_s_N[rows], self.scores(found.vectors_ND[rows])


def save_head(head: OutOfBodyHead, path: str) -> None:
    """Writes a head as one safetensors file (50 kB at D = 192), whole or not at all. Raises OutputError."""
    tensors = {name: tensor.contiguous() for name, tensor in head.net.state_dict().items()}
    metadata = {
        "kind": KIND,
        "source": json.dumps(asdict(head.source)),
        "settings": json.dumps(asdict(head.settings)),
    }
    write_bytes(path, save(tensors, metadata))


def load_head(ref: str) -> OutOfBodyHead:
    """The head in the file ``ref`` (a path or any fsspec URL).

    Raises ModelError where there is no such file or it is of another kind.
    """

    def head_of(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> OutOfBodyHead:
        mean = tensors["mean"]
        if mean.ndim != 1 or not 0 < len(mean) <= LARGEST_DIM:
            raise ValueError("no width of a vector")
        net = HeadNet(len(mean))
        net.load_state_dict(tensors)
        source = Source(**json.loads(metadata["source"]))
        return OutOfBodyHead(net.eval(), source, SearchSettings(**json.loads(metadata["settings"])))

    return read_weights(ref, KIND, head_of, "`halsted out-of-body train --vectors` wrote")
