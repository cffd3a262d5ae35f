"""What finds spans of a video that are to become black. Each is named, takes a local path, and gives spans."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from halsted_ray.deidentify.spans import Span

Finder = Callable[[Path], list[Span]]


def out_of_body(path: Path) -> list[Span]:
    """The spans outside of the body (``out_of_body``), by the detector that ships."""
    from halsted_ray.deidentify.out_of_body import find_out_of_body  # here, since it imports torch

    return find_out_of_body(path)


FINDERS: dict[str, Finder] = {"out-of-body": out_of_body}
"""Name → finder; all of them are asked of every video. A finder reads the file in a process that can be killed
(``video.decode_process``), since the file can't be trusted."""
