"""The training loop: epoch after epoch, on the workers of Ray Train (CPU with gloo, GPU with nccl) or in this process.

The only module that imports ``ray.train``.
"""

from __future__ import annotations

import json
import logging
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import ray
import ray.train
import ray.train.torch
import torch

from halsted_ray.compute.devices import require_fit
from halsted_ray.errors import TrainingError
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.storage.locations import filesystem
from halsted_ray.taxonomy import Taxonomy, from_dict
from halsted_ray.training.batch_loader import BatchLoader
from halsted_ray.training.epoch import EpochTrainer, new_decoder
from halsted_ray.training.epoch_queue import watched_queue
from halsted_ray.training.epoch_record import EpochRecord, TrainProgress
from halsted_ray.training.recipe import Recipe
from halsted_ray.training.samples import Samples
from halsted_ray.training.train_checkpoint import (
    Tensors,
    read_best,
    read_progress,
    restore_checkpoint,
    write_checkpoint,
)
from halsted_ray.training.validator import Validator

RAYS_LIST = "checkpoint_manager_snapshot.json"
"""Ray's own list of a run's checkpoints, in the run's folder."""
RESTARTS = 3
"""A worker that dies (a node is lost, memory runs out) is replaced this often; it goes on from the checkpoint."""
CPU = torch.device("cpu")
log = logging.getLogger(__name__)


class ModuleTrainer(Protocol):
    """What ``train_worker`` asks of a trainer. ``decoder``: the module that is trained, whatever it is."""

    progress: TrainProgress
    best: Tensors

    @property
    def decoder(self) -> torch.nn.Module: ...

    @property
    def optimizer(self) -> torch.optim.Optimizer: ...

    @property
    def is_done(self) -> bool: ...

    def run_epoch(self) -> str | None: ...


@dataclass(frozen=True)
class WorkerPlace:
    """Where a trainer runs: on worker ``rank`` of ``workers``. ``prepare``: ``prepared``, or what returns its
    argument in a run of one process."""

    rank: int
    workers: int
    device: torch.device
    prepare: Callable[[torch.nn.Module], torch.nn.Module]


TrainerMaker = Callable[[Mapping[str, Any], WorkerPlace], ModuleTrainer]


@dataclass(frozen=True)
class FitResult:
    """What training leaves: the tensors of the decoder that the save rule kept, and the curve."""

    tensors: Tensors
    progress: TrainProgress


def fit(
    *,
    train: str,
    validation: str,
    decoder: Mapping[str, Any],
    taxonomy: Taxonomy,
    recipe: Recipe,
    name: str,
    storage: str,
    workers: int = 1,
    cores: int = 1,
    use_gpu: bool = False,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    on_restored: Callable[[EpochRecord], None] | None = None,
) -> FitResult:
    """Trains a decoder on the samples at the locations ``train`` and ``validation`` (``Samples.save``).

    ``decoder``: the decoder's sizes (``ModelConfig.decoder_sizes``). ``workers`` train side by side, each on ``cores``
    CPUs and, with ``use_gpu``, one GPU (their gradients then meet over nccl, else over gloo). Checkpoints lie in
    ``<storage>/<name>``; the same ``name`` and ``storage`` again go on where a killed run stopped, also with another
    number of workers and on other devices. ``on_epoch`` gets the record of each epoch that is trained.
    ``on_restored`` gets, whenever a checkpoint is read, the records in it: a killed run may have told nobody of them.

    Needs a running Ray. Raises ResourceError when the cluster is too small (Ray would wait for ever), TrainingError
    when the loss is not finite.
    """
    return fit_module(
        decoder_trainer,
        {
            "train": train,
            "validation": validation,
            "decoder": dict(decoder),
            "taxonomy": taxonomy.to_dict(),
            "recipe": recipe,
        },
        name=name,
        storage=storage,
        workers=workers,
        cores=cores,
        use_gpu=use_gpu,
        on_epoch=on_epoch,
        on_restored=on_restored,
    )


def fit_module(
    make: TrainerMaker,
    given: Mapping[str, Any],
    *,
    name: str,
    storage: str,
    workers: int = 1,
    cores: int = 1,
    use_gpu: bool = False,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    on_restored: Callable[[EpochRecord], None] | None = None,
) -> FitResult:
    """Trains what ``make`` makes of ``given`` on each worker; everything else is as for ``fit``.

    ``make``: a function of a module, which every worker imports. ``given`` holds ``recipe``, with its
    ``checkpoint_every``.
    """
    each = {"GPU": 1, "CPU": cores} if use_gpu else {"CPU": cores}
    require_fit(f"training on {workers} workers", workers, each)
    remove_broken_list(f"{storage}/{name}/{RAYS_LIST}")
    with watched_queue(on_epoch, on_restored) as queue, interrupts_kept():
        result = ray.train.torch.TorchTrainer(
            train_worker,
            train_loop_config={"make": make, "given": dict(given), "queue": queue, "cores": cores},
            torch_config=ray.train.torch.TorchConfig(backend="nccl" if use_gpu else "gloo"),
            scaling_config=ray.train.ScalingConfig(num_workers=workers, use_gpu=use_gpu, resources_per_worker=each),
            run_config=ray.train.RunConfig(
                name=name,
                storage_path=storage,
                failure_config=ray.train.FailureConfig(max_failures=RESTARTS),
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            ),
        ).fit()
    if result.return_value is not None:
        raise TrainingError(result.return_value)
    with result.checkpoint.as_directory() as folder:
        return FitResult(read_best(folder), read_progress(folder))


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Restores what Ctrl-C does at the end: Ray Train's handler would ask a controller that is gone to end a run, and
    start another Ray to find it."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, before)


