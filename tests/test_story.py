"""Two versions of one model, from an atlas to a map and again, by the commands that a person would type."""

import re

import pytest
import yaml

from halsted_ray.cli import main
from halsted_ray.compute.cluster import connected
from halsted_ray.maps.reading import read_timeline
from halsted_ray.registry.gate import BOUNDS

PICTURE = ("--minutes", 2, "--size", "320x180", "--fps", 12)
CHOICES = ("epochs=16", "least_steps=0", "batch_size=64", "validate_every=16", "shifts_s=0.0", "least_share=0.5")
RECIPE = ("--recipe", "best", *(word for choice in CHOICES for word in ("--set", choice)))
"""Learns from seven videos in seconds. Such a model knows little; fewer videos would give hardly more windows than a
vector has numbers."""
LENIENT = {
    name: {side: 1.0 if side == "at_most" else 0.0, "reason": "models of seven videos"} for name, side in BOUNDS.items()
} | {"learned_test_videos": {"at_most": 0, "reason": "the other figures would be void"}}


@pytest.fixture
def halsted(tmp_path, monkeypatch, capsys):
    """Runs a command with a registry of its own; gives what the command printed."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")

    def run(*words):
        assert main([str(word) for word in words]) == 0
        return capsys.readouterr().out

    with connected():
        yield run


@pytest.mark.slow
def test_two_versions(halsted, tmp_path):
    annotated, archive, maps, gate = (tmp_path / name for name in ("annotated", "archive", "maps", "gate.yaml"))
    gate.write_text(yaml.safe_dump(LENIENT))
    halsted("phantom", annotated, "--videos", 10, "--seed", 11, "--test", 0.1, *PICTURE)
    halsted("phantom", archive, "--videos", 2, "--seed", 12, *PICTURE)  # nobody reads its annotations
    halsted("atlas", "release", annotated, "hsa-v1", "--why", "all that persons annotated")

    def train_and_promote(version):
        halsted(
            "train", "--atlas", annotated, "--release", f"hsa-v{version}", "--out", tmp_path / f"v{version}", *RECIPE
        )
        said = halsted(
            "registry",
            "promote",
            version,
            "--atlas",
            annotated,
            "--release",
            f"hsa-v{version}",
            "--gate",
            gate,
            "--deploy",
        )
        assert "passed, it is champion now" in said
        return said

    def map_and_ask(version):
        # Macro looks at every coarse window, whatever a model thinks: what one has seen is all that the next needs.
        said = halsted("map", archive, "--out", maps, "--task", "macro", "--model", "registry:halsted@champion")
        rows = read_timeline(str(maps)).to_pylist()
        assert rows and {row["atlas_release"] for row in rows} == {f"hsa-v{version}"}
        for row in (rows[0], rows[-1]):
            told = halsted("lineage", maps, "--row", f"{row['video_id']}:{row['start_s']}:{row['tag']}")
            assert re.search(rf"^model +version {version} @champion", told, re.M)
            assert re.search(rf"^atlas +hsa-v{version}, version \d+ of ", told, re.M)
            assert f"model {row['model_version']}" in told and f"{row['tag']} {row['category']}" in told
        return said

    assert "against no champion" in train_and_promote(1)
    assert "4 decoded, 0 from stored vectors" in map_and_ask(1)

    said = halsted(
        "self-label",
        "--atlas",
        annotated,
        "--archive",
        archive,
        "--model",
        "registry:halsted@champion",
        "--out",
        tmp_path / "labels",
        "--release",
        "hsa-v2",
        "--precision",
        0.01,
        "--gate",
        0.1,
    )
    assert "2 mapped" in said and "release hsa-v2" in said
    told = halsted("atlas", "diff", annotated, "hsa-v1", "hsa-v2")
    assert re.search(r"^source +ai +\+\d+", told, re.M) and re.search(r"(1 video|2 videos) added, 0 removed", told)

    assert "against champion 1" in train_and_promote(2)
    assert "0 decoded, 4 from stored vectors" in map_and_ask(2)
    listed = halsted("registry", "list")
    assert re.search(r"^ +2 .* hsa-v2 .* champion$", listed, re.M)
    assert re.search(r"^ +1 .* hsa-v1 .* previous_champion$", listed, re.M)
