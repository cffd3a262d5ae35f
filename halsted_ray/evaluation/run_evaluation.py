"""A whole evaluation, from an atlas to figures: what `halsted evaluate` and the promotion of a model call."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow.parquet as pq

from halsted_ray.atlas import Atlas, read_atlas
from halsted_ray.compute.parallel import run_parallel
from halsted_ray.errors import AtlasError, UsageError
from halsted_ray.evaluation.baselines import BASELINES
from halsted_ray.evaluation.dataset import EvaluationData, prepare_data
from halsted_ray.evaluation.folds import (
    FoldResult,
    FoldTask,
    caveats_of,
    fold_splits,
    learned_by,
    limit_training_videos,
    operation_of_video,
    require_unlearned,
    run_fold,
    with_test_atlas,
)
from halsted_ray.evaluation.predictions import MODEL, TagPredictions, predictions_table
from halsted_ray.evaluation.sais import SaisRecipe
from halsted_ray.evaluation.scoring import score_predictions as figures_of
from halsted_ray.evaluation.umap import umap
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted, ModelConfig
from halsted_ray.records import WindowSpec, digest
from halsted_ray.storage.files import require_writable, write_atomically
from halsted_ray.storage.locations import absolute_location, filesystem
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.training.recipe import PAPER, Recipe
from halsted_ray.training.train import encoder_for

PARTS = ("test", "validation", "all")
OTHER_VIDEOS = (
    "leave --part all out, name a release whose test videos it never saw (--release), or an archive of other videos "
    "(--test-on)"
)


@dataclass(frozen=True)
class Evaluation:
    """``figures``: JSON values (``figures.figures`` plus what was evaluated). ``answers``: what they were made of, by
    the models of ``jobs`` from the vectors in ``pool``."""

    figures: dict
    answers: list[TagPredictions]
    atlas: Atlas
    taxonomy: Taxonomy
    jobs: list[FoldTask]
    pool: EvaluationData

    def of(self, method: str = MODEL) -> list[TagPredictions]:
        """One method's answers: what ``pairing`` compares."""
        return [entry for entry in self.answers if entry.method == method]


