"""A training run whose driver is killed: the same command goes on where it was and ends with the same model."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import halsted_ray
from halsted_ray.atlas import write_atlas
from halsted_ray.cli import main
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Clip, Video, WindowSpec
from halsted_ray.registry.model_registry import Registry
from halsted_ray.storage.vectors import VectorStore, sampling_name
from halsted_ray.taxonomy import load
from halsted_ray.training.atlas_samples import unique_windows
from halsted_ray.training.clip_samples import clip_windows
from halsted_ray.training.loop import RAYS_LIST, fit_in_process
from halsted_ray.training.recipe import BEST
from halsted_ray.training.samples import Samples, training_windows

pytestmark = pytest.mark.slow

ENCODER = "random:tiny:0"
EPOCHS, EVERY = 8, 2
"""A checkpoint is a barrier of 2 s: so the run takes some seconds after its first one."""
RECIPE = replace(
    BEST,
    epochs=EPOCHS,
    least_steps=0,
    validate_every=EVERY,
    checkpoint_every=EVERY,
    width=32,
    heads=2,
    batch_size=16,
    shifts_s=(0.0,),
)
SET = [
    f"{name}={getattr(RECIPE, name)}"
    for name in ("epochs", "least_steps", "validate_every", "checkpoint_every", "width", "heads", "batch_size")
] + ["shifts_s=0.0"]
PATIENCE_S = 600
NO_SPARE = "RAY_prestart_worker_first_driver"
"""Where this is 0, Ray starts no processes in advance: Ray Train uses none, as its own have another environment."""
LOGGED = 1
"""Epochs that the killed driver has told MLflow of; a checkpoint holds more."""
DRIVER_THAT_DIES = f"""
import json, os, signal, sys, time
from pathlib import Path
from halsted_ray.cli import main
from halsted_ray.registry.tracking import TrackedRun

checkpoints, log_epoch = Path(sys.argv.pop(1)), TrackedRun.epoch

def epochs_in_a_checkpoint():
    for listed in checkpoints.glob("*/{RAYS_LIST}"):
        try:
            newest = json.loads(listed.read_text())["latest_checkpoint_result"]
        except ValueError:  # Ray is writing the list
            continue
        if newest:
            return json.loads((listed.parent / newest["checkpoint_dir_name"] / "progress.json").read_text())["epoch"]
    return 0

def log_or_die(tracked, record):
    if record["epoch"] < {LOGGED}:
        return log_epoch(tracked, record)
    while epochs_in_a_checkpoint() <= record["epoch"]:
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGKILL)

