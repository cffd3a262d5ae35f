"""One opened video file: its packets, its times, seeking in it; or a plain reason why the file can't be opened.

Every file comes in through here, and only the containers on a list are opened. libavformat tells a format by the file's
content. It would follow an ``ffconcat`` script or an HLS playlist under a video's name to other files. So the list is
handed to libavformat itself, which consults it before it reads a header. The same holds for the list of protocols:
libavformat opens local files only, and remote bytes come through ``storage.ranges.RangeFile``.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import av
import av.error
from av import VideoFrame
from av.container import InputContainer
from av.video.stream import VideoStream

from halsted_ray.errors import CorruptSegment, UnreadableVideo
from halsted_ray.profiling import THREAD_PROFILE
from halsted_ray.storage.ranges import RangeFile, Source
from halsted_ray.video.first_frame import SEARCHED_BYTES, SEARCHED_S, decode_first_frame
from halsted_ray.video.geometry import Orientation, orientation_of
from halsted_ray.video.joined import unread_bytes
from halsted_ray.video.matroska import Clusters
from halsted_ray.video.packet_index import IndexSlot, PacketIndex, index_packets
from halsted_ray.video.packet_times import moved, pts_of, time_of
from halsted_ray.video.refusal import refusal
from halsted_ray.video.streams import best_stream, moving_pictures
from halsted_ray.video.true_keyframes import is_marked_key, keyframe_test

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

MP4, MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
INDEXED = (MP4, MATROSKA)
"""Containers whose own index, where it is whole, lists the keyframes with times that can be trusted."""
MAY_RESTART = ("mpegts", "mpeg")
"""Containers whose clock may be interrupted; recorders that are switched on and off write on in the same file."""
ENTERED_BY_BYTE = ("mpegts", "mpeg", "flv", "asf")
"""Containers that libavformat can enter at any byte; it reads on to the next packet."""
ENTERED_BEFORE = ("mpeg", "asf")
"""Containers in which the packet at whose byte libavformat enters is not read whole, but only packets after it."""

READ_BYTES_PER_LEAD_S = 50e6
"""Reading so many bytes may take as long as decoding a second of video."""

AVI, AVI_HEAD = "avi", 8
"""In an AVI a packet lies this many bytes after the place that the index gives for it."""
COUNTED = (AVI, "mxf")
"""Containers that state no times: libavformat counts frames. After a seek without an index it guesses the count."""

ERRORS_IN_A_ROW = 10_000
"""libavformat gives an error for every 64 KB in which it finds no packet. After so many (640 MB) the data count as
ended: a recorder's unused space is zeros to the end."""

LATEST_DISPLAY_S = 600.0
"""A frame that would be displayed so long before or after it is decoded has a damaged time; it is displayed when it is
decoded. H.264 and HEVC display a frame at most 16 places later: 8 minutes at one frame in half a minute."""

LATEST_DISPLAY_PLACES = 17
LATEST_DISPLAY_MPEG_S = 10.0
"""The same in MPEG-TS and PS, whose every frame states times that may be damaged: ISO/IEC 13818-1 allows 10 s of delay.
At a low frame rate so many places are longer."""

OUTAGES = (
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENODEV,
    errno.ENXIO,
    errno.EREMOTEIO,
    errno.EACCES,
)
"""The system's errors for a drive that is away and for a missing right to read: the video is not at fault. EPERM is
none of them: libavformat says it (-1) where it has no other reason."""


