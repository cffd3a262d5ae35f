"""Training on stored vectors, twice: an epoch against an epoch that decodes, and a batch loader against a ready batch.

The first runs on one core: all windows of two minutes of 1080p. The tiny encoder is the cheapest to run, so storing its
vectors saves the least; it is measured with the recipe that is meant for it, and with the paper's, whose decoder is
meant for an encoder of 5 TFLOP per clip. The paper's recipe is also measured with VideoMAE's base, of 0.36 TFLOP per
clip. The second trains the paper's decoder on an epoch of batches cut by ``BatchLoader`` and, in turns, takes as many
train steps over one batch that lies ready: the difference is the time that the decoder waited for its input. Neither
validates nor keeps checkpoints.

    python benchmarks/training.py --device cuda               samples/s of the paper's decoder on this machine's GPU
    python benchmarks/training.py --device cpu --dim 192 --samples 2000 --rounds 1

By itself this file compares, in turns, vectors on the device with vectors streamed from the host, each in fp32 and in
bf16. Vectors and labels are random: the speed does not depend on what they say.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from measuring import Setting, ratio, timed

from halsted_ray import taxonomy as taxonomies
from halsted_ray.embedding.embed import embed
from halsted_ray.embedding.segments import SPAN_S
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.records import Clip, Video, WindowSpec
from halsted_ray.storage.vectors import VectorStore, sampling_name
from halsted_ray.training.answer_loss import AnswerLoss
from halsted_ray.training.atlas_samples import FIDELITY
from halsted_ray.training.batch_loader import Batch, BatchLoader
from halsted_ray.training.epoch import new_decoder, new_optimizer, train_epoch
from halsted_ray.training.recipe import PAPER, RECIPES, Recipe
from halsted_ray.training.samples import LabelledWindow, Samples, build_samples, label_windows, training_windows
from halsted_ray.training.train import decoder_options
from halsted_ray.video.probe import probe

ENCODER = "tiny"
ENCODERS = {ENCODER: ("best", "paper"), "random:base:0": ("paper",)}
"""Encoder → recipes to train on its vectors."""
HALSTED, SPEC = taxonomies.load(), WindowSpec()
ROUNDS = 5
VIDEOS = 10
"""Of ``SPAN_S`` each, for the second ratio: 11 steps of 128 samples per epoch."""
CPU = torch.device("cpu")


def main(words: list[str] | None = None) -> dict[tuple[str, str], float]:
    """Prints and returns samples/s by where the vectors lie and by precision."""
    parser = argparse.ArgumentParser(description="Train steps on a device: vectors resident or streamed, fp32 or bf16.")
    parser.add_argument("--device", default="cuda", help="cuda or cpu (default cuda)")
    parser.add_argument("--dim", type=int, default=1408, help="width of a vector (default 1408, the giant's)")
    parser.add_argument("--samples", type=int, default=100_000, help="samples of an epoch (default 100000)")
    parser.add_argument("--rounds", type=int, default=3, help="epochs of each kind, after one to warm up (default 3)")
    options = parser.parse_args(words)
    device = torch.device(options.device)
    samples = random_samples(options.samples, options.dim)
    epochs = {
        (place, precision): Epochs(
            samples, replace(PAPER, precision=precision), device=device, keep_on_device=place == "resident"
        )
        for place in ("resident", "streamed")
        for precision in ("fp32", "bf16")
    }
    seconds: dict[tuple[str, str], list[float]] = {kind: [] for kind in epochs}
    for _ in range(1 + options.rounds):
        for kind, epoch in epochs.items():
            seconds[kind].append(timed(epoch)[0])
    rates = {kind: len(samples) / statistics.median(values[1:]) for kind, values in seconds.items()}
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    parameters = next(iter(epochs.values())).parameters
    print(
        f"{chip}, torch {torch.__version__}: {parameters / 1e6:.1f} M parameters, {len(samples)} samples of width "
        f"{options.dim}, batches of {PAPER.batch_size}"
    )
    for (place, precision), rate in rates.items():
        print(f"{place:8} {precision}  {rate:10,.0f} samples/s")
    print(
        f"streamed against resident: {rates['streamed', 'bf16'] / rates['resident', 'bf16']:.2f} in bf16; bf16 against "
        f"fp32: {rates['resident', 'bf16'] / rates['resident', 'fp32']:.2f} resident"
    )
    return rates


def random_samples(count: int, dim: int) -> Samples:
    """``count`` samples of random windows of width ``dim``, each with the answer of one of a span's samples."""
    rng, labelled = np.random.default_rng(0), labelled_windows()
    keys = {(s.window.kind, s.window.start_s, s.window.stop_s): np.zeros(dim, np.float16) for s in labelled}
    span = build_samples({"v": labelled}, {"v": keys}, Vocabulary(HALSTED))
    drawn = rng.integers(len(span), size=count)
    return replace(
        span,
        embeddings_WD=rng.normal(size=(count, dim)).astype(np.float16),
        video_W=np.zeros(count, np.int32),
        start_s_W=np.arange(count, dtype=float),
        stop_s_W=np.arange(count, dtype=float) + 1,
        window_S=np.arange(count),
        **{name: getattr(span, name)[drawn] for name in ("task_S", "tokens_SL", "truth_SG", "weight_S", "judged_S")},
    )


