"""Real processes killed at random points of a run: nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numbered_video
import pytest
import torch
from ray_actors import actors_of, mark_children

import halsted_ray
from halsted_ray.mapping.publish import read_segments, read_timeline
from halsted_ray.mapping.status import status_of
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import WindowSpec

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.slow]

SEED = int(os.environ.get("HALSTED_FAULT_SEED", "20"))
SECONDS = 240
SEGMENTS = 2 * SECONDS // 5
KILLS = ["decoder"] * 3 + ["tagger"] * 3 + ["node"] * 2 + ["driver"]
"""In an order drawn from SEED. Decoding runs ahead of tagging and its actors are gone when it is done: their turn is
put off then, and where nothing else is left the driver is killed once more. The last kill falls into the publishing."""
PATIENCE_S = 240.0
DRIVER = """
import sys
from halsted_ray.mapping.pipeline import map_archive
summary = map_archive(sys.argv[1], sys.argv[2], sys.argv[3], segment_s=5, decoders=2, taggers=1)
print(summary.segments_before, summary.segments_decoded)
"""
QUICK_TO_NOTICE = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000,
                   "health_check_timeout_ms": 5000, "health_check_failure_threshold": 3}
"""A node's death is noticed after 3 s, where Ray's own settings take 15."""


@pytest.fixture(scope="module")
def nodes():
    """A cluster of two nodes, the actors' CPUs on the second: (cluster, environment of its drivers)."""
    from ray.cluster_utils import Cluster

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "OMP_NUM_THREADS": "1"}
    mark_children()
    cluster = Cluster(initialize_head=True, head_node_args={
        "num_cpus": 2, "include_dashboard": False, "_system_config": QUICK_TO_NOTICE})
    try:
        cluster.add_node(num_cpus=4)
        yield cluster, {**os.environ, "RAY_ADDRESS": cluster.address,
                        "PYTHONPATH": str(Path(halsted_ray.__file__).parents[1])}
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for number in (1, 2):
        recipe = numbered_video.Recipe(frames=SECONDS * 10, rate=10, gop=20 + number, size=(96, 160))
        numbered_video.write(folder / f"{number}.mp4", recipe)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    torch.set_num_threads(1)
    folder, encoder = str(tmp_path_factory.mktemp("model")), Encoder.create("tiny", 0)
    Halsted.create(None, encoder.dim, encoder_ref=encoder.ref, encoder_fingerprint=encoder.fingerprint, heads=4,
                   width=64, windows=WindowSpec(coarse_s=5, fine_s=2.5), seed=0).save(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(nodes, archive, model, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    done = subprocess.run([sys.executable, "-c", DRIVER, archive, out, model], env=nodes[1], capture_output=True,
                          text=True, timeout=PATIENCE_S)
    assert done.stdout.split() == ["0", str(SEGMENTS)], done.stderr
    return out


class Watch:
    """Looks at the staged results all the time: segment → its (inode, time of change), once for every time it was
    finished."""

    def __init__(self, out: Path):
        self.out, self.seen, self._over = out, {}, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.01):
            for path in self.out.glob("staging/*/*/*.json"):
                try:
                    found = path.stat()
                except FileNotFoundError:  # published meanwhile
                    continue
                self.seen.setdefault(path.name, set()).add((found.st_ino, found.st_mtime_ns))

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


def wait_for(what, condition, driver: subprocess.Popen):
    until_s = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert driver.poll() is None, f"the run was over before {what}: {driver.stderr.read()[-2000:]}"
        assert time.monotonic() < until_s, f"no {what} within {PATIENCE_S:.0f} s"
        time.sleep(0.01)
    return found


def test_ten_kills_change_nothing(nodes, archive, model, undisturbed, tmp_path):
    cluster, environment = nodes
    out, chance = tmp_path / "out", random.Random(SEED)
    kinds = KILLS.copy()
    chance.shuffle(kinds)
    print(f"seed {SEED}: {kinds}")
    watch, killed = Watch(out), set()

    def alive(kind: str) -> list[int]:
        stage = {"decoder": "DecodeSegments", "tagger": "TagSegments"}[kind]
        return sorted(set(actors_of(stage)) - killed)

    def start() -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", DRIVER, archive, out, model], env=environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def kill_driver() -> subprocess.Popen:
        driver.send_signal(signal.SIGKILL)
        driver.communicate()
        return start()

    driver = start()
    try:
        wait_for("a decoder", lambda: alive("decoder"), driver)
        while kinds:
            enough = len(watch.seen) + chance.randint(0, 2)
            wait_for("the next result", lambda enough=enough: len(watch.seen) >= enough, driver)
            time.sleep(chance.uniform(0, 0.4))
            kind = next((kind for kind in kinds if kind != "decoder" or alive(kind)), "driver")
            if kind in kinds:
                kinds.remove(kind)
            if kind == "driver":
                driver = kill_driver()
                wait_for("a decoder", lambda: alive("decoder"), driver)
            elif kind == "node":
                cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
                cluster.add_node(num_cpus=4, wait=False)
            else:
                victim = chance.choice(wait_for(f"a {kind}", lambda kind=kind: alive(kind), driver))
                killed.add(victim)
                os.kill(victim, signal.SIGKILL)
            print(f"{kind} killed at {len(watch.seen)} of {SEGMENTS} segments")
        wait_for("publishing", (out / "segments" / "_delta_log").exists, driver)
        driver = kill_driver()
        print("driver killed while it published")
        printed, complaint = driver.communicate(timeout=PATIENCE_S)
        assert driver.returncode == 0, complaint
        assert printed.split() == [str(SEGMENTS), "0"], "what was finished is not done again"
    finally:
        driver.kill()
        driver.communicate()
        watch.stop()
    assert len(watch.seen) == SEGMENTS
    assert [name for name, versions in watch.seen.items() if len(versions) > 1] == [], "finished twice"
    assert read_timeline(str(out)).equals(read_timeline(str(undisturbed)))
    assert decisions(out) == decisions(undisturbed)
    assert vectors(out) == vectors(undisturbed)
    assert {video["status"] for video in status_of(str(out))} == {"mapped"}


def decisions(out: Path) -> list[tuple]:
    """What every segment came to, each of them once."""
    rows = read_segments(str(out), ["segment_id", "video_id", "start_s", "stop_s", "state", "tags", "gaps"]).to_pylist()
    assert len({row["segment_id"] for row in rows}) == len(rows)
    return sorted((row["video_id"], row["start_s"], str(row)) for row in rows)


def vectors(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("embeddings/**/*.parquet"))}
