"""Open one video, and say plainly why it can't be: the door through which every file comes in.

Only containers on a list are opened. libavformat tells formats by content and would follow an ``ffconcat``
script or an HLS playlist under a video's name to other files, so the list goes down to libavformat itself,
which asks it before it reads a header, and so does the list of protocols (local files only; remote bytes
come through ``ranges.RangeFile``).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from itertools import chain, islice

import av
import av.error

from halsted_ray.errors import UnreadableVideo
from halsted_ray.profiling import PROCESS_PROFILE
from halsted_ray.storage.ranges import RangeFile
from halsted_ray.video.matroska import Clusters
from halsted_ray.video.refusal import refusal

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
"""Demuxers that read one file and nothing else, and the names people know them by."""

MAX_SIDE_PX = 8192
MAX_PICTURE_PX = 7680 * 4320
"""8K. A decoder holds up to 17 pictures, so a larger one does not fit a decoding process anyway."""

REORDERED_PACKETS = 18
"""A frame is shown at most 16 places after the one it is decoded with (H.264, HEVC)."""

FIRST_PACKETS = 600
"""Packets tried for a first frame (20 s at 30 fps); where none of them decodes, nothing does."""


class VideoFile:
    """An open container with its one video stream, its decoder set to a single thread, and its origin.

    ``origin`` is the pts of the first displayed frame in units of ``time_base``: edit lists are honoured by
    libavformat, negative and large start times end up in it, and every time elsewhere is counted from it.
    """

    def __init__(self, source: str | os.PathLike | RangeFile):
        self.source = source
        self.container = None
        self.clusters: Clusters | None = None
        try:
            with PROCESS_PROFILE.stage("read"):
                self._open()
            self._check_picture()
            self.time_base = self.stream.time_base
            self.first_key_pts: int | None = None
            self.first_frame = self._decode_first_frame()
        except BaseException:
            self.close()
            self.raise_storage_failure()  # what looks like a damaged file was drawn from a part of its bytes
            raise
        self.origin = pts_of(self.first_frame)
        self.rotation_deg = self.first_frame.rotation % 360

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, *_exc) -> None:
        """Raises the failure of the store, whatever else was concluded from the bytes that did come."""
        self.close()
        self.raise_storage_failure()

    def close(self) -> None:
        if self.container is not None:
            self.container.close()

    def reopen(self) -> None:
        """Back to the first byte, with a fresh decoder: the one seek that every container can do."""
        self.close()
        if isinstance(self.source, RangeFile):
            self.source.seek(0)
        self._open()

    def seek(self, pts: int) -> None:
        """Stands before the packets shown at ``pts``. Raises FFmpegError where this container can't go there."""
        if self.clusters is None:
            self.container.seek(pts, stream=self.stream, backward=True)
            return
        cluster = self.clusters.last_by(float(pts * self.time_base))
        self.close()
        self._open(self.clusters.hidden_to(cluster))

    def look_for_clusters(self) -> None:
        """For Matroska without cues: from here on seeking over a network reads a little and not the whole file."""
        if isinstance(self.source, RangeFile):
            at = self.source.tell()
            clusters = Clusters(self.source)
            self.clusters = clusters if clusters.first else None
            self.source.seek(at)

    def seconds(self, pts: int) -> float:
        return (pts - self.origin) * self.time_base.numerator / self.time_base.denominator

    def ticks(self, time_s: float) -> int:
        """The pts (whole ticks, rounded down) of a time counted from the first displayed frame."""
        return self.origin + int(time_s * self.time_base.denominator // self.time_base.numerator)

    def packets(self) -> Iterator[av.Packet]:
        """Packets of the video stream from where the container stands, without the empty one at the end."""
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
            self.raise_storage_failure()  # else the data end here: a file that was cut
        self.raise_storage_failure()

    def decode(self, packet: av.Packet | None) -> list | None:
        """Frames of a packet in display order; None when the packet does not decode."""
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
        source = self.source
        try:
            self.container = av.open(
                view or source if isinstance(source, RangeFile) else f"file:{os.fspath(source)}",
                options={"format_whitelist": ",".join(DEMUXERS), "protocol_whitelist": "file"},
                metadata_errors="replace",
                buffer_size=256 * 1024 if isinstance(source, RangeFile) else 32 * 1024,
            )
        except av.error.FFmpegError as error:
            self.raise_storage_failure()
            # The message of a libav error holds the path, which may be a patient's name: keep the reason only.
            raise refusal(source, error.strerror, ", ".join(DEMUXERS.values())) from None
        self.stream = self._pick_stream()
        self.stream.codec_context.thread_count = 1
        self.stream.codec_context.options = {"max_pixels": str(MAX_PICTURE_PX)}

    def _pick_stream(self):
        kinds = [stream.type for stream in self.container.streams]
        pictures = [s for s in self.container.streams.video if not _is_cover(s)]
        if not pictures:
            covers = " (a cover picture is not one)" if "video" in kinds else ""
            got = ", ".join(sorted(kinds)) or "no stream at all"
            todo = (
                "this recording has sound and no picture; remove it"
                if "audio" in kinds
                else "the file's start is damaged or the copy stopped early; copy it again from its source"
            )
            raise UnreadableVideo(f"expected a video stream{covers}, got {got}; {todo}")
        stream = pictures[0]
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

    def _decode_first_frame(self):
        """The first displayed frame. Mostly that is the first keyframe, which is then decoded alone: decoding on until
        the decoder puts it out by itself costs three frames more, 40 ms of 1080p."""
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


def _up_to_first_keyframe(packets: Iterator[av.Packet]) -> tuple[list[av.Packet], av.Packet | None]:
    """(packets, the first keyframe of them), read until no later one can be displayed before that keyframe: a packet
    is displayed when it is decoded or later."""
    head, key = [], None
    for packet in islice(packets, REORDERED_PACKETS):
        head.append(packet)
        key = key or (packet if packet.is_keyframe else None)
        if key and key.pts is not None and packet.dts is not None and packet.dts >= key.pts:
            break
    return head, key


def _comes_first(key: av.Packet, head: list[av.Packet]) -> bool:
    """Whether a keyframe is displayed, and before all packets that could be displayed before it."""
    if key.pts is None or key.is_discard:
        return False
    return all(packet.pts is not None and packet.pts > key.pts for packet in head if packet is not key)


def pts_of(frame) -> int | None:
    """Presentation time; AVI and some elementary streams have decoding times only, which libavcodec puts in order."""
    return frame.pts if frame.pts is not None else frame.dts


def check_picture(width: int, height: int) -> None:
    """Raises UnreadableVideo for a picture beyond the limit."""
    if max(width, height) > MAX_SIDE_PX or width * height > MAX_PICTURE_PX:
        raise UnreadableVideo(
            f"expected a picture of at most {MAX_SIDE_PX} pixels a side and {MAX_PICTURE_PX / 1e6:.0f} megapixels, "
            f"got {width}x{height}; scale it down first"
        )


def _is_cover(stream) -> bool:
    cover = stream.disposition.__class__
    return bool(stream.disposition & (cover.attached_pic | cover.timed_thumbnails))
