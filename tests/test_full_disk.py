"""A disk that gets full under a run: what was published stays, and the same command goes on when there is room."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_disk import fill, small_disk

from halsted_ray.maps.reading import read_timeline

pytestmark = pytest.mark.slow

SECONDS = 150
PATIENCE_S = 240.0


def test_a_disk_that_gets_full_is_named_and_the_run_goes_on_when_there_is_room(
    nodes, two_videos, small_model, undisturbed, tmp_path
):
    with small_disk(tmp_path / "disk", 4) as disk:
        out, some = disk / "out", tmp_path / "some"
        some.mkdir()
        shutil.copy(two_videos / "1.mp4", some)

        def run() -> subprocess.CompletedProcess:
            command = [sys.executable, "-m", "halsted_ray.cli", "map", some, "--out", out, "--model", small_model]
            return subprocess.run(command, env=nodes[1], capture_output=True, text=True, timeout=PATIENCE_S)

        first = run()
        assert first.returncode == 0, first.stderr
        published = read_timeline(str(out))
        shutil.copy(two_videos / "2.mp4", some)
        for leave_bytes in (0, 64 * 1024):  # nothing can be begun; it gets full while segments are stored
            ballast = fill(disk, leave_bytes)
            full = run()
            assert full.returncode == 2, full.stderr
            complaint = full.stderr.splitlines()[-1]
            assert complaint.startswith("halsted map: ") and str(out) in complaint, full.stderr
            assert "No space left on device" in complaint and "make room and give the same command" in complaint
            assert "Traceback" not in full.stderr
            assert read_timeline(str(out)).equals(published)
            ballast.unlink()
        last = run()
        assert last.returncode == 0, last.stderr

        def rows(place: Path) -> list[dict]:
            return [{**row, "uri": ""} for row in read_timeline(str(place)).to_pylist()]

        assert rows(out) == rows(undisturbed)
