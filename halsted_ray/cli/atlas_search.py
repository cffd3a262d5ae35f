"""``halsted atlas search``: captions and transcripts are found by their words."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from halsted_ray.cli.atlas_release import AT
from halsted_ray.cli.options import DONE, Action, positive_int
from halsted_ray.cli.text_tables import WIDTH
from halsted_ray.storage.locations import printable

if TYPE_CHECKING:
    from halsted_ray.language.caption_search import FoundText

KINDS = ("raw", "enhanced", "transcript")


def add_search(action: Action) -> None:
    """``halsted atlas search``."""
    searching = action(
        "search",
        "find captions and transcripts by their words",
        search_words,
        "search hospital 'clip on the \"cystic duct\"' --kind transcript",
    )
    searching.add_argument(
        "text", metavar="TEXT", help="words, any of which may fit; a phrase in double quotes stays together"
    )
    searching.add_argument(
        "--release",
        default="head",
        metavar="NAME",
        help=f"{AT}; a release still holds what was withdrawn after it (default: head)",
    )
    searching.add_argument(
        "--kind", action="append", choices=KINDS, default=[], help="only these (default: all); may be repeated"
    )
    searching.add_argument("--count", type=positive_int, default=10, metavar="N", help="results (default 10)")
    searching.add_argument("--files", action="store_true", help="also print each video's file, which may be private")
    searching.add_argument("--json", action="store_true", help="print everything as JSON")


def search_words(options: argparse.Namespace) -> int:
    """Prints the sentences that fit best."""
    from halsted_ray.atlas import read_atlas
    from halsted_ray.language.caption_search import search_captions

    atlas = read_atlas(options.atlas, options.release)
    found = search_captions(
        atlas, options.text, options.count, options.kind, lambda doing: print(doing, file=sys.stderr)
    )
    uris = {video.video_id: video.uri for video in atlas.videos} if options.files else {}
    if options.json:
        rows = [asdict(one) | ({"file": uris.get(one.video_id)} if options.files else {}) for one in found]
        print(json.dumps({"release": atlas.release, "version": atlas.version, "results": rows}, indent=1))
        return DONE
    print(found_text(found, uris) if found else f"no caption or transcript of {atlas.name} has one of these words")
    return DONE


def found_text(found: Sequence[FoundText], uris: Mapping[str, str]) -> str:
    """The sentences that were found, each under its video and time."""
    from halsted_ray.reporting.terminal import clock

    lines = []
    for number, one in enumerate(found, 1):
        times = (
            "whole video, no time"
            if one.start_s is None or one.stop_s is None
            else f"{clock(one.start_s, 1)} to {clock(one.stop_s, 1)}"
        )
        kind = f"{one.level} {one.kind}" if one.start_s is not None else one.kind
        lines.append(f"{number:2}  {one.video_id}  {times}  ({kind})")
        if one.video_id in uris:
            lines.append(f"    {printable(uris[one.video_id])}")
        lines += textwrap.wrap(printable(one.text), WIDTH, initial_indent="    ", subsequent_indent="    ")
        if one.excluded:
            lines.append(f"    not for training: {printable(one.excluded)}")
    return "\n".join(lines)
