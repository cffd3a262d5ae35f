"""``halsted benchmark`` and its actions: their options, and what they print."""

from __future__ import annotations

import argparse
import json
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING

from halsted_ray.cli.language import MODEL_OF_TEXT, embedded
from halsted_ray.cli.options import DONE, NOT_ALL, Commands, add_command, add_group
from halsted_ray.cli.registry import REGISTRY_HELP
from halsted_ray.cli.text_tables import WIDTH, counted, table

if TYPE_CHECKING:
    from halsted_ray.benchmarks.benchmark import Benchmark
    from halsted_ray.benchmarks.run import BenchmarkRun

NAMED = 10
"""Missing videos that are named; the others are counted."""
SHOWN = {"accuracy": "accuracy", "f1": "F1", "map": "mAP"}
FURTHER = {
    "accuracy_videos": "accuracy, mean over videos",
    "f1_videos": "F1, mean over videos",
    "map_videos": "mAP, mean over videos",
    "map_pooled": "mAP, all frames pooled",
    "map_instrument": "mAP of instruments",
    "map_verb": "mAP of verbs",
    "map_target": "mAP of targets",
    "f1_10": "F1@10, mean over videos",
    "action_score": "action score",
    "chance": "chance",
    "commonest": "commonest label",
}


def add_benchmark(commands: Commands) -> None:
    """``halsted benchmark`` and its actions."""
    actions = add_group(
        commands,
        "benchmark",
        "judge a model on published data sets, beside published figures",
        example="halsted benchmark run cholec80-phase /data/cholec80 --model run/model",
        more="docs/how-to/benchmarks-of-the-field.md shows what it prints",
    )
    listed = add_command(
        actions,
        "list",
        "list the benchmarks: what is judged, on how many videos, by which metric",
        print_benchmarks,
        example="halsted benchmark list",
    )
    listed.add_argument("--json", action="store_true", help="print everything as JSON")
    run = add_command(
        actions,
        "run",
        "judge a model on one benchmark, where the data set lies",
        print_run,
        example="halsted benchmark run cholec80-phase /data/cholec80 --model run/model",
        more="exit code: 0 all test videos were judged whole, 3 some are missing",
    )
    run.add_argument("name", metavar="NAME", help="of `halsted benchmark list`")
    run.add_argument("folder", metavar="FOLDER", help="the data set in its published layout: a path or a URL")
    run.add_argument("--model", metavar="REF", help=MODEL_OF_TEXT)
    run.add_argument("--encoder", metavar="REF", help="where the encoder is (default: the model's own)")
    run.add_argument(
        "--probe",
        choices=("zero-shot", "linear"),
        default="zero-shot",
        help="zero-shot (default): by sentences alone; linear: a classifier on the frames of the train part",
    )
    run.add_argument("--text-encoder", metavar="DIR", help="folder of the text encoder (default: the model's own)")
    run.add_argument("--labels", metavar="FILE", help="YAML file with your own sentences, labels: {label: [sentence]}")
    run.add_argument("--videos", metavar="DIR", help="where videos or folders of frames are (default: in FOLDER)")
    run.add_argument("--test", metavar="FILE", help="names of the test videos, one a line, or a split pickle")
    run.add_argument("--train", metavar="FILE", help="names of the videos that the linear probe learns from")
    run.add_argument(
        "--atlas",
        action="append",
        default=[],
        metavar="DIR",
        help="atlas that taught the model, to compare names of recordings; may be repeated",
    )
    run.add_argument(
        "--allow-leak", action="store_true", help="judge a model that has seen test videos; the row is marked"
    )
    run.add_argument("--embeddings", metavar="DIR", help="where embeddings are kept (default: FOLDER/embeddings)")
    run.add_argument("--registry", metavar="URI", help=REGISTRY_HELP)
    run.add_argument("--json", action="store_true", help="print the figures as JSON")


def print_benchmarks(options: argparse.Namespace) -> int:
    """Prints one line per benchmark, or everything as JSON."""
    from halsted_ray.benchmarks.benchmark import known

    if options.json:
        print(json.dumps([asdict(one) for one in known().values()], indent=1, ensure_ascii=False))
        return DONE
    rows = [
        (one.name, one.target.removesuffix("s"), split_text(one), metric_text(one), one.published_source)
        for one in known().values()
    ]
    print(table(("name", "task", "test videos", "metric", "published rows"), rows))
    sources = {one.published_source: one.published_where for one in known().values() if one.published}
    print("\n" + "\n".join(paragraph(f"{source}: {where}") for source, where in sources.items()))
    return DONE


