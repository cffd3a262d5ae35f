"""Vision transformers under torchvision's tensor names, which become those of the family ``vit``.

From there on they are encoders like any other of ``families.FAMILIES``, and their copies are Hugging Face folders.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from halsted_ray.errors import ModelError
from halsted_ray.model.encoders.families import POOLING_KEY
from halsted_ray.model.encoders.published_shapes import Shapes, require_shapes


class VitSizes(NamedTuple):
    """``patch``: pixels of a patch's side."""

    patch: int
    width: int
    layers: int
    heads: int


VITS = {
    "vit_b_16": VitSizes(16, 768, 12, 12),
    "vit_b_32": VitSizes(32, 768, 12, 12),
    "vit_l_16": VitSizes(16, 1024, 24, 16),
    "vit_l_32": VitSizes(32, 1024, 24, 16),
}
"""Architecture → its sizes."""
FAMILY = "vit"
EPSILON = 1e-6
"""Of its layer norms."""
HEADS = "heads."
POSITIONS = "encoder.pos_embedding"
LAYER = "encoder.layers.encoder_layer_"
PARTS = {
    "ln_1": "layernorm_before",
    "self_attention.out_proj": "attention.output.dense",
    "ln_2": "layernorm_after",
    "mlp.0": "intermediate.dense",
    "mlp.3": "output.dense",
}
"""A part of a layer in torchvision → in ``ViTModel``. Queries, keys and values are one tensor in torchvision."""
NAMES = {
    "class_token": "embeddings.cls_token",
    POSITIONS: "embeddings.position_embeddings",
    "conv_proj.weight": "embeddings.patch_embeddings.projection.weight",
    "conv_proj.bias": "embeddings.patch_embeddings.projection.bias",
    "encoder.ln.weight": "layernorm.weight",
    "encoder.ln.bias": "layernorm.bias",
}


def vit_weights(
    architecture: str,
    tensors: Mapping[str, torch.Tensor],
    settings: Mapping[str, Any],
    seen: tuple[int, int],
    ref: str,
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """(content of a config.json, tensors by their names in ``ViTModel``) of torchvision's weights.

    ``settings``: the encoder.json beside them, which may choose a pooling. ``seen``: (height, width) of the pictures
    after preprocessing. Raises ModelError for tensors of another architecture, or pictures of another size than the
    weights' positions.
    """
    sizes = VITS[architecture]
    tensors = {_present_name(name): value for name, value in tensors.items() if not name.startswith(HEADS)}
    positions = tensors[POSITIONS].shape[1] if POSITIONS in tensors and tensors[POSITIONS].dim() == 3 else 0
    require_shapes(tensors, vit_shapes(sizes, positions), architecture, ref)
    side = math.isqrt(max(0, positions - 1)) * sizes.patch
    if seen != (side, side):
        raise ModelError(
            f"encoder {ref!r}: its preprocessing gives pictures of {seen[0]}×{seen[1]}, its weights have "
            f"{positions - 1} positions of patches, which are those of {side}×{side}; state this size (or crop_size)"
        )
    config: dict[str, Any] = {
        "model_type": FAMILY,
        "image_size": side,
        "patch_size": sizes.patch,
        "hidden_size": sizes.width,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "intermediate_size": 4 * sizes.width,
        "layer_norm_eps": EPSILON,
    }
    if POOLING_KEY in settings:
        config[POOLING_KEY] = settings[POOLING_KEY]
    renamed = {}
    for name, value in tensors.items():
        if name in NAMES:
            renamed[NAMES[name]] = value
            continue
        number, _, part = name.removeprefix(LAYER).partition(".")
        before = f"encoder.layer.{number}"
        if part.startswith("self_attention.in_proj_"):
            kind = part.removeprefix("self_attention.in_proj_")
            for which, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                renamed[f"{before}.attention.attention.{which}.{kind}"] = rows.clone()  # a file holds no views
        else:
            owner, _, kind = part.rpartition(".")
            renamed[f"{before}.{PARTS[owner]}.{kind}"] = value
    return config, renamed


def vit_shapes(sizes: VitSizes, positions: int) -> Shapes:
    """The shapes of the tensors of torchvision's ``VisionTransformer`` without its head; ``positions``: patches + 1."""
    width, inner = sizes.width, 4 * sizes.width
    shapes: Shapes = {
        "class_token": (1, 1, width),
        POSITIONS: (1, positions, width),
        "conv_proj.weight": (width, 3, sizes.patch, sizes.patch),
        "conv_proj.bias": (width,),
        "encoder.ln.weight": (width,),
        "encoder.ln.bias": (width,),
    }
    for number in range(sizes.layers):
        layer = f"{LAYER}{number}"
        for part, rows, columns in (
            ("self_attention.in_proj_", 3 * width, width),
            ("self_attention.out_proj.", width, width),
            ("mlp.0.", inner, width),
            ("mlp.3.", width, inner),
        ):
            shapes |= {f"{layer}.{part}weight": (rows, columns), f"{layer}.{part}bias": (rows,)}
        for part in ("ln_1", "ln_2"):
            shapes |= {f"{layer}.{part}.weight": (width,), f"{layer}.{part}.bias": (width,)}
    return shapes


def _present_name(name: str) -> str:
    """The name since torchvision 0.13: the published files have ``mlp.linear_1`` and ``mlp.linear_2``."""
    return re.sub(r"\.mlp\.linear_([12])\.", lambda found: f".mlp.{3 * (int(found[1]) - 1)}.", name)
