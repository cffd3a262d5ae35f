"""``halsted out-of-body``: its options, and what it prints."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict

from halsted_ray.cli.options import (
    DONE,
    NOT_ALL,
    Commands,
    add_command,
    add_group,
    count,
    only_with,
    positive,
    positive_int,
    seconds,
)
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
        example="halsted out-of-body find archive/case1.mp4 --json\n"
        "  halsted out-of-body find --vectors vectors --head head.safetensors",
        more="a person should look at the list; exit code: 3 where a video can't be read, or has time that nothing "
        "judged. With --vectors nothing is decoded, and edges are no finer than the windows",
    )
    find.add_argument("files", metavar="FILE", nargs="*", help="videos: paths or URLs")
    find.add_argument("--detector", default="phantom", metavar="FILE", help="what `train` wrote (default: the shipped)")
    find.add_argument(
        "--vectors",
        metavar="PLACE",
        help="judge all videos whose vectors lie here, by these alone: what `halsted embed` or `halsted map` wrote",
    )
    find.add_argument("--head", metavar="FILE", help="with --vectors: what `train --vectors` or `--encoder` wrote")
    find.add_argument(
        "--frames",
        action="store_true",
        help="with --vectors: open the videos with spans outside, and move the edges of these to the frame",
    )
    find.add_argument(
        "--pad", type=seconds, default=0.5, metavar="S", help="seconds added at both ends of a span (default 0.5)"
    )
    find.add_argument("--json", action="store_true", help="print everything as JSON")
    only_with(find, "--head", "--frames", when=lambda given: given.vectors is not None, needs="--vectors")
    only_with(find, "--detector", when=lambda given: given.vectors is None or given.frames, needs="videos, or --frames")

    train = add_command(
        actions,
        "train",
        "train a detector on labelled videos, drawn pictures, or both",
        train_detector,
        example="halsted out-of-body train --atlas hospital --out detector.safetensors\n"
        "  halsted out-of-body train --atlas hospital --vectors vectors --out head\n"
        "  halsted out-of-body train --encoder tiny --every 0.5 --out head.safetensors",
        more="labels: clips of the task out_of_body, of any taxonomy that has it; a video with such a clip counts as "
        "labelled whole",
    )
    train.add_argument("--out", required=True, metavar="FILE", help="the detector is written to this file")
    train.add_argument("--atlas", metavar="DIR", help="the place that holds atlas/ with the labels (default: none)")
    train.add_argument("--release", metavar="NAME", help="release of the atlas (default: the latest)")
    train.add_argument(
        "--drawn",
        type=count,
        metavar="N",
        help="drawn frames to train on as well (default 30000); for a head: drawn phantoms of 30 s (default 240 with "
        "--encoder, else none)",
    )
    train.add_argument("--epochs", type=positive_int, metavar="N", help="default 10; for a head 30")
    train.add_argument("--seed", type=count, default=0, metavar="N", help="another seed draws other frames (default 0)")
    train.add_argument(
        "--vectors",
        metavar="STORE",
        help="train a head on the stored vectors of the atlas's videos, and decode nothing",
    )
    train.add_argument(
        "--encoder", metavar="REF", help="train a head on phantoms that go through this encoder: tiny, or a folder"
    )
    train.add_argument(
        "--every",
        type=positive,
        metavar="S",
        help="for a head: windows of S seconds, as of `halsted embed --every` (default: the windows that are stored, "
        "else those of 2.5 s)",
    )
    only_with(
        train,
        "--every",
        when=lambda given: given.vectors is not None or given.encoder is not None,
        needs="--vectors or --encoder",
    )
    only_with(train, "--vectors", when=lambda given: given.atlas is not None, needs="--atlas, which has the labels")
    only_with(
        train,
        "--atlas",
        when=lambda given: given.encoder is None or given.vectors is not None,
        needs="--vectors beside --encoder",
    )


def find_spans(options: argparse.Namespace) -> int:
    """Prints the spans of each video, or why it can't be read."""
    from halsted_ray.deidentify.out_of_body import find_out_of_body
    from halsted_ray.deidentify.out_of_body_net import load_detector
    from halsted_ray.errors import UsageError, VideoError

    if bool(options.files) == (options.vectors is not None):
        raise UsageError("got both videos and --vectors, or neither; name videos, or one place with vectors")
    if options.vectors is not None:
        return find_in_vectors(options)
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


