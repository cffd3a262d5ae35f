"""``halsted atlas import``: annotations of a data set become samples of an atlas."""

from __future__ import annotations

import argparse
import sys
from fractions import Fraction
from typing import Literal

from halsted_ray.cli.options import DONE, NOT_ALL, Action, fold, only_with
from halsted_ray.cli.text_tables import counted, show_progress


def add_import(action: Action) -> None:
    """``halsted atlas import``."""
    importing = action(
        "import",
        "add the annotations of a data set; its videos stay in place",
        import_clips,
        "import hospital /data/cholec80 --format cholec80",
    )
    importing.add_argument("source", metavar="FROM", help="folder or file of the data set")
    importing.add_argument(
        "--format",
        required=True,
        metavar="NAME",
        help="a data set as it is published: sar-rarp50, cholec80, cholect50, autolaparo, multibypass140, grasp, "
        "surglavi, hsa-27k; or label-studio, elan, cvat, via, boris, vtt, srt, csv, jsonl, conversations, captions; "
        "csv has one line per tag, with the columns video (a path below --videos) or video_id, start_s, stop_s, task, "
        "tag, category; captions has level and text beside video and times",
    )
    importing.add_argument(
        "--videos", default="", metavar="DIR", help="folder of the videos, unless they lie as published"
    )
    importing.add_argument(
        "--taxonomy", default="", metavar="REF", help="name or YAML file of a taxonomy (default: the format's own)"
    )
    importing.add_argument(
        "--mapping",
        default="",
        metavar="FILE",
        help="YAML file that names the columns (hsa-27k), or the keys (conversations)",
    )
    importing.add_argument(
        "--annotator", default="", metavar="NAME", help="who annotated, where the data set does not say"
    )
    importing.add_argument(
        "--fps",
        type=frame_rate,
        metavar="RATE",
        help="frames per second that the annotation's frame numbers count in, where the file does not say; "
        "video takes the rate of each video",
    )
    importing.add_argument(
        "--fold",
        type=fold,
        metavar="N",
        help="which of the data set's five folds, 0 to 4, says what is for training, validation and test "
        "(multibypass140; default: none, and a release draws the parts)",
    )
    importing.add_argument(
        "--make-videos",
        action="store_true",
        help="where a video is there as a folder of pictures alone, write the video file that the atlas refers to "
        "(cholect50, grasp; a minute or so each)",
    )
    importing.add_argument(
        "--said-by",
        choices=("manual", "ai", "synthetic"),
        default="",
        help="who says so, instead of what the file says: manual for a map that a person corrected, synthetic for "
        "drawn videos",
    )
    importing.add_argument(
        "--strict", action="store_true", help="import nothing where a row, region or video would be left out"
    )
    importing.add_argument(
        "--replace", action="store_true", help="first remove the manual annotations of the same videos and tasks"
    )
    importing.add_argument(
        "--group-by",
        default="chapters",
        metavar="RULE",
        help="files of one operation, which never lie in two parts: chapters (default, by the names of files), folder, "
        "a pattern with (?P<case>…), a CSV file with file, case, or none; a column group comes first",
    )
    importing.add_argument("--why", default="", metavar="TEXT", help="the reason, kept in the history")
    only_with(
        importing,
        "--mapping",
        when=lambda given: given.format in ("hsa-27k", "conversations"),
        needs="--format hsa-27k or conversations: no other format has columns or keys to name",
    )
    only_with(
        importing,
        "--fold",
        when=lambda given: given.format == "multibypass140",
        needs="--format multibypass140: no other data set has folds to choose from",
    )
    only_with(
        importing,
        "--make-videos",
        when=lambda given: given.format in ("cholect50", "grasp"),
        needs="--format cholect50 or grasp: no other data set is published as pictures",
    )


def import_clips(options: argparse.Namespace) -> int:
    """Imports the annotations, and prints what was added and what was left out."""
    from halsted_ray.atlas.imports import import_annotations

    done = import_annotations(
        options.atlas,
        options.source,
        options.format,
        videos=options.videos,
        taxonomy=options.taxonomy,
        mapping=options.mapping,
        annotator=options.annotator,
        said_by=options.said_by,
        fps=options.fps,
        strict=options.strict,
        why=options.why,
        replace_earlier=options.replace,
        group_by=options.group_by,
        fold=options.fold,
        make_videos=options.make_videos,
        progress=lambda read, of: show_progress(f"{read} of {counted(of, 'video')} read", read == of),
    )
    captions = f"{counted(done.captions, 'caption')} and " if done.captions else ""
    print(
        f"{captions}{counted(done.samples, 'sample')} of {counted(done.videos, 'video')} in taxonomy "
        f"{done.taxonomy!r}; {options.atlas} is at "
        f"version {done.version}"
    )
    if options.format == "hsa-27k" and not options.mapping:
        print(
            "the mapping of HSA-27k's columns is unverified; compare some samples with the data set's own viewer",
            file=sys.stderr,
        )
    for line in (*done.notes, *done.left_out):
        print(line, file=sys.stderr)
    if done.left_out:
        codes = ", ".join(f"{count} {code}" for code, count in done.counts.items())
        print(f"left out: {codes}", file=sys.stderr)
    return NOT_ALL if done.left_out else DONE


def frame_rate(text: str) -> float | Literal["video"]:
    """The value of ``--fps``: a number above 0, a fraction such as 30000/1001, or ``video``.

    Raises ArgumentTypeError.
    """
    if text == "video":
        return "video"
    try:
        rate = float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        rate = 0.0
    if not 0 < rate <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r}; expected frames per second, such as 25 or 30000/1001, or video")
    return rate
