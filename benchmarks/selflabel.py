"""Does a model learn from its own labels, and from how many annotated videos on does a round pay?

    python benchmarks/selflabel.py --out /tmp/selflabel

Phantoms of four procedures. Of each seed the videos are shuffled, and each fold tests on videos that no other fold of
the seed tests on. Some of the other videos count as annotated to choose thresholds on, and ``--manual`` of them as
annotated to learn from: the first 2, the first 4, and so on, so that a larger number holds the smaller one. All others
count as annotated by nobody. v1 learns from the annotations and labels the others, v2 learns from both; in a second
round v2 labels them anew, and v3 learns from the annotations and v2's labels. All predict the test videos, which no
model of the fold has seen.

It is what `halsted evaluate --self-label --rounds 2` does (``selflabel/ablation.py``), on stored vectors and without a
mapping for each fold: with several folds, numbers and rounds those mappings would take most of the time.

The gate is left open, so that the curve shows what a round does where the gate would forbid it; the results say how
many models it would have let through. The truth of phantoms is known, so the results also say which share of the labels
is right. A gain's interval holds 95% of the draws of videos, over all folds and seeds.

Models and vectors are kept in <out>; the same command goes on with a run that was stopped.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from measuring import commit
from run import hardware

from halsted_ray.atlas import Atlas
from halsted_ray.atlas.phantom_archive import write_archive
from halsted_ray.cli.text_tables import percent, table
from halsted_ray.embedding.embed import embed
from halsted_ray.embedding.vector_names import open_vectors
from halsted_ray.evaluation.dataset import EvaluationData, prepare_data
from halsted_ray.evaluation.evaluation_plan import EvaluationPlan
from halsted_ray.evaluation.folds import (
    Fold,
    fold_samples,
    limit_training_videos,
    operation_of_video,
    rows_of,
    train_fold_model,
)
from halsted_ray.evaluation.predictions import TagPredictions, predict, tag_targets
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Clip, WindowSpec, digest
from halsted_ray.selflabel.ablation import fold_atlas, label_by_vectors
from halsted_ray.selflabel.gain import measure_gain
from halsted_ray.selflabel.labelling import GATE, PRECISION
from halsted_ray.selflabel.thresholds import thresholds_of_tags
from halsted_ray.selflabel.validation import accuracy_of_tasks, average, predict_validation
from halsted_ray.storage.vectors import sampling_name
from halsted_ray.taxonomy import from_dict
from halsted_ray.training.atlas_samples import FIDELITY, load_samples, samples_of_videos, unique_windows
from halsted_ray.training.recipe import RECIPES, Recipe, changed
from halsted_ray.training.train import decoder_options

RESULTS = Path(__file__).parent / "results" / "selflabel.json"
ENCODER, TASK = "tiny", "micro"
PROCEDURES = ("Gastric Bypass", "Right Colectomy", "Hysterectomy", "Prostatectomy")
"""Few procedures, so that a few annotated videos show each: a procedure without an annotation can't be learned."""
COLOURS = ("#4269d0", "#ff725c", "#3ca951")
"""Of the rounds."""
WORK: Work
"""In a worker's process: what all jobs share."""
Entry = dict[str, Any]
"""The figures of one number of annotated videos, as JSON values."""


@dataclass(frozen=True)
class Work:
    """What all jobs share. ``whole``: the atlas with the truth of all videos; ``precision``: of the labels."""

    whole: Atlas
    data: EvaluationData
    embeddings: str
    precision: float


