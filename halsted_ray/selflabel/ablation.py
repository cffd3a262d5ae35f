"""Is a round of self-labelling worth it? A recipe without and with one, on the same folds: `halsted evaluate
--self-label`.

In each fold v1 learns what persons labelled, labels videos that nobody did, and v2 learns both; both answer about the
fold's test videos. The labels come from a model that never saw them either, so they carry no truth across.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from halsted_ray.atlas import Atlas
from halsted_ray.compute.parallel import run_parallel
from halsted_ray.errors import AtlasError
from halsted_ray.evaluation.dataset import EvaluationData
from halsted_ray.evaluation.folds import FoldResult, FoldTask, operation_of_video, run_fold, train_fold_model
from halsted_ray.evaluation.predictions import MODEL, REFERENCE, TagPredictions, predict, tag_targets
from halsted_ray.evaluation.run_evaluation import Evaluation, evaluate, fold_figures, map_of, save_evaluation
from halsted_ray.evaluation.scoring import score_predictions
from halsted_ray.mapping.progress import QUIET, Watch
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Clip, digest
from halsted_ray.selflabel.gain import measure_gain
from halsted_ray.selflabel.labelling import LabellingResult, label_archive, labels_of
from halsted_ray.selflabel.self_label import GATE, PRECISION
from halsted_ray.selflabel.validation import WINDOWS, predict_windows, vectors_of
from halsted_ray.storage.locations import absolute_location
from halsted_ray.taxonomy import from_dict
from halsted_ray.training.atlas_samples import load_samples
from halsted_ray.training.recipe import PAPER, Recipe
from halsted_ray.training.samples import Samples, training_windows


@dataclass(frozen=True)
class AblationFold:
    """What v2 of a fold learns from, and ``labelled``: its test windows as v1 would have labelled them (None: no
    window of them reaches a threshold)."""

    job: FoldTask
    train: Samples
    validation: Samples
    labelled: Samples | None


def evaluate_self_labelling(
    atlas: str,
    archive: str,
    out: str,
    recipe: Recipe = PAPER,
    *,
    precision: float = PRECISION,
    gate: float = GATE,
    task: str = "micro",
    embeddings: str | None = None,
    watch: Watch = QUIET,
    **options,
) -> tuple[Evaluation, list[list[Clip]]]:
    """Cross-validates ``recipe`` without and with the labels that each fold's own model gives the videos of
    ``archive``; nothing is added to the atlas. ``options``: as for ``evaluate``. Gives the labels of each fold too.

    What comes back is an evaluation of v2, with v1 among the methods, and ``figures["comparison"]``: see ``compare``,
    and ``labels``, a report of ``label_archive`` for each fold. A fold whose v1 fails the gate, or trusts none of its
    answers, keeps v1. The same call again does only what is missing. Raises as ``evaluate`` and ``self_label``.
    """
    embeddings = embeddings or f"{atlas.rstrip('/')}/embeddings"
    before = evaluate(atlas, out, recipe, embeddings=embeddings, **options)
    require_by_hand(before.atlas)
    lessons, labels, reports = [], [], []
    for job in before.jobs:
        watch.say(f"fold {job.number + 1} of {len(before.jobs)}")
        known = known_of(before.atlas, job.split)
        found = label_archive(
            job.model,
            known,
            known,
            archive,
            f"{absolute_location(out)}/labels/fold-{job.number + 1}",
            precision=precision,
            gate=gate,
            task=task,
            embeddings=embeddings,
            watch=watch,
        )
        labels.append(found.clips)
        reports.append(found.report)
        lessons.append(lesson_of(job, known, found, before, recipe, task, embeddings))
    taught = run_parallel(learn, lessons, replace(before.pool, baselines=()))
    v1 = [replace(entry, method=REFERENCE) for entry in before.of()]
    v2 = [entry for result, _ in taught for entry in result.answers]
    operations = operation_of_video(before.atlas.clips)
    answers = v2 + v1 + [entry for entry in before.answers if entry.method != MODEL]
    found = (
        before.figures
        | score_predictions(answers, before.taxonomy, operations)
        | {
            "folds": [fold_figures(job, result) for job, (result, _) in zip(before.jobs, taught, strict=True)],
            "map": map_of(taught[0][0].features, operations),
        }
    )
    found["comparison"] = measure_gain(
        v1, v2, before.taxonomy, operations, task, [entry for _, own in taught for entry in own]
    ) | {"labels": reports}
    save_evaluation(out, found, answers, before.taxonomy)
    return replace(before, figures=found, answers=answers), labels


def require_by_hand(source: Atlas) -> None:
    if any(clip.source == "ai" for clip in source.clips):
        raise AtlasError(
            f"release {source.name!r} holds a model's labels already; that model may have learned from a fold's test "
            "videos: name the release before them"
        )


def known_of(source: Atlas, split: Mapping[str, str]) -> Atlas:
    """What is known in a fold: its videos and what persons said of them."""
    return replace(
        source,
        split=dict(split),
        videos=tuple(video for video in source.videos if video.video_id in split),
        clips=tuple(clip for clip in source.clips if clip.video_id in split),
    )


def lesson_of(
    job: FoldTask, known: Atlas, found: LabellingResult, before: Evaluation, recipe: Recipe, task: str, embeddings: str
) -> AblationFold:
    """Persons' clips and the labels of ``found``, as the samples that v2 learns from."""
    config, taxonomy = before.pool.config, before.taxonomy
    frozen = Encoder.load(config.encoder_ref)
    new = {clip.video_id for clip in found.clips} - set(known.split)
    grown = replace(
        known,
        split=known.split | dict.fromkeys(sorted(new), "train"),
        clips=(*known.clips, *found.clips),
        videos=(*known.videos, *(video for video in found.videos if video.video_id in new)),
    )
    samples = load_samples(grown, grown.split, taxonomy, recipe, config.windows, frozen, embeddings)
    labelled = labelled_test(job, known, found, before, task, embeddings)
    if labelled is not None:
        labelled = load_samples(
            labelled, labelled.split, taxonomy, recipe, config.windows, frozen, embeddings, parts=("test",)
        )["test"]
    # Named by what it learns: other labels, another model.
    model = f"{job.model}-{digest([vars(clip) for clip in found.clips])[:8]}" if found.clips else job.model
    return AblationFold(replace(job, model=model), samples["train"], samples["validation"], labelled)


