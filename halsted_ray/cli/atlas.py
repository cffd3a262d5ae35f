"""``halsted atlas`` and its actions: import, list, show, search, diff, release, verify, export."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from halsted_ray.cli.atlas_import import add_import
from halsted_ray.cli.atlas_release import AT, add_release
from halsted_ray.cli.atlas_search import add_search
from halsted_ray.cli.options import DONE, NOT_ALL, Commands, Do, Parser, add_command, add_group
from halsted_ray.cli.text_tables import counted

EXIT_CODES = "exit code: 0 done, 3 some videos or samples were left out, or verify found a fault, 2 wrong use"


def add_atlas(commands: Commands) -> None:
    """``halsted atlas ACTION``."""
    purpose = "import annotations, freeze them as releases, check, export"
    actions = add_group(commands, "atlas", purpose, example="halsted atlas list hospital", more=EXIT_CODES)

    def action(name: str, purpose: str, do: Do, example: str) -> Parser:
        added = add_command(actions, name, purpose, do, example=f"halsted atlas {example}", more=EXIT_CODES)
        added.add_argument("atlas", metavar="ATLAS", help="folder or URL that holds atlas/")
        return added

    add_import(action)
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
    add_search(action)
    differing = action(
        "diff",
        "count the samples that B adds to A and removes from it",
        show_difference,
        "diff hospital hospital-v1 head",
    )
    differing.add_argument("a", metavar="A", help=AT)
    differing.add_argument("b", metavar="B", help="the same; B is compared with A")
    differing.add_argument("--json", action="store_true", help="print everything as JSON")
    add_release(action)
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
