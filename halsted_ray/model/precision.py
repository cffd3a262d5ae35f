"""The precisions that an encoder runs in, and which of them a device and a kind of weights allow.

``fp32``: everything in float32. ``bf16``: everything in bfloat16, sums in float32. ``fp8``: as ``bf16``, but the
linear layers multiply in float8 (e4m3). ``int8``: as ``fp32``, but the linear layers multiply in 8-bit integers.
"""

from __future__ import annotations

import torch

from halsted_ray.errors import ModelError

PRECISIONS = ("fp32", "bf16", "fp8", "int8")
KEPT_PRECISIONS = ("fp32", "bf16")
"""The precisions that weights are kept in on disk."""
COMPUTED_IN = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp8": torch.bfloat16, "int8": torch.float32}
"""What norms, attention and sums of a precision are computed in."""
FP8_CAPABILITY = (8, 9)
"""The least compute capability of a GPU that multiplies in float8: L4, L40S, H100 and later."""


def choose_precision(device: str, wanted: str | None = None, kept_in: str = "fp32") -> str:
    """The precision that an encoder runs in on ``device``: ``wanted``, else bf16 on a GPU and fp32 on a CPU.

    ``kept_in``: the precision of its weights on disk. Weights that are kept in bf16 run in bf16 on a CPU too, since
    their vectors in fp32 would be those of no encoder. The device itself is not asked, so a driver without a GPU can
    tell what its actors will run in. Raises ModelError where ``wanted`` is unknown or can't be had.
    """
    is_gpu = torch.device(device).type == "cuda"
    if wanted is None:
        return "bf16" if is_gpu or kept_in == "bf16" else "fp32"
    if wanted not in PRECISIONS:
        raise ModelError(f"precision is {wanted!r}, expected one of: {', '.join(PRECISIONS)}")
    if kept_in == "bf16" and COMPUTED_IN[wanted] is not torch.bfloat16:
        raise ModelError(
            f"precision {wanted} was asked of weights that are kept in bf16, expected bf16 or fp8; "
            f"take the weights that they were made from"
        )
    if wanted == "int8" and is_gpu:
        raise ModelError("precision int8 runs on a CPU only; choose bf16 or fp8 on a GPU")
    return wanted


def require_unquantised(family: str, precision: str) -> None:
    """Raises ModelError for fp8 and int8, which replace the layers of VideoMAE alone."""
    if precision not in KEPT_PRECISIONS:
        raise ModelError(
            f"precision {precision} is made for encoders of the family videomae, this one is {family!r}; choose "
            f"{' or '.join(KEPT_PRECISIONS)}"
        )


def is_compiled_by_default(precision: str, device: torch.device) -> bool:
    """Whether layers go through ``torch.compile`` unless somebody says otherwise: for fp8 on a GPU.

    Run eagerly, quantising activations passes over the memory several times: about 190 MB for each layer and clip of
    the giant, computed from its shapes, which costs about what the products save. Compiled, it is part of the norm or
    the activation before it. On an H100 fp8 gave 69 clips/s eagerly and 115 compiled, bf16 gave 97.
    """
    return precision == "fp8" and device.type == "cuda"


def require_support(precision: str, device: torch.device) -> None:
    """Raises ModelError where ``device``, which must be present, can't run ``precision``."""
    if precision == "fp8" and device.type == "cuda":
        found = torch.cuda.get_device_capability(device)
        if found < FP8_CAPABILITY:
            raise ModelError(
                f"precision fp8 needs a GPU of compute capability {FP8_CAPABILITY[0]}.{FP8_CAPABILITY[1]} or later, "
                f"{torch.cuda.get_device_name(device)} has {found[0]}.{found[1]}; choose bf16"
            )
    if precision == "int8" and torch.backends.quantized.engine not in ("x86", "fbgemm", "onednn"):
        raise ModelError(
            f"precision int8 needs an x86 CPU, PyTorch offers the engine {torch.backends.quantized.engine!r} here; "
            f"choose fp32"
        )
