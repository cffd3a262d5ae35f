"""``halsted explain``: its options, and what it prints."""

from __future__ import annotations

import argparse
import json
import re

from halsted_ray.cli.options import DONE, Commands, add_command
from halsted_ray.errors import UsageError

MOMENT = re.compile(r"(?s)(.+?):(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)")


def add_explain(commands: Commands) -> None:
    """``halsted explain``."""
    explain = add_command(
        commands,
        "explain",
        "say what the map knows of one moment, and by which rows",
        explain_moment,
        example="halsted explain demo/maps 3f2a:95",
        more="Perception is what is seen, relation what acts on what, context what the operation is at. Each statement "
        "names the rows that it rests on and the confidence of the least sure one; what the map does not say is not "
        "known.",
    )
    explain.add_argument("out", metavar="OUT", help="the OUT of `halsted map`")
    explain.add_argument(
        "moment",
        metavar="VIDEO:SECOND",
        help="id of a video, its beginning, or a file name; then seconds, or a time such as 1:35",
    )
    explain.add_argument("--taxonomy", metavar="FILE", help="the maps' taxonomy, unless it ships with this package")
    explain.add_argument("--json", action="store_true", help="print the statements as JSON")


def explain_moment(options: argparse.Namespace) -> int:
    """Prints the explanation of one moment."""
    from halsted_ray import taxonomy as taxonomies
    from halsted_ray.maps.reading import read_timeline
    from halsted_ray.maps.status import status_of
    from halsted_ray.maps.stitch_table import taxonomy_of
    from halsted_ray.reporting.report_data import find_video
    from halsted_ray.reporting.terminal import clock
    from halsted_ray.sequences.explanation import explain, explanation_text

    name, at_s = video_and_second(options.moment)
    video = find_video(status_of(options.out), name)
    if not 0 <= at_s < video["duration_s"]:
        raise UsageError(
            f"video {video['video_id']} lasts {video['duration_s']:g} s; got {at_s:g} s: name an earlier one"
        )
    rows = [row for row in read_timeline(options.out).to_pylist() if row["video_id"] == video["video_id"]]
    given = taxonomies.load(options.taxonomy) if options.taxonomy else None
    taxonomy = taxonomy_of(rows[0]["taxonomy_digest"] if rows else "", given)
    found = explain(video["video_id"], rows, at_s, taxonomy)
    if options.json:
        print(json.dumps(found.to_json(), indent=1, ensure_ascii=False))
    else:
        print(f"{found.video_id} at {clock(at_s, 1)}\n\n{explanation_text(found)}")
    return DONE


def video_and_second(moment: str) -> tuple[str, float]:
    """``3f2a:95`` or ``3f2a:1:35`` → ("3f2a", 95.0). Raises UsageError, which does not repeat what may be a name."""
    found = MOMENT.fullmatch(moment)
    if found is None:
        raise UsageError("expected VIDEO:SECOND, such as 3f2a:95 or 3f2a:1:35; the second is missing")
    name, hours, minutes, seconds = found.groups()
    return name, int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)