def split_text(benchmark: Benchmark) -> str:
    """``40``, or that the data set's own files say it, or that it is not known here."""
    if benchmark.unknown:
        return "not known here"
    return f"{len(benchmark.parts['test'])}" if benchmark.parts else "its files say"


def metric_text(benchmark: Benchmark) -> str:
    """``accuracy, F1``."""
    return {"accuracy-f1": "accuracy, F1", "map": "mAP", "map-per-video": "mAP by video"}[benchmark.metric]


def print_run(options: argparse.Namespace) -> int:
    """Prints our row beside the published ones, and what differs; code 3 where something of the split is missing."""
    from halsted_ray.benchmarks.benchmark import benchmark
    from halsted_ray.benchmarks.run import Choices, run_benchmark
    from halsted_ray.language.contrast_model import load_video_text
    from halsted_ray.registry.references import resolve

    chosen = benchmark(options.name)
    model = load_video_text(resolve(options.model, options.registry)) if options.model else None
    found = run_benchmark(
        chosen,
        options.folder,
        Choices(
            model,
            options.encoder or "",
            options.probe,
            options.text_encoder or "",
            options.videos or "",
            {part: file for part, file in (("test", options.test), ("train", options.train)) if file},
            options.labels or "",
            options.atlas,
            options.allow_leak,
            options.embeddings or "",
        ),
        embedded,
    )
    print(as_json(found) if options.json else as_text(found))
    return NOT_ALL if found.missing or found.left_out else DONE


def as_json(run: BenchmarkRun) -> str:
    """The run as JSON: figures as fractions, published ones in percent as they were published."""
    benchmark = run.benchmark
    said = {
        "benchmark": benchmark.name,
        "probe": run.probe,
        "model": run.model,
        "figures": run.figures,
        "labels": len(run.labels),
        "videos": run.videos,
        "of_videos": run.of_videos,
        "frames": run.frames,
        "left_out": run.left_out,
        "missing": dict(run.missing),
        "leak": {**asdict(run.leak), "told": run.leak.told()},
        "split_source": benchmark.split_source,
        "published_percent": [asdict(row) for row in benchmark.published],
        "differs": list(run.differs),
    }
    return json.dumps(said, indent=1, ensure_ascii=False)


def as_text(run: BenchmarkRun) -> str:
    """The table, and below it what one must know to read it; 80 columns."""
    benchmark = run.benchmark
    names = [name for name in SHOWN if name in run.figures]
    ours = "this run, with a leak" if run.leak.videos else "this run"
    rows = [(run.model, *(hundredths(run.figures[name]) for name in names), f"{ours}, {run.probe}")]
    rows += [(row.model, *(f"{row.figures[name]:.2f}" for name in names), row.source) for row in benchmark.published]
    columns = range(1, 1 + len(names))
    lines = [table((benchmark.name, *(f"{SHOWN[name]} %" for name in names), "source"), rows, right=columns)]
    if not benchmark.published:
        lines.append("published figures: not known here")
    further = [f"{text} {hundredths(run.figures[name])}" for name, text in FURTHER.items() if name in run.figures]
    lines += ["", paragraph(f"also, in %: {'; '.join(further)}")]
    lines.append(
        paragraph(
            f"{run.videos} of {counted(run.of_videos, 'test video')}, {counted(run.frames, 'frame')}, "
            f"{counted(len(run.labels), 'label')}; split: {benchmark.split_source}"
        )
    )
    if benchmark.published:
        lines.append(paragraph(f"{benchmark.published_source}: {benchmark.published_where}"))
    if run.missing:
        some = [f"{name} ({why})" for name, why in list(run.missing.items())[:NAMED]]
        more = f" and {len(run.missing) - NAMED:,} more" if len(run.missing) > NAMED else ""
        lines.append(paragraph(f"missing: {counted(len(run.missing), 'video')}: {', '.join(some)}{more}"))
    if run.left_out:
        lines.append(paragraph(f"left out: {counted(run.left_out, 'labelled frame')} without a picture"))
    if told := run.leak.told():
        lines.append(paragraph(f"{'LEAK' if run.leak.videos else 'leak'}: {told}"))
    lines += [paragraph(f"differs: {' '.join(sentence.split())}") for sentence in run.differs]
    return "\n".join(lines)


def hundredths(value: float | None) -> str:
    """``0.12345`` → ``12.35``: percent as published tables have it; – for None."""
    return "–" if value is None else f"{100 * value:.2f}"


def paragraph(text: str) -> str:
    """Text for a terminal."""
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_long_words=False)
