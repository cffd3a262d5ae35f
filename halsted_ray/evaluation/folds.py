"""Folds: which videos train, validate and test a model (Monte-Carlo cross-validation over whole videos), and one fold's
work: train its model where none is given, then predict on its test videos."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np

from halsted_ray.atlas import Atlas
from halsted_ray.atlas.contents import drawn_videos
from halsted_ray.atlas.groups import groups_of
from halsted_ray.atlas.split import split_of
from halsted_ray.compute.devices import torch_device
from halsted_ray.errors import AtlasError, UsageError
from halsted_ray.evaluation.baselines import baseline_predictions
from halsted_ray.evaluation.dataset import EvaluationData
from halsted_ray.evaluation.evaluation_plan import STRATEGIES
from halsted_ray.evaluation.llama_answers import llama_predictions
from halsted_ray.evaluation.predictions import KINDS_OF_UNIT, REFERENCE, TagPredictions, predict, tag_targets
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Clip
from halsted_ray.storage.files import read_file, write_atomically
from halsted_ray.storage.locations import filesystem
from halsted_ray.taxonomy import Taxonomy, from_dict
from halsted_ray.training.atlas_samples import filmed_clips
from halsted_ray.training.epoch_record import EpochRecord
from halsted_ray.training.loop import fit_in_process
from halsted_ray.training.samples import Samples
from halsted_ray.training.train import calibrate, decoder_options

MAPPED_TASK = "proficiency"
"""The task whose clips the map of features shows (paper, Fig. 3)."""
MOST_MAPPED = 1500
"""Clips on the map of features, at most."""


def draw_folds(
    procedure_of_video: Mapping[str, str],
    folds: int = 5,
    strategy: str = "per_procedure",
    seed: int = 0,
    group_of: Mapping[str, str] | None = None,
) -> list[dict[str, str]]:
    """Per fold video_id → ``train``, ``validation`` or ``test``; the same for the same videos in any order.

    Source: paper, Methods ("two unique videos per fold, one for validation and one for testing"). ``per_procedure``
    takes two videos of each procedure, the only reading that fits the paper's counts; ``global`` two of the archive. A
    video is tested again only after all videos of its group were tested; a pair of validation and test video comes
    again only after all pairs. A procedure with one video is only learned from. ``group_of``: video_id → group; a group
    of videos takes one part together, as one video (of the procedure of its first video). Raises UsageError, and
    AtlasError where nothing can be tested or nothing is left to learn from.
    """
    if strategy not in STRATEGIES:
        raise UsageError(f"unknown strategy {strategy!r}; expected one of {', '.join(STRATEGIES)}")
    if folds < 1:
        raise UsageError(f"folds={folds}; expected at least 1")
    if group_of and len(set(group_of.values())) < len(group_of):
        first: dict[str, str] = {}
        standing_in = {v: first.setdefault(group_of.get(v, v), v) for v in sorted(procedure_of_video)}
        alone = {video_id: procedure_of_video[video_id] for video_id in first.values()}
        splits = draw_folds(alone, folds, strategy, seed)
        return [{video_id: split[stand_in] for video_id, stand_in in standing_in.items()} for split in splits]
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
    steps = list(range(1, len(members)))
    rng.shuffle(steps)
    # Test videos take turns. Each round of turns pairs them with the validation videos that are another step further.
    return [
        (order[(k + steps[k // len(order) % len(steps)]) % len(order)], order[k % len(order)]) for k in range(count)
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
    """``split`` with only ``learn_from`` of its training videos; the others are in no part.

    A procedure gives its second video only after each procedure has given one. Raises UsageError where the split has
    fewer training videos.
    """
    learning = sorted(video_id for video_id, part in split.items() if part == "train")
    if not 1 <= learn_from <= len(learning):
        raise UsageError(f"learn from {learn_from} videos; expected 1 to {len(learning)}, which is all there are")
    random.Random(seed).shuffle(learning)
    turn: dict[str, int] = {}
    turns_of_procedure: dict[str, int] = {}
    for video_id in learning:
        procedure = procedure_of_video.get(video_id, "")
        turn[video_id] = turns_of_procedure[procedure] = turns_of_procedure.get(procedure, -1) + 1
    kept = set(sorted(learning, key=lambda video_id: turn[video_id])[:learn_from])
    return {video_id: part for video_id, part in split.items() if part != "train" or video_id in kept}


def with_test_atlas(source: Atlas, other: Atlas) -> Atlas:
    """``source`` without its test part, and with all annotated videos of ``other`` as its test part.

    A split that ``source`` does not fix is drawn as ``train`` draws it. Raises AtlasError where the taxonomies differ,
    or a video is in both.
    """
    if source.taxonomy_digest != other.taxonomy_digest:
        raise AtlasError(
            f"the atlas {other.name!r} is annotated in taxonomy {other.taxonomy!r} {other.taxonomy_digest}, "
            f"{source.name!r} in {source.taxonomy!r} {source.taxonomy_digest}; name one of the same taxonomy to test on"
        )
    clips = filmed_clips(other.clips)
    testing = {clip.video_id for clip in clips}
    split = split_of(source)
    learned = {video_id: part for video_id, part in split.items() if part != "test"}
    if both := sorted(testing & set(learned)):
        raise AtlasError(
            f"video {both[0]} and {len(both) - 1} more of {other.name!r} are in {source.name!r} too, to learn from; a "
            "video can't teach and judge: name another archive to test on"
        )
    kept = [video for video in source.videos if video.video_id in learned]
    return replace(
        source,
        split=learned | dict.fromkeys(sorted(testing), "test"),
        videos=(*kept, *(video for video in other.videos if video.video_id in testing)),
        clips=(*(clip for clip in source.clips if clip.video_id in learned), *clips),
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
    """(video_id → train, validation or test per fold, how the folds were drawn, in words).

    Every fold learns from all drawn videos, and none is judged on them. ``is_given``: one model is given, and ``part``
    of the release's split tests it; that part is called ``test``. Raises AtlasError where the part has no annotated
    video.
    """
    drawn = drawn_videos(source.clips)
    annotated = sorted({clip.video_id for clip in source.clips} - drawn)
    if not is_given:
        procedures = {video_id: operations.get(video_id, {}).get("procedure", "") for video_id in annotated}
        chosen = strategy or strategy_for(procedures)
        splits = draw_folds(procedures, folds, chosen, seed, groups_of(source.videos))
        return [split | dict.fromkeys(sorted(drawn), "train") for split in splits], chosen
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
    """video_id → specialty and procedure, from the first clip that names them, as a tag or as its operation's."""
    found: dict[str, dict[str, str]] = {}
    for clip in clips:
        for tag in ("specialty", "procedure"):
            if name := clip.tags.get(tag) or getattr(clip, tag):
                found.setdefault(clip.video_id, {}).setdefault(tag, name)
    return found


