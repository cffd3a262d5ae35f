"""What a person looks through after a run: each black span and box with a small picture of what it covers.

The folder of the review holds patients' data: pictures of names, and which clean video came from which file. It lies
apart from the clean videos, for its owner alone. Accepting a video removes its pictures.

    REVIEW/links.jsonl              {"id": …, "uri": …} of each clean video
    REVIEW/<id>/items.json          what became black
    REVIEW/<id>/<number>.jpg        a picture of it, before
    REVIEW/index.html               all that is open, to be looked through in a browser
"""

from __future__ import annotations

import html
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from halsted_ray.deidentify.certificate import signed
from halsted_ray.deidentify.spans import Mask, Span
from halsted_ray.errors import UsageError, VideoError
from halsted_ray.video.decode_process import DecodeProcess

if TYPE_CHECKING:
    from halsted_ray.records import JsonObject

PICTURE_PX = 480
"""The longer side of a small picture."""
READ_S = 60.0
PICTURES_AT_MOST = 200
"""Of one video; further findings are listed without one."""


def write_items(folder: Path, source: Path, spans: list[Span], masks: list[Mask]) -> None:
    """Writes the items of one video with their pictures to ``folder``. A picture that can't be read is left out."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    items: list[JsonObject] = []
    with DecodeProcess() as process:
        length_s = process.probe(os.fspath(source)).duration_s
        black: list[Span | Mask] = [*spans, *masks]
        for number, found in enumerate(black):
            start_s, stop_s = found.start_s, min(found.stop_s, length_s)
            item: JsonObject = {"start_s": start_s, "stop_s": stop_s, "reason": found.reason, "score": found.score}
            if isinstance(found, Mask):
                item["box"] = [found.box.x, found.box.y, found.box.width, found.box.height]
            if number < PICTURES_AT_MOST:
                try:
                    middle_s = np.array([(start_s + stop_s) / 2])
                    frames = process.read_frames(os.fspath(source), middle_s, None, deadline_s=READ_S)
                    picture_HWC = frames.images_NHWC[0]
                except (VideoError, IndexError):
                    items.append(item)
                    continue
                scale = PICTURE_PX / max(picture_HWC.shape[:2])
                small_HWC = cv2.resize(picture_HWC, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                item["picture"] = f"{number}.jpg"
                _write(folder / f"{number}.jpg", cv2.imencode(".jpg", small_HWC[:, :, ::-1])[1].tobytes())
            items.append(item)
    _write(folder / "items.json", json.dumps(items).encode())


def write_index(review: Path) -> Path:
    """The page over all videos that are open; its path."""
    parts = ["<!doctype html><meta charset=utf-8><title>De-identification: to be looked through</title>"]
    for file in sorted(review.glob("*/items.json")):
        name = html.escape(file.parent.name)
        parts.append(f"<h2>{name}</h2><table>")
        for item in json.loads(file.read_text()):
            shown = f'<img src="{name}/{item["picture"]}" alt="">' if "picture" in item else ""
            where = f"box {item['box']}" if "box" in item else "the whole picture"
            parts.append(
                f"<tr><td>{shown}<td>{item['start_s']:.1f} to {item['stop_s']:.1f} s<td>{html.escape(where)}"
                f"<td>{html.escape(item['reason'])} {item['score']:.2f}"
            )
        parts.append(f"</table><p>Accept: <code>halsted deidentify accept CERTIFICATES/{name}.json …</code>")
    if len(parts) == 1:
        parts.append("<p>Nothing is open.")
    _write(review / "index.html", "\n".join(parts).encode())
    return review / "index.html"


def link(review: Path, name: str, uri: str) -> None:
    """Notes which file the clean video ``name`` came from."""
    review.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(review / "links.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "a") as file:
        file.write(json.dumps({"id": name, "uri": uri}) + "\n")


def accept(certificate_file: Path, review: Path, key: Ed25519PrivateKey, who: str) -> None:
    """Notes in a certificate that ``who`` has looked through what became black, signs it anew, and removes the
    pictures. Raises UsageError."""
    try:
        certificate = json.loads(certificate_file.read_text())
        assert certificate["kind"] == "halsted-deidentification"
    except (OSError, ValueError, KeyError, TypeError, AssertionError):
        raise UsageError(f"{str(certificate_file)!r}: expected a certificate of `halsted deidentify`") from None
    certificate["review"] = {"state": "accepted", "by": who}
    write_certificate(certificate_file, signed(certificate, key))
    shutil.rmtree(review / certificate_file.stem, ignore_errors=True)


def write_certificate(path: Path, certificate: JsonObject) -> None:
    """Writes a certificate whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(certificate, indent=1, sort_keys=True) + "\n")
    os.replace(unfinished, path)


def _write(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
