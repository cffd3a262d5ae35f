"""What a walk needs of a decoder, and libavcodec as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from halsted_ray.video.container import VideoFile, VideoPacket

LeaveOut = Literal["DEFAULT", "NONREF", "NONKEY"]
"""Which frames a decoder leaves out: none, those that no other frame refers to, all but keyframes (libavcodec's
AVDiscard)."""

SKIP_FOR_GOOD = "libdav1d"
"""A decoder that takes what it leaves out when it is opened, and never again. It is told to leave out nothing, so that
the frames at a time do not depend on where reading began."""


class DecodedFrame(Protocol):
    """What a walk asks of a decoded frame. Times are ticks of the stream on the video's own axis."""

    @property
    def pts(self) -> int | None: ...
    @property
    def dts(self) -> int | None: ...
    @property
    def key_frame(self) -> bool: ...
    @property
    def is_corrupt(self) -> bool: ...


class Decoder(Protocol):
    """Turns packets into frames, in the order of display."""

    def decode(self, packet: VideoPacket | None) -> Sequence[DecodedFrame] | None:
        """The frames that are given out after this packet; None where it does not decode. ``packet`` None asks for the
        frames that the decoder still holds."""

    def leave_out(self, which: LeaveOut) -> None:
        """Sets which frames are left out from here on."""

    def reset(self) -> None:
        """Forgets all packets: the next packet comes from another place."""

    def note_damage(self) -> None:
        """Told of data that hold no picture, or that do not decode."""


class LibavDecoder:
    """libavcodec, with the decoder that belongs to an open video; a new one after ``VideoFile.reopen``."""

    def __init__(self, video: VideoFile):
        self._video = video

    def decode(self, packet: VideoPacket | None) -> Sequence[DecodedFrame] | None:
        return self._video.decode(packet)

    def leave_out(self, which: LeaveOut) -> None:
        context = self._video.stream.codec_context
        context.skip_frame = "DEFAULT" if context.name == SKIP_FOR_GOOD else which

    def reset(self) -> None:
        context = self._video.stream.codec_context
        if context.is_open:
            context.flush_buffers()

    def note_damage(self) -> None:
        """Nothing: libavcodec says of each frame whether it is sound."""
