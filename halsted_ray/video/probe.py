"""What one video is: length, size as displayed, rate, codec, origin; read from its header, index and first frame."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import av.error

from halsted_ray.errors import UnreadableVideo
from halsted_ray.storage.locations import Location
from halsted_ray.storage.ranges import RangeFile, Source, open_source
from halsted_ray.video.container import DEMUXERS, VideoFile
from halsted_ray.video.encapsulated import stream_in
from halsted_ray.video.keyframe_index import KeyframeIndex, declared_duration_s
from halsted_ray.video.packet_index import PacketIndex
from halsted_ray.video.pictures import shown_size

if TYPE_CHECKING:  # at run time it would import pyarrow into the decoding process
    from halsted_ray.records import JsonObject

SHORTER_BY_S = 2.0
"""Where all data end this much before the declared end, the file was cut. Then the declared length stands, so that the
missing part shows as a gap, and the video does not merely look shorter."""

LONGEST_DECLARED_S = 48 * 3600.0
"""A longer declared length is not believed; what the packets hold is."""

LONGEST_S = 720 * 3600.0
"""30 days. Every part of a longer video would have to be noted as a gap: damaged times can claim centuries."""

PROBE_VERSION = 3
"""Raised where a file may come out with another length, or as a video or none. 2: takes, holes, joined files, damaged
times. 3: no picture stands for more than five minutes; videos beyond ``limits`` are refused."""

TAIL_S = 5.0
"""How much of the end of a file is read to find the end of its last frame."""


DECLARED = ("matroska,webm", "avi", "asf", "mxf", "flv")
"""Containers whose headers state a length. In an MP4 the index lists every frame, cut or not; for MPEG-TS and PS
libavformat only estimates a length."""


@dataclass(frozen=True)
class Probe:
    """What one video is.

    ``width`` and ``height`` are as displayed: square pixels, upright. Every other time in this package is counted from
    ``first_pts_s``, the time that the container gives the first displayed frame. ``fps`` is 0 where the file does not
    say. ``has_index`` says whether the container's own index serves; else all packets of the file were read.
    ``unread_bytes`` belong to further recordings that were joined to this file and that libavformat does not read; the
    part of ``duration_s`` that they may last is a gap. ``declared_s`` is the length that the container states, None
    where it states none; ``duration_s`` is what is there. ``takes`` are the (start_s, stop_s) of the stretches in which
    one clock runs, and ``holes`` the stretches in which no frame was recorded; both are empty where the container's own
    index serves. ``frames`` is the number of frames that the index lists or the packets hold, 0 where only a pass over
    all packets would tell (Matroska with cues).
    """

    duration_s: float
    fps: float
    width: int
    height: int
    codec: str
    container: str
    pixel_format: str
    rotation_deg: int
    first_pts_s: float
    has_index: bool
    size_bytes: int
    read_bytes: int
    """Bytes fetched for this probe; 0 for a local file."""
    unread_bytes: int = 0
    declared_s: float | None = None
    takes: list[list[float]] = field(default_factory=list)
    holes: list[list[float]] = field(default_factory=list)
    frames: int = 0

    def asdict(self) -> JsonObject:
        """The fields as JSON values; ``Probe(**values)`` reads them back."""
        return asdict(self)


def probe(location: Location) -> Probe:
    """What the video at a location is. Raises UnreadableVideo, StorageUnavailable."""
    return probe_source(stream_in(open_source(location)))


def probe_source(source: Source) -> Probe:
    """What the video in an opened file is (see ``storage.ranges.open_source``).

    Raises UnreadableVideo, StorageUnavailable.
    """
    return probe_and_index(source)[0]


def probe_and_index(source: Source) -> tuple[Probe, PacketIndex | None]:
    """What the video in an opened file is, and what the pass over its packets found, None where none was needed.

    Raises UnreadableVideo, StorageUnavailable.
    """
    with VideoFile(source) as video:
        return probe_of(video, KeyframeIndex(video)), video.packet_index


def probe_of(video: VideoFile, index: KeyframeIndex) -> Probe:
    """What an open video is. Raises UnreadableVideo, StorageUnavailable."""
    source = video.source
    declared_s = declared_duration_s(video)
    duration_s = _duration_s(video, index, declared_s)
    size_bytes = video.size_bytes
    if unread := video.unread_bytes:
        duration_s += min(LONGEST_DECLARED_S, duration_s * unread / max(1, size_bytes - unread))
    # Only now: measuring the length may have opened the file again, which frees the old stream.
    stream = video.stream
    if duration_s <= 0:
        raise UnreadableVideo(
            f"expected a video that lasts, got {duration_s:.3f} s of it: its times are damaged; export it again"
        )
    if duration_s > LONGEST_S:
        raise UnreadableVideo(
            f"expected a video of at most {LONGEST_S / 3600:.0f} hours, got {duration_s / 3600:,.0f} hours of it: its "
            "times are damaged; export it again"
        )
    height, width = shown_size(video)
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    packets = video.packet_index
    return Probe(
        duration_s=duration_s,
        fps=float(rate) if rate else 0.0,
        width=width,
        height=height,
        codec=stream.codec_context.name,
        container=DEMUXERS[video.container.format.name],
        pixel_format=stream.codec_context.pix_fmt or video.first_frame.format.name,
        rotation_deg=video.rotation_deg,
        first_pts_s=float(video.origin * video.time_base),
        has_index=index.from_container,
        size_bytes=size_bytes,
        unread_bytes=unread,
        read_bytes=source.fetched_bytes if isinstance(source, RangeFile) else 0,
        declared_s=declared_s,
        takes=[[video.seconds(take.start), video.seconds(take.stop)] for take in packets.takes] if packets else [],
        holes=[[video.seconds(start), video.seconds(stop)] for start, stop in packets.holes] if packets else [],
        frames=packets.packets if packets else index.frames,
    )


def _duration_s(video: VideoFile, index: KeyframeIndex, declared_s: float | None) -> float:
    """From the first displayed frame to the end of the last one."""
    packets = video.packet_index
    if packets is not None and packets.packets > 2 and packets.step == 0:
        return 0.0  # many frames with one time: the recording lost its times, and is not merely short
    rate = video.stream.average_rate or video.stream.guessed_rate
    if packets is not None and packets.packets == 1 and packets.stop == packets.takes[0].start and rate:
        return 1 / float(rate)
    found_s = video.seconds(index.stop) if index.lists_all_frames else _end_of_frames_s(video, declared_s)
    if index.from_container and index.lists_all_frames and declared_s is not None:
        # Where the frame rate varies, the index's times of decoding tell the end only this well.
        off_s = abs(index.offset) * float(video.time_base)
        return declared_s if abs(declared_s - found_s) <= SHORTER_BY_S + off_s else found_s
    if video.container.format.name in DECLARED and declared_s is not None and declared_s <= LONGEST_DECLARED_S:
        is_cut = declared_s - found_s > SHORTER_BY_S
        if is_cut and declared_s - _end_of_data_s(video, declared_s) > SHORTER_BY_S:
            return declared_s
    return found_s


def _end_of_frames_s(video: VideoFile, declared_s: float | None) -> float:
    """The end of the last frame, from the packets of the file's tail, without decoding."""
    _go_to_tail(video, declared_s)
    end_s = 0.0
    times = []
    frame_s = 1 / float(video.stream.average_rate) if video.stream.average_rate else 0.0
    for packet in video.packets():
        pts = packet.pts if packet.pts is not None else packet.dts
        if pts is not None:
            times.append(pts)
            length_s = float(packet.duration * video.time_base) if packet.duration else frame_s
            end_s = max(end_s, video.seconds(pts) + length_s)
    if len(times) > 2 and min(times) == max(times):
        return 0.0  # many frames with one time: the recording lost its times, and is not merely short
    if end_s == 0.0:
        end_s = frame_s  # the first frame, at 0 s, is the only frame
    return end_s


def _end_of_data_s(video: VideoFile, declared_s: float) -> float:
    """The end of the last packet of any stream: where the sound reaches the declared end, the file was not cut."""
    _go_to_tail(video, declared_s)
    end_s = _read_to_end_s(video)
    if end_s == 0.0:  # some containers can't be sent to a place without pictures
        video.reopen()
        end_s = _read_to_end_s(video)
    return end_s


def _read_to_end_s(video: VideoFile) -> float:
    end_s = 0.0
    try:
        for packet in video.container.demux():
            if packet.size and packet.pts is not None and packet.time_base is not None:
                at_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                end_s = max(end_s, at_s - float(video.origin * video.time_base))
    except (av.error.FFmpegError, IndexError):  # PyAV's, at the end of the data, where a stream came up while reading
        pass
    video.raise_storage_failure()
    return end_s


def _go_to_tail(video: VideoFile, declared_s: float | None) -> None:
    start = video.ticks(max(0.0, declared_s - TAIL_S) if declared_s is not None else 0.0)
    try:
        video.seek(start)
    except av.error.FFmpegError:
        video.raise_storage_failure()
        video.reopen()
