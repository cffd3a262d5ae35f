"""Is the decoder at least as good as a linear probe and SAIS on the same vectors? A paired bootstrap over videos.

    halsted phantom learn --videos 32 --minutes 2 --seed 101 --size 384x216 --fps 15
    halsted phantom judge --videos 24 --minutes 2 --seed 202 --size 384x216 --fps 15
    python benchmarks/decoder_against_probe.py --atlas learn --recipe best --set label_smoothing=0.05
    python benchmarks/decoder_against_probe.py --atlas learn --test-on judge --recipe best --baselines linear,sais

The first form tests each video of the atlas once per seed, in folds: a recipe is chosen there. The second learns from
the atlas and tests on all videos of another one, which no choice has seen: there it is judged. Each seed draws other
videos to validate on, and other weights. A difference is that of the accuracies over all seeds; its interval holds 95%
of the draws of videos. Everything runs in this process, on stored vectors; windows without one are encoded first.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from measuring import commit
from run import hardware

from halsted_ray.atlas import read_atlas
from halsted_ray.cli.text_tables import table
from halsted_ray.evaluation.baselines import BASELINES, baseline_predictions
from halsted_ray.evaluation.dataset import EvaluationData, prepare_data
from halsted_ray.evaluation.evaluation_plan import EvaluationPlan
from halsted_ray.evaluation.folds import Fold, fold_samples, fold_steps, rows_of, with_test_atlas
from halsted_ray.evaluation.intervals import PairedDifference, paired_bootstrap, ratio_of_sums
from halsted_ray.evaluation.predictions import MODEL, TagPredictions, predict, tag_targets
from halsted_ray.evaluation.sais import SAIS_HEAD, SaisRecipe
from halsted_ray.evaluation.scoring import AccuracyCounts
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import WindowSpec
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.training.loop import fit_in_process
from halsted_ray.training.recipe import RECIPES, Recipe, changed
from halsted_ray.training.train import decoder_options

VALIDATION = 6
"""One in so many of the learning videos validates."""
LEAST = -0.01
"""The bar: the lower bound of each difference is above this."""
CALLED = {"sais": SAIS_HEAD}
"""What a baseline is called in its predictions where that is not its name: without a ViT of its own, SAIS is a head."""
Splits = dict[str, str]


def main() -> None:
    """Trains and predicts; after each training prints the table so far and writes the results file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atlas", required=True, metavar="DIR", help="archive with the atlas to learn from")
    parser.add_argument("--test-on", metavar="DIR", help="archive to test on (default: folds of --atlas)")
    parser.add_argument("--embeddings", metavar="DIR", help="default: embeddings beside the atlas; of --atlas alone")
    parser.add_argument("--encoder", default="tiny")
    parser.add_argument("--recipe", default="best", choices=sorted(RECIPES))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--baselines", default="linear", help=f"of {', '.join(BASELINES)} (default linear)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folds", type=int, default=4, help="without --test-on (default 4)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    started_s, recipe = time.monotonic(), changed(RECIPES[options.recipe], options.set)
    baselines = tuple(options.baselines.split(","))
    taxonomy, data, tested = load(options, recipe, baselines)
    predictions: list[TagPredictions] = []
    for number, (seed, split) in enumerate(drawn_splits(data.training.video_ids, tested, options.seeds, options.folds)):
        predictions += fold_predictions(data, taxonomy, split, number, changed(recipe, [f"seed={seed}"]), baselines)
        figures, seconds = compared(predictions, taxonomy, baselines), time.monotonic() - started_s
        print(f"{shown(figures, baselines)}\n{number + 1} trainings, {seconds:.0f} s\n", flush=True)
        if options.results:
            written = {"code": commit(), "hardware": hardware(), "command": " ".join(["python", *sys.argv])}
            written |= {"trainings": number + 1, "seconds": seconds, "tags": figures}
            Path(options.results).write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def load(
    options: argparse.Namespace, recipe: Recipe, baselines: tuple[str, ...]
) -> tuple[Taxonomy, EvaluationData, frozenset[str]]:
    """(taxonomy, all videos' samples, the ids of the videos of ``--test-on``)."""
    source = read_atlas(options.atlas)
    taxonomy, encoder = source.load_taxonomy(), encoder_identity(options.encoder)
    tested: frozenset[str] = frozenset()
    if options.test_on:
        source = with_test_atlas(source, read_atlas(options.test_on))
        tested = frozenset(video_id for video_id, part in source.split.items() if part == "test")
    config = Halsted.create(taxonomy, encoder.dim, windows=WindowSpec(), **decoder_options(recipe)).config
    data = prepare_data(
        source,
        taxonomy,
        recipe,
        EvaluationPlan(baselines=baselines),
        encoder,
        config,
        options.embeddings or f"{options.atlas.rstrip('/')}/embeddings",
        {clip.video_id for clip in source.clips},
        None,
        only_tested=tested,
    )
    return taxonomy, data, tested