TrackedRun.epoch = log_or_die
sys.exit(main(sys.argv[1:]))
"""


def write_archive(root: Path) -> None:
    """Two videos of a minute that are never opened: their vectors are stored, and tell step and action."""
    encoder, spec, rng = Encoder.load(ENCODER), WindowSpec(), np.random.default_rng(0)
    videos, clips, split = [], [], {}
    for number, part in enumerate(("train", "validation")):
        name = f"{number:x}" * 16
        videos.append(Video(name, f"{root}/{number}.mp4", 1, 60.0, 112, 112, 10.0, "h264"))
        split[name] = part
        own = [
            Clip(name, 0.0, 30.0, "macro", {"step": "Suturing"}),
            Clip(name, 30.0, 60.0, "macro", {"step": "Dissection"}),
        ]
        own += [
            Clip(name, 30.0 + 2.5 * n, 32.5 + 2.5 * n, "micro", {"action": ("Tug", "Hook", "Clip")[n % 3]})
            for n in range(12)
        ]
        vectors = {}
        for window in [*training_windows(60.0, spec), *unique_windows(clip_windows(own, load().tasks))]:
            true = [item for clip in own if clip.start_s <= window.start_s < clip.stop_s for item in clip.tags.items()]
            directions = [np.random.default_rng(sum(map(ord, "".join(item)))).normal(size=encoder.dim) for item in true]
            vector = np.sum(directions, 0) + rng.normal(size=encoder.dim)
            vectors[window.kind, window.start_s, window.stop_s] = vector.astype(np.float16)
        clips += own
        store = VectorStore(f"{root}/embeddings", encoder.fingerprint, sampling_name(spec, "reference"))
        store.put(name, 0.0, 120.0, vectors)
    write_atlas(str(root), videos, clips, "small", split=split)


def test_a_killed_driver_goes_on_and_ends_with_the_same_model(tmp_path, monkeypatch):
    """The driver dies between a checkpoint and the logging of its epochs: MLflow gets them when the run goes on."""
    write_archive(tmp_path / "archive")
    out = tmp_path / "run"
    registry = Registry(f"sqlite:///{tmp_path}/mlflow.db")
    registry.versions()
    words = [
        "train",
        "--atlas",
        str(tmp_path / "archive"),
        "--out",
        str(out),
        "--encoder",
        ENCODER,
        "--recipe",
        "best",
        "--registry",
        registry.uri,
    ]
    words += [word for change in SET for word in ("--set", change)]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment[NO_SPARE] = "0"
    environment["PYTHONPATH"] = str(Path(halsted_ray.__file__).parents[1])
    command = [sys.executable, "-c", DRIVER_THAT_DIES, str(out / "checkpoints"), *words]
    with open(tmp_path / "log", "wb") as log:
        died = subprocess.run(command, env=environment, stdout=log, stderr=log, timeout=PATIENCE_S)
    assert died.returncode == -signal.SIGKILL, (tmp_path / "log").read_text()[-2000:]
    kept = newest_curve(out)
    assert not (out / "training.json").exists(), "the kill came too late to matter"
    assert epochs_in(registry) == list(range(LOGGED)) and len(kept) > LOGGED, "the checkpoint is ahead of MLflow"
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv(NO_SPARE, "0")
    assert main(words) == 0

    curve = json.loads((out / "training.json").read_text())["summary"]["curve"]
    assert [record["epoch"] for record in curve] == list(range(EPOCHS))
    # An epoch that is trained again has the same loss, but never the same seconds.
    assert EVERY <= len(kept) < EPOCHS and curve[: len(kept)] == kept, "it went on from the checkpoint"

    undisturbed = trained_here(out)
    model = Halsted.load(str(out / "model"))
    for name, value in model.decoder.state_dict().items():
        assert torch.equal(value, undisturbed.tensors[name]), name
    assert [record["loss"] for record in curve] == [record["loss"] for record in undisturbed.progress.curve]

    (version,) = registry.versions()
    (run,) = registry.client.search_runs([registry.experiment("halsted-training")])
    assert run.info.run_id == version.run_id and run.info.status == "FINISHED"
    assert epochs_in(registry) == list(range(EPOCHS)), "all of them, and in the order in which they were trained"


def epochs_in(registry: Registry) -> list[int]:
    """The epochs whose loss MLflow has, in the order in which they were logged."""
    (run,) = registry.client.search_runs([registry.experiment("halsted-training")])
    return [point.step for point in registry.client.get_metric_history(run.info.run_id, "loss")]


def newest_curve(out: Path) -> list[dict]:
    """What the checkpoint keeps that Ray will go on from."""
    (listed,) = out.glob(f"checkpoints/*/{RAYS_LIST}")
    newest = json.loads(listed.read_text())["latest_checkpoint_result"]["checkpoint_dir_name"]
    return json.loads((listed.parent / newest / "progress.json").read_text())["curve"]


def trained_here(out: Path):
    """The same training in this process and in one go, on as many threads."""
    train, validation = (
        Samples.load(str(next(out.glob(f"samples/*-{part}.safetensors")))) for part in ("train", "validation")
    )
    model = Halsted.load(str(out / "model"))
    threads = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    try:
        return fit_in_process(train, validation, model.config.decoder_sizes, model.taxonomy, RECIPE)
    finally:
        torch.set_num_threads(threads)
