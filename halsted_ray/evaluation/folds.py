"""Which videos judge which model: Monte-Carlo cross-validation that leaves whole videos out."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import fsspec
import numpy as np

from halsted_ray.atlas import Atlas, read_atlas
from halsted_ray.atlas.split import split_by_video
from halsted_ray.errors import AtlasError, UsageError
from halsted_ray.evaluation.baselines import baseline_predictions
from halsted_ray.evaluation.dataset import EvaluationData
from halsted_ray.evaluation.predictions import REFERENCE, TagPredictions, predict, tag_targets
from halsted_ray.model.halsted import Halsted, ModelConfig
from halsted_ray.records import Clip
from halsted_ray.storage.locations import filesystem
from halsted_ray.taxonomy import Taxonomy, from_dict
from halsted_ray.training.loop import fit_in_process
from halsted_ray.training.samples import Samples
from halsted_ray.training.train import calibrate, decoder_options

STRATEGIES = ("per_procedure", "global")


def draw_folds(
    procedure_of_video: Mapping[str, str], folds: int = 5, strategy: str = "per_procedure", seed: int = 0
) -> list[dict[str, str]]:
    """Per fold video_id → ``train``, ``validation`` or ``test``; the same answer for the same videos in any order.

    Source: paper, Methods ("two unique videos per fold, one for validation and one for testing"). ``per_procedure``
    reads that of each procedure, the only reading that fits the paper's counts; ``global`` of the archive. A test
    video comes a second time only after all of its group were tested, a pair of validation and test only after all
    pairs. A procedure with one video is only learned from. Raises UsageError, AtlasError where nothing can be tested
    or nothing is left to learn from.
    """
    if strategy not in STRATEGIES:
        raise UsageError(f"unknown strategy {strategy!r}; expected one of {', '.join(STRATEGIES)}")
    if folds < 1:
        raise UsageError(f"folds={folds}; expected at least 1")
    groups: dict[str, list[str]] = {}
    for video_id, procedure in sorted(procedure_of_video.items()):
        groups.setdefault(procedure if strategy == "per_procedure" else "", []).append(video_id)
    tested = {name: members for name, members in groups.items() if len(members) > 1}
    left = len(procedure_of_video) - 2 * len(tested)
    if not tested or left < 1:
        raise AtlasError(
            f"{len(procedure_of_video)} videos of {len(set(procedure_of_video.values()))} procedures give no fold by "
            f"strategy {strategy!r}: it holds out {2 * len(tested)} and leaves {left if tested else 'no test video'} "
            "to learn from; annotate more videos" + ("" if strategy == "global" else ", or take strategy 'global'")
        )
    drawn: list[dict[str, str]] = [dict.fromkeys(sorted(procedure_of_video), "train") for _ in range(folds)]
    for name in sorted(tested):
        for split, (validation, test) in zip(drawn, draw_pairs(tested[name], folds, f"{seed}/{name}"), strict=True):
            split[validation], split[test] = "validation", "test"
    return drawn


def draw_pairs(members: list[str], count: int, seed: str) -> list[tuple[str, str]]:
    """``count`` pairs (validation, test) of different members."""
    rng = random.Random(seed)
    order = rng.sample(members, len(members))
    apart = list(range(1, len(members)))
    rng.shuffle(apart)
    # Test videos in turn; each turn pairs them with validation videos that are further along by another step.
    return [
        (order[(k + apart[k // len(order) % len(apart)]) % len(order)], order[k % len(order)]) for k in range(count)
    ]


def strategy_for(procedure_of_video: Mapping[str, str]) -> str:
    """``per_procedure``, as the paper; ``global`` where that would hold out more than half of the videos."""
    counts: dict[str, int] = {}
    for procedure in procedure_of_video.values():
        counts[procedure] = counts.get(procedure, 0) + 1
    held_out = 2 * sum(count > 1 for count in counts.values())
    return "per_procedure" if 0 < held_out <= len(procedure_of_video) / 2 else "global"


def limit_training_videos(
    split: Mapping[str, str], learn_from: int, procedure_of_video: Mapping[str, str], seed: int
) -> dict[str, str]:
    """``split`` with ``learn_from`` of its training videos, the others in no part: one of each procedure before a
    second one of any. What would a model be worth with fewer annotated videos? Raises UsageError."""
    learning = sorted(video_id for video_id, part in split.items() if part == "train")
    if not 1 <= learn_from <= len(learning):
        raise UsageError(f"learn from {learn_from} videos; expected 1 to {len(learning)}, which is all there are")
    random.Random(seed).shuffle(learning)
    turn, seen = {}, {}
    for video_id in learning:
        procedure = procedure_of_video.get(video_id, "")
        turn[video_id] = seen[procedure] = seen.get(procedure, -1) + 1
    kept = set(sorted(learning, key=turn.get)[:learn_from])
    return {video_id: part for video_id, part in split.items() if part != "train" or video_id in kept}


MAPPED_TASK = "proficiency"
"""Whose windows the map of features shows (paper, Fig. 3)."""
MOST_MAPPED = 1500


@dataclass(frozen=True)
class FoldTask:
    """``split``: video_id → part. ``model``: where the fold's model lies, or will lie once it is trained.
    ``against``: where another model lies that answers the same windows, as the method ``BEFORE``."""

    number: int
    split: Mapping[str, str]
    model: str
    is_given: bool
    against: str | None = None


@dataclass(frozen=True)
class FoldResult:
    """``curve``: a record per epoch (see ``loop.TrainProgress``), empty for a model that was given. ``features``: the
    vectors that the map shows, of the held-out windows of one task; None for later folds."""

    answers: list[TagPredictions]
    curve: list[dict]
    features: dict | None


def run_fold(job: FoldTask, pool: EvaluationData) -> FoldResult:
    """Raises TrainingError when the loss is not finite, ModelError for a model that can't be read."""
    taxonomy = from_dict(dict(pool.taxonomy))
    train, train_steps = part_of(pool, job, "train", "learning")
    validation, validation_steps = part_of(pool, job, "validation", "judging")
    test, test_steps = part_of(pool, job, "test", "judging")
    if job.is_given:
        model, curve = Halsted.load(job.model), []
    else:
        model, curve = train_fold_model(job, pool, taxonomy, train, validation)
    rows = rows_of(pool.judging, job, "test")
    asked = tag_targets(test, train, taxonomy, job.number, pool.kind_S[rows], pool.source_S[rows])
    answers = predict(model, test, asked)
    if job.against:
        answers += predict(Halsted.load(job.against), test, asked, REFERENCE)
    steps = {"train": train_steps, "validation": validation_steps, "test": test_steps}
    names = pool.baselines if len(train) else tuple(name for name in pool.baselines if name == "chance")
    answers += baseline_predictions(names, asked, train, validation, test, taxonomy, steps=steps, sais=pool.sais)
    held_out = pool.judging.take(np.concatenate([rows_of(pool.judging, job, part) for part in ("validation", "test")]))
    return FoldResult(answers, curve, None if job.number else features_of(model, held_out, taxonomy))


