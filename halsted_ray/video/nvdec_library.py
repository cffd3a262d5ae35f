"""PyNvVideoCodec and the device that it decodes on, where both are there; else why they are not."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from halsted_ray.video.nvdec import LIBRARY, NvdecRefused, device_problem


def problem() -> str:
    """Why NVDEC can't be used in this process, '' where it can; without touching the device."""
    return device_problem() or ("" if torch.cuda.is_available() else "torch can't use the GPU")


def load() -> Any:
    """The module PyNvVideoCodec. Raises NvdecRefused where NVDEC can't be used here."""
    if why := problem():
        raise NvdecRefused(why)
    try:
        return importlib.import_module(LIBRARY)
    except Exception as error:  # a driver that is too old, a library that is missing: each has another type
        raise NvdecRefused(f"{LIBRARY} can't be loaded ({type(error).__name__})") from error


def new_stream() -> torch.cuda.Stream | None:
    """The stream in which one decoder copies its pictures, and in which they are converted."""
    return torch.cuda.Stream()


def prepare() -> None:
    """Makes the device ready: imports, the driver of NVDEC, a context, a first kernel. Takes seconds (unmeasured).

    Done before the decoding process gives up its rights, since the driver may open sockets and files meanwhile.
    """
    load().GetDecoderCaps()
    torch.zeros(1, device="cuda").cpu()
