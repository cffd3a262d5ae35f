"""The families of encoders that can be loaded, by the ``model_type`` of their config.json. VideoMAE stands apart.

A new family is a row here, where transformers has its class, and a test with a small checkpoint of its layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from halsted_ray.errors import ModelError

VIDEOMAE = "videomae"
POOLING_KEY = "halsted_pooling"
"""The entry of a config.json that chooses one of ``Family.poolings``; it is part of the encoder's fingerprint."""
ARCHITECTURES = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_lite0"),
)
"""Image networks whose weights lie beside a file ``SETTINGS_FILE``, which names one of them."""
TORCHVISION_VITS = ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32")
"""Vision transformers whose weights lie beside such a file; read, they are of the family ``vit``."""
SETTINGS_FILE = "encoder.json"
"""What stands beside weights that come without a config.json."""


@dataclass(frozen=True)
class Family:
    """How the models of one ``model_type`` are loaded and read.

    ``model_class``: the name of its class in transformers. ``poolings``: how tokens can become a vector, the default
    first: ``mean`` of the patch tokens, ``class`` for the class token, ``head`` for the model's own attention pooling.
    """

    model_class: str
    poolings: tuple[str, ...]
    special_tokens: int = 1
    """Tokens before the patch tokens, without the registers that the configuration counts."""
    frames_key: str = ""
    """The entry that says how many frames a clip has; empty for models of single pictures."""
    size_key: str = "image_size"
    any_size: bool = False
    """Whether the model takes pictures of another size than its configuration states, as its own processor makes."""
    part: str = ""
    """The entry of a configuration of several models that holds the vision model's."""
    arguments: tuple[tuple[str, Any], ...] = ()
    """Further arguments of the class."""

    @property
    def is_video(self) -> bool:
        """Whether the model looks at a clip; else it looks at one picture at a time."""
        return bool(self.frames_key)


_IMAGE_POOLINGS = ("class", "mean")
_NO_POOLER = (("add_pooling_layer", False),)
FAMILIES: dict[str, Family] = {
    "clip": Family("CLIPVisionModel", _IMAGE_POOLINGS, part="vision_config"),
    "clip_vision_model": Family("CLIPVisionModel", _IMAGE_POOLINGS),
    "dinov2": Family("Dinov2Model", _IMAGE_POOLINGS, any_size=True),
    "dinov2_with_registers": Family("Dinov2WithRegistersModel", _IMAGE_POOLINGS, any_size=True),
    "dinov3_vit": Family("DINOv3ViTModel", _IMAGE_POOLINGS, any_size=True),
    "siglip": Family("SiglipVisionModel", ("head", "mean"), 0, part="vision_config"),
    "siglip_vision_model": Family("SiglipVisionModel", ("head", "mean"), 0),
    "timesformer": Family("TimesformerModel", ("mean", "class"), frames_key="num_frames"),
    "vit": Family("ViTModel", _IMAGE_POOLINGS, arguments=_NO_POOLER),
    "vivit": Family("VivitModel", ("mean", "class"), frames_key="num_frames", arguments=_NO_POOLER),
    "vjepa2": Family("VJEPA2Model", ("mean",), 0, "frames_per_clip", "crop_size", any_size=True),
}
"""``model_type`` → its family."""


def known_types() -> str:
    """Every ``model_type`` that can be loaded, for messages."""
    return ", ".join(sorted([*FAMILIES, VIDEOMAE]))


def pooling_of(config: Mapping[str, Any], ref: str) -> str:
    """The pooling that a configuration chooses, or its family's default. Raises ModelError for one it has not."""
    family = FAMILIES[config["model_type"]]
    chosen = config.get(POOLING_KEY, family.poolings[0])
    if chosen not in family.poolings:
        raise ModelError(
            f"encoder {ref!r}: {POOLING_KEY} is {chosen!r}, expected one of {', '.join(family.poolings)} for "
            f"model_type {config['model_type']!r}"
        )
    return str(chosen)
