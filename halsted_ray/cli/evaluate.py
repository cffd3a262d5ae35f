"""``halsted evaluate``: its options, and what it prints."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import TYPE_CHECKING, Any

from halsted_ray.cli.evaluation_table import (
    benchmark_table,
    left_out_table,
    literature_table,
    methods_table,
    vocabulary_table,
)
from halsted_ray.cli.options import DONE, Commands, add_command, count, only_with, positive_int
from halsted_ray.cli.registry import MODEL_HELP, REGISTRY_HELP, in_registry
from halsted_ray.cli.self_label_table import comparison_text
from halsted_ray.cli.selflabel import add_thresholds
from halsted_ray.cli.text_tables import WIDTH, counted, show_progress

if TYPE_CHECKING:
    from halsted_ray.evaluation.evaluation_plan import EvaluationPlan
    from halsted_ray.evaluation.run_evaluation import Evaluation
    from halsted_ray.records import JsonObject
    from halsted_ray.training.recipe import Recipe


def add_evaluate(commands: Commands) -> None:
    """``halsted evaluate``."""
    evaluate = add_command(
        commands,
        "evaluate",
        "measure the accuracy of a model or, by folds, of a recipe",
        evaluate_model,
        example="halsted evaluate --atlas demo/archive/training --out demo/evaluation \\\n    --recipe best --folds 5",
        more="Without --model, a model is trained for each fold. Baselines answer the same windows, for comparison.",
    )
    what = evaluate.add_mutually_exclusive_group(required=True)
    what.add_argument("--atlas", metavar="DIR", help="the archive that holds atlas/")
    what.add_argument(
        "--benchmark",
        nargs=2,
        metavar=("NAME", "DIR"),
        help="a comparison of the paper instead of a plain evaluation: rarp50 and the folder of SAR-RARP50; sais, or "
        "llama, and the archive that holds atlas/",
    )
    evaluate.add_argument("--out", required=True, metavar="OUT", help="where report.html and the figures are written")
    evaluate.add_argument(
        "--release", metavar="R", help="release of the atlas (default: the latest; head: newest state)"
    )
    evaluate.add_argument("--model", metavar="REF", help=f"evaluate this model and train none: {MODEL_HELP}")
    evaluate.add_argument(
        "--against", metavar="REF", help="compare --model with this earlier model on the same windows"
    )
    evaluate.add_argument("--registry", metavar="URI", help=REGISTRY_HELP)
    evaluate.add_argument(
        "--part",
        default="test",
        metavar="NAME",
        help="with --model: evaluate on the test (default) or validation videos, or all",
    )
    evaluate.add_argument("--test-on", metavar="DIR", help="evaluate on this annotated archive")
    evaluate.add_argument(
        "--learn-from",
        type=positive_int,
        metavar="N",
        help="train on only N of the training videos, to see what fewer annotations are worth",
    )
    evaluate.add_argument(
        "--folds", type=positive_int, metavar="N", help="number of folds (default 5; with --split published 1)"
    )
    evaluate.add_argument(
        "--split",
        choices=("drawn", "published"),
        default="drawn",
        help="published: judge on the test part of the release and print the figures of the data set's literature, one "
        "answer per second (default: drawn)",
    )
    evaluate.add_argument(
        "--strategy",
        metavar="NAME",
        help="how folds are drawn: per_procedure or global (default: the first that leaves enough videos)",
    )
    evaluate.add_argument(
        "--leave-out",
        choices=("specialty", "procedure"),
        metavar="NAME",
        help="specialty or procedure: a fold for each, judged by a model that learned from the others alone",
    )
    evaluate.add_argument(
        "--vocabulary",
        metavar="NAME",
        help="also judge in the words of another taxonomy: its name, or a file of relations (.yaml)",
    )
    evaluate.add_argument("--recipe", default="paper", metavar="NAME", help="paper (default) or best")
    evaluate.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a value of the recipe, such as layers=10; may be repeated",
    )
    evaluate.add_argument(
        "--baselines",
        default="chance,majority,linear,sais",
        metavar="NAMES",
        help="separated by commas (default: chance,majority,linear,sais), or none",
    )
    evaluate.add_argument(
        "--sais-encoder",
        metavar="REF",
        help="self-supervised ViT whose vectors per frame SAIS reads, as published (default: SAIS's head reads the "
        "model's own vectors)",
    )
    evaluate.add_argument(
        "--specialties",
        metavar="NAMES",
        help="with --benchmark sais: separated by commas (default: the paper's, Bariatric,General,Gynecology)",
    )
    evaluate.add_argument(
        "--llama",
        metavar="DIR",
        help="with --benchmark llama: folder of the Llama to fine-tune (config.json, safetensors, tokenizer.json)",
    )
    evaluate.add_argument(
        "--encoder", metavar="REF", help="folder or URL of the encoder (default: the model's, or tiny)"
    )
    evaluate.add_argument("--embeddings", metavar="DIR", help="where embeddings are kept (default: beside the videos)")
    evaluate.add_argument(
        "--seed", type=count, default=0, metavar="N", help="another seed draws other folds (default 0)"
    )
    evaluate.add_argument(
        "--self-label",
        metavar="ARCHIVE",
        dest="archive",
        help="measure the gain of self-labelling: each fold's model labels these videos for a second model",
    )
    evaluate.add_argument(
        "--rounds",
        type=positive_int,
        default=1,
        metavar="N",
        help="with --self-label: so often the newest model labels the videos and its successor learns (default 1)",
    )
    add_thresholds(evaluate)
    evaluate.add_argument(
        "--labels",
        metavar="DIR",
        help="with --against: the OUT of the `halsted self-label` between the two models, for the report",
    )
    evaluate.add_argument(
        "--clips",
        type=count,
        default=12,
        metavar="N",
        help="show N of the worst mistakes as frames in the report (default 12; 0: no pictures)",
    )
    evaluate.add_argument("--json", action="store_true", help="print the figures as JSON")
    add_conditions(evaluate)


def add_conditions(evaluate: argparse.ArgumentParser) -> None:
    """Refuses options without effect. Which options have one depends on what is evaluated: a benchmark, a model that
    exists, folds of a recipe, or folds of a recipe without and with self-labelling."""
    only_with(
        evaluate,
        *("--release", "--model", "--against", "--test-on", "--learn-from", "--self-label", "--vocabulary"),
        when=lambda given: given.atlas,
        needs="--atlas, because a benchmark brings its own videos and split",
    )
    only_with(
        evaluate,
        *("--model", "--against"),
        when=lambda given: not given.archive,
        needs="an evaluation without --self-label, which trains its own models; to compare two models that exist, "
        "give --model V2 --against V1",
    )
    only_with(evaluate, "--against", when=lambda given: given.model, needs="--model, which names the later model")
    only_with(evaluate, "--labels", when=lambda given: given.against, needs="two models: --model V2 --against V1")
    only_with(
        evaluate,
        "--part",
        when=lambda given: given.model,
        needs="--model, because folds are drawn from the whole atlas",
    )
    only_with(
        evaluate,
        "--part",
        when=lambda given: not given.test_on,
        needs="an evaluation without --test-on, which names the videos",
    )
    only_with(
        evaluate,
        "--registry",
        when=lambda given: in_registry(given.model) or in_registry(given.against),
        needs="a model of the registry, such as --model registry:halsted@champion",
    )
    only_with(
        evaluate,
        "--strategy",
        when=lambda given: given.split != "published",
        needs="--split drawn: the release's own test part judges otherwise",
    )
    only_with(
        evaluate,
        *("--folds", "--strategy"),
        when=lambda given: (
            benchmark_of(given) in ("sais", "llama") or (given.atlas and not given.model and not given.test_on)
        ),
        needs="folds to draw; with --model, --test-on or --benchmark rarp50 there are none",
    )
    only_with(
        evaluate,
        "--leave-out",
        when=lambda given: given.atlas and not given.model and not given.test_on and given.split != "published",
        needs="folds to draw from --atlas; a model, --test-on or --split published names other videos",
    )
    only_with(
        evaluate,
        *("--folds", "--strategy", "--seed"),
        when=lambda given: not given.leave_out,
        needs="folds that are drawn; --leave-out makes one fold for each specialty or procedure",
    )
    only_with(
        evaluate,
        "--specialties",
        when=lambda given: benchmark_of(given) == "sais",
        needs="--benchmark sais, which is about some specialties",
    )
    only_with(
        evaluate,
        "--llama",
        when=lambda given: benchmark_of(given) == "llama",
        needs="--benchmark llama; to train a model with a Llama's layers, give --set decoder=llama:DIR",
    )
    only_with(
        evaluate,
        "--sais-encoder",
        when=lambda given: "sais" in given.baselines.split(","),
        needs="the baseline sais; add it to --baselines",
    )
    only_with(
        evaluate,
        "--seed",
        when=lambda given: given.benchmark or given.learn_from or not (given.model or given.test_on),
        needs="something to draw: folds, --learn-from, or the validation videos of --benchmark",
    )
    only_with(
        evaluate,
        *("--precision", "--gate", "--rounds"),
        when=lambda given: given.archive,
        needs="--self-label, which labels by it",
    )
    only_with(
        evaluate,
        "--baselines",
        when=lambda given: given.part != "all" or not learning(given),
        needs="videos to learn from, and --part all leaves none; give --baselines chance",
    )
    only_with(
        evaluate,
        "--learn-from",
        when=lambda given: not given.model or learning(given),
        needs="something that learns: leave --model out, or give --baselines linear",
    )


def benchmark_of(given: argparse.Namespace) -> str:
    """The name of the chosen benchmark; '' for an evaluation on an atlas."""
    return given.benchmark[0] if given.benchmark else ""


def learning(given: argparse.Namespace) -> set[str]:
    """The chosen baselines that learn from training videos."""
    return set(given.baselines.split(",")) - {"none", "chance"}


def evaluate_model(options: argparse.Namespace) -> int:
    """Runs the evaluation, writes its page, and prints accuracies, cautions and where the page is."""
    from halsted_ray.errors import UsageError
    from halsted_ray.registry.references import resolve
    from halsted_ray.training.recipe import READ_WITHOUT_TRAINING, RECIPES, changed

    if options.recipe not in RECIPES:
        raise UsageError(f"unknown recipe {options.recipe!r}; expected one of {', '.join(RECIPES)}")
    recipe, out = changed(RECIPES[options.recipe], options.set), options.out.rstrip("/")
    unread = [choice for choice in options.set if choice.partition("=")[0] not in READ_WITHOUT_TRAINING]
    if options.model and unread:
        raise UsageError(
            f"--set {unread[0]} needs a model to train, and --model names a model that exists; leave one of them out"
        )
    model = options.model and resolve(options.model, options.registry)
    from halsted_ray.evaluation.evaluation_plan import EvaluationPlan

    plan = EvaluationPlan(
        release=options.release,
        part=options.part,
        test_on=options.test_on,
        folds=options.folds or (1 if options.split == "published" else 5),
        published=options.split == "published",
        strategy=options.strategy,
        leave_out=options.leave_out,
        learn_from=options.learn_from,
        seed=options.seed,
        baselines=() if options.baselines == "none" else tuple(options.baselines.split(",")),
        sais_encoder=options.sais_encoder,
    )
    shared = {
        "encoder": options.encoder,
        "embeddings": options.embeddings,
        "on_embed": lambda done_s, all_s: show_progress(
            f"embedded {done_s / 60:.1f} of {all_s / 60:.1f} video-minutes", done_s >= all_s
        ),
        "on_fold": lambda done, of: show_progress(f"{done} of {counted(of, 'fold')} evaluated", done == of),
    }
    from halsted_ray.atlas import read_atlas
    from halsted_ray.evaluation.run_evaluation import evaluate
    from halsted_ray.evaluation.vocabulary import vocabulary_figures
    from halsted_ray.reporting.evaluation_page import write_evaluation
    from halsted_ray.selflabel.self_label import read_report

    if options.vocabulary:  # before hours of work
        vocabulary_figures([], read_atlas(options.atlas, options.release).load_taxonomy(), options.vocabulary)
    if options.benchmark:
        found = run_benchmark(options, out, recipe, plan, shared)
    elif options.archive:
        found = self_labelled(options, out, recipe, plan, shared)
    else:
        against = options.against and resolve(options.against, options.registry)
        labels = [read_report(options.labels)] if options.labels else []
        found = evaluate(options.atlas, out, recipe, model=model, against=against, plan=plan, **shared)
        if against:
            found = compared(found, out, labels)
    if options.vocabulary:
        found = in_vocabulary(found, out, options.vocabulary)
    write_evaluation(found, f"{out}/report.html", clips=options.clips)
    if options.json:
        print(json.dumps(found.figures, indent=1))
        return DONE
    print(methods_table(found.figures) + "\n")
    for caveat in found.figures["caveats"]:
        print(textwrap.fill(f"caution: {caveat}", WIDTH) + "\n")
    if options.benchmark:
        print(benchmark_table(found.figures["benchmark"]) + "\n")
    if vocabulary := found.figures.get("vocabulary"):
        print(vocabulary_table(vocabulary) + "\n")
    if left_out := found.figures.get("left_out"):
        print(left_out_table(left_out) + "\n")
    if literature := found.figures.get("literature"):
        print(literature_table(literature) + "\n")
    if comparison := found.figures.get("comparison"):
        print(comparison_text(comparison) + "\n")
    print(f"{out}/report.html")
    return DONE


def run_benchmark(
    options: argparse.Namespace, out: str, recipe: Recipe, plan: EvaluationPlan, shared: dict[str, Any]
) -> Evaluation:
    """One of the paper's comparisons. ``shared``: further arguments of ``evaluate``. Raises UsageError."""
    from halsted_ray.errors import UsageError
    from halsted_ray.evaluation.published_comparisons import SPECIALTIES, compare_with_llama, compare_with_sais
    from halsted_ray.evaluation.rarp50 import evaluate_rarp50

    name, folder = options.benchmark
    if name == "rarp50":
        return evaluate_rarp50(
            folder,
            out,
            recipe,
            seed=options.seed,
            baselines=plan.baselines,
            sais_encoder=plan.sais_encoder,
            **shared,
        )
    if name == "sais":
        specialties = tuple(options.specialties.split(",")) if options.specialties else SPECIALTIES
        return compare_with_sais(folder, out, recipe, plan, specialties=specialties, **shared)
    if name == "llama":
        if not options.llama:
            raise UsageError("--benchmark llama needs the Llama's folder; give --llama DIR")
        return compare_with_llama(folder, out, recipe, plan, options.llama, **shared)
    raise UsageError(f"unknown benchmark {name!r}; expected rarp50, sais or llama")


