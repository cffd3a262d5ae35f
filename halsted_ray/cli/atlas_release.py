"""``halsted atlas release``: the newest version gets a name, and its videos their parts."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from typing import TYPE_CHECKING

from halsted_ray.cli.options import DONE, Action, count, share_below_1
from halsted_ray.cli.text_tables import counted

if TYPE_CHECKING:
    from halsted_ray.atlas import Atlas

AT = "a release, a version's number, or head (the newest version)"


def add_release(action: Action) -> None:
    """``halsted atlas release``."""
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
    """video_id → part, from a CSV file with these two columns. Raises AtlasError where it can't be read, or gives one
    video two parts."""
    from halsted_ray.atlas.formats.recording import format_error, read_text

    reader = csv.DictReader(io.StringIO(read_text(file), newline=""))
    if not {"video_id", "part"} <= set(reader.fieldnames or ()):
        raise format_error(file, 1, reader.fieldnames, "a header with video_id and part")
    split: dict[str, str] = {}
    for row in reader:
        if split.setdefault(row["video_id"], row["part"]) != row["part"]:
            raise format_error(file, reader.line_num, row["part"], f"{split[row['video_id']]!r} as in a line before")
    return split