@dataclass(frozen=True)
class Cell:
    """One fold with one number of annotated videos. ``labels``: what the model of the fold learned beside them."""

    manual: int
    fold: Fold
    labels: tuple[Clip, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a cell's model predicts for the test videos, and which labels it would give the videos without
    annotations."""

    predictions: list[TagPredictions]
    labels: tuple[Clip, ...]
    report: Entry


@dataclass
class Curve:
    """(number of annotated videos, number of the round) → the outcomes of its folds, in order."""

    of: dict[tuple[int, int], list[Outcome]] = field(default_factory=dict)


def main() -> None:
    """Renders the phantoms, trains and labels, prints the tables and writes results and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--results", metavar="FILE", type=Path, default=RESULTS)
    parser.add_argument("--seed", type=int, default=5, help="of the phantoms (default 5)")
    parser.add_argument("--videos", type=int, default=56)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seeds", type=int, default=3, help="of the folds: 0, 1, … (default 3)")
    parser.add_argument("--folds", type=int, default=2, help="of each seed (default 2)")
    parser.add_argument("--test", type=int, default=12, help="videos that a fold tests on (default 12)")
    parser.add_argument("--validation", type=int, default=8, help="annotated videos for thresholds (default 8)")
    parser.add_argument("--manual", type=int, nargs="+", default=[2, 4, 8, 16], help="annotated videos to learn from")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--precision", type=float, default=PRECISION)
    parser.add_argument("--recipe", default="best")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="such as ai_weight=0.5")
    parser.add_argument("--workers", type=int, default=2, help="trainings side by side (default 2)")
    options = parser.parse_args()
    if options.test * options.folds > options.videos:
        parser.error("the folds of a seed test on different videos: raise --videos, or lower --test")
    if max(options.manual) + options.validation + options.test >= options.videos:
        parser.error("expected videos without annotations: raise --videos")
    started_s, out = time.monotonic(), options.out.rstrip("/")
    whole = write_archive(
        f"{out}/archive",
        options.videos,
        options.minutes,
        options.seed,
        width=384,
        height=216,
        fps=15,
        procedures=PROCEDURES,
    )
    recipe = changed(RECIPES[options.recipe], options.set)
    work = prepare(whole, recipe, options.precision)
    cells = draw_cells(whole, options, f"{out}/models")
    print(f"{len(cells)} folds, {time.monotonic() - started_s:.0f} s until the vectors of all windows", flush=True)
    curve = Curve()
    for number in range(options.rounds + 1):
        outcomes = run_all(cells, work, options.workers)
        for cell, outcome in zip(cells, outcomes, strict=True):
            curve.of.setdefault((cell.manual, number), []).append(outcome)
        cells = [next_cell(cell, outcome) for cell, outcome in zip(cells, outcomes, strict=True)]
        print(f"models v{number + 1}: {time.monotonic() - started_s:.0f} s", flush=True)
        if number:
            entries = entries_of(curve, options.manual, number, work)
            print(f"\n{curve_table(entries)}\n", flush=True)
            write(entries, options, cells, time.monotonic() - started_s)
        if number < options.rounds:
            embed_labelled(cells, work)


def prepare(whole: Atlas, recipe: Recipe, precision: float) -> Work:
    """The samples of all videos, with their vectors."""
    taxonomy, encoder, spec = whole.load_taxonomy(), encoder_identity(ENCODER), WindowSpec()
    config = Halsted.create(
        taxonomy,
        encoder.dim,
        encoder_ref=encoder.ref,
        encoder_fingerprint=encoder.fingerprint,
        windows=spec,
        **decoder_options(recipe),
    ).config
    embeddings, plan = f"{whole.root}/embeddings", EvaluationPlan(baselines=())
    video_ids = {video.video_id for video in whole.videos}
    data = prepare_data(whole, taxonomy, recipe, plan, encoder, config, embeddings, video_ids, None)
    return Work(whole, data, embeddings, precision)


def draw_cells(whole: Atlas, options: argparse.Namespace, models: str) -> list[Cell]:
    """All folds of all seeds, with each number of annotated videos. The videos take turns through the procedures, so
    that each part shows all of them."""
    operations, cells = operation_of_video(whole.clips), []
    procedures = {video_id: of["procedure"] for video_id, of in operations.items()}
    for seed in range(options.seeds):
        rng, of_procedure = random.Random(seed), dict[str, list[str]]()
        for video_id in sorted(video.video_id for video in whole.videos):
            of_procedure.setdefault(procedures[video_id], []).append(video_id)
        for own in of_procedure.values():
            rng.shuffle(own)
        turns = [(turn, procedure, v) for procedure, own in of_procedure.items() for turn, v in enumerate(own)]
        order = [video_id for _, _, video_id in sorted(turns)]
        parts = ["test"] * options.test + ["validation"] * options.validation
        parts += ["train"] * (len(order) - len(parts))
        for fold in range(options.folds):
            split = dict(zip(order[options.test * fold :] + order[: options.test * fold], parts, strict=True))
            for manual in options.manual:
                own_split = limit_training_videos(split, manual, procedures, seed)
                model = f"{models}/{digest([whole.root, options.recipe, options.set, own_split])}"
                cells.append(Cell(manual, Fold(seed * options.folds + fold, own_split, model, is_given=False)))
    return cells


