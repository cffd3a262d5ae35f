"""The packet indexes of a mapped archive: per video, what the pass over its packets found (``video.packet_index``).

Only videos whose container has no index that can be trusted have such a file, of some KB per hour of video. It is
written when the video is probed, and saves every decoding actor the pass.
"""

from __future__ import annotations

from halsted_ray.storage.files import read_bytes, write_bytes
from halsted_ray.storage.locations import absolute_location


class PacketIndexes:
    """The packet indexes under ``<out>/packet-indexes``, one file per video."""

    def __init__(self, out: str):
        self._folder = f"{absolute_location(out)}/packet-indexes"
        self._last: tuple[str, bytes] = ("", b"")

    def put(self, video_id: str, packet_index: bytes) -> None:
        """Keeps the index of a video. Raises OutputError, StorageUnavailable."""
        write_bytes(f"{self._folder}/{video_id}", packet_index)

    def get(self, video_id: str) -> bytes:
        """The index of a video, empty where there is none; the last answer is kept. Raises StorageUnavailable."""
        if self._last[0] != video_id:
            try:
                self._last = video_id, read_bytes(f"{self._folder}/{video_id}")
            except FileNotFoundError:
                self._last = video_id, b""
        return self._last[1]
