"""Which of a file's video streams is the picture, where it has several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from av.stream import Disposition
from av.video.stream import VideoStream

NO_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails
"""libavformat's marks of a cover picture and of a row of thumbnails."""


def moving_pictures(streams: Iterable[VideoStream]) -> list[VideoStream]:
    """The video streams that are neither covers nor thumbnails nor, beside a stream of many pictures, one still."""
    moving = [stream for stream in streams if not stream.disposition & NO_VIDEO]
    longest = max((stream.frames for stream in moving), default=0)
    return [stream for stream in moving if not (longest > 1 and is_still(stream))]


def is_still(stream: VideoStream) -> bool:
    """Whether a stream holds a single picture, as far as its container says."""
    return stream.frames == 1 or bool(stream.disposition & Disposition.still_image)


def best_stream(streams: Sequence[VideoStream]) -> VideoStream:
    """The stream to read: the largest in pixels, among equals the stream that the file marks as its default, then the
    first. A stream without a decoder comes after all others. A recorder's second picture is its small preview."""

    def rank(stream: VideoStream) -> tuple[bool, int, bool]:
        return stream.codec_context is not None, pixels(stream), bool(stream.disposition & Disposition.default)

    return max(streams, key=rank)


def pixels(stream: VideoStream) -> int:
    """How many pixels a picture of the stream has; 0 where libavformat found none to measure."""
    context = stream.codec_context
    return context.width * context.height if context is not None else 0


def described(stream: VideoStream) -> str:
    """The stream in words, such as ``2: h264 1920x1080``. Titles are left out, since a title may be a name."""
    context = stream.codec_context
    if context is None:
        return f"{stream.index}: no decoder"
    return f"{stream.index}: {context.name} {context.width}x{context.height}"
