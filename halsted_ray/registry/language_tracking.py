"""Logs a training run of video and text to MLflow and registers its model, as ``tracking`` does for tags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from halsted_ray.language.contrast_model import load_video_text
from halsted_ray.language.contrast_training import ContrastSummary, train_contrast
from halsted_ray.registry.model_registry import Registry, Version
from halsted_ray.registry.tracking import EXPERIMENT, code_version, tracked_run
from halsted_ray.training.epoch_record import EpochRecord

LANGUAGE_MODEL = "halsted-language"
"""The registered model. A model of tags never replaces it, nor the other way round."""
SIGNATURE = ModelSignature(Schema([ColSpec("string", "text")]), Schema([ColSpec("string", "vector")]))


def train_contrast_tracked(
    registry: Registry,
    atlas: str,
    out: str,
    *arguments: Any,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    **options: Any,
) -> tuple[ContrastSummary, Version]:
    """Runs ``train_contrast`` as an MLflow run, and registers the model as a version at the end; everything else as
    ``tracking.train_tracked``."""
    return tracked_run(registry, train_contrast, register_language, on_epoch, atlas, out, *arguments, **options)


def register_language(registry: Registry, folder: str, run_id: str | None = None) -> Version:
    """Returns the version that contains the model in ``folder``; makes a version where there is none.

    ``run_id``: the MLflow run that trained the model; None makes a run for it. Raises ModelError, RegistryError.
    """
    model = load_video_text(folder)
    config = model.config
    for version in registry.versions(LANGUAGE_MODEL):
        if version.tags.get("model_digest") == model.digest:
            return version
    tags = {
        "model_version": config.version,
        "model_digest": model.digest,
        "atlas_release": config.atlas_release,
        "atlas_version": "" if config.atlas_version is None else str(config.atlas_version),
        "encoder_fingerprint": config.encoder_fingerprint,
        "encoder": config.encoder_ref,
        "text_fingerprint": config.text_fingerprint,
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
    example = pd.DataFrame({"text": ["a clip is placed on the cystic duct"]})
    return registry.add(run_id, folder, tags, SIGNATURE, example, LANGUAGE_MODEL, "language_pyfunc.py")
