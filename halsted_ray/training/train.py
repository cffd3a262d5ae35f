"""A whole training run, from an atlas to a model in a folder: what `halsted train` calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import ray

from halsted_ray.atlas import Atlas, read_atlas
from halsted_ray.atlas.contents import drawn_videos
from halsted_ray.atlas.split import split_of
from halsted_ray.compute.cluster import connected
from halsted_ray.compute.devices import WorkerRequest, cluster_gpus, gpus_at_hand
from halsted_ray.embedding.embed import EmbedProgress
from halsted_ray.errors import AtlasError
from halsted_ray.model.calibration import UNIT_SPREAD
from halsted_ray.model.encoder import STEPS
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.novelty import LEAST_VIDEOS, LEAST_WINDOWS
from halsted_ray.records import WindowSpec, digest
from halsted_ray.storage.files import require_writable
from halsted_ray.storage.locations import absolute_location, filesystem
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.training import loop
from halsted_ray.training.atlas_samples import load_samples
from halsted_ray.training.epoch_record import EpochRecord
from halsted_ray.training.learn_whole_videos import add_refinement
from halsted_ray.training.recipe import PAPER, PRECISIONS, Recipe, deciding, on_device
from halsted_ray.training.run_record import finished_run, run_in, sole_run, write_run
from halsted_ray.training.samples import Samples

SHARE_STEPS = 20
"""Calibration counts a window's share of an answer in twentieths."""


@dataclass(frozen=True)
class TrainingPlan:
    """What a run is about to do, known before it does any work. ``run_id`` is computed from all that decides the
    trained weights, and becomes the model's version."""

    run_id: str
    atlas: Atlas
    split: dict[str, str]
    """video_id → ``train``, ``validation`` or ``test``."""
    taxonomy: Taxonomy
    recipe: Any
    """A ``Recipe``, or that of another objective: a dataclass of JSON values."""
    spec: WindowSpec
    encoder: str
    encoder_fingerprint: str
    workers: int | None
    """As asked for; None leaves the number to the cluster."""
    model: str
    """Where the model will lie."""


