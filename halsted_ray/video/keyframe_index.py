"""Where the keyframes of a video are: from the container's index where it has a whole one, else unknown until read.

An index entry carries the time at which a keyframe is decoded. With B-frames a keyframe is displayed later than it is
decoded, and a seek to its decoding time lands one GOP too early (measured: 4.6x against 22.7x realtime). So the
difference between the two times of the first keyframe is added to every entry. The difference may vary along a file, so
the code that seeks still checks which keyframe it landed at.
"""

from __future__ import annotations

from halsted_ray.video.container import VideoFile

INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""Containers whose index, where there is one, lists the keyframes of the whole file with times that can be trusted."""


class KeyframeIndex:
    """The keyframes of an open video, as its container's index lists them.

    ``complete`` says whether that index covers the whole file. All times are pts in ticks of the stream.
    """

    def __init__(self, video: VideoFile):
        self._video = video
        self._entries = video.stream.index_entries
        self.offset = 0
        self.complete = False
        if video.container.format.name not in INDEXED:
            return
        if video.container.format.name == "matroska,webm":
            # The cues stand at the end of the file, and libavformat reads them at the first seek only.
            video.container.seek(video.origin, stream=video.stream)
            self._entries = video.stream.index_entries
        if self._covers_the_file() and video.first_key_pts is not None:
            self.complete = True
            self.offset = video.first_key_pts - self._entries[0].timestamp
        elif video.container.format.name == "matroska,webm":
            video.look_for_clusters()

    def before(self, pts: int) -> int | None:
        """The pts of the last keyframe displayed at or before ``pts``; None where the index can't say.

        Where the frame rate varies, it can be an earlier keyframe than the last, and its pts a few frames off.
        """
        return self._last_by(pts - self.offset)

    def decoded_before(self, pts: int) -> int | None:
        """The pts of the last keyframe *decoded* at or before ``pts``; None where the index can't say.

        It is never too early a keyframe, but may be displayed after ``pts``.
        """
        return self._last_by(pts)

    def _last_by(self, dts: int) -> int | None:
        if not self.complete:
            return None
        found = self._entries.search_timestamp(dts, backward=True)
        if found < 0:
            return None
        return self._entries[found].timestamp + self.offset

    def _covers_the_file(self) -> bool:
        count = len(self._entries)
        if count == 0:
            return False
        duration = declared_duration_s(self._video)
        if duration is None:
            return False
        last_s = self._video.seconds(self._entries[count - 1].timestamp)
        # At least two keyframes, or one in a short file; and the last keyframe lies within a long GOP of the end.
        return last_s >= duration - max(30.0, 0.02 * duration) and (count > 1 or duration < 10.0)


def declared_duration_s(video: VideoFile) -> float | None:
    """The length that the container states, in seconds from the first displayed frame; None where it states none.

    That is the stream's length, else the length of the whole file less what lies before the first displayed frame.
    """
    stream = video.stream
    if stream.duration:
        return float(stream.duration * video.time_base)
    if video.container.duration:
        end_s = (video.container.start_time or 0) / 1e6 + video.container.duration / 1e6
        return end_s - float(video.origin * video.time_base)
    return None