def run_all(cells: Sequence[Cell], work: Work, workers: int) -> list[Outcome]:
    """``run_cell`` of each, in processes side by side."""
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawned, initializer=start_worker, initargs=(work,)) as pool:
        return list(pool.map(run_cell, cells))


def start_worker(work: Work) -> None:
    """Gives a process what all jobs share, and one thread."""
    global WORK
    WORK = work
    torch.set_num_threads(1)


def run_cell(cell: Cell) -> Outcome:
    """Trains the cell's model, unless an earlier run left it; predicts the test videos, and labels the others."""
    data, taxonomy, fold = WORK.data, from_dict(dict(WORK.data.taxonomy)), cell.fold
    known = fold_atlas(WORK.whole, fold.split)
    validation, test = (fold_samples(data, fold, part) for part in ("validation", "test"))
    train = fold_samples(data, fold, "train")
    if cell.labels:
        grown = grown_atlas(cell, WORK.whole)
        encoder = encoder_identity(ENCODER)
        train = load_samples(
            grown, grown.split, taxonomy, data.recipe, data.config.windows, encoder, WORK.embeddings, parts=("train",)
        )["train"]
    model, _ = train_fold_model(fold, data, taxonomy, train, validation)
    rows = rows_of(data.testing, fold, "test")
    targets = tag_targets(test, train, taxonomy, fold.number, data.kind_S[rows], data.source_S[rows])
    by_task, _ = accuracy_of_tasks(model, known, ENCODER, WORK.embeddings)
    task, seen = taxonomy.task(TASK), predict_validation(model, known, taxonomy.task(TASK), ENCODER, WORK.embeddings)
    thresholds = thresholds_of_tags(seen.predicted_N, seen.truth_N, [tag.name for tag in task.tags], WORK.precision)
    others = [video for video in WORK.whole.videos if video.video_id not in fold.split]
    found = label_by_vectors(model, WORK.whole, others, task, thresholds, WORK.embeddings)
    labels = tuple(clip for of_video in found for clip in of_video.clips)
    report = {
        "gate_mean": average(by_task),
        "labelled_s": sum(of_video.labelled_s for of_video in found),
        "others_s": sum(video.duration_s for video in others),
    }
    return Outcome(predict(model, test, targets), labels, report)


def grown_atlas(cell: Cell, whole: Atlas) -> Atlas:
    """The atlas of the cell's annotated videos, with the labels of the others."""
    known = fold_atlas(whole, cell.fold.split)
    new = {clip.video_id for clip in cell.labels}
    return replace(
        known,
        split=known.split | dict.fromkeys(sorted(new), "train"),
        clips=(*known.clips, *cell.labels),
        videos=(*known.videos, *(video for video in whole.videos if video.video_id in new)),
    )


def next_cell(cell: Cell, outcome: Outcome) -> Cell:
    """The cell whose model learns from the labels of ``outcome``; one without labels keeps its model, as a user
    would."""
    if not outcome.labels:
        return cell
    first = cell.fold.model.split("-labels-")[0]
    model = f"{first}-labels-{digest([vars(clip) for clip in outcome.labels])[:8]}"
    return replace(cell, fold=replace(cell.fold, model=model), labels=outcome.labels)


