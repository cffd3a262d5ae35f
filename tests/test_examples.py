"""The examples run as they are, each in a process of its own, as a reader starts them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def run(name: str, *arguments: object) -> str:
    """What an example prints; fails with its complaint."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=500,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_list_of_examples_is_whole():
    listed = set(re.findall(r"`(\w+\.py)`", (EXAMPLES / "README.md").read_text(encoding="utf-8")))
    assert listed == {path.name for path in EXAMPLES.glob("*.py")}


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """(folder of the first example, what it printed)"""
    folder = tmp_path_factory.mktemp("example")
    return folder, run("map_a_folder.py", folder)


@pytest.mark.slow
def test_map_a_folder(mapped):
    assert mapped[1].count(" mapped") == 2 and ("Suturing" in mapped[1] or "Dissection" in mapped[1])


@pytest.mark.slow
def test_read_with_duckdb(mapped):
    told = run("read_with_duckdb.py", mapped[0] / "maps")
    assert "specialty" in told and "1.0" in told


@pytest.mark.slow
def test_own_taxonomy(tmp_path):
    told = run("own_taxonomy.py", tmp_path)
    assert "'handwork'" in told and (tmp_path / "run/model/model.json").exists()


@pytest.mark.slow
def test_own_encoder(tmp_path):
    assert "encoder of width 192" in run("own_encoder.py", tmp_path)
