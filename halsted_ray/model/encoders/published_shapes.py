"""Whether weights are those of the architecture that their folder names: the same tensors, of the same shapes."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from halsted_ray.errors import ModelError

Shapes = dict[str, tuple[int, ...]]
"""Name of a tensor → its shape."""
COUNTER = "num_batches_tracked"
"""Batches that a batch norm has seen, which older files lack and no vector depends on."""


def shapes_of(tensors: Mapping[str, torch.Tensor]) -> Shapes:
    """The shapes of tensors."""
    return {name: tuple(value.shape) for name, value in tensors.items()}


def require_shapes(tensors: Mapping[str, torch.Tensor], expected: Shapes, architecture: str, ref: str) -> None:
    """Raises ModelError unless ``tensors`` have the names and shapes that ``architecture`` has (``expected``)."""
    given, wanted = (
        {name: shape for name, shape in shapes.items() if not name.endswith(COUNTER)}
        for shapes in (shapes_of(tensors), expected)
    )
    wrong = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
    if wrong:
        raise ModelError(
            f"encoder {ref!r}: its weights are not those of {architecture}: "
            + "; ".join(
                f"{name} is {given.get(name, 'missing')}, expected {wanted.get(name, 'no such tensor')}"
                for name in wrong[:3]
            )
            + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        )
