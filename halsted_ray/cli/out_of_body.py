"""``halsted out-of-body``: its options, and what it prints."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict

from halsted_ray.cli.options import DONE, NOT_ALL, Commands, add_command, add_group, count, positive_int, seconds
from halsted_ray.cli.text_tables import counted, show_progress


def add_out_of_body(commands: Commands) -> None:
    """``halsted out-of-body ACTION``."""
    actions = add_group(
        commands,
        "out-of-body",
        "find when the camera is outside of the body, or train what finds it",
        example="halsted out-of-body find archive/case1.mp4",
    )
    find = add_command(
        actions,
        "find",
        "list the spans of videos in which the camera is outside of the body",
        find_spans,
        example="halsted out-of-body find archive/case1.mp4 --json",
        more="a person should look at the list; exit code: 3 where a video can't be read",
    )
    find.add_argument("files", metavar="FILE", nargs="+", help="videos: paths or URLs")
    find.add_argument("--detector", default="phantom", metavar="FILE", help="what `train` wrote (default: the shipped)")
    find.add_argument(
        "--pad", type=seconds, default=0.5, metavar="S", help="seconds added at both ends of a span (default 0.5)"
    )
    find.add_argument("--json", action="store_true", help="print everything as JSON")

    train = add_command(
        actions,
        "train",
        "train a detector on labelled videos, drawn pictures, or both",
        train_detector,
        example="halsted out-of-body train --atlas hospital --out detector.safetensors",
        more="labels: clips of the task out_of_body, of any taxonomy that has it; a video with such a clip counts as "
        "labelled whole",
    )
    train.add_argument("--out", required=True, metavar="FILE", help="the detector is written to this file")
    train.add_argument("--atlas", metavar="DIR", help="the place that holds atlas/ with the labels (default: none)")
    train.add_argument("--release", metavar="NAME", help="release of the atlas (default: the latest)")
    train.add_argument(
        "--drawn", type=count, default=30_000, metavar="N", help="drawn frames to train on as well (default 30000)"
    )
    train.add_argument("--epochs", type=positive_int, default=10, metavar="N", help="default 10")
    train.add_argument("--seed", type=count, default=0, metavar="N", help="another seed draws other frames (default 0)")


def find_spans(options: argparse.Namespace) -> int:
    """Prints the spans of each video, or why it can't be read."""
    from halsted_ray.deidentify.out_of_body import find_out_of_body
    from halsted_ray.deidentify.out_of_body_net import load_detector
    from halsted_ray.errors import VideoError

    detector, code = load_detector(options.detector), DONE
    for file in options.files:
        try:
            spans = find_out_of_body(file, detector=detector, pad_s=options.pad)
        except VideoError as error:
            code = NOT_ALL
            print(json.dumps({"file": file, "reason": str(error)}) if options.json else f"{file}: {error}")
            continue
        if options.json:
            print(json.dumps({"file": file, "spans": [asdict(span) for span in spans]}))
            continue
        total_s = sum(span.stop_s - span.start_s for span in spans)
        print(f"{file}: {len(spans)} spans, {total_s:.1f} s")
        for span in spans:
            print(f"  {span.start_s:10.3f} to {span.stop_s:10.3f} s  {span.reason}  {span.score:.3f}")
    return code


def train_detector(options: argparse.Namespace) -> int:
    """Trains, and prints what the detector finds of the validation videos."""
    from halsted_ray.deidentify.out_of_body_training import train_out_of_body

    done = train_out_of_body(
        options.out,
        atlas=options.atlas,
        release=options.release,
        drawn=options.drawn,
        epochs=options.epochs,
        seed=options.seed,
        workers=os.cpu_count() or 1,
        progress=lambda said: show_progress(said, False),
    )
    show_progress("", True)
    print(
        f"{options.out}: trained on {counted(done.frames, 'frame')} ({counted(done.videos, 'labelled video')}); "
        "of the validation videos' "
        f"seconds outside it finds {done.recall:.2%} at a precision of {done.precision:.2%} (thresholds "
        f"{done.detector.settings.threshold} and, at the edges, {done.detector.settings.edge_threshold})"
    )
    return DONE
