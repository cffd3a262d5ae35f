"""``halsted evaluate``: its options, and what it prints."""

from __future__ import annotations

import argparse
import json
import textwrap

from halsted_ray.cli.options import DONE, count, positive_int
from halsted_ray.cli.registry import MODEL_HELP, REGISTRY_HELP
from halsted_ray.cli.self_label_table import comparison_text
from halsted_ray.cli.selflabel import add_thresholds
from halsted_ray.cli.text_tables import WIDTH, percent, show_progress, table


def add_evaluate(commands: argparse._SubParsersAction) -> None:
    purpose = "judge a model, or a recipe by cross-validation, beside baselines"
    evaluate = commands.add_parser("evaluate", help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
    what = evaluate.add_mutually_exclusive_group(required=True)
    what.add_argument("--atlas", metavar="DIR", help="the archive that holds atlas/")
    what.add_argument(
        "--benchmark",
        nargs=2,
        metavar=("NAME", "DIR"),
        help="the paper's outside test: rarp50 and the folder of SAR-RARP50",
    )
    evaluate.add_argument("--out", required=True, metavar="OUT", help="where report.html and the figures go")
    evaluate.add_argument("--release", metavar="R", help="of the atlas (default: the latest; head: the newest)")
    evaluate.add_argument("--model", metavar="REF", help=f"judge this and train none: {MODEL_HELP}")
    evaluate.add_argument("--against", metavar="REF", help="the model before --model: both answer the same windows")
    evaluate.add_argument("--registry", metavar="URI", help=REGISTRY_HELP)
    evaluate.add_argument(
        "--part", default="test", help="of the frozen split, for --model: test (default), validation, all"
    )
    evaluate.add_argument("--test-on", metavar="DIR", help="an annotated archive that judges, instead of a part")
    evaluate.add_argument(
        "--learn-from",
        type=positive_int,
        metavar="N",
        help="only so many of the training videos: what are fewer annotated ones worth?",
    )
    evaluate.add_argument("--folds", type=positive_int, default=5, help="models to train and judge (default 5)")
    evaluate.add_argument("--strategy", help="per_procedure or global (default: the first that leaves enough)")
    evaluate.add_argument("--recipe", default="paper", help="paper (default) or demo")
    evaluate.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another choice of the recipe, such as layers=10; may be repeated",
    )
    evaluate.add_argument(
        "--baselines",
        default="chance,majority,linear,sais",
        metavar="NAMES",
        help="default: chance,majority,linear,sais; or none",
    )
    evaluate.add_argument("--encoder", metavar="REF", help="default: the model's, or tiny")
    evaluate.add_argument("--embeddings", metavar="DIR", help="where vectors are kept (default: beside the videos)")
    evaluate.add_argument("--seed", type=count, default=0, help="of the folds (default 0)")
    evaluate.add_argument(
        "--self-label",
        metavar="ARCHIVE",
        dest="archive",
        help="videos that each fold's model labels for a second one: is a round worth it?",
    )
    add_thresholds(evaluate)
    evaluate.add_argument(
        "--labels", metavar="DIR", help="OUT of the `halsted self-label` between the two: what it added, in the report"
    )
    evaluate.add_argument(
        "--clips",
        type=count,
        default=12,
        help="worst mistakes shown as frames in the report (default 12; 0: no picture in it)",
    )
    evaluate.add_argument("--json", action="store_true", help="print the figures as JSON")


