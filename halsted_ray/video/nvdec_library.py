"""PyNvVideoCodec and the device that it decodes on, where both are there; else why they are not."""

from __future__ import annotations

import importlib
import sys
from functools import lru_cache
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
        tell(error)
        raise NvdecRefused(f"{LIBRARY} can't be loaded ({type(error).__name__})") from error


def tell(error: Exception) -> None:
    """Says on stderr what failed, once in a process: the reason that is counted has no more than the error's type. The
    library and the driver know no names of files."""
    said = f"NVDEC: {type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}\n"
    if said not in _TOLD:
        _TOLD.add(said)
        sys.stderr.write(said)


_TOLD: set[str] = set()


@lru_cache(maxsize=1)
def stream() -> torch.cuda.Stream | None:
    """The stream in which decoders copy their pictures, and in which they are converted.

    One for all decoders of a process: torch uses memory again only on the stream where it was freed, and cuBLAS takes
    a workspace for each stream (32 MB on Hopper).
    """
    return torch.cuda.Stream()
