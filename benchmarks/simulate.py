"""Does the engine keep up with the archive of a hospital? Its real code runs, on segments that do nothing or sleep.

    python benchmarks/simulate.py                         1,000 to 100,000 videos: half an hour on 2 cores
    python benchmarks/simulate.py --videos 100 1000       other sizes
    python benchmarks/simulate.py --parts tables          some of the parts below; the last results of the others stay

    tables   planning, staging, publishing, resuming (half done, all done) and status: real tables and files
    files    listing, identifying and probing 1,000 real small videos, then the same archive unchanged
    slots    the Ray Data pipeline on four logical nodes, with stages that sleep; its rate against the slots

Writes ``benchmarks/results/simulate.json`` and a drawing beside it. Each size is measured in a process of its own, so
that its peak of memory is known. ``measure`` gives the ratios as entries of ``benchmarks/results/latest.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from halsted_ray.embedding.stage_schemas import OUTCOME_SCHEMA
from halsted_ray.mapping.inventory import take_inventory
from halsted_ray.mapping.work_list import WAVE_SEGMENTS, build_work_list
from halsted_ray.maps.publishing import publish, publish_videos
from halsted_ray.maps.reading import read_videos
from halsted_ray.maps.staging import MappingRun, SegmentResult, Staging
from halsted_ray.maps.status import status_of
from halsted_ray.maps.table_schemas import ArchiveFile, Provenance
from halsted_ray.records import Prediction, Segment, Video, WindowSpec, digest
from halsted_ray.video.archive import list_videos

RESULTS = Path(__file__).parent / "results"
CORE_S_A_SEGMENT = 7.0
"""Core-seconds of a segment of 60 s of 1080p: decoding takes 5 to 6, a small encoder the rest."""
BAR_PERCENT = 5.0
TAGS = 40
"""Predictions per segment: of 2 coarse windows, and of 24 fine windows in a third of the segments."""
SEGMENT_S = 60.0
RECIPE = digest("simulation")
ORIGIN = Provenance("run", RECIPE, ("macro", "micro"), "model", "1", "atlas", "taxonomy", "0")


def measure(
    sizes: tuple[tuple[int, int], ...] = ((250, 4), (1000, 4)),
    slots: tuple[int, ...] = (2, 4),
    files: int = 200,
    parts: tuple[str, ...] = ("tables", "files", "slots"),
    before: dict | None = None,
) -> tuple[list[dict], dict]:
    """(entries ``{name, value, unit, bar, holds}``, the measurements that they come from).

    ``sizes``: (videos, segments of each), rising. ``before``: measurements of an earlier run, kept for the parts that
    are not in ``parts``.
    """
    found = dict(before or {})
    if "tables" in parts:
        found["tables"] = [in_own_process("tables", videos, segments) for videos, segments in sizes]
        found["hours"] = in_own_process("hours", sizes[-1][0], 60)
    if "files" in parts:
        found["files"] = in_own_process("files", files, 0)
    if "slots" in parts:
        found["slots"] = [in_own_process("slots", count, 0) for count in slots]
    return entries_of(found), found


def entries_of(found: dict) -> list[dict]:
    """The entries that follow from the measurements ``found``."""
    entries, ms_a_segment = [], 0.0
    if tables := found.get("tables"):
        for size in tables:
            entries.append(
                entry(
                    f"engine's peak memory, {size['videos']:,} videos, {size['segments']:,} segments",
                    size["peak_mb"],
                    "MB",
                )
            )
        largest = tables[-1]
        ms_a_segment += 1000 * sum(largest["cpu_s"].values()) / largest["segments"]
        entries.append(
            entry(f"tables and staging, core-ms per segment at {largest['videos']:,} videos", ms_a_segment, "ms")
        )
        if len(tables) > 1:
            smaller = next(size for size in tables if size["videos"] < largest["videos"])
            growth = ms_a_segment / (1000 * sum(smaller["cpu_s"].values()) / smaller["segments"])
            entries.append(entry(f"its growth from {smaller['videos']:,} videos", growth, "x", 1.5, growth <= 1.5))
        hours = found["hours"]
        entries.append(
            entry(f"planning {hours['videos']:,} video-hours, {hours['segments']:,} segments, CPU", hours["cpu_s"], "s")
        )
        entries.append(entry("its peak memory", hours["peak_mb"], "MB"))
    if files := found.get("files"):
        entries.append(entry("inventory, core-ms per new video", files["new_ms"], "ms"))
        entries.append(entry("inventory, core-ms per known video", files["known_ms"], "ms"))
    if slots := found.get("slots"):
        for run in slots:
            entries.append(
                entry(
                    f"Ray Data, {run['slots']} slots: segments/s of those that the slots could do",
                    100 * run["rate"] / run["ideal_rate"],
                    "%",
                )
            )
        fastest = max(slots, key=lambda run: run["free_rate"])
        core_ms = max(run["core_ms"] for run in slots)
        ms_a_segment += core_ms
        entries.append(entry("Ray Data, core-ms per segment, at most", core_ms, "ms"))
        entries.append(
            entry(
                "cores that one driver keeps busy, segments of 7 core-s",
                CORE_S_A_SEGMENT * fastest["free_rate"],
                "cores",
            )
        )
    if {"tables", "files", "slots"} <= set(found):
        ms_a_segment += files["new_ms"] * tables[-1]["videos"] / tables[-1]["segments"]
        share = 100 * ms_a_segment / (1000 * CORE_S_A_SEGMENT)
        entries.append(
            entry("engine against segments of 7 core-s, all together", share, "%", BAR_PERCENT, share < BAR_PERCENT)
        )
    return entries


def entry(name: str, value: float, unit: str, bar: float | None = None, holds: bool | None = None) -> dict:
    """An entry of ``benchmarks/results/latest.json``."""
    return {"name": name, "value": round(value, 2), "unit": unit, "bar": bar, "holds": holds}


def in_own_process(part: str, *sizes: int) -> dict:
    """The measurements of one part and size, made in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--only", part, *map(str, sizes)], stdout=subprocess.PIPE, check=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


