"""Is a round of self-labelling worth it? A recipe without and with a round, on the same folds: `halsted evaluate
--self-label`.

In each fold v1 learns from what persons labelled, then labels videos that nobody did, and v2 learns from both; both
predict the fold's test videos. In a second round v2 labels the same videos anew, and v3 learns from persons' clips and
these labels. The labels come from models that never saw the test videos, so they carry no truth across.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from halsted_ray.atlas import Atlas, read_atlas
from halsted_ray.compute.parallel import run_parallel
from halsted_ray.compute.progress import QUIET, RunObserver
from halsted_ray.embedding.embed import EmbedProgress
from halsted_ray.errors import AtlasError, UsageError
from halsted_ray.evaluation.dataset import EvaluationData
from halsted_ray.evaluation.evaluation_plan import EvaluationPlan
from halsted_ray.evaluation.fold_resources import gpu_share_of_fold
from halsted_ray.evaluation.folds import Fold, FoldResult, operation_of_video, run_fold, train_fold_model
from halsted_ray.evaluation.json_values import Figures
from halsted_ray.evaluation.predictions import MODEL, REFERENCE, TagPredictions, predict, tag_targets
from halsted_ray.evaluation.run_evaluation import Evaluation, evaluate, feature_map, fold_figures, save_evaluation
from halsted_ray.evaluation.scoring import score_predictions
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Clip, Video, digest
from halsted_ray.selflabel.gain import measure_gain, model_after
from halsted_ray.selflabel.labelling import LabellingResult, LabellingRules, VideoLabels, label_archive, labels_of
from halsted_ray.selflabel.thresholds import Thresholds
from halsted_ray.selflabel.validation import WINDOWS, predict_windows, vectors_of
from halsted_ray.storage.locations import absolute_location
from halsted_ray.taxonomy import Task, from_dict
from halsted_ray.training.atlas_samples import JUDGED, load_samples
from halsted_ray.training.recipe import PAPER, Recipe
from halsted_ray.training.samples import Samples, training_windows
from halsted_ray.video.archive import list_videos


@dataclass(frozen=True)
class AblationFold:
    """What a fold's model after a round learns from. ``labelled_test``: the fold's test videos as the model before the
    round would have labelled them, None where no window reaches a threshold."""

    fold: Fold
    train: Samples
    validation: Samples
    labelled_test: Samples | None


def evaluate_self_labelling(
    atlas: str,
    archive: str,
    out: str,
    recipe: Recipe = PAPER,
    *,
    plan: EvaluationPlan | None = None,
    rules: LabellingRules | None = None,
    rounds: int = 1,
    encoder: str | None = None,
    embeddings: str | None = None,
    observer: RunObserver = QUIET,
    on_embed: EmbedProgress | None = None,
    on_fold: Callable[[int, int], None] | None = None,
) -> tuple[Evaluation, list[list[list[Clip]]]]:
    """Cross-validates ``recipe`` without and with the labels that each fold's own model gives the videos of
    ``archive``. Nothing is added to the atlas.

    ``plan``: the folds and the baselines; ``rules``: when a label is kept; ``rounds``: how often the newest model
    labels the archive and its successor learns (each round's labels take the place of the labels before); the other
    options as of ``evaluate``.

    Returns an evaluation of the model after the last round, in which v1 and the models between are methods, and the
    labels by round and fold. The evaluation's figures have ``comparison`` (``gain.measure_gain`` against v1)
    with ``labels``, a report of ``label_archive`` for each fold, and ``rounds``, the same for each earlier round. A
    fold whose model fails the gate, or trusts none of its predictions, keeps that model. The same call again does only
    what is missing. Raises as ``evaluate`` and ``self_label``.
    """
    rules = rules or LabellingRules()
    if rounds < 1:
        raise UsageError(f"{rounds} rounds of self-labelling; expected at least 1")
    embeddings = embeddings or f"{atlas.rstrip('/')}/embeddings"
    # Before the folds' models are trained, which takes hours.
    require_manual_clips(read_atlas(atlas, plan.release if plan else None))
    if plan and plan.test_on:
        require_manual_clips(read_atlas(plan.test_on))
    list_videos(absolute_location(archive))
    before = evaluate(
        atlas, out, recipe, plan=plan, encoder=encoder, embeddings=embeddings, on_embed=on_embed, on_fold=on_fold
    )
    operations = operation_of_video(before.atlas.clips)
    v1 = [replace(entry, method=REFERENCE) for entry in before.of()]
    work = RoundWork(before, archive, absolute_location(out), recipe, rules, embeddings, observer)
    folds, between, comparisons, labels = list(before.folds), list[TagPredictions](), list[Figures](), []
    for number in range(1, rounds + 1):
        done = run_round(work, folds, number)
        folds = done.folds
        labels.append(done.labels)
        comparisons.append(
            {
                **measure_gain(v1, done.predictions, before.taxonomy, operations, rules.task, done.on_labels, number),
                "labels": done.reports,
            }
        )
        if number < rounds:
            between += [replace(entry, method=model_after(number)) for entry in done.predictions]
    predictions = done.predictions + v1 + between + [entry for entry in before.predictions if entry.method != MODEL]
    figures: Figures = {
        **before.figures,
        **score_predictions(predictions, before.taxonomy, operations),
        "folds": [fold_figures(fold, result) for fold, result in zip(before.folds, done.results, strict=True)],
        "map": feature_map(done.results[0].features, operations),
        "comparison": {**comparisons[-1], "rounds": comparisons[:-1]},
    }
    save_evaluation(out, figures, predictions, before.taxonomy)
    return replace(before, figures=figures, predictions=predictions), labels


@dataclass(frozen=True)
class RoundWork:
    """What all rounds of an ablation share. ``before``: the evaluation of v1; ``out``: absolute."""

    before: Evaluation
    archive: str
    out: str
    recipe: Recipe
    rules: LabellingRules
    embeddings: str
    observer: RunObserver


@dataclass(frozen=True)
class Round:
    """What a round gave, per fold: its ``labels`` and their ``reports``, the model that learned from them (``folds``)
    and its ``results``. ``on_labels``: predictions for test windows that the model before would have labelled."""

    folds: list[Fold]
    labels: list[list[Clip]]
    reports: list[Figures]
    results: list[FoldResult]
    on_labels: list[TagPredictions]

    @property
    def predictions(self) -> list[TagPredictions]:
        """The predictions of all folds for what persons labelled."""
        return [entry for result in self.results for entry in result.predictions]


def run_round(work: RoundWork, folds: Sequence[Fold], number: int) -> Round:
    """Round ``number``, from 1: the model of each of ``folds`` labels the archive, and another one learns from persons'
    clips and these labels."""
    before, place = work.before, "" if number == 1 else f"round-{number}/"
    ablation_folds, labels, reports = [], [], []
    for first, fold in zip(before.folds, folds, strict=True):
        work.observer.on_message(f"round {number}, fold {fold.number + 1} of {len(folds)}")
        known = fold_atlas(before.atlas, fold.split)
        labelled = label_archive(
            fold.model,
            known,
            known,
            work.archive,
            f"{work.out}/labels/{place}fold-{fold.number + 1}",
            rules=work.rules,
            embeddings=work.embeddings,
            observer=work.observer,
        )
        labels.append(labelled.clips)
        reports.append(labelled.report)
        ablation_folds.append(prepare_next_model(first, fold, known, labelled, work))
    data = replace(before.data, baselines=())
    results = run_parallel(run_next_model, ablation_folds, data, gpu_share=gpu_share_of_fold(data))
    return Round(
        folds=[ablation.fold for ablation in ablation_folds],
        labels=labels,
        reports=reports,
        results=[result for result, _ in results],
        on_labels=[entry for _, of_fold in results for entry in of_fold],
    )


def require_manual_clips(source: Atlas) -> None:
    """Raises AtlasError where a model labelled clips of the atlas."""
    if any(clip.source == "ai" for clip in source.clips):
        raise AtlasError(
            f"release {source.name!r} holds a model's labels already; that model may have learned from a fold's test "
            "videos: name the release before them"
        )


def fold_atlas(source: Atlas, split: Mapping[str, str]) -> Atlas:
    """The atlas as a fold knows it: the fold's split, its videos and their clips."""
    return replace(
        source,
        split=dict(split),
        videos=tuple(video for video in source.videos if video.video_id in split),
        clips=tuple(clip for clip in source.clips if clip.video_id in split),
    )


def prepare_next_model(
    first: Fold, fold: Fold, known: Atlas, labelled: LabellingResult, work: RoundWork
) -> AblationFold:
    """The samples that a fold's next model learns from: persons' clips in ``known``, and the labels of ``labelled``.

    ``first``: the fold with v1; ``fold``: with the model that labelled.
    """
    before, recipe, embeddings = work.before, work.recipe, work.embeddings
    config, taxonomy = before.data.config, before.taxonomy
    frozen = encoder_identity(config.encoder_ref)
    new_videos = {clip.video_id for clip in labelled.clips} - set(known.split)
    grown = replace(
        known,
        split=known.split | dict.fromkeys(sorted(new_videos), "train"),
        clips=(*known.clips, *labelled.clips),
        videos=(*known.videos, *(video for video in labelled.videos if video.video_id in new_videos)),
    )
    samples = load_samples(grown, grown.split, taxonomy, recipe, config.windows, frozen, embeddings)
    test_atlas = label_test_videos(fold, known, labelled, before, work.rules.task, embeddings)
    labelled_test = None
    if test_atlas is not None:
        judged = replace(JUDGED, tasks=recipe.tasks)
        labelled_test = load_samples(
            test_atlas, test_atlas.split, taxonomy, judged, config.windows, frozen, embeddings, parts=("test",)
        )["test"]
    # The folder is named by what the model learns from: other labels make another model.
    model = f"{first.model}-{digest([vars(clip) for clip in labelled.clips])[:8]}" if labelled.clips else fold.model
    return AblationFold(replace(fold, model=model), samples["train"], samples["validation"], labelled_test)


def label_test_videos(
    fold: Fold, known: Atlas, labelled: LabellingResult, before: Evaluation, task_name: str, embeddings: str
) -> Atlas | None:
    """The fold's test videos with the labels that its model would give them; None where it trusts none of its own
    predictions."""
    model, task, videos = Halsted.load(fold.model), before.taxonomy.task(task_name), known.videos_of("test")
    found = label_by_vectors(model, known, videos, task, labelled.thresholds, embeddings)
    clips = [clip for of_video in found for clip in of_video.clips]
    return replace(known, videos=videos, clips=tuple(clips)) if clips else None


def label_by_vectors(
    model: Halsted, source: Atlas, videos: Sequence[Video], task: Task, thresholds: Thresholds, embeddings: str
) -> list[VideoLabels]:
    """What ``model`` says of ``videos`` of ``source``, from the vectors of their 1-s windows and without a mapping.
    Missing vectors are made, in ``embeddings``."""
    windows = {
        video.video_id: [window for window in training_windows(video.duration_s, WINDOWS) if window.kind == "fine"]
        for video in videos
    }
    vectors = vectors_of(source, windows, model, WINDOWS, model.config.encoder_ref, embeddings, None)
    found = []
    for video_id, all_of_video in windows.items():
        of_video = [w for w in all_of_video if (w.kind, w.start_s, w.stop_s) in vectors[video_id]]
        if not of_video:
            continue
        vectors_ND = np.stack([vectors[video_id][w.kind, w.start_s, w.stop_s] for w in of_video])
        predicted = predict_windows(model, task, vectors_ND)
        spans = [(window.start_s, window.stop_s) for window in of_video]
        predicted_of_span = dict(zip(spans, predicted, strict=True))
        found.append(labels_of(video_id, predicted_of_span, task, model.taxonomy, thresholds, {}))
    return found


def run_next_model(
    ablation: AblationFold, data: EvaluationData, device: str = "cpu"
) -> tuple[FoldResult, list[TagPredictions]]:
    """Trains a fold's next model on ``device`` and predicts the fold's test windows: against what persons labelled, and
    what the model before would have."""
    taxonomy = from_dict(dict(data.taxonomy))
    model, curve = train_fold_model(ablation.fold, data, taxonomy, ablation.train, ablation.validation, device)
    result = replace(run_fold(replace(ablation.fold, is_given=True), data, device), curve=curve)
    if ablation.labelled_test is None:
        return result, []
    sources_S = np.full(len(ablation.labelled_test), "ai")
    targets = tag_targets(ablation.labelled_test, ablation.train, taxonomy, ablation.fold.number, sources_S, sources_S)
    return result, predict(model, ablation.labelled_test, targets)