@dataclass(frozen=True)
class TrainSummary:
    """What a run made, and from what. Accuracies are exact match on the validation videos, in the
    units of the recipe, at the epoch that was kept."""

    model: str
    model_version: str
    atlas_release: str
    atlas_version: int
    videos: dict[str, int]
    """Part of the split → number of videos."""
    samples: dict[str, int]
    """Part of the split → number of samples."""
    parameters: int
    epochs: int
    best_epoch: int
    """The epoch whose decoder was kept, counted from 0."""
    accuracy_of_task: dict[str, float | None]
    accuracy_of_tag: dict[str, float | None]
    temperatures: dict[str, float]
    """Of windows of the grid, by tag."""
    embed_s: float
    train_s: float
    curve: list[EpochRecord]
    workers: int = 1
    device: str = "cpu"
    """``cpu`` or ``cuda``: where the last part of the run trained. An earlier part may have trained elsewhere."""
    commonest_of_task: dict[str, float | None] = field(default_factory=dict)
    """Accuracy of the commonest category of training on the same windows; empty in records of earlier versions."""
    clip_temperatures: dict[str, float] = field(default_factory=dict)
    """Of clips, by tag; empty in records of earlier versions, whose ``temperatures`` were those of both."""
    synthetic: dict[str, int] = field(default_factory=dict)
    """``videos`` and ``samples`` of the training part that are drawn; empty where none is."""
    says_unknown: bool = True
    """Whether the model can say "unknown"; it can't with too few windows or videos (``model.novelty``)."""

    @property
    def learned_nothing(self) -> tuple[str, ...]:
        """The tasks at which the model is no better than the commonest category of training."""
        return tuple(
            task
            for task, bar in self.commonest_of_task.items()
            if (found := self.accuracy_of_task.get(task)) is not None
            and bar is not None
            and (found < bar or found == bar < 1)
        )

    def verdict(self) -> str:
        """Says in words at which tasks nothing was learned; empty where all are better than the commonest category."""
        if not self.learned_nothing:
            return ""
        told = ", ".join(
            f"{task} {self.accuracy_of_task[task]:.3f} (commonest category {self.commonest_of_task[task]:.3f})"
            for task in self.learned_nothing
        )
        return (
            f"no better than always answering the commonest category: {told}; don't use the model for this: annotate "
            "more clips, or train longer (--set least_steps=N)"
        )

    def warnings(self) -> list[str]:
        """What a person who trained this model should know: the verdict, and whether it can say "unknown"."""
        unknown = (
            f"the model can't say 'unknown': that takes at least {LEAST_WINDOWS} training windows of {LEAST_VIDEOS} "
            f"videos, and {LEAST_WINDOWS} validation windows"
        )
        return [sentence for sentence in (self.verdict(), "" if self.says_unknown else unknown) if sentence]


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
    workers: int | None = None,
    gpus: int | None = None,
    refine: bool = False,
    on_start: Callable[[TrainingPlan], None] = lambda plan: None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    on_restored: Callable[[EpochRecord], None] | None = None,
    on_embed: EmbedProgress | None = None,
) -> TrainSummary:
    """Trains a Halsted on the atlas of the archive at ``atlas``; leaves the model in ``<out>/model``.

    >>> from halsted_ray import train
    >>> from halsted_ray.training.recipe import BEST, changed
    >>> summary = train("archive", "run", changed(BEST, ["epochs=2", "least_steps=0"]))
    >>> summary.model, summary.epochs
    ('run/model', 2)

    ``out`` is any fsspec location. The same call again goes on with a run that was killed, and answers at once when
    the run is finished; another recipe or atlas needs another ``out``.

    ``encoder``: reference of the frozen encoder. ``spec``: how time is cut into windows. ``release`` or ``version`` say
    which atlas (default: the latest release); a split that the atlas does not fix is drawn by video. Vectors are kept
    in ``embeddings`` (default: ``<atlas>/embeddings``), and vectors that are there are used.

    ``workers`` train side by side. ``gpus``: GPUs to train on, one per worker; 0 trains on CPU. By default one worker
    trains on each free GPU of the cluster, or a single one on CPU where there is none. A recipe of precision ``auto``
    trains in bf16 on GPUs and in fp32 on CPU; a run that lies in ``out`` goes on in its own precision, wherever.

    ``refine``: also learn from the videos that are annotated whole what ``map_archive(refine=…)`` needs, and put it
    beside the weights; a finished run gets it too.

    ``on_start`` is called first, for a finished run too, and may refuse by raising. ``on_epoch`` gets the record of
    each epoch that is trained, ``on_restored`` of each epoch that a checkpoint brought back (``loop.fit``), and
    ``on_embed`` the progress of decoding and encoding.

    Raises AtlasError, ModelError, OutputError (``out`` holds another run, another one is at work there, or it can't be
    written), ResourceError,
    TrainingError (the loss is not finite), UsageError (``workers`` contradicts ``gpus``).
    """
    request = WorkerRequest(workers, gpus)
    source = read_atlas(atlas, release, version)
    taxonomy = source.load_taxonomy()
    encoder = encoder_for(recipe, encoder)
    frozen = encoder_identity(encoder)
    spec = frozen.windows(spec)
    split = split_of(source)
    require_validation(source, split)

    def run_id_of(recipe: Recipe) -> str:
        return digest(deciding(recipe), source.content_digest, frozen.fingerprint, asdict(spec), split)

    recipe = with_precision(recipe, out, run_id_of, gpus)
    run_id = run_id_of(recipe)
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
    vectors = embeddings or f"{atlas.rstrip('/')}/embeddings"
    if done := finished_run(out, run_id, TrainSummary):
        if refine:
            add_refinement(f"{absolute_location(out)}/model", source, split, frozen, vectors, on_embed)
        return done

    require_writable(out)  # before hours of decoding and encoding
    with sole_run(out) as lease:
        started_s = time.monotonic()
        samples = load_samples(source, split, taxonomy, recipe, spec, frozen, vectors, on_embed)
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
        for part, path in paths.items():
            samples[part].save(path)
        with connected() as (_, free_gpus, cores):
            workers, use_gpu = request.on(cluster_gpus(), free_gpus)
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
        drawn = drawn_videos(source.clips)
        is_drawn_S = rows_of_videos(samples["train"], drawn)
        # Drawn pictures must not make what looks like them "known".
        filmed = samples["train"].take(~is_drawn_S)
        learn_what_is_known(model, filmed, samples["validation"])
        best_epoch = fitted.progress.best_epoch
        assert best_epoch is not None, "the last epoch is always validated, and the first validation always kept"
        best = fitted.progress.curve[best_epoch]
        summary = TrainSummary(
            model=f"{out.rstrip('/')}/model",
            model_version=run_id,
            atlas_release=source.name,
            atlas_version=source.version,
            videos={part: len(of_part.video_ids) for part, of_part in samples.items()},
            samples={part: len(of_part) for part, of_part in samples.items()},
            parameters=model.parameters,
            epochs=recipe.epochs,
            best_epoch=best_epoch,
            accuracy_of_task=best["accuracy_of_task"],
            accuracy_of_tag=best["accuracy_of_tag"],
            temperatures=dict(model.config.temperatures),
            clip_temperatures=dict(model.config.clip_temperatures),
            embed_s=embed_s,
            train_s=time.monotonic() - started_s,
            curve=fitted.progress.curve,
            workers=workers,
            device="cuda" if use_gpu else "cpu",
            commonest_of_task=fitted.progress.commonest_of_task,
            synthetic={"videos": len(drawn & set(samples["train"].video_ids)), "samples": int(is_drawn_S.sum())}
            if is_drawn_S.any()
            else {},
            says_unknown=model.novelty is not None,
        )
        model.configure(verdict=summary.verdict())
        lease.check()
        model.save(f"{root}/model")
        if refine:
            add_refinement(f"{root}/model", source, split, frozen, vectors, on_embed)
        write_run(out, run_id, recipe=asdict(recipe), summary=asdict(summary), verdict=summary.verdict())
        return summary


