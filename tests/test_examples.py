"""The examples run as they are, each in a process of its own, as a reader starts them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from halsted_ray.compute.cluster import connected

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def run():
    """(name, arguments) → what an example prints; fails with its complaint. All of them use one Ray, where each would
    start one."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_prestart_worker_first_driver", "0")
        with connected():
            patch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)

            def run_example(name: str, *arguments: object) -> str:
                words = [sys.executable, EXAMPLES / name, *map(str, arguments)]
                done = subprocess.run(words, capture_output=True, text=True, timeout=500)
                assert done.returncode == 0, done.stdout + done.stderr
                return done.stdout

            yield run_example


def test_the_list_of_examples_is_whole():
    listed = set(re.findall(r"`(\w+\.py)`", (EXAMPLES / "README.md").read_text(encoding="utf-8")))
    assert listed == {path.name for path in EXAMPLES.glob("*.py")}


@pytest.fixture(scope="module")
def mapped(run, tmp_path_factory):
    """(folder of the first example, what it printed)"""
    folder = tmp_path_factory.mktemp("example")
    return folder, run("map_a_folder.py", folder)


@pytest.mark.slow
def test_map_a_folder(mapped):
    assert mapped[1].count(" mapped") == 2 and ("Suturing" in mapped[1] or "Dissection" in mapped[1])


@pytest.mark.slow
def test_read_with_duckdb(run, mapped):
    told = run("read_with_duckdb.py", mapped[0] / "maps")
    assert "specialty" in told and "1.0" in told


@pytest.mark.slow
def test_own_taxonomy(run, tmp_path):
    told = run("own_taxonomy.py", tmp_path)
    assert "'handwork'" in told and (tmp_path / "run/model/model.json").exists()


@pytest.mark.slow
def test_own_encoder(run, tmp_path):
    assert "encoder of width 192" in run("own_encoder.py", tmp_path)
