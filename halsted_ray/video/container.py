"""One opened video file: its packets, its times, seeking in it; or a plain reason why the file can't be opened.

Every file comes in through here, and only the containers on a list are opened. libavformat tells a format by the file's
content. It would follow an ``ffconcat`` script or an HLS playlist under a video's name to other files. So the list is
handed to libavformat itself, which consults it before it reads a header. The same holds for the list of protocols:
libavformat opens local files only, and remote bytes come through ``storage.ranges.RangeFile``.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING

import av
import av.error
from av import VideoFrame
from av.container import InputContainer
from av.video.stream import VideoStream

from halsted_ray.errors import UnreadableVideo
from halsted_ray.profiling import PROCESS_PROFILE
from halsted_ray.storage.ranges import RangeFile, Source
from halsted_ray.video.geometry import Orientation, orientation_of
from halsted_ray.video.matroska import Clusters
from halsted_ray.video.refusal import refusal
from halsted_ray.video.streams import best_stream, moving_pictures

if TYPE_CHECKING:  # av.Packet takes no type argument at run time
    VideoPacket = av.Packet[VideoStream]

DEMUXERS = {
    "mov,mp4,m4a,3gp,3g2,mj2": "MP4/MOV",
    "matroska,webm": "Matroska/WebM",
    "mpegts": "MPEG-TS",
    "avi": "AVI",
    "mpeg": "MPEG-PS",
    "asf": "ASF/WMV",
    "mxf": "MXF",
    "flv": "FLV",
}
"""libavformat's demuxers that read one file and nothing else, and the names by which people know their containers."""

MAX_SIDE_PX = 8192
MAX_PICTURE_PX = 7680 * 4320
"""8K. A decoder holds up to 17 pictures, so larger pictures do not fit into a decoding process anyway."""

REORDERED_PACKETS = 18
"""Packets that are read to know which frame is displayed first: H.264 and HEVC move a frame by at most 16 places."""

FIRST_PACKETS = 600
"""Packets tried for a first frame (20 s at 30 fps); where none of them decodes, the file counts as undecodable."""