def measure(setting: Setting) -> list[dict]:
    """Both ratios, as entries of the results file."""
    return [*stored_against_decoded(setting), loader_against_ready_batch(setting)]


def stored_against_decoded(setting: Setting) -> list[dict]:
    """The first ratio, for each encoder and recipe of ``ENCODERS``."""
    encoders = [ENCODER] if setting.quick else list(ENCODERS)
    return [entry for encoder in encoders for entry in epoch_against_encoding(setting, encoder)]


def epoch_against_encoding(setting: Setting, encoder: str) -> list[dict]:
    """An epoch that decodes and encodes, in units of an epoch on stored vectors, for each recipe of one encoder."""
    path = setting.video(5)
    found = probe(path)
    video = Video("v" * 16, str(path), found.size_bytes, SPAN_S, found.width, found.height, found.fps, found.codec)
    labelled = labelled_windows()
    windows = {video.video_id: list(dict.fromkeys(sample.window for sample in labelled))}
    fingerprint, sampling = Encoder.load(encoder).fingerprint, sampling_name(SPEC, FIDELITY)
    with setting.place() as place:
        store = VectorStore(place, fingerprint, sampling)
        # One span, so this process does it on one thread.
        decode_s, _ = timed(lambda: embed([video], windows, encoder, store, SPEC, fidelity=FIDELITY))
        read_s, stored = timed(lambda: store.get(video.video_id, 0.0, SPAN_S))
    samples = build_samples({video.video_id: labelled}, {video.video_id: stored}, Vocabulary(HALSTED))
    entries = []
    for name in ENCODERS[encoder]:
        epoch = Epochs(samples, RECIPES[name])
        epoch_s = statistics.median(timed(epoch)[0] for _ in range(ROUNDS))
        entries.append(
            ratio(
                f"epoch on stored vectors, encoder {encoder.removeprefix('random:')[:4]}, recipe {name}",
                (decode_s + epoch_s) / epoch_s,
                100,
                rows=f"{SPAN_S:.0f} s of {found.width}x{found.height}, {len(windows[video.video_id])} windows, "
                f"{len(samples)} samples, "
                f"{epoch.parameters / 1e6:.1f} M parameters",
                why=f"{epoch_s * 1000:.0f} ms against {decode_s + epoch_s:.1f} s with decoding and encoding, on "
                f"one core; "
                f"reading the vectors takes {read_s * 1000:.0f} ms once per run",
            )
        )
    return entries