# Tables ---------------------------------------------------------------------------------------------------------------


def tables(videos: int, segments: int) -> dict:
    """Everything but decoding, encoding and Ray, for ``videos`` of ``segments`` each: CPU and wall seconds by phase,
    peak memory."""
    entries, spent = synthetic(videos, segments), Spent()
    with tempfile.TemporaryDirectory() as out:
        staging = Staging(out, RECIPE)
        staging.begin(MappingRun("run", RECIPE, ORIGIN.tasks, SEGMENT_S, int(time.time() * 1000)))

        def plan():
            publish_videos(out, entries)
            return build_work_list(out, staging, entries, WindowSpec(), SEGMENT_S, RECIPE)

        work_list = spent.on("plan", plan)
        assert work_list.waiting == videos * segments
        begun, checked = 0, False
        for wave in work_list.waves(WAVE_SEGMENTS):
            spent.on("stage", lambda wave=wave: [staging.write(result_of(segment)) for segment in wave.waiting])
            begun += len(wave.waiting)
            if not checked and 2 * begun >= work_list.waiting:
                checked = True
                half = spent.on("resume half done", plan)
                assert half.waiting == work_list.waiting - begun
            spent.on("publish", lambda wave=wave: publish(out, staging, wave.planned, ORIGIN, run_goes_on=True))
        staging.drop([])
        left = spent.on("resume all done", lambda: (read_videos(out), plan())[1])
        assert not left.waiting and not left.pending
        shown = spent.on("status", lambda: status_of(out))
        assert {video["status"] for video in shown} == {"mapped"}
    return {
        "videos": videos,
        "segments": work_list.segments,
        "wall_s": spent.wall_s,
        "cpu_s": spent.cpu_s,
        "peak_mb": peak_mb(),
    }


def hours(videos: int, segments: int) -> dict:
    """Planning alone, for videos of an hour each: the work list, and all of its waves."""
    entries = synthetic(videos, segments)
    cpu_s = time.process_time()
    with tempfile.TemporaryDirectory() as out:
        work_list = build_work_list(out, Staging(out, RECIPE), entries, WindowSpec(), SEGMENT_S, RECIPE)
        in_waves = sum(len(wave.waiting) for wave in work_list.waves(WAVE_SEGMENTS))
        assert in_waves == work_list.segments == videos * segments
    return {
        "videos": videos,
        "segments": work_list.segments,
        "cpu_s": round(time.process_time() - cpu_s, 1),
        "peak_mb": peak_mb(),
    }


def synthetic(videos: int, segments: int) -> list[ArchiveFile]:
    """Entries of an archive that does not exist."""
    return [
        ArchiveFile(
            Video(digest("video", n), f"/archive/{n:06d}.mp4", 10**9, segments * SEGMENT_S, 1920, 1080, 30.0, "h264"),
            str(n),
        )
        for n in range(videos)
    ]


