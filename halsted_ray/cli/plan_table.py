"""Prints a plan in 80 columns: the answer first, then the rates and assumptions behind it."""

from __future__ import annotations

import textwrap

from halsted_ray.cli.text_tables import WIDTH, table
from halsted_ray.compute.progress import amount
from halsted_ray.planning.planner import Plan, PlanSetting
from halsted_ray.planning.rates import ESTIMATED
from halsted_ray.planning.survey import Survey


def plan_table(found: Plan, setting: PlanSetting, survey: Survey | None) -> str:
    """The plan as a table, and the rates behind it; ``survey`` is None where no archive was listed."""
    rows = [("wall time", duration(found.wall_s))]
    if setting.price_per_gpu_hour or setting.price_per_core_hour:
        per_hour = found.cost / (found.video_s / 3600)
        rows.append(("cost", f"{amount(found.cost)} ({amount(per_hour, 3)} per video-hour)"))
    if found.gpus:
        rows.append(("GPUs", f"{found.gpus} {setting.gpu}, {amount(found.gpu_hours, 1)} GPU-hours"))
        rows.append(("cores", f"{found.cores}; {found.cores_per_gpu:.1f} cores per GPU keep each GPU busy"))
    else:
        rows.append(("cores", f"{found.cores}, no GPU"))
    rows += [
        ("core-hours", amount(found.core_hours, 1)),
        (
            "slowest stage",
            f"{found.bottleneck} (" + ", ".join(f"{name} {duration(s)}" for name, s in found.stages_s.items()) + ")",
        ),
        ("actors", f"{found.decoders} decode, {found.taggers} encode and predict"),
        ("memory", f"{found.memory_mb / 1000:,.1f} GB on all machines together"),
        ("video", video_line(found, survey)),
        ("segments", f"{found.segments:,} of {setting.segment_s:g} s, {found.clips:,} clips to encode"),
        ("bytes read", size(found.read_bytes)),
        ("storage", f"embeddings {size(found.vector_bytes)}, tables {size(found.table_bytes)}"),
    ]
    decode, encode = found.decode_rate, found.encode_rate
    lines = [
        f"decoding: {decode.frames_per_core_s:,.0f} frames per core-second of {decode.codec} "
        f"{decode.width}x{decode.height}, {decode.source} on {decode.hardware}",
        f"encoding: {encode.clips_per_s:,.1f} clips/s with {encode.preset}, {encode.source} ({encode.hardware})"
        + ("; no GPU of this kind was measured" if encode.source == ESTIMATED and found.gpus else ""),
        f"assumed: {setting.looked_at:.0%} of the video is also mapped in fine windows",
    ]
    notes = ["\n".join(textwrap.wrap(line, WIDTH, subsequent_indent="  ")) for line in lines]
    return "\n".join([table(("what", "how much"), rows), "", *notes])


def video_line(found: Plan, survey: Survey | None) -> str:
    """How much video there is, and how that is known."""
    hours = f"{amount(found.video_s / 3600)} video-hours"
    if survey is None:
        return f"{hours}, as given"
    if survey.is_whole:
        bad = len(survey.probed) - len(survey.mapped)
        return f"{hours} in {survey.files:,} files" + (f", {bad} of them can't be mapped" if bad else "")
    _, low_s, high_s = survey.video_s()
    return (
        f"{hours} ({amount(low_s / 3600, 0)} to {amount(high_s / 3600, 0)}, 19 times of 20) in {survey.files:,} files, "
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
