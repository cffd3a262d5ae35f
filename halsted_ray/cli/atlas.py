"""``halsted atlas`` and its actions: import, list, show, search, diff, release, verify, export."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from halsted_ray.cli.options import (
    DONE,
    NOT_ALL,
    Commands,
    Do,
    Parser,
    add_command,
    add_group,
    count,
    only_with,
    positive_int,
    share_below_1,
)
from halsted_ray.cli.text_tables import WIDTH, counted, show_progress
from halsted_ray.storage.locations import printable

if TYPE_CHECKING:
    from halsted_ray.atlas import Atlas
    from halsted_ray.language.caption_search import FoundText

EXIT_CODES = "exit code: 0 done, 3 some videos or samples were left out, or verify found a fault, 2 wrong use"
KINDS = ("raw", "enhanced", "transcript")
AT = "a release, a version's number, or head (the newest version)"


def add_atlas(commands: Commands) -> None:
    """``halsted atlas ACTION``."""
    purpose = "import annotations, freeze them as releases, check, export"
    actions = add_group(commands, "atlas", purpose, example="halsted atlas list hospital", more=EXIT_CODES)

    def action(name: str, purpose: str, do: Do, example: str) -> Parser:
        added = add_command(actions, name, purpose, do, example=f"halsted atlas {example}", more=EXIT_CODES)
        added.add_argument("atlas", metavar="ATLAS", help="folder or URL that holds atlas/")
        return added

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
        type=int,
        choices=range(5),
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
    listing = action("list", "list every commit: who made it, from what and why", list_commits, "list hospital")
    listing.add_argument("--json", action="store_true", help="print everything as JSON")
    showing = action(
        "show",
        "count the videos and samples per procedure (as Table 2 of the paper does)",
        show_release,
        "show hospital --release hospital-v1",
    )
    showing.add_argument("--release", metavar="NAME", help=f"{AT} (default: the latest release)")
    showing.add_argument("--json", action="store_true", help="print everything as JSON")
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
    differing = action(
        "diff",
        "count the samples that B adds to A and removes from it",
        show_difference,
        "diff hospital hospital-v1 head",
    )
    differing.add_argument("a", metavar="A", help=AT)
    differing.add_argument("b", metavar="B", help="the same; B is compared with A")
    differing.add_argument("--json", action="store_true", help="print everything as JSON")
    releasing = action(
        "release",
        "name the newest version, and freeze which videos train, validate and test",
        make_release,
        "release hospital hospital-v1 --validation 0.2 --test 0.2",
    )
    releasing.add_argument("name", metavar="NAME", help="name of the release, such as hsa-v1")
    releasing.add_argument(
        "--validation",
        type=share_below_1,
        default=0.2,
        metavar="SHARE",
        help="of the videos (default 0.2); carved out of the training part of a data set that publishes no validation",
    )
    releasing.add_argument("--test", type=share_below_1, default=0.0, metavar="SHARE", help="of the videos (default 0)")
    releasing.add_argument(
        "--split", metavar="CSV", help="the split, as columns video_id and part; other videos are drawn"
    )
    releasing.add_argument(
        "--seed", type=count, default=0, metavar="N", help="another seed draws another split (default 0)"
    )
    releasing.add_argument(
        "--case-by",
        default="none",
        metavar="RULE",
        help="videos that get one part together: folder, chapters, a pattern with (?P<case>…), a CSV file with file, "
        "case (default: none)",
    )
    releasing.add_argument("--why", default="", metavar="TEXT", help="the reason, kept in the history")
    verifying = action(
        "verify",
        "look for faults: leaks between parts, times, categories, overlaps, files",
        verify_atlas,
        "verify hospital",
    )
    verifying.add_argument("--release", metavar="NAME", help=f"{AT} (default: the latest release)")
    verifying.add_argument("--tables-only", action="store_true", help="do not open the videos")
    verifying.add_argument(
        "--case-by",
        default="chapters",
        metavar="RULE",
        help="warn where a case has several parts: chapters (default, by the names of files), folder, a pattern, a CSV "
        "file, none",
    )
    exporting = action(
        "export", "write a release as files", export_release, "export hospital --format label-studio --to review"
    )
    exporting.add_argument(
        "--format",
        required=True,
        metavar="NAME",
        help="csv, jsonl, label-studio, elan, cvat, via, vtt, srt, conversations or captions",
    )
    exporting.add_argument("--to", required=True, metavar="DIR", help="folder or URL where the files are written")
    exporting.add_argument("--release", metavar="NAME", help=f"{AT} (default: the latest release)")
    exporting.add_argument(
        "--files", action="store_true", help="also write each video's file name, which may be private"
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


def list_commits(options: argparse.Namespace) -> int:
    """Prints one line per commit, oldest first."""
    from halsted_ray.atlas.commits import history
    from halsted_ray.cli.text_tables import table

    log = history(options.atlas)
    if options.json:
        print(
            json.dumps(
                [
                    {
                        **asdict(found),
                        "at": found.at.isoformat(timespec="seconds"),
                        "taxonomy_json": json.loads(found.taxonomy_json),
                    }
                    for found in log
                ],
                indent=1,
            )
        )
        return DONE
    has_drawn = any(found.synthetic for found in log)
    rows = [
        (
            found.version,
            found.release or "–",
            f"{found.at:%Y-%m-%d %H:%M}",
            found.who,
            f"+{found.added} −{found.removed}",
            *((found.synthetic,) if has_drawn else ()),
            ": ".join(filter(None, (f"{found.action} {found.source}", found.why))),
        )
        for found in log
    ]
    header = ("version", "release", "time (UTC)", "who", "samples", *(("synthetic",) if has_drawn else ()), "what")
    print(table(header, rows, right=(0, 4, 5) if has_drawn else (0, 4)))
    return DONE


def show_release(options: argparse.Namespace) -> int:
    """Prints the census of a release: one line per procedure, and the number of videos per part."""
    from halsted_ray.atlas import read_atlas
    from halsted_ray.atlas.census import census
    from halsted_ray.cli.text_tables import percent, table

    found = read_atlas(options.atlas, options.release)
    numbers = census(found)
    if options.json:
        print(
            json.dumps(
                {
                    "release": found.release,
                    "version": found.version,
                    "taxonomy": found.taxonomy,
                    "taxonomy_digest": found.taxonomy_digest,
                    "rows": [
                        {**asdict(row), "total": row.total, "manual_share": row.manual_share}
                        for row in (*numbers.rows, numbers.whole)
                    ],
                },
                indent=1,
            )
        )
        return DONE
    has_drawn = bool(numbers.whole.synthetic)
    header = ("procedure", "videos", *numbers.tasks, "total", "manual", *(("synthetic",) if has_drawn else ()))
    rows = [
        (
            row.procedure or "(none)" if row is not numbers.whole else "all",
            row.videos,
            *(row.samples.get(task, "–") for task in numbers.tasks),
            row.total,
            percent(row.manual_share),
            *((row.synthetic,) if has_drawn else ()),
        )
        for row in (*numbers.rows, numbers.whole)
    ]
    print(table(header, rows, right=range(1, len(header))))
    parts = {part: len(found.videos_of(part)) for part in ("train", "validation", "test")}
    print(
        f"\n{found.name} (version {found.version}), taxonomy {found.taxonomy!r} {found.taxonomy_digest}; videos: "
        + ", ".join(f"{count} {part}" for part, count in parts.items())
    )
    return DONE


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


def show_difference(options: argparse.Namespace) -> int:
    """Prints what B added and removed, by procedure, task, tag and source."""
    from halsted_ray.atlas import read_atlas
    from halsted_ray.atlas.census import difference
    from halsted_ray.cli.text_tables import table

    a, b = (read_atlas(options.atlas, at) for at in (options.a, options.b))
    found = difference(a, b)
    if options.json:
        print(json.dumps(asdict(found), indent=1))
        return DONE
    rows = [
        (name, value, f"−{gone}" if gone else "", f"+{new}" if new else "")
        for name, values in found.by.items()
        for value, (gone, new) in values.items()
    ]
    if rows:
        print(table(("by", "value", "removed", "added"), rows, right=(2, 3)) + "\n")
    print(
        f"{a.name} → {b.name}: {counted(found.added, 'sample')} added, {found.removed} removed, {found.unchanged} "
        "unchanged; "
        f"{counted(len(found.videos_added), 'video')} added, {len(found.videos_removed)} removed"
    )
    if a.taxonomy_digest != b.taxonomy_digest:
        print(f"the taxonomy changed: {a.taxonomy_digest} → {b.taxonomy_digest}")
    return DONE


def make_release(options: argparse.Namespace) -> int:
    """Makes the release and prints its size and parts."""
    from halsted_ray.atlas import read_atlas, release
    from halsted_ray.atlas.atlas_table import HEAD
    from halsted_ray.atlas.contents import drawn_videos
    from halsted_ray.atlas.verify import chapter_findings
    from halsted_ray.records import SYNTHETIC

    split = read_split(options.split) if options.split else None
    before = read_atlas(options.atlas, HEAD).split
    made = release(
        options.atlas,
        options.name,
        why=options.why,
        validation=options.validation,
        test=options.test,
        split=split,
        seed=options.seed,
        case_by=options.case_by,
    )
    parts = ", ".join(f"{len(made.videos_of(part))} {part}" for part in ("train", "validation", "test"))
    print(
        f"{made.release}: version {made.version}, {counted(len(made.clips), 'sample')} of "
        f"{counted(len(made.videos), 'video')} ({parts})"
    )
    if carved := [video_id for video_id, part in before.items() if made.split.get(video_id) != part]:
        learning = sum(part == "train" for part in before.values())
        print(
            f"{len(carved)} of the {counted(learning, 'video')} that the data set publishes for training validate "
            "now, because it "
            "has no validation part",
            file=sys.stderr,
        )
    if drawn := drawn_videos(made.clips):
        count_drawn = sum(clip.source == SYNTHETIC for clip in made.clips)
        print(
            f"{counted(count_drawn, 'synthetic sample')} of {counted(len(drawn), 'video')} only in the training part: "
            "what is drawn never validates or tests",
            file=sys.stderr,
        )
    for line in not_validated(made):
        print(line, file=sys.stderr)
    for finding in chapter_findings(made, "chapters" if options.case_by == "none" else options.case_by):
        print(finding.text, file=sys.stderr)
    if not made.videos_of("test"):
        print(
            "this release has no test videos, so no model can be judged or promoted on it; a video keeps its part in "
            "later releases, so add new videos and release with --test 0.2",
            file=sys.stderr,
        )
    return DONE


def not_validated(made: Atlas) -> list[str]:
    """What the training part of a release has and its validation part lacks, in sentences."""
    from halsted_ray.atlas.census import without_validation

    if not made.videos_of("validation"):
        return ["this release has no validation videos, so no model can be trained on it; give --validation 0.2"]
    lines = []
    for task, lacking in without_validation(made).items():
        if not lacking:
            lines.append(f"task {task!r} is learned without validation: no validation video has a sample of it")
            continue
        listed = ", ".join(f"{tag} {category}" for tag, category in lacking[:8])
        more = f" and {len(lacking) - 8} more" if len(lacking) > 8 else ""
        lines.append(f"task {task!r}: these categories are learned without validation: {listed}{more}")
    return lines


def read_split(file: str) -> dict[str, str]:
    """video_id → part, from a CSV file with these two columns. Raises AtlasError where it can't be read."""
    from halsted_ray.atlas.formats.recording import format_error, read_text

    reader = csv.DictReader(io.StringIO(read_text(file), newline=""))
    if not {"video_id", "part"} <= set(reader.fieldnames or ()):
        raise format_error(file, 1, reader.fieldnames, "a header with video_id and part")
    return {row["video_id"]: row["part"] for row in reader}


def verify_atlas(options: argparse.Namespace) -> int:
    """Prints one line per fault; exit code 3 where there is one."""
    from halsted_ray.atlas import read_atlas
    from halsted_ray.atlas.verify import verify

    found = read_atlas(options.atlas, options.release)
    findings = verify(found, with_files=not options.tables_only, case_by=options.case_by)
    for finding in findings:
        print(f"{finding.kind}: {finding.text}")
    what = f"{found.name}: {counted(len(found.clips), 'sample')} of {counted(len(found.videos), 'video')}"
    print(f"{what}, {counted(len(findings), 'fault')} found" if findings else f"{what}, no fault found")
    return NOT_ALL if findings else DONE


def export_release(options: argparse.Namespace) -> int:
    """Writes the files and prints their paths."""
    from halsted_ray.atlas import read_atlas
    from halsted_ray.atlas.imports import export_atlas

    for file in export_atlas(read_atlas(options.atlas, options.release), options.to, options.format, options.files):
        print(file)
    return DONE
