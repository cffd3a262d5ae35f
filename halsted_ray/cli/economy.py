"""``halsted economy``: its options, and what it prints."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from halsted_ray.cli.options import DONE, Commands, add_command, only_with
from halsted_ray.cli.text_tables import WIDTH, counted, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from halsted_ray.records import JsonObject

FORMATS = ("table", "csv", "json", "jsonl")


def add_economy(commands: Commands) -> None:
    """``halsted economy``."""
    economy = add_command(
        commands,
        "economy",
        "count actions, transitions, idle time and repeated attempts in the maps",
        show_economy,
        example="halsted economy demo/maps --format csv",
        more="For research and teaching alone: not for credentialing, not to rank surgeons, not to judge a person.",
    )
    economy.add_argument("out", metavar="OUT", help="the OUT of `halsted map`")
    economy.add_argument("--video", metavar="ID", help="of one video: its id, the id's beginning, or a file name")
    economy.add_argument(
        "--tags",
        default="action,phase",
        metavar="NAMES",
        help="tags whose categories are actions, separated by commas (default: action,phase)",
    )
    economy.add_argument(
        "--format", choices=FORMATS, default="table", metavar="NAME", help="table (default), csv, json or jsonl"
    )
    economy.add_argument(
        "--against",
        metavar="FILE",
        help="CSV with video_id,score[,group]: how far the figures go with a proficiency that people gave",
    )
    economy.add_argument("--taxonomy", metavar="FILE", help="the maps' taxonomy, unless it ships with this package")
    only_with(
        economy, "--against", when=lambda given: given.format in ("table", "json"), needs="--format table or json"
    )
    only_with(economy, "--video", when=lambda given: not given.against, needs="no --against, which needs many videos")


def show_economy(options: argparse.Namespace) -> int:
    """Prints a row per video, the regression where labels are given, and what the figures are not for."""
    from halsted_ray import taxonomy as taxonomies
    from halsted_ray.maps.status import status_of
    from halsted_ray.reporting.report_data import find_video
    from halsted_ray.sequences.economy import WARNING, economy_rows, read_economy
    from halsted_ray.sequences.economy_regression import read_labels, regress

    taxonomy = taxonomies.load(options.taxonomy) if options.taxonomy else None
    wanted = [find_video(status_of(options.out), options.video)["video_id"]] if options.video else []
    videos = read_economy(options.out, options.tags.split(","), taxonomy, wanted)
    rows = economy_rows(videos)
    regression = regress(videos, read_labels(options.against)) if options.against else None
    if options.format == "json":
        told: JsonObject = {"videos": rows, "warning": WARNING}
        print(json.dumps(told | ({"regression": regression} if regression else {}), indent=1))
        return DONE
    if options.format == "jsonl":
        sys.stdout.writelines(json.dumps(row) + "\n" for row in rows)
    elif options.format == "csv":
        sys.stdout.write(_csv(rows))
    else:
        print(economy_text(rows) + (f"\n\n{regression_text(regression)}" if regression else ""))
    print(textwrap.fill(WARNING, WIDTH), file=sys.stderr if options.format != "table" else sys.stdout)
    return DONE


def _csv(rows: Sequence[JsonObject]) -> str:
    from halsted_ray.sequences.economy import ECONOMY_SCHEMA

    text = io.StringIO()
    writer = csv.DictWriter(text, ECONOMY_SCHEMA.names, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def economy_text(rows: Sequence[JsonObject]) -> str:
    """A line per video."""
    header = ("video", "acting", "actions", "per min", "median", "idle", "stitches", "again", "direct")
    lines = [
        (
            row["video_id"],
            _said(row["acting_s"], "{:.0f} s"),
            row["actions"],
            _said(row["actions_per_min"], "{:.1f}"),
            _said(row["median_action_s"], "{:.1f} s"),
            _said(row["idle_share"], "{:.1%}"),
            _said(row["stitches"], "{}"),
            _said(row["repeated_attempts"], "{}"),
            _said(row["direct_path_share"], "{:.0%}"),
        )
        for row in rows
    ]
    return table(header, lines, right=range(1, len(header))) + "\n"


def regression_text(figures: JsonObject) -> str:
    """How far the figures go with the labels."""
    lines = [(name, *map(_signed, triple)) for name, triple in figures["weights"].items()]
    said = [
        f"Against the given scores, {counted(figures['videos'], 'video')} of {figures['groups']} people or videos, "
        f"each predicted without its own: rank correlation {_interval(figures['spearman'])}, explained variance "
        f"{_interval(figures['r2'])}. 95% intervals draw people or videos with replacement."
    ]
    weights = table(("standardised weight", "value", "low", "high"), lines, right=(1, 2, 3))
    return "\n\n".join([textwrap.fill(said[0], WIDTH), weights]) + "\n"


def _interval(triple: Sequence[float | None]) -> str:
    return f"{_signed(triple[0])} [{_signed(triple[1])} to {_signed(triple[2])}]"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _said(value: Any, form: str) -> str:  # Any: a number of a row, or None
    return "–" if value is None else form.format(value)
