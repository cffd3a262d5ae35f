"""What a folder says of the pictures that its model takes: the size, the crop, and the scale of the pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from halsted_ray.errors import ModelError

PREPROCESSING_FILES = ("preprocessor_config.json", "video_preprocessor_config.json")
"""Where it is stated; the first that is there is read."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Size = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the model's input.

    The whole picture is scaled to ``size``, without regard to its sides' ratio; then the middle of the size ``crop`` is
    cut out. None where the folder does not say it. A pixel enters the model as ``(value / 255 - mean) / std``.
    """

    size: Size | None = None
    crop: Size | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @property
    def final(self) -> Size | None:
        """The size of what the model sees."""
        return self.crop or self.size


def read_preprocessing(stated: Mapping[str, Any], ref: str) -> Preprocessing:
    """Reads the content of a preprocessor_config.json. Raises ModelError for an entry that can't be understood."""
    size = _size(stated["size"], ref, "size") if stated.get("do_resize", True) and "size" in stated else None
    has_crop = stated.get("do_center_crop", True) and stated.get("crop_size") is not None
    crop = _size(stated["crop_size"], ref, "crop_size") if has_crop else None
    if crop is not None and size is not None:
        if crop[0] > size[0] or crop[1] > size[1]:
            raise ModelError(
                f"encoder {ref!r}: its preprocessing cuts {_named(crop)} out of {_named(size)} pixels; expected a crop "
                "that is not larger than the picture"
            )
        if crop == size:
            crop = None
    elif crop is not None:
        size, crop = crop, None
    factor = float(stated.get("rescale_factor", 1 / 255)) if stated.get("do_rescale", True) else 1.0
    # Some processors also subtract 1 from the scaled pixel; everything is brought to one form here.
    offset = 1.0 if stated.get("offset") else 0.0
    normalised = stated.get("do_normalize", True)
    mean = _channels(stated.get("image_mean", IMAGENET_MEAN) if normalised else 0.0, ref, "image_mean")
    std = _channels(stated.get("image_std", IMAGENET_STD) if normalised else 1.0, ref, "image_std")
    gain = 1.0 if math.isclose(factor * 255, 1.0, rel_tol=1e-6) else factor * 255
    if gain <= 0 or min(std) <= 0:
        raise ModelError(
            f"encoder {ref!r}: rescale_factor {factor:g} and image_std {list(std)}, expected numbers above 0"
        )
    return Preprocessing(size, crop, tuple((m + offset) / gain for m in mean), tuple(s / gain for s in std))


def _channels(value: Any, ref: str, name: str) -> tuple[float, ...]:
    values = [value] * 3 if isinstance(value, int | float) else value
    if not isinstance(values, list | tuple) or len(values) != 3:
        raise ModelError(f"encoder {ref!r}: {name} is {value!r}, expected one number for each of 3 channels")
    return tuple(float(number) for number in values)


def _size(value: Any, ref: str, name: str) -> Size:
    found: Any = value
    if isinstance(value, Mapping):
        found = (value.get("height"), value.get("width")) if "height" in value else value.get("shortest_edge")
    if isinstance(found, int):
        found = (found, found)
    if not isinstance(found, list | tuple) or len(found) != 2 or not all(isinstance(n, int) and n > 0 for n in found):
        raise ModelError(
            f"encoder {ref!r}: {name} of its preprocessing is {value!r}, expected a number of pixels, or an object "
            "with height and width, or with shortest_edge"
        )
    return found[0], found[1]


def _named(size: Size) -> str:
    return f"{size[0]}×{size[1]}"
