"""A disk that gets full under a run: what was published stays, and the same command goes on when there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numbered_video
import pytest
import torch
from ray_actors import mark_children
from small_disk import fill, small_disk

import halsted_ray
from halsted_ray.mapping.publish import read_timeline
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import WindowSpec

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.slow]

SECONDS = 150
SEGMENTS = 2 * SECONDS // 5
PATIENCE_S = 240.0
DRIVER = """
import sys
from halsted_ray.mapping.pipeline import map_archive
summary = map_archive(sys.argv[1], sys.argv[2], sys.argv[3], segment_s=5, decoders=2, taggers=1)
print(summary.segments_before, summary.segments_decoded)
"""


@pytest.fixture(scope="module")
def nodes():
    """A cluster of two nodes, the actors' CPUs on the second: (cluster, environment of its drivers)."""
    from ray.cluster_utils import Cluster

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "OMP_NUM_THREADS": "1"}
    mark_children()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=4)
        yield cluster, {**os.environ, "RAY_ADDRESS": cluster.address,
                        "PYTHONPATH": str(Path(halsted_ray.__file__).parents[1])}
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for number in (1, 2):
        recipe = numbered_video.Recipe(frames=SECONDS * 10, rate=10, gop=20 + number, size=(96, 160))
        numbered_video.write(folder / f"{number}.mp4", recipe)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    torch.set_num_threads(1)
    folder, encoder = str(tmp_path_factory.mktemp("model")), Encoder.create("tiny", 0)
    Halsted.create(None, encoder.dim, encoder_ref=encoder.ref, encoder_fingerprint=encoder.fingerprint, heads=4,
                   width=64, windows=WindowSpec(coarse_s=5, fine_s=2.5), seed=0).save(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(nodes, archive, model, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    done = subprocess.run([sys.executable, "-c", DRIVER, archive, out, model], env=nodes[1], capture_output=True,
                          text=True, timeout=PATIENCE_S)
    assert done.stdout.split() == ["0", str(SEGMENTS)], done.stderr
    return out


def test_a_disk_that_gets_full_is_named_and_the_run_goes_on_when_there_is_room(nodes, archive, model, undisturbed,
                                                                              tmp_path):
    with small_disk(tmp_path / "disk", 4) as disk:
        out, some = disk / "out", tmp_path / "some"
        some.mkdir()
        shutil.copy(archive / "1.mp4", some)

        def run() -> subprocess.CompletedProcess:
            command = [sys.executable, "-m", "halsted_ray.cli", "map", some, "--out", out, "--model", model]
            return subprocess.run(command, env=nodes[1], capture_output=True, text=True, timeout=PATIENCE_S)

        first = run()
        assert first.returncode == 0, first.stderr
        published = read_timeline(str(out))
        shutil.copy(archive / "2.mp4", some)
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
