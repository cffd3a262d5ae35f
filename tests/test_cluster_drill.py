"""Mapping and training on real nodes of this machine: two nodes, jobs that are submitted, and the drill."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "cluster"))

import drill as drills  # noqa: E402
from nodes import Nodes  # noqa: E402

from halsted_ray.atlas.phantom_archive import write_archive  # noqa: E402
from halsted_ray.maps.reading import read_timeline  # noqa: E402
from halsted_ray.maps.status import status_of  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drill(tmp_path_factory):
    """A drill whose archive is mapped on one machine."""
    place = tmp_path_factory.mktemp("drill")
    write_archive(str(place / "archive"), 8, 0.5, 0, width=192, height=108, fps=8)
    drill = drills.Drill(place, place / "archive", drills.untrained(place))
    drill.one_machine()
    return drill


TWO_NODES = """
import sys, threading
import ray
from ray.cluster_utils import Cluster
from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.compute.progress import RunObserver
from halsted_ray.compute.resources import ResourceRequest

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
cluster.add_node(num_cpus=3)
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
listed = threading.Event()

class Listed(RunObserver):
    def on_message(self, line):
        print(line, "on", ray.cluster_resources().get("CPU"), "CPUs", flush=True)
        listed.set()

job = threading.Thread(target=map_archive, args=sys.argv[1:],
                       kwargs={"resources": ResourceRequest(wait_for=(6, 0)), "observer": Listed()})
job.start()
listed.wait()
cluster.add_node(num_cpus=3)
job.join()
ray.shutdown()
cluster.shutdown()
"""


def test_two_nodes_give_the_rows_of_one_and_a_late_one_is_waited_for(drill, tmp_path):
    """The head has no CPUs; the second worker comes when the job has begun, and is used. In a process of its own,
    since Ray remembers the first token that a process has seen."""
    (tmp_path / "token").write_text(secrets.token_hex(32))
    out = str(drill.place / "two-nodes")
    run = subprocess.run(
        [sys.executable, "-c", TWO_NODES, drill.archive, out, drill.models[0]],
        timeout=400,
        text=True,
        capture_output=True,
        env={
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"),
        },
    )
    lines = run.stdout.splitlines() or [""]
    first, last = next((line for line in lines if "segments to do" in line), ""), lines[-1]
    assert "8 of 8 segments" in first and "on 3.0 CPUs" in lines[0], run.stdout + run.stderr
    assert "pools: " in last and "on 6.0 CPUs" in last, run.stdout + run.stderr
    assert read_timeline(out).equals(drill.expected)


@pytest.fixture(scope="module")
def nodes():
    """A head and two workers, of which the drill at the end of this file leaves other ones."""
    with Nodes() as nodes:
        drills.start(nodes)
        yield nodes


def submit(nodes, *words, **environment):
    return subprocess.run(
        [sys.executable, ROOT / "jobs" / "submit.py", *map(str, words)],
        env={**nodes.environment, **environment},
        capture_output=True,
        text=True,
        timeout=400,
    )


def test_the_exit_code_of_a_job_reaches_who_submitted_it(nodes, drill, tmp_path):
    wrong = submit(nodes, "map_archive", drill.archive, "--out", tmp_path / "out", "--model", tmp_path / "nowhere")
    assert wrong.returncode == 2 and "nowhere" in wrong.stdout, wrong.stderr
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "Jane Doe.mp4").write_text("not a video")
    failed = submit(nodes, "map_archive", tmp_path / "archive", "--out", tmp_path / "out", "--model", drill.models[0])
    assert failed.returncode == 3 and "1 failed" in failed.stdout, failed.stderr
    assert "Jane" not in failed.stdout + failed.stderr
    assert [video["status"] for video in status_of(str(tmp_path / "out"))] == ["failed"]


def test_a_wrong_token_is_refused(nodes, drill, tmp_path):
    token = tmp_path / "token"
    token.write_text(secrets.token_hex(32))
    refused = submit(
        nodes,
        "map_archive",
        drill.archive,
        "--out",
        tmp_path / "out",
        "--model",
        drill.models[0],
        RAY_AUTH_TOKEN_PATH=str(token),
    )
    assert refused.returncode == 2 and "token is invalid" in refused.stderr, refused.stderr
    assert not (tmp_path / "out").exists()
    ping = subprocess.run(
        [sys.executable, "-c", "import ray; ray.init()"],
        capture_output=True,
        timeout=120,
        text=True,
        env={**nodes.environment, "RAY_ADDRESS": nodes.address, "RAY_AUTH_TOKEN_PATH": str(token)},
    )
    assert ping.returncode and "oken" in ping.stderr


def test_training_is_submitted_too(nodes, tmp_path):
    """On two videos and for few steps: more say no more."""
    write_archive(str(tmp_path / "atlas"), 2, 0.5, 0, width=192, height=108, fps=8, validation=0.5)
    few = ["--recipe", "best", "--set", "epochs=2", "--set", "warmup_epochs=1", "--set", "least_steps=0"]
    run = submit(nodes, "train", "--atlas", tmp_path / "atlas", "--out", tmp_path / "run", *few, "--registry", "none")
    assert run.returncode == 0, run.stdout + run.stderr
    assert (tmp_path / "run" / "model" / "model.json").is_file()


def test_embedding_is_submitted_too(nodes, tmp_path):
    """With the job's own exit code: one of the files is no video."""
    write_archive(str(tmp_path / "archive"), 1, 0.5, 0, width=192, height=108, fps=8)
    (tmp_path / "archive" / "videos" / "Jane Doe.mp4").write_text("not a video")
    videos, vectors = tmp_path / "archive" / "videos", tmp_path / "vectors"
    run = submit(nodes, "embed", videos, "--encoder", "tiny", "--embeddings", vectors, "--windows", "coarse")
    assert run.returncode == 3 and "1 video, 1 file failed; 1 window: 0 stored before, 1 made" in run.stdout
    assert "Jane" not in run.stdout + run.stderr
    assert len(list(vectors.glob("*/*/*.arrow"))) == 1


def test_the_drill(nodes, drill):
    """A worker killed, the head killed, a worker drained, a model upgraded; the asserts stand in the drill."""
    drills.disturb(drill, nodes)
