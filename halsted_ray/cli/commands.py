"""One function a command: options in, a library call, what a person wants to know, exit code."""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import sys
import time
from collections import Counter
from dataclasses import asdict
from functools import partial

from halsted_ray.cli.atlas import atlas  # noqa: F401  a command as those below
from halsted_ray.cli.evaluate import evaluate  # noqa: F401  likewise
from halsted_ray.cli.options import DONE, NOT_ALL
from halsted_ray.cli.registry import lineage, registry  # noqa: F401  likewise
from halsted_ray.cli.selflabel import review, self_label  # noqa: F401  likewise
from halsted_ray.cli.text_tables import WIDTH, accuracy_table, failures, show_progress, status_table, table
from halsted_ray.errors import UsageError


def phantom(options: argparse.Namespace) -> int:
    from halsted_ray.atlas.phantom_archive import write_archive

    width, height = options.size
    started_s = time.monotonic()
    written = write_archive(
        options.archive,
        options.videos,
        options.minutes,
        options.seed,
        width=width,
        height=height,
        fps=options.fps,
        test=options.test,
        progress=lambda done, of: show_progress(f"{done} of {of} videos written", done == of),
    )
    video_s = sum(video.duration_s for video in written.videos)
    print(
        f"{len(written.videos)} videos, {video_s / 60:.1f} minutes, {len(written.clips)} annotated clips, "
        f"release {written.release} in {options.archive} ({time.monotonic() - started_s:.0f} s)"
    )
    return DONE


def train(options: argparse.Namespace) -> int:
    from halsted_ray.training.epoch_display import EpochLine
    from halsted_ray.training.recipe import RECIPES, changed

    if options.recipe not in RECIPES:
        raise UsageError(f"unknown recipe {options.recipe!r}; expected one of {', '.join(RECIPES)}")
    recipe = changed(RECIPES[options.recipe], options.set)
    train, place = trainer(options.registry)
    summary, version = train(
        options.atlas,
        options.out,
        recipe,
        encoder=options.encoder,
        release=options.release,
        embeddings=options.embeddings,
        workers=options.workers,
        use_gpu=options.gpu,
        on_epoch=EpochLine(recipe.epochs),
        on_embed=lambda done_s, all_s: show_progress(
            f"embedded {done_s / 60:.1f} of {all_s / 60:.1f} video-minutes", done_s >= all_s
        ),
    )
    if options.json:
        print(json.dumps(asdict(summary) | {"registered": version and version.number}, indent=1))
        return DONE
    rows = [(task, "–" if value is None else f"{value:.3f}") for task, value in summary.accuracy_of_task.items()]
    print(table(("task", "validation accuracy"), rows, right=(1,)))
    print(
        f"model {summary.model} version {summary.model_version}, {summary.parameters:,} parameters, "
        f"epoch {summary.best_epoch + 1} of {summary.epochs}\natlas {summary.atlas_release} "
        f"(version {summary.atlas_version}); embedding {summary.embed_s:.0f} s, training {summary.train_s:.0f} s"
    )
    if version:
        print(f"version {version.number} of the registry {place}")
    return DONE


def trainer(uri: str | None):
    """(a function that trains and gives its summary and its version in the registry, the registry's place); with
    'none' the version is None."""
    if uri == "none":
        from halsted_ray.training.train import train

        return lambda *arguments, **options: (train(*arguments, **options), None), ""
    from halsted_ray.registry.model_registry import Registry, shown
    from halsted_ray.registry.tracking import train_tracked

    opened = Registry(uri)
    return partial(train_tracked, opened), shown(opened.uri)


def map(options: argparse.Namespace) -> int:
    from halsted_ray.compute.resources import ResourceRequest
    from halsted_ray.mapping.pipeline import map_archive
    from halsted_ray.mapping.progress import ProgressLine, amount
    from halsted_ray.registry.resolve import resolve

    model = resolve(options.model, options.registry)
    workers = ResourceRequest(priority=options.priority, wait_for=(options.wait_for_cpus, options.wait_for_gpus))
    with ProgressLine() as line:
        summary = map_archive(
            options.archive,
            options.out,
            model,
            options.task,
            options.instruction,
            encoder=options.encoder,
            embeddings=options.embeddings,
            fidelity=options.fidelity,
            retry_failed=options.retry_failed,
            workers=workers,
            watch=line,
        )
    if listed := failures(summary.videos):
        print(f"{listed}\n")
    print_counts(summary.videos, options.out)
    print(
        f"{summary.segments_before} segments done before, {summary.segments_decoded} decoded, "
        f"{summary.segments_from_vectors} from stored vectors, {summary.segments_failed} failed"
    )
    if summary.video_s:  # else there was nothing to do, and no rate
        rate = summary.video_s / summary.wall_s
        print(
            f"{amount(summary.video_s / 3600)} video-hours in {summary.wall_s:.0f} s, "
            f"{amount(rate, 1)} video-hours an hour"
        )
    return summary.exit_code


