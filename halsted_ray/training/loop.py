"""The training loop, on any number of Ray Train workers (CPU with gloo, GPU with nccl).

The data are small once they are vectors, so every worker holds all of them and cuts its part of each batch itself.
A batch is the same set of samples however many workers share it; so are its noise and its loss.
"""

from __future__ import annotations

import json
import logging
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import ray
import ray.train
import ray.train.torch
import safetensors.torch
import torch
import torch.distributed

from halsted_ray.errors import ResourceError, TrainingError
from halsted_ray.model.decoder import Decoder, build_decoder
from halsted_ray.model.generation import Grammar, generate
from halsted_ray.model.vocabulary import PAD, Vocabulary
from halsted_ray.storage.locations import filesystem
from halsted_ray.taxonomy import Taxonomy, from_dict
from halsted_ray.training.epoch_display import watched_board
from halsted_ray.training.recipe import Recipe, learning_rate_at, should_save, worst
from halsted_ray.training.samples import Samples

ROWS_PER_PASS = 64
RAYS_LIST = "checkpoint_manager_snapshot.json"
RESTARTS = 3
"""A worker that dies (a node is lost, memory runs out) is replaced this often; it goes on from the checkpoint."""
log = logging.getLogger(__name__)


@dataclass
class TrainProgress:
    """How far a run is; what a checkpoint keeps beside the weights.

    ``curve``: one record per epoch: epoch, loss, learning_rate, seconds, samples_per_s, saved, worst, and
    accuracy_of_task and accuracy_of_tag (empty where the epoch was not validated).
    """

    epoch: int = 0
    best: float | None = None
    best_epoch: int | None = None
    curve: list[dict] = field(default_factory=list)


@dataclass(frozen=True)
class FitResult:
    """What training leaves: the decoder's tensors at the saved epoch, and the curve."""

    tensors: dict[str, torch.Tensor]
    progress: TrainProgress


