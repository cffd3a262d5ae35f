"""A whole evaluation, from an atlas to figures: what `halsted evaluate` calls."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow.parquet as pq

from halsted_ray.atlas import Atlas, read_atlas
from halsted_ray.atlas.contents import drawn_videos
from halsted_ray.atlas.groups import groups_of
from halsted_ray.compute.devices import gpus_at_hand
from halsted_ray.compute.parallel import run_parallel
from halsted_ray.embedding.embed import EmbedProgress
from halsted_ray.errors import AtlasError, UsageError
from halsted_ray.evaluation.dataset import EvaluationData, prepare_data
from halsted_ray.evaluation.evaluation_plan import EvaluationPlan
from halsted_ray.evaluation.fold_resources import gpu_share_of_fold
from halsted_ray.evaluation.folds import (
    Fold,
    FoldResult,
    MappedFeatures,
    fold_splits,
    limit_training_videos,
    operation_of_video,
    run_fold,
    with_test_atlas,
)
from halsted_ray.evaluation.json_values import Figures
from halsted_ray.evaluation.leak_guard import caveats_of, learned_by, require_unlearned
from halsted_ray.evaluation.left_out import left_out_figures, left_out_folds, left_out_names
from halsted_ray.evaluation.predictions import MODEL, TagPredictions, predictions_table
from halsted_ray.evaluation.published import published_figures
from halsted_ray.evaluation.published_split import literature_figures, published_splits
from halsted_ray.evaluation.scoring import score_predictions
from halsted_ray.evaluation.umap import umap
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.model.halsted import Halsted, ModelConfig
from halsted_ray.records import SYNTHETIC, WindowSpec, digest
from halsted_ray.storage.files import require_writable, write_atomically
from halsted_ray.storage.locations import absolute_location, filesystem
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.training.recipe import PAPER, Recipe, deciding, on_device
from halsted_ray.training.train import encoder_for

OTHER_VIDEOS = (
    "leave --part all out, name a release whose test videos it never saw (--release), or an archive of other videos "
    "(--test-on)"
)


@dataclass(frozen=True)
class Evaluation:
    """``figures``: JSON values (``scoring.score_predictions``, and what was evaluated). ``predictions``: what the
    figures were computed from: of the models of ``folds``, from the vectors in ``data``."""

    figures: Figures
    predictions: list[TagPredictions]
    atlas: Atlas
    taxonomy: Taxonomy
    folds: list[Fold]
    data: EvaluationData

    def of(self, method: str = MODEL) -> list[TagPredictions]:
        """The predictions of one method: what ``model_comparison`` compares."""
        return [entry for entry in self.predictions if entry.method == method]


def evaluate(
    atlas: str,
    out: str,
    recipe: Recipe = PAPER,
    *,
    model: str | None = None,
    against: str | None = None,
    plan: EvaluationPlan | None = None,
    encoder: str | None = None,
    spec: WindowSpec | None = None,
    embeddings: str | None = None,
    on_embed: EmbedProgress | None = None,
    on_fold: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Judges a model on the test videos of the archive at ``atlas``, or cross-validates ``recipe`` where none is given.

    >>> from halsted_ray import evaluate
    >>> from halsted_ray.evaluation.evaluation_plan import EvaluationPlan
    >>> plan = EvaluationPlan(part="test", baselines=("chance", "majority"))
    >>> evaluation = evaluate("archive", "evaluation", model="run/model", plan=plan)
    >>> sorted(evaluation.figures["methods"])
    ['chance', 'halsted', 'majority']

    ``model``: folder or URL of a model; ``against``: another model, which predicts the same windows. Without a model
    the folds' models are trained by ``recipe``, side by side on Ray: on the cluster's GPUs where it has any, several
    small folds on one, else on its CPUs. ``plan``: which videos judge, and the baselines.
    ``encoder`` and ``spec`` (how time is cut into windows) default to the model's, or to ``tiny`` and the paper's
    windows. Vectors are kept in ``embeddings`` (default: ``<atlas>/embeddings``). ``on_embed`` gets the progress of
    decoding and encoding, ``on_fold`` the numbers of folds that are done and of all folds.

    Leaves ``evaluation.json`` and ``answers.parquet`` in ``out``, and the folds' models under ``out/folds``; the same
    call again trains only what is missing. Raises AtlasError, ModelError, OutputError, ResourceError, TrainingError,
    UsageError.
    """
    started_s = time.monotonic()
    plan = plan or EvaluationPlan()
    recipe = on_device(recipe, "cuda" if gpus_at_hand() else "cpu")
    source = read_atlas(atlas, plan.release)
    taxonomy = source.load_taxonomy()
    judging = None if plan.test_on is None else read_atlas(plan.test_on)
    if judging is not None:
        source = with_test_atlas(source, judging)
    given, other = (None if ref is None else Halsted.load(ref) for ref in (model, against))
    if given is not None:
        require_fit(given, source, taxonomy)
        spec = given.config.windows
    if other is not None:
        require_alike(given, other)
        require_fit(other, source, taxonomy)
    frozen = encoder_identity(
        encoder_for(recipe, encoder or "tiny") if given is None else encoder or given.config.encoder_ref
    )
    spec = frozen.windows(spec)
    if given is not None:
        given.check_encoder(frozen)
    evaluation_id = digest(
        deciding(recipe),
        source.content_digest,
        frozen.fingerprint,
        asdict(spec),
    )
    operations = operation_of_video(source.clips)
    splits, drawn_by = splits_of(plan, source, judging, operations, is_given=given is not None)
    test_videos = {video_id for split in splits for video_id, part in split.items() if part == "test"}
    caveats: list[str] = drawn_caveats(source)
    for judged in (given, other):
        if judged is not None:
            learned = learned_by(judged.config, [place for place in (atlas, plan.test_on) if place])
            # Every model is chosen on the validation videos of its split: there this is a caveat, elsewhere a leak.
            parts = ("train",) if plan.part == "validation" and judging is None else ("train", "validation")
            require_unlearned(judged.config, learned, test_videos, OTHER_VIDEOS, parts)
            caveats += caveats_of(judged.config, learned, test_videos)
    folds = [
        Fold(
            number,
            split,
            model or f"{absolute_location(out)}/folds/{digest(evaluation_id, split)}",
            given is not None,
            against,
        )
        for number, split in enumerate(splits)
    ]
    require_writable(out)  # before hours of work
    data = prepare_data(
        source,
        taxonomy,
        recipe,
        plan,
        frozen,
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
        embeddings or f"{atlas.rstrip('/')}/embeddings",
        {video_id for split in splits for video_id in split},
        on_embed,
    )
    require_test(data, folds, source)
    embed_s = time.monotonic() - started_s
    results = run_parallel(run_fold, folds, data, on_fold, gpu_share=gpu_share_of_fold(data))
    predictions = [entry for result in results for entry in result.predictions]
    figures = {
        "atlas": {
            "release": source.name,
            "version": source.version,
            "taxonomy": taxonomy.name,
            "taxonomy_digest": taxonomy.digest,
            "videos": len(source.videos),
            "clips": len(source.clips),
            "synthetic": sum(clip.source == SYNTHETIC for clip in source.clips),
        },
        "model": described(given),
        "against": described(other),
        "caveats": caveats,
        "encoder": {"ref": frozen.ref, "fingerprint": frozen.fingerprint},
        "recipe": asdict(recipe),
        "folds": [fold_figures(fold, result) for fold, result in zip(folds, results, strict=True)],
        "strategy": drawn_by,
        "part": None if given is None else "all" if judging is not None else plan.part,
        "evaluation_id": evaluation_id,
        **score_predictions(predictions, taxonomy, operations),
        "published": published_figures(
            [entry for entry in predictions if entry.method == MODEL],
            operations,
            source.clips,
            {tag.name: tag.categories for tag in taxonomy.tags},
        ),
        "sais_encoder": plan.sais_encoder,
        "map": feature_map(results[0].features, operations),
        "seconds": {"embedding": embed_s, "folds": time.monotonic() - started_s - embed_s},
    }
    if plan.leave_out is not None:
        names = left_out_names(splits, operations, plan.leave_out)
        figures["left_out"] = {"of": plan.leave_out, "methods": left_out_figures(predictions, names)}
    if plan.published:
        models = [(fold.model, fold.split) for fold in folds]
        place = embeddings or f"{atlas.rstrip('/')}/embeddings"
        figures["literature"] = literature_figures(source, taxonomy, models, frozen.ref, spec, place, on_embed)
    save_evaluation(out, figures, predictions, taxonomy)
    return Evaluation(figures, predictions, source, taxonomy, folds, data)


