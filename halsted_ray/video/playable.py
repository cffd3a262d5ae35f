"""A copy of a video, or of a stretch of it, that every browser plays, with each frame at its own time.

H.264 with 8 bits and 4:2:0, one picture per frame, upright, in square pixels, at most 1920x1080: an MP4 that begins
with its index and holds the picture alone, no sound and no tags. Of a stereo pair it shows the left eye. Where the
recorder wrote no frame, the last one stands, as in the source.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from av import VideoFrame
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray

from halsted_ray.errors import UnreadableVideo
from halsted_ray.video.container import VideoFile
from halsted_ray.video.display_walk import DisplayWalk
from halsted_ray.video.frames import SAME_TIME_S
from halsted_ray.video.pictures import PictureScaler, shown_size

if TYPE_CHECKING:
    from halsted_ray.video.container import VideoPacket
    from halsted_ray.video.frames import FrameSize

PLAYED_CODECS = ("h264", "vp8", "vp9", "libdav1d", "av1")
"""What Chromium and Firefox decode on every machine, by libavcodec's names."""
PLAYED_FORMATS = ("yuv420p", "yuvj420p")
PLAYED_IN = {"MP4/MOV": ("h264", "vp9", "libdav1d", "av1"), "Matroska/WebM": ("vp8", "vp9", "libdav1d", "av1")}
"""Container → the codecs that they play in it. H.264 in Matroska is played by some browsers only."""
LONG_SIDE, SHORT_SIDE = 1920, 1080
TICKS_PER_S = 90_000
"""The clock of a copy: frames keep their times to 6 µs."""
QUALITY = "23"
KEYFRAME_EVERY_S = 2.0
MOST_BITS_PER_S = 6_000_000
"""A clip, which is held in memory, has at most so many on average over two seconds. No limit for a file."""
THREADS = 2
"""Of the encoder."""
INDEX_BYTES, INDEX_BYTES_PER_FRAME = 8192, 40
"""Room for the index of an MP4 that is written in one piece: libavformat needs about half of it."""
BT709 = 1
"""The number of its primaries and of its transfer (H.273)."""

Paint = Callable[[NDArray[np.uint8], float], None]
"""Draws on a picture (uint8, RGB, [height, width, 3]) that is displayed from a second of the source on."""
Watch = Callable[[float], None]
"""Is called with the second of the source that is being written."""


def plays_itself(codec: str, pixel_format: str, container: str) -> bool:
    """Whether browsers play a file with this stream, by the names of ``probe.Probe``."""
    return codec in PLAYED_IN.get(container, ()) and pixel_format in PLAYED_FORMATS


def playable_size(video: VideoFile) -> FrameSize:
    """(height, width) of the copy of a video: as it is shown, made smaller where it is larger than 1920x1080 (or
    1080x1920), of even numbers."""
    height, width = shown_size(video)
    share = min(1.0, LONG_SIDE / max(height, width), SHORT_SIDE / min(height, width))
    return max(2, round(height * share / 2) * 2), max(2, round(width * share / 2) * 2)


def write_playable(video: VideoFile, out: str | Path, on_progress: Watch = lambda at_s: None) -> int:
    """Writes a copy of the whole video to the new file ``out`` and returns the number of its frames.

    Each frame has the time it has in the source, counted from the first displayed frame. The file is read back to see
    that. Raises UnreadableVideo where no frame decodes or a frame lost its time.
    """
    times: list[int] = []
    with _output(os.fspath(out), {"movflags": "+faststart"}) as container:
        for packet in _coded(container, video, 0.0, float("inf"), None, None, on_progress):
            times.append(packet.pts or 0)
            container.mux(packet)
    if not times:
        raise UnreadableVideo("expected frames that decode, got none to the end of the file; copy or export it again")
    with VideoFile(os.fspath(out)) as copy:
        copy.reopen()
        found_s = sorted(copy.seconds(packet.pts) for packet in copy.packets() if packet.pts is not None)
    expected_s = [tick / TICKS_PER_S for tick in times]
    if len(found_s) != len(times) or any(abs(a - b) > SAME_TIME_S for a, b in zip(found_s, expected_s, strict=True)):
        raise UnreadableVideo(
            f"expected a copy of {len(times)} frames with their times, got {len(found_s)} frames; export it again"
        )
    return len(times)