def labelled_test(
    job: FoldTask, known: Atlas, found: LabellingResult, before: Evaluation, task: str, embeddings: str
) -> Atlas | None:
    """The fold's test videos with the labels that v1 would give them, None where it trusts none of its answers."""
    model, taxonomy = Halsted.load(job.model), before.taxonomy
    asked, videos = taxonomy.task(task), known.videos_of("test")
    windows = {
        video.video_id: [window for window in training_windows(video.duration_s, WINDOWS) if window.kind == "fine"]
        for video in videos
    }
    vectors = vectors_of(known, windows, model, WINDOWS, model.config.encoder_ref, embeddings, None)
    clips = []
    for video_id, own in windows.items():
        said = predict_windows(model, asked, np.stack([vectors[video_id][w.kind, w.start_s, w.stop_s] for w in own]))
        spans = [(window.start_s, window.stop_s) for window in own]
        clips += labels_of(video_id, dict(zip(spans, said, strict=True)), asked, taxonomy, found.trusted, {}).clips
    return replace(known, videos=videos, clips=tuple(clips)) if clips else None


def learn(lesson: AblationFold, pool: EvaluationData) -> tuple[FoldResult, list[TagPredictions]]:
    """v2's answers about the fold's test windows: beside what persons said of them, and what v1 would have said."""
    taxonomy = from_dict(dict(pool.taxonomy))
    model, curve = train_fold_model(lesson.job, pool, taxonomy, lesson.train, lesson.validation)
    result = replace(run_fold(replace(lesson.job, is_given=True), pool), curve=curve)
    if lesson.labelled is None:
        return result, []
    sources_S = np.full(len(lesson.labelled), "ai")
    asked = tag_targets(lesson.labelled, lesson.train, taxonomy, lesson.job.number, sources_S, sources_S)
    return result, predict(model, lesson.labelled, asked)
