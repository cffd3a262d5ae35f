"""``halsted stitches``: its options, and what it prints."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from typing import TYPE_CHECKING

from halsted_ray.cli.options import DONE, Commands, add_command
from halsted_ray.cli.text_tables import WIDTH, table

if TYPE_CHECKING:
    from halsted_ray.maps.stitch_table import VideoStitches

FORMATS = ("table", "csv", "json", "jsonl")


def add_stitches(commands: Commands) -> None:
    """``halsted stitches``."""
    stitches = add_command(
        commands,
        "stitches",
        "list the stitches of the maps, with totals and their intervals",
        show_stitches,
        example="halsted stitches demo/maps --format csv",
        more="A stitch is needle handling, driving and withdrawal, found over the rows of the map. The seconds per "
        "phase stand under handling, driving and withdrawal (h, d, w).",
    )
    stitches.add_argument("out", metavar="OUT", help="the OUT of `halsted map`")
    stitches.add_argument(
        "--video", metavar="ID", help="of one video alone: the id of a video or case, its beginning, or a file name"
    )
    stitches.add_argument(
        "--format", choices=FORMATS, default="table", metavar="NAME", help="table (default), csv, json or jsonl"
    )
    stitches.add_argument("--taxonomy", metavar="FILE", help="the maps' taxonomy, unless it ships with this package")


def show_stitches(options: argparse.Namespace) -> int:
    """Prints the stitches of one video or of all; totals stand below a table and in JSON."""
    from halsted_ray import taxonomy as taxonomies
    from halsted_ray.maps.cases import case_statuses, read_cases
    from halsted_ray.maps.status import status_of
    from halsted_ray.maps.stitch_table import read_stitches, totals_json, video_json, write_csv, write_jsonl
    from halsted_ray.maps.stitch_totals import totals_of
    from halsted_ray.reporting.report_data import find_video

    chapters = read_cases(options.out)
    by_case = not options.video or any(chapter.case_id.startswith(options.video) for chapter in chapters)
    taxonomy = taxonomies.load(options.taxonomy) if options.taxonomy else None
    videos = read_stitches(options.out, taxonomy, by_case=by_case)
    if options.video:
        known = status_of(options.out)
        video_id = find_video(case_statuses(known, chapters) if by_case else known, options.video)["video_id"]
        videos = [video for video in videos if video.video_id == video_id]
        if not videos:
            print(f"{video_id} is not mapped; `halsted status {options.out}` says why", file=sys.stderr)
    if options.format == "json":
        totals = totals_json(totals_of([stitch for video in videos for stitch in video.stitches]))
        print(json.dumps({"videos": [video_json(video) for video in videos], "totals": totals}, indent=1))
    elif options.format != "table":
        sys.stdout.write({"csv": write_csv, "jsonl": write_jsonl}[options.format](videos))
    elif videos:
        print(_text_of(videos))
    return DONE


def _text_of(videos: list[VideoStitches]) -> str:
    from halsted_ray.maps.stitch_totals import totals_of
    from halsted_ray.reporting.stitch_words import proficiency_of, seconds_of, totals_in_words, videos_without
    from halsted_ray.reporting.terminal import clock

    header = ("#", "start", "stop", "h", "d", "w", "proficiency", "confidence", "driven")
    parts = []
    for video in videos:
        rows = [
            (
                index,
                clock(stitch.start_s),
                clock(stitch.stop_s),
                *map(seconds_of, (stitch.handling_s, stitch.driving_s, stitch.withdrawal_s)),
                proficiency_of(stitch.proficiency, stitch.proficiency_probability),
                f"{stitch.confidence:.2f}",
                ", ".join(filter(None, (stitch.target, stitch.direction, stitch.extent))),
            )
            for index, stitch in enumerate(video.stitches, 1)
        ]
        if rows:
            partly = "" if video.is_complete else "  (parts of the video could not be mapped)"
            parts.append(f"{video.video_id}{partly}\n{table(header, rows, right=(0, 1, 2, 3, 4, 5, 7))}")
    totals = totals_of([stitch for video in videos for stitch in video.stitches])
    said = [*(totals_in_words(totals) if totals.count else ()), *videos_without(videos)]
    return "\n\n".join([*parts, "\n".join(textwrap.fill(line, WIDTH) for line in said)])
