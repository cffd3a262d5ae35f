"""Where the keyframes of a video are: from the container's own index where it can be trusted, else from a pass over the
packets (``packet_index``).

An entry of libavformat's index carries the time at which a keyframe is decoded. With B-frames a keyframe is displayed
later than it is decoded, and a seek to its decoding time lands one GOP too early (measured: 4.6x against 22.7x
realtime). So the difference between the two times of the first keyframe is added to every entry. The difference may
vary along a file, so the code that seeks still checks which keyframe it landed at.
"""

from __future__ import annotations

from itertools import islice
from statistics import median
from typing import TYPE_CHECKING

from halsted_ray.video.container import INDEXED, MATROSKA, MAY_RESTART, MP4, VideoFile
from halsted_ray.video.joined import has_fragment_table, has_further_segments
from halsted_ray.video.packet_index import LONGEST_PAUSE_S
from halsted_ray.video.true_keyframes import keyframe_test

if TYPE_CHECKING:
    from collections.abc import Iterator

    from halsted_ray.video.container import VideoPacket

LOOKED_AT = 40
"""Packets that are looked at to know whether every frame is a keyframe, as an index without a table of keyframes
claims."""

SHORT_S = 60.0
"""A Matroska file that declares less than this is read whole: libavformat's entries may be those of the packets that it
has read so far, and not the cues of the whole file."""

SPARSE_S = 20.0
"""Keyframes that are usually further apart than this, as an index lists them, may not be all keyframes: some recorders
list the first only."""

MAY_END_EARLIER_S = 1.0
"""An MP4 whose fragments are listed in front of them is read whole where its index ends this much before its end."""

PLACES = 32
"""Places of a file at which the distance of its keyframes is looked at."""


