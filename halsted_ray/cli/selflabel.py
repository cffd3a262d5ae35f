"""``halsted self-label`` and ``halsted review``: their options, and what they print."""

from __future__ import annotations

import argparse
import json
import shlex
from typing import TYPE_CHECKING

from halsted_ray.cli.options import DONE, NOT_ALL, Commands, add_command, positive_int, share, share_above_0_below_1
from halsted_ray.cli.registry import MODEL_HELP, REGISTRY_HELP, registry_needs_version
from halsted_ray.cli.text_tables import counted, percent, table

if TYPE_CHECKING:
    from halsted_ray.records import JsonObject


def add_self_label(commands: Commands) -> None:
    """``halsted self-label``."""
    label = add_command(
        commands,
        "self-label",
        "let a model label videos, and add its sure labels to the atlas",
        label_videos,
        example="halsted self-label --atlas hospital --archive s3://hospital/archive \\\n"
        "    --model registry:halsted@champion --out labels --release hospital-v2",
        more="exit code: 0 done, 3 some videos failed, or the model did not pass the gate, 2 wrong use",
    )
    label.add_argument("--atlas", required=True, metavar="DIR", help="the archive that holds atlas/")
    label.add_argument(
        "--archive", required=True, metavar="DIR", help="the videos to label; annotated videos are skipped"
    )
    label.add_argument("--model", required=True, metavar="REF", help=MODEL_HELP)
    label.add_argument(
        "--out", required=True, metavar="DIR", help="where the maps and report.json are written; a second run continues"
    )
    add_thresholds(label)
    label.add_argument("--release", metavar="NAME", help="release the atlas under this name (default: no release)")
    label.add_argument("--registry", metavar="URI", help=REGISTRY_HELP)
    label.add_argument(
        "--encoder", metavar="REF", help="folder or URL of the model's encoder (default: as the model says)"
    )
    label.add_argument("--embeddings", metavar="DIR", help="where embeddings are kept (default: ATLAS/embeddings)")
    label.add_argument("--json", action="store_true", help="print the report as JSON")
    registry_needs_version(label)


def add_review(commands: Commands) -> None:
    """``halsted review``."""
    review = add_command(
        commands,
        "review",
        "write the most doubtful labels for a person to check",
        write_review,
        example="halsted review --atlas hospital --maps maps --out review.json",
        more="The file is a Label Studio project. Import the checked labels with "
        "`halsted atlas import DIR FILE --format label-studio`.",
    )
    review.add_argument("--atlas", required=True, metavar="DIR", help="the archive that holds atlas/")
    review.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="the tasks (JSON); the labelling interface (.xml) is written beside it",
    )
    review.add_argument(
        "--maps", metavar="OUT", help="the OUT of `halsted map`: also doubt labels that its maps contradict"
    )
    review.add_argument(
        "--clips", type=positive_int, default=50, metavar="N", help="write at most N clips (default 50)"
    )
    review.add_argument("--files", action="store_true", help="also write each video's file name, which may be private")


def add_thresholds(parser: argparse.ArgumentParser) -> None:
    """``--precision`` and ``--gate``, which decide which labels are kept."""
    parser.add_argument(
        "--precision",
        type=share_above_0_below_1,
        default=0.9,
        metavar="P",
        help="how many of the kept labels must be right: at least this share, with 90%% certainty, "
        "measured on the validation videos (default 0.9)",
    )
    parser.add_argument(
        "--gate",
        type=share,
        default=0.8,
        metavar="A",
        help="label nothing where the average accuracy over all tasks is lower (default 0.8)",
    )


def label_videos(options: argparse.Namespace) -> int:
    """Labels the videos and prints the report."""
    from halsted_ray.compute.progress import ProgressLine
    from halsted_ray.registry.references import resolve
    from halsted_ray.selflabel.self_label import self_label

    with ProgressLine() as line:
        report = self_label(
            options.atlas,
            options.archive,
            resolve(options.model, options.registry),
            options.out,
            precision=options.precision,
            gate=options.gate,
            release=options.release,
            encoder=options.encoder,
            embeddings=options.embeddings,
            observer=line,
        )
    print(json.dumps(report, indent=1) if options.json else report_text(report))
    return DONE if report["gate"]["passed"] and not set(report["videos"]) - {"mapped"} else NOT_ALL


