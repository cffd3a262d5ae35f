"""Small videos of given pictures, with the marks that recorders set: orientation, stereo, fields, streams."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.filter import Graph

RATE = 25
SAMPLE_ENTRY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1")


def card(size: tuple[int, int] = (96, 160), look: int = 0) -> np.ndarray:
    """A picture (uint8 [H, W, 3]) of smooth blocks that no turn and no mirror maps onto itself."""
    height, width = size
    blocks = np.random.default_rng(look).integers(40, 216, (4, 6), np.uint8)
    grey_HW = blocks.repeat(-(-height // 4), 0)[:height].repeat(-(-width // 6), 1)[:, :width]
    return np.repeat(grey_HW[..., None], 3, 2)


def write(
    path: str | Path,
    images: Sequence[np.ndarray],
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    fields: str = "",
    pix_fmt: str = "yuv420p",
    mark: Callable[[av.VideoStream], None] = lambda stream: None,
) -> Path:
    """Writes ``images`` at 25 a second. ``fields``: ``tff`` or ``bff`` marks the frames as interlaced. ``mark`` may
    change the stream before its first frame."""
    with av.open(str(path), "w") as container:
        fast = {"preset": "ultrafast", "crf": "8"} if codec.startswith("libx26") else {"b": "20M"}
        interlaced = {"flags": "+ildct+ilme"} if fields else {}
        stream = container.add_stream(codec, rate=RATE, options=fast | interlaced | (options or {}))
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.thread_count = 1
        mark(stream)
        marking = field_marker(stream, fields) if fields else None
        for number, image in enumerate(images):
            frame = in_fields(image, pix_fmt) if fields else av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            if marking:
                marking.vpush(frame)
                frame = marking.vpull()
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return Path(path)


def field_marker(stream: av.VideoStream, fields: str) -> Graph:
    """A filter graph that marks frames as interlaced."""
    graph = Graph()
    source = graph.add_buffer(
        width=stream.width,
        height=stream.height,
        format=av.VideoFormat(stream.pix_fmt),
        time_base=Fraction(1, RATE),
    )
    graph.link_nodes(source, graph.add("setfield", fields), graph.add("buffersink")).configure()
    return graph


def in_fields(image: np.ndarray, pix_fmt: str) -> av.VideoFrame:
    """A frame whose two fields were converted apart, as an interlaced camera does."""
    whole = av.VideoFrame(image.shape[1], image.shape[0], pix_fmt)
    for parity in (0, 1):
        field = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[parity::2]), "rgb24").reformat(format=pix_fmt)
        for into, rows in zip(whole.planes, field.planes, strict=True):
            target = np.frombuffer(into, np.uint8).reshape(into.height, into.line_size)
            target[parity::2, : into.width] = np.frombuffer(rows, np.uint8).reshape(rows.height, -1)[:, : into.width]
    return whole


def woven(first: np.ndarray, second: np.ndarray, fields: str) -> np.ndarray:
    """One interlaced frame of two instants: the upper field is ``first`` where ``fields`` is ``tff``."""
    frame = np.empty_like(first)
    upper, lower = (first, second) if fields == "tff" else (second, first)
    frame[0::2], frame[1::2] = upper[0::2], lower[1::2]
    return frame


def copy(source: Path, target: str | Path, filter_name: str = "", filtered: int = 1 << 30) -> Path:
    """The packets of ``source`` in another container, the first ``filtered`` of them through a bitstream filter where
    one is named."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        through = av.BitStreamFilterContext(filter_name, read.streams.video[0]) if filter_name else None
        for number, packet in enumerate(read.demux(video=0)):
            filtering = through is not None and number < filtered
            for out in through.filter(packet if packet.size else None) if filtering else [packet]:
                if out.size:
                    out.stream = stream
                    written.mux(out)
    return Path(target)


def add_box(path: Path, body: bytes, within: Sequence[bytes] = SAMPLE_ENTRY) -> None:
    """Adds a box at the end of an MP4's innermost box of ``within``; moov stands at the file's end."""
    data = bytearray(path.read_bytes())
    places, at = [], 0
    for name in within:
        at = data.index(name, at)
        places.append(at - 4)
    innermost = places[-1]
    end = innermost + struct.unpack_from(">I", data, innermost)[0]
    for place in places:
        struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + len(body))
    data[end:end] = body
    path.write_bytes(data)
