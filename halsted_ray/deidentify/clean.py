"""One file from end to end: look for text and for spans that must go, write the clean copy, certify it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from halsted_ray import __version__
from halsted_ray.deidentify.certificate import CODES, sha256_of
from halsted_ray.deidentify.finders import FINDERS, Finder
from halsted_ray.deidentify.spans import Box, Mask, Span
from halsted_ray.deidentify.worker import ask_worker, mask_of
from halsted_ray.errors import UsageError

if TYPE_CHECKING:
    from halsted_ray.records import JsonObject

FOREVER_S = 1e9
"""Stands for the end of a video in messages and certificates, which hold no infinite numbers."""


@dataclass(frozen=True)
class CleaningOptions:
    """``text``: look for text in the picture. ``boxes``: fixed masks of the recorder, over the whole video. ``spans``:
    ask the finders for spans that must go; without them, as for open surgery, a person must look for these."""

    text: bool = True
    boxes: tuple[Box, ...] = ()
    spans: bool = True


@dataclass(frozen=True)
class Cleaned:
    """A clean file. ``certificate`` is not signed yet (``certificate.signed``). ``spans`` and ``masks``: what became
    black, in seconds from the first displayed frame."""

    certificate: JsonObject
    spans: list[Span]
    masks: list[Mask]


def has_text_reader() -> bool:
    """Whether the extra ``deidentify`` is installed."""
    return find_spec("rapidocr_onnxruntime") is not None


def clean_file(
    source: Path,
    out: Path,
    options: CleaningOptions | None = None,
    finders: Mapping[str, Finder] = FINDERS,
    on_progress: Callable[[str, float], None] = lambda step, at_s: None,
) -> Cleaned:
    """Writes the clean copy of ``source`` to the new file ``out``, and says what was done. Both are local.

    ``on_progress`` is called with the step (one of ``steps_of``) and the second of the video at which it is. A finder
    says only when it begins. Raises VideoError where the source can't be read, UsageError where a package is missing,
    OutputError where the disk is full; there is no ``out`` then.
    """
    options = options or CleaningOptions(text=has_text_reader())
    finders = finders if options.spans else {}
    before = {"sha256": sha256_of(source), "size_bytes": os.path.getsize(source)}
    masks = [Mask(0.0, FOREVER_S, box, "recorder") for box in options.boxes]
    if options.text:
        found = ask_worker(
            {"do": "text", "path": os.fspath(source)}, on_progress=lambda at_s: on_progress("text", at_s)
        )
        masks += [replace(mask, stop_s=min(mask.stop_s, FOREVER_S)) for mask in map(mask_of, found["masks"])]
    spans = []
    for name, finder in finders.items():
        on_progress(name, 0.0)
        spans += finder(source)
    spans = [replace(span, stop_s=min(span.stop_s, FOREVER_S)) for span in spans]
    written = ask_worker(
        {
            "do": "write",
            "path": os.fspath(source),
            "out": os.fspath(out),
            "spans": [asdict(span) for span in spans],
            "masks": [asdict(mask) for mask in masks],
        },
        on_progress=lambda at_s: on_progress("write", at_s),
    )
    after = {"sha256": sha256_of(out), "size_bytes": os.path.getsize(out)}
    codes = ["113100", *(["113101"] if options.text or options.boxes else []), *(["113102"] if finders else [])]
    certificate = {
        "kind": "halsted-deidentification",
        "version": 1,
        "before": before,
        "after": after,
        "by": versions(),
        "methods": [{"code": code, "scheme": "DCM", "meaning": CODES[code]} for code in codes],
        "looked_for": {"text": options.text, "spans": sorted(finders), "recorder_boxes": len(options.boxes)},
        "removed": {"carried": written["carried"], "units": written["removed_units"]},
        "black": {"spans": [asdict(span) for span in spans], "masks": [asdict(mask) for mask in masks]},
        "frames": written["frames"],
        "frames_copied": written["copied"],
        "coded_again_s": written["coded_again"],
        "why_whole": written["why_whole"],
        "review": {"state": "open" if spans or masks else "nothing-found"},
    }
    return Cleaned(certificate, spans, masks)


def steps_of(options: CleaningOptions, finders: Mapping[str, Finder] = FINDERS) -> list[str]:
    """The steps of ``clean_file`` in order."""
    return [*(["text"] if options.text else []), *(finders if options.spans else ()), "write"]


def versions() -> dict[str, str]:
    """What did the work, by name and version."""
    found = {"halsted_ray": __version__}
    for name in ("av", "rapidocr-onnxruntime", "onnxruntime"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def boxes_of(texts: Sequence[str]) -> tuple[Box, ...]:
    """Boxes from words like ``x,y,width,height``. Raises UsageError."""
    boxes = []
    for text in texts:
        try:
            x, y, width, height = (int(number) for number in text.split(","))
            boxes.append(Box(x, y, width, height))
        except ValueError:
            raise UsageError(f"mask {text!r}: expected x,y,width,height in pixels, such as 0,0,400,60") from None
    return tuple(boxes)
