"""``halsted show``, ``halsted export`` and ``halsted report``: their options, and what they print."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from halsted_ray.cli.options import (
    DONE,
    NOT_ALL,
    Commands,
    add_command,
    count,
    only_with,
)
from halsted_ray.cli.text_tables import WIDTH, accuracy_table, counted
from halsted_ray.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa


def add_show(commands: Commands) -> None:
    """``halsted show``."""
    show = add_command(
        commands,
        "show",
        "draw a video's timeline in the terminal",
        show_timeline,
        example="halsted show demo/maps 3f2a --truth demo/archive/heldout",
    )
    show.add_argument("out", metavar="OUT", help="the OUT of `halsted map`")
    show.add_argument("video", metavar="VIDEO", help="the id of a video or case, its beginning, or a file name")
    show.add_argument("--truth", metavar="DIR", help="an annotated archive, drawn below the predictions")
    show.add_argument("--taxonomy", metavar="FILE", help="the maps' taxonomy, unless it ships with this package")
    show.add_argument(
        "--rows", type=count, default=40, metavar="N", help="list at most N rows; 0 lists all (default 40)"
    )


def show_timeline(options: argparse.Namespace) -> int:
    """Draws one video's timeline and lists its rows."""
    from halsted_ray.reporting.lanes import timeline
    from halsted_ray.reporting.report_data import read_report_data
    from halsted_ray.reporting.terminal import clock, draw, rows_table

    material = read_report_data(options.out, options.truth, options.taxonomy).with_case(options.video)
    video = material.find(options.video)
    video_id = video["video_id"]
    drawn = timeline(video, material.rows_of(video_id), material.truth_of(video_id), material.taxonomy)
    if options.truth and material.truth_of(video_id) is None:
        print(f"the truth at {options.truth} annotates other videos, and not this one", file=sys.stderr)
    print(f"{video_id}  {video['status']}  {clock(drawn.duration_s)}  {video['reason'] or ''}".rstrip())
    if drawn.lanes or drawn.gaps:
        print(f"\n{draw(drawn, WIDTH)}\n\n{rows_table(drawn, WIDTH, options.rows or None)}")
    return DONE


def add_export(commands: Commands) -> None:
    """``halsted export``."""
    export = add_command(
        commands,
        "export",
        "write the timelines as files, one file per video or case",
        export_timelines,
        example="halsted export demo/maps --format vtt --to demo/subtitles",
        more="exit code: 0 done, 3 a report names nobody though --identities is given, 2 wrong use",
    )
    export.add_argument("out", metavar="OUT", help="the OUT of `halsted map`")
    export.add_argument(
        "--format", required=True, metavar="NAME", help="csv, jsonl, vtt, srt, dicom-sr, fhir-r4, fhir-r5"
    )
    export.add_argument("--to", required=True, metavar="DIR", help="folder or URL where the files are written")
    export.add_argument(
        "--identities",
        metavar="FILE",
        help="name patient and study in the reports, by the table of `halsted dicom import` (default: nobody)",
    )
    export.add_argument(
        "--vocabulary",
        metavar="NAME",
        help="write the rows in the words of another taxonomy: its name, or a file of relations (.yaml)",
    )
    export.add_argument("--taxonomy", metavar="FILE", help="the maps' taxonomy, unless it ships with this package")
    only_with(export, "--taxonomy", when=lambda given: given.vocabulary, needs="--vocabulary, which reads rows by it")
    only_with(
        export,
        "--identities",
        when=lambda given: given.format in ("dicom-sr", "fhir-r4", "fhir-r5"),
        needs="--format dicom-sr, fhir-r4 or fhir-r5",
    )


def in_words_of(rows: pa.Table, vocabulary: str, taxonomy: str | None) -> pa.Table:
    """``rows`` of a timeline in another vocabulary; says which rows have no counterpart there."""
    from halsted_ray import taxonomy as taxonomies
    from halsted_ray.maps.vocabulary import translated

    found = translated(rows, vocabulary, taxonomies.load(taxonomy) if taxonomy else None)
    if found.without:
        listed = ", ".join(f"{tag} {category} ({count})" for (tag, category), count in sorted(found.without.items()))
        print(
            f"{counted(sum(found.without.values()), 'row')} without a counterpart in {found.taxonomy.name}: {listed}",
            file=sys.stderr,
        )
    return found.rows


