"""``halsted plan``: its options, and what it prints."""

from __future__ import annotations

import argparse
import json
import math
import os
from dataclasses import asdict

from halsted_ray.cli.options import (
    DONE,
    Commands,
    add_command,
    count,
    only_with,
    positive,
    positive_int,
    positive_share,
    price,
    share,
)
from halsted_ray.errors import UsageError


def add_plan(commands: Commands) -> None:
    """``halsted plan``."""
    plan = add_command(
        commands,
        "plan",
        "estimate the time, cores, memory, storage and cost of mapping",
        plan_run,
        example="halsted plan s3://hospital/archive --gpus 4 --price-per-gpu-hour 3.50",
        more="The command maps nothing. The plan says which rates were measured, published or derived, and how.",
    )
    plan.add_argument("archive", metavar="ARCHIVE", nargs="?", help="folder or URL with videos (or give --hours)")
    plan.add_argument("--hours", type=positive, metavar="H", help="plan for H hours of 1080p30 H.264 video instead")
    how_many = plan.add_mutually_exclusive_group()
    how_many.add_argument("--gpus", type=count, metavar="N", help="number of GPUs (default 1; 0: only CPUs)")
    how_many.add_argument(
        "--deadline", type=positive, metavar="H", help="find the number of GPUs that are done within H hours"
    )
    plan.add_argument(
        "--gpu",
        default="H200",
        metavar="NAME",
        help="kind of GPU: H200 (default), H100, A100, L40S, L4, A10, A4000, T4",
    )
    plan.add_argument(
        "--cores",
        type=positive_int,
        metavar="N",
        help="CPU cores of the whole cluster (default without GPUs: this machine's)",
    )
    plan.add_argument(
        "--cores-per-gpu", type=positive_int, metavar="N", help="CPU cores per GPU (default: enough to keep a GPU busy)"
    )
    plan.add_argument(
        "--preset", default="giant", help="the encoder's size: giant (default), large, base, tiny (ships)"
    )
    plan.add_argument(
        "--precision", default="bf16", metavar="NAME", help="what a GPU encodes in: bf16 (default) or fp8"
    )
    plan.add_argument(
        "--share-of-peak",
        type=positive_share,
        metavar="S",
        help="where a GPU's rate is estimated: share of its peak that is reached (default 0.49)",
    )
    plan.add_argument(
        "--useful-share",
        type=positive_share,
        metavar="S",
        help="clips needed, as a share of the clips that a GPU computes (default: batches filled from 8 segments)",
    )
    plan.add_argument(
        "--looked-at",
        type=share,
        metavar="S",
        help="share of the video that is also mapped in fine windows (default 0.5)",
    )
    plan.add_argument(
        "--window",
        type=positive,
        metavar="SECONDS",
        help="one vector per window of this length, instead of the model's windows",
    )
    plan.add_argument(
        "--fidelity",
        default="reference",
        metavar="NAME",
        help="how frames are decoded: exact, reference (default) or keyframes (fastest)",
    )
    plan.add_argument(
        "--reader",
        default="pyav",
        metavar="NAME",
        help="what decodes: pyav (default: cores), nvdec (the GPU's decoders) or auto (both at once)",
    )
    plan.add_argument(
        "--network", type=positive, metavar="GBIT", help="Gbit/s at which the archive can be read (default: no limit)"
    )
    plan.add_argument(
        "--price-per-gpu-hour",
        type=price,
        metavar="P",
        help="in any currency (default: an example in USD, where one is known)",
    )
    plan.add_argument("--price-per-core-hour", type=price, default=0.0, metavar="P", help="in the same currency")
    plan.add_argument(
        "--sample",
        type=positive_int,
        default=100,
        metavar="N",
        help="probe at most N files, picked at random (default 100)",
    )
    source = plan.add_mutually_exclusive_group()
    source.add_argument("--rates", metavar="PLACE", help="a JSON file of measured rates, or the OUT of an earlier run")
    source.add_argument(
        "--measure", metavar="FILE", help="first measure this machine (a minute), and write its rates to FILE"
    )
    plan.add_argument("--json", action="store_true", help="print everything as JSON")
    only_with(
        plan,
        *("--gpu", "--cores-per-gpu", "--share-of-peak", "--price-per-gpu-hour"),
        *("--precision", "--useful-share", "--reader"),
        when=lambda given: given.gpus != 0,
        needs="--gpus 1 or more",
    )
    only_with(plan, "--looked-at", when=lambda given: not given.window, needs="the model's windows, and not --window")
    only_with(
        plan,
        "--cores",
        when=lambda given: not (given.cores_per_gpu and given.gpus != 0),
        needs="a plan without --cores-per-gpu, which already gives the number of cores",
    )
    only_with(plan, "--sample", when=lambda given: given.archive, needs="an ARCHIVE, from whose files it picks")


