"""A training run from an atlas to a model in a folder: what `halsted train` and jobs/train.py call."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import fsspec
import numpy as np
import ray

from halsted_ray.atlas import Atlas, read_atlas
from halsted_ray.atlas.split import split_by_video
from halsted_ray.compute.cluster import connected
from halsted_ray.errors import AtlasError, OutputError
from halsted_ray.model.encoder import STEPS, Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.records import Window, WindowSpec, digest
from halsted_ray.storage.files import require_writable
from halsted_ray.storage.locations import absolute_location, filesystem
from halsted_ray.storage.vectors import VectorStore, sampling_name
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.training import loop
from halsted_ray.training.embed import embed
from halsted_ray.training.recipe import PAPER, Recipe
from halsted_ray.training.samples import (
    HALF_SHARE,
    LabelledWindow,
    Samples,
    build_samples,
    label_windows,
    tasks_to_learn,
    training_windows,
)

FIDELITY = "reference"
"""Mapping's default, so that one store serves both."""
SHARE_STEPS = 20
"""Calibration counts a window's share of an answer in twentieths."""


@dataclass(frozen=True)
class TrainingPlan:
    """What a run is about to do, known before any work."""

    run_id: str
    atlas: Atlas
    split: dict[str, str]
    taxonomy: Taxonomy
    recipe: Recipe
    spec: WindowSpec
    encoder: str
    encoder_fingerprint: str
    workers: int
    model: str
    """Where the model will lie."""


@dataclass(frozen=True)
class TrainSummary:
    """What a run made, and from what. Accuracies are exact match on validation windows at the saved epoch."""

    model: str
    model_version: str
    atlas_release: str
    atlas_version: int
    videos: dict[str, int]
    """Part of the split → number of videos."""
    samples: dict[str, int]
    parameters: int
    epochs: int
    best_epoch: int
    accuracy_of_task: dict[str, float | None]
    accuracy_of_tag: dict[str, float | None]
    temperatures: dict[str, float]
    embed_s: float
    train_s: float
    curve: list[dict]


