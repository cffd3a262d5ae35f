"""The commands and their options."""

from __future__ import annotations

import argparse

from halsted_ray import __version__
from halsted_ray.cli.atlas import add_atlas
from halsted_ray.cli.evaluate import add_evaluate
from halsted_ray.cli.options import Parser, count, part, positive, positive_int, positive_share, price, share, size
from halsted_ray.cli.registry import MODEL_HELP, REGISTRY_HELP, add_lineage, add_registry
from halsted_ray.cli.selflabel import add_selflabel

EXIT_CODES = "exit code: 0 all mapped, 3 some videos failed or have gaps, 2 wrong use"


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="halsted",
        description="Temporal maps of surgical video archives. Research software, not a medical device.",
        epilog="ARCHIVE, OUT and DIR are folders or URLs (s3://…). `halsted COMMAND --help` says more.",
    )
    parser.add_argument("--version", action="version", version=f"halsted_ray {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_phantom(commands)
    add_train(commands)
    add_map(commands)
    add_plan(commands)
    add_status(commands)
    add_show(commands)
    add_export(commands)
    add_report(commands)
    add_atlas(commands)
    add_registry(commands)
    add_lineage(commands)
    add_evaluate(commands)
    add_selflabel(commands)
    return parser


def add_phantom(commands: argparse._SubParsersAction) -> None:
    phantom = command(commands, "phantom", "write a synthetic archive with exact annotations")
    phantom.add_argument("archive", metavar="DIR", help="where: DIR/videos and DIR/atlas")
    phantom.add_argument("--videos", type=positive_int, default=8, help="how many (default 8)")
    phantom.add_argument("--minutes", type=positive, default=3.0, help="length of each (default 3)")
    phantom.add_argument("--seed", type=count, default=0, help="other seed, other videos (default 0)")
    phantom.add_argument(
        "--test",
        type=part,
        default=0.0,
        metavar="SHARE",
        help="of the videos, to judge models by, as the gate does (default 0)",
    )
    phantom.add_argument("--size", type=size, default=(640, 360), metavar="WxH", help="default 640x360")
    phantom.add_argument("--fps", type=positive, default=25.0, help="frames a second (default 25)")


def add_train(commands: argparse._SubParsersAction) -> None:
    train = command(commands, "train", "train a model on an annotated archive, on cached embeddings")
    train.add_argument("--atlas", required=True, metavar="DIR", help="the archive that holds atlas/")
    train.add_argument("--release", metavar="NAME", help="which release of it (default: the latest; head: the newest)")
    train.add_argument("--out", required=True, metavar="RUN", help="the run's folder; the model is RUN/model")
    train.add_argument("--recipe", default="paper", help="paper (default), or demo: small, for the tiny encoder")
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another choice of the recipe, such as layers=10 or sampling=balanced; may be repeated",
    )
    train.add_argument("--encoder", default="tiny", metavar="REF", help="tiny (default), a folder, a checkpoint, a URL")
    train.add_argument("--embeddings", metavar="DIR", help="where vectors are kept (default: <atlas>/embeddings)")
    train.add_argument("--workers", type=positive_int, default=1, help="training workers (default 1)")
    train.add_argument("--gpu", action="store_true", help="one GPU a worker")
    train.add_argument("--registry", metavar="URI", help=f"{REGISTRY_HELP}; none: the run is not logged")
    train.add_argument("--json", action="store_true", help="print the figures as JSON")


def add_map(commands: argparse._SubParsersAction) -> None:
    mapping = command(commands, "map", "map an archive; again: only what is new or unfinished", EXIT_CODES)
    mapping.add_argument("archive", metavar="ARCHIVE", help="folder or URL with videos, searched to the bottom")
    mapping.add_argument("--out", required=True, metavar="OUT", help="where the maps go")
    mapping.add_argument("--model", required=True, metavar="REF", help=MODEL_HELP)
    mapping.add_argument("--registry", metavar="URI", help=REGISTRY_HELP)
    mapping.add_argument("--encoder", metavar="REF", help="where its encoder lies (default: as the model says)")
    mapping.add_argument("--embeddings", metavar="DIR", help="where vectors are kept (default: OUT/embeddings)")
    mapping.add_argument("--fidelity", default="reference", help="exact, reference (default) or keyframes")
    mapping.add_argument(
        "--wait-for-cpus",
        type=count,
        default=0,
        metavar="N",
        help="ask the cluster for so many and wait until they are there",
    )
    mapping.add_argument("--wait-for-gpus", type=count, default=0, metavar="N")
    mapping.add_argument("--retry-failed", action="store_true", help="try again what failed for good")
    mapping.add_argument("--priority", default="normal", help="among runs on one cluster: low (archives), normal, high")
    what = mapping.add_mutually_exclusive_group()
    what.add_argument("--task", metavar="TASK", help="macro, micro, proficiency, context, or all (default)")
    what.add_argument("--instruction", metavar="TEXT", help='the same in words: "map suturing activity"')