def find_in_vectors(options: argparse.Namespace) -> int:
    """Prints the spans of each video of a store of vectors, and how much of the archive is outside."""
    from halsted_ray.deidentify.out_of_body_head import load_head
    from halsted_ray.deidentify.out_of_body_net import load_detector
    from halsted_ray.errors import UsageError
    from halsted_ray.mapping.out_of_body_archive import outside_of_archive

    if options.head is None:
        raise UsageError(
            "--vectors needs a head that knows these vectors: give --head, from `halsted out-of-body train`"
        )
    detector = load_detector(options.detector) if options.frames else None
    videos, total_s, outside_s, unjudged_s, unjudged = 0, 0.0, 0.0, 0.0, 0
    for one in outside_of_archive(
        options.vectors, load_head(options.head), pad_s=options.pad, frames=options.frames, detector=detector
    ):
        videos, total_s = videos + 1, total_s + one.duration_s
        outside_s, unjudged_s = outside_s + one.outside_s, unjudged_s + one.unjudged_s
        unjudged += not one.is_judged
        if options.json:
            print(json.dumps(asdict(one) | {"outside_s": one.outside_s, "unjudged_s": one.unjudged_s}))
            continue
        print(
            f"{one.video_id}: {one.outside_s:.1f} s of {one.duration_s:.1f} s outside"
            + (f", {one.unjudged_s:.1f} s without vectors" if one.unjudged_s else "")
            + ("" if one.is_whole else ", end unknown")
            + (f"; {one.reason}" if one.reason else "")
        )
        for span in one.spans:
            print(f"  {span.start_s:10.3f} to {span.stop_s:10.3f} s  {span.reason}  {span.score:.3f}")
    if not options.json:
        print(
            f"{counted(videos, 'video')}, {total_s / 3600:.2f} h: {outside_s / 3600:.2f} h outside, "
            f"{unjudged_s / 3600:.2f} h without vectors; {counted(unjudged, 'video')} not judged whole"
        )
    return NOT_ALL if unjudged else DONE


def train_head(options: argparse.Namespace) -> int:
    """Trains a head over vectors, and prints what it finds of the validation videos."""
    from halsted_ray.deidentify.out_of_body_head_training import DRAWN_VIDEOS, EPOCHS, train_on_vectors
    from halsted_ray.mapping.embed_archive import regular_windows
    from halsted_ray.mapping.out_of_body_archive import the_store

    spec = regular_windows(options.every) if options.every is not None else None
    store, source = the_store(options.vectors, options.encoder, spec) if options.vectors is not None else (None, None)
    drawn = options.drawn if options.drawn is not None else DRAWN_VIDEOS if options.encoder else 0
    done = train_on_vectors(
        options.out,
        store=store,
        source=source,
        atlas=options.atlas,
        release=options.release,
        encoder=options.encoder,
        spec=spec,
        drawn=drawn,
        epochs=options.epochs or EPOCHS,
        seed=options.seed,
        workers=os.cpu_count() or 1,
        progress=lambda said: show_progress(said, False),
    )
    show_progress("", True)
    settings, source = done.head.settings, done.head.source
    print(
        f"{options.out}: for windows of {source.window_s:g} s of the encoder {source.fingerprint}, trained on "
        f"{settings.trained_on}; of the validation videos' seconds outside it finds {done.recall:.2%} at a precision "
        f"of {done.precision:.2%} (thresholds {settings.threshold} and, at the edges, {settings.edge_threshold})"
    )
    if done.without_vectors:
        print(
            f"{counted(len(done.without_vectors), 'labelled video')} without these vectors left out: "
            + ", ".join(done.without_vectors[:5])
            + (" …" if len(done.without_vectors) > 5 else "")
        )
    return NOT_ALL if done.without_vectors else DONE


def train_detector(options: argparse.Namespace) -> int:
    """Trains, and prints what the detector finds of the validation videos."""
    from halsted_ray.deidentify.out_of_body_training import DRAWN, EPOCHS, train_out_of_body

    if options.vectors is not None or options.encoder is not None:
        return train_head(options)
    done = train_out_of_body(
        options.out,
        atlas=options.atlas,
        release=options.release,
        drawn=DRAWN if options.drawn is None else options.drawn,
        epochs=options.epochs or EPOCHS,
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
