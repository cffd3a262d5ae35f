"""A local run listens on loopback alone, in every process that it starts. The service: test_serve_app.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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
