"""A node that stalls on a busy machine is not given up; a node that is gone is noticed soon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from conftest import QUICK_TO_NOTICE

import halsted_ray
from halsted_ray.compute.cluster import PATIENCE

pytestmark = pytest.mark.slow
RAYS_PATIENCE_S = 10.0
LOCAL_RUN = """
import os, sys, time
from halsted_ray.compute.cluster import connected
with connected():
    import ray
    print("ready", flush=True)
    sys.stdin.readline()
    print(ray.get(ray.remote(lambda: "computed").remote(), timeout=300))
"""


def raylets_of(parent: int) -> Iterator[int]:
    """Process ids of the raylets that a process started, itself or by its children."""
    for child in children_of(parent):
        if Path(f"/proc/{child}/comm").read_text().strip() == "raylet":
            yield child
        yield from raylets_of(child)


def children_of(pid: int) -> list[int]:
    return [
        int(child)
        for thread in Path(f"/proc/{pid}/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]


def test_a_local_run_outlives_a_stall_that_ray_by_itself_takes_for_the_death_of_the_machine():
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    for name in PATIENCE:
        del environment[name]  # the tests have set it, and the run must set it itself
    # One answer that is missing is enough here, so that the test needs one patience and not five.
    environment |= {"RAY_health_check_failure_threshold": "1", "RAY_health_check_initial_delay_ms": "0"}
    environment |= {"RAY_health_check_period_ms": "100", "PYTHONPATH": str(Path(halsted_ray.__file__).parents[1])}
    words = [sys.executable, "-c", LOCAL_RUN]
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout.readline(), "Ray did not start"
            (raylet,) = raylets_of(run.pid)
            os.kill(raylet, signal.SIGSTOP)
            time.sleep(RAYS_PATIENCE_S + 3)
            os.kill(raylet, signal.SIGCONT)
            assert run.communicate("go on\n", timeout=300)[0] == "computed\n"
        finally:
            run.kill()


def test_a_node_whose_process_is_gone_is_noticed_long_before_the_patience_with_a_stalled_one_ends():
    from ray.cluster_utils import Cluster

    ray.shutdown()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "_system_config": QUICK_TO_NOTICE},
    )
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        cluster.add_node(num_cpus=1)
        assert sum(node["Alive"] for node in ray.nodes()) == 2
        began_s = time.monotonic()
        for info in cluster.list_all_nodes()[1].all_processes["raylet"]:
            os.kill(info.process.pid, signal.SIGKILL)
        while sum(node["Alive"] for node in ray.nodes()) == 2:
            assert time.monotonic() - began_s < QUICK_TO_NOTICE["health_check_timeout_ms"] / 1000
            time.sleep(0.1)
        print(f"noticed after {time.monotonic() - began_s:.1f} s")
    finally:
        ray.shutdown()
        cluster.shutdown()