@dataclass(frozen=True)
class Fold:
    """``split``: video_id → part. ``model``: where the fold's model lies, or will lie once it is trained; ``is_given``:
    it lies there already. ``against``: where another model lies that predicts the same windows, as ``REFERENCE``."""

    number: int
    split: Mapping[str, str]
    model: str
    is_given: bool
    against: str | None = None


class MappedFeatures(TypedDict):
    """What the map of features shows: vectors [N, …] of clips of one task, with video and true tags of each."""

    task: str
    video_N: np.ndarray
    truth: list[dict[str, str]]
    encoder: np.ndarray
    decoder: np.ndarray


@dataclass(frozen=True)
class FoldResult:
    """``curve``: a record per epoch, empty for a model that was given. ``features``: for the map of features, from the
    held-out clips of the first fold; None for later folds."""

    predictions: list[TagPredictions]
    curve: list[EpochRecord]
    features: MappedFeatures | None


def run_fold(fold: Fold, data: EvaluationData, device: str = "cpu") -> FoldResult:
    """Trains the fold's model where none is given, and predicts the test windows by it and by the baselines.

    ``device``: where models train and predict, ``cpu`` or ``cuda``; the baselines stay on the CPU. Raises TrainingError
    where the loss is not finite, ModelError for a model that can't be read, ResourceError for a GPU that torch lacks.
    """
    torch_device(device)
    taxonomy = from_dict(dict(data.taxonomy))
    train, validation, test = (fold_samples(data, fold, part) for part in ("train", "validation", "test"))
    curve: list[EpochRecord] = []
    if fold.is_given:
        model = Halsted.load(fold.model, device)
    else:
        model, curve = train_fold_model(fold, data, taxonomy, train, validation, device)
    rows = rows_of(data.testing, fold, "test")
    targets = tag_targets(test, train, taxonomy, fold.number, data.kind_S[rows], data.source_S[rows])
    predictions = predict(model, test, targets)
    if fold.against:
        predictions += predict(Halsted.load(fold.against, device), test, targets, REFERENCE)
    if data.llama:
        predictions += llama_predictions(
            data.llama, targets, train, validation, test, taxonomy, data.recipe, torch_device(device).type
        )
    names = data.baselines if len(train) else tuple(name for name in data.baselines if name == "chance")
    steps = {part: fold_steps(data, fold, part) for part in ("train", "validation", "test")} if data.steps else None
    predictions += baseline_predictions(
        names,
        targets,
        train,
        validation,
        test,
        taxonomy,
        steps=steps,
        sais=data.sais,
        sais_method=data.sais_method,
    )
    held_out_rows = np.concatenate([rows_of(data.testing, fold, part) for part in ("validation", "test")])
    clip_rows = held_out_rows[data.kind_S[held_out_rows] == "clip"]
    features = None if fold.number else mapped_features(model, data.testing.take(clip_rows), taxonomy)
    return FoldResult(predictions, curve, features)


