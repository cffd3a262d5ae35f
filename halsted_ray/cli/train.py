"""``halsted phantom`` and ``halsted train``: their options, and what they print."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from halsted_ray.cli.options import (
    DONE,
    Commands,
    add_command,
    count,
    only_with,
    positive,
    positive_int,
    share,
    share_below_1,
    size,
)
from halsted_ray.cli.registry import REGISTRY_HELP
from halsted_ray.cli.text_tables import counted, show_progress, table
from halsted_ray.errors import UsageError

if TYPE_CHECKING:
    from halsted_ray.language.contrast_training import ContrastSummary
    from halsted_ray.registry.model_registry import Version
    from halsted_ray.training.train import TrainSummary


def add_phantom(commands: Commands) -> None:
    """``halsted phantom``."""
    phantom = add_command(
        commands,
        "phantom",
        "write an archive of synthetic videos with exact annotations",
        write_phantoms,
        example="halsted phantom first/archive --videos 2 --minutes 1",
    )
    phantom.add_argument("archive", metavar="DIR", help="the videos go to DIR/videos, the annotations to DIR/atlas")
    phantom.add_argument("--videos", type=positive_int, default=8, metavar="N", help="number of videos (default 8)")
    phantom.add_argument("--minutes", type=positive, default=3.0, metavar="M", help="length of each video (default 3)")
    phantom.add_argument(
        "--seed", type=count, default=0, metavar="N", help="another seed draws other videos (default 0)"
    )
    phantom.add_argument(
        "--test",
        type=share_below_1,
        default=0.0,
        metavar="SHARE",
        help="share of the videos that is kept for tests, as the gate needs it (default 0)",
    )
    phantom.add_argument("--size", type=size, default=(640, 360), metavar="WxH", help="pixels (default 640x360)")
    phantom.add_argument("--fps", type=positive, default=25.0, metavar="F", help="frames per second (default 25)")
    phantom.add_argument(
        "--pace",
        type=positive,
        default=1.0,
        metavar="P",
        help="2: actions and stitches half as long, so that a minute holds twice as many (default 1)",
    )
    phantom.add_argument(
        "--domain",
        default="plain",
        metavar="NAME",
        help="plain (default), or shifted: another lens, colours, noise, compression, instruments of another make",
    )
    phantom.add_argument(
        "--suturing",
        type=share,
        metavar="SHARE",
        help="share of the videos that begin with suturing (default: drawn); below 2 minutes a video has one step",
    )
    phantom.add_argument(
        "--out-of-body",
        action="store_true",
        help="let the camera leave the body at times; DIR/out_of_body/atlas says when",
    )
    only_with(
        phantom, "--test", when=lambda given: given.videos > 1, needs="--videos 2 or more: one video can't be divided"
    )


def write_phantoms(options: argparse.Namespace) -> int:
    """Writes the archive and prints what it holds."""
    from halsted_ray.atlas.phantom_archive import write_archive

    width, height = options.size
    started_s = time.monotonic()
    written = write_archive(
        options.archive,
        options.videos,
        options.minutes,
        options.seed,
        width=width,
        height=height,
        fps=options.fps,
        pace=options.pace,
        domain=options.domain,
        suturing=options.suturing,
        out_of_body=options.out_of_body,
        test=options.test,
        progress=lambda done, of: show_progress(f"{done} of {counted(of, 'video')} written", done == of),
    )
    video_s = sum(video.duration_s for video in written.videos)
    print(
        f"{counted(len(written.videos), 'video')}, {video_s / 60:.1f} minutes, "
        f"{counted(len(written.clips), 'annotated clip')}, "
        f"release {written.release} in {options.archive} ({time.monotonic() - started_s:.0f} s)"
    )
    return DONE


def add_train(commands: Commands) -> None:
    """``halsted train``."""
    train = add_command(
        commands,
        "train",
        "train a model on an annotated archive",
        train_model,
        example="halsted train --atlas demo/archive/training --out demo/model --recipe best",
        more="Each video is encoded once; its embeddings are kept and read again by the next training.",
    )
    train.add_argument("--atlas", required=True, metavar="DIR", help="the archive that holds atlas/")
    train.add_argument(
        "--release", metavar="NAME", help="release of the atlas (default: the latest; head: newest state)"
    )
    train.add_argument(
        "--out", required=True, metavar="RUN", help="folder of the run; the model is written to RUN/model"
    )
    train.add_argument(
        "--objective",
        default="tags",
        choices=("tags", "contrast"),
        help="tags (default): what is seen; contrast: which caption belongs to which clip",
    )
    train.add_argument(
        "--text-encoder",
        metavar="DIR",
        help="folder of the text encoder (default: all-MiniLM-L6-v2, from halsted-ray[language])",
    )
    train.add_argument(
        "--recipe",
        metavar="NAME",
        help="paper (default), or best: a small decoder that learns from few clips",
    )
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a value of the recipe, such as layers=10 or sampling=balanced; may be repeated",
    )
    train.add_argument("--encoder", default="tiny", metavar="REF", help="tiny (default), or a folder, file or URL")
    train.add_argument("--embeddings", metavar="DIR", help="where embeddings are kept (default: ATLAS/embeddings)")
    train.add_argument(
        "--workers",
        type=positive_int,
        metavar="N",
        help="training processes (default: one per free GPU of the cluster; without GPUs 1)",
    )
    train.add_argument(
        "--gpus",
        type=count,
        metavar="N",
        help="GPUs to train on, one per process (default: those of --workers, else all free ones; 0: train on CPU)",
    )
    train.add_argument(
        "--refine",
        action="store_true",
        help="also learn from videos that are annotated whole what `halsted map --refine` needs (about a minute)",
    )
    train.add_argument("--registry", metavar="URI", help=f"{REGISTRY_HELP}; none: log nothing")
    train.add_argument("--json", action="store_true", help="print the figures as JSON")
    contrast = "--objective contrast"
    only_with(train, "--text-encoder", when=lambda given: given.objective == "contrast", needs=contrast)
    only_with(
        train,
        "--recipe",
        "--refine",
        when=lambda given: given.objective == "tags",
        needs="--objective tags: another objective has one recipe, which --set changes",
    )


def train_contrast_model(options: argparse.Namespace) -> int:
    """Trains a model of video and text, logs the run and registers the model; prints its recall."""
    from halsted_ray.language.contrast_recipe import ContrastRecipe
    from halsted_ray.training.epoch_display import EpochLine
    from halsted_ray.training.recipe import changed

    recipe = changed(ContrastRecipe(), options.set)
    train, registry = contrast_trainer(options.registry)
    summary, version = train(
        options.atlas,
        options.out,
        recipe,
        encoder=options.encoder,
        text_encoder=options.text_encoder,
        release=options.release,
        embeddings=options.embeddings,
        workers=options.workers,
        gpus=options.gpus,
        on_epoch=EpochLine(recipe.epochs),
        on_embed=lambda done_s, all_s: show_progress(
            f"embedded {done_s / 60:.1f} of {all_s / 60:.1f} video-minutes", done_s >= all_s
        ),
    )
    if options.json:
        told = {"registered": version and version.number, "verdict": summary.verdict()}
        print(json.dumps(asdict(summary) | told, indent=1))
        return DONE
    rows = [("text to clip, recall@5", f"{summary.recall_at_5:.3f}"), ("chance", f"{summary.chance:.3f}")]
    print(table(("validation", ""), rows, right=(1,)))
    if verdict := summary.verdict():
        print(f"warning: {verdict}")
    captions = ", ".join(f"{count} {part}" for part, count in summary.captions.items())
    print(
        f"model {summary.model} version {summary.model_version}, {counted(summary.parameters, 'parameter')}, "
        f"epoch {summary.best_epoch + 1} of {summary.epochs}\natlas {summary.atlas_release} "
        f"(version {summary.atlas_version}), captions: {captions}; training {summary.train_s:.0f} s"
    )
    if version:
        print(f"version {version.number} of {version.name} in the registry {registry}")
    return DONE


def contrast_trainer(uri: str | None) -> tuple[Callable[..., tuple[ContrastSummary, Version | None]], str]:
    """As ``trainer``, of ``language.contrast_training.train_contrast``."""
    if uri == "none":
        from halsted_ray.language.contrast_training import train_contrast

        return lambda *arguments, **options: (train_contrast(*arguments, **options), None), ""
    from halsted_ray.registry.language_tracking import train_contrast_tracked
    from halsted_ray.registry.model_registry import Registry, without_password

    opened = Registry(uri)
    return partial(train_contrast_tracked, opened), without_password(opened.uri)


def train_model(options: argparse.Namespace) -> int:
    """Trains, logs the run and registers the model; prints the validation accuracy of each task."""
    from halsted_ray.training.epoch_display import EpochLine
    from halsted_ray.training.recipe import RECIPES, changed

    if options.objective == "contrast":
        return train_contrast_model(options)
    name = options.recipe or "paper"
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}; expected one of {', '.join(RECIPES)}")
    recipe = changed(RECIPES[name], options.set)
    train, registry = trainer(options.registry)
    summary, version = train(
        options.atlas,
        options.out,
        recipe,
        encoder=options.encoder,
        release=options.release,
        embeddings=options.embeddings,
        workers=options.workers,
        gpus=options.gpus,
        refine=options.refine,
        on_epoch=EpochLine(recipe.epochs),
        on_embed=lambda done_s, all_s: show_progress(
            f"embedded {done_s / 60:.1f} of {all_s / 60:.1f} video-minutes", done_s >= all_s
        ),
    )
    if options.json:
        told = {"registered": version and version.number, "verdict": summary.verdict()}
        print(json.dumps(asdict(summary) | told, indent=1))
        return DONE
    rows = [
        (task, *("–" if value is None else f"{value:.3f}" for value in (found, summary.commonest_of_task.get(task))))
        for task, found in summary.accuracy_of_task.items()
    ]
    print(table(("task", "validation accuracy", "commonest category"), rows, right=(1, 2)))
    for warning in summary.warnings():
        print(f"warning: {warning}")
    print(
        f"model {summary.model} version {summary.model_version}, {counted(summary.parameters, 'parameter')}, "
        f"epoch {summary.best_epoch + 1} of {summary.epochs}\natlas {summary.atlas_release} "
        f"(version {summary.atlas_version}); embedding {summary.embed_s:.0f} s, training {summary.train_s:.0f} s on "
        f"{summary.workers} {'GPU' if summary.device == 'cuda' else 'CPU worker'}{'s' * (summary.workers > 1)}"
    )
    if drawn := summary.synthetic:
        print(f"{counted(drawn['samples'], 'training sample')} of {counted(drawn['videos'], 'video')} are synthetic")
    if version:
        print(f"version {version.number} of the registry {registry}")
    return DONE


def trainer(uri: str | None) -> tuple[Callable[..., tuple[TrainSummary, Version | None]], str]:
    """(a function that trains and returns the summary and the version in the registry, the registry's address).

    The function takes the arguments of ``training.train.train``. With the URI 'none' nothing is logged, so the version
    is None and the address is ''.
    """
    if uri == "none":
        from halsted_ray.evaluation.model_card import train

        return lambda *arguments, **options: (train(*arguments, **options), None), ""
    from halsted_ray.registry.model_registry import Registry, without_password
    from halsted_ray.registry.tracking import train_tracked

    opened = Registry(uri)
    return partial(train_tracked, opened), without_password(opened.uri)
