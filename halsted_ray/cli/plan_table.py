"""Prints a plan in 80 columns: the answer first, then the rates and assumptions behind it."""

from __future__ import annotations

import textwrap

from halsted_ray.cli.text_tables import WIDTH, counted, table
from halsted_ray.compute.pools import CALLS_PER_GPU_ACTOR
from halsted_ray.compute.progress import amount
from halsted_ray.planning.batches import BATCH
from halsted_ray.planning.planner import Plan, PlanSetting
from halsted_ray.planning.rates import Rates
from halsted_ray.planning.survey import Survey

READER_NAMES = {"pyav": "without NVDEC", "auto": "with NVDEC and cores", "nvdec": "with NVDEC alone"}


def plan_table(
    found: Plan, setting: PlanSetting, rates: Rates, survey: Survey | None, has_example_price: bool = False
) -> str:
    """The plan as a table, and the rates behind it.

    ``survey`` is None where no archive was listed. ``has_example_price``: the price of a GPU is the example of
    ``rates``, and not the user's.
    """
    rows = [("wall time", duration(found.wall_s))]
    if setting.price_per_gpu_hour or setting.price_per_core_hour:
        per_hour = found.cost / (found.video_s / 3600)
        unit = f" {rates.prices.unit}" if has_example_price else ""
        rows.append(("cost", f"{amount(found.cost)}{unit} ({amount(per_hour, 3)} per video-hour)"))
    else:
        rows.append(("cost", "no price is known; give --price-per-gpu-hour or --price-per-core-hour"))
    if found.gpus:
        rate = found.video_s / 3600 / (found.stages_s[found.bottleneck] / 3600) / found.gpus
        rows.append(
            (
                "GPUs",
                f"{found.gpus} {setting.gpu}, {amount(found.gpu_hours, 1)} GPU-hours; "
                f"{amount(rate, 1)} video-hours per GPU-hour after the start",
            )
        )
        rows.append(
            (
                "cores",
                f"{found.cores}; {found.cores_per_gpu:.1f} cores per GPU keep each GPU busy"
                if found.cores_per_gpu
                else f"{found.cores}",
            )
        )
        rows.append(("cores per GPU", ", ".join(cores_lines(found))))
    else:
        rows.append(("cores", f"{found.cores}, no GPU"))
    rows += [
        ("core-hours", amount(found.core_hours, 1)),
        (
            "slowest stage",
            f"{found.bottleneck} (" + ", ".join(f"{name} {duration(s)}" for name, s in found.stages_s.items()) + ")",
        ),
        ("limited by", f"{found.limited_by}"),
        ("network", f"{found.network_gbit_s:.2g} Gbit/s read the archive in that time"),
        ("actors", f"{found.decoders} decode, {found.taggers} encode and predict"),
        ("memory", f"{found.memory_mb / 1000:,.1f} GB on all machines together"),
        ("video", video_line(found, survey)),
        ("segments", f"{found.segments:,} of {setting.segment_s:g} s, {counted(found.clips, 'clip')} to encode"),
        ("bytes read", size(found.read_bytes)),
        ("storage", f"embeddings {size(found.vector_bytes)}, tables {size(found.table_bytes)}"),
    ]
    lines = rate_lines(found, setting, rates)
    if has_example_price:
        source = rates.gpu(setting.gpu).price_source
        lines.append(
            f"price: an example, {setting.price_per_gpu_hour:g} {rates.prices.unit} per hour of one {setting.gpu} "
            f"({source}, list price read {rates.prices.read_on}); it may hold fewer cores than these; give "
            "--price-per-gpu-hour and --price-per-core-hour"
        )
    notes = ["\n".join(textwrap.wrap(line, WIDTH, subsequent_indent="  ")) for line in lines]
    return "\n".join([table(("what", "how much"), rows), "", *notes])


def cores_lines(found: Plan) -> list[str]:
    """How many cores keep a GPU busy with each reader."""
    return [
        f"{cores:.1f} {READER_NAMES[reader]}" if cores else f"{READER_NAMES[reader]}: never enough"
        for reader, cores in found.cores_per_gpu_by_reader.items()
    ]


def rate_lines(found: Plan, setting: PlanSetting, rates: Rates) -> list[str]:
    """The rates behind a plan, and what each rests on."""
    decode, encode = found.decode_rate, found.encode_rate
    speed = rates.fidelity_speed[setting.fidelity]
    lines = [
        f"decoding: {decode.frames_per_core_s:,.0f} frames per core-second of {decode.codec} "
        f"{decode.width}x{decode.height}, {decode.source} on {decode.hardware}"
        + (f"; {speed:g} times that at fidelity {setting.fidelity} (measured)" if speed != 1 else "")
    ]
    if found.gpus:
        gpu = rates.gpu(setting.gpu)
        per_s = rates.nvdec.frames_per_s(gpu.nvdec_generation, decode.codec)
        if per_s:
            lines.append(
                f"NVDEC: {gpu.nvdec_engines * per_s:,.0f} frames/s of {decode.codec} 1920x1080 on the "
                f"{gpu.nvdec_engines} engines of one {setting.gpu}, derived: {rates.nvdec.reached:.0%} of the "
                f"published {per_s / rates.nvdec.reached:,.0f} per engine ({rates.nvdec.reference})"
            )
        else:
            lines.append(f"NVDEC: no rate for {decode.codec}, which cores decode")
    lines.append(
        f"encoding: {encode.clips_per_s:,.1f} clips/s with {encode.preset} in {encode.precision}, {encode.source} "
        f"({encode.hardware})"
    )
    if found.gpus:
        lines.append(f"start: {rates.gpu_start_s:g} s until a GPU has work, measured with the giant on an H100")
        how = (
            "as given"
            if setting.useful_share
            else "as the earlier run"
            if rates.useful_share
            else f"calculated for batches of {BATCH} that are filled from {CALLS_PER_GPU_ACTOR} segments"
        )
        lines.append(f"batches: {found.useful_share:.0%} of the clips that a GPU computes are needed, {how}")
    lines.append(
        f"assumed: one window of {setting.window_s:g} s after another"
        if setting.window_s
        else f"assumed: {setting.looked_at:.0%} of the video is also mapped in fine windows"
    )
    return lines


def video_line(found: Plan, survey: Survey | None) -> str:
    """How much video there is, and how that is known."""
    hours = f"{amount(found.video_s / 3600)} video-hours"
    if survey is None:
        return f"{hours}, as given"
    if survey.is_whole:
        bad = len(survey.probed) - len(survey.mapped)
        return f"{hours} in {counted(survey.files, 'file')}" + (f", {bad} of them can't be mapped" if bad else "")
    _, low_s, high_s = survey.video_s()
    return (
        f"{hours} ({amount(low_s / 3600, 0)} to {amount(high_s / 3600, 0)}, 19 times of 20) in "
        f"{counted(survey.files, 'file')}, "
        f"from {len(survey.probed)} of them picked at random"
    )


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.4 h``, ``5.1 days``"""
    for least, unit, name in ((2 * 86400, 86400, "days"), (2 * 3600, 3600, "h"), (120, 60, "min")):
        if seconds >= least:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"


def size(count: float) -> str:
    """A number of bytes as ``512 B``, ``1.2 GB``; 1 kB is 1,000 B."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