def drawn_splits(
    video_ids: Sequence[str], tested: frozenset[str], seeds: int, folds: int
) -> Iterator[tuple[int, Splits]]:
    """(seed, video_id → part) of each training: one per seed with videos to test on, else one per seed and fold."""
    learning = sorted(set(video_ids) - tested)
    for seed in range(seeds):
        order = random.Random(seed).sample(learning, len(learning))
        parts = [sorted(tested)] if tested else [order[fold::folds] for fold in range(folds)]
        for part in parts:
            left = [video_id for video_id in order if video_id not in part]
            split = dict.fromkeys(left, "train") | dict.fromkeys(left[: max(1, len(left) // VALIDATION)], "validation")
            yield seed, split | dict.fromkeys(part, "test")


def fold_predictions(
    data: EvaluationData, taxonomy: Taxonomy, split: Splits, number: int, recipe: Recipe, baselines: tuple[str, ...]
) -> list[TagPredictions]:
    """What a decoder of ``recipe`` and the baselines predict for the test videos of ``split``."""
    fold = Fold(number, split, model="", is_given=False)
    train, validation, test = (fold_samples(data, fold, part) for part in ("train", "validation", "test"))
    model = Halsted.create(taxonomy, data.config.encoder_dim, steps=data.config.steps, **decoder_options(recipe))
    fitted = fit_in_process(train, validation, model.config.decoder_sizes, taxonomy, recipe)
    model.decoder.load_state_dict(fitted.tensors)
    rows = rows_of(data.testing, fold, "test")
    targets = tag_targets(test, train, taxonomy, number, data.kind_S[rows], data.source_S[rows])
    steps = {part: fold_steps(data, fold, part) for part in ("train", "validation", "test")} if data.steps else None
    return predict(model, test, targets) + baseline_predictions(
        baselines, targets, train, validation, test, taxonomy, steps=steps, sais=SaisRecipe(seed=recipe.seed)
    )


def compared(
    predictions: Sequence[TagPredictions], taxonomy: Taxonomy, baselines: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Tag, or ``mean`` of all → method → accuracy, and for a baseline the decoder's difference to it."""
    counts = {
        method: AccuracyCounts.of([entry for entry in predictions if entry.method in (method, CALLED.get(method))])
        for method in (MODEL, *baselines)
    }
    tags = [tag.name for tag in taxonomy.tags if tag.name in counts[MODEL].tags]
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for name in ("mean", *tags):
        columns = tags if name == "mean" else [name]
        own_VT, total_VT = counts[MODEL].by_video(columns)
        figures[name] = {MODEL: {"accuracy": accuracy(own_VT, total_VT), "windows": float(total_VT.sum())}}
        for method in baselines:
            right_VT, of_method_VT = counts[method].by_video(columns)
            assert np.array_equal(of_method_VT, total_VT), "both methods predict the same windows"
            found: PairedDifference = paired_bootstrap(right_VT, own_VT, total_VT)
            figures[name][method] = {
                "accuracy": accuracy(right_VT, total_VT),
                "difference": found.value,
                "low": found.low,
                "high": found.high,
            }
    return figures


def accuracy(right_VT: np.ndarray, total_VT: np.ndarray) -> float:
    """The mean over tags of the share of windows that are right."""
    return float(ratio_of_sums(right_VT.sum(0)[None], total_VT.sum(0)[None])[0])


def shown(figures: Mapping[str, Mapping[str, Mapping[str, float]]], baselines: Sequence[str]) -> str:
    """The table: accuracies and differences in points."""
    rows = []
    for tag, of_method in figures.items():
        cells = [tag, f"{100 * of_method[MODEL]['accuracy']:.1f}"]
        for method in baselines:
            found = of_method[method]
            interval = f"{100 * found['difference']:+.1f} ({100 * found['low']:+.1f} to {100 * found['high']:+.1f})"
            cells += [f"{100 * found['accuracy']:.1f}", interval, "met" if found["low"] > LEAST else "missed"]
        rows.append(tuple(cells))
    heads = ["tag", "decoder", *(word for method in baselines for word in (method, "difference (95%)", "bar"))]
    return table(tuple(heads), rows, right=tuple(range(1, len(heads))))


if __name__ == "__main__":
    main()
