"""What mapping an archive will take, before anything is bought or started: cores, memory, time, storage, money.

The slowest stage decides how long the run takes: either decoding (on cores), or encoding and tagging (on GPUs, or on
cores where there is no GPU). The start is added once. The engine's own time is counted as work of the cores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from halsted_ray.compute.pools import SPARE_CPUS, size_pools
from halsted_ray.errors import UsageError
from halsted_ray.planning.rates import DecodeRate, EncodeRate, Rates
from halsted_ray.records import Video, WindowSpec

SLACK = 1.1
"""Factor on the decoding cores that would just keep up, because footage differs in how hard it is to decode."""
IN_FLIGHT = 2
"""Segments per actor whose frames wait in memory."""
SEGMENT_ROWS_BYTES, TIMELINE_BYTES_PER_VIDEO_S = 1500, 8
"""Of the Delta tables, compressed: the predictions of one segment, and the merged rows of one second of video."""
VECTOR_OVERHEAD_BYTES = 40
"""Of the row of one window beside its vector, with its share of the Parquet file's header and footer."""


@dataclass(frozen=True)
class PlanSetting:
    """What a plan is made for."""

    gpus: int = 1
    gpu: str = "H200"
    """Name of the GPU, as in rates.json."""
    cores: int | None = None
    """Cores of the whole cluster; None for as many as keep the GPUs busy."""
    preset: str = "giant"
    """Size of the encoder, as in rates.json."""
    share_of_peak: float = 0.4
    """Share of its peak FLOP/s that a GPU reaches, where its rate was not measured."""
    looked_at: float = 0.5
    """Share of the video time in which fine windows are encoded too."""
    segment_s: float = 60.0
    price_per_gpu_hour: float = 0.0
    price_per_core_hour: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What a run takes. Times are in seconds, of the whole run."""

    videos: int
    video_s: float
    segments: int
    clips: int
    gpus: int
    cores: int
    cores_per_gpu: float | None
    """Cores per GPU with which a GPU never waits for frames; None without GPUs."""
    decoders: int
    taggers: int
    decode_core_s: float
    encode_device_s: float
    stages_s: dict[str, float]
    """Wall seconds of each stage if the other stages took no time."""
    bottleneck: str
    """The largest of ``stages_s``."""
    wall_s: float
    memory_mb: float
    read_bytes: float
    vector_bytes: float
    table_bytes: float
    gpu_hours: float
    core_hours: float
    cost: float
    decode_rate: DecodeRate
    encode_rate: EncodeRate

    def asdict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def plan(videos: Sequence[Video], count: int, video_s: float, rates: Rates, setting: PlanSetting) -> Plan:
    """The plan for ``count`` videos that last ``video_s`` together; ``videos`` are typical of them.

    Raises UsageError for a setting or a rate that can't be used, ResourceError where the cores don't carry the actors.
    """
    _check(setting)
    known_s = sum(video.duration_s for video in videos)
    if not known_s or not video_s:
        raise UsageError(
            "no video that can be mapped was found, so there is nothing to plan; see `halsted status` or give --hours"
        )
    scale = video_s / known_s
    costs = [rates.decode_core_s(v.codec, v.width, v.height, v.fps * v.duration_s) for v in videos]
    decode_core_s = scale * sum(core_s for core_s, _ in costs)
    decode_rate = max(costs, key=lambda cost: cost[0])[1]
    spec, size = WindowSpec(), rates.presets.get(setting.preset, {})
    segments = math.ceil(scale * sum(math.ceil(v.duration_s / setting.segment_s) for v in videos))
    clips = math.ceil(video_s / spec.coarse_s + setting.looked_at * video_s / spec.fine_s)
    on = setting.gpu if setting.gpus else "cpu"
    encode_rate = rates.encoding(setting.preset, on, setting.share_of_peak)
    encode_s = clips / encode_rate.clips_per_s
    # The decoder is as wide as the encoder's vectors; its rate was measured at the width of the tiny encoder.
    tag_core_s = clips / rates.tag_windows_per_core_s * (size["dim"] / rates.presets["tiny"]["dim"]) ** 2
    engine_core_s = segments * rates.engine_core_ms_per_segment / 1000

    if setting.gpus:
        keeps_up = (decode_core_s + engine_core_s) / encode_s * SLACK
        cores_per_gpu = keeps_up + 1 + SPARE_CPUS / setting.gpus  # the GPU's own process takes a core
        cores = setting.cores or math.ceil(cores_per_gpu * setting.gpus)
        free = cores
        tagging_s = encode_s  # on a GPU, tags take 1 to 2% of the time of giant's vectors
    else:
        cores_per_gpu, cores = None, setting.cores or 1
        free = cores + SPARE_CPUS  # a local Ray is told of two CPUs more than there are
        tagging_s = encode_s + tag_core_s
    pools = size_pools(free, setting.gpus, max(1, free - SPARE_CPUS), segments)
    decoders, taggers = pools.decoders.actors, pools.encoders.actors
    stages_s = {"decode": (decode_core_s + engine_core_s) / decoders, "encode and tag": tagging_s / taggers}
    if not setting.gpus:
        # More actors than cores take turns.
        stages_s["all cores"] = (decode_core_s + engine_core_s + tagging_s) / cores
    bottleneck = max(stages_s, key=lambda stage: stages_s[stage])
    wall_s = rates.start_s + stages_s[bottleneck]
    frames_mb = setting.segment_s / spec.fine_s * spec.frames * size["image_size"] ** 2 * 3 / 1e6
    weights_mb = size["parameters_m"] * (2 if setting.gpus else 4)
    memory_mb = (
        rates.memory_mb["driver"]
        + decoders * (rates.memory_mb["decoder"] + IN_FLIGHT * frames_mb)
        + taggers * (rates.memory_mb["tagger"] + weights_mb + IN_FLIGHT * frames_mb)
    )
    gpu_hours, core_hours = setting.gpus * wall_s / 3600, cores * wall_s / 3600
    return Plan(
        videos=count,
        video_s=video_s,
        segments=segments,
        clips=clips,
        gpus=setting.gpus,
        cores=cores,
        cores_per_gpu=cores_per_gpu,
        decoders=decoders,
        taggers=taggers,
        decode_core_s=decode_core_s,
        encode_device_s=encode_s,
        stages_s=stages_s,
        bottleneck=bottleneck,
        wall_s=wall_s,
        memory_mb=memory_mb,
        read_bytes=scale * sum(video.size_bytes for video in videos),
        vector_bytes=clips * (2 * size["dim"] + VECTOR_OVERHEAD_BYTES),
        table_bytes=segments * SEGMENT_ROWS_BYTES + video_s * TIMELINE_BYTES_PER_VIDEO_S,
        gpu_hours=gpu_hours,
        core_hours=core_hours,
        cost=gpu_hours * setting.price_per_gpu_hour + core_hours * setting.price_per_core_hour,
        decode_rate=decode_rate,
        encode_rate=encode_rate,
    )


def typical_hour(
    codec: str = "h264", width: int = 1920, height: int = 1080, fps: float = 30.0, mbit_s: float = 8.0
) -> Video:
    """An hour of video as the recorders in operating theatres write it, to plan with where there is no archive yet."""
    return Video("typical", "", round(mbit_s * 1e6 / 8 * 3600), 3600.0, width, height, fps, codec)


def _check(setting: PlanSetting) -> None:
    for name, least in (("gpus", 0), ("cores", 1), ("price_per_gpu_hour", 0), ("price_per_core_hour", 0)):
        value = getattr(setting, name)
        if value is not None and value < least:
            raise UsageError(f"{name}: expected at least {least}, got {value}")
    for name in ("looked_at", "share_of_peak"):
        if not 0 <= getattr(setting, name) <= 1:
            raise UsageError(f"{name}: expected a share between 0 and 1, got {getattr(setting, name)}")
    if not setting.share_of_peak:
        raise UsageError("share_of_peak: expected more than 0")
    if setting.segment_s <= 0:
        raise UsageError(f"segment_s: expected more than 0, got {setting.segment_s}")
