"""Clips and sentences in one space: two projections over frozen vectors, as CLIP has them over trained encoders.

    window vectors [W, D] ─ standardise ─ projection ─ attention over the W windows ─ projection ─ unit vector [dim]
    sentence vector [width] ──────────── projection ──────────────────────────────── projection ─ unit vector [dim]

Radford et al. 2021 (CLIP) for the loss; the video tower takes a clip of any length. A folder holds ``video_text.json``
and ``video_text.safetensors``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from halsted_ray.errors import ModelError, first_line
from halsted_ray.model.checkpoint import locate
from halsted_ray.model.model_file import weights_digest
from halsted_ray.records import WindowSpec, digest
from halsted_ray.storage.files import write_atomically

FORMAT = "halsted-video-text/1"
STATED, WEIGHTS = FILES = ("video_text.json", "video_text.safetensors")
START_TEMPERATURE, LEAST_TEMPERATURE = 0.07, 0.01
"""Where the learned temperature starts, and its floor: CLIP's."""
CLIPS_PER_PASS = 4096
"""Clips in one forward pass; longer lists take several."""


@dataclass(frozen=True)
class VideoTextConfig:
    """Everything about a model but its weights. ``video_text.json`` holds it under ``config``."""

    encoder_ref: str
    encoder_fingerprint: str
    encoder_dim: int
    """Width of a window's vector."""
    text_ref: str
    text_fingerprint: str
    text_width: int
    dim: int = 128
    hidden: int = 256
    dropout: float = 0.0
    name: str = "halsted-language"
    version: str = "0"
    atlas_release: str = ""
    atlas_version: int | None = None
    windows: WindowSpec = WindowSpec()
    """The grid whose fine windows the model learned from."""
    learned_from: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """``train`` and ``validation`` → ids of the videos."""


