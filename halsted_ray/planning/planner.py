"""What mapping an archive will take, before anything is bought or started: cores, memory, time, storage, money.

The slowest stage decides how long the run takes: decoding (on cores, on NVDEC, or on both), encoding and tagging (on
GPUs, or on cores where there is no GPU), or reading over the network where its rate is given. The start is added once.
The engine's own time is counted as work of the cores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from halsted_ray.compute.pools import CALLS_PER_GPU_ACTOR, SPARE_CPUS, size_pools
from halsted_ray.errors import UsageError
from halsted_ray.planning.batches import useful_share
from halsted_ray.planning.decoding import READERS, DecodeWork, actors_for, decode_s
from halsted_ray.planning.rates import SHARE_OF_PEAK, DecodeRate, EncodeRate, Rates
from halsted_ray.records import Video, WindowSpec
from halsted_ray.video.frames import FIDELITIES

SLACK = 1.1
"""Factor on the decoding cores that would just keep up, because footage differs in how hard it is to decode."""
IN_FLIGHT = 2
"""Segments per actor on a core whose frames wait in memory."""
SEGMENT_ROWS_BYTES, TIMELINE_BYTES_PER_VIDEO_S = 1500, 8
"""Of the Delta tables, compressed: the predictions of one segment, and the merged rows of one second of video."""
VECTOR_OVERHEAD_BYTES = 40
"""Of the row of one window beside its vector, with its share of the Parquet file's header and footer."""
GPUS_AT_MOST = 4096
"""The most GPUs that ``plan_for_deadline`` tries."""
LIMITS = {"encode and tag": "encoder", "all cores": "cores", "read": "network"}
"""Stage → what limits a run whose slowest stage it is. What limits decoding is in ``DECODE_LIMITS``."""
DECODE_LIMITS = {"pyav": "cores", "nvdec": "NVDEC", "auto": "NVDEC and cores"}


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
    precision: str = "bf16"
    """What the encoder runs in on a GPU: one of ``gpus.PRECISIONS``."""
    share_of_peak: float = SHARE_OF_PEAK
    """Share of its peak FLOP/s that a GPU reaches, where its rate was not measured."""
    useful_share: float | None = None
    """Clips that are needed, as a share of those that a GPU computes; None for that of an earlier run
    (``Rates.useful_share``), and where there was none for that of filled batches (``batches.useful_share``)."""
    looked_at: float = 0.5
    """Share of the video time in which fine windows are encoded too."""
    window_s: float | None = None
    """Length of the windows where all of them are alike, and each gets one vector; None for the model's windows."""
    segment_s: float = 60.0
    fidelity: str = "reference"
    """How frames are decoded: one of ``video.frames.FIDELITIES``."""
    reader: str = "pyav"
    """What decodes: one of ``decoding.READERS``."""
    network_gbit_s: float | None = None
    """Rate at which the archive can be read, all machines together; None where that is no limit."""
    price_per_gpu_hour: float = 0.0
    price_per_core_hour: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What a run takes. Times are in seconds, of the whole run."""

    videos: int
    video_s: float
    segments: int
    clips: int
    """Clips that are needed."""
    useful_share: float
    """``clips`` as a share of the clips that are computed."""
    gpus: int
    cores: int
    cores_per_gpu: float | None
    """Cores per GPU with which a GPU never waits for frames; None without GPUs."""
    cores_per_gpu_by_reader: dict[str, float | None]
    """The same for each of ``decoding.READERS``; None where no number of cores is enough. Empty without GPUs."""
    nvdec_engines: int
    """Of all GPUs together; 0 where cores alone decode."""
    decoders: int
    taggers: int
    decode_core_s: float
    encode_device_s: float
    stages_s: dict[str, float]
    """Wall seconds of each stage if the other stages took no time."""
    bottleneck: str
    """The largest of ``stages_s``."""
    limited_by: str
    """What the bottleneck runs on: encoder, NVDEC, cores, NVDEC and cores, or network."""
    wall_s: float
    network_gbit_s: float
    """At which the archive is read during the run, all machines together."""
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
    size = rates.presets.get(setting.preset, {})
    segments = math.ceil(scale * sum(math.ceil(v.duration_s / setting.segment_s) for v in videos))
    windows = _Windows.of(setting)
    clips = math.ceil(video_s * windows.per_s)
    on = setting.gpu if setting.gpus else "cpu"
    encode_rate = rates.encoding(setting.preset, on, setting.share_of_peak, setting.precision)
    useful = setting.useful_share or rates.useful_share or windows.useful_share(setting) if setting.gpus else 1.0
    encode_s = clips / useful / encode_rate.clips_per_s
    # The decoder is as wide as the encoder's vectors; its rate was measured at the width of the tiny encoder.
    tag_core_s = clips / rates.tag_windows_per_core_s * (size["dim"] / rates.presets["tiny"]["dim"]) ** 2
    work, decode_rate = _decode_work(videos, scale, segments, rates, setting)
    engines = rates.gpu(setting.gpu).nvdec_engines * setting.gpus if setting.gpus else 0

    by_reader: dict[str, float | None] = {}
    if setting.gpus:
        for reader in READERS:
            actors = actors_for(work, encode_s / setting.gpus / SLACK, engines, reader)
            # The GPU's own process takes a core.
            by_reader[reader] = None if math.isinf(actors) else (actors + SPARE_CPUS) / setting.gpus + 1
        cores = setting.cores or _cores_for(by_reader[setting.reader], setting)
        free = cores
        tagging_s = encode_s  # on a GPU, tags take 1 to 2% of the time of giant's vectors
    else:
        cores = setting.cores or 1
        free = cores + SPARE_CPUS  # a local Ray is told of two CPUs more than there are
        tagging_s = encode_s + tag_core_s
    pools = size_pools(free, setting.gpus, max(1, free - SPARE_CPUS), segments)
    decoders, taggers = pools.decoders.actors, pools.encoders.actors
    read_bytes = scale * sum(video.size_bytes for video in videos)
    stages_s = {
        "decode": decode_s(work, decoders, engines, setting.reader),
        "encode and tag": tagging_s / taggers,
    }
    if not setting.gpus:
        # More actors than cores take turns.
        stages_s["all cores"] = (work.all_core_s + work.overhead_core_s + tagging_s) / cores
    if setting.network_gbit_s:
        stages_s["read"] = read_bytes * 8 / (setting.network_gbit_s * 1e9)
    bottleneck = max(stages_s, key=lambda stage: stages_s[stage])
    wall_s = (rates.gpu_start_s if setting.gpus else rates.start_s) + stages_s[bottleneck]
    frames_mb = setting.segment_s * windows.frames_per_s * size["image_size"] ** 2 * 3 / 1e6
    weights_mb = size["parameters_m"] * (2 if setting.gpus else 4)
    in_hand = max(IN_FLIGHT, CALLS_PER_GPU_ACTOR if setting.gpus else 1)
    memory_mb = (
        rates.memory_mb["driver"]
        + decoders * (rates.memory_mb["decoder"] + IN_FLIGHT * frames_mb)
        + taggers * (rates.memory_mb["tagger"] + weights_mb + in_hand * frames_mb)
    )
    gpu_hours, core_hours = setting.gpus * wall_s / 3600, cores * wall_s / 3600
    return Plan(
        videos=count,
        video_s=video_s,
        segments=segments,
        clips=clips,
        useful_share=useful,
        gpus=setting.gpus,
        cores=cores,
        cores_per_gpu=by_reader.get(setting.reader),
        cores_per_gpu_by_reader=by_reader,
        nvdec_engines=0 if setting.reader == "pyav" else engines,
        decoders=decoders,
        taggers=taggers,
        decode_core_s=work.all_core_s,
        encode_device_s=encode_s,
        stages_s=stages_s,
        bottleneck=bottleneck,
        limited_by=LIMITS.get(bottleneck) or DECODE_LIMITS[setting.reader if engines else "pyav"],
        wall_s=wall_s,
        network_gbit_s=read_bytes * 8 / 1e9 / stages_s[bottleneck],
        memory_mb=memory_mb,
        read_bytes=read_bytes,
        vector_bytes=clips * (2 * size["dim"] + VECTOR_OVERHEAD_BYTES),
        table_bytes=segments * SEGMENT_ROWS_BYTES + video_s * TIMELINE_BYTES_PER_VIDEO_S,
        gpu_hours=gpu_hours,
        core_hours=core_hours,
        cost=gpu_hours * setting.price_per_gpu_hour + core_hours * setting.price_per_core_hour,
        decode_rate=decode_rate,
        encode_rate=encode_rate,
    )


def plan_for_deadline(
    videos: Sequence[Video],
    count: int,
    video_s: float,
    rates: Rates,
    setting: PlanSetting,
    deadline_s: float,
    cores_per_gpu: int | None = None,
) -> tuple[Plan, PlanSetting]:
    """The plan with the fewest GPUs that takes at most ``deadline_s``, and its setting; ``setting.gpus`` is not used.

    ``cores_per_gpu``: None for as many as keep each GPU busy. Raises UsageError where no number of GPUs is enough.
    """

    def with_gpus(gpus: int) -> tuple[Plan, PlanSetting]:
        own = replace(setting, gpus=gpus, cores=cores_per_gpu * gpus if cores_per_gpu else setting.cores)
        return plan(videos, count, video_s, rates, own), own

    least, most = 0, 1
    while (found := with_gpus(most))[0].wall_s > deadline_s:
        least, most = most, 2 * most
        if most > GPUS_AT_MOST:
            raise UsageError(
                f"no number of GPUs maps this within {deadline_s / 3600:.3g} h: with {least} it takes "
                f"{found[0].wall_s / 3600:.3g} h, limited by {found[0].limited_by}; give a later deadline"
                + (", or a faster network" if found[0].limited_by == "network" else "")
            )
    while most - least > 1:
        middle = (least + most) // 2
        tried = with_gpus(middle)
        if tried[0].wall_s <= deadline_s:
            most, found = middle, tried
        else:
            least = middle
    return found


@dataclass(frozen=True)
class _Windows:
    """The windows of a run: ``coarse`` per second, and ``fine`` windows in each coarse window that is looked at."""

    coarse_per_s: float
    fine: int
    looked_at: float
    frames_per_s: float
    """Frames that are kept per second of video."""

    @classmethod
    def of(cls, setting: PlanSetting) -> _Windows:
        spec = WindowSpec()
        if setting.window_s:
            return cls(1 / setting.window_s, 0, 0.0, spec.frames / setting.window_s)
        return cls(1 / spec.coarse_s, spec.fine_per_coarse, setting.looked_at, spec.frames / spec.fine_s)

    @property
    def per_s(self) -> float:
        """Windows per second of video."""
        return self.coarse_per_s * (1 + self.looked_at * self.fine)

    def useful_share(self, setting: PlanSetting) -> float:
        coarse = max(1, round(setting.segment_s * self.coarse_per_s))
        return useful_share(coarse, self.fine, self.looked_at)


def _decode_work(
    videos: Sequence[Video], scale: float, segments: int, rates: Rates, setting: PlanSetting
) -> tuple[DecodeWork, DecodeRate]:
    """All decoding, and the rate of the videos that cost a core most."""
    core_s = engine_s = core_only_s = dearest_s = 0.0
    dearest = rates.decode[0]
    for video in videos:
        frames = video.fps * video.duration_s
        picture = video.codec, video.width, video.height, frames, setting.fidelity
        own_s, rate = rates.decode_core_s(*picture)
        own_engine_s = rates.nvdec_engine_s(setting.gpu, *picture) if setting.gpus else 0.0
        if own_engine_s:
            core_s, engine_s = core_s + scale * own_s, engine_s + scale * own_engine_s
        else:
            core_only_s += scale * own_s
        if own_s > dearest_s:
            dearest_s, dearest = own_s, rate
    overhead_core_s = segments * rates.engine_core_ms_per_segment / 1000
    return DecodeWork(core_s, engine_s, core_only_s, overhead_core_s), dearest


def _cores_for(cores_per_gpu: float | None, setting: PlanSetting) -> int:
    """Cores of all machines. Raises UsageError where no number keeps the GPUs busy."""
    if cores_per_gpu is None:
        raise UsageError(
            f"NVDEC alone never keeps a {setting.gpu} busy with {setting.preset}; expected --cores or --cores-per-gpu, "
            "or --reader auto, which decodes on cores too"
        )
    return math.ceil(cores_per_gpu * setting.gpus)


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
    for name in ("share_of_peak", "segment_s", "window_s", "useful_share", "network_gbit_s"):
        value = getattr(setting, name)
        if value is not None and value <= 0:
            raise UsageError(f"{name}: expected more than 0, got {value}")
    if setting.useful_share and setting.useful_share > 1:
        raise UsageError(f"useful_share: expected a share of at most 1, got {setting.useful_share}")
    for name, known in (("reader", READERS), ("fidelity", FIDELITIES)):
        if (got := getattr(setting, name)) not in known:
            raise UsageError(f"unknown {name} {got!r}; expected one of {', '.join(known)}")