def embed_labelled(cells: Sequence[Cell], work: Work) -> None:
    """Makes the vectors of all windows that any cell's labels call for, in one pass over the videos."""
    taxonomy, spec = work.whole.load_taxonomy(), work.data.config.windows
    windows: dict[str, dict[Any, None]] = {video.video_id: {} for video in work.whole.videos}
    for cell in cells:
        clips = cell.labels
        videos = [video for video in work.whole.videos if video.video_id in {clip.video_id for clip in clips}]
        for video_id, samples in samples_of_videos(videos, clips, taxonomy, work.data.recipe, spec).items():
            windows[video_id] |= dict.fromkeys(unique_windows(samples))
    encoder = encoder_identity(ENCODER)
    store = open_vectors(work.embeddings, encoder, sampling_name(spec, FIDELITY))
    embed(
        work.whole.videos,
        {video_id: list(of_video) for video_id, of_video in windows.items()},
        encoder.ref,
        store,
        spec,
        fidelity=FIDELITY,
    )


def entries_of(curve: Curve, manual: Sequence[int], rounds: int, work: Work) -> list[Entry]:
    """The figures of each number of annotated videos, with the ``rounds`` so far: what each round gained over v1, and
    what its labels are worth."""
    taxonomy, operations = from_dict(dict(work.data.taxonomy)), operation_of_video(work.whole.clips)
    entries = []
    for count in sorted(manual):
        by_round = [curve.of[count, number] for number in range(rounds + 1)]
        v1, *after = ([entry for outcome in outcomes for entry in outcome.predictions] for outcomes in by_round)
        of_rounds = []
        for number, predictions in enumerate(after, 1):
            labelled = by_round[number - 1]
            comparison = measure_gain(v1, predictions, taxonomy, operations, TASK, rounds=number)
            of_rounds.append(round_figures(comparison, labelled, work))
        entries.append({"manual": count, "rounds": of_rounds})
    return entries


def round_figures(comparison: Mapping[str, Any], labelled: Sequence[Outcome], work: Work) -> Entry:
    """One round's figures: accuracy and gain by task and tag, of clips, of a map's windows and of both; its labels."""
    means = [outcome.report["gate_mean"] for outcome in labelled]
    return {
        "model": comparison["after"],
        "keep": comparison["keep"],
        "folds": comparison["folds"],
        "videos": {name: of for name, of in comparison["videos"].items() if name != "specialties"},
        "units": {
            unit: {name: of for name, of in both["videos"].items() if name != "specialties"}
            for unit, both in comparison["units"].items()
        },
        "labels": {
            "right": right_share([outcome.labels for outcome in labelled], work.whole.clips),
            "share_of_time": sum(outcome.report["labelled_s"] for outcome in labelled)
            / sum(outcome.report["others_s"] for outcome in labelled),
            "minutes": [outcome.report["labelled_s"] / 60 for outcome in labelled],
            "gate_means": means,
            "pass_gate": sum(mean >= GATE for mean in means),
        },
    }


def right_share(labels: Sequence[Sequence[Clip]], truth: Sequence[Clip]) -> dict[str, float]:
    """Tag → share of the labelled time of all folds that has the true category; time without truth counts as wrong."""
    of_video: dict[str, list[Clip]] = {}
    for clip in truth:
        of_video.setdefault(clip.video_id, []).append(clip)
    right_s, labelled_s = {}, {}
    for label in (label for fold in labels for label in fold):
        for tag, category in label.tags.items():
            labelled_s[tag] = labelled_s.get(tag, 0.0) + label.stop_s - label.start_s
            right_s[tag] = right_s.get(tag, 0.0) + sum(
                max(0.0, min(clip.stop_s, label.stop_s) - max(clip.start_s, label.start_s))
                for clip in of_video[label.video_id]
                if clip.task == label.task and clip.tags.get(tag) == category
            )
    return {tag: right_s[tag] / labelled_s[tag] for tag in right_s}