def plan_run(options: argparse.Namespace) -> int:
    """Prints the plan of one run; writes this machine's rates where --measure names a file."""
    from halsted_ray.cli.plan_table import plan_table
    from halsted_ray.planning.measure import measured
    from halsted_ray.planning.planner import PlanSetting, plan, plan_for_deadline, typical_hour
    from halsted_ray.planning.rates import DERIVED, Rates
    from halsted_ray.planning.survey import survey

    if (options.archive is None) == (options.hours is None):
        raise UsageError("got both an ARCHIVE and --hours, or neither; expected one: halsted plan ARCHIVE")
    if options.measure:
        try:
            with open(options.measure, "w") as file:
                json.dump(measured(options.preset), file, indent=1)
        except OSError as error:
            raise UsageError(f"can't write {options.measure!r}: {error.strerror}; name another file") from None
    rates = Rates.load(options.rates or options.measure)
    gpus = 1 if options.gpus is None else options.gpus
    example = rates.gpu(options.gpu).price_per_hour if gpus and options.price_per_gpu_hour is None else None
    setting = PlanSetting(
        gpus,
        options.gpu,
        options.cores_per_gpu * gpus
        if options.cores_per_gpu and gpus
        else options.cores or (None if gpus else os.cpu_count()),
        options.preset,
        options.precision,
        options.share_of_peak or PlanSetting.share_of_peak,
        options.useful_share,
        PlanSetting.looked_at if options.looked_at is None else options.looked_at,
        options.window,
        fidelity=options.fidelity,
        reader=options.reader,
        network_gbit_s=options.network,
        price_per_gpu_hour=example or options.price_per_gpu_hour or 0.0,
        price_per_core_hour=options.price_per_core_hour,
    )
    found = None
    if options.archive is None:
        # Counted in videos of an hour, of which the last may be shorter.
        videos, count, video_s = [typical_hour()], math.ceil(options.hours), 3600 * options.hours
    else:
        found = survey(options.archive, options.sample)
        videos, count, video_s = found.mapped, found.files, found.video_s()[0]
    if options.deadline:
        planned, setting = plan_for_deadline(
            videos, count, video_s, rates, setting, 3600 * options.deadline, options.cores_per_gpu
        )
    else:
        planned = plan(videos, count, video_s, rates, setting)
    if options.share_of_peak and planned.encode_rate.source != DERIVED:
        raise UsageError(
            f"--share-of-peak needs a GPU whose rate is estimated, and the rate of {options.preset} on {options.gpu} "
            "was measured; leave the option out"
        )
    if options.json:
        print(
            json.dumps(
                {
                    **planned.asdict(),
                    "setting": asdict(setting),
                    "survey": found
                    and {
                        "files": found.files,
                        "probed": len(found.probed),
                        **dict(zip(("video_s", "least_s", "most_s"), found.video_s(), strict=True)),
                    },
                },
                indent=1,
            )
        )
    else:
        print(plan_table(planned, setting, rates, found, has_example_price=example is not None))
    return DONE
