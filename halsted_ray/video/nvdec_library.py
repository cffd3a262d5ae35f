"""PyNvVideoCodec and the device that it decodes on, where both are there; else why they are not."""

from __future__ import annotations

import importlib
import re
from functools import lru_cache
from typing import Any

import torch

from halsted_ray.video.nvdec import LIBRARY, NvdecRefused, device_problem

MOST_SAID = 120
"""Characters of an error's message that are counted as one reason."""


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
        raise NvdecRefused(f"{LIBRARY} can't be loaded ({said_by(error)})") from error


def said_by(error: Exception) -> str:
    """The type of an error and the beginning of its first line, for a reason that is counted.

    The library and the driver know no names of files. What the process prints may be lost: it can't write to a file.
    """
    first = next(iter(str(error).strip().splitlines()), "")[:MOST_SAID]
    return f"{type(error).__name__}: {re.sub('0x[0-9a-fA-F]+', '0x…', first)}" if first else type(error).__name__


@lru_cache(maxsize=1)
def stream() -> torch.cuda.Stream | None:
    """The stream in which decoders copy their pictures, and in which they are converted.

    One for all decoders of a process: torch uses memory again only on the stream where it was freed, and cuBLAS takes
    a workspace for each stream (32 MB on Hopper).
    """
    return torch.cuda.Stream()