def drawn_caveats(source: Atlas) -> list[str]:
    """What a reader should know of the synthetic samples of ``source``: how many there are, and that none is judged."""
    count = sum(clip.source == SYNTHETIC for clip in source.clips)
    videos = len(drawn_videos(source.clips))
    return (
        [f"{count} of the atlas's samples, of {videos} videos, are synthetic; none of them is judged"] if count else []
    )


def splits_of(
    plan: EvaluationPlan,
    source: Atlas,
    judging: Atlas | None,
    operations: Mapping[str, Mapping[str, str]],
    is_given: bool,
) -> tuple[list[dict[str, str]], str]:
    """(video_id → part per fold, how they were drawn in words), by ``plan``. ``judging``: the archive that tests.

    Raises AtlasError, UsageError.
    """
    if plan.splits is not None:
        splits, drawn_by = [dict(split) for split in plan.splits], "given split"
    elif plan.published:
        splits, drawn_by = published_splits(source, 1 if is_given else plan.folds, plan.seed)
    elif plan.leave_out is not None:
        if is_given:
            raise UsageError("a model that exists has learned already; leave it out to leave a specialty out")
        annotated = {clip.video_id for clip in source.clips} - drawn_videos(
            source.clips
        )  # they may show what is left out
        splits = left_out_folds(annotated, operations, groups_of(source.videos), plan.leave_out)
        drawn_by = f"each {plan.leave_out} left out once"
    elif judging is not None:
        splits, drawn_by = [source.split], f"all videos of {judging.name}"
    else:
        splits, drawn_by = fold_splits(source, operations, is_given, plan.part, plan.folds, plan.strategy, plan.seed)
    if plan.learn_from is not None:
        procedures = {video_id: operation.get("procedure", "") for video_id, operation in operations.items()}
        splits = [limit_training_videos(split, plan.learn_from, procedures, plan.seed) for split in splits]
    return splits, drawn_by


