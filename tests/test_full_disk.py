"""A disk that gets full under a run: what was published stays, and the same command goes on when there is room."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from in_process import halsted
from small_disk import fill, small_disk

from halsted_ray.compute.resources import ResourceRequest
from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.maps.reading import read_timeline

pytestmark = pytest.mark.slow

SECONDS = 150


def test_a_disk_that_gets_full_is_named_and_the_run_goes_on_when_there_is_room(
    one_ray, two_videos, small_model, tmp_path
):
    undisturbed = tmp_path / "undisturbed"
    map_archive(str(two_videos), str(undisturbed), small_model, resources=ResourceRequest(decoders=1, encoders=1))
    with small_disk(tmp_path / "disk", 4) as disk:
        out, some = disk / "out", tmp_path / "some"
        some.mkdir()
        shutil.copy(two_videos / "1.mp4", some)

        def run() -> tuple[int, str]:
            code, _, complaint = halsted("map", some, "--out", out, "--model", small_model)
            return code, complaint

        code, complaint = run()
        assert code == 0, complaint
        published = read_timeline(str(out))
        shutil.copy(two_videos / "2.mp4", some)
        for leave_bytes in (0, 64 * 1024):  # nothing can be begun; it gets full while segments are stored
            ballast = fill(disk, leave_bytes)
            code, complaint = run()
            assert code == 2, complaint
            last = complaint.splitlines()[-1]
            assert last.startswith("halsted map: ") and str(out) in last, complaint
            assert "No space left on device" in last and "make room and give the same command" in last
            assert "Traceback" not in complaint
            assert read_timeline(str(out)).equals(published)
            ballast.unlink()
        code, complaint = run()
        assert code == 0, complaint

        def rows(place: Path) -> list[dict]:
            return [{**row, "uri": ""} for row in read_timeline(str(place)).to_pylist()]

        assert rows(out) == rows(undisturbed)