def export_timelines(options: argparse.Namespace) -> int:
    """Writes the files, and says which videos have none or have rows of an earlier run."""
    from halsted_ray.hospital.exports import WRITERS as REPORTS
    from halsted_ray.hospital.exports import export_reports
    from halsted_ray.hospital.identities import Identities
    from halsted_ray.maps.cases import case_statuses, case_timeline, read_cases
    from halsted_ray.maps.exports import WRITERS, export
    from halsted_ray.maps.reading import read_timeline
    from halsted_ray.maps.status import status_of

    if options.format not in {**REPORTS, **WRITERS}:
        known = ", ".join((*WRITERS, *REPORTS))
        raise UsageError(f"unknown export format {options.format!r}; expected one of {known}")
    videos, rows = status_of(options.out), read_timeline(options.out)
    if chapters := read_cases(options.out):
        videos, rows = case_statuses(videos, chapters), case_timeline(rows, chapters)
    if options.vocabulary:
        rows = in_words_of(rows, options.vocabulary, options.taxonomy)
    whole = [video["video_id"] for video in videos if video["status"] in ("mapped", "partial")]
    if options.format in REPORTS:
        subjects = Identities(options.identities, must_exist=True).subjects() if options.identities else None
        written = export_reports(rows, options.to, options.format, whole, subjects)
        exported = {*whole, *rows["video_id"].to_pylist()}
        unnamed = sorted(exported - set(subjects)) if subjects is not None else []
    else:
        unnamed = []
        written = export(rows, options.to, options.format, whole)
    others = [video["video_id"] for video in videos if video["video_id"] not in whole]
    shown = set(rows["video_id"].to_pylist())
    earlier, left_out = [own for own in others if own in shown], [own for own in others if own not in shown]
    print(f"{counted(len(written), 'file')} in {options.to}")
    if earlier:
        print(f"not finished by the last run, so exported from an earlier run: {', '.join(earlier)}", file=sys.stderr)
    if left_out:
        print(f"not exported, because nothing of them is mapped: {', '.join(left_out)}", file=sys.stderr)
    if unnamed:
        print(
            f"reports that name nobody: {', '.join(unnamed)}: the table of identities has no such video; import it "
            "with `halsted dicom import`, or name the table of this archive",
            file=sys.stderr,
        )
        return NOT_ALL
    return DONE


def add_report(commands: Commands) -> None:
    """``halsted report``."""
    report = add_command(
        commands,
        "report",
        "write an HTML report of the maps, or print its figures",
        write_report,
        example="halsted report demo/maps --truth demo/archive/heldout --to demo/report.html",
    )
    report.add_argument("out", metavar="OUT", help="the OUT of `halsted map`")
    report.add_argument("--truth", metavar="DIR", help="an annotated archive; the report compares the maps with it")
    report.add_argument("--taxonomy", metavar="FILE", help="the maps' taxonomy, unless it ships with this package")
    report.add_argument("--to", metavar="FILE", help="the file to write (default: OUT/report.html)")
    report.add_argument("--json", action="store_true", help="print the figures as JSON and write no file")
    only_with(report, "--to", when=lambda given: not given.json, needs="a page, and --json writes none")


def write_report(options: argparse.Namespace) -> int:
    """Writes the page and prints the accuracy and where the page is; with --json prints all figures instead."""
    from halsted_ray.reporting.map_page import write_html
    from halsted_ray.reporting.summary import report

    if options.json:
        print(json.dumps(report(options.out, options.truth, options.taxonomy), indent=1))
        return DONE
    to = options.to or f"{options.out.rstrip('/')}/report.html"
    figures = write_html(options.out, to, options.truth, options.taxonomy)
    if figures["accuracy"]:
        print(accuracy_table(figures["accuracy"]) + "\n")
    print(to)
    return DONE
