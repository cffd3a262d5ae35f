"""One fold: a model taught on its training videos (or one that is there already), and everything judged on its test
videos. Runs anywhere: samples in, answers out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import fsspec
import numpy as np

from halsted_ray.evaluation.answers import BEFORE, Answers, answers_of_model, asked_of
from halsted_ray.evaluation.baselines import baseline_answers
from halsted_ray.evaluation.pool import Pool
from halsted_ray.model.halsted import Halsted
from halsted_ray.taxonomy import Taxonomy, from_dict
from halsted_ray.training.loop import fit_alone
from halsted_ray.training.run import calibrate, choices_of
from halsted_ray.training.samples import Samples
from halsted_ray.video.storage import filesystem

MAPPED_TASK = "proficiency"
"""Whose windows the map of features shows (paper, Fig. 3)."""
MOST_MAPPED = 1500


@dataclass(frozen=True)
class FoldJob:
    """``split``: video_id → part. ``model``: where the fold's model lies, or will lie once it is trained.
    ``against``: where another model lies that answers the same windows, as the method ``BEFORE``."""

    number: int
    split: Mapping[str, str]
    model: str
    is_given: bool
    against: str | None = None


@dataclass(frozen=True)
class FoldResult:
    """``curve``: a record per epoch (see ``loop.Progress``), empty for a model that was given. ``features``: the
    vectors that the map shows, of the held-out windows of one task; None for later folds."""

    answers: list[Answers]
    curve: list[dict]
    features: dict | None


def run_fold(job: FoldJob, pool: Pool) -> FoldResult:
    """Raises TrainingError when the loss is not finite, ModelError for a model that can't be read."""
    taxonomy = from_dict(dict(pool.taxonomy))
    train, train_steps = part_of(pool, job, "train", "learning")
    validation, validation_steps = part_of(pool, job, "validation", "judging")
    test, test_steps = part_of(pool, job, "test", "judging")
    if job.is_given:
        model, curve = Halsted.load(job.model), []
    else:
        model, curve = trained(job, pool, taxonomy, train, validation)
    rows = rows_of(pool.judging, job, "test")
    asked = asked_of(test, train, taxonomy, job.number, pool.kind_S[rows], pool.source_S[rows])
    answers = answers_of_model(model, test, asked)
    if job.against:
        answers += answers_of_model(Halsted.load(job.against), test, asked, BEFORE)
    steps = {"train": train_steps, "validation": validation_steps, "test": test_steps}
    names = pool.baselines if len(train) else tuple(name for name in pool.baselines if name == "chance")
    answers += baseline_answers(names, asked, train, validation, test, taxonomy, steps=steps, sais=pool.sais)
    held_out = pool.judging.take(np.concatenate([rows_of(pool.judging, job, part) for part in ("validation", "test")]))
    return FoldResult(answers, curve, None if job.number else features_of(model, held_out, taxonomy))


def rows_of(samples: Samples, job: FoldJob, part: str) -> np.ndarray:
    """Positions of the samples of the videos of one part."""
    is_part = np.array([job.split.get(video_id) == part for video_id in samples.video_ids], bool)
    return np.flatnonzero(is_part[samples.video_W[samples.window_S]])


def part_of(pool: Pool, job: FoldJob, part: str, side: str) -> tuple[Samples, np.ndarray | None]:
    samples: Samples = getattr(pool, side)
    rows = rows_of(samples, job, part)
    steps = pool.steps[side][np.unique(samples.window_S[rows])] if pool.steps else None
    return samples.take(rows), steps


def trained(
    job: FoldJob, pool: Pool, taxonomy: Taxonomy, train: Samples, validation: Samples
) -> tuple[Halsted, list[dict]]:
    """The fold's model and its curve: read where a run before this one left them, else trained and left there."""
    fs, path = filesystem(f"{job.model}/curve.json")
    if fs.exists(path):
        return Halsted.load(job.model), json.loads(fs.cat_file(path))
    recipe, config = pool.recipe, pool.config
    model = Halsted.create(
        taxonomy,
        config.encoder_dim,
        encoder_ref=config.encoder_ref,
        encoder_fingerprint=config.encoder_fingerprint,
        steps=config.steps,
        version=f"{config.version}-{job.number}",
        atlas_release=config.atlas_release,
        atlas_version=config.atlas_version,
        windows=config.windows,
        **choices_of(recipe),
    )
    fitted = fit_alone(train, validation, model.config.decoder_sizes, taxonomy, recipe)
    model.decoder.load_state_dict(fitted.tensors)
    calibrate(model, validation)
    model.save(job.model)
    with fsspec.open(f"{job.model}/curve.json", "w") as file:  # last: it says that the rest is whole
        json.dump(fitted.progress.curve, file)
    return model, fitted.progress.curve


def features_of(model: Halsted, samples: Samples, taxonomy: Taxonomy) -> dict | None:
    """``encoder`` and ``decoder`` vectors [N, …] of the judged windows of one task, with video and said tags."""
    names = [task.name for task in taxonomy.tasks]
    shown = names.index(MAPPED_TASK) if MAPPED_TASK in names else len(names) - 1
    rows = np.flatnonzero(samples.judged_S & (samples.task_S == shown))
    if len(rows) > MOST_MAPPED:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_MAPPED, replace=False))
    if len(rows) < 4:
        return None
    task = taxonomy.tasks[shown]
    embeddings_ND = samples.embeddings_WD[samples.window_S[rows]]
    said = [{tag: category for tag, (category, _) in row.items()} for row in model.tag(embeddings_ND, task.name)]
    truth = [
        {tag.name: tag.categories[c] for tag, c in zip(task.tags, row, strict=False) if c >= 0}
        for row in samples.truth_SG[rows]
    ]
    return {
        "task": task.name,
        "video_N": np.array(samples.video_ids)[samples.video_W[samples.window_S[rows]]],
        "truth": truth,
        "encoder": embeddings_ND.astype(np.float32),
        "decoder": model.features(embeddings_ND, task.name, said),
    }