def add_plan(commands: argparse._SubParsersAction) -> None:
    plan = command(
        commands,
        "plan",
        "what mapping an archive will take: cores, time, memory, storage, cost",
        "Nothing is mapped and nothing is written. Rates of GPUs that were not measured are estimates and say so.",
    )
    plan.add_argument("archive", metavar="ARCHIVE", nargs="?", help="folder or URL with videos (or --hours)")
    plan.add_argument("--hours", type=positive, metavar="H", help="plan for H hours of 1080p30 H.264 instead")
    plan.add_argument("--gpus", type=count, default=1, metavar="N", help="how many; 0 for none (default 1)")
    plan.add_argument("--gpu", default="H200", metavar="NAME", help="which: H200 (default), H100, A100, L40S, …")
    plan.add_argument(
        "--cores", type=positive_int, metavar="N", help="of the whole cluster, without GPUs (default: this one's)"
    )
    plan.add_argument("--cores-per-gpu", type=positive_int, metavar="N", help="default: as many as keep a GPU busy")
    plan.add_argument(
        "--preset", default="giant", help="the encoder's size: giant (default), large, base, tiny (that ships)"
    )
    plan.add_argument(
        "--share-of-peak",
        type=positive_share,
        default=0.4,
        metavar="S",
        help="of a GPU's peak, where its rate is estimated (default 0.4)",
    )
    plan.add_argument(
        "--looked-at", type=share, default=0.5, metavar="S", help="share of the time with fine windows (default 0.5)"
    )
    plan.add_argument("--price-per-gpu-hour", type=price, default=0.0, metavar="P")
    plan.add_argument("--price-per-core-hour", type=price, default=0.0, metavar="P")
    plan.add_argument(
        "--sample", type=positive_int, default=100, metavar="N", help="files probed at most (default 100)"
    )
    source = plan.add_mutually_exclusive_group()
    source.add_argument("--rates", metavar="PLACE", help="a JSON file of rates, or the OUT of an earlier run")
    source.add_argument("--measure", metavar="FILE", help="measure this machine first (a minute), and keep it in FILE")
    plan.add_argument("--json", action="store_true", help="everything, as JSON")


def add_status(commands: argparse._SubParsersAction) -> None:
    status = command(commands, "status", "what became of each video", EXIT_CODES)
    status.add_argument("out", metavar="OUT")
    status.add_argument("--json", action="store_true", help="everything, as JSON")
    status.add_argument("--files", action="store_true", help="name the file of each video (it may be private)")


def add_show(commands: argparse._SubParsersAction) -> None:
    show = command(commands, "show", "draw a video's timeline in the terminal")
    show.add_argument("out", metavar="OUT")
    show.add_argument("video", metavar="VIDEO", help="a video_id or its beginning, or a file's name")
    show.add_argument("--truth", metavar="DIR", help="an annotated archive to draw beside it")
    show.add_argument("--taxonomy", metavar="FILE", help="the maps' taxonomy, if not one that ships")
    show.add_argument(
        "--rows", type=count, default=40, metavar="N", help="how many rows to list, 0 for all (default 40)"
    )


def add_export(commands: argparse._SubParsersAction) -> None:
    export = command(commands, "export", "write timelines as files, one a video")
    export.add_argument("out", metavar="OUT")
    export.add_argument("--format", required=True, help="csv, jsonl, vtt or srt")
    export.add_argument("--to", required=True, metavar="DIR")


def add_report(commands: argparse._SubParsersAction) -> None:
    report = command(commands, "report", "one self-contained HTML file, or the figures")
    report.add_argument("out", metavar="OUT")
    report.add_argument("--truth", metavar="DIR", help="an annotated archive to compare with")
    report.add_argument("--taxonomy", metavar="FILE", help="the maps' taxonomy, if not one that ships")
    report.add_argument("--to", metavar="FILE", help="where the page goes (default: OUT/report.html)")
    report.add_argument("--json", action="store_true", help="print the figures and write no page")


def command(commands: argparse._SubParsersAction, name: str, purpose: str, epilog: str | None = None):
    return commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".", epilog=epilog)
