"""Every choice of a pretraining run, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import VideoMAEConfig

from halsted_ray.errors import UsageError
from halsted_ray.taxonomy import load
from halsted_ray.training.clip_loader import ClipLoaderSpec, DrawClip, tag_names

FRAMES = 16
"""Frames per clip, as the encoder sees them."""


@dataclass(frozen=True)
class PretrainRecipe:
    """Every choice of a pretraining run. Minutes are of training, without the time that the clip loader needs to fill.

    Raises UsageError for a value that no run can have.
    """

    minutes: float = 30.0
    masked_minutes: float = 1.5
    """The part of ``minutes`` that goes to the masked stage, before the tag stage."""
    seed: int = 0
    taxonomy: str = "halsted"
    image_size: int = 112
    tubelet: int = 4
    """Frames per tubelet."""
    width: int = 192
    layers: int = 4
    heads: int = 3
    batch: int = 48
    """Clips per train step."""
    keep: float = 0.5
    """Share of a clip's tokens that the tag stage sees; in the last ``whole_share`` of the time it sees all tokens."""
    whole_share: float = 0.35
    masked_keep: float = 0.2
    """Share of a clip's tokens that the masked stage sees."""
    lr: float = 1e-3
    """AdamW's learning rate, for the patches, norms, biases and heads (and for all weights where ``muon_lr`` is 0)."""
    muon_lr: float = 0.02
    """Muon's learning rate, for the matrices inside the layers; 0 leaves them to AdamW."""
    weight_decay: float = 0.02
    warmup_s: float = 40.0
    cosine_patches: bool = True
    """Start the patch projection from cosines (``patch_init.py``) and not from random filters."""
    coarse_share: float = 0.2
    """Share of clips that last as long as a coarse window."""
    tag_weights: tuple[tuple[str, float], ...] = (("action", 2.0), ("direction", 3.0))
    """(tag, weight of its loss); a tag that is not named has weight 1."""
    ema: float = 0.998
    """Decay of the moving average of the weights, which is what is exported."""
    slots: int = 6000
    """Clips in the reservoir."""
    workers: int = 1
    """Processes that render clips."""
    threads: int = 1
    """Threads of the trainer. With two, each operation waits for the slower core: 10 times slower on a shared
    machine."""
    validation_clips: int = 600
    log_every_s: float = 30.0
    validate_every_s: float = 180.0

    def __post_init__(self) -> None:
        if not 0 <= self.masked_minutes < self.minutes:
            raise UsageError(f"masked_minutes={self.masked_minutes}: expected 0 to below minutes={self.minutes}")
        for name in ("keep", "masked_keep"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"{name}={getattr(self, name)}: expected more than 0 and at most 1")
        unknown = {name for name, _ in self.tag_weights} - set(tag_names(load(self.taxonomy)))
        if unknown:
            raise UsageError(f"tag_weights names {sorted(unknown)}; the taxonomy has {tag_names(load(self.taxonomy))}")

    def config(self) -> VideoMAEConfig:
        """The encoder's shape, with the small decoder that the masked stage needs beside it."""
        return VideoMAEConfig(
            image_size=self.image_size,
            patch_size=16,
            num_frames=FRAMES,
            tubelet_size=self.tubelet,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=4 * self.width,
            use_mean_pooling=False,
            norm_pix_loss=True,
            decoder_hidden_size=96,
            decoder_num_hidden_layers=2,
            decoder_num_attention_heads=3,
            decoder_intermediate_size=384,
            attn_implementation="eager",
        )  # eager: half the time of sdpa's flash kernels on CPU at 200 to 400 tokens

    def clips(self, draw: DrawClip, held_out: bool) -> ClipLoaderSpec:
        """The clips to render: degraded ones to learn from, clean ones of another seed (``held_out``) to validate."""
        return ClipLoaderSpec(
            draw, 2 * self.seed + held_out, self.image_size, FRAMES, self.coarse_share, degrade=not held_out
        )