def train(
    atlas: str,
    out: str,
    recipe: Recipe = PAPER,
    *,
    encoder: str = "tiny",
    spec: WindowSpec | None = None,
    release: str | None = None,
    version: int | None = None,
    embeddings: str | None = None,
    workers: int = 1,
    use_gpu: bool = False,
    on_start: Callable[[TrainingPlan], None] = lambda start: None,
    on_epoch: Callable[[dict], None] | None = None,
    on_restored: Callable[[dict], None] | None = None,
    on_embed: Callable[[float, float], None] | None = None,
) -> TrainSummary:
    """Trains a Halsted on the atlas of the archive at ``atlas``; leaves the model in ``<out>/model``.

    ``out`` is any fsspec location. The same call again goes on with a run that was killed, and answers at once when
    it is finished; another recipe or atlas needs another ``out``. Vectors are kept in ``embeddings`` (default:
    ``<atlas>/embeddings``), and those that are there are used. ``release`` or ``version`` say which atlas (default:
    the latest release). A split that the atlas does not fix is drawn by video.
    ``on_start`` is called first, for a finished run too, and may refuse by raising. ``on_epoch`` gets the record of
    each epoch that is trained, ``on_restored`` of each epoch that a checkpoint brought back (``loop.fit``).

    Raises AtlasError, ModelError, OutputError (``out`` holds another run, or can't be written), ResourceError.
    """
    spec = spec or WindowSpec()
    source = read_atlas(atlas, release, version)
    taxonomy = source.load_taxonomy()
    encoder = encoder_for(recipe, encoder)
    frozen = Encoder.load(encoder)
    split = source.split or split_by_video([video.video_id for video in source.videos], source.clips)
    run_id = digest(
        {**asdict(recipe), "shifts_s": list(recipe.shifts_s)},
        source.content_digest,
        frozen.fingerprint,
        asdict(spec),
        split,
    )
    on_start(
        TrainingPlan(
            run_id,
            source,
            split,
            taxonomy,
            recipe,
            spec,
            encoder,
            frozen.fingerprint,
            workers,
            f"{absolute_location(out)}/model",
        )
    )
    if done := finished_run(out, run_id):
        return done

    require_writable(out)  # before hours of decoding and encoding
    started_s = time.monotonic()
    samples = load_samples(
        source, split, taxonomy, recipe, spec, frozen, embeddings or f"{atlas.rstrip('/')}/embeddings", on_embed
    )
    model = Halsted.create(
        taxonomy,
        frozen.dim,
        encoder_ref=encoder,
        encoder_fingerprint=frozen.fingerprint,
        steps=frozen.steps,
        version=run_id,
        atlas_release=source.name,
        atlas_version=source.version,
        windows=spec,
        learned_from={part: own.video_ids for part, own in samples.items()},
        **decoder_options(recipe),
    )
    embed_s = time.monotonic() - started_s

    started_s = time.monotonic()
    root = absolute_location(out)
    paths = {part: f"{root}/samples/{run_id}-{part}.safetensors" for part in samples}
    try:
        for part, path in paths.items():
            samples[part].save(path)
    except OSError as error:
        raise OutputError(f"the run can't be written to {out!r}: {error}; name a place you may write") from error
    with connected() as (_, _, cores):
        fitted = loop.fit(
            **paths,
            decoder=model.config.decoder_sizes,
            taxonomy=taxonomy,
            recipe=recipe,
            name=run_id,
            storage=f"{root}/checkpoints",
            workers=workers,
            cores=cores_of_worker(cores, workers),
            use_gpu=use_gpu,
            on_epoch=on_epoch,
            on_restored=on_restored,
        )
    model.decoder.load_state_dict(fitted.tensors)
    calibrate(model, samples["validation"])
    model.save(f"{root}/model")
    best = fitted.progress.curve[fitted.progress.best_epoch]
    summary = TrainSummary(
        model=f"{out.rstrip('/')}/model",
        model_version=run_id,
        atlas_release=source.name,
        atlas_version=source.version,
        videos={part: len(own.video_ids) for part, own in samples.items()},
        samples={part: len(own) for part, own in samples.items()},
        parameters=model.parameters,
        epochs=recipe.epochs,
        best_epoch=fitted.progress.best_epoch,
        accuracy_of_task=best["accuracy_of_task"],
        accuracy_of_tag=best["accuracy_of_tag"],
        temperatures=dict(model.config.temperatures),
        embed_s=embed_s,
        train_s=time.monotonic() - started_s,
        curve=fitted.progress.curve,
    )
    with fsspec.open(f"{root}/training.json", "w") as file:
        json.dump({"run_id": run_id, "recipe": asdict(recipe), "summary": asdict(summary)}, file, indent=1)
    return summary


def load_samples(
    source: Atlas,
    split: dict[str, str],
    taxonomy: Taxonomy,
    recipe: Recipe,
    spec: WindowSpec,
    frozen: Encoder,
    embeddings: str,
    progress: Callable[[float, float], None] | None = None,
    parts: Sequence[str] = ("train", "validation"),
) -> dict[str, Samples]:
    """Part of the split → its samples; what has no vector at ``embeddings`` yet is decoded and encoded."""
    labelled = {part: labelled_windows(source, part, split, taxonomy, recipe, spec) for part in parts}
    windows = {video_id: unique_windows(samples) for part in labelled.values() for video_id, samples in part.items()}
    store = VectorStore(embeddings, frozen.fingerprint, sampling_name(spec, FIDELITY))
    videos = [video for video in source.videos if video.video_id in windows]
    vectors = embed(videos, windows, frozen.ref, store, spec, fidelity=FIDELITY, progress=progress)
    vocabulary = Vocabulary(taxonomy)
    return {part: build_samples(own, vectors, vocabulary) for part, own in labelled.items()}


