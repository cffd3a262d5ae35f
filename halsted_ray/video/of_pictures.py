"""A video file of a folder of pictures: data sets are published as pictures, and an atlas refers to video files."""

from __future__ import annotations

import io
import posixpath
import tempfile
from collections.abc import Sequence
from fractions import Fraction

import av
from av import VideoFrame
from av.video.reformatter import ColorRange, Colorspace

from halsted_ray.errors import UnreadableVideo, VideoError, first_line
from halsted_ray.storage.files import make_local_folder, move_file, read_file
from halsted_ray.storage.locations import filesystem, local_path
from halsted_ray.video.container import check_picture
from halsted_ray.video.playable import BT709

QUALITY = "16"
"""Of libx264. The pictures have been compressed before; the eye sees no difference."""
KEYFRAME_EVERY_S = 2.0


def decode_picture(location: str) -> VideoFrame:
    """The picture in a PNG or JPEG file. Raises VideoError, OSError, ValueError, and av.FFmpegError."""
    fs, path = filesystem(location)
    with av.open(io.BytesIO(read_file(fs, path)), "r") as container:
        stream = container.streams.video[0]
        check_picture(stream.codec_context.width, stream.codec_context.height)
        frame = next(container.decode(stream), None)
        if frame is None:
            raise ValueError("it holds no picture")
        return frame


def write_video_of_pictures(pictures: Sequence[str], per_s: float, to: str) -> None:
    """Writes an MP4 at ``to`` in which picture n of ``pictures`` is shown from second n / ``per_s`` on.

    It has the size of the first picture, at most one pixel less a side, since sides are even. Nothing is at ``to``
    before it is whole. Raises UnreadableVideo for a picture that can't be decoded, OutputError.
    """
    folder, name = posixpath.split(to)
    local = local_path(folder)
    if local is not None:
        make_local_folder(local)
    with tempfile.TemporaryDirectory(dir=local, prefix=".of-pictures-") as place:
        _encode(pictures, Fraction(per_s).limit_denominator(1001), f"{place}/{name}")
        move_file(f"{place}/{name}", to)


def _encode(pictures: Sequence[str], rate: Fraction, path: str) -> None:
    with av.open(path, "w", format="mp4", options={"fflags": "+bitexact", "movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": QUALITY, "preset": "veryfast"})
        context = stream.codec_context
        context.color_range, context.colorspace = int(ColorRange.MPEG), int(Colorspace.ITU709)
        context.color_primaries = context.color_trc = BT709
        stream.pix_fmt, stream.gop_size = "yuv420p", max(1, round(float(rate) * KEYFRAME_EVERY_S))
        for n, picture in enumerate(pictures):
            try:
                frame = decode_picture(picture)
            except (VideoError, OSError, av.FFmpegError, ValueError) as error:
                raise UnreadableVideo(
                    f"picture {picture} can't be decoded ({first_line(error)}); fetch it again, or take it out"
                ) from error
            if n == 0:
                stream.width, stream.height = frame.width // 2 * 2, frame.height // 2 * 2
            seen = frame.reformat(width=stream.width, height=stream.height, format="rgb24")
            coded = VideoFrame.from_ndarray(seen.to_ndarray(), format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            coded.pts, coded.time_base = n, 1 / rate
            container.mux(stream.encode(coded))
        container.mux(stream.encode(None))
