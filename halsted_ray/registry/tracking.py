"""Logs a training run to MLflow (recipe, atlas, curves, machine) and registers its model as a version.

The driver logs everything. Rank 0 passes each epoch's record to the driver, so workers need neither access to the
registry nor credentials.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

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
from halsted_ray.evaluation.model_card import train
from halsted_ray.language.contrast_training import ContrastSummary
from halsted_ray.model.checkpoint import JsonObject
from halsted_ray.model.halsted import Halsted, ModelConfig
from halsted_ray.registry.model_registry import Registry, Version
from halsted_ray.registry.references import registered_name
from halsted_ray.storage.delta import table_uri
from halsted_ray.training.epoch_record import EpochRecord
from halsted_ray.training.train import TrainingPlan, TrainSummary

EXPERIMENT = "halsted-training"
Summary = TypeVar("Summary", TrainSummary, ContrastSummary)
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
    registry: Registry,
    atlas: str,
    out: str,
    *arguments: Any,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    **options: Any,
) -> tuple[TrainSummary, Version]:
    """Runs ``evaluation.model_card.train`` as an MLflow run, and registers the model as a version at the end.

    ``arguments`` and ``options`` are what ``train`` was called with. The same call again continues the same MLflow
    run; for a run that has finished, it only adds what is missing in the registry.

    Raises RegistryError where the registry can't be reached at the start. If the registry is lost later, training goes
    on: what could not be logged is logged at the end, or by the same call again. Also raises the errors of ``train``.
    """
    return tracked_run(registry, train, register, on_epoch, atlas, out, *arguments, **options)


def tracked_run(
    registry: Registry,
    training: Callable[..., Summary],
    registered: Callable[[Registry, str, str | None], Version],
    on_epoch: Callable[[EpochRecord], None] | None,
    *arguments: Any,
    **options: Any,
) -> tuple[Summary, Version]:
    """Runs ``training(*arguments, **options)`` as an MLflow run; ``registered`` makes the version at its end.

    Everything else as ``train_tracked``.
    """
    tracked = TrackedRun(registry)

    def epoch(record: EpochRecord) -> None:
        tracked.epoch(record)
        if on_epoch:
            on_epoch(record)

    try:
        summary = training(*arguments, on_start=tracked.start, on_epoch=epoch, on_restored=tracked.epoch, **options)
    except BaseException as error:
        tracked.fail(error)
        raise
    try:
        return summary, tracked.finish(summary, registered)
    except RegistryError as error:
        raise RegistryError(
            f"the model is trained and saved in {summary.model}, but is not registered: {error}"
        ) from error


class TrackedRun:
    """One training run in MLflow, from ``start`` to ``finish`` or ``fail``. The methods raise RegistryError."""

    def __init__(self, registry: Registry):
        """Makes no run yet; ``start`` does."""
        self.registry = registry
        self.run_id: str | None = None
        self.logged: set[int] = set()
        """Epochs whose figures are in the registry."""
        self.waiting: list[EpochRecord] = []
        """Records that the registry did not take, in the order of their epochs."""
        self.logging = threading.Lock()
        """``epoch`` is called from the thread that watches the training, ``finish`` from the main thread."""

    @cached_property
    def client(self) -> MlflowClient:
        """The registry's, which is made at its first use."""
        return self.registry.client

    def start(self, start: TrainingPlan) -> None:
        """Opens the run that an earlier call with the same recipe, atlas and encoder has left, or a new run."""
        experiment = self.registry.experiment(EXPERIMENT)
        with self.registry.clear_errors():
            left = self.client.search_runs([experiment], f"tags.model_version = '{start.run_id}'", max_results=1)
            if left:
                self.run_id = left[0].info.run_id
                history = self.client.get_metric_history(self.run_id, "loss")
                self.logged = {metric.step for metric in history}
                if left[0].info.status != "FINISHED":
                    self.client.update_run(self.run_id, RunStatus.to_string(RunStatus.RUNNING))
            else:
                run = self.client.create_run(
                    experiment, run_name=f"{start.atlas.name}-{start.run_id[:6]}", tags=tags_of(start)
                )
                self.run_id = run.info.run_id
            self._describe(start)

    def _describe(self, start: TrainingPlan) -> None:
        """Logs what the run stands on, as far as the run lacks it: the call that opened the run may have been killed
        before it had logged all of this."""
        run = self.client.get_run(self.run_id)
        missing = [Param(*pair) for pair in params_of(start).items() if pair[0] not in run.data.params]
        self.client.log_batch(self.run_id, params=missing)
        if not (run.inputs and run.inputs.dataset_inputs):
            self.client.log_inputs(self.run_id, [dataset_of(start)])
        files = {file.path for file in self.client.list_artifacts(self.run_id)}
        for name, content in (("environment.json", environment), (SPLIT, lambda: start.split)):
            if name not in files:
                self.client.log_dict(self.run_id, content(), name)

    def epoch(self, record: EpochRecord) -> None:
        """Logs an epoch, trained now or brought back by a checkpoint, after those that the registry did not take.

        A registry that is gone does not stop a training run.
        """
        self.waiting.append(record)
        try:
            self._log(self.waiting)
            self.waiting.clear()
        except RegistryError as error:
            log.warning("epoch %d is not in the registry yet: %s", record["epoch"], error)

    def _log(self, curve: list[EpochRecord]) -> None:
        """Logs the epochs of ``curve`` that are not logged yet."""
        now_ms = int(time.time() * 1000)
        with self.logging, self.registry.clear_errors():
            for record in curve:
                if record["epoch"] not in self.logged:
                    metrics = [Metric(name, value, now_ms, record["epoch"]) for name, value in figures(record).items()]
                    self.client.log_batch(self.run_id, metrics=metrics)
                    self.logged.add(record["epoch"])

    def finish(
        self, summary: TrainSummary | ContrastSummary, registered: Callable[[Registry, str, str | None], Version]
    ) -> Version:
        """Logs the missing epochs and the summary, and returns the model's version, which ``registered`` makes if it is
        missing."""
        self._log(summary.curve)
        with self.registry.clear_errors():
            self.client.log_dict(self.run_id, asdict(summary), "summary.json")
            if verdict := summary.verdict():
                self.client.set_tag(self.run_id, "verdict", verdict)
            self.client.log_batch(
                self.run_id,
                metrics=[
                    Metric("best_epoch", summary.best_epoch, int(time.time() * 1000), 0),
                    Metric("parameters", summary.parameters, int(time.time() * 1000), 0),
                ],
            )
        version = registered(self.registry, summary.model, self.run_id)
        with self.registry.clear_errors():
            self.client.set_terminated(self.run_id, "FINISHED")
        return version

    def fail(self, error: BaseException) -> None:
        """Marks the run as ended without a model. Raises nothing, because the caller raises ``error``."""
        if self.run_id is None:
            return
        try:
            with self.registry.clear_errors():
                self.client.set_tag(self.run_id, "error", str(error)[:500] or type(error).__name__)
                self.client.set_terminated(self.run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        except RegistryError as lost:
            log.warning("the end of the run is not in the registry: %s", lost)


def register(registry: Registry, folder: str, run_id: str | None = None) -> Version:
    """Returns the version that contains the model in ``folder``; makes a version where there is none.

    The registered model is that of the model's taxonomy (``references.registered_name``).

    ``run_id``: the MLflow run that trained the model. A model that was trained without a registry gets a run of its
    own. Raises ModelError, RegistryError.
    """
    model = Halsted.load(folder)
    config, name = model.config, registered_name(model.taxonomy.name)
    for version in registry.versions(name):
        if version.tags.get("model_digest") == model.digest:
            return version
    tags = {
        "model_version": config.version,
        "model_digest": model.digest,
        "atlas_release": config.atlas_release,
        "atlas_version": "" if config.atlas_version is None else str(config.atlas_version),
        "taxonomy": model.taxonomy.name,
        "taxonomy_digest": model.taxonomy.digest,
        "encoder_fingerprint": config.encoder_fingerprint,
        "encoder": config.encoder_ref,
        "code_version": code_version(),
    }
    experiment = registry.experiment(EXPERIMENT)
    with registry.clear_errors():
        if run_id is None:
            run = registry.client.create_run(experiment, run_name=f"registered-{config.version[:6]}", tags=tags)
            run_id = run.info.run_id
            registry.client.set_terminated(run_id, "FINISHED")
        else:  # the version names the code that trained the model, not the code that registers it
            tags["code_version"] = registry.client.get_run(run_id).data.tags["code_version"]
    example = pd.DataFrame(
        {
            "uri": ["s3://archive/video.mp4"],
            "start_s": [60.0],
            "stop_s": [62.5],
            "instruction": [model.taxonomy.tasks[0].instruction],
        }
    )
    return registry.add(run_id, folder, tags, SIGNATURE, example, name)


def learned_videos(registry: Registry, version: Version, config: ModelConfig) -> set[str] | None:
    """Returns the videos that a version was trained or chosen on, as its model (``config``) or its training run says;
    None where neither says so."""
    if config.learned_from is not None:
        return {video_id for own in config.learned_from.values() for video_id in own}
    if not version.run_id:
        return None
    with registry.clear_errors():
        if SPLIT not in {artifact.path for artifact in registry.client.list_artifacts(version.run_id)}:
            return None
        with tempfile.TemporaryDirectory() as place:
            split = json.loads(Path(registry.client.download_artifacts(version.run_id, SPLIT, place)).read_text())
    return {video_id for video_id, part in split.items() if part != "test"}


def tags_of(start: TrainingPlan) -> dict[str, str]:
    """Returns the tags of a run: what its model is made from, and by which code."""
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
    """Returns a run's parameters: the recipe and everything else that decides the weights.

    MLflow keeps up to 6000 characters per parameter.
    """
    counts = {part: list(start.split.values()).count(part) for part in ("train", "validation", "test")}
    chosen = asdict(start.recipe) | asdict(start.spec) | {"encoder": start.encoder, "workers": start.workers or "auto"}
    return {
        name: json.dumps(value) if isinstance(value, tuple | list) else str(value) for name, value in chosen.items()
    } | {f"videos.{part}": str(count) for part, count in counts.items()}


def dataset_of(start: TrainingPlan) -> DatasetInput:
    """Returns the atlas release as the run's input, with the Delta version of its samples and its content's digest."""
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


def figures(record: EpochRecord) -> dict[str, float]:
    """Returns an epoch's record as metrics. Values that could not be measured are left out."""
    found = {name: record[name] for name in ("loss", "learning_rate", "seconds", "samples_per_s", "worst")}
    found |= {f"accuracy/{task}": value for task, value in record["accuracy_of_task"].items()}
    found |= {f"accuracy_of_tag/{tag}": value for tag, value in record["accuracy_of_tag"].items()}
    return {name: float(value) for name, value in found.items() if value is not None}


def environment() -> JsonObject:
    """Describes the machine: Python, system, GPUs, packages. Not the host or user, since many may read MLflow."""
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
    """Returns ``0.1.0+9c2ee5a`` in a checkout, with ``.changed`` if files differ from the commit; else ``0.1.0``."""
    commit = git_commit()
    return f"{__version__}+{commit[:7]}{'.changed' if git('status', '--porcelain') else ''}" if commit else __version__


def git_commit() -> str:
    """Returns the commit of this checkout, '' where this is no checkout."""
    return git("rev-parse", "HEAD") if (Path(__file__).parents[2] / ".git").exists() else ""


def git(*arguments: str) -> str:
    """Returns what git prints in this checkout, '' where git fails."""
    try:
        return subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