class VideoTextModel(nn.Module):
    """A pair of projections with a temperature. All vectors that it gives have length 1."""

    def __init__(self, config: VideoTextConfig):
        super().__init__()
        self.config = config
        self.register_buffer("mean_D", torch.zeros(config.encoder_dim))
        self.register_buffer("std_D", torch.ones(config.encoder_dim))
        self.window = nn.Sequential(nn.Linear(config.encoder_dim, config.hidden), nn.GELU(), nn.Dropout(config.dropout))
        self.attention = nn.Linear(config.hidden, 1)
        self.video = nn.Sequential(nn.LayerNorm(config.hidden), nn.Linear(config.hidden, config.dim))
        self.text = nn.Sequential(
            nn.LayerNorm(config.text_width),
            nn.Linear(config.text_width, config.hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, config.dim),
        )
        self.log_temperature = nn.Parameter(torch.tensor(float(np.log(START_TEMPERATURE))))

    @property
    def dim(self) -> int:
        """Width of the common space."""
        return self.config.dim

    @property
    def encoder_fingerprint(self) -> str:
        """Of the encoder of the windows' vectors."""
        return self.config.encoder_fingerprint

    @property
    def text_fingerprint(self) -> str:
        """Of the text encoder."""
        return self.config.text_fingerprint

    @property
    def temperature(self) -> float:
        """By which cosines are divided before a softmax."""
        return float(self.temperature_tensor().detach())

    def temperature_tensor(self) -> torch.Tensor:
        """The temperature with its gradient."""
        return self.log_temperature.exp().clamp(min=LEAST_TEMPERATURE)

    def forward(
        self, windows_NWD: torch.Tensor, present_NW: torch.Tensor, texts_NT: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(clips [N, dim], texts [N, dim], temperature) of a batch: what a train step needs."""
        return self.project_clips(windows_NWD, present_NW), self.project_text(texts_NT), self.temperature_tensor()

    def project_clips(self, windows_NWD: torch.Tensor, present_NW: torch.Tensor) -> torch.Tensor:
        """float [N, dim] of clips that are padded to W windows; ``present_NW`` says which windows are real."""
        states_NWH = self.window((windows_NWD - self.mean_D) / self.std_D)
        score_NW1 = self.attention(states_NWH).masked_fill(~present_NW[..., None], -torch.inf)
        pooled_NH = (score_NW1.softmax(1) * states_NWH).sum(1)
        return nn.functional.normalize(self.video(pooled_NH), dim=-1)

    def project_text(self, texts_NT: torch.Tensor) -> torch.Tensor:
        """float [N, dim] of sentence vectors."""
        return nn.functional.normalize(self.text(texts_NT), dim=-1)

    @torch.inference_mode()
    def embed_clips(self, vectors: Sequence[np.ndarray]) -> np.ndarray:
        """float32 [N, dim] of clips, each float [W, D] with one row per window in the order of time, W of any length.

        A single window is a clip of W = 1. Clips of like length share a pass. Raises ModelError for another D, or for a
        clip without windows.
        """
        self.eval()
        for vectors_WD in vectors:
            if vectors_WD.ndim != 2 or not len(vectors_WD) or vectors_WD.shape[1] != self.config.encoder_dim:
                raise ModelError(
                    f"a clip has vectors of shape {vectors_WD.shape}; this model expects one row or more of "
                    f"{self.config.encoder_dim} numbers, from the encoder {self.config.encoder_ref!r}"
                )
        found_ND = np.zeros((len(vectors), self.dim), np.float32)
        order = sorted(range(len(vectors)), key=lambda n: len(vectors[n]))
        for first in range(0, len(order), CLIPS_PER_PASS):
            rows = order[first : first + CLIPS_PER_PASS]
            windows_NWD, present_NW = padded([vectors[n] for n in rows])
            found_ND[rows] = self.project_clips(windows_NWD, present_NW).numpy()
        return found_ND

    @torch.inference_mode()
    def embed_text(self, text_vectors: np.ndarray) -> np.ndarray:
        """float32 [N, dim] of sentence vectors, float [N, width]. Raises ModelError for another width."""
        self.eval()
        if text_vectors.ndim != 2 or text_vectors.shape[1] != self.config.text_width:
            raise ModelError(
                f"got sentence vectors of shape {text_vectors.shape}; this model expects rows of "
                f"{self.config.text_width} numbers, from the text encoder {self.config.text_ref!r}"
            )
        found: np.ndarray = self.project_text(torch.from_numpy(np.ascontiguousarray(text_vectors, np.float32))).numpy()
        return found

    @property
    def digest(self) -> str:
        """16 hex digits over what decides the vectors that this model gives."""
        return digest(self.encoder_fingerprint, self.text_fingerprint, self.dim, weights_digest(self._weights()))

    def check(self, encoder_fingerprint: str | None = None, text_fingerprint: str | None = None) -> None:
        """Raises ModelError where a given fingerprint is not the one that this model was trained on."""
        for what, got, own, ref in (
            ("vectors of an encoder", encoder_fingerprint, self.encoder_fingerprint, self.config.encoder_ref),
            ("a text encoder", text_fingerprint, self.text_fingerprint, self.config.text_ref),
        ):
            if got is not None and got != own:
                raise ModelError(
                    f"got {what} with fingerprint {got}; this model of video and text was trained on {ref!r} with "
                    f"{own}: give that one, or train the model anew (halsted train --objective contrast)"
                )

    def save(self, folder: str) -> None:
        """Writes the weights and then ``video_text.json`` to a folder or fsspec URL. Raises OutputError."""
        fs, path = locate(folder, "model")
        weights = self._weights()
        stated = {"format": FORMAT, "config": asdict(self.config), "weights_digest": weights_digest(weights)}
        write_atomically(fs, f"{path}/{WEIGHTS}", weights)
        write_atomically(fs, f"{path}/{STATED}", (json.dumps(stated, indent=2, ensure_ascii=False) + "\n").encode())

    def _weights(self) -> bytes:
        found: bytes = safetensors.torch.save({name: t.contiguous() for name, t in self.state_dict().items()})
        return found


def load_video_text(
    folder: str, encoder_fingerprint: str | None = None, text_fingerprint: str | None = None
) -> VideoTextModel:
    """Loads the model in a folder (local, or any fsspec URL).

    Raises ModelError where there is none, where its files do not belong together, and where ``encoder_fingerprint`` (of
    the vectors at hand) or ``text_fingerprint`` is given and is another one than the model was trained on.
    """
    stated, weights = _read_files(folder)
    try:
        if stated["format"] != FORMAT:
            raise ModelError(f"model {folder!r} has format {stated['format']!r}; this version reads {FORMAT!r}")
        settings = {**stated["config"], "windows": WindowSpec(**stated["config"]["windows"])}
        config = VideoTextConfig(**settings)
        expected = stated["weights_digest"]
    except (KeyError, TypeError) as error:
        raise ModelError(f"model {folder!r}: {STATED} has other keys than expected: {error}") from error
    if (found := weights_digest(weights)) != expected:
        raise ModelError(f"model {folder!r}: {WEIGHTS} has digest {found}, {STATED} says {expected}; copy both again")
    try:
        tensors = safetensors.torch.load(weights)
        with torch.device("meta"):  # so that a file that claims huge sizes allocates nothing
            model = VideoTextModel(config)
        model.load_state_dict(tensors, assign=True)
    except (SafetensorError, RuntimeError, TypeError) as error:
        raise ModelError(f"model {folder!r}: its weights do not fit {STATED}: {first_line(error)}") from error
    model.check(encoder_fingerprint, text_fingerprint)
    return model.eval()


def _read_files(folder: str) -> tuple[dict[str, Any], bytes]:
    fs, path = locate(folder, "model")
    path = path.rstrip("/")
    try:
        if missing := [name for name in FILES if not fs.exists(f"{path}/{name}")]:
            raise ModelError(
                f"no model of video and text at {folder!r}: {' and '.join(missing)} missing; `halsted train "
                "--objective contrast` writes one to RUN/model"
            )
        return json.loads(fs.cat_file(f"{path}/{STATED}")), fs.cat_file(f"{path}/{WEIGHTS}")
    except OSError as error:
        raise ModelError(f"model {folder!r} can't be read: {first_line(error)}") from error
    except ValueError as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"model {folder!r}: {STATED} is not JSON: {first_line(error)}") from error


def padded(vectors: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """(float32 [N, W, D], bool [N, W]) of clips of different lengths, each float [w, D]."""
    longest = max(map(len, vectors))
    windows_NWD = np.zeros((len(vectors), longest, vectors[0].shape[1]), np.float32)
    present_NW = np.zeros((len(vectors), longest), bool)
    for row, vectors_WD in enumerate(vectors):
        windows_NWD[row, : len(vectors_WD)] = vectors_WD
        present_NW[row, : len(vectors_WD)] = True
    return torch.from_numpy(windows_NWD), torch.from_numpy(present_NW)
