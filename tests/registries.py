"""Fixtures of the tests of the registry: an archive with models, an empty registry, a gate; and a version as training
leaves it. A test file has them by ``pytest_plugins = ["registries"]``. What takes seconds to make is made once for all
test processes."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import models
import pytest
import torch
import yaml

from halsted_ray.atlas import read_atlas
from halsted_ray.model.halsted import Halsted
from halsted_ray.registry.model_registry import Registry
from halsted_ray.registry.tracking import TrackedRun, register
from halsted_ray.training.recipe import Recipe
from halsted_ray.training.train import TrainingPlan, TrainSummary

ROOT = Path(__file__).parent.parent
CURVE = [
    {
        "epoch": n,
        "loss": 2.0 - n,
        "learning_rate": 1e-3,
        "seconds": 1.0,
        "samples_per_s": 10.0,
        "saved": True,
        "worst": 0.5,
        "accuracy_of_task": {"macro": 0.5, "context": None},
        "accuracy_of_tag": {"step": 0.5},
    }
    for n in range(2)
]


def shared(tmp_path_factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """The folder ``name``, which the first of the test processes that wants it builds, for all of them."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has a folder of its own in there
        base = base.parent
    folder, whole = base / name, base / f"{name}.whole"
    with open(base / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that died while it built
            folder.mkdir()
            build(folder)
            whole.touch()
    return folder


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An atlas with models under ``models/``: good, better (both know the answers) and bad (knows nothing)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield str(shared(tmp_path_factory, "archive-with-models", write_archive_with_models))
    torch.set_num_threads(threads)


def write_archive_with_models(folder: Path) -> None:
    root = str(folder)
    models.write_archive(root)
    for version, steps in (("good", 200), ("better", 200), ("bad", 0)):
        models.make_model(root, f"{root}/models/{version}", version, steps)


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh registry's file: making its tables takes seconds, so it is made once and copied."""

    def make_tables(folder: Path) -> None:
        Registry(f"sqlite:///{folder}/mlflow.db").versions()

    return shared(tmp_path_factory, "empty-registry", make_tables) / "mlflow.db"


@pytest.fixture
def registry(empty, tmp_path):
    shutil.copy(empty, tmp_path / "mlflow.db")
    return Registry(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    """The gate that ships, but for speed (a busy machine must not decide a test) and calibration by tag (these models
    know a dozen windows by heart, and were never calibrated)."""
    stated = yaml.safe_load((ROOT / "halsted_ray" / "registry" / "gate.yaml").read_text())
    stated["speed_of_champion"]["at_least"] = 0.001
    stated["tag_calibration_rise"]["at_most"] = 1.0
    file = tmp_path_factory.mktemp("gate") / "gate.yaml"
    file.write_text(yaml.safe_dump(stated))
    return str(file)


def start_of(archive, version):
    atlas, model = read_atlas(archive), Halsted.load(f"{archive}/models/{version}")
    return TrainingPlan(
        version,
        atlas,
        atlas.split,
        model.taxonomy,
        Recipe(),
        models.SPEC,
        models.ENCODER,
        model.config.encoder_fingerprint,
        1,
        f"{archive}/models/{version}",
    )


def summary_of(archive, version):
    return TrainSummary(
        f"{archive}/models/{version}",
        version,
        "hsa-v1",
        0,
        {"train": 1},
        {"train": 10},
        1000,
        2,
        1,
        {"macro": 0.5},
        {"step": 0.5},
        {},
        1.0,
        1.0,
        CURVE,
    )


def trained(registry, archive, version):
    """A version as a training run leaves it."""
    tracked = TrackedRun(registry)
    tracked.start(start_of(archive, version))
    return tracked.finish(summary_of(archive, version), register)
