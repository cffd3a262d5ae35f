"""Recordings with a patient's name in every place of the file that can hold one."""

from __future__ import annotations

import base64
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import small_video

NAME = "DOE^JANE-1957"
"""The name; no other byte of a file looks like it."""


def places_of(data: bytes) -> list[str]:
    """In which writings ``NAME`` is among the bytes."""
    found = [
        coding
        for coding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le")
        for spelled in (NAME, NAME.lower(), NAME.split("^")[0] + "^")
        if spelled.encode(coding) in data
    ]
    return found + (["base64"] if any(part in data for part in IN_BASE64) else [])


def _in_base64(text: bytes) -> list[bytes]:
    """The parts of base64 that are the same whatever stands before and behind ``text``."""
    return [
        base64.b64encode(bytes(skip) + text)[(skip * 8 + 5) // 6 : (skip + len(text)) * 8 // 6] for skip in range(3)
    ]


IN_BASE64 = [part for coding in ("utf-8", "utf-16-le") for part in _in_base64(NAME.encode(coding))]


def recording(
    path: Path,
    codec: str = "libx264",
    seconds: float = 3.0,
    gop: int = 12,
    look: int = 0,
    picture_of: Path | None = None,
) -> Path:
    """A video at ``path``, whose suffix decides the container, with ``NAME`` wherever this container holds text: tags
    of the file and of its streams, a chapter, sound with tags, subtitles, an attachment, a cover, the coded picture,
    and boxes of no meaning. ``picture_of``: a video of H.264 and of ``seconds`` whose picture it gets."""
    plain = path.with_name(f"plain-{path.name}")
    options = {"g": str(gop), "bf": "2"}
    if codec == "libx265":
        options = {"x265-params": f"log-level=none:keyint={gop}:open-gop=0", "preset": "ultrafast"}
    if picture_of is not None:
        plain.write_bytes(picture_of.read_bytes())
    else:
        small_video.write(plain, seconds, size=(96, 160), codec=codec, options=options, look=look)
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        is_mp4, is_matroska = path.suffix in (".mp4", ".mov"), path.suffix == ".mkv"
        out.metadata.update({"title": NAME, "comment": f"operation of {NAME}", "creation_time": "2021-03-04T05:06:07Z"})
        picture = source.streams.video[0]
        video = out.add_stream_from_template(picture)
        video.metadata.update({"title": NAME, "handler_name": NAME, "language": "deu"})
        extra = _add_others(out, is_mp4 or is_matroska)
        subtitles = _add_subtitles(out, is_mp4) if is_mp4 or is_matroska else None
        if is_mp4 or is_matroska:
            half, ms = round(seconds * 500), Fraction(1, 1000)
            out.set_chapters(
                [
                    {"id": 1, "start": 0, "end": half, "time_base": ms, "metadata": {"title": NAME}},
                    {
                        "id": 2,
                        "start": half,
                        "end": 2 * half,
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": "b"},
                    },
                ]
            )
        if is_matroska:
            out.add_attachment(f"{NAME}.txt", "text/plain", NAME.encode())
            out.add_attachment(f"cover {NAME}.jpg", "image/jpeg", b"\xff\xd8\xff\xfe" + NAME.encode())
        for packet in source.demux(picture):
            if not packet.size:
                continue
            named = av.Packet(with_name(bytes(packet), codec, is_mp4 or is_matroska))
            named.pts, named.dts, named.time_base = packet.pts, packet.dts, packet.time_base
            named.is_keyframe, named.stream = packet.is_keyframe, video
            out.mux(named)
        if subtitles is not None:
            _write_subtitle(out, subtitles, is_mp4)
        if extra is not None:
            _write_sound(out, extra, seconds)
    plain.unlink()
    if path.suffix in (".mp4", ".mov"):
        text = NAME.encode() + NAME.encode("utf-16-le")
        cover = _box(b"meta", bytes(4) + _box(b"ilst", _box(b"covr", _box(b"data", struct.pack(">II", 13, 0) + text))))
        boxes = [(b"free", text), (b"skip", text), (b"uuid", bytes(16) + text), (b"udta", _box(b"name", text) + cover)]
        with open(path, "ab") as file:
            for kind, body in boxes:
                file.write(_box(kind, body))
    assert places_of(path.read_bytes()), "the name is in the recording"
    return path


def with_name(data: bytes, codec: str, by_length: bool) -> bytes:
    """A coded frame with ``NAME`` as its user data. ``by_length``: NAL units stand behind their lengths."""
    text = NAME.encode()
    message = b"\x05" + bytes((16 + len(text),)) + bytes(range(1, 17)) + text + b"\x80"
    unit = {"libx264": b"\x06", "libx265": b"\x4e\x01"}.get(codec, b"")
    if unit:
        head = struct.pack(">I", len(unit + message)) if by_length else b"\0\0\0\1"
        return head + unit + message + data
    if codec == "mpeg2video":  # user data stand before the head of a picture or after it; a slice begins with 1
        at = data.find(b"\0\0\1\1")
        return data[:at] + b"\0\0\1\xb2" + text + data[at:]
    at = data.find(b"\0\0\1\xb6")
    return data[:at] + b"\0\0\1\xb2" + text + data[at:]


def _add_others(out: av.container.OutputContainer, has_tags: bool) -> av.AudioStream | None:
    sound = out.add_stream("aac" if has_tags else "mp2", rate=48_000, layout="mono")
    sound.metadata.update({"title": NAME, "handler_name": NAME})
    return sound


def _add_subtitles(out: av.container.OutputContainer, is_mp4: bool) -> av.subtitles.stream.SubtitleStream:
    stream = out.add_mux_stream("mov_text" if is_mp4 else "subrip")
    stream.metadata.update({"title": NAME, "language": "deu"})
    return stream


def _write_subtitle(
    out: av.container.OutputContainer, stream: av.subtitles.stream.SubtitleStream, is_mp4: bool
) -> None:
    text = NAME.encode()
    packet = av.Packet(struct.pack(">H", len(text)) + text if is_mp4 else text)
    packet.pts = packet.dts = 500
    packet.duration, packet.time_base, packet.stream = 1000, Fraction(1, 1000), stream
    out.mux(packet)


def _write_sound(out: av.container.OutputContainer, sound: av.AudioStream, seconds: float) -> None:
    samples = np.zeros((1, 1152), np.float32 if sound.codec_context.format.is_planar else np.int16)
    for n in range(int(seconds * 48_000 / 1152)):
        frame = av.AudioFrame.from_ndarray(
            samples, format="fltp" if sound.codec_context.format.is_planar else "s16", layout="mono"
        )
        frame.sample_rate, frame.pts = 48_000, n * 1152
        out.mux(sound.encode(frame))
    out.mux(sound.encode(None))


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body