def evaluate(
    atlas: str,
    out: str,
    recipe: Recipe = PAPER,
    *,
    model: str | None = None,
    against: str | None = None,
    release: str | None = None,
    part: str = "test",
    test_on: str | None = None,
    folds: int = 5,
    strategy: str | None = None,
    splits: Sequence[Mapping[str, str]] | None = None,
    learn_from: int | None = None,
    whole_clips: bool = False,
    baselines: Sequence[str] = BASELINES,
    sais: SaisRecipe | None = None,
    encoder: str | None = None,
    embeddings: str | None = None,
    spec: WindowSpec | None = None,
    seed: int = 0,
    on_embed: Callable[[float, float], None] | None = None,
    on_fold: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Judges a model on one part of the atlas's frozen split, or ``recipe`` by cross-validation where none is given.

    ``model``: a folder or URL; it is judged on ``part`` of the release's split (``all``: on every video, for an archive
    that it never learned from), and ``against`` it another one, on the same windows. A model that learned from one of
    these videos is refused; where it can't be known what a model learned from, ``figures["caveats"]`` says so.
    Without ``model``, ``folds`` models are trained side by side on Ray, on folds drawn by ``strategy``
    (``per_procedure``, ``global``; None: ``folds.strategy_for``), or one on each of ``splits`` (video_id → part) where
    they are given. ``test_on``: the annotated archive whose videos judge, all of them, instead of the release's own
    test part. ``learn_from``: so many of each split's training videos, and none of the others
    (``folds.limit_training_videos``). With ``whole_clips`` each clip is one window, as in the paper, whatever its
    length. Baselines are taught on the same training videos.
    Leaves ``evaluation.json`` and ``answers.parquet`` in ``out``, and the folds' models under ``out/folds``; the same
    call again trains only what is missing.

    Raises AtlasError, ModelError, OutputError, ResourceError, UsageError.
    """
    started_s = time.monotonic()
    unknown = sorted(set(baselines) - set(BASELINES))
    if unknown:
        raise UsageError(f"unknown baseline {unknown[0]!r}; expected any of {', '.join(BASELINES)}")
    if part not in PARTS:
        raise UsageError(f"unknown part {part!r}; expected one of {', '.join(PARTS)}")
    source = read_atlas(atlas, release)
    taxonomy = source.load_taxonomy()
    judging = None if test_on is None else read_atlas(test_on)
    if judging is not None:
        source = with_test_atlas(source, judging)
    given, other = (None if ref is None else Halsted.load(ref) for ref in (model, against))
    if given is not None:
        require_fit(given, source, taxonomy)
        spec = given.config.windows
    if other is not None:
        require_alike(given, other)
        require_fit(other, source, taxonomy)
    spec = spec or WindowSpec()
    frozen = Encoder.load(
        encoder_for(recipe, encoder or "tiny") if given is None else encoder or given.config.encoder_ref
    )
    if given is not None:
        given.check_encoder(frozen)
    operations = operation_of_video(source.clips)
    evaluation_id = digest(
        {**asdict(recipe), "shifts_s": list(recipe.shifts_s)},
        source.content_digest,
        frozen.fingerprint,
        asdict(spec),
        whole_clips,
    )
    if splits is not None:
        splits, drawn_by = [dict(own) for own in splits], "given split"
    elif judging is not None:
        splits, drawn_by = [source.split], f"all videos of {judging.name}"
    else:
        splits, drawn_by = fold_splits(source, operations, given is not None, part, folds, strategy, seed)
    judged = {video_id for own in splits for video_id, role in own.items() if role == "test"}
    caveats = []
    for judged_model in (given, other):
        if judged_model is not None:
            learned = learned_by(judged_model.config, [place for place in (atlas, test_on) if place])
            # Every model is chosen on the validation videos of its split: there this is a caveat, elsewhere a leak.
            parts = ("train",) if part == "validation" and judging is None else ("train", "validation")
            require_unlearned(judged_model.config, learned, judged, OTHER_VIDEOS, parts)
            caveats += caveats_of(judged_model.config, learned, judged)
    if learn_from is not None:
        procedures = {video_id: operation.get("procedure", "") for video_id, operation in operations.items()}
        splits = [limit_training_videos(own, learn_from, procedures, seed) for own in splits]
    jobs = [
        FoldTask(
            number,
            own,
            model or f"{absolute_location(out)}/folds/{digest(evaluation_id, own)}",
            given is not None,
            against,
        )
        for number, own in enumerate(splits)
    ]
    require_writable(out)  # before hours of work
    pool = prepare_data(
        source,
        taxonomy,
        recipe,
        spec,
        frozen,
        embeddings or f"{atlas.rstrip('/')}/embeddings",
        {video for own in splits for video in own},
        whole_clips,
        tuple(baselines),
        sais or SaisRecipe(),
        ModelConfig(
            frozen.ref,
            frozen.fingerprint,
            frozen.dim,
            version=evaluation_id,
            atlas_release=source.name,
            atlas_version=source.version,
            windows=spec,
            steps=frozen.steps,
        ),
        on_embed,
    )
    require_test(pool, jobs, source)
    embed_s = time.monotonic() - started_s
    results = run_parallel(run_fold, jobs, pool, on_fold)
    answers = [entry for result in results for entry in result.answers]
    figures = {
        "atlas": {
            "release": source.name,
            "version": source.version,
            "taxonomy": taxonomy.name,
            "taxonomy_digest": taxonomy.digest,
            "videos": len(source.videos),
            "clips": len(source.clips),
        },
        "model": described(given),
        "against": described(other),
        "caveats": caveats,
        "encoder": {"ref": frozen.ref, "fingerprint": frozen.fingerprint},
        "recipe": asdict(recipe),
        "folds": [fold_figures(job, result) for job, result in zip(jobs, results, strict=True)],
        "strategy": drawn_by,
        "part": None if given is None else "all" if judging is not None else part,
        "evaluation_id": evaluation_id,
        **figures_of(answers, taxonomy, operations),
        "map": map_of(results[0].features, operations),
        "seconds": {"embedding": embed_s, "folds": time.monotonic() - started_s - embed_s},
    }
    save_evaluation(out, figures, answers, taxonomy)
    return Evaluation(figures, answers, source, taxonomy, jobs, pool)


def described(model: Halsted | None) -> dict | None:
    return model and {
        "name": model.config.name,
        "version": model.config.version,
        "atlas_release": model.config.atlas_release,
        "digest": model.digest,
    }


def require_alike(model: Halsted | None, other: Halsted) -> None:
    """Raises UsageError unless both can answer about the same vectors."""
    if model is None:
        raise UsageError("a model to compare with, and none to compare; name it with --model")
    for what, own, theirs in (
        ("taxonomy", model.taxonomy.digest, other.taxonomy.digest),
        ("windows", model.config.windows, other.config.windows),
        ("encoder", model.config.encoder_fingerprint, other.config.encoder_fingerprint),
    ):
        if own != theirs:
            raise UsageError(
                f"model {model.config.version!r} has {what} {own}, model {other.config.version!r} has "
                f"{theirs}; expected the same, to compare their answers about the same windows"
            )


def require_fit(model: Halsted, source: Atlas, taxonomy: Taxonomy) -> None:
    """Raises AtlasError where ``model`` answers in another taxonomy than ``source`` is annotated in."""
    if model.taxonomy.digest != taxonomy.digest:
        raise AtlasError(
            f"the atlas {source.name!r} is annotated in taxonomy {taxonomy.name!r} {taxonomy.digest}, model "
            f"{model.config.version!r} answers in {model.taxonomy.name!r} {model.taxonomy.digest}; name an atlas of "
            "the model's taxonomy"
        )


def require_test(pool: EvaluationData, jobs: Sequence[FoldTask], source: Atlas) -> None:
    samples = pool.judging
    judged = {samples.video_ids[v] for v in np.unique(samples.video_W[samples.window_S[samples.judged_S]])}
    for job in jobs:
        if not judged & {video_id for video_id, part in job.split.items() if part == "test"}:
            raise AtlasError(
                f"fold {job.number + 1} of release {source.name!r}: no clip of its test videos covers half of a "
                "window; annotate longer spans, or draw with another seed"
            )


def fold_figures(job: FoldTask, result: FoldResult) -> dict:
    parts = {name: sorted(v for v, part in job.split.items() if part == name) for name in ("validation", "test")}
    return {
        "fold": job.number + 1,
        **parts,
        "train": sum(part == "train" for part in job.split.values()),
        "curve": result.curve,
    }


def map_of(features: dict | None, operations: Mapping[str, Mapping[str, str]]) -> dict | None:
    """The two maps of features as points: place, procedure, what the window truly shows."""
    if features is None:
        return None
    return {
        "task": features["task"],
        "video_ids": features["video_N"].tolist(),
        "procedures": [operations.get(str(video), {}).get("procedure", "") for video in features["video_N"]],
        "truth": features["truth"],
        **{name: umap(features[name]).round(3).tolist() for name in ("encoder", "decoder")},
    }


def save_evaluation(out: str, figures: dict, answers: Sequence[TagPredictions], taxonomy: Taxonomy) -> None:
    fs, root = filesystem(absolute_location(out))
    rows = io.BytesIO()
    pq.write_table(predictions_table(answers, taxonomy), rows)
    write_atomically(fs, f"{root}/answers.parquet", rows.getvalue())
    write_atomically(fs, f"{root}/evaluation.json", json.dumps(figures, indent=1, ensure_ascii=False).encode())
