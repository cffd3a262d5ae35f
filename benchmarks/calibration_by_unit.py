"""Do confidences say how often a tag is right, on annotated clips and on a map's windows? With one temperature per tag,
and with one per tag and unit.

    halsted phantom learn --videos 32 --minutes 2 --seed 101 --size 384x216 --fps 15
    halsted phantom judge --videos 24 --minutes 2 --seed 202 --size 384x216 --fps 15
    python benchmarks/calibration_by_unit.py --atlas learn --seeds 1 --unit-spreads 0,0.5,1,2
    python benchmarks/calibration_by_unit.py --atlas learn --test-on judge --seeds 3

The first form tests each video of the atlas once per seed, in folds: ``UNIT_SPREAD`` is chosen there. The second learns
from the atlas and tests on another one. Splits, vectors and trainings are those of ``decoder_against_probe.py``. A
figure is the calibration error over the predictions of all trainings, with its interval over the tested videos; an
unit spread of 0 gives both units of a tag the same temperature.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from decoder_against_probe import drawn_splits, load
from measuring import commit
from run import hardware

from halsted_ray.cli.text_tables import table
from halsted_ray.evaluation.coverage import coverage
from halsted_ray.evaluation.folds import Fold, fold_samples, rows_of
from halsted_ray.evaluation.predictions import TagPredictions, of_unit, predict, tag_targets
from halsted_ray.model.calibration import UNIT_SPREAD, UNITS
from halsted_ray.model.halsted import Halsted
from halsted_ray.training.loop import fit_in_process
from halsted_ray.training.recipe import RECIPES, changed
from halsted_ray.training.train import calibrate, decoder_options


def main() -> None:
    """Trains, calibrates and predicts; after each training prints the table so far and writes the results file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atlas", required=True, metavar="DIR", help="archive with the atlas to learn from")
    parser.add_argument("--test-on", metavar="DIR", help="archive to test on (default: folds of --atlas)")
    parser.add_argument("--embeddings", metavar="DIR", help="default: embeddings beside the atlas")
    parser.add_argument("--encoder", default="tiny")
    parser.add_argument("--recipe", default="best", choices=sorted(RECIPES))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--unit-spreads", default=f"0,{UNIT_SPREAD:g}", help="of calibration.UNIT_SPREAD")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=4, help="without --test-on (default 4)")
    parser.add_argument("--results", metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = changed(RECIPES[options.recipe], options.set)
    spreads = [float(spread) for spread in options.unit_spreads.split(",")]
    taxonomy, data, tested = load(options, recipe, ())
    predictions: dict[float, list[TagPredictions]] = {spread: [] for spread in spreads}
    splits = drawn_splits(data.training.video_ids, tested, options.seeds, options.folds)
    for number, (seed, split) in enumerate(splits):
        fold, seeded = Fold(number, split, model="", is_given=False), replace(recipe, seed=seed)
        train, validation, test = (fold_samples(data, fold, part) for part in ("train", "validation", "test"))
        model = Halsted.create(taxonomy, data.config.encoder_dim, steps=data.config.steps, **decoder_options(seeded))
        fitted = fit_in_process(train, validation, model.config.decoder_sizes, taxonomy, seeded)
        model.decoder.load_state_dict(fitted.tensors)
        rows = rows_of(data.testing, fold, "test")
        targets = tag_targets(test, train, taxonomy, number, data.kind_S[rows], data.source_S[rows])
        for spread in spreads:
            calibrate(model, validation, spread)
            predictions[spread] += predict(model, test, targets)
        figures = figures_of(predictions, [tag.name for tag in taxonomy.tags])
        print(f"{shown(figures, spreads)}\n{number + 1} trainings\n", flush=True)
        if options.results:
            written = {"code": commit(), "hardware": hardware(), "command": " ".join(["python", *sys.argv])}
            written |= {"trainings": number + 1, "figures": figures}
            Path(options.results).write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def figures_of(
    predictions: Mapping[float, Sequence[TagPredictions]], tags: Sequence[str]
) -> list[dict[str, str | float]]:
    """Per tag, unit and spread: samples, accuracy, and the calibration error with its interval over videos."""
    figures: list[dict[str, str | float]] = []
    for tag in tags:
        for unit in UNITS:
            for spread, entries in predictions.items():
                own = [entry for entry in of_unit(entries, unit) if entry.targets.tag == tag]
                if not own:
                    continue
                confidence_N, right_N = (
                    np.concatenate([vars(e)[name] for e in own]) for name in ("confidence_N", "right_N")
                )
                found = coverage(confidence_N, right_N, np.concatenate([entry.targets.video_N for entry in own]))
                figures.append(
                    {
                        "tag": tag,
                        "unit": unit,
                        "unit_spread": spread,
                        "samples": len(right_N),
                        "accuracy": float(right_N.mean()),
                        "confidence": float(confidence_N.mean()),
                        **{name: found[name] for name in ("calibration_error", "low", "high")},
                    }
                )
    return figures


def shown(figures: Sequence[Mapping[str, str | float]], spreads: Sequence[float]) -> str:
    """The table: per tag and unit the calibration errors, one column per spread."""
    rows = []
    for first in figures[:: len(spreads)]:
        own = [row for row in figures if (row["tag"], row["unit"]) == (first["tag"], first["unit"])]
        cells = [f"{row['calibration_error']:.3f} ({row['low']:.3f} to {row['high']:.3f})" for row in own]
        rows.append((str(first["tag"]), str(first["unit"]), f"{first['samples']}", f"{first['accuracy']:.3f}", *cells))
    heads = ("tag", "unit", "samples", "accuracy", *(f"spread {spread:g}" for spread in spreads))
    return table(heads, rows, right=tuple(range(2, len(heads))))


if __name__ == "__main__":
    main()
