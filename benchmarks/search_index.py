"""The index of moments against an exact search: size, time to make it, time of a search, recall.

    python benchmarks/search_index.py /tmp/place --hours 10000 --every 10
    python benchmarks/search_index.py /tmp/place --libraries 100000   # faiss and usearch over the same vectors
    python benchmarks/search_index.py /tmp/place --time-of 7200000    # only how long a search takes; codes are drawn

The place must be empty, and is left filled: 400 bytes per moment at D = 192, and as much for the index. The
vectors are drawn: scenes that all videos share, a style per video, a drift that lasts some minutes, and noise from
moment to moment. A question is a stored moment; it is no answer to itself. Prints a line of JSON per step. Other work
on the machine changes the wall seconds; the CPU seconds hardly.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Iterator

import numpy as np

from halsted_ray.search.centres import write_centres
from halsted_ray.search.index_build import refresh
from halsted_ray.search.index_builder import MOST_LISTS, ByExample
from halsted_ray.search.index_manifest import IndexPart, Manifest, index_place, read_manifest, write_manifest
from halsted_ray.search.index_parts import MomentRows, file_digest, write_part
from halsted_ray.search.index_search import MomentIndex, nearest_of
from halsted_ray.search.moments import VideoMoments, moments_of, unit
from halsted_ray.storage.files import file_sizes, write_atomically
from halsted_ray.storage.vector_files import VideoVectors, packed_file
from halsted_ray.storage.vectors import VectorStore

SCENES = 2000
HOURS_A_VIDEO = 10
"""Long recordings, since the number of files is not what is measured here."""
PROBES = (4, 8, 16, 32, 48, 96)
FOUND = 10


class Drawn:
    """Vectors of videos, drawn by number."""

    def __init__(self, dim: int, every_s: float):
        self.dim, self.every_s = dim, every_s
        rng = np.random.default_rng(7)
        self.spread_D = np.linspace(1.5, 0.2, dim, dtype=np.float32)  # few directions hold most of what differs
        self.scenes = rng.standard_normal((SCENES, dim), np.float32) * self.spread_D
        self.common_D = 3 * rng.standard_normal(dim, np.float32)

    def vectors(self, number: int, moments: int) -> np.ndarray:
        """float16 [moments, D] of one video."""
        rng = np.random.default_rng(1000 + number)
        style_D = 0.3 * rng.standard_normal(self.dim, np.float32) * self.spread_D
        lengths = rng.integers(6, 60, moments)  # a scene lasts one to ten minutes
        segment = np.repeat(np.arange(moments), lengths)[:moments]
        scene = rng.integers(0, SCENES, segment[-1] + 1)
        drift = 0.4 * rng.standard_normal((segment[-1] + 1, self.dim), np.float32) * self.spread_D
        noise = 0.25 * rng.standard_normal((moments, self.dim), np.float32) * self.spread_D
        found: np.ndarray = (self.common_D + style_D + (self.scenes[scene] + drift)[segment] + noise).astype(np.float16)
        return found

    def write(self, store: VectorStore, number: int, moments: int) -> None:
        """A packed file, as a mapping leaves it."""
        starts_s = self.every_s * np.arange(moments)
        stops_s = starts_s + self.every_s
        spans = [(0.0, float(stops_s[-1]))]
        vectors = self.vectors(number, moments)
        found = VideoVectors(f"{number:016x}", ["coarse"] * moments, starts_s, stops_s, vectors, spans)
        name, data = packed_file(store.stamp, found, 1)
        write_atomically(store.fs, f"{store.root}/{name}", data)


class Step:
    """Measures a block, and prints a line."""

    def __init__(self, name: str):
        self.name = name
        self.more: dict[str, object] = {}

    def __enter__(self) -> Step:
        self.wall_s, self.cpu_s = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        took = {
            "wall_s": round(time.perf_counter() - self.wall_s, 3),
            "cpu_s": round(time.process_time() - self.cpu_s, 3),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        print(json.dumps({"step": self.name, **took, **self.more}), flush=True)


def questions(store: VectorStore, count: int) -> list[tuple[str, float, np.ndarray]]:
    """(video, start, vector) of ``count`` stored moments of different videos."""
    ids = sorted(store.listing.of_all())
    rng = np.random.default_rng(1)
    found = []
    for moments in of_store(store, [ids[k] for k in rng.choice(len(ids), min(count, len(ids)), replace=False)]):
        row = int(rng.integers(len(moments)))
        found.append((moments.video_id, float(moments.start_s_M[row]), moments.vectors_MD[row]))
    return found


def of_store(store: VectorStore, ids: list[str] | None = None) -> Iterator[VideoMoments]:
    """The moments of videos."""
    return (moments_of(found) for found in store.read_videos(ids))


def exact(store: VectorStore, mean_D: np.ndarray, asked_QD: np.ndarray) -> list[set[tuple[str, float]]]:
    """For each question the nearest moments, of all."""
    best: list[list[tuple[float, str, float]]] = [[] for _ in asked_QD]
    for moments in of_store(store):
        similarity_QM = asked_QD @ unit(moments.vectors_MD - mean_D).T
        top = np.argpartition(-similarity_QM, FOUND, axis=1)[:, : FOUND + 1]
        for number, rows in enumerate(top):
            own = [(-float(similarity_QM[number, m]), moments.video_id, float(moments.start_s_M[m])) for m in rows]
            best[number] = sorted(best[number] + own)[: FOUND + 1]
    return [{(video, start) for _, video, start in own} for own in best]


def measure(store: VectorStore, count: int) -> None:
    """Makes the index, and compares it with the exact search."""
    with Step("make") as step:
        done = refresh(store, ByExample())
        sizes = file_sizes(store.fs, index_place(store, "like"))
        step.more = {"moments": done.moments, "index_mb": round(sum(sizes.values()) / 1e6, 1)}
    manifest = read_manifest(store, "like")
    assert manifest is not None
    step.more["lists"] = manifest.lists
    asked = questions(store, count)
    asked_QD = unit(np.stack([vector for *_, vector in asked]) - manifest.mean_D)
    with Step("exact") as step:
        truth = exact(store, manifest.mean_D, asked_QD)
        step.more = {"questions": len(asked)}
    with Step("one exact search, as without an index"):
        nearest_of(of_store(store), manifest.mean_D, asked_QD[0], FOUND)
    with Step("open the index"):
        index = MomentIndex.opened(store, "like")
    assert index is not None
    for probes in PROBES:
        took_s, cpu_s, hits = [], time.process_time(), 0
        for (video, start_s, _), query_D, right in zip(asked, asked_QD, truth, strict=True):
            began_s = time.perf_counter()
            found = index.nearest(query_D, FOUND + 1, probes=probes)
            took_s.append(time.perf_counter() - began_s)
            right = right - {(video, start_s)}
            hits += len({(one.video_id, one.start_s) for one in found} & right) / len(right)
        line = {
            "step": "search",
            "probes": probes,
            "recall_at_10": round(hits / len(asked), 4),
            "median_ms": round(1000 * float(np.median(took_s)), 1),
            "longest_ms": round(1000 * max(took_s), 1),
            "cpu_ms": round(1000 * (time.process_time() - cpu_s) / len(asked), 1),
        }
        print(json.dumps(line), flush=True)


def changes(store: VectorStore, drawn: Drawn, moments: int) -> None:
    """A new video comes in; a video is deleted."""
    drawn.write(store, 10**6, moments)
    with Step("one new video"):
        refresh(store, ByExample())
    store.remove([f"{10**6:016x}", f"{0:016x}"])
    with Step("two deleted videos"):
        refresh(store, ByExample())


def time_of(place: str, moments: int, dim: int) -> None:
    """How long a search takes in an index of so many moments. Its files are of the real form, and the codes in them are
    drawn: so nothing is said of recall."""
    rng = np.random.default_rng(3)
    store = VectorStore(place, "drawn", "reference")
    folder = index_place(store, "like")
    os.makedirs(folder)
    centres_LD = unit(rng.standard_normal((MOST_LISTS, dim), np.float32))
    rows, videos = moments // MOST_LISTS, 10_000

    def drawn_lists() -> Iterator[MomentRows]:
        for _ in range(MOST_LISTS):
            codes = np.frombuffer(rng.bytes(rows * dim * 2), np.int16).reshape(rows, dim)
            starts_ms = rng.integers(0, 3_600_000, rows, np.int32)
            scales = np.full(rows, 1e-5, np.float32)
            yield MomentRows(rng.integers(0, videos, rows, np.int32), starts_ms, starts_ms + 5000, scales, codes)

    with Step("draw the index") as step:
        write_part(f"{folder}/part", dim, drawn_lists())
        write_centres(f"{folder}/centres", centres_LD)
        names = {}
        for what in ("part", "centres"):
            with open(f"{folder}/{what}", "rb") as file:
                names[what] = f"{file_digest(file)}.{what}.arrow"
            os.replace(f"{folder}/{what}", f"{folder}/{names[what]}")
        size = os.path.getsize(f"{folder}/{names['part']}")
        ids = [f"{number:016x}" for number in range(videos)]
        part = IndexPart(names["part"], size, names["part"].split(".")[0], rows * MOST_LISTS, ids, ids)
        mean = [0.0] * dim
        made = Manifest("drawn", "reference", dim, MOST_LISTS, mean, rows * MOST_LISTS, names["centres"], [part])
        write_manifest(store, "like", made)
        step.more = {"moments": made.rows, "index_mb": round(size / 1e6, 1)}
    for probes in PROBES:
        took_s, cpu_s = [], time.process_time()
        for query_D in unit(rng.standard_normal((20, dim), np.float32)):
            began_s = time.perf_counter()
            with MomentIndex.opened(store, "like") as index:  # type: ignore[union-attr]
                index.nearest(query_D, 400, probes=probes)
            took_s.append(time.perf_counter() - began_s)
        line = {
            "step": "open and search",
            "probes": probes,
            "median_ms": round(1000 * float(np.median(took_s)), 1),
            "longest_ms": round(1000 * max(took_s), 1),
            "cpu_ms": round(1000 * (time.process_time() - cpu_s) / len(took_s), 1),
        }
        print(json.dumps(line), flush=True)


def libraries(drawn: Drawn, rows: int, place: str) -> None:
    """faiss and usearch over ``rows`` vectors."""
    import faiss
    from usearch.index import Index

    vectors = np.concatenate([drawn.vectors(k, 1000).astype(np.float32) for k in range(rows // 1000)])
    vectors = unit(vectors - vectors.mean(0))
    asked_QD = vectors[np.random.default_rng(1).choice(rows, 100, replace=False)]
    truth = [set(row) for row in np.argsort(-(asked_QD @ vectors.T), axis=1)[:, : FOUND + 1].tolist()]
    path = f"{place}/library"

    def report(name: str, dial: int, find: object) -> None:
        began_s = time.process_time()
        hits = sum(len(set(find(one)) & right) - 1 for one, right in zip(asked_QD, truth, strict=True)) / FOUND  # type: ignore[operator]
        ms = 1000 * (time.process_time() - began_s) / len(asked_QD)
        line = {"library": name, "dial": dial, "recall_at_10": round(hits / len(asked_QD), 4), "cpu_ms": round(ms, 2)}
        print(json.dumps({**line, "mb": round(os.path.getsize(path) / 1e6, 1)}), flush=True)

    for name in (f"IVF{max(1, rows // 500)},SQ8", "HNSW16,SQ8"):
        with Step(f"faiss {name}: make"):
            made = faiss.index_factory(drawn.dim, name, faiss.METRIC_INNER_PRODUCT)
            made.train(vectors[:: max(1, rows // 20_000)])
            made.add(vectors)
            faiss.write_index(made, path)
        for dial in (8, 32, 96):
            setting = "nprobe" if name.startswith("IVF") else "efSearch"
            faiss.ParameterSpace().set_index_parameter(made, setting, dial)
            report(f"faiss {name}", dial, lambda one, made=made: made.search(one[None], FOUND + 1)[1][0].tolist())
    with Step("usearch i8: make"):
        graph = Index(ndim=drawn.dim, metric="ip", dtype="i8")
        graph.add(np.arange(rows), vectors, threads=2)
        graph.save(path)
    for dial in (32, 96, 256):
        graph.expansion_search = dial
        report("usearch i8", dial, lambda one: graph.search(one, FOUND + 1).keys.tolist())


def main() -> None:
    """Draws the vectors and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place")
    parser.add_argument("--hours", type=int, default=10_000)
    parser.add_argument("--every", type=float, default=5.0, help="seconds per moment")
    parser.add_argument("--dim", type=int, default=192)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--time-of", type=int, metavar="MOMENTS")
    parser.add_argument("--libraries", type=int, metavar="ROWS")
    options = parser.parse_args()
    drawn = Drawn(options.dim, options.every)
    os.makedirs(options.place, exist_ok=True)
    if options.libraries:
        libraries(drawn, options.libraries, options.place)
        return
    if options.time_of:
        time_of(options.place, options.time_of, options.dim)
        return
    store = VectorStore(options.place, "drawn", "reference")
    moments = round(HOURS_A_VIDEO * 3600 / options.every)
    with Step("draw"):
        for number in range(options.hours // HOURS_A_VIDEO):
            drawn.write(store, number, moments)
    measure(store, options.questions)
    changes(store, drawn, moments)


if __name__ == "__main__":
    main()