def cut_clip(video: VideoFile, start_s: float, stop_s: float, paint: Paint | None = None) -> tuple[bytes, int]:
    """(an MP4 of [start_s, stop_s) of the video, the number of its frames).

    Second t of the clip shows what the source shows at ``start_s + t``: the first frame is the one that is displayed at
    ``start_s``, and the last one stands until ``stop_s``. ``paint`` draws on each picture. Raises UnreadableVideo where
    no frame is displayed in the span.
    """
    out = BytesIO()
    with _output(out, {}) as container:
        held = list(_coded(container, video, start_s, stop_s, paint, MOST_BITS_PER_S))
        if not held:
            raise UnreadableVideo(
                f"expected pictures from {start_s:.3f} to {stop_s:.3f} s, got none: nothing was recorded there, or it "
                "is damaged; ask for another part"
            )
        # The index comes first. The header is written with the first frame, and by now it is known how many there are.
        container.options["moov_size"] = str(INDEX_BYTES + INDEX_BYTES_PER_FRAME * len(held))
        for packet in held:
            container.mux(packet)
    return out.getvalue(), len(held)


def _output(out: str | BytesIO, options: dict[str, str]) -> OutputContainer:
    """An MP4 to write, without any tag."""
    fixed = {"fflags": "+bitexact", "video_track_timescale": str(TICKS_PER_S), "movie_timescale": str(TICKS_PER_S)}
    return av.open(out, "w", format="mp4", options={**fixed, **options})


def _coded(
    container: OutputContainer,
    video: VideoFile,
    start_s: float,
    stop_s: float,
    paint: Paint | None,
    most_bits_per_s: int | None,
    on_progress: Watch = lambda at_s: None,
) -> Iterator[VideoPacket]:
    """The coded frames of [start_s, stop_s), for a stream that this adds to ``container``; times from ``start_s`` on.
    Each lasts until the next one, the last until ``stop_s``."""
    size = playable_size(video)
    walk = DisplayWalk(video, "all", np.empty(0))
    scaler = PictureScaler(video, size)
    stream = container.add_stream("libx264")
    context = stream.codec_context
    _set_up(context, size, video, most_bits_per_s)
    last = -1
    held: VideoPacket | None = None
    for frame, shown_s in walk.frames(start_s, stop_s):
        on_progress(shown_s)
        image_HWC = scaler.to_rgb(cast(VideoFrame, frame))
        if paint is not None:
            paint(image_HWC, max(shown_s, start_s))
        last = max(last + 1, round((max(shown_s, start_s) - start_s) * TICKS_PER_S))
        picture = VideoFrame.from_ndarray(image_HWC, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, threads=1
        )
        picture.pts, picture.time_base = last, context.time_base
        for packet in context.encode(picture):
            if held is not None:
                yield _lasting(held, packet.pts or 0)
            held = _of_stream(packet, stream)
    for packet in context.encode(None) if last >= 0 else ():
        if held is not None:
            yield _lasting(held, packet.pts or 0)
        held = _of_stream(packet, stream)
    if held is not None:
        end = last + round(walk.frame_s * TICKS_PER_S) if stop_s == float("inf") else stop_s - start_s
        yield _lasting(held, end if isinstance(end, int) else round(end * TICKS_PER_S))


def _set_up(context: VideoCodecContext, size: FrameSize, video: VideoFile, most_bits_per_s: int | None) -> None:
    """Sets the encoder up, before it is opened by its first frame."""
    rate = video.stream.average_rate or video.stream.guessed_rate or Fraction(25)
    context.height, context.width = size
    context.pix_fmt = "yuv420p"
    context.time_base = Fraction(1, TICKS_PER_S)
    context.framerate = rate
    context.color_range, context.colorspace = int(ColorRange.MPEG), int(Colorspace.ITU709)
    context.color_primaries = context.color_trc = BT709
    context.gop_size = max(1, round(float(rate) * KEYFRAME_EVERY_S))
    # No frame refers to a later one: each leaves in its turn, and its time of decoding is its time of display.
    context.max_b_frames = 0
    context.thread_count = THREADS
    context.options = {"preset": "veryfast", "crf": QUALITY}
    if most_bits_per_s:
        context.options |= {"maxrate": str(most_bits_per_s), "bufsize": str(2 * most_bits_per_s)}


def _of_stream(packet: VideoPacket, stream: VideoStream) -> VideoPacket:
    packet.stream, packet.time_base = stream, Fraction(1, TICKS_PER_S)
    return packet


def _lasting(packet: VideoPacket, until: int) -> VideoPacket:
    packet.duration = max(1, until - (packet.pts or 0))
    return packet
