"""``halsted map`` and ``halsted status``: their options, and what they print."""

from __future__ import annotations

import argparse
import json
import shlex
from collections import Counter
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from halsted_ray.cli.options import (
    DONE,
    NOT_ALL,
    Commands,
    add_command,
    count,
    positive,
    positive_int,
    require_cluster,
    seconds,
    share,
)
from halsted_ray.cli.registry import MODEL_HELP, REGISTRY_HELP, registry_needs_version
from halsted_ray.cli.text_tables import counted, failures, status_table, table
from halsted_ray.storage.locations import printable
from halsted_ray.video.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from halsted_ray.maps.status import VideoStatus

EXIT_CODES = "exit code: 0 all videos are mapped, 3 some videos failed or have gaps, 2 wrong use"


def add_map(commands: Commands) -> None:
    """``halsted map``."""
    mapping = add_command(
        commands,
        "map",
        "map an archive; run it again to map new and unfinished videos",
        map_videos,
        example="halsted map archive --out maps",
        more=EXIT_CODES,
    )
    mapping.add_argument("archive", metavar="ARCHIVE", help="folder or URL with videos; subfolders are searched too")
    mapping.add_argument("--out", required=True, metavar="OUT", help="folder or URL where the maps are written")
    mapping.add_argument(
        "--model",
        default="phantom",
        metavar="REF",
        help=f"{MODEL_HELP}; or phantom (default), which ships and knows only synthetic video",
    )
    mapping.add_argument("--registry", metavar="URI", help=REGISTRY_HELP)
    mapping.add_argument(
        "--encoder", metavar="REF", help="folder or URL of the model's encoder (default: as the model says)"
    )
    mapping.add_argument(
        "--precision",
        choices=["fp32", "bf16", "fp8", "int8"],
        help="in which the encoder runs (default: as the stored vectors, else bf16 on GPUs and fp32 on CPUs)",
    )
    mapping.add_argument("--embeddings", metavar="DIR", help="where embeddings are kept (default: OUT/embeddings)")
    mapping.add_argument(
        "--fidelity",
        default="reference",
        metavar="NAME",
        help="how frames are decoded: exact, reference (default) or keyframes (fastest)",
    )
    mapping.add_argument(
        "--reader",
        default="auto",
        metavar="NAME",
        help="what decodes: auto (default: the GPU's NVDEC and the cores side by side), nvdec, pyav (cores) or decord",
    )
    mapping.add_argument(
        "--least-present",
        type=share,
        metavar="S",
        help="share of a window's time that must have a picture for the window to be mapped (default 0.75)",
    )
    mapping.add_argument(
        "--longest-hours",
        type=positive,
        default=DEFAULT_LIMITS.hours,
        metavar="H",
        help="a longer video is not mapped and listed as failed: damaged times claim years (default %(default)g)",
    )
    mapping.add_argument(
        "--eye",
        default="left",
        metavar="NAME",
        help="which picture of a stereo recording is mapped: left (default) or right",
    )
    mapping.add_argument(
        "--wait-for-cpus",
        type=count,
        default=0,
        metavar="N",
        help="ask the cluster for N CPUs and wait until it has them",
    )
    mapping.add_argument(
        "--wait-for-gpus",
        type=count,
        default=0,
        metavar="N",
        help="ask the cluster for N GPUs and wait until it has them",
    )
    mapping.add_argument(
        "--encoders-per-gpu",
        type=positive_int,
        default=1,
        metavar="N",
        help="actors that share a GPU: more than 1 (default) where the encoder is small",
    )
    mapping.add_argument(
        "--refine",
        choices=("viterbi", "tcn"),
        default="",
        help="refine each whole video: viterbi smooths the answers of its windows, tcn also asks a network over the "
        "video's vectors; needs a model of `halsted train --refine` (default: the windows' answers)",
    )
    mapping.add_argument("--retry-failed", action="store_true", help="try videos again whose failure was permanent")
    mapping.add_argument(
        "--settle",
        type=seconds,
        default=2.0,
        metavar="SECONDS",
        help="leave a file for the next run that still changes in this time (default 2; 0: look once)",
    )
    mapping.add_argument(
        "--case-by",
        metavar="RULE",
        help="make cases of several files: folder, chapters (by the names of recorders), a pattern with "
        "(?P<case>…), or a CSV file with file, case[, order]; none: every file by itself",
    )
    mapping.add_argument(
        "--list-skipped",
        action="store_true",
        help="also print each file that was skipped, and why; a file name may be private",
    )
    mapping.add_argument(
        "--priority",
        default="normal",
        metavar="NAME",
        help="among the runs on one cluster: low (for whole archives), normal (default) or high",
    )
    what = mapping.add_mutually_exclusive_group()
    what.add_argument("--task", metavar="TASK", help="macro, micro, proficiency, context, or all (default)")
    what.add_argument("--instruction", metavar="TEXT", help='the task in words, such as "map suturing activity"')
    registry_needs_version(mapping)