def labelled_windows(
    atlas: Atlas, part: str, split: dict[str, str], taxonomy: Taxonomy, recipe: Recipe, spec: WindowSpec
) -> dict[str, list[LabelledWindow]]:
    """video_id → samples, of the videos of one part that have any; only training windows are shifted."""
    tasks = tasks_to_learn(taxonomy, recipe.tasks)
    choices = (recipe.shifts_s, recipe.least_share, recipe.ai_weight) if part == "train" else ((0.0,), HALF_SHARE, 1.0)
    shifts_s, least_share, ai_weight = choices
    samples = {}
    for video in atlas.videos:
        if split.get(video.video_id) == part:
            clips = [clip for clip in atlas.clips if clip.video_id == video.video_id]
            samples[video.video_id] = label_windows(
                training_windows(video.duration_s, spec, shifts_s), clips, tasks, least_share, ai_weight
            )
    if not any(samples.values()):
        raise AtlasError(
            f"the atlas {atlas.name!r} has no annotated video in its {part!r} part ({len(samples)} videos, "
            f"{len(atlas.videos)} in all); give its split at least one"
        )
    return {video_id: own for video_id, own in samples.items() if own}


def cores_of_worker(cores: int, workers: int) -> int:
    """All cores of one machine are shared out; on several, where a share may fit no machine, a worker takes one."""
    return max(1, cores // workers) if len(ray.nodes()) == 1 else 1


def encoder_for(recipe: Recipe, ref: str) -> str:
    """The encoder at ``ref``, giving its steps where the recipe wants them."""
    return ref + STEPS if recipe.temporal_tokens and not ref.endswith(STEPS) else ref


def decoder_options(recipe: Recipe) -> dict:
    """What a recipe says of an untrained model: arguments of ``Halsted.create``. Raises ModelError (its Llama)."""
    names = ("layers", "heads", "width", "feedforward", "soft_prompt", "seed")
    llama = None
    if recipe.llama:
        from halsted_ray.model.llama import read_config  # here: it brings seconds of imports that few need

        llama = read_config(recipe.llama)
    return {name: getattr(recipe, name) for name in names} | {"llama": llama, "dropout": 0.0}


def unique_windows(samples: list[LabelledWindow]) -> list[Window]:
    return list(dict.fromkeys(sample.window for sample in samples))


def calibrate(model: Halsted, validation: Samples) -> None:
    """Fits the model's temperatures on the validation windows' own truth.

    A window that holds two steps counts for both, by their shares: on the larger ones alone every step is right, the
    temperature falls to its floor, and the smaller share of a mixed window gets the probability 0.0000 that closes
    it to the workflow (measured: 7 of 8 windows; with shares the temperature of step is 1.1 and not 0.2).
    """
    rows = np.repeat(np.arange(len(validation)), np.rint(validation.weight_S * SHARE_STEPS).astype(int))
    tasks = [model.taxonomy.tasks[k] for k in validation.task_S[rows]]
    tags = [
        {tag.name: tag.categories[index] for tag, index in zip(task.tags, truth, strict=False) if index >= 0}
        for task, truth in zip(tasks, validation.truth_SG[rows].tolist(), strict=True)
    ]
    model.calibrate(validation.embeddings_WD[validation.window_S[rows]], [task.name for task in tasks], tags)


def finished_run(out: str, run_id: str) -> TrainSummary | None:
    """The summary of a run that ended here, None where none did. Raises OutputError when it was another run."""
    fs, path = filesystem(f"{absolute_location(out)}/training.json")
    if not fs.exists(path):
        return None
    written = json.loads(fs.cat_file(path))
    if written["run_id"] != run_id:
        raise OutputError(
            f"{out!r} holds a model of another recipe, atlas or encoder (run {written['run_id']}, this is {run_id}); "
            "name another folder, or delete that one"
        )
    return TrainSummary(**written["summary"])