def self_labelled(
    options: argparse.Namespace, out: str, recipe: Recipe, plan: EvaluationPlan, shared: dict[str, Any]
) -> Evaluation:
    """Evaluates the recipe without and with rounds of self-labelling, on the same folds.

    ``shared`` are further arguments of ``selflabel.ablation.evaluate_self_labelling``.
    """
    from halsted_ray.compute.progress import ProgressLine
    from halsted_ray.selflabel.ablation import evaluate_self_labelling
    from halsted_ray.selflabel.labelling import LabellingRules

    with ProgressLine() as line:
        found, _ = evaluate_self_labelling(
            options.atlas,
            options.archive,
            out,
            recipe,
            plan=plan,
            rules=LabellingRules(options.precision, options.gate),
            rounds=options.rounds,
            observer=line,
            **shared,
        )
    return found


def compared(found: Evaluation, out: str, labels: list[JsonObject]) -> Evaluation:
    """Adds the comparison of its two models to ``found``, and ``labels``, the reports of the labelling between them."""
    from halsted_ray.evaluation.folds import operation_of_video
    from halsted_ray.evaluation.predictions import REFERENCE
    from halsted_ray.evaluation.run_evaluation import save_evaluation
    from halsted_ray.selflabel.gain import measure_gain

    found.figures["comparison"] = {
        **measure_gain(found.of(REFERENCE), found.of(), found.taxonomy, operation_of_video(found.atlas.clips)),
        "labels": labels,
    }
    save_evaluation(out, found.figures, found.predictions, found.taxonomy)
    return found


def in_vocabulary(found: Evaluation, out: str, vocabulary: str) -> Evaluation:
    """Adds the figures in another vocabulary to ``found``."""
    from halsted_ray.evaluation.run_evaluation import save_evaluation
    from halsted_ray.evaluation.vocabulary import vocabulary_figures

    found.figures["vocabulary"] = vocabulary_figures(found.predictions, found.taxonomy, vocabulary)
    save_evaluation(out, found.figures, found.predictions, found.taxonomy)
    return found
