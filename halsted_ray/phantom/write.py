"""A script as a video file: rendered and encoded frame by frame, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from halsted_ray.phantom import frame_number
from halsted_ray.phantom.interruptions import Interruption
from halsted_ray.phantom.render import Renderer
from halsted_ray.phantom.script import Script
from halsted_ray.video.colour import is_hd


def write_video(
    path: str | Path,
    script: Script,
    width: int = 640,
    height: int = 360,
    fps: int | float | Fraction = 25,
    *,
    gop: int | None = None,
    bframes: int = 1,
    codec: str = "libx264",
    crf: int = 23,
    preset: str = "veryfast",
    pix_fmt: str = "yuv420p",
    duration_s: float | None = None,
    paint_frame_number: bool = False,
    shifted: bool = False,
    interruptions: Sequence[Interruption] = (),
    options: dict[str, str] | None = None,
) -> int:
    """Writes ``script`` to ``path`` (the suffix decides the container) and returns the number of frames.

    Frame n is the scene at n / fps, for every n / fps below ``duration_s`` (default: the script's). ``gop`` is the
    largest distance between keyframes, in frames (default: 2 s). ``paint_frame_number`` paints each frame's number over
    its top (see ``frame_number``). ``shifted``, ``interruptions``: as of ``Renderer``. The encoder has one thread, so
    that the same arguments give the same bytes on one machine. HD is written in BT.709 and says so, smaller pictures in
    BT.601 without tags: players read both rightly.
    ``options`` go to the encoder as they are. Raises ValueError for odd sizes and empty videos.
    """
    rate = Fraction(fps).limit_denominator(100_000)
    duration_s = script.duration_s if duration_s is None else duration_s
    count = -int(-Fraction(duration_s).limit_denominator(1_000_000) * rate // 1)
    if count < 1 or width % 2 or height % 2:
        raise ValueError(f"{width}x{height} for {duration_s} s at {rate} frames/s: expected even sides and a frame")
    renderer = Renderer(script, width, height, shifted=shifted, interruptions=interruptions)

    def images() -> Iterator[NDArray[np.uint8]]:
        for n in range(count):
            image = renderer.frame(float(n / rate))
            if paint_frame_number:
                frame_number.paint_frame_number(image, n)
            yield image

    return write_frames(
        path,
        images(),
        width,
        height,
        rate,
        gop=gop,
        bframes=bframes,
        codec=codec,
        crf=crf,
        preset=preset,
        pix_fmt=pix_fmt,
        options=options,
    )


def write_frames(
    path: str | Path,
    images: Iterable[NDArray[np.uint8]],
    width: int,
    height: int,
    rate: Fraction,
    *,
    gop: int | None = None,
    bframes: int = 1,
    codec: str = "libx264",
    crf: int = 23,
    preset: str = "veryfast",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
) -> int:
    """Writes ``images``, each uint8 [height, width, 3] RGB, ``rate`` of them per second, and returns their number. All
    else is as of ``write_video``."""
    own = {"threads": "1", "g": str(gop or max(1, round(2 * rate))), "bf": str(bframes)}
    if codec in ("libx264", "libx265"):
        own |= {"preset": preset, "crf": str(crf)}
    if codec == "libx264":
        # Where the height is no multiple of 16, macroblock-tree rate control reads memory that x264 never wrote: at
        # 320x180 a third of the files differed from the others.
        own["x264-params"] = "threads=1:lookahead-threads=1:sliced-threads=0:mbtree=0"
    # A reformatter per frame, and its threads, took 1.1 ms more per picture of 256x144, a third of all.
    reformatter = VideoReformatter()
    threads, count = cv2.getNumThreads(), 0
    cv2.setNumThreads(1)
    try:
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=rate, options=own | (options or {}))
            assert isinstance(stream, VideoStream), f"{codec} encodes no video"
            stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
            stream.codec_context.time_base = 1 / rate
            matrix = None
            if is_hd(width, height) and pix_fmt.startswith("yuv4"):
                matrix, context = Colorspace.ITU709, stream.codec_context
                context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
                context.color_trc, context.color_primaries = ColorTrc.BT709, ColorPrimaries.BT709
            for n, image in enumerate(images):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                frame = reformatter.reformat(frame, format=pix_fmt, dst_colorspace=matrix, threads=1)
                frame.pts, frame.time_base = n, 1 / rate
                container.mux(stream.encode(frame))
                count = n + 1
            container.mux(stream.encode(None))
    finally:
        cv2.setNumThreads(threads)
    return count
