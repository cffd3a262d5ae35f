"""Small whole files, one or more per container: six seconds of numbered frames, tens of kilobytes each.

They are the same bytes in every run, so that a case can be repeated from its seed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import takes
from takes import Part, Stock


@dataclass(frozen=True)
class Whole:
    """A file that is as its container wants it."""

    name: str
    suffix: str
    container: str
    """The name by which ``pieces.PARSERS`` knows the container."""
    data: bytes


FRAMES, RATE = 150, 25
BIT_EXACT = {"fflags": "+bitexact"}
CODECS = {
    "h264": (".mp4", "libx264", 25, {"bf": "2"}),
    "hevc": (".mp4", "libx265", 25, {"x265-params": "log-level=none:open-gop=0:bframes=2:pools=1"}),
    "mpeg4": (".mp4", "mpeg4", 25, {}),
    "mjpeg": (".mov", "mjpeg", 1, {}),
    "mpeg2": (".ts", "mpeg2video", 12, {"bf": "2", "flags": "+cgop", "sc_threshold": "1000000000"}),
    "vp8": (".webm", "libvpx", 25, {"deadline": "realtime", "cpu-used": "8"}),
    "flv1": (".flv", "flv", 25, {}),
    "wmv2": (".asf", "wmv2", 25, {}),
}
RECIPES: dict[str, tuple[str, str, str, str, dict[str, str], str | None]] = {
    "mp4": (".mp4", "mp4", "mp4", "h264", {}, "aac"),
    "mp4, index first": (".mp4", "mp4", "mp4", "h264", {"movflags": "faststart"}, None),
    "mp4, fragments": (".mp4", "mp4", "mp4", "h264", {"movflags": "frag_keyframe+empty_moov"}, None),
    "mp4, hevc": (".mp4", "mp4", "mp4", "hevc", {}, None),
    "mov, mjpeg": (".mov", "mp4", "mov", "mjpeg", {}, None),
    "mkv": (".mkv", "mkv", "matroska", "h264", {}, "aac"),
    "mkv, no cues": (".mkv", "mkv", "matroska", "mpeg4", {"live": "1"}, None),
    "webm": (".webm", "mkv", "webm", "vp8", {}, None),
    "ts": (".ts", "ts", "mpegts", "h264", {}, "mp2"),
    "ts, mpeg2": (".ts", "ts", "mpegts", "mpeg2", {}, None),
    "ts, hevc": (".ts", "ts", "mpegts", "hevc", {}, None),
    "m2ts": (".m2ts", "m2ts", "mpegts", "h264", {}, None),
    "mpg": (".mpg", "ps", "mpeg", "mpeg2", {}, "mp2"),
    "vob": (".vob", "ps", "vob", "mpeg2", {}, None),
    "avi": (".avi", "avi", "avi", "mpeg4", {}, "mp2"),
    "avi, mjpeg": (".avi", "avi", "avi", "mjpeg", {}, None),
    "asf": (".wmv", "asf", "asf", "wmv2", {}, "wmav2"),
    "asf, h264": (".asf", "asf", "asf", "h264", {}, None),
    "flv": (".flv", "flv", "flv", "h264", {}, "aac"),
    "flv, sorenson": (".flv", "flv", "flv", "flv1", {}, None),
    "mxf": (".mxf", "mxf", "mxf", "mpeg2", {}, None),
}
"""Name → suffix, parser of its pieces, muxer, codec, options of the muxer, codec of the sound."""


@cache
def whole_files() -> tuple[Whole, ...]:
    """All of them; made once in a process, in about two seconds."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)

        @cache
        def stock(codec: str) -> Stock:
            suffix, encoder, gop, options = CODECS[codec]
            return takes.encode(folder / f"{codec}{suffix}", encoder, FRAMES, RATE, gop, 0, **options)

        files = [_whole(folder, stock, name) for name in RECIPES]
        files += _joined(folder, stock)
    return tuple(files)


def _whole(folder: Path, stock: Callable[[str], Stock], name: str) -> Whole:
    suffix, container, muxer, codec, options, sound = RECIPES[name]
    length_s = float(Fraction(FRAMES, RATE))
    path = takes.mux(
        folder / f"whole{suffix}",
        [Part(stock(codec), 0, FRAMES)],
        muxer,
        options | BIT_EXACT,
        (0.0, length_s, sound) if sound else None,
    )
    return Whole(name, suffix, container, path.read_bytes())


def _joined(folder: Path, stock: Callable[[str], Stock]) -> list[Whole]:
    """Two takes with a clock that starts again."""

    def halves(codec: str, muxer: str) -> list[bytes]:
        middle = stock(codec).keys[len(stock(codec).keys) // 2]
        spans = ((0, middle), (middle, FRAMES))
        return [
            takes.mux(folder / "half", [Part(stock(codec), *span)], muxer, BIT_EXACT).read_bytes() for span in spans
        ]

    return [
        Whole("ts, joined", ".ts", "ts", b"".join(halves("h264", "mpegts"))),
        Whole("vob, joined", ".vob", "ps", b"".join(halves("mpeg2", "vob"))),
        Whole("mkv, joined", ".mkv", "mkv", takes.join_segments(halves("h264", "matroska"))),
    ]