def remove_broken_list(location: str) -> None:
    """Removes Ray's list of a run's checkpoints where it is cut off; the run then trains from the start.

    Ray rewrites the list in place, and refuses the run where a driver was killed while it wrote.
    """
    fs, path = filesystem(location)
    if fs.exists(path):
        try:
            json.loads(fs.cat_file(path))
        except ValueError:
            log.warning("the list of this run's checkpoints was cut off; the run trains from the start")
            fs.rm_file(path)


def train_worker(config: dict[str, Any]) -> str | None:
    """One worker's share of a run. The answer is what is wrong where trying again can't help, None otherwise: Ray
    would try again after an exception."""
    torch.set_num_threads(config["cores"])
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    trainer = config["make"](config["given"], WorkerPlace(rank, workers, ray.train.torch.get_device(), prepared))
    checkpoint = ray.train.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            trainer.progress, trainer.best = restore_checkpoint(folder, trainer.decoder, trainer.optimizer)
        if rank == 0:
            config["queue"].put_restored.remote(trainer.progress.curve)

    while not trainer.is_done:
        if wrong := trainer.run_epoch():
            return f"{wrong}; the checkpoints before this epoch are whole"
        if rank == 0:
            config["queue"].put.remote(trainer.progress.curve[-1])
        # A report is a barrier that waits for Ray's next look at the workers (2 s), so not every epoch has one.
        is_due = trainer.progress.epoch % config["given"]["recipe"].checkpoint_every == 0
        if trainer.is_done or (trainer.best and is_due):
            report_checkpoint(rank, trainer)
    return None


def prepared(module: torch.nn.Module) -> torch.nn.Module:
    """The module as a train step calls it: with the workers' gradients averaged, on the worker's device."""
    replica: torch.nn.Module = ray.train.torch.prepare_model(
        module, parallel_strategy_kwargs={"broadcast_buffers": False}
    )
    return replica


def decoder_trainer(given: Mapping[str, Any], place: WorkerPlace) -> EpochTrainer:
    """What trains a decoder on one worker. ``given``: as ``fit`` says it."""
    recipe: Recipe = given["recipe"]
    train, validation = Samples.load(given["train"]), Samples.load(given["validation"])
    vocabulary = Vocabulary(from_dict(given["taxonomy"]))
    decoder = new_decoder(train, vocabulary, given["decoder"], recipe)
    on = place.rank, place.workers, place.device
    replica = place.prepare(decoder)
    return EpochTrainer(
        decoder, replica, BatchLoader(train, recipe, *on), Validator(validation, train, vocabulary, *on)
    )


def report_checkpoint(rank: int, trainer: ModuleTrainer) -> None:
    """Hands a checkpoint to Ray Train. All workers must call it; rank 0 writes the files."""
    if rank != 0:
        ray.train.report({})
        return
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(folder, trainer.decoder, trainer.optimizer, trainer.best, trainer.progress)
        ray.train.report({"epoch": trainer.progress.epoch}, checkpoint=ray.train.Checkpoint.from_directory(folder))


def fit_in_process(
    train: Samples,
    validation: Samples,
    decoder: Mapping[str, Any],
    taxonomy: Taxonomy,
    recipe: Recipe,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    device: torch.device = CPU,
) -> FitResult:
    """The same training in this very process, on ``device``, without checkpoints: what a fold of an evaluation needs.

    Ends with the tensors that ``fit`` ends with on one worker of this device. Raises TrainingError when the loss is not
    finite.
    """
    vocabulary = Vocabulary(taxonomy)
    module = new_decoder(train, vocabulary, decoder, recipe).to(device)
    loader, validator = BatchLoader(train, recipe, 0, 1, device), Validator(validation, train, vocabulary, 0, 1, device)
    trainer = EpochTrainer(module, module, loader, validator)
    while not trainer.is_done:
        if wrong := trainer.run_epoch():
            raise TrainingError(wrong)
        if on_epoch:
            on_epoch(trainer.progress.curve[-1])
    return FitResult(trainer.best, trainer.progress)