class VideoFile:
    """An open container, the stream that is its picture, and a decoder with a single thread.

    ``origin`` is the pts of the first displayed frame, in ticks of ``time_base`` (seconds per tick). Every time in
    seconds is counted from it. libavformat honours edit lists, and negative or large start times are part of the
    origin. ``rotation_deg`` is the rotation (counter-clockwise) that turns a stored picture upright, after the mirror
    where the file asks for one (``geometry.Orientation``).

    Raises UnreadableVideo, StorageUnavailable.
    """

    stream: VideoStream

    def __init__(self, source: Source):
        self.source = source
        self._container: InputContainer | None = None
        self.clusters: Clusters | None = None
        try:
            with PROCESS_PROFILE.stage("read"):
                self._open()
            self._check_picture()
            assert self.stream.time_base is not None, "libavformat gives every stream a time base"
            self.time_base = self.stream.time_base
            self.first_key_pts: int | None = None
            self.first_frame = self._decode_first_frame()
        except BaseException:
            self.close()
            self.raise_storage_failure()  # where only a part of the bytes came, the file merely looks damaged
            raise
        origin = pts_of(self.first_frame)
        assert origin is not None, "the first frame is a frame with a time"
        self.origin = origin
        self.rotation_deg = (orientation_of(self.first_frame) or Orientation()).rotation_deg

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, *_exc: object) -> None:
        """Closes the file. Raises the error of the store where it failed, since then no other conclusion holds."""
        self.close()
        self.raise_storage_failure()

    @property
    def container(self) -> InputContainer:
        """libavformat's open file; another one after ``reopen`` and after some calls of ``seek``."""
        assert self._container is not None
        return self._container

    @property
    def has_presentation_times(self) -> bool:
        """Whether each packet's pts is the time of its own picture.

        In AVI and MPEG-PS it is not, except where pictures are displayed in the order in which they are decoded.
        """
        return self.stream.codec_context.codec.intra_only or self.container.format.name in (
            "mov,mp4,m4a,3gp,3g2,mj2",
            "matroska,webm",
            "mpegts",
        )

    def close(self) -> None:
        """Closes the file, where it is open."""
        if self._container is not None:
            self._container.close()

    def reopen(self) -> None:
        """Goes back to the first byte, with a new decoder: the one seek that every container can do."""
        self.close()
        if isinstance(self.source, RangeFile):
            self.source.seek(0)
        self._open()

    def seek(self, pts: int) -> None:
        """Goes to a place before the packets that are displayed at ``pts``.

        Raises FFmpegError where this container can't go there.
        """
        if self.clusters is None:
            self.container.seek(pts, stream=self.stream, backward=True)
            return
        cluster = self.clusters.last_by(float(pts * self.time_base))
        self.close()
        self._open(self.clusters.hidden_to(cluster))

    def look_for_clusters(self) -> None:
        """For Matroska without cues: from here on a seek over a network reads a little, not all of the file before."""
        if isinstance(self.source, RangeFile):
            at = self.source.tell()
            clusters = Clusters(self.source)
            self.clusters = clusters if clusters.first else None
            self.source.seek(at)

    def seconds(self, pts: int) -> float:
        """``pts`` in seconds from the first displayed frame."""
        return (pts - self.origin) * self.time_base.numerator / self.time_base.denominator

    def ticks(self, time_s: float) -> int:
        """The pts (in whole ticks, rounded down) of a time in seconds from the first displayed frame."""
        return self.origin + int(time_s * self.time_base.denominator // self.time_base.numerator)

    def packets(self) -> Iterator[VideoPacket]:
        """The packets of the video stream from the container's position on, without the empty packet at the end.

        Raises the error of the store where the bytes can't be fetched.
        """
        try:
            packets = self.container.demux(self.stream)
            while True:
                with PROCESS_PROFILE.stage("read"):
                    packet = next(packets, None)
                if packet is None:
                    break
                if packet.size:
                    yield packet
        except (av.error.EOFError, av.error.InvalidDataError):
            self.raise_storage_failure()  # where the store did not fail, the data end here: the file was cut
        self.raise_storage_failure()

    def decode(self, packet: VideoPacket | None) -> list[VideoFrame] | None:
        """The frames that the decoder gives out after this packet, in display order; None where it does not decode.

        ``packet`` None asks for the frames that the decoder still holds.
        """
        try:
            with PROCESS_PROFILE.stage("decode"):
                return self.stream.codec_context.decode(packet)
        except av.error.EOFError:
            return []
        except (av.error.InvalidDataError, av.error.ArgumentError, av.error.PatchWelcomeError, av.error.BugError):
            self.raise_storage_failure()
            return None

    def raise_storage_failure(self) -> None:
        """Raises the error with which the store failed, if it did."""
        if isinstance(self.source, RangeFile) and self.source.failure is not None:
            raise self.source.failure

    def _open(self, view: io.RawIOBase | None = None) -> None:
        """Opens the file, or ``view`` of it where one is given."""
        source = self.source
        try:
            self._container = av.open(
                view or source if isinstance(source, RangeFile) else f"file:{os.fspath(source)}",
                mode="r",
                options={"format_whitelist": ",".join(DEMUXERS), "protocol_whitelist": "file"},
                metadata_errors="replace",
                buffer_size=256 * 1024 if isinstance(source, RangeFile) else 32 * 1024,
            )
        except av.error.FFmpegError as error:
            self.raise_storage_failure()
            # The message of a libav error holds the path, which may be a patient's name: keep the reason only.
            raise refusal(source, error.strerror or "unknown", ", ".join(DEMUXERS.values())) from None
        self.stream = self._pick_stream()
        self.stream.codec_context.thread_count = 1
        self.stream.codec_context.options = {"max_pixels": str(MAX_PICTURE_PX)}

    def _pick_stream(self) -> VideoStream:
        kinds = [stream.type for stream in self.container.streams]
        pictures = moving_pictures(self.container.streams.video)
        if not pictures:
            covers = " (a cover picture is not one)" if "video" in kinds else ""
            got = ", ".join(sorted(kinds)) or "no stream at all"
            todo = (
                "this recording has sound and no picture; remove it"
                if "audio" in kinds
                else "the file's start is damaged or the copy stopped early; copy it again from its source"
            )
            raise UnreadableVideo(f"expected a video stream{covers}, got {got}; {todo}")
        stream = best_stream(pictures)
        if stream.codec_context is None:
            raise UnreadableVideo(
                "expected a codec that this build of libavcodec decodes (H.264, HEVC, MPEG-2, MPEG-4, VP9, AV1, …), "
                "got one without a decoder; transcode the file to H.264"
            )
        return stream

    def _check_picture(self) -> None:
        width, height = self.stream.width, self.stream.height
        if width <= 0 or height <= 0:
            raise UnreadableVideo(
                "expected a picture size in the stream's header, got none: its start is damaged; copy it again"
            )
        check_picture(width, height)

    def _decode_first_frame(self) -> VideoFrame:
        """The first displayed frame, which has a time.

        Mostly that is the first keyframe. Then the keyframe is decoded alone: to feed the decoder until it gives the
        frame out by itself would cost three frames more, 40 ms of 1080p.
        """
        packets = self.packets()
        head, key = _up_to_first_keyframe(packets)
        if key is not None:
            self.first_key_pts = key.pts
            if _comes_first(key, head):
                frames = [*(self.decode(key) or ()), *(self.decode(None) or ())]
                self.stream.codec_context.flush_buffers()
                if frames and frames[0].pts == key.pts and not frames[0].is_corrupt:
                    return frames[0]
        for count, packet in enumerate(chain(head, packets), 1):
            if packet.is_keyframe and self.first_key_pts is None:
                self.first_key_pts = packet.pts
            for frame in self.decode(packet) or ():
                if pts_of(frame) is not None:
                    return frame
            if count >= FIRST_PACKETS:
                raise UnreadableVideo(
                    f"expected a frame within the first {FIRST_PACKETS} packets of {self.stream.codec_context.name}, "
                    "got none that decodes: the copy is damaged, or the file is encrypted; copy or export it again"
                )
        for frame in self.decode(None) or ():
            if pts_of(frame) is not None:
                return frame
        raise UnreadableVideo(
            f"expected frames in the {self.stream.codec_context.name} stream, got none to the end of the file; "
            "the recording holds no picture, or the copy is damaged"
        )


def _up_to_first_keyframe(packets: Iterator[VideoPacket]) -> tuple[list[VideoPacket], VideoPacket | None]:
    """(packets, the first keyframe among them), read until no later packet can be displayed before that keyframe.

    A packet is displayed when it is decoded, or later.
    """
    head: list[VideoPacket] = []
    key: VideoPacket | None = None
    for packet in islice(packets, REORDERED_PACKETS):
        head.append(packet)
        key = key or (packet if packet.is_keyframe else None)
        if key and key.pts is not None and packet.dts is not None and packet.dts >= key.pts:
            break
    return head, key


def _comes_first(key: VideoPacket, head: list[VideoPacket]) -> bool:
    """Whether a keyframe is displayed at all, and before all other packets of ``head``."""
    if key.pts is None or key.is_discard:
        return False
    return all(packet.pts is not None and packet.pts > key.pts for packet in head if packet is not key)


def pts_of(frame: VideoFrame) -> int | None:
    """The time at which a frame is displayed, in ticks; None where it has no time.

    AVI and some elementary streams have decoding times only. libavcodec brings these into display order.
    """
    return frame.pts if frame.pts is not None else frame.dts


def check_picture(width: int, height: int) -> None:
    """Raises UnreadableVideo for a picture beyond the limit of ``MAX_SIDE_PX`` and ``MAX_PICTURE_PX``."""
    if max(width, height) > MAX_SIDE_PX or width * height > MAX_PICTURE_PX:
        raise UnreadableVideo(
            f"expected a picture of at most {MAX_SIDE_PX} pixels a side and {MAX_PICTURE_PX / 1e6:.0f} megapixels, "
            f"got {width}x{height}; scale it down first"
        )