def result_of(segment: Segment) -> SegmentResult:
    """A result as tagging would stage it, with TAGS predictions."""
    tags = [
        Prediction(start, start + 2.5, "micro", f"tag {n % 3}", f"category {n * 7 % 5}", 0.5 + n / 100)
        for n in range(TAGS)
        for start in (segment.start_s + n // 3 * 2.5,)
    ]
    return SegmentResult(segment, tags, [], "run", TAGS, 0, {"decode": 6.0, "encode": 1.0})


class Spent:
    """Wall and CPU seconds of this process by phase; a phase that is measured several times adds up."""

    def __init__(self):
        self.wall_s, self.cpu_s = {}, {}

    def on(self, phase: str, function):
        """Calls ``function``, adds its time to ``phase``, and returns its result."""
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        result = function()
        self.wall_s[phase] = round(self.wall_s.get(phase, 0) + time.perf_counter() - wall_s, 3)
        self.cpu_s[phase] = round(self.cpu_s.get(phase, 0) + time.process_time() - cpu_s, 3)
        return result


def peak_mb() -> float:
    """The most memory that this process has held."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


# Files ----------------------------------------------------------------------------------------------------------------


def files(count: int) -> dict:
    """Listing, identifying and probing ``count`` real videos of 2 s, core-ms each; and again, when nothing changed."""
    import av
    import numpy as np

    with tempfile.TemporaryDirectory() as archive:
        first = Path(archive) / "first.mp4"
        with av.open(str(first), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for n in range(20):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * n, np.uint8))))
            container.mux(stream.encode())
        whole = first.read_bytes()
        first.unlink()
        for n in range(count):  # a box that players skip makes each of them another video
            Path(archive, f"{n:05d}.mp4").write_bytes(whole + (24).to_bytes(4, "big") + b"free" + b"%016d" % n)
        new_s, wall_s = _cpu_with_children(), time.perf_counter()
        entries = take_inventory(list_videos(archive))
        new_s, wall_s = _cpu_with_children() - new_s, time.perf_counter() - wall_s
        assert len({entry.video.video_id for entry in entries}) == count and all(entry.is_mapped for entry in entries)
        known_s = _cpu_with_children()
        take_inventory(list_videos(archive), {entry.video.uri: entry for entry in entries})
        known_s = _cpu_with_children() - known_s
    return {
        "files": count,
        "new_ms": 1000 * new_s / count,
        "known_ms": 1000 * known_s / count,
        "new_wall_ms": 1000 * wall_s / count,
    }


def _cpu_with_children() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


# Slots ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SleepOptions:
    """Instead of ``DecodeOptions`` and ``TagOptions``."""

    sleep_s: float = 0.0
    device: str = "cpu"


class SleepingDecoder:
    """Instead of ``DecodeStage``: the same rows, no frames."""

    def __init__(self, options: SleepOptions):
        self.sleep_s = options.sleep_s

    def __call__(self, segments: pa.Table) -> pa.Table:
        """Sleeps, and gives the segments back."""
        time.sleep(self.sleep_s)
        return segments


class SleepingTagger:
    """Instead of ``TagStage``: every segment is done."""

    def __init__(self, options: SleepOptions):
        pass

    def __call__(self, segments: pa.Table) -> pa.Table:
        """Rows of OUTCOME_SCHEMA."""
        names = ["segment_id", "video_id", "start_s", "stop_s"]
        rows = [{**row, "state": "done", "message": "", "profile": []} for row in segments.select(names).to_pylist()]
        return pa.Table.from_pylist(rows, schema=OUTCOME_SCHEMA)


def slots(count: int, nodes: int = 4, sleep_s: float = 1.0) -> dict:
    """Segments per second through ``pipeline.stream_outcomes`` on a cluster of ``nodes``, with ``count`` decoding
    actors: when each of them sleeps for a second per segment, and when none does."""
    import ray
    from ray.cluster_utils import Cluster

    from halsted_ray.compute.pools import ActorPool, Pools
    from halsted_ray.mapping import pipeline

    pipeline.DecodeStage, pipeline.TagStage = SleepingDecoder, SleepingTagger
    pools = Pools(ActorPool(count, 1.0), ActorPool(max(1, count // 8), 1.0))
    cpus = -(-(count + pools.encoders.actors) // nodes) + 1
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus + 2, "object_store_memory": 10**8})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=cpus, object_store_memory=10**8)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")

        def rate(segments: int, sleep_s: float) -> tuple[float, float]:
            """(segments per second, core-ms per segment) between the first tenth and the last, so without the start."""
            todo = [Segment(str(n), "video", "/archive/video.mp4", 0.0, 60.0, 60.0) for n in range(segments)]
            outcomes = pipeline.stream_outcomes(todo, SleepOptions(sleep_s), SleepOptions(), pools, 1)
            for done, _ in enumerate(outcomes, 1):
                if done == segments // 10:
                    started_s, before = time.perf_counter(), _cpu_of_descendants()
                if done == segments - count:
                    break
            counted = segments - count - segments // 10
            took_s, after = time.perf_counter() - started_s, _cpu_of_descendants()
            # Actors of the run before may end meanwhile: their seconds are no part of this one.
            core_s = sum(spent - before.get(pid, 0.0) for pid, spent in after.items())
            for _ in outcomes:
                pass
            return counted / took_s, 1000 * core_s / counted

        sleeping, _ = rate(count * 12, sleep_s)
        free, core_ms = rate(1000, 0.0)
    finally:
        ray.shutdown()
        cluster.shutdown()
    return {
        "slots": count,
        "nodes": nodes,
        "sleep_s": sleep_s,
        "rate": sleeping,
        "ideal_rate": count / sleep_s,
        "free_rate": free,
        "core_ms": core_ms,
        "driver_peak_mb": peak_mb(),
    }


def _cpu_of_descendants() -> dict[int, float]:
    """Process → CPU seconds, of this process and of all below it: driver, GCS, raylets, workers (Linux)."""
    parent, seconds = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:  # ended meanwhile
            continue
        parent[int(path.parent.name)] = int(fields[1])
        seconds[int(path.parent.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_ours(pid: int) -> bool:
        while pid and pid != os.getpid():
            pid = parent.get(pid, 0)
        return pid == os.getpid()

    return {pid: spent for pid, spent in seconds.items() if is_ours(pid)}


# Drawing --------------------------------------------------------------------------------------------------------------


def draw(found: dict, path: Path) -> None:
    """CPU seconds of each phase against the number of segments, on logarithmic axes, as an SVG."""
    from math import log10

    sizes = sorted(found["tables"], key=lambda size: size["segments"])
    phases = list(sizes[0]["cpu_s"])
    width, height, left, bottom = 640, 400, 60, 50
    last = 6e6  # 100,000 video-hours
    x0, x1 = log10(sizes[0]["segments"]), log10(last)
    y0, y1 = -2.0, 4.5

    def x(segments: float) -> float:
        return left + (width - left - 130) * (log10(segments) - x0) / (x1 - x0)

    def y(seconds: float) -> float:
        return height - bottom - (height - bottom - 20) * (log10(max(seconds, 0.01)) - y0) / (y1 - y0)

    colours = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2", "#97bbf5")
    text = 'font-family="sans-serif" font-size="12"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for power in range(-2, 5):
        parts.append(
            f'<line x1="{left}" x2="{width - 130}" y1="{y(10**power):.0f}" y2="{y(10**power):.0f}" '
            f'stroke="#ddd"/><text x="8" y="{y(10**power) + 4:.0f}" {text}>{10**power:g} s</text>'
        )
    for power in range(int(x0), 7):
        if power >= x0:
            parts.append(f'<text x="{x(10**power) - 15:.0f}" y="{height - 30}" {text}>{10**power:,}</text>')
    parts.append(
        f'<text x="{left}" y="{height - 10}" {text}>segments of 60 s; dashed: extrapolated to 100,000 '
        "video-hours; CPU seconds of the driver</text>"
    )
    label_y = float("inf")
    for phase, colour in sorted(zip(phases, colours, strict=False), key=lambda pair: sizes[-1]["cpu_s"][pair[0]]):
        points = [(x(size["segments"]), y(size["cpu_s"][phase])) for size in sizes]
        line = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        final = sizes[-1]["cpu_s"][phase] * last / sizes[-1]["segments"]
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in points]
        parts.append(
            f'<line x1="{points[-1][0]:.1f}" y1="{points[-1][1]:.1f}" x2="{x(last):.1f}" y2="{y(final):.1f}" '
            f'stroke="{colour}" stroke-dasharray="4"/>'
        )
        label_y = min(y(final) + 4, label_y - 14)  # from the lowest up, so that none covers another
        parts.append(f'<text x="{x(last) + 6:.0f}" y="{label_y:.0f}" fill="{colour}" {text}>{phase}</text>')
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


PARTS = {
    "tables": tables,
    "hours": hours,
    "files": lambda count, _: files(count),
    "slots": lambda count, _: slots(count),
}


def main() -> None:
    """Measures what the options ask for, writes the results, and prints them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--segments", type=int, default=5, help="of each video (default 5)")
    parser.add_argument("--slots", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--parts", nargs="+", default=["tables", "files", "slots"], choices=PARTS)
    parser.add_argument("--only", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        part, *sizes = options.only
        print(json.dumps(PARTS[part](*map(int, sizes))))
        return
    from run import hardware  # here, since what it imports would count as the engine's memory

    path = RESULTS / "simulate.json"
    before = json.loads(path.read_text())["measured"] if path.exists() else {}
    entries, found = measure(
        tuple((videos, options.segments) for videos in options.videos),
        tuple(options.slots),
        options.files,
        tuple(options.parts),
        before,
    )
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps({"hardware": hardware(), "entries": entries, "measured": found}, indent=1) + "\n")
    if "tables" in options.parts:
        draw(found, RESULTS / "simulate.svg")
    for row in entries:
        bar = "" if row["bar"] is None else f"  bar {row['bar']:g}: {'holds' if row['holds'] else 'MISSED'}"
        print(f"{row['name']:76} {row['value']:>10,.2f} {row['unit']}{bar}")


if __name__ == "__main__":
    main()
