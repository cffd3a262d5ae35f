"""What one video is: length, size as shown, rate, codec, origin; read from its header, index and first frame."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass

from halsted_ray.errors import UnreadableVideo
from halsted_ray.storage.ranges import RangeFile, open_source
from halsted_ray.video.container import DEMUXERS, VideoFile, pts_of
from halsted_ray.video.frames import display_size
from halsted_ray.video.index import KeyframeIndex, declared_duration_s

SHORTER_BY_S = 2.0
"""Where the frames end this much before the declared end, the file was cut: the declared length stands, so that
what is missing shows as a gap and not as a shorter video."""

TAIL_S = 5.0


@dataclass(frozen=True)
class Probe:
    """One video. Sizes are as displayed: square pixels, upright. Every time is counted from ``first_pts_s``."""

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
    """Bytes fetched to learn this; 0 for a local file."""

    asdict = asdict


def probe(location: str | os.PathLike) -> Probe:
    """Probes a file at an fsspec location or local path. Raises UnreadableVideo, StorageUnavailable."""
    return probe_source(open_source(location))


def probe_source(source: str | os.PathLike | RangeFile) -> Probe:
    remote = isinstance(source, RangeFile)
    with VideoFile(source) as video:
        index = KeyframeIndex(video)
        duration_s = _duration_s(video, index)
        stream = video.stream  # not before: measuring the length may open the file again, and the old stream is freed
        if duration_s <= 0:
            raise UnreadableVideo(
                f"expected a video that lasts, got {duration_s:.3f} s of it: its times are damaged; export it again"
            )
        height, width = display_size(stream.width, stream.height, stream.sample_aspect_ratio, video.rotation_deg)
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
            size_bytes=source.size_bytes if remote else os.stat(source).st_size,
            read_bytes=source.fetched_bytes if remote else 0,
        )


def _duration_s(video: VideoFile, index: KeyframeIndex) -> float:
    """From the first displayed frame to the end of the last one."""
    declared_s = declared_duration_s(video)
    if index.complete and video.stream.duration:
        return declared_s  # an MP4's index holds every sample, no need to read the tail
    found_s = _end_of_frames_s(video, declared_s)
    if declared_s is not None and declared_s - found_s > SHORTER_BY_S:
        return declared_s
    return found_s


def _end_of_frames_s(video: VideoFile, declared_s: float | None) -> float:
    """Reads the tail's packets (no decoding); all packets where the container declares no length."""
    import av.error

    if declared_s is None and video.clusters:
        start = 1 << 62  # the last cluster, wherever it is
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
        return 0.0  # many frames at one time: a recording without its times, not a short one
    if end_s == 0.0:
        first = pts_of(video.first_frame)
        end_s = video.seconds(first) + frame_s
    return end_s
