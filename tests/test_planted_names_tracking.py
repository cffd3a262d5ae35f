"""Names in an atlas (of files, folders, groups) are nowhere in what training and evaluation leave, MLflow included."""

from __future__ import annotations

from pathlib import Path

import planted
import pytest
from test_train_run import DURATION_S, ENCODER, RECIPE, SPEC, write_video

from halsted_ray.atlas import write_atlas
from halsted_ray.cli import main
from halsted_ray.records import Clip, Video
from halsted_ray.registry.model_registry import Registry
from halsted_ray.registry.tracking import train_tracked
from halsted_ray.storage.locations import filesystem
from halsted_ray.video.identity import video_id


@pytest.fixture(scope="module")
def atlas(tmp_path_factory) -> Path:
    """Three videos, each called by a name, in a folder that is called by it, of a group that is called by it."""
    root = tmp_path_factory.mktemp("atlas")
    videos, clips, split = [], [], {}
    for seed, part in enumerate(("train", "validation", "test")):
        path = root / f"videos of {planted.NAME}" / f"{planted.NAME} {seed}.mp4"
        path.parent.mkdir(exist_ok=True)
        write_video(path, seed)
        name = video_id(*filesystem(path))
        group = f"{planted.NAME} {seed}"
        videos.append(Video(name, str(path), path.stat().st_size, DURATION_S, 112, 112, 10.0, "h264", group=group))
        operation = {"specialty": "Urology", "procedure": "Prostatectomy"}
        clips += [
            Clip(name, 0.0, 5.5, "macro", operation | {"step": "Suturing"}),
            Clip(name, 5.5, DURATION_S, "macro", operation | {"step": "Dissection"}),
        ]
        split[name] = part
    write_atlas(str(root), videos, clips, "small", split=split)
    assert names_below(root), "the atlas itself has the names: it must know where its videos are"
    return root


def names_below(*folders: Path) -> list[str]:
    """The files that hold the name, or are called by it."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert files, folders
    return [
        str(path)
        for path in files
        if planted.places_of(path.read_bytes()) or planted.places_of(str(path.name).encode())
    ]


def train(atlas: Path, out: Path) -> Registry:
    registry = Registry(f"sqlite:///{out}/mlflow.db")
    train_tracked(registry, str(atlas), str(out / "run"), RECIPE, encoder=ENCODER, spec=SPEC)
    return registry


def test_names_of_files_and_groups_are_nowhere_in_what_training_and_evaluation_leave(atlas, tmp_path, capfd, caplog):
    (version,) = train(atlas, tmp_path).versions()
    assert version.number == 1, "the run and its artifacts are in MLflow"
    words = [
        "evaluate",
        "--atlas",
        str(atlas),
        "--model",
        str(tmp_path / "run/model"),
        "--out",
        str(tmp_path / "judged"),
    ]
    assert main(words) == 0
    said = capfd.readouterr()
    assert planted.places_of((said.out + said.err + caplog.text).encode()) == []
    assert (
        any(tmp_path.rglob("report.html")) and any(tmp_path.rglob("summary.json")) and (tmp_path / "mlflow.db").exists()
    )
    assert names_below(tmp_path) == []