def plan(options: argparse.Namespace) -> int:
    from halsted_ray.cli.plan_table import plan_table
    from halsted_ray.planning.planner import PlanSetting, plan, typical_hour
    from halsted_ray.planning.rates import Rates, measured
    from halsted_ray.planning.survey import survey

    if (options.archive is None) == (options.hours is None):
        raise UsageError("expected an archive or --hours, one of both")
    if options.measure:
        try:
            with open(options.measure, "w") as file:
                json.dump(measured(options.preset), file, indent=1)
        except OSError as error:
            raise UsageError(f"can't write {options.measure!r}: {error.strerror}; name another file") from None
    setting = PlanSetting(
        options.gpus,
        options.gpu,
        options.cores_per_gpu * options.gpus
        if options.cores_per_gpu and options.gpus
        else options.cores or (None if options.gpus else os.cpu_count()),
        options.preset,
        options.share_of_peak,
        options.looked_at,
        price_per_gpu_hour=options.price_per_gpu_hour,
        price_per_core_hour=options.price_per_core_hour,
    )
    rates = Rates.load(options.rates or options.measure)
    found = None
    if options.archive is None:
        # In videos of an hour, the last of which may be shorter.
        videos, count, video_s = [typical_hour()], math.ceil(options.hours), 3600 * options.hours
    else:
        found = survey(options.archive, options.sample)
        videos, count, video_s = found.mapped, found.files, found.video_s()[0]
    planned = plan(videos, count, video_s, rates, setting)
    if options.json:
        interval = found and dict(zip(("video_s", "least_s", "most_s"), found.video_s(), strict=True))
        print(
            json.dumps(
                {
                    **planned.asdict(),
                    "setting": asdict(setting),
                    "survey": found and {"files": found.files, "probed": len(found.probed), **interval},
                },
                indent=1,
            )
        )
    else:
        print(plan_table(planned, setting, found))
    return DONE


def status(options: argparse.Namespace) -> int:
    from halsted_ray.maps.status import status_of

    videos = status_of(options.out)
    if options.json:
        print(json.dumps(videos, indent=1))
    else:
        print(f"{status_table(videos)}\n")
        print_counts(videos, options.out)
        if options.files:
            print("\n" + table(("video", "file"), [(video["video_id"], video["uri"]) for video in videos]))
    return NOT_ALL if any(video["status"] in ("partial", "failed") for video in videos) else DONE


def print_counts(videos: list[dict], out: str) -> None:
    from halsted_ray.mapping.progress import amount

    counts = Counter(video["status"] for video in videos)
    hours = sum(video["duration_s"] or 0 for video in videos) / 3600
    print(
        f"{len(videos):,} videos, {amount(hours)} video-hours: "
        + ", ".join(f"{count:,} {name}" for name, count in counts.most_common())
    )
    if counts["failed"] or counts["partial"]:
        print(f"why in full, and which file: halsted status {shlex.quote(out)} --files")


def show(options: argparse.Namespace) -> int:
    from halsted_ray.report.lanes import timeline
    from halsted_ray.report.report_data import read_report_data
    from halsted_ray.report.terminal import clock, draw, rows_table

    material = read_report_data(options.out, options.truth, options.taxonomy)
    video = material.find(options.video)
    video_id = video["video_id"]
    drawn = timeline(video, material.rows_of(video_id), material.truth_of(video_id), material.taxonomy)
    print(f"{video_id}  {video['status']}  {clock(drawn.duration_s)}  {video['reason'] or ''}".rstrip())
    if drawn.lanes or drawn.gaps:
        print(f"\n{draw(drawn, WIDTH)}\n\n{rows_table(drawn, WIDTH, options.rows or None)}")
    return DONE


def export(options: argparse.Namespace) -> int:
    from halsted_ray.maps.exports import export
    from halsted_ray.maps.reading import read_timeline
    from halsted_ray.maps.status import status_of

    videos, rows = status_of(options.out), read_timeline(options.out)
    whole = [video["video_id"] for video in videos if video["status"] in ("mapped", "partial")]
    written = export(rows, options.to, options.format, whole)
    others = [video["video_id"] for video in videos if video["video_id"] not in whole]
    shown = set(rows["video_id"].to_pylist())
    earlier, left_out = [own for own in others if own in shown], [own for own in others if own not in shown]
    print(f"{len(written)} files in {options.to}")
    if earlier:
        print(f"with an earlier run's answers, since the last is not finished: {', '.join(earlier)}", file=sys.stderr)
    if left_out:
        print(f"without a file, since nothing of them is mapped: {', '.join(left_out)}", file=sys.stderr)
    return DONE


def report(options: argparse.Namespace) -> int:
    from halsted_ray.report.map_page import write_html
    from halsted_ray.report.summary import report

    if options.json:
        print(json.dumps(report(options.out, options.truth, options.taxonomy), indent=1))
        return DONE
    to = options.to or f"{options.out.rstrip('/')}/report.html"
    figures = write_html(options.out, to, options.truth, options.taxonomy)
    if figures["accuracy"]:
        print(accuracy_table(figures["accuracy"]) + "\n")
    print(to)
    return DONE