class KeyframeIndex:
    """The keyframes of an open video. All times are pts in ticks of the stream, on the video's own axis.

    Makes the packet index of ``video`` where the container's own index does not serve.
    """

    def __init__(self, video: VideoFile):
        self._video = video
        self.offset = 0
        if video.packet_index is None and not self._container_serves():
            video.read_all_packets()
            self.offset = 0  # the times of this index are those of display
        self.from_container = video.packet_index is None
        """Whether the container's own index serves, so that no pass over the packets was needed."""
        self._look_up()
        self._step = self._usual_step() if self.from_container else 0
        if video.packet_index is not None and self._is_matroska:
            video.look_for_clusters()

    @property
    def _is_matroska(self) -> bool:
        return self._video.container.format.name == MATROSKA

    @property
    def step(self) -> int:
        """The usual step from frame to frame, in ticks; 0 where it is not known."""
        packet_index = self._video.packet_index
        return packet_index.step if packet_index is not None else self._step

    @property
    def stop(self) -> int:
        """The end of the last frame. In an MP4 that was cut, the end of the frames that its index lists."""
        packet_index = self._video.packet_index
        if packet_index is not None:
            return packet_index.stop
        count, rate = len(self._entries), self._video.stream.average_rate
        last = self._entries[count - 1].timestamp
        step = (
            last - self._entries[count - 2].timestamp
            if count > 1
            else round(1 / rate / self._video.time_base)
            if rate
            else 1
        )
        return last + max(step, 0) + self.offset

    @property
    def lists_all_frames(self) -> bool:
        """Whether ``stop`` is the end of the frames, and not merely of the last keyframe."""
        return not self.from_container or not self._is_matroska

    @property
    def frames(self) -> int:
        """How many frames the container's own index lists; 0 where it lists keyframes only."""
        return len(self._entries) if self.from_container and self.lists_all_frames else 0

    def before(self, pts: int) -> int | None:
        """The pts of the last keyframe displayed at or before ``pts``; None where there is none.

        Where the frame rate varies and the container's index serves, it can be an earlier keyframe than the last, and
        its pts a few frames off.
        """
        return self._last_by(pts - self.offset)

    def decoded_before(self, pts: int) -> int | None:
        """The pts of the last keyframe *decoded* at or before ``pts``; None where there is none.

        It is never too early a keyframe, but may be displayed after ``pts``.
        """
        return self._last_by(pts)

    def hole_at(self, pts: int) -> tuple[int, int] | None:
        """``[start, stop)`` between the frames before and after ``pts``, as an index of all frames has them; with a
        packet index, where this is a hole. None where there is no hole, or where no index lists all frames."""
        packet_index = self._video.packet_index
        if packet_index is not None:
            return next((hole for hole in packet_index.holes if hole[0] <= pts < hole[1]), None)
        if not self.lists_all_frames:
            return None
        found = self._entries.search_timestamp(pts - self.offset, backward=True, any_frame=True)
        if not 0 <= found < len(self._entries) - 1:
            return None
        return self._entries[found].timestamp + self.offset, self._entries[found + 1].timestamp + self.offset

    def packets_from(self, key_pts: int) -> Iterator[VideoPacket]:
        """The packets from the keyframe at ``key_pts`` on, as ``before`` gave it; with a container's index from a place
        before that keyframe.

        Raises FFmpegError where the container can't go there, CorruptSegment where the keyframe is gone.
        """
        packet_index = self._video.packet_index
        if packet_index is None:
            self._video.seek(key_pts)
            return self._video.packets()
        row = packet_index.before(key_pts)
        assert row is not None, "the pts of a keyframe of this index"
        return self._video.seek_key(row)

    def reopen(self) -> None:
        """Goes back to the first packet of the file, with a new decoder."""
        self._video.reopen()
        self._look_up()

    def _look_up(self) -> None:
        """Takes the entries of the container that is open now; those of a closed container are gone."""
        video = self._video
        if video.packet_index is None and self._is_matroska:
            # The cues stand at the end of the file, and libavformat reads them at the first seek only.
            video.container.seek(video.origin, stream=video.stream)
            video.container.seek(video.stream.index_entries[0].timestamp, stream=video.stream)
        self._entries = video.stream.index_entries

    def _usual_step(self) -> int:
        if self._is_matroska:  # the cues list keyframes only
            times = sorted(packet.pts for packet in islice(self._video.packets(), LOOKED_AT) if packet.pts is not None)
        else:
            times = [self._entries[number].timestamp for number in range(min(len(self._entries), LOOKED_AT))]
        steps = [later - earlier for earlier, later in zip(times, times[1:], strict=False) if later > earlier]
        return round(median(steps)) if steps else 0

    def _last_by(self, pts: int) -> int | None:
        packet_index = self._video.packet_index
        if packet_index is not None:
            row = packet_index.before(pts)
            return None if row is None else int(packet_index.keys[row, 0])
        found = self._entries.search_timestamp(pts, backward=True)
        return None if found < 0 else self._entries[found].timestamp + self.offset

    def _container_serves(self) -> bool:
        """Whether the container's own index covers the file and lists keyframes and nothing else."""
        video = self._video
        if video.container.format.name not in INDEXED or video.first_key_pts is None:
            return False
        if self._is_matroska:
            # The cues stand at the end of the file, and libavformat reads them at the first seek only.
            video.container.seek(video.origin, stream=video.stream)
        self._entries = video.stream.index_entries
        if not self._covers_the_file() or (self._is_matroska and has_further_segments(video.source)):
            return False
        self.offset = video.first_key_pts - self._entries[0].timestamp
        if self._is_matroska and self._clock_was_set():
            return False
        return not self._claims_too_many() and not self._claims_too_few()

    def _covers_the_file(self) -> bool:
        count = len(self._entries)
        if count == 0:
            return False
        duration_s = declared_duration_s(self._video)
        if duration_s is None:
            return False
        if self._is_matroska and duration_s < SHORT_S:
            return False
        last_s = self._video.seconds(self._entries[count - 1].timestamp)
        if not self._is_matroska and last_s < duration_s - MAY_END_EARLIER_S and has_fragment_table(self._video.source):
            return False
        # At least two keyframes, or one in a short file; and the last keyframe lies within a long GOP of the end.
        return last_s >= duration_s - max(30.0, 0.02 * duration_s) and (count > 1 or duration_s < 10.0)

    def _clock_was_set(self) -> bool:
        """Whether the cues skip a time that no recorder pauses for."""
        times = [self._entries[number].timestamp for number in range(len(self._entries))]
        longest = LONGEST_PAUSE_S / self._video.time_base
        return any(later - earlier > longest for earlier, later in zip(times, times[1:], strict=False))

    def _claims_too_many(self) -> bool:
        """Whether every entry claims to be a keyframe, and the packets say otherwise."""
        entries = self._entries
        if not all(entries[number].is_keyframe for number in range(min(len(entries), LOOKED_AT))):
            return False
        video = self._video
        if video.stream.codec_context.codec.intra_only or self._is_matroska:
            return False  # the cues list keyframes only
        video.reopen()
        self._entries = video.stream.index_entries
        is_key = keyframe_test(video.stream.codec_context)
        return not all(is_key(packet) for packet in islice(video.packets(), LOOKED_AT))

    def _claims_too_few(self) -> bool:
        """Whether the keyframes that the index lists are unusually far apart."""
        entries, time_base = self._entries, float(self._video.time_base)
        first, last = entries[0].timestamp, entries[len(entries) - 1].timestamp
        distances = []
        for number in range(1, PLACES):
            place = first + (last - first) * number // PLACES
            found = entries.search_timestamp(place, backward=True)
            distances.append((place - entries[found].timestamp) * time_base if found >= 0 else 0.0)
        # A random place lies half of the distance after a keyframe.
        return 2 * sum(distances) / len(distances) > SPARSE_S


def declared_duration_s(video: VideoFile) -> float | None:
    """The length that the container states, in seconds from the first displayed frame; None where it states none.

    That is the stream's length, else the length of the whole file. An MP4 states the length of its stream from the
    first frame on, all other containers the end on their own clock.
    """
    stream, origin_s = video.stream, float(video.origin * video.time_base)
    if video.container.format.name == "avi" and stream.duration:
        # libavformat shortens the stated length of a file that was cut; its count of frames is as stated.
        return float(max(stream.duration, stream.frames) * video.time_base) - origin_s
    if stream.duration:
        length_s = float(stream.duration * video.time_base)
        return length_s if video.container.format.name in (MP4, *MAY_RESTART) else length_s - origin_s
    if video.container.duration:
        length_s = video.container.duration / 1e6
        return length_s - (origin_s if video.container.format.name not in MAY_RESTART else 0.0)
    return None
