"""``halsted synthesize``: clips of rare categories, made for their label."""

from __future__ import annotations

import argparse

from halsted_ray.cli.options import DONE, Commands, add_command, count, positive, positive_int, size
from halsted_ray.cli.text_tables import counted, show_progress, table


def add_synthesize(commands: Commands) -> None:
    """``halsted synthesize``."""
    command = add_command(
        commands,
        "synthesize",
        "make clips of the categories that an atlas has fewest of",
        write_synthetic,
        example="halsted synthesize hospital --like rare --out drawn",
        more="Only the training part of ATLAS is looked at. Add what was made with the command that is printed; "
        "synthetic samples are learned from and never validate or test.",
    )
    command.add_argument("atlas", metavar="ATLAS", help="folder or URL that holds atlas/")
    command.add_argument("--out", required=True, metavar="DIR", help="an empty folder: DIR/videos, DIR/samples.jsonl")
    command.add_argument("--like", default="rare", choices=("rare",), help="rare: the rarest categories (default)")
    command.add_argument(
        "--tag", default="action", metavar="TAG", help="the tag whose categories are counted (default action)"
    )
    command.add_argument(
        "--rarest", type=positive_int, default=3, metavar="K", help="how many categories, the rarest first (default 3)"
    )
    command.add_argument(
        "--per-category", type=positive_int, default=8, metavar="N", help="clips of each category (default 8)"
    )
    command.add_argument("--release", metavar="NAME", help="release of the atlas (default: the latest)")
    command.add_argument(
        "--generator",
        default="phantom",
        metavar="REF",
        help="phantom (default), or package.module:function of an installed package: condition → frames",
    )
    command.add_argument(
        "--seed", type=count, default=0, metavar="N", help="another seed makes other clips (default 0)"
    )
    command.add_argument("--size", type=size, default=(640, 360), metavar="WxH", help="pixels (default 640x360)")
    command.add_argument("--fps", type=positive, default=25.0, metavar="F", help="frames per second (default 25)")


def write_synthetic(options: argparse.Namespace) -> int:
    """Makes the clips; prints how many of which category, and the command that adds them to the atlas."""
    from halsted_ray.synthesis.synthesize import synthesize

    width, height = options.size
    made = synthesize(
        options.atlas,
        options.out,
        release=options.release,
        tag=options.tag,
        rarest=options.rarest,
        per_category=options.per_category,
        seed=options.seed,
        generator=options.generator,
        width=width,
        height=height,
        fps=options.fps,
        progress=lambda done, of: show_progress(f"{done} of {counted(of, 'clip')} made", done == of),
    )
    rows = [(category, made.training[category], number) for category, number in made.drawn.items()]
    print(table((made.tag, "training samples", "made"), rows, right=(1, 2)))
    print(
        f"\n{counted(len(made.clips), 'synthetic sample')} in {made.annotations}; add them in one commit with\n"
        f"halsted atlas import {options.atlas} {made.annotations} --format jsonl --videos {options.out}/videos"
    )
    return DONE
