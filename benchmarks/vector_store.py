"""The store of vectors, span files against packed files: what lists, reads and packs how fast.

    python benchmarks/vector_store.py /tmp/place --hours 40
    python benchmarks/vector_store.py /tmp/place --hours 1000 --dim 8   # listings of many videos
    python benchmarks/vector_store.py s3://bucket/place --hours 20

The place must be empty, and is left filled. Each hour is a video of its own: 1,560 windows, put down in 60 spans, as a
mapping does. Prints one line of JSON per step: wall seconds, CPU seconds of this process, and listings asked for.
Other work on the machine changes the wall seconds; the CPU seconds hardly.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator

import numpy as np

from halsted_ray.storage.files import lists_deep
from halsted_ray.storage.vectors import VectorStore

MINUTES = 60
GETS_OF_VIDEOS = 5


def put_hour(store: VectorStore, video_id: str, dim: int, rng: np.random.Generator) -> None:
    """An hour of vectors in spans of a minute: 2 coarse and 24 fine windows each."""
    for minute in range(MINUTES):
        start_s = 60.0 * minute
        keys = [("coarse", start_s + 30 * n, start_s + 30 * (n + 1)) for n in range(2)]
        keys += [("fine", start_s + 2.5 * n, start_s + 2.5 * (n + 1)) for n in range(24)]
        bits = rng.integers(0, 0x7C00, (len(keys), dim), np.uint16)  # any finite float16: nothing to compress
        store.put(video_id, start_s, start_s + 60, dict(zip(keys, bits.view(np.float16), strict=True)))


class Listings:
    """Counts the listings that a file system is asked for."""

    def __init__(self, store: VectorStore):
        self.count = 0
        kind = type(store.fs)
        name = "_lsdir" if lists_deep(store.fs) else "ls"
        listing = getattr(kind, name)

        def counted(fs: object, *args: object, **kwargs: object) -> object:
            self.count += 1
            return listing(fs, *args, **kwargs)

        setattr(kind, name, counted)


def read_all(store: VectorStore) -> int:
    """Bytes of all vectors, one value per page of which is looked at."""
    total = 0
    for video in store.read_videos():
        video.vectors_ND.reshape(-1)[:: 4096 // 2].view(np.uint16).max()
        total += video.vectors_ND.nbytes
    return total


def get_segments(store: VectorStore, ids: list[str]) -> None:
    """Asks for some videos segment by segment, as a mapping does that was not given whole videos."""
    for video_id in ids[:GETS_OF_VIDEOS]:
        for minute in range(MINUTES):
            assert len(store.get(video_id, 60.0 * minute, 60.0 * (minute + 1))) == 26


def steps(words: list[str] | None = None) -> Iterator[dict[str, object]]:
    """One dict per step."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("place", help="an empty folder, or s3://bucket/folder")
    parser.add_argument("--hours", type=int, default=40, help="videos of one hour each (default 40)")
    parser.add_argument("--dim", type=int, default=1408, help="width of a vector (default 1408)")
    options = parser.parse_args(words)
    store = VectorStore(options.place, "encoder", "sampling")
    ids = [f"{number:016x}" for number in range(options.hours)]
    listings, rng = Listings(store), np.random.default_rng(0)

    def step(name: str, run: Callable[[], object]) -> dict[str, object]:
        count, cpu_s, wall_s = listings.count, time.process_time(), time.perf_counter()
        found = run()
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        told: dict[str, object] = {"step": name, "wall s": round(wall_s, 3), "CPU s": round(cpu_s, 3)}
        told["listings"] = listings.count - count
        if isinstance(found, int):
            told["GB/s"] = round(found / wall_s / 1e9, 3)
            told["CPU ms per video-hour"] = round(1000 * cpu_s / options.hours, 2)
        return told

    yield step("put", lambda: [put_hour(store, video_id, options.dim, rng) for video_id in ids] and None)
    for state in ("span files", "packed"):
        if state == "packed":
            yield step("pack", store.pack)
        yield {"state": state, "files": len(store.files()), "MB": round(store.amount().size_bytes / 1e6)}
        yield step(f"holds_many, {state}", lambda: store.holds_many(ids))
        for _ in range(3):
            yield step(f"read_videos, {state}", lambda: read_all(store))
        yield step(f"get of {GETS_OF_VIDEOS} videos by segment, {state}", lambda: get_segments(store, ids))


if __name__ == "__main__":
    for line in steps():
        print(json.dumps(line), flush=True)