def rows_of(samples: Samples, job: FoldTask, part: str) -> np.ndarray:
    """Positions of the samples of the videos of one part."""
    is_part = np.array([job.split.get(video_id) == part for video_id in samples.video_ids], bool)
    return np.flatnonzero(is_part[samples.video_W[samples.window_S]])


def videos_of(samples: Samples) -> list[str]:
    """The ids of the videos that ``samples`` come from, in order."""
    return [samples.video_ids[v] for v in np.unique(samples.video_W)]


def part_of(pool: EvaluationData, job: FoldTask, part: str, side: str) -> tuple[Samples, np.ndarray | None]:
    samples: Samples = getattr(pool, side)
    rows = rows_of(samples, job, part)
    steps = pool.steps[side][np.unique(samples.window_S[rows])] if pool.steps else None
    return samples.take(rows), steps


def train_fold_model(
    job: FoldTask, pool: EvaluationData, taxonomy: Taxonomy, train: Samples, validation: Samples
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
        learned_from={"train": videos_of(train), "validation": videos_of(validation)},
        **decoder_options(recipe),
    )
    fitted = fit_in_process(train, validation, model.config.decoder_sizes, taxonomy, recipe)
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


Learned = Mapping[str, Collection[str]]
"""``train`` → ids of the videos that taught a model, ``validation`` → ids of the videos that it was chosen on."""


def learned_by(config: ModelConfig, locations: Iterable[str]) -> Learned | None:
    """What a model learned from and was chosen on; None where that can't be known.

    The model says it itself (``ModelConfig.learned_from``). A model that was saved before models did is looked up: one
    of the atlases at ``locations`` may hold the release that it names at the version that it names.
    """
    if config.learned_from is not None:
        return config.learned_from
    for location in locations if config.atlas_release and config.atlas_version is not None else ():
        try:
            taught = read_atlas(location, version=config.atlas_version)
        except AtlasError:  # another atlas, which has no such version
            continue
        if taught.name == config.atlas_release:
            split = taught.split or split_by_video([video.video_id for video in taught.videos], taught.clips)
            return {part: {v for v in split if split[v] == part} for part in ("train", "validation")}
    return None


