"""The packet indexes of a mapped archive: per file, what the pass over its packets found (``video.packet_index``).

Only files whose container has no index that can be trusted have such an index, of some KB per hour of video. It is
written when the file is probed, and saves every decoding actor the pass. Copies of a video have an index each: one of
them may be damaged, and then its holes and takes are not those of the others.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection
from contextlib import suppress

from halsted_ray.records import digest
from halsted_ray.storage.files import list_folder, read_bytes, write_bytes
from halsted_ray.storage.locations import absolute_location, filesystem


class PacketIndexes:
    """The packet indexes under ``<out>/packet-indexes``, per file one that is named by the video's id and a digest of
    the file's location."""

    def __init__(self, out: str):
        self._folder = f"{absolute_location(out)}/packet-indexes"
        self._last: tuple[str, bytes] = ("", b"")

    def put(self, video_id: str, uri: str, packet_index: bytes) -> None:
        """Keeps the index of a file. Raises OutputError."""
        write_bytes(self._place(video_id, uri), packet_index)

    def get(self, video_id: str, uri: str) -> bytes:
        """The index of a file, empty where there is none; the last answer is kept. Raises StorageUnavailable."""
        place = self._place(video_id, uri)
        if self._last[0] != place:
            try:
                self._last = place, read_bytes(place)
            except FileNotFoundError:
                self._last = place, b""
        return self._last[1]

    def drop(self, video_ids: Collection[str]) -> None:
        """Removes the indexes of videos. Raises StorageUnavailable."""
        fs, folder = filesystem(self._folder)
        for path in list_folder(fs, folder):
            if posixpath.basename(path).partition("-")[0] in video_ids:
                with suppress(OSError):  # it holds no picture, so what can't be removed does no harm
                    fs.rm_file(path)

    def _place(self, video_id: str, uri: str) -> str:
        return f"{self._folder}/{video_id}-{digest('location', uri)}"
