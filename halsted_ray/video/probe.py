"""What one video is: length, size as displayed, rate, codec, origin; read from its header, index and first frame."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import av.error

from halsted_ray.errors import UnreadableVideo
from halsted_ray.storage.locations import Location
from halsted_ray.storage.ranges import RangeFile, Source, open_source
from halsted_ray.video.container import DEMUXERS, VideoFile
from halsted_ray.video.keyframe_index import KeyframeIndex, declared_duration_s
from halsted_ray.video.pictures import shown_size

if TYPE_CHECKING:  # at run time it would import pyarrow into the decoding process
    from halsted_ray.records import JsonObject

SHORTER_BY_S = 2.0
"""Where the frames end this much before the declared end, the file was cut. Then the declared length stands, so that
the missing part shows as a gap, and the video does not merely look shorter."""

TAIL_S = 5.0
"""How much of the end of a file is read to find the end of its last frame."""


@dataclass(frozen=True)
class Probe:
    """What one video is.

    ``width`` and ``height`` are as displayed: square pixels, upright. Every other time in this package is counted from
    ``first_pts_s``, the time that the container gives the first displayed frame. ``fps`` is 0 where the file does not
    say. ``has_index`` says whether the container lists all keyframes.
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

    def asdict(self) -> JsonObject:
        """The fields as JSON values; ``Probe(**values)`` reads them back."""
        return asdict(self)


def probe(location: Location) -> Probe:
    """What the video at a location is. Raises UnreadableVideo, StorageUnavailable."""
    return probe_source(open_source(location))


def probe_source(source: Source) -> Probe:
    """What the video in an opened file is (see ``storage.ranges.open_source``).

    Raises UnreadableVideo, StorageUnavailable.
    """
    with VideoFile(source) as video:
        index = KeyframeIndex(video)
        duration_s = _duration_s(video, index)
        stream = (
            video.stream
        )  # only now: measuring the length may have opened the file again, which frees the old stream
        if duration_s <= 0:
            raise UnreadableVideo(
                f"expected a video that lasts, got {duration_s:.3f} s of it: its times are damaged; export it again"
            )
        height, width = shown_size(video)
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        return Probe(
            duration_s=duration_s,
            fps=float(rate) if rate else 0.0,
            width=width,
            height=height,
            codec=stream.codec_context.name,
            container=DEMUXERS[video.container.format.name],
            pixel_format=stream.codec_context.pix_fmt or "",
            rotation_deg=video.rotation_deg,
            first_pts_s=float(video.origin * video.time_base),
            has_index=index.complete,
            size_bytes=source.size_bytes if isinstance(source, RangeFile) else os.stat(source).st_size,
            read_bytes=source.fetched_bytes if isinstance(source, RangeFile) else 0,
        )


def _duration_s(video: VideoFile, index: KeyframeIndex) -> float:
    """From the first displayed frame to the end of the last one."""
    declared_s = declared_duration_s(video)
    if index.complete and video.stream.duration and declared_s is not None:
        return declared_s  # an MP4's index holds every sample, so the tail need not be read
    found_s = _end_of_frames_s(video, declared_s)
    if declared_s is not None and declared_s - found_s > SHORTER_BY_S:
        return declared_s
    return found_s


def _end_of_frames_s(video: VideoFile, declared_s: float | None) -> float:
    """The end of the last frame, from the packets of the file's tail, without decoding.

    All packets of the file are read where the container declares no length.
    """
    if declared_s is None and video.clusters:
        start = 1 << 62  # beyond any end, so that reading begins at the last cluster
    else:
        start = video.ticks(max(0.0, declared_s - TAIL_S) if declared_s is not None else 0.0)
    try:
        video.seek(start)
    except av.error.FFmpegError:
        video.raise_storage_failure()
        video.reopen()
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
