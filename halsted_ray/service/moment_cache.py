"""The moments of the videos that were searched last, in memory, so that the next search reads no file."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from halsted_ray.search.index_builder import Projection
from halsted_ray.search.index_manifest import stored_contents
from halsted_ray.search.moments import VideoMoments
from halsted_ray.storage.vectors import VectorStore

KEPT_BYTES = 256_000_000
"""The moments of 230 video-hours at D = 768, of 920 at D = 192. A search of more than that reads its cases anew, since
it looks through them in one order."""


class MomentCache:
    """Threads may share it. An entry is found by the place of the store and by what is stored there now, so a video
    that was mapped anew is read anew, and a place that is empty gives nothing."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self.kept_bytes = kept_bytes
        self._kept: OrderedDict[tuple[str, ...], VideoMoments] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def moments(self, store: VectorStore, projection: Projection) -> Iterator[VideoMoments]:
        """The moments of each video of a store. Raises StorageUnavailable."""
        for video_id, content in sorted(stored_contents(store).items()):
            key = (store.root, projection.name, video_id, content)
            with self._lock:
                if found := self._kept.get(key):
                    self._kept.move_to_end(key)
            if found is None:
                for windows in store.read_videos([video_id]):
                    found = projection.moments(windows)
                    found = replace(found, vectors_MD=found.vectors_MD.astype(np.float16))
                    self._keep(key, found)
            if found is not None and len(found):
                yield replace(found, vectors_MD=found.vectors_MD.astype(np.float32))

    def _keep(self, key: tuple[str, ...], found: VideoMoments) -> None:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = found
                self._bytes += found.vectors_MD.nbytes
            while self._bytes > self.kept_bytes and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].vectors_MD.nbytes