def require_validation(source: Atlas, split: Mapping[str, str]) -> None:
    """Raises AtlasError where no video of ``split`` validates, with the command that mends it."""
    if "validation" not in split.values():
        raise AtlasError(
            f"the atlas {source.name!r} has no validation video, and training keeps the epoch that is best on them; "
            f"`halsted atlas release {source.root} NAME --validation 0.2` takes a fifth of its training videos for that"
        )


def with_precision(recipe: Recipe, out: str, run_id_of: Callable[[Recipe], str], gpus: int | None) -> Recipe:
    """``recipe`` with a precision in place of ``auto``: that of the run which lies in ``out``, finished or killed, else
    that of the devices on which it will train.

    ``run_id_of``: the id of a run with a recipe. Asks the cluster for its GPUs only where ``gpus`` leaves it open.
    """
    if recipe.precision != "auto":
        return recipe
    fs, root = filesystem(absolute_location(out))
    finished = run_in(out)
    written = finished["run_id"] if finished else None
    for precision in PRECISIONS:
        chosen = replace(recipe, precision=precision)
        if run_id_of(chosen) == written or fs.exists(f"{root}/checkpoints/{run_id_of(chosen)}"):
            return chosen
    has_gpu = gpus_at_hand() > 0 if gpus is None else gpus > 0
    return on_device(recipe, "cuda" if has_gpu else "cpu")


def cores_of_worker(cores: int, workers: int) -> int:
    """CPUs per worker. On one machine the workers share all cores; on several a worker takes one core, since a larger
    share might fit on none of them."""
    return max(1, cores // workers) if len(ray.nodes()) == 1 else 1


def encoder_for(recipe: Recipe, ref: str) -> str:
    """The reference of the encoder at ``ref``, giving a vector per time step where the recipe wants them."""
    wants_steps = recipe.temporal_tokens or recipe.pooling == "attention"
    return ref + STEPS if wants_steps and not ref.endswith(STEPS) else ref


def decoder_options(recipe: Recipe) -> dict[str, Any]:
    """What a recipe says of an untrained model: arguments of ``Halsted.create``. Raises ModelError for its Llama."""
    names = ("layers", "heads", "width", "feedforward", "soft_prompt", "pooling", "seed")
    llama = None
    if recipe.llama:
        from halsted_ray.model.llama import read_config  # here: it brings seconds of imports that few need

        llama = read_config(recipe.llama)
    return {name: getattr(recipe, name) for name in names} | {"llama": llama, "dropout": 0.0}


def calibrate(model: Halsted, validation: Samples, unit_spread: float = UNIT_SPREAD) -> None:
    """Fits the model's temperatures on the validation windows' own truth, those of clips and of grid windows apart.

    ``unit_spread``: as ``calibration.UNIT_SPREAD``.

    A window that holds two steps counts for both, by the share of the window that each covers. With the larger share
    alone every step would be right and the temperature would fall to its floor; then the smaller share of a mixed
    window gets the probability 0.0000, and the workflow does not open the window for that step (measured: 7 of 8
    windows).
    """
    rows = np.repeat(np.arange(len(validation)), np.rint(validation.weight_S * SHARE_STEPS).astype(int))
    tasks = [model.taxonomy.tasks[k] for k in validation.task_S[rows]]
    tags = [
        {tag.name: tag.categories[index] for tag, index in zip(task.tags, truth, strict=False) if index >= 0}
        for task, truth in zip(tasks, validation.truth_SG[rows].tolist(), strict=True)
    ]
    windows = validation.window_S[rows]
    model.calibrate(
        validation.embeddings_WD[windows],
        [task.name for task in tasks],
        tags,
        validation.units(rows),
        validation.video_W[windows],
        unit_spread,
    )


def rows_of_videos(samples: Samples, video_ids: Collection[str]) -> np.ndarray:
    """Which samples are of the videos ``video_ids``: bool [S]."""
    is_of_V = np.array([video_id in video_ids for video_id in samples.video_ids], bool)
    rows_S: np.ndarray = is_of_V[samples.video_W[samples.window_S]]
    return rows_S


def learn_what_is_known(model: Halsted, train: Samples, validation: Samples) -> None:
    """Lets the model say "unknown" of windows that are unlike its training windows (``model.novelty``)."""
    model.learn_what_is_known(train.embeddings_WD, train.video_W, validation.embeddings_WD, validation.video_W)
