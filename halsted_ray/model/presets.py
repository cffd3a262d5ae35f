"""Sizes of encoders by name, and untrained weights of these sizes."""

from __future__ import annotations

import torch

from halsted_ray.errors import ModelError
from halsted_ray.model.checkpoint import IMAGENET_MEAN, IMAGENET_STD, Checkpoint
from halsted_ray.model.videomae import VideoMAE, VideoMAESizes

PRESETS: dict[str, dict[str, int]] = {
    "tiny": {
        "image_size": 112,
        "patch_size": 16,
        "hidden_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "intermediate_size": 768,
    },
    "base": {
        "image_size": 224,
        "patch_size": 16,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
    "large": {
        "image_size": 224,
        "patch_size": 16,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
    # VideoMAE V2-g, the paper's encoder: 2048 tokens, each of width 1408.
    "giant": {
        "image_size": 224,
        "patch_size": 14,
        "hidden_size": 1408,
        "num_hidden_layers": 40,
        "num_attention_heads": 16,
        "intermediate_size": 6144,
    },
}
"""Sizes by name. All presets take 16 frames in tubelets of 2 frames."""
PLAIN_PIXELS = ("giant",)
"""Presets whose pixels are only scaled to [0, 1] (VideoMAE V2). The others use ImageNet's mean and deviation."""


def random_checkpoint(preset: str, seed: int, device: str = "cpu") -> Checkpoint:
    """Makes untrained weights of a preset's size, for tests, benchmarks and the start of pretraining.

    ``device``: where they are drawn, and stay; another device draws others. Raises ModelError for an unknown preset.
    """
    if preset not in PRESETS:
        raise ModelError(f"no encoder preset {preset!r}; known: {', '.join(PRESETS)}")
    config = {**PRESETS[preset], "num_frames": 16, "tubelet_size": 2, "use_mean_pooling": False}
    with torch.device("meta"):  # names and shapes alone
        model = VideoMAE(VideoMAESizes.from_dict(config))
    generator = torch.Generator(device).manual_seed(seed)
    tensors = {}
    for name, value in model.state_dict().items():
        if "layernorm" in name:
            fill = torch.ones if name.endswith("weight") else torch.zeros
            tensors[name] = fill(value.shape, device=device)
        else:  # random biases too, so that a test sees whether they are used
            tensors[name] = torch.empty(value.shape, device=device).normal_(std=0.02, generator=generator)
    plain = preset in PLAIN_PIXELS
    return Checkpoint(config, tensors, (0.0,) * 3 if plain else IMAGENET_MEAN, (1.0,) * 3 if plain else IMAGENET_STD)


def size_name(sizes: VideoMAESizes) -> str:
    """The name of an encoder's size, by which ``halsted plan`` knows what it costs.

    This is the name of a preset, with one exception: ``tiny`` is the size of the encoder that ships, and
    ``random:tiny`` is the preset ``tiny``, which has twice the tokens. '' for any other size.
    """
    for name, preset in PRESETS.items():
        if all(getattr(sizes, key) == preset[key] for key in preset if key != "num_attention_heads"):
            if sizes.tubelet_size == 2:
                return "random:tiny" if name == "tiny" else name
            if name == "tiny" and sizes.tubelet_size == 4:
                return "tiny"
    return ""
