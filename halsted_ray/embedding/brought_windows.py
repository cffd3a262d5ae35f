"""Windows get their vectors from brought rows: nothing is decoded, so this runs where the caller is.

An hour of video (1,560 windows) took 0.2 s of CPU at one row per second (widths 768 and 2048), and 3 s at 25 rows per
second (width 768), nearly all of it to read the 276 MB of rows. So this is no work for a cluster: a thousand hours at
one row per second take 3.5 minutes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from halsted_ray.embedding.segments import wanted_windows, window_key
from halsted_ray.model.brought import Rows, read_rows
from halsted_ray.records import Segment, WindowSpec
from halsted_ray.storage.vectors import VectorStore


def store_windows(
    segments: Iterable[Segment], place: str, store: VectorStore, spec: WindowSpec
) -> Iterator[tuple[Segment, int]]:
    """Stores the vectors of those windows of ``segments`` that the store lacks; yields each segment that is done, and
    how many vectors were stored. The segments of a video come one after another.

    ``place``: the folder of the brought vectors. Raises ModelError for a video without rows, OutputError.
    """
    video_id = ""
    rows: Rows | None = None
    for segment in segments:
        if rows is None or segment.video_id != video_id:
            video_id, rows = segment.video_id, read_rows(place, segment.video_id)
        have = store.get(video_id, segment.start_s, segment.stop_s)
        windows = [window for window in wanted_windows(segment, spec) if window_key(window) not in have]
        store.put(video_id, segment.start_s, segment.stop_s, {window_key(w): rows.pooled(w) for w in windows})
        yield segment, len(windows)