def described(model: Halsted | None) -> Figures | None:
    """What names a model, as JSON values; None for None."""
    if model is None:
        return None
    return {
        "name": model.config.name,
        "version": model.config.version,
        "atlas_release": model.config.atlas_release,
        "digest": model.digest,
    }


def require_alike(model: Halsted | None, other: Halsted) -> None:
    """Raises UsageError unless both models can predict from the same vectors."""
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
                f"{theirs}; expected the same, to compare their predictions for the same windows"
            )


def require_fit(model: Halsted, source: Atlas, taxonomy: Taxonomy) -> None:
    """Raises AtlasError where ``model`` answers in another taxonomy than ``source`` is annotated in."""
    if model.taxonomy.digest != taxonomy.digest:
        raise AtlasError(
            f"the atlas {source.name!r} is annotated in taxonomy {taxonomy.name!r} {taxonomy.digest}, model "
            f"{model.config.version!r} answers in {model.taxonomy.name!r} {model.taxonomy.digest}; name an atlas of "
            "the model's taxonomy"
        )


def require_test(data: EvaluationData, folds: Sequence[Fold], source: Atlas) -> None:
    """Raises AtlasError where a fold has no judged clip or window of a test video."""
    samples = data.testing
    judged = {samples.video_ids[v] for v in np.unique(samples.video_W[samples.window_S[samples.judged_S]])}
    for fold in folds:
        if not judged & {video_id for video_id, part in fold.split.items() if part == "test"}:
            raise AtlasError(
                f"fold {fold.number + 1} of release {source.name!r}: every clip of its test videos is "
                "shorter than 0.3 s; annotate longer spans, or draw with another seed"
            )


def fold_figures(fold: Fold, result: FoldResult) -> Figures:
    """A fold as JSON values: its number from 1, held-out videos, number of training videos, and curve."""
    parts = {name: sorted(v for v, part in fold.split.items() if part == name) for name in ("validation", "test")}
    return {
        "fold": fold.number + 1,
        **parts,
        "train": sum(part == "train" for part in fold.split.values()),
        "curve": result.curve,
    }


def feature_map(features: MappedFeatures | None, operations: Mapping[str, Mapping[str, str]]) -> Figures | None:
    """The maps of encoder and decoder features as JSON values: place, procedure and true tags of each window."""
    if features is None:
        return None
    return {
        "task": features["task"],
        "video_ids": features["video_N"].tolist(),
        "procedures": [operations.get(str(video), {}).get("procedure", "") for video in features["video_N"]],
        "truth": features["truth"],
        "encoder": umap(features["encoder"]).round(3).tolist(),
        "decoder": umap(features["decoder"]).round(3).tolist(),
    }


def save_evaluation(out: str, figures: Figures, predictions: Sequence[TagPredictions], taxonomy: Taxonomy) -> None:
    """Writes ``evaluation.json`` and ``answers.parquet`` (``predictions_table``) into ``out``. Raises OutputError."""
    fs, root = filesystem(absolute_location(out))
    rows = io.BytesIO()
    pq.write_table(predictions_table(predictions, taxonomy), rows)
    write_atomically(fs, f"{root}/answers.parquet", rows.getvalue())
    write_atomically(fs, f"{root}/evaluation.json", json.dumps(figures, indent=1, ensure_ascii=False).encode())
