"""All that is known of one file: what it states, what its packets hold, and how its frames will be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halsted_ray.video.container import MATROSKA, VideoFile
from halsted_ray.video.keyframe_index import KeyframeIndex, declared_duration_s
from halsted_ray.video.packet_index import hole_s
from halsted_ray.video.pictures import picture_of
from halsted_ray.video.probe import probe_of

if TYPE_CHECKING:
    from fractions import Fraction

    from halsted_ray.records import JsonObject
    from halsted_ray.storage.ranges import Source

DIFFERS_BY_S = 0.5
"""Lengths that differ by more than this are told to a person."""


def describe(source: Source, eye: str = "left") -> JsonObject:
    """JSON values about the video in an opened file (``storage.ranges.open_source``):

    ``probe`` (the fields of ``probe.Probe``), ``picture`` (the fields of ``pictures.Picture``), ``streams`` (type and
    codec of each stream), ``time_base`` (seconds per tick, as a fraction), ``lengths_s`` (where a length comes from →
    seconds), ``keyframes`` (``count`` and the ``longest_s`` between two, None where the container's index does not tell
    without reading all of it), ``read_by`` (how frames are found) and ``remarks`` (sentences that a person should
    read). ``eye``: which picture of a stereo pair is read. Raises UnreadableVideo, StorageUnavailable.
    """
    with VideoFile(source) as video:
        index = KeyframeIndex(video)
        end_s = video.seconds(index.stop) if index.lists_all_frames else None
        found = probe_of(video, index)
        picture = picture_of(video, eye)
        declared_s, packets = declared_duration_s(video), video.packet_index
        lengths = {
            "used": found.duration_s,
            "stream header": _seconds(video.stream.duration, video.time_base),
            "container header": video.container.duration / 1e6 if video.container.duration else None,
            "packets" if packets else "index": end_s,
        }
        remarks = [*picture.remarks]
        differs = declared_s is not None and abs(declared_s - found.duration_s) > DIFFERS_BY_S
        if differs and not found.unread_bytes:
            remarks.append(
                f"Its header states {declared_s:.3f} s, and {found.duration_s:.3f} s are used: what the "
                f"{'packets hold' if packets else 'index lists'} decides."
            )
        if len(found.takes) > 1:
            remarks.append(
                f"Its clock was set or started anew: its {len(found.takes)} takes lie one after another on one axis."
            )
        remarks += [f"No frame was recorded from {start:.3f} to {stop:.3f} s: a gap." for start, stop in found.holes]
        if found.unread_bytes:
            remarks.append(
                f"Its last {found.unread_bytes:,} bytes belong to a further recording that can't be read in this "
                "file. A gap stands for its estimated length; split the file to map it."
            )
        if packets and packets.takes[0].start < video.origin and packets.takes[0].stop > video.origin:
            skipped_s = -video.seconds(packets.takes[0].start)
            if skipped_s > hole_s(0.0):
                remarks.append(f"It begins between keyframes: the first {skipped_s:.3f} s can't be decoded.")
        return {
            "probe": found.asdict(),
            "picture": picture.asdict(),
            "streams": [_described(stream.type, stream.codec_context) for stream in video.container.streams],
            "time_base": str(video.time_base),
            "lengths_s": {name: length for name, length in lengths.items() if length is not None},
            "keyframes": _keyframes(video),
            "read_by": _read_by(video),
            "remarks": remarks,
        }


def _read_by(video: VideoFile) -> str:
    if video.packet_index is None:
        return "the container's own index"
    if video.container.format.name == MATROSKA:
        return "one pass over all packets, since it has no cues of the whole file"
    return "one pass over all packets, since it has no index that can be trusted"


def _keyframes(video: VideoFile) -> JsonObject | None:
    packets = video.packet_index
    if packets is None:
        return None
    times = [video.seconds(int(pts)) for pts in packets.keys[:, 0]]
    apart = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    return {"count": len(times), "longest_s": max(apart, default=0.0)}


def _described(kind: str, context: object) -> str:
    """Type and codec of a stream, such as ``audio aac``. Titles and languages are left out: a title may be a name."""
    name = getattr(context, "name", None)
    return f"{kind} {name}" if name else kind


def _seconds(ticks: int | None, time_base: Fraction) -> float | None:
    return float(ticks * time_base) if ticks else None
