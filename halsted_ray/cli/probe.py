"""``halsted probe``: its options, and what it prints."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import Any

from halsted_ray.cli.options import DONE, NOT_ALL, Commands, add_command
from halsted_ray.cli.text_tables import WIDTH


def add_probe(commands: Commands) -> None:
    """``halsted probe``."""
    probe = add_command(
        commands,
        "probe",
        "say what is known of one file, and how it will be read",
        describe_file,
        example="halsted probe archive/case1.mp4",
        more="exit code: 0 the file can be mapped, 3 it can't",
    )
    probe.add_argument("file", metavar="FILE", help="a video: a path or a URL")
    probe.add_argument("--eye", choices=("left", "right"), default="left", help="the picture of a stereo pair to read")
    probe.add_argument("--json", action="store_true", help="print everything as JSON")


def describe_file(options: argparse.Namespace) -> int:
    """Prints what the file states, what its packets hold, and what a person should know; or why it is no video."""
    from halsted_ray.errors import StorageUnavailable, UnreadableVideo, VideoError
    from halsted_ray.storage.locations import filesystem
    from halsted_ray.storage.retry import PATIENCE_S, with_retries
    from halsted_ray.video.decode_process import DecodeProcess
    from halsted_ray.video.file_head import HEAD_BYTES, dicom_reason, holds_dicom_stream, is_dicom
    from halsted_ray.video.identity import file_info

    try:
        fs, path = filesystem(options.file)
        file_info(fs, path)
        head = with_retries(lambda: fs.cat_file(path, start=0, end=HEAD_BYTES), "its first bytes", PATIENCE_S)
        if is_dicom(head) and not holds_dicom_stream(head):
            raise UnreadableVideo(dicom_reason(head))
        with DecodeProcess() as process:
            found = process.describe(options.file, options.eye)
    except StorageUnavailable:
        raise
    except VideoError as error:
        print(
            json.dumps({"code": error.code, "reason": str(error)})
            if options.json
            else _paragraph(f"{error.code}: {error}")
        )
        return NOT_ALL
    print(json.dumps(found, indent=1) if options.json else _text(found))
    return DONE


def _text(found: dict[str, Any]) -> str:
    from halsted_ray.reporting.terminal import clock

    probe, picture = found["probe"], found["picture"]
    rows = [
        ("length", f"{clock(probe['duration_s'], 3)} ({_lengths(found['lengths_s'])})"),
        ("container", f"{probe['container']}, {probe['size_bytes']:,} bytes, {', '.join(found['streams'])}"),
        ("picture", f"{probe['width']}×{probe['height']}, {probe['codec']}, {probe['pixel_format']}, {_rate(probe)}"),
        ("orientation", _orientation(picture)),
        ("stereo", picture["stereo"] or "no"),
        ("colour", f"{picture['matrix']}, {picture['colour_range']} range, {picture['transfer']}{_stated(picture)}"),
        ("clock", f"{found['time_base']} s per tick, first frame at {probe['first_pts_s']:.3f} s{_takes(probe)}"),
        ("read by", found["read_by"] + _keys(found["keyframes"])),
    ]
    lines = [
        textwrap.fill(f"{name:12}{text}", WIDTH, subsequent_indent=" " * 12, break_long_words=False)
        for name, text in rows
    ]
    return "\n".join(lines + [_paragraph(f"note: {remark}") for remark in found["remarks"]])


def _lengths(lengths: dict[str, float]) -> str:
    return ", ".join(f"{name} {length:.3f} s" for name, length in lengths.items() if name != "used")


def _rate(probe: dict[str, Any]) -> str:
    return f"{probe['fps']:.3f} frames/s" if probe["fps"] else "no stated frame rate"


def _orientation(picture: dict[str, Any]) -> str:
    turned = f"turned by {picture['rotation_deg']}°" if picture["rotation_deg"] else "upright"
    return f"{turned}{', mirrored' if picture['mirrored'] else ''}{', interlaced' if picture['interlaced'] else ''}"


def _stated(picture: dict[str, Any]) -> str:
    return "" if picture["matrix_stated"] else " (not stated: by the size of the picture)"


def _takes(probe: dict[str, Any]) -> str:
    return f", {len(probe['takes'])} takes" if len(probe["takes"]) > 1 else ""


def _keys(keyframes: dict[str, Any] | None) -> str:
    if keyframes is None:
        return ""
    if keyframes["count"] == 1:
        return "; 1 keyframe"
    return f"; {keyframes['count']:,} keyframes, at most {keyframes['longest_s']:.1f} s apart"


def _paragraph(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="      ", break_long_words=False)