def loader_against_ready_batch(setting: Setting) -> dict:
    """An epoch with the batch loader, in units of as many train steps over one ready batch."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    rng, names = np.random.default_rng(0), [f"{number:016x}" for number in range(VIDEOS)]
    labelled, dim = labelled_windows(), Encoder.load(ENCODER).dim
    vectors = {(s.window.kind, s.window.start_s, s.window.stop_s): None for s in labelled}
    samples = build_samples(
        dict.fromkeys(names, labelled),
        {name: {key: rng.normal(size=dim).astype(np.float16) for key in vectors} for name in names},
        Vocabulary(HALSTED),
    )
    loaded, ready = Epochs(samples, PAPER), Epochs(samples, PAPER, has_ready_batch=True)
    seconds = {loaded: [], ready: []}
    for epoch in (loaded, ready) * (1 + (3 if setting.quick else ROUNDS)):  # in turns; the first is warm-up
        seconds[epoch].append(timed(epoch)[0])
    ours, theirs = (statistics.median(seconds[epoch][1:]) for epoch in (loaded, ready))
    steps = len(loaded.loader)
    return ratio(
        "training's wall time against ready batches",
        ours / theirs,
        1.1,
        at_most=True,
        rows=f"{steps} steps of {PAPER.batch_size}, {loaded.parameters / 1e6:.1f} M parameters",
        why=f"{1000 * ours / steps:.1f} against {1000 * theirs / steps:.1f} ms per train step, "
        f"{torch.get_num_threads()} threads",
    )


class Epochs:
    """Call it for another epoch of the same training. ``has_ready_batch``: every step is over the epoch's first batch.
    ``keep_on_device``: as of ``BatchLoader``."""

    def __init__(
        self,
        samples: Samples,
        recipe: Recipe,
        has_ready_batch: bool = False,
        device: torch.device = CPU,
        keep_on_device: bool | None = None,
    ) -> None:
        sizes = Halsted.create(HALSTED, samples.embeddings_WD.shape[1], **decoder_options(recipe)).config.decoder_sizes
        self.decoder = new_decoder(samples, Vocabulary(HALSTED), sizes, recipe).to(device)
        self.parameters = sum(parameter.numel() for parameter in self.decoder.parameters())
        self.optimizer = new_optimizer(self.decoder, recipe)
        self.loss = AnswerLoss(Vocabulary(HALSTED), recipe.label_smoothing, device)
        self.loader = BatchLoader(samples, recipe, 0, 1, device, keep_on_device)
        if has_ready_batch:
            self.loader = ReadyBatch(self.loader)
        self.done = 0

    def __call__(self) -> None:
        """Trains one epoch."""
        train_epoch(self.decoder, self.loss, self.optimizer, self.loader, self.done)
        self.done += 1


class ReadyBatch:
    """A batch loader whose every batch is the first batch of ``loader``, cut beforehand."""

    def __init__(self, loader: BatchLoader) -> None:
        self.recipe, self.workers, self.steps = loader.recipe, loader.workers, len(loader)
        self.batch = next(loader.batches(0))

    def __len__(self) -> int:
        """Batches per epoch."""
        return self.steps

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The same batch, as often as an epoch has batches."""
        return (self.batch for _ in range(self.steps))


def labelled_windows() -> list[LabelledWindow]:
    """Samples of every window of a span: three quarters suturing, the rest dissection; the fine tags are arbitrary."""
    clips = []
    for number, start_s in enumerate(np.arange(0, SPAN_S, SPEC.fine_s)):
        step = "Suturing" if start_s < 0.75 * SPAN_S else "Dissection"
        for task in HALSTED.tasks:
            turn = 0 if task.window == "coarse" else number
            tags = {tag.name: tag.categories[turn % len(tag.categories)] for tag in task.tags}
            if task.window == "coarse":
                tags["step"] = step
            elif (task.name == "micro") != (step == "Dissection"):
                continue
            clips.append(Clip("v" * 16, start_s, start_s + SPEC.fine_s, task.name, tags))
    return label_windows(training_windows(SPAN_S, SPEC), clips, HALSTED.tasks)


if __name__ == "__main__":
    main()
