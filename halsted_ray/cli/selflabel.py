"""``halsted self-label`` and ``halsted review``: their options, and what they print."""

from __future__ import annotations

import argparse
import json
import shlex

from halsted_ray.cli.options import DONE, NOT_ALL, Commands, add_command, inner_share, positive_int, share
from halsted_ray.cli.registry import MODEL_HELP, REGISTRY_HELP, registry_needs_version
from halsted_ray.cli.text_tables import percent, table


def add_self_label(commands: Commands) -> None:
    """``halsted self-label``."""
    label = add_command(
        commands,
        "self-label",
        "let a model label videos that nobody annotated, and add what it is sure of to the atlas",
        label_videos,
        example="halsted self-label --atlas hospital --archive s3://hospital/archive \\\n"
        "    --model registry:halsted@champion --out labels --release hospital-v2",
        more="exit code: 0 done, 3 some videos failed, or the model did not pass the gate, 2 wrong use",
    )
    label.add_argument("--atlas", required=True, metavar="DIR", help="the archive that holds atlas/")
    label.add_argument("--archive", required=True, metavar="DIR", help="the videos to label; annotated ones are left")
    label.add_argument("--model", required=True, metavar="REF", help=MODEL_HELP)
    label.add_argument("--out", required=True, metavar="DIR", help="the 1-s maps and report.json; again: goes on")
    add_thresholds(label)
    label.add_argument("--release", metavar="NAME", help="name the grown atlas (default: it stays unnamed)")
    label.add_argument("--registry", metavar="URI", help=REGISTRY_HELP)
    label.add_argument("--encoder", metavar="REF", help="where its encoder lies (default: as the model says)")
    label.add_argument("--embeddings", metavar="DIR", help="where vectors are kept (default: <atlas>/embeddings)")
    label.add_argument("--json", action="store_true", help="print the report as JSON")
    registry_needs_version(label)


def add_review(commands: Commands) -> None:
    """``halsted review``."""
    review = add_command(
        commands,
        "review",
        "the labels that most need a person's eye, as a Label Studio project",
        write_review,
        example="halsted review --atlas hospital --maps maps --out review.json",
        more="The annotations come back with `halsted atlas import DIR FILE --format label-studio`.",
    )
    review.add_argument("--atlas", required=True, metavar="DIR", help="the archive that holds atlas/")
    review.add_argument("--out", required=True, metavar="FILE", help="tasks (JSON), the interface beside it (.xml)")
    review.add_argument("--maps", metavar="OUT", help="maps of `halsted map` that clips may disagree with")
    review.add_argument("--clips", type=positive_int, default=50, metavar="N", help="at most (default 50)")
    review.add_argument("--files", action="store_true", help="name the file of each video (it may be private)")


def add_thresholds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision",
        type=inner_share,
        default=0.9,
        metavar="P",
        help="share of an action's labels that is right with 90%% certainty, by the validation videos (default 0.9)",
    )
    parser.add_argument(
        "--gate",
        type=share,
        default=0.8,
        metavar="A",
        help="average accuracy over all tasks below which nothing is labelled (default 0.8)",
    )


def label_videos(options: argparse.Namespace) -> int:
    from halsted_ray.mapping.progress import ProgressLine
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


def report_text(report: dict) -> str:
    """What passed the gate, what was kept and dropped by which threshold, and what the atlas got."""
    gate = report["gate"]
    lines = [
        table(
            ("task", "validation accuracy"),
            [*((task, percent(value)) for task, value in gate["tasks"].items()), ("average", percent(gate["mean"]))],
            right=(1,),
        ),
        f"{'at least' if gate['passed'] else 'below'} the gate of {percent(gate['least'])}",
        *(f"caution: {caveat}" for caveat in report["caveats"]),
    ]
    if not gate["passed"]:
        return "\n".join([*lines, "nothing was labelled: annotate more, train again"])
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
        f"thresholds: {percent(validation['precision'])} right with {percent(validation['certainty'])} certainty, by "
        f"{validation['windows']:,} windows of {validation['videos']} videos",
        f"not asked: {report['elsewhere']:,} windows of another kind by the model's own word",
        f"{sum(report['videos'].values())} videos labelled: "
        + (", ".join(f"{count} {state}" for state, count in report["videos"].items()) or "no action is sure enough"),
    ]
    if report["added"]:
        lines.append(f"of {sum(own['kept'] for own in report['actions'].values()):,} kept windows these have more:")
        lines += [
            f"  {own['kept']:,} a trusted {tag} ({from_on(own['threshold'])})" for tag, own in report["others"].items()
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


def from_on(threshold: float | None) -> str:
    return "none is sure enough" if threshold is None else f"from {threshold:.2f} on"


def write_review(options: argparse.Namespace) -> int:
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
        f"\n{len(doubts)} clips of {len({doubt.clips[0].video_id for doubt in doubts})} videos in {options.out}; "
        f"reviewed: halsted atlas import {shlex.quote(options.atlas)} FILE --format label-studio"
    )
    return DONE
