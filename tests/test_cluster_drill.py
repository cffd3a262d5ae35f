"""Mapping and training on real nodes of this machine: two nodes, jobs that are submitted, and the drill."""

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

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drill(tmp_path_factory):
    """A drill whose archive is mapped on one machine."""
    place = tmp_path_factory.mktemp("drill")
    write_archive(str(place / "archive"), 8, 0.5, 0, width=192, height=108, fps=8)
    drill = drills.Drill(place, place / "archive", drills.untrained(place))
    drill.one_machine()
    return drill


@pytest.fixture(scope="module")
def nodes():
    """A head and one worker, with which the drill at the end of this file begins."""
    with Nodes() as nodes:
        drills.start(nodes, workers=1)
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
    """That of a job with a failed file reaches them in ``test_embedding_is_submitted_too``."""
    wrong = submit(nodes, "map_archive", drill.archive, "--out", tmp_path / "out", "--model", tmp_path / "nowhere")
    assert wrong.returncode == 2 and "nowhere" in wrong.stdout, wrong.stderr


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
    """A worker that comes late is waited for and then killed; the head is killed, a worker drained, a model upgraded;
    two nodes give the rows of one machine. The asserts stand in the drill."""
    drills.disturb(drill, nodes)
