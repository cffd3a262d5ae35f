"""A local run and the service listen on loopback alone, in every process that they start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from listening import beyond_loopback, listening
from serving import shared_model
from test_serve_site import free_port

ROOT = Path(__file__).parent.parent
LOCAL_RUN = """
import json, os, sys
sys.path.insert(0, "tests")
import ray
from halsted_ray.compute.cluster import connected
from listening import beyond_loopback, listening
with connected():
    ray.get(ray.remote(lambda: 1).remote())
    found = {" ".join(map(str, place)): who for place, who in beyond_loopback(os.getpid()).items()}
    print(json.dumps([len(listening(os.getpid())), found]))
"""


def test_ray_of_a_local_run_listens_on_loopback_alone():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", LOCAL_RUN], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    number, beyond = json.loads(done.stdout.splitlines()[-1])
    assert number >= 5 and beyond == {}


def test_the_service_on_loopback_listens_nowhere_else(tmp_path):
    """Its deployments have their ports too: whoever reaches the gRPC port of a replica runs code in it."""
    words = ["serve", "run", "--state", str(tmp_path), "--model", str(shared_model()), "--port", str(free_port())]
    environment = {**os.environ, "HALSTED_DEIDENTIFY": "off"}
    with (
        open(tmp_path / "said", "w+") as said,
        subprocess.Popen(
            [sys.executable, "-m", "halsted_ray.cli", *words], stdout=said, stderr=said, env=environment
        ) as service,
    ):
        try:
            until_s = time.monotonic() + 240
            while "address:" not in (tmp_path / "said").read_text():
                assert service.poll() is None and time.monotonic() < until_s, (tmp_path / "said").read_text()
                time.sleep(0.5)
            found = listening(service.pid)
            assert sum("ServeReplica" in who for who in found.values()) >= 6, "each replica has two ports"
            assert beyond_loopback(service.pid) == {}
        finally:
            service.terminate()