def require_unlearned(
    config: ModelConfig,
    learned: Learned | None,
    judging: Collection[str],
    advice: str,
    parts: Sequence[str] = ("train", "validation"),
) -> None:
    """Raises UsageError where one of the videos ``judging`` is in one of the ``parts`` of what a model ``learned``."""
    own = {video_id for part in parts for video_id in (learned or {}).get(part, ())}
    if both := sorted(own & set(judging)):
        raise UsageError(
            f"model {config.version!r} learned from {len(both)} of the {len(judging)} videos that would judge it, such "
            f"as {both[0]}; that it is right about them says nothing: {advice}"
        )


def caveats_of(config: ModelConfig, learned: Learned | None, judging: Collection[str]) -> list[str]:
    """Sentences about why the figures of a model on the videos ``judging`` may be too good; none where they are not."""
    if learned is None:
        return [
            f"it is not known which videos model {config.version!r} learned from; if it learned from some of the "
            f"{len(judging)} videos that judge it, these figures are too good"
        ]
    chosen = set(learned.get("validation", ())) & set(judging)
    return (
        [
            f"model {config.version!r} was chosen on {len(chosen)} of the {len(judging)} videos that judge it (its "
            "epoch and its calibration), so these figures are a little too good"
        ]
        if chosen
        else []
    )


def with_test_atlas(source: Atlas, other: Atlas) -> Atlas:
    """``source`` without its test part, with all annotated videos of ``other`` as its test part. A split that it does
    not fix is drawn as ``train`` draws it. Raises AtlasError."""
    if source.taxonomy_digest != other.taxonomy_digest:
        raise AtlasError(
            f"the atlas {other.name!r} is annotated in taxonomy {other.taxonomy!r} {other.taxonomy_digest}, "
            f"{source.name!r} in {source.taxonomy!r} {source.taxonomy_digest}; name one of the same taxonomy to test on"
        )
    judging = {clip.video_id for clip in other.clips}
    split = source.split or split_by_video([video.video_id for video in source.videos], source.clips)
    learned = {video_id: part for video_id, part in split.items() if part != "test"}
    if both := sorted(judging & set(learned)):
        raise AtlasError(
            f"video {both[0]} and {len(both) - 1} more of {other.name!r} are in {source.name!r} too, to learn from; a "
            "video can't teach and judge: name another archive to test on"
        )
    kept = [video for video in source.videos if video.video_id in learned]
    return replace(
        source,
        split=learned | dict.fromkeys(sorted(judging), "test"),
        videos=(*kept, *(video for video in other.videos if video.video_id in judging)),
        clips=(*(clip for clip in source.clips if clip.video_id in learned), *other.clips),
    )


def fold_splits(
    source: Atlas,
    operations: Mapping[str, Mapping[str, str]],
    is_given: bool,
    part: str,
    folds: int,
    strategy: str | None,
    seed: int,
) -> tuple[list[dict[str, str]], str]:
    """(video_id → train, validation or test per fold, how they were drawn). What judges is called ``test``."""
    annotated = sorted({clip.video_id for clip in source.clips})
    if not is_given:
        procedures = {video_id: operations.get(video_id, {}).get("procedure", "") for video_id in annotated}
        chosen = strategy or strategy_for(procedures)
        return draw_folds(procedures, folds, chosen, seed), chosen
    if part == "all":
        return [dict.fromkeys(annotated, "test")], "all videos"
    names = {"train": "train", "validation": "validation"} | {part: "test"}
    split = {v: names[source.split[v]] for v in annotated if source.split.get(v) in names}
    if "test" not in split.values():
        raise AtlasError(
            f"release {source.name!r} has no annotated video in its {part!r} part (parts: "
            f"{sorted(set(source.split.values())) or 'none'}); give it one, name another with --part, or leave the "
            "model out to cross-validate"
        )
    return [split], f"{part} part of {source.name}"


def operation_of_video(clips: Sequence[Clip]) -> dict[str, dict[str, str]]:
    """video_id → specialty and procedure, from the first clip that names them, as a tag or of its operation."""
    found: dict[str, dict[str, str]] = {}
    for clip in clips:
        for tag in ("specialty", "procedure"):
            if name := clip.tags.get(tag) or getattr(clip, tag):
                found.setdefault(clip.video_id, {}).setdefault(tag, name)
    return found