def gate_table(gate: JsonObject) -> str:
    """Accuracy on the validation videos by task: of clips and windows alike, which the gate looks at, and of each."""
    rows = [
        (
            task,
            percent(value),
            *(percent(gate["units"][unit].get(task)) for unit in ("clips", "grid")),
        )
        for task, value in gate["tasks"].items()
    ]
    rows.append(("average", percent(gate["mean"]), "", ""))
    return table(("validation accuracy", "both", "clips", "windows"), rows, right=(1, 2, 3))


def report_text(report: JsonObject) -> str:
    """The report of a round: the gate, the labels that each threshold kept and dropped, and what the atlas gained."""
    gate = report["gate"]
    lines = [
        gate_table(gate),
        f"{'at least' if gate['passed'] else 'below'} the gate of {percent(gate['least'])}",
        *(f"caution: {caveat}" for caveat in report["caveats"]),
    ]
    if not gate["passed"]:
        return "\n".join([*lines, "nothing was labelled: annotate more videos and train again"])
    rows = [
        (
            name,
            "–" if own["threshold"] is None else f"{own['threshold']:.2f}",
            f"{own['validation']['right']}/{own['validation']['kept']}",
            own["said"],
            own["kept"],
            own["dropped"],
            own["clips"],
        )
        for name, own in report["actions"].items()
    ]
    header = ("action", "threshold", "right/kept", "windows", "kept", "dropped", "clips")
    validation, atlas = report["validation"], report["atlas"]
    lines += [
        "",
        table(header, rows, right=range(1, len(header))),
        "",
        f"thresholds: {percent(validation['precision'])} of the labels right with {percent(validation['certainty'])} "
        f"certainty,\n  measured on {counted(validation['windows'], 'window')} of "
        f"{counted(validation['videos'], 'validation video')}",
        f"skipped: {counted(report['elsewhere'], 'window')} of something else, as the model itself says",
        f"{counted(sum(report['videos'].values()), 'video')} labelled: "
        + (
            ", ".join(f"{count} {state}" for state, count in report["videos"].items())
            or "the model is sure enough of no action"
        ),
    ]
    if report["added"]:
        lines.append(f"of {counted(sum(own['kept'] for own in report['actions'].values()), 'kept window')}:")
        lines += [
            f"  {own['kept']:,} also get their {tag} ({least(own['threshold'])})"
            for tag, own in report["others"].items()
        ]
        added = ", ".join(f"{count:,} {task}" for task, count in report["added"].items())
        done = "added" if atlas["labelled"] != atlas["before"] else "already in the atlas"
        lines += [
            f"{done}: {added} samples, {report['labelled_s'] / 60:.1f} minutes",
            f"the atlas is at version {atlas.get('released_version', atlas['labelled'])}"
            + (f", release {atlas['released']}" if "released" in atlas else ""),
        ]
    else:
        lines.append("no label was added")
    return "\n".join(lines)


def least(threshold: float | None) -> str:
    """The least confidence at which a label is kept, in words."""
    return "the model is sure enough of none" if threshold is None else f"confidence {threshold:.2f} or more"


def write_review(options: argparse.Namespace) -> int:
    """Writes the clips to check, and lists the ten most doubtful."""
    from halsted_ray.selflabel.review import review

    doubts = review(options.atlas, options.out, maps=options.maps, most=options.clips, with_files=options.files)
    rows = [
        (
            doubt.clips[0].video_id,
            f"{doubt.clips[0].start_s:.1f}",
            f"{doubt.clips[0].stop_s:.1f}",
            f"{doubt.size:.2f}",
            f"{doubt.kind}: {doubt.why}",
        )
        for doubt in doubts[:10]
    ]
    print(table(("video", "from s", "to s", "doubt", "why"), rows, right=(1, 2, 3)))
    print(
        f"\n{counted(len(doubts), 'clip')} of "
        f"{counted(len({doubt.clips[0].video_id for doubt in doubts}), 'video')} to review. "
        f"After the review:\nhalsted atlas import {shlex.quote(options.atlas)} FILE --format label-studio"
    )
    return DONE