def rows_of(samples: Samples, fold: Fold, part: str) -> np.ndarray:
    """Positions of the samples of the videos of one part."""
    is_part_V = np.array([fold.split.get(video_id) == part for video_id in samples.video_ids], bool)
    return np.flatnonzero(is_part_V[samples.video_W[samples.window_S]])


def part_rows(data: EvaluationData, fold: Fold, part: str) -> np.ndarray:
    """Positions of the samples of one part: in ``data.training`` for ``train``, in ``data.testing`` for others.

    The validation part has the units that the recipe trains on, the test part has both.
    """
    if part == "train":
        return rows_of(data.training, fold, part)
    rows = rows_of(data.testing, fold, part)
    if part != "validation":
        return rows
    kinds = [kind for unit in data.recipe.units for kind in KINDS_OF_UNIT[unit]]
    return rows[np.isin(data.kind_S[rows], kinds)]


def fold_samples(data: EvaluationData, fold: Fold, part: str) -> Samples:
    """The samples of one part of the fold: as models learn from them for ``train``, as they are judged for others."""
    samples = data.training if part == "train" else data.testing
    return samples.take(part_rows(data, fold, part))


def fold_steps(data: EvaluationData, fold: Fold, part: str) -> np.ndarray:
    """Vectors by grid and time step [W, G, T, D], row-aligned with the embeddings of ``fold_samples``."""
    side, samples = ("training", data.training) if part == "train" else ("testing", data.testing)
    return data.steps[side][np.unique(samples.window_S[part_rows(data, fold, part)])]


def videos_of(samples: Samples) -> list[str]:
    """The ids of the videos that ``samples`` come from, in order."""
    return [samples.video_ids[v] for v in np.unique(samples.video_W)]


def train_fold_model(
    fold: Fold, data: EvaluationData, taxonomy: Taxonomy, train: Samples, validation: Samples, device: str = "cpu"
) -> tuple[Halsted, list[EpochRecord]]:
    """The fold's model on ``device`` and its curve: read where an earlier run left them, else trained there and left at
    ``fold.model``.

    Raises TrainingError where the loss is not finite, ResourceError for a GPU that torch lacks.
    """
    trained_on = torch_device(device)
    fs, curve_path = filesystem(f"{fold.model}/curve.json")
    if fs.exists(curve_path):
        return Halsted.load(fold.model, device), json.loads(read_file(fs, curve_path))
    recipe, config = data.recipe, data.config
    model = Halsted.create(
        taxonomy,
        config.encoder_dim,
        encoder_ref=config.encoder_ref,
        encoder_fingerprint=config.encoder_fingerprint,
        steps=config.steps,
        version=f"{config.version}-{fold.number}",
        atlas_release=config.atlas_release,
        atlas_version=config.atlas_version,
        windows=config.windows,
        learned_from={"train": videos_of(train), "validation": videos_of(validation)},
        **decoder_options(recipe),
    )
    fitted = fit_in_process(train, validation, model.config.decoder_sizes, taxonomy, recipe, device=trained_on)
    model.decoder.load_state_dict(fitted.tensors)
    model.to(device)
    calibrate(model, validation)
    model.save(fold.model)
    curve = fitted.progress.curve
    write_atomically(fs, curve_path, json.dumps(curve).encode())  # last: it says that the model is whole
    return model, curve


def mapped_features(model: Halsted, samples: Samples, taxonomy: Taxonomy) -> MappedFeatures | None:
    """Encoder and decoder vectors of the judged clips of one task; None for fewer than 4 clips.

    Of more than ``MOST_MAPPED`` clips a random part is taken.
    """
    names = [task.name for task in taxonomy.tasks]
    shown = names.index(MAPPED_TASK) if MAPPED_TASK in names else len(names) - 1
    rows = np.flatnonzero(samples.judged_S & (samples.task_S == shown))
    if len(rows) > MOST_MAPPED:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_MAPPED, replace=False))
    if len(rows) < 4:
        return None
    task = taxonomy.tasks[shown]
    embeddings_ND = samples.embeddings_WD[samples.window_S[rows]]
    answers = model.tag(embeddings_ND, task.name, unit=samples.units(rows))
    predicted = [{tag: category for tag, (category, _) in row.items()} for row in answers]
    truth = [
        {tag.name: tag.categories[c] for tag, c in zip(task.tags, row, strict=False) if c >= 0}
        for row in samples.truth_SG[rows]
    ]
    return {
        "task": task.name,
        "video_N": np.array(samples.video_ids)[samples.video_W[samples.window_S[rows]]],
        "truth": truth,
        "encoder": embeddings_ND.astype(np.float32),
        "decoder": model.features(embeddings_ND, task.name, predicted),
    }