def map_videos(options: argparse.Namespace) -> int:
    """Maps the archive; prints the videos that are not mapped whole, the counts and the rate."""
    from halsted_ray.compute.progress import ProgressLine, amount
    from halsted_ray.compute.resources import ResourceRequest
    from halsted_ray.mapping.pipeline import map_archive
    from halsted_ray.registry.references import resolve
    from halsted_ray.video.presence import LEAST_PRESENT

    model = resolve(options.model, options.registry)
    resources = ResourceRequest(
        reader=options.reader,
        encoders_per_gpu=options.encoders_per_gpu,
        priority=options.priority,
        wait_for=(options.wait_for_cpus, options.wait_for_gpus),
    )
    require_cluster(options)
    with ProgressLine() as line:
        summary = map_archive(
            options.archive,
            options.out,
            model,
            options.task,
            options.instruction,
            encoder=options.encoder,
            embeddings=options.embeddings,
            precision=options.precision,
            fidelity=options.fidelity,
            least_present=LEAST_PRESENT if options.least_present is None else options.least_present,
            eye=options.eye,
            limits=replace(DEFAULT_LIMITS, hours=options.longest_hours),
            retry_failed=options.retry_failed,
            settle_s=options.settle,
            case_by=options.case_by,
            refine=options.refine,
            resources=resources,
            observer=line,
        )
    if listed := failures(summary.videos):
        print(f"{listed}\n")
    if options.list_skipped:
        for reason, found in groupby(sorted(summary.skipped, key=attrgetter("reason", "uri")), attrgetter("reason")):
            # Not as a table: a long path would be broken over lines.
            print("\n".join([f"skipped, {reason}:", *(f"  {printable(skipped.uri)}" for skipped in found)]) + "\n")
    print_counts(summary.videos, options.out)
    print(
        f"{counted(summary.segments_before, 'segment')} done before, {summary.segments_decoded} decoded, "
        f"{summary.segments_from_vectors} from stored vectors, {summary.segments_failed} failed"
    )
    if summary.video_s:  # else there was nothing to do, and there is no rate
        if summary.decoders.has_nvdec:
            print(summary.decoders.sentence())
        if summary.encoding.clips:
            print(summary.encoding)
        rate = summary.video_s / summary.wall_s
        print(
            f"{amount(summary.video_s / 3600)} video-hours in {summary.wall_s:.0f} s, "
            f"{amount(rate, 1)} video-hours per hour"
        )
    return summary.exit_code


def add_status(commands: Commands) -> None:
    """``halsted status``."""
    status = add_command(
        commands,
        "status",
        "show the state of each video, and why a video failed",
        show_status,
        example="halsted status maps",
        more=EXIT_CODES,
    )
    status.add_argument("out", metavar="OUT", help="the OUT of `halsted map`, also while it runs")
    status.add_argument("--json", action="store_true", help="print everything as JSON")
    status.add_argument("--files", action="store_true", help="also print each video's file name, which may be private")


def show_status(options: argparse.Namespace) -> int:
    """Prints a line per video and the counts; exit code 3 where a video failed or has gaps."""
    from halsted_ray.maps.cases import case_statuses, read_cases
    from halsted_ray.maps.status import status_of

    videos = status_of(options.out)
    chapters = read_cases(options.out)
    case_of = {chapter.video_id: chapter for chapter in chapters}
    if options.json:
        places = {
            video_id: {"case_id": at.case_id, "case_position": at.position, "case_offset_s": at.offset_s}
            for video_id, at in case_of.items()
        }
        print(json.dumps([{**video, **places.get(video["video_id"], {})} for video in videos], indent=1))
    else:
        print(f"{status_table(case_statuses(videos, chapters) if chapters else videos)}\n")
        print_counts(videos, options.out)
        if options.files:
            rows = [(video["video_id"], printable(video["uri"])) for video in videos]
            if chapters:
                at = {video_id: f"{chapter.case_id} {chapter.position}" for video_id, chapter in case_of.items()}
                cases = [(at.get(video["video_id"], "–"), *row) for video, row in zip(videos, rows, strict=True)]
                print("\n" + table(("case", "video", "file"), sorted(cases)))
            else:
                print("\n" + table(("video", "file"), rows))
    return NOT_ALL if any(video["status"] in ("partial", "failed") for video in videos) else DONE


def print_counts(videos: list[VideoStatus], out: str) -> None:
    """Prints how many videos are in which state, and how to read the reasons in full."""
    from halsted_ray.compute.progress import amount
    from halsted_ray.maps.unknown import can_say_unknown
    from halsted_ray.records import UNKNOWN_REASON

    counts = Counter(video["status"] for video in videos)
    hours = sum(video["duration_s"] or 0 for video in videos) / 3600
    print(
        f"{counted(len(videos), 'video')}, {amount(hours)} video-hours: "
        + ", ".join(f"{count:,} {name}" for name, count in counts.most_common())
    )
    unknown_s = sum(video["unknown_s"] or 0 for video in videos)
    if unknown_s:
        of_videos = sum(bool(video["unknown_s"]) for video in videos)
        print(f"{unknown_s / 60:,.1f} minutes in {counted(of_videos, 'video')} are unknown:\n{UNKNOWN_REASON}")
    elif not can_say_unknown(out):
        print("the model can't say 'unknown': too old, or learned from too few windows")
    if counts["failed"] or counts["partial"]:
        print(f"for the full reasons and the file names: halsted status {shlex.quote(out)} --files")