def curve_table(entries: Sequence[Entry]) -> str:
    """Per number of annotated videos and round: v1's accuracy on micro, the gain on micro and on the mean of all tags,
    which share of the labels' time has the right action, which share of the videos' time is labelled, and how many
    folds' models would pass the gate."""
    rows = []
    for entry in entries:
        for of_round in entry["rounds"]:
            first = of_round["folds"]["micro"]["first"]
            rows.append(
                (
                    entry["manual"],
                    of_round["model"],
                    percent(sum(first) / len(first)),
                    gain_text(of_round["videos"]["tasks"]["micro"]),
                    gain_text(of_round["videos"]["mean"]),
                    percent(of_round["labels"]["right"].get("action")),
                    percent(of_round["labels"]["share_of_time"]),
                    f"{of_round['labels']['pass_gate']}/{len(of_round['labels']['gate_means'])}",
                )
            )
    header = ("videos", "model", "v1 micro", "gain on micro", "gain on all tags", "right", "labelled", "gate")
    return table(header, rows, right=range(2, len(header)))


def gain_text(gain: Mapping[str, float]) -> str:
    """A gain with its interval, in points."""
    return f"{100 * gain['value']:+.1f} ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"


def write(entries: Sequence[Entry], options: argparse.Namespace, cells: Sequence[Cell], seconds: float) -> None:
    """Writes the results file and the figure."""
    tested = {v for cell in cells for v, part in cell.fold.split.items() if part == "test"}
    found = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "code": commit(),
        "hardware": hardware(),
        "command": " ".join(["python", *sys.argv]),
        "options": {name: value for name, value in vars(options).items() if name not in ("out", "results")},
        "seconds": seconds,
        "tested_videos": len(tested),
        "entries": entries,
    }
    options.results.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draw(entries, options.results.with_suffix(".svg"))


def draw(entries: Sequence[Entry], path: Path) -> None:
    """The gain on micro after each round, with its interval, against the number of annotated videos, as an SVG."""
    width, height, left, bottom, top, right = 640, 340, 60, 60, 20, 70
    gains = [of_round["videos"]["tasks"]["micro"] for entry in entries for of_round in entry["rounds"]]
    low = min(0.0, *(100 * gain["low"] for gain in gains)) - 1
    high = max(0.0, *(100 * gain["high"] for gain in gains)) + 1

    def x(place: int) -> float:
        return left + (width - left - right) * (place + 0.5) / len(entries)

    def y(points: float) -> float:
        return top + (height - top - bottom) * (high - points) / (high - low)

    text = 'font-family="sans-serif" font-size="12"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    step = next(size for size in (1, 2, 5, 10, 20) if (high - low) / size <= 8)
    for points in range(step * int(low // step) + step, int(high) + 1, step):
        stroke = "#888" if points == 0 else "#ddd"
        parts.append(
            f'<line x1="{left}" x2="{width - right}" y1="{y(points):.0f}" y2="{y(points):.0f}" stroke="{stroke}"/>'
            f'<text x="{left - 8}" y="{y(points) + 4:.0f}" text-anchor="end" {text}>{points:+d}</text>'
        )
    for place, entry in enumerate(entries):
        parts.append(
            f'<text x="{x(place):.0f}" y="{height - bottom + 20}" text-anchor="middle" {text}>{entry["manual"]}</text>'
        )
    for number, model in enumerate(of_round["model"] for of_round in entries[0]["rounds"]):
        colour, shift = COLOURS[number % len(COLOURS)], 10 * number - 5
        own = [(x(place) + shift, entry["rounds"][number]) for place, entry in enumerate(entries)]
        points_of = [(px, of_round["videos"]["tasks"]["micro"]) for px, of_round in own]
        line = " ".join(f"{px:.1f},{y(100 * gain['value']):.1f}" for px, gain in points_of)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for px, gain in points_of:
            parts.append(
                f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{y(100 * gain["low"]):.1f}" y2="{y(100 * gain["high"]):.1f}" '
                f'stroke="{colour}"/><circle cx="{px:.1f}" cy="{y(100 * gain["value"]):.1f}" r="4" fill="{colour}"/>'
            )
        parts.append(
            f'<text x="{width - right + 8}" y="{top + 16 + 18 * number}" fill="{colour}" {text}>{model} − v1</text>'
        )
    parts.append(
        f'<text x="{left}" y="{height - 14}" {text}>annotated videos to learn from; points of accuracy on '
        "micro-activity, 95% over videos</text>"
    )
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