def fit(
    *,
    train: str,
    validation: str,
    decoder: Mapping[str, int | float],
    taxonomy: Taxonomy,
    recipe: Recipe,
    name: str,
    storage: str,
    workers: int = 1,
    cores: int = 1,
    use_gpu: bool = False,
    on_epoch: Callable[[dict], None] | None = None,
) -> FitResult:
    """Trains a decoder on the samples at the locations ``train`` and ``validation`` (``Samples.save``).

    ``decoder``: dim, width, layers, heads, feedforward, dropout. ``cores``: CPUs of each worker. The same ``name``
    and ``storage`` go on where a killed run stopped. Needs a running Ray. Raises ResourceError when the cluster is
    too small (it would wait for ever), TrainingError when the loss is not finite.
    """
    resource, each = ("GPU", 1) if use_gpu else ("CPU", cores)
    have = ray.cluster_resources().get(resource, 0)
    if workers * each > have:
        raise ResourceError(
            f"training on {workers} workers needs {workers * each} {resource}s, the cluster has "
            f"{have:g}; ask for at most {int(have // each)} workers"
        )
    drop_torn_list(f"{storage}/{name}/{RAYS_LIST}")
    with watched_board(on_epoch) as board:
        result = ray.train.torch.TorchTrainer(
            train_worker,
            train_loop_config={
                "train": train,
                "validation": validation,
                "decoder": dict(decoder),
                "taxonomy": taxonomy.to_dict(),
                "recipe": recipe,
                "board": board,
                "cores": cores,
            },
            scaling_config=ray.train.ScalingConfig(
                num_workers=workers,
                use_gpu=use_gpu,
                resources_per_worker={"CPU": cores} | ({"GPU": 1} if use_gpu else {}),
            ),
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
        return FitResult(safetensors.torch.load_file(Path(folder, "best.safetensors")), read_progress(folder))


def drop_torn_list(location: str) -> None:
    """Ray rewrites its list of a run's checkpoints in place, and refuses the run where a driver was killed amid that:
    then the run starts anew."""
    fs, path = filesystem(location)
    if fs.exists(path):
        try:
            json.loads(fs.cat_file(path))
        except ValueError:
            log.warning("the list of this run's checkpoints was cut off; it trains from the start")
            fs.rm_file(path)


def train_worker(config: dict) -> str | None:
    """One worker's share of a run. Answers with what is wrong when training on can't help: Ray would retry an error."""
    recipe: Recipe = config["recipe"]
    torch.set_num_threads(config["cores"])
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    train, validation = Samples.load(config["train"]), Samples.load(config["validation"])
    vocabulary = Vocabulary(from_dict(config["taxonomy"]))
    decoder = new_decoder(train, vocabulary, config["decoder"], recipe)
    replica = ray.train.torch.prepare_model(decoder, parallel_strategy_kwargs={"broadcast_buffers": False})
    optimizer = make_optimizer(replica, recipe)
    progress, best = TrainProgress(), {}
    checkpoint = ray.train.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            progress, best = restore_checkpoint(Path(folder), decoder, optimizer, device)
    feed = BatchLoader(train, recipe, rank, workers, device)
    judge = Validator(validation, train, vocabulary, rank, workers, device)

    while progress.epoch < recipe.epochs:
        if broken := run_epoch(replica, decoder, optimizer, feed, judge, progress, best):
            return broken + "; the checkpoints before this epoch are whole"
        if rank == 0:
            config["board"].pin.remote(progress.curve[-1])
        # A report is a barrier that waits for the controller's next look (2 s), so not every epoch.
        if progress.epoch == recipe.epochs or (best and progress.epoch % recipe.checkpoint_every == 0):
            report_checkpoint(rank, decoder, optimizer, best, progress)


def fit_in_process(
    train: Samples,
    validation: Samples,
    decoder: Mapping[str, int | float],
    taxonomy: Taxonomy,
    recipe: Recipe,
    on_epoch: Callable[[dict], None] | None = None,
) -> FitResult:
    """The same training in this very process, on its CPU, without checkpoints: what a fold of an evaluation needs.

    Ends with the tensors that ``fit`` ends with on one worker. Raises TrainingError when the loss is not finite.
    """
    vocabulary, device = Vocabulary(taxonomy), torch.device("cpu")
    module = new_decoder(train, vocabulary, decoder, recipe)
    optimizer = make_optimizer(module, recipe)
    feed, judge = BatchLoader(train, recipe, 0, 1, device), Validator(validation, train, vocabulary, 0, 1, device)
    progress, best = TrainProgress(), {}
    while progress.epoch < recipe.epochs:
        if broken := run_epoch(module, module, optimizer, feed, judge, progress, best):
            raise TrainingError(broken)
        if on_epoch:
            on_epoch(progress.curve[-1])
    return FitResult(best, progress)


def new_decoder(train: Samples, vocabulary: Vocabulary, sizes: Mapping[str, int | float], recipe: Recipe) -> Decoder:
    """An untrained decoder, the same on every worker, that knows the scale of the training vectors."""
    torch.manual_seed(recipe.seed)
    decoder = build_decoder(vocabulary, sizes)
    if recipe.llama:
        decoder.load_trunk(recipe.llama)
    decoder.fit_features(torch.from_numpy(train.embeddings_WD))
    return decoder


def make_optimizer(replica, recipe: Recipe) -> torch.optim.Optimizer:
    return torch.optim.AdamW(replica.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)


def run_epoch(
    replica, decoder, optimizer, feed: BatchLoader, judge: Validator, progress: TrainProgress, best: dict
) -> str | None:
    """One epoch more: trained, judged where due, kept in ``best`` by the paper's rule, recorded in ``progress``.

    Answers with what is wrong when the loss is not finite.
    """
    recipe, epoch, started_s = feed.recipe, progress.epoch, time.monotonic()
    loss, broken = train_epoch(replica, decoder, optimizer, feed, epoch)
    if broken is not None:
        return (
            f"the loss is not finite in epoch {epoch}, batch {broken} (learning rate "
            f"{learning_rate_at(epoch + broken / len(feed), recipe):.2g}); lower the learning rate, or look for "
            "broken embeddings"
        )
    seconds = time.monotonic() - started_s
    accuracy_of_task, accuracy_of_tag = {}, {}
    if epoch + 1 == recipe.epochs or (epoch + 1) % recipe.validate_every == 0:
        accuracy_of_task, accuracy_of_tag = judge(decoder)
    candidate = worst(accuracy_of_task) if accuracy_of_task else None
    saved = candidate is not None and should_save(progress.best, candidate)
    if saved:
        progress.best, progress.best_epoch = candidate, epoch
        best |= {name: value.detach().cpu().clone() for name, value in decoder.state_dict().items()}
    progress.epoch = epoch + 1
    progress.curve.append(
        {
            "epoch": epoch,
            "loss": loss,
            "learning_rate": optimizer.param_groups[0]["lr"],
            "seconds": seconds,
            "samples_per_s": len(feed.task_S) / seconds,
            "saved": saved,
            "worst": candidate,
            "accuracy_of_task": accuracy_of_task,
            "accuracy_of_tag": accuracy_of_tag,
        }
    )
    return None


class BatchLoader:
    """This worker's part of each batch. The whole batch is drawn alike on all workers, then split among them."""

    def __init__(self, samples: Samples, recipe: Recipe, rank: int, workers: int, device: torch.device):
        self.recipe, self.rank, self.workers = recipe, rank, workers
        self.embeddings_WD = torch.from_numpy(samples.embeddings_WD).to(device)
        self.noise_D = recipe.noise * torch.from_numpy(samples.embeddings_WD).float().std(0)
        self.window_S, self.task_S, self.tokens_SL, self.weight_S = (
            torch.from_numpy(getattr(samples, name)).to(device)
            for name in ("window_S", "task_S", "tokens_SL", "weight_S")
        )

    def __len__(self) -> int:
        return -(-len(self.task_S) // self.recipe.batch_size)

    def batches(self, epoch: int):
        """(embeddings [n, D], tasks [n], tokens shown [n, L], tokens asked for [n, L], weights [n]) per batch;
        weights of a batch sum to 1 over all workers."""
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + epoch)
        device, length = self.task_S.device, self.tokens_SL.shape[1]
        values_L = torch.arange(length) % 3 == 2  # BOS, then <tag>, category, </tag> for every tag
        for batch in self.drawn(generator).split(self.recipe.batch_size):
            part = slice(self.rank, None, self.workers)
            share = 1.0
            if self.rank >= len(batch):  # a last batch smaller than the workers: this one still takes part
                part, share = slice(0, 1), 0.0
            own = batch[part].to(device)
            weights = share * self.weight_S[own] / self.weight_S[batch.to(device)].sum()
            embeddings = self.embeddings_WD[self.window_S[own]].float()
            tokens = shown = self.tokens_SL[own].long()
            if self.recipe.noise:
                noise_BD = torch.randn(len(batch), len(self.noise_D), generator=generator) * self.noise_D
                embeddings = embeddings + noise_BD[part].to(device)
            if self.recipe.hide_tags:
                hidden_BL = (torch.rand(len(batch), length, generator=generator) < self.recipe.hide_tags) & values_L
                shown = tokens.masked_fill(hidden_BL[part].to(device), PAD)
            yield embeddings, self.task_S[own], shown, tokens, weights

    def drawn(self, generator: torch.Generator) -> torch.Tensor:
        """Positions of an epoch's samples, as many as there are, in the order in which they are seen."""
        count = len(self.task_S)
        if self.recipe.sampling == "as_is":
            return torch.randperm(count, generator=generator)
        task_S = self.task_S.cpu()
        tasks = torch.unique(task_S)
        order_S = torch.argsort(task_S, stable=True)
        counts_K = torch.tensor([int((task_S == task).sum()) for task in tasks])
        first_K = counts_K.cumsum(0) - counts_K
        turn_S = torch.randint(len(tasks), (count,), generator=generator)
        place_S = (torch.rand(count, generator=generator, dtype=torch.float64) * counts_K[turn_S]).long()
        return order_S[first_K[turn_S] + place_S]


def train_epoch(replica, decoder, optimizer, feed: BatchLoader, epoch: int) -> tuple[float, int | None]:
    """One pass over the samples: the mean loss over all workers, and the first batch whose loss is not finite.

    All workers must learn of such a batch at the same point, or the others would wait for this one: at the end.
    """
    replica.train()
    losses = []  # stay where they are made: to look at one would make a GPU wait at each step
    for number, (embeddings, tasks, shown, tokens, weights) in enumerate(feed.batches(epoch)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(epoch + number / len(feed), feed.recipe)
        with torch.autocast(embeddings.device.type, torch.bfloat16, enabled=feed.recipe.precision == "bf16"):
            logits = replica(embeddings, tasks, shown)
        loss = (decoder.loss(logits, tokens) * weights).sum()
        optimizer.zero_grad(set_to_none=True)
        (loss * feed.workers).backward()  # gradients are averaged over workers
        optimizer.step()
        losses.append(loss.detach())
    losses_B = torch.stack(losses).double().cpu()
    is_broken_B = sum_over_workers((~torch.isfinite(losses_B)).double(), feed.workers) > 0
    broken = int(is_broken_B.nonzero()[0]) if is_broken_B.any() else None
    return sum_over_workers(losses_B.mean(), feed.workers).item(), broken


class Validator:
    """Exact-match accuracy on the validation samples, which the workers share.

    A truth that no training sample has (the only video of a procedure is held out) can't be learned and does not
    count: it would stand still and, as the worst task, decide what is saved.
    """

    def __init__(
        self, samples: Samples, train: Samples, vocabulary: Vocabulary, rank: int, workers: int, device: torch.device
    ):
        self.taxonomy, self.workers = vocabulary.taxonomy, workers
        self.grammar = Grammar(vocabulary, {}, device)
        rows = torch.from_numpy(samples.judged_S).nonzero()[:, 0][rank::workers]
        self.embeddings_ND = torch.from_numpy(samples.embeddings_WD[samples.window_S[rows]]).float().to(device)
        self.tasks_N = torch.from_numpy(samples.task_S)[rows].to(device)
        taught = torch.zeros(len(self.taxonomy.tasks), samples.truth_SG.shape[1], self.grammar.categories + 1)
        for g, truth_S in enumerate(torch.from_numpy(train.truth_SG).long().unbind(1)):
            taught[torch.from_numpy(train.task_S), g, truth_S] = 1  # -1, no such tag, is the spare last one
        truth_NG = torch.from_numpy(samples.truth_SG).long()[rows]
        tags_G = torch.arange(truth_NG.shape[1])
        known_NG = taught[torch.from_numpy(samples.task_S)[rows][:, None], tags_G[None], truth_NG] > 0
        self.truth_NG = torch.where(known_NG, truth_NG, -1).to(device)

    def __call__(self, decoder) -> tuple[dict[str, float], dict[str, float]]:
        """(task → mean accuracy of its measured tags, tag → accuracy); None for what has no sample."""
        decoder.eval()
        shape = len(self.taxonomy.tasks), self.truth_NG.shape[1]
        counts = torch.zeros(2, *shape, dtype=torch.float64)
        if len(self.tasks_N):
            chosen_NG = generate(decoder, self.grammar, self.embeddings_ND, self.tasks_N, ROWS_PER_PASS).chosen_NG
            asked_NG = self.truth_NG >= 0
            for row, values in enumerate((asked_NG & (chosen_NG == self.truth_NG), asked_NG)):
                counts[row].index_add_(0, self.tasks_N.cpu(), values.cpu().double())
        counts = sum_over_workers(counts, self.workers)
        share = counts[0] / counts[1]
        of_task, of_tag = {}, {}
        for k, task in enumerate(self.taxonomy.tasks):
            of_task[task.name] = none_if_nan(share[k].nanmean().item())
            of_tag |= {tag.name: none_if_nan(share[k, g].item()) for g, tag in enumerate(task.tags)}
        return of_task, of_tag


def none_if_nan(share: float) -> float | None:
    return None if math.isnan(share) else share


def sum_over_workers(value: torch.Tensor, workers: int) -> torch.Tensor:
    """``value`` (float64, on the CPU) added up over all workers."""
    if workers > 1:
        device = ray.train.torch.get_device()
        value = value.to(device)
        torch.distributed.all_reduce(value)
    return value.cpu()


def report_checkpoint(rank: int, decoder, optimizer, best: dict, progress: TrainProgress) -> None:
    """A checkpoint: decoder, optimizer, the best decoder so far, and how far we are; safetensors and JSON."""
    if rank != 0:
        ray.train.report({})
        return
    moments = {
        f"{index}.{name}": value.contiguous()
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        safetensors.torch.save_file(dict(decoder.state_dict()), Path(folder, "decoder.safetensors"))
        safetensors.torch.save_file(moments, Path(folder, "optimizer.safetensors"))
        safetensors.torch.save_file(best, Path(folder, "best.safetensors"))
        Path(folder, "progress.json").write_text(json.dumps(asdict(progress)))
        ray.train.report({"epoch": progress.epoch}, checkpoint=ray.train.Checkpoint.from_directory(folder))


def restore_checkpoint(folder: Path, decoder, optimizer, device) -> tuple[TrainProgress, dict]:
    decoder.load_state_dict(safetensors.torch.load_file(folder / "decoder.safetensors"))
    state: dict[int, dict] = {}
    for key, value in safetensors.torch.load_file(folder / "optimizer.safetensors").items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return read_progress(folder), safetensors.torch.load_file(folder / "best.safetensors")


def read_progress(folder: str | Path) -> TrainProgress:
    return TrainProgress(**json.loads(Path(folder, "progress.json").read_text()))