class VideoFile:
    """An open container, the stream that is its picture, and a decoder with a single thread.

    Every time is on the video's own axis: the takes of the recording lie one after another (``packet_index``), and
    ``packets`` gives each packet its time there. ``origin`` is the pts of the first displayed frame, in ticks of
    ``time_base`` (seconds per tick). Every time in seconds is counted from it. libavformat honours edit lists, and
    negative or large start times are part of the origin. ``rotation_deg`` is the rotation (counter-clockwise) that
    turns a stored picture upright, after the mirror where the file asks for one (``geometry.Orientation``).

    ``known`` may hold the index of an earlier pass over the packets. Where it is empty and the container needs a pass,
    the pass is made here, and its index is put there.

    Raises UnreadableVideo, StorageUnavailable.
    """

    stream: VideoStream

    def __init__(self, source: Source, known: IndexSlot | None = None):
        self.source = source
        self._container: InputContainer | None = None
        self._options: dict[str, str] = {}
        self.clusters: Clusters | None = None
        self._known = known or IndexSlot()
        self._listed: dict[int, int] | None = None
        self.first_key_pts: int | None = None
        try:
            with THREAD_PROFILE.stage("read"):
                self._open()
            assert self.stream.time_base is not None, "libavformat gives every stream a time base"
            self.time_base = self.stream.time_base
            if self.container.format.name not in INDEXED and self.packet_index is None:
                self.read_all_packets()
            self.first_frame, self.first_key_pts = decode_first_frame(self)
            check_picture(self.first_frame.width, self.first_frame.height)
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
    def packet_index(self) -> PacketIndex | None:
        """What a pass over the packets found; None where the container's own index serves."""
        return self._known.index

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        return self.source.size_bytes if isinstance(self.source, RangeFile) else os.stat(self.source).st_size

    def tell_lead(self, lead_s: float) -> None:
        """Tells whoever waits that ``lead_s`` of video are decoded before the first wanted frame comes."""
        self._known.on_lead(lead_s)

    @cached_property
    def unread_bytes(self) -> int:
        """How many bytes at the end belong to further recordings that libavformat does not read (``joined``)."""
        read_to_byte = self.packet_index.stop_byte if self.packet_index else 0
        return unread_bytes(self.source, self.container.format.name, self.size_bytes, read_to_byte)

    @property
    def has_presentation_times(self) -> bool:
        """Whether each packet's pts is the time of its own picture.

        In AVI and MPEG-PS it is not, except where pictures are displayed in the order in which they are decoded.
        """
        return self.stream.codec_context.codec.intra_only or self.container.format.name in (MP4, MATROSKA, "mpegts")

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
        """Goes to a place before the packets that are displayed at ``pts``, in a file of one take.

        Raises FFmpegError where this container can't go there.
        """
        if self.clusters is None:
            self.container.seek(pts, stream=self.stream, backward=True)
            return
        cluster = self.clusters.last_by(float(pts * self.time_base))
        self.close()
        self._open(self.clusters.hidden_to(cluster))

    def seek_key(self, row: int) -> Iterator[VideoPacket]:
        """The packets from keyframe ``row`` of the packet index on; the first of them is that keyframe.

        Raises CorruptSegment where the keyframe is not found again: the file is another file by now, or can't be read.
        """
        assert self.packet_index is not None
        pts, byte, lead, size = self.packet_index.keys[row].tolist()
        for place in (lead if byte < 0 or self.container.format.name in ENTERED_BEFORE else byte, None):
            try:
                if place is None:
                    self.reopen()
                elif self.container.format.name in ENTERED_BY_BYTE:
                    self.container.seek(place, stream=self.stream, unsupported_byte_offset=True)
                elif self.packet_index.take_at(byte).shift:
                    continue  # its times stand for an earlier take too, so the container can't be asked for them
                else:
                    self.seek(pts)
            except av.error.FFmpegError:
                self.raise_storage_failure()
                continue
            packets = self.packets()
            for packet in packets:
                if packet.size == size and packet.pos in (byte, None) and (byte >= 0 or packet.pts == pts):
                    found = chain((packet,), packets)
                    return moved(found, pts - time_of(packet)) if self.container.format.name in COUNTED else found
                if place is not None and packet.pos is not None and packet.pos > byte >= 0:
                    break
        at_s = self.seconds(pts)
        raise CorruptSegment(
            f"expected a keyframe at {at_s:.3f} s, where it was when the file was indexed, got none; the file was "
            "replaced or can't be read any more: give the same command again",
            at_s,
        )

    def read_all_packets(self) -> None:
        """Makes ``packet_index`` from all packets of the file, and goes back to the first byte.

        Raises UnreadableVideo where no packet has a time.
        """
        self._known.index = None
        self.tell_lead(self.size_bytes / READ_BYTES_PER_LEAD_S)
        self.reopen()
        may_restart = self.container.format.name in MAY_RESTART
        with THREAD_PROFILE.stage("read"):
            is_key = keyframe_test(self.stream.codec_context) if self.container.format.name == MP4 else is_marked_key
            self._known.index = index_packets(self.packets(), self.time_base, may_restart, is_key)
        self.raise_storage_failure()
        if self.packet_index is None:
            raise UnreadableVideo(
                f"expected frames in the {self.stream.codec_context.name} stream, got none to the end of the file; "
                "the recording holds no picture, or the copy is damaged"
            )
        self.reopen()

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

        Where libavformat reports an error, it is asked for the packet after the damage. Raises the error of the store
        where the bytes can't be fetched, and FFmpegError where the drive is away.
        """
        errors = 0
        # Matroska states no time of decoding; what libavformat guesses is that of the packet before.
        latest = 1 << 62
        if self.stream.time_base and self.container.format.name != MATROSKA:
            latest = round(self._latest_display_s / self.stream.time_base)
        listed, off = self._listed or {}, 0
        takes = self.packet_index.takes if self.packet_index and len(self.packet_index.takes) > 1 else ()
        shift = takes[0].shift if takes else 0
        while errors < ERRORS_IN_A_ROW:
            try:
                packets = self.container.demux(self.stream)
                while True:
                    with THREAD_PROFILE.stage("read"):
                        packet = next(packets, None)
                    if packet is None:
                        self.raise_storage_failure()
                        return
                    errors = 0
                    if not packet.size:
                        continue
                    if packet.pts is not None and packet.dts is not None and abs(packet.pts - packet.dts) > latest:
                        packet.pts = packet.dts
                    if listed and packet.pos is not None and packet.dts is not None:
                        # After damage libavformat counts on as if nothing were lost.
                        off = listed[packet.pos] - packet.dts if packet.pos in listed else off
                        packet.dts += off
                        packet.pts = packet.pts + off if packet.pts is not None else None
                    if takes:
                        if packet.pos is not None:
                            shift = self.packet_index.take_at(packet.pos).shift  # type: ignore[union-attr]
                        if packet.pts is not None:
                            packet.pts += shift
                        if packet.dts is not None:
                            packet.dts += shift
                    yield packet
            except av.error.EOFError:
                break
            except IndexError:  # PyAV's, at the end of the data, where a stream came up while reading
                break
            except av.error.FFmpegError as error:
                self.raise_storage_failure()  # where the store did not fail, the data here are damaged
                if error.errno in OUTAGES:
                    raise
                errors += 1  # also ENOMEM: a damaged size
        self.raise_storage_failure()

    @property
    def _latest_display_s(self) -> float:
        rate = self.stream.average_rate or self.stream.guessed_rate
        if self.container.format.name not in MAY_RESTART or not rate:
            return LATEST_DISPLAY_S
        return min(LATEST_DISPLAY_S, max(LATEST_DISPLAY_MPEG_S, LATEST_DISPLAY_PLACES / float(rate)))

    def decode(self, packet: VideoPacket | None) -> list[VideoFrame] | None:
        """The frames that the decoder gives out after this packet, in display order; None where it does not decode.

        ``packet`` None asks for the frames that the decoder still holds.
        """
        try:
            with THREAD_PROFILE.stage("decode"):
                return self.stream.codec_context.decode(packet)
        except av.error.EOFError:
            return []
        except av.error.FFmpegError as error:
            self.raise_storage_failure()
            if error.errno == errno.ENOMEM:
                raise
            return None

    def raise_storage_failure(self) -> None:
        """Raises the error with which the store failed, if it did."""
        if isinstance(self.source, RangeFile) and self.source.failure is not None:
            raise self.source.failure

    def _open(self, view: io.RawIOBase | None = None) -> None:
        """Opens the file, or ``view`` of it where one is given."""
        self._open_container(view)
        pictures = moving_pictures(self.container.streams.video)
        if (
            not self._options
            and not any(s.codec_context is not None and s.width > 0 for s in pictures)
            and self.container.format.name in MAY_RESTART
        ):
            # libavformat looks into the first 5 MB. The picture may begin later.
            self._options = {"probesize": str(SEARCHED_BYTES), "analyzeduration": str(round(SEARCHED_S * 1e6))}
            self.close()
            if isinstance(self.source, RangeFile):
                self.source.seek(0)
            self._open_container(view)
        self.stream = self._pick_stream()
        if self._listed is None and self.container.format.name == AVI:
            entries = self.stream.index_entries
            self._listed = {
                entry.pos + AVI_HEAD: entry.timestamp for entry in map(entries.__getitem__, range(len(entries)))
            }
        self.stream.codec_context.thread_count = 1
        self.stream.codec_context.options = {"max_pixels": str(MAX_PICTURE_PX)}
        if self.stream.width > 0 and self.stream.height > 0:
            check_picture(self.stream.width, self.stream.height)

    def _open_container(self, view: io.RawIOBase | None) -> None:
        source = self.source
        try:
            self._container = av.open(
                view or source if isinstance(source, RangeFile) else f"file:{os.fspath(source)}",
                mode="r",
                options={
                    "format_whitelist": ",".join(DEMUXERS),
                    "protocol_whitelist": "file",
                    "merge_pmt_versions": "1",  # MPEG-TS: a take may number its streams otherwise
                    **self._options,
                },
                metadata_errors="replace",
                buffer_size=256 * 1024 if isinstance(source, RangeFile) else 32 * 1024,
            )
        except av.error.FFmpegError as error:
            self.raise_storage_failure()
            # The message of a libav error holds the path, which may be a patient's name: keep the reason only.
            raise refusal(source, error.strerror or "unknown", ", ".join(DEMUXERS.values())) from None

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


def check_picture(width: int, height: int) -> None:
    """Raises UnreadableVideo for a picture beyond the limit of ``MAX_SIDE_PX`` and ``MAX_PICTURE_PX``."""
    if max(width, height) > MAX_SIDE_PX or width * height > MAX_PICTURE_PX:
        raise UnreadableVideo(
            f"expected a picture of at most {MAX_SIDE_PX} pixels a side and {MAX_PICTURE_PX / 1e6:.0f} megapixels, "
            f"got {width}x{height}; scale it down first"
        )
