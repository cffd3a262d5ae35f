"""A training run in MLflow: its recipe, its atlas, its curves, where it ran, and the version that came of it.

Everything is logged from the driver: rank 0 pins each epoch's record to the board that the driver reads, so workers
need no way to the registry and no credentials.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import tempfile
import time
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch
from mlflow import MlflowClient
from mlflow.data import from_pandas
from mlflow.data.delta_dataset_source import DeltaDatasetSource
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunStatus
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from halsted_ray import __version__
from halsted_ray.errors import RegistryError
from halsted_ray.model.halsted import Halsted
from halsted_ray.registry.model_registry import Registry, Version
from halsted_ray.storage.delta import table_uri
from halsted_ray.training.train import TrainingPlan, TrainSummary, train

EXPERIMENT = "halsted-training"
SPLIT = "split.json"
SIGNATURE = ModelSignature(
    Schema(
        [
            ColSpec("string", "uri"),
            ColSpec("double", "start_s"),
            ColSpec("double", "stop_s"),
            ColSpec("string", "instruction"),
        ]
    ),
    Schema([ColSpec("string", name) for name in ("task", "answer", "tags", "error")]),
)
log = logging.getLogger(__name__)


def train_tracked(
    registry: Registry, atlas: str, out: str, *arguments, on_epoch=None, **options
) -> tuple[TrainSummary, Version]:
    """``training.train.train``, as an MLflow run that ends with a version of the model.

    The same call again goes on with the same MLflow run; of a finished run it adds what is missing in the registry
    and no more. A registry that can't be reached at the start refuses the run; one that is lost on the way costs
    nothing: training goes on, and what was not logged is logged at the end, or by the same call again.
    """
    tracked = TrackedRun(registry)

    def epoch(record: dict) -> None:
        tracked.epoch(record)
        if on_epoch:
            on_epoch(record)

    try:
        summary = train(atlas, out, *arguments, on_start=tracked.start, on_epoch=epoch, **options)
    except BaseException as error:
        tracked.fail(error)
        raise
    try:
        return summary, tracked.finish(summary)
    except RegistryError as error:
        raise RegistryError(
            f"the model is trained and lies in {summary.model}, but is not registered: {error}"
        ) from error


class TrackedRun:
    """One training run in MLflow, from ``start`` to ``finish`` or ``fail``."""

    def __init__(self, registry: Registry):
        self.registry = registry
        self.run_id: str | None = None
        self.logged: set[int] = set()
        """Epochs whose figures are in the registry."""

    @cached_property
    def client(self) -> MlflowClient:
        """The registry's, which is made at its first use."""
        return self.registry.client

    def start(self, start: TrainingPlan) -> None:
        """Opens the run, or the one that an earlier call of the same recipe, atlas and encoder has left."""
        self.begun = start
        experiment = self.registry.experiment(EXPERIMENT)
        with self.registry.spoken():
            left = self.client.search_runs([experiment], f"tags.model_version = '{start.run_id}'", max_results=1)
            if left:
                self.run_id = left[0].info.run_id
                history = self.client.get_metric_history(self.run_id, "loss")
                self.logged = {metric.step for metric in history}
                if left[0].info.status != "FINISHED":
                    self.client.update_run(self.run_id, RunStatus.to_string(RunStatus.RUNNING))
                return
            run = self.client.create_run(
                experiment, run_name=f"{start.atlas.name}-{start.run_id[:6]}", tags=tags_of(start)
            )
            self.run_id = run.info.run_id
            self.client.log_batch(self.run_id, params=[Param(*pair) for pair in params_of(start).items()])
            self.client.log_inputs(self.run_id, [dataset_of(start)])
            self.client.log_dict(self.run_id, environment(), "environment.json")
            self.client.log_dict(self.run_id, start.split, SPLIT)

    def epoch(self, record: dict) -> None:
        """Logs an epoch; a registry that is gone does not stop a training run."""
        try:
            self._log([record])
        except RegistryError as error:
            log.warning("epoch %d is not in the registry yet: %s", record["epoch"], error)

    def _log(self, curve: list[dict]) -> None:
        now_ms = int(time.time() * 1000)
        with self.registry.spoken():
            for record in curve:
                if record["epoch"] not in self.logged:
                    metrics = [Metric(name, value, now_ms, record["epoch"]) for name, value in figures(record).items()]
                    self.client.log_batch(self.run_id, metrics=metrics)
                    self.logged.add(record["epoch"])

    def finish(self, summary: TrainSummary) -> Version:
        """What is missing of the curve, the summary, and the version: the one that is there, or a new one."""
        self._log(summary.curve)
        with self.registry.spoken():
            self.client.log_dict(self.run_id, asdict(summary), "summary.json")
            self.client.log_batch(
                self.run_id,
                metrics=[
                    Metric("best_epoch", summary.best_epoch, int(time.time() * 1000), 0),
                    Metric("parameters", summary.parameters, int(time.time() * 1000), 0),
                ],
            )
        version = register(self.registry, summary.model, self.run_id)
        with self.registry.spoken():
            self.client.set_terminated(self.run_id, "FINISHED")
        return version

    def fail(self, error: BaseException) -> None:
        """Marks the run as ended without a model; ``error`` is raised by whoever calls, so no other one here."""
        if self.run_id is None:
            return
        try:
            with self.registry.spoken():
                self.client.set_tag(self.run_id, "error", str(error)[:500] or type(error).__name__)
                self.client.set_terminated(self.run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        except RegistryError as lost:
            log.warning("the end of the run is not in the registry: %s", lost)


def register(registry: Registry, folder: str, run_id: str | None = None) -> Version:
    """The version that holds the model in ``folder``; a new one, of the MLflow run ``run_id``, where there is none.

    A model that was trained without a registry gets a run of its own. Raises ModelError, RegistryError.
    """
    model = Halsted.load(folder)
    config = model.config
    for version in registry.versions():
        if version.tags.get("model_digest") == model.digest:
            return version
    tags = {
        "model_version": config.version,
        "model_digest": model.digest,
        "atlas_release": config.atlas_release,
        "atlas_version": "" if config.atlas_version is None else str(config.atlas_version),
        "taxonomy_digest": model.taxonomy.digest,
        "encoder_fingerprint": config.encoder_fingerprint,
        "encoder": config.encoder_ref,
        "code_version": code_version(),
    }
    experiment = registry.experiment(EXPERIMENT)
    with registry.spoken():
        if run_id is None:
            run = registry.client.create_run(experiment, run_name=f"registered-{config.version[:6]}", tags=tags)
            run_id = run.info.run_id
            registry.client.set_terminated(run_id, "FINISHED")
        else:  # the code that trained it, not the code that registers it
            tags["code_version"] = registry.client.get_run(run_id).data.tags["code_version"]
    example = pd.DataFrame(
        {
            "uri": ["s3://archive/video.mp4"],
            "start_s": [60.0],
            "stop_s": [62.5],
            "instruction": [model.taxonomy.tasks[0].instruction],
        }
    )
    return registry.add(run_id, folder, tags, SIGNATURE, example)


def learned_videos(registry: Registry, version: Version) -> set[str] | None:
    """The videos that a version was trained or chosen on, None where its run does not say."""
    if not version.run_id:
        return None
    with registry.spoken():
        if SPLIT not in {artifact.path for artifact in registry.client.list_artifacts(version.run_id)}:
            return None
        with tempfile.TemporaryDirectory() as place:
            split = json.loads(Path(registry.client.download_artifacts(version.run_id, SPLIT, place)).read_text())
    return {video_id for video_id, part in split.items() if part != "test"}


def tags_of(start: TrainingPlan) -> dict[str, str]:
    commit = git_commit()
    return {
        "model_version": start.run_id,
        "atlas_release": start.atlas.name,
        "atlas_version": str(start.atlas.version),
        "taxonomy_digest": start.taxonomy.digest,
        "encoder_fingerprint": start.encoder_fingerprint,
        "code_version": code_version(),
        "model": start.model,
    } | ({"mlflow.source.git.commit": commit} if commit else {})


def params_of(start: TrainingPlan) -> dict[str, str]:
    """The recipe and what else decides the weights; MLflow keeps a parameter's text up to 6000 characters."""
    counts = {part: list(start.split.values()).count(part) for part in ("train", "validation", "test")}
    chosen = asdict(start.recipe) | asdict(start.spec) | {"encoder": start.encoder, "workers": start.workers}
    return {
        name: json.dumps(value) if isinstance(value, tuple | list) else str(value) for name, value in chosen.items()
    } | {f"videos.{part}": str(count) for part, count in counts.items()}


def dataset_of(start: TrainingPlan) -> DatasetInput:
    """The atlas release as the run's input: which Delta version of the samples, and the digest of its content."""
    atlas = start.atlas
    clips = pd.DataFrame(
        [
            {
                "video_id": clip.video_id,
                "start_s": clip.start_s,
                "stop_s": clip.stop_s,
                "task": clip.task,
                "source": clip.source,
                "part": start.split.get(clip.video_id, ""),
            }
            for clip in atlas.clips
        ]
    )
    source = DeltaDatasetSource(path=table_uri(atlas.root, "atlas", "samples"), delta_table_version=atlas.version)
    dataset = from_pandas(clips, source=source, name=atlas.name, digest=atlas.content_digest)
    return DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", "training")])


def figures(record: dict) -> dict[str, float]:
    """An epoch's record (``training.loop.TrainProgress``) as metrics; what could not be measured is left out."""
    found = {name: record[name] for name in ("loss", "learning_rate", "seconds", "samples_per_s", "worst")}
    found |= {f"accuracy/{task}": value for task, value in record["accuracy_of_task"].items()}
    found |= {f"accuracy_of_tag/{tag}": value for tag, value in record["accuracy_of_tag"].items()}
    return {name: float(value) for name, value in found.items() if value is not None}


def environment() -> dict:
    """Where a run runs: Python, machine, packages. No host name and no user: MLflow may be open to many."""
    gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    packages = {found.metadata["Name"]: found.version for found in importlib.metadata.distributions()}
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "gpus": gpus,
        "torch_threads": torch.get_num_threads(),
        "packages": dict(sorted(packages.items())),
    }


def code_version() -> str:
    """``0.1.0+9c2ee5a`` in a checkout, with ``.changed`` where files differ from that commit; else ``0.1.0``."""
    commit = git_commit()
    return f"{__version__}+{commit[:7]}{'.changed' if git('status', '--porcelain') else ''}" if commit else __version__


def git_commit() -> str:
    return git("rev-parse", "HEAD") if (Path(__file__).parents[2] / ".git").exists() else ""


def git(*arguments: str) -> str:
    """What git says of this checkout, '' where it can't be asked."""
    try:
        return subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