def evaluate(options: argparse.Namespace) -> int:
    from halsted_ray.errors import UsageError
    from halsted_ray.registry.references import resolve
    from halsted_ray.training.recipe import RECIPES, changed

    if options.recipe not in RECIPES:
        raise UsageError(f"unknown recipe {options.recipe!r}; expected one of {', '.join(RECIPES)}")
    recipe, out = changed(RECIPES[options.recipe], options.set), options.out.rstrip("/")
    model = options.model and resolve(options.model, options.registry)
    drawn = {name: getattr(options, name) for name in ("release", "test_on", "learn_from", "folds", "strategy", "seed")}
    shared = {
        "encoder": options.encoder,
        "embeddings": options.embeddings,
        "baselines": () if options.baselines == "none" else tuple(options.baselines.split(",")),
        "on_embed": lambda done_s, all_s: show_progress(
            f"embedded {done_s / 60:.1f} of {all_s / 60:.1f} video-minutes", done_s >= all_s
        ),
        "on_fold": lambda done, of: show_progress(f"{done} of {of} folds judged", done == of),
    }
    if options.labels and not options.against:
        raise UsageError("--labels belongs to two models: --model V2 --against V1")
    from halsted_ray.evaluation.rarp50 import evaluate_rarp50
    from halsted_ray.evaluation.run_evaluation import evaluate
    from halsted_ray.report.evaluation_page import write_evaluation

    if options.benchmark:
        name, folder = options.benchmark
        if name != "rarp50":
            raise UsageError(f"unknown benchmark {name!r}; expected rarp50")
        found = evaluate_rarp50(folder, out, recipe, seed=options.seed, **shared)
    elif options.archive:
        found = self_labelled(options, out, recipe, drawn | shared)
    else:
        against = options.against and resolve(options.against, options.registry)
        found = evaluate(options.atlas, out, recipe, model=model, against=against, part=options.part, **drawn, **shared)
        if against:
            found = compared(found, out, options.labels)
    write_evaluation(found, f"{out}/report.html", clips=options.clips)
    if options.json:
        print(json.dumps(found.figures, indent=1))
        return DONE
    print(methods_table(found.figures) + "\n")
    if options.benchmark:
        print(benchmark_table(found.figures["benchmark"]) + "\n")
    if comparison := found.figures.get("comparison"):
        print(comparison_text(comparison) + "\n")
    print(f"{out}/report.html")
    return DONE


def self_labelled(options: argparse.Namespace, out: str, recipe, choices: dict):
    """The recipe without and with a round of self-labelling, on the same folds."""
    from halsted_ray.errors import UsageError
    from halsted_ray.mapping.progress import ProgressLine
    from halsted_ray.selflabel.ablation import evaluate_self_labelling

    if options.model or options.against:
        raise UsageError(
            "--self-label trains the models of its folds; leave it out to compare two that are there: "
            "--model V2 --against V1"
        )
    with ProgressLine() as line:
        found, _ = evaluate_self_labelling(
            options.atlas,
            options.archive,
            out,
            recipe,
            precision=options.precision,
            gate=options.gate,
            watch=line,
            **choices,
        )
    return found


def compared(found, out: str, labels: str | None):
    """``found`` with the comparison of its two models, and the report of the labelling between them."""
    from halsted_ray.evaluation.folds import operation_of_video
    from halsted_ray.evaluation.predictions import REFERENCE
    from halsted_ray.evaluation.run_evaluation import save_evaluation
    from halsted_ray.selflabel.gain import measure_gain
    from halsted_ray.selflabel.self_label import read_report

    found.figures["comparison"] = {
        **measure_gain(found.of(REFERENCE), found.of(), found.taxonomy, operation_of_video(found.atlas.clips)),
        "labels": [read_report(labels)] if labels else [],
    }
    save_evaluation(out, found.figures, found.answers, found.taxonomy)
    return found


def methods_table(figures: dict) -> str:
    """Accuracy of each method by tag, the model's with its 95% interval: over folds, over videos where one is all."""
    methods = figures["methods"]
    own, *others = methods
    kind = "t" if len(figures["folds"]) > 1 else "bootstrap"
    rows = [
        (
            tag,
            percent(of_tag["accuracy"]["value"]),
            interval(of_tag["accuracy"][kind]),
            *(percent(methods[name]["tags"].get(tag, {}).get("accuracy", {}).get("value")) for name in others),
        )
        for tag, of_tag in methods[own]["tags"].items()
    ]
    rows.append(
        (
            "mean",
            percent(methods[own]["mean"]["value"]),
            interval(methods[own]["mean"][kind]),
            *(percent(methods[name]["mean"]["value"]) for name in others),
        )
    )
    header = ("tag", own, "95% interval", *others)
    return table(header, rows, right=range(1, len(header))) + "\n\n" + textwrap.fill(figures["how"], WIDTH)


def benchmark_table(benchmark: dict) -> str:
    """Micro and macro accuracy of each method over segments, and how many times chance; the paper's beside them."""
    rows = [
        (
            name,
            percent(own["micro"]),
            percent(own["macro"]),
            percent(own["macro_videos"]),
            f"{own['relative_improvement']:.1f}x",
        )
        for name, own in benchmark["methods"].items()
    ]
    rows += [
        (f"paper, {name}", percent(value), "–", "–", f"{value / benchmark['chance']:.1f}x")
        for name, value in benchmark["paper"].items()
    ]
    header = ("segments", "micro", "macro", "macro by video", "over chance")
    return table(header, rows, right=range(1, len(header)))


def interval(borders: list[float | None]) -> str:
    """Cut at 0 and 1: a t interval over a few folds goes beyond."""
    return "–" if None in borders else f"{100 * max(0, borders[0]):.1f}–{100 * min(1, borders[1]):.1f}"
