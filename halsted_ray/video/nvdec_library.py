"""PyNvVideoCodec and the device that it decodes on, where both are there; else why they are not."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from pathlib import Path
from typing import Any

import torch

from halsted_ray.video.nvdec import NvdecRefused

NAME = "PyNvVideoCodec"
NO_DEVICE = "no NVIDIA device"
NO_DRIVER = "the driver's libnvcuvid is not there"
NO_LIBRARY = f"{NAME} is not installed"
NO_TORCH = "torch can't use the GPU"


def problem() -> str:
    """Why NVDEC can't be used in this process, '' where it can; without touching the device."""
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return NO_DEVICE
    try:
        ctypes.CDLL("libnvcuvid.so.1")
    except OSError:
        return NO_DRIVER
    if importlib.util.find_spec(NAME) is None:
        return NO_LIBRARY
    return "" if torch.cuda.is_available() else NO_TORCH


def load() -> Any:
    """The module PyNvVideoCodec. Raises NvdecRefused where NVDEC can't be used here."""
    if why := problem():
        raise NvdecRefused(why)
    try:
        return importlib.import_module(NAME)
    except Exception as error:  # a driver that is too old, a library that is missing: each has another type
        raise NvdecRefused(f"{NAME} can't be loaded ({type(error).__name__})") from error


def new_stream() -> torch.cuda.Stream | None:
    """The stream in which one decoder copies its pictures, and in which they are converted."""
    return torch.cuda.Stream()


def prepare() -> None:
    """Makes the device ready: imports, its context, a first kernel. Takes seconds, most of them for torch (unmeasured).

    Done before the decoding process gives up its rights, since the driver may open sockets and files meanwhile.
    """
    load()
    torch.zeros(1, device="cuda").cpu()
