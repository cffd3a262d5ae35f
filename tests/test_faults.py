"""Real processes killed at random points of a run: nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from ray_actors import actors_of

from halsted_ray.maps.reading import read_segments, read_timeline
from halsted_ray.maps.status import status_of
from halsted_ray.storage.vectors import stores_at

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("HALSTED_FAULT_SEED", "20"))
SECONDS = 240
SEGMENTS = 2 * SECONDS // 5
KILLS = ["decoder"] * 3 + ["tagger"] * 3 + ["node"] * 2 + ["driver"]
"""In an order drawn from SEED. Decoding runs ahead of tagging and its actors are gone when it is done: their turn is
put off then, and where nothing else is left the driver is killed once more. The last kill falls into the publishing."""
PATIENCE_S = 240.0


class StagingWatcher:
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


def test_ten_kills_change_nothing(nodes, driver_of, undisturbed, tmp_path):
    cluster, environment = nodes
    out, chance = tmp_path / "out", random.Random(SEED)
    kinds = KILLS.copy()
    chance.shuffle(kinds)
    print(f"seed {SEED}: {kinds}")
    watcher, killed = StagingWatcher(out), set()

    def alive(kind: str) -> list[int]:
        stage = {"decoder": "DecodeStage", "tagger": "TagStage"}[kind]
        return sorted(set(actors_of(stage)) - killed)

    def start() -> subprocess.Popen:
        return subprocess.Popen(
            driver_of(out), env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def kill_driver() -> subprocess.Popen:
        driver.send_signal(signal.SIGKILL)
        driver.communicate()
        return start()

    driver = start()
    try:
        wait_for("a decoder", lambda: alive("decoder"), driver)
        while kinds:
            enough = len(watcher.seen) + chance.randint(0, 2)
            wait_for("the next result", lambda enough=enough: len(watcher.seen) >= enough, driver)
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
            print(f"{kind} killed at {len(watcher.seen)} of {SEGMENTS} segments")
        wait_for("publishing", (out / "segments" / "_delta_log").exists, driver)
        driver = kill_driver()
        print("driver killed while it published")
        printed, complaint = driver.communicate(timeout=PATIENCE_S)
        assert driver.returncode == 0, complaint
        assert printed.split() == [str(SEGMENTS), "0"], "what was finished is not done again"
    finally:
        driver.kill()
        driver.communicate()
        watcher.stop()
    assert len(watcher.seen) == SEGMENTS
    assert [name for name, versions in watcher.seen.items() if len(versions) > 1] == [], "finished twice"
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
    """Every stored window, with its vector: how often a video was packed stands in the names of files."""
    found = {
        f"{store.root.removeprefix(str(out))} {video.video_id} {key}": row.tobytes()
        for store in stores_at(f"{out}/embeddings")
        for video in store.read_videos()
        for key, row in zip(video.keys, video.vectors_ND, strict=True)
    }
    assert found
    return found
