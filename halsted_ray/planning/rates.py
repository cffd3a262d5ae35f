"""How fast each stage is, and where that is known from: the numbers that ``planner`` calculates with.

rates.json            ships with the package; each rate says whether it was measured, is derived or was published
Rates.load(OUT)       what earlier runs took, from their table of segments
measure.measured()    on this machine, in under a minute
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from halsted_ray.errors import UsageError
from halsted_ray.planning.gpus import PRECISIONS, Gpu, Nvdec, Prices
from halsted_ray.storage.locations import local_path

MEASURED, DERIVED = "measured", "derived"
SHARE_OF_PEAK = 0.50
"""Share of a GPU's bf16 peak that is reached where its rate was not measured: what the giant reached on an H100. On
other chips, and with smaller encoders, it is an assumption."""


@dataclass(frozen=True)
class DecodeRate:
    """Frames of video that a core decodes per second at fidelity ``reference``, including the scaling of those that are
    kept. ``hardware`` and ``source`` say where the number comes from."""

    codec: str
    width: int
    height: int
    frames_per_core_s: float
    hardware: str
    source: str = MEASURED


@dataclass(frozen=True)
class EncodeRate:
    """Clips that one GPU, or one core (``device`` 'cpu'), encodes per second. ``preset`` is an ``Encoder.size_name``;
    ``hardware`` and ``source`` say where the number comes from, and by which formula where it is derived."""

    preset: str
    device: str
    clips_per_s: float
    hardware: str
    source: str = MEASURED
    precision: str = "bf16"
    """What the encoder ran in: ``fp32`` on a core, one of ``gpus.PRECISIONS`` on a GPU."""


@dataclass(frozen=True)
class Rates:
    """All the rates that a plan is calculated with."""

    decode: tuple[DecodeRate, ...]
    encode: tuple[EncodeRate, ...]
    tag_windows_per_core_s: float
    engine_core_ms_per_segment: float
    start_s: float
    """From the command to the first decoded frame without a GPU: Ray, actors, the model."""
    gpu_start_s: float
    """From the command until a GPU has work: measured once, with the giant and one hour of video on one H100."""
    useful_share: float | None
    """Clips that were needed of those that the GPUs of an earlier run computed, as a share; None without such a run."""
    memory_mb: dict[str, float]
    """Of a ``decoder`` with its process, a ``tagger`` without the encoder's weights, and the ``driver``."""
    presets: dict[str, dict[str, float]]
    """Size of an encoder → ``tflop`` per clip and ``linear_tflop`` of them in linear layers, ``dim``, ``image_size``,
    ``parameters_m``."""
    fidelity_speed: dict[str, float]
    """Fidelity → how many times as fast as ``reference`` a core decodes: measured by `make bench` on H.264 at 1080p
    with a keyframe every 2 s."""
    gpus: dict[str, Gpu]
    prices: Prices
    nvdec: Nvdec

    @classmethod
    def load(cls, place: str | None = None) -> Rates:
        """The rates that ship with the package, overridden by the rates of ``place``.

        ``place`` is a JSON file with any of the keys of rates.json, or the folder or URL of a run's maps: then what
        the runs there took. Raises UsageError where it is neither.
        """
        shipped = json.loads(resources.files("halsted_ray.planning").joinpath("rates.json").read_text())
        if place and (local_path(place) is None or os.path.isdir(place)):
            return cls._of(shipped)._with_maps(place)
        own = {}
        if place:
            try:
                own = json.loads(Path(place).read_text())
            except (OSError, ValueError) as error:
                raise UsageError(
                    f"rates {place!r}: expected a JSON file as `halsted plan --measure` writes it, or the "
                    f"place of a run's maps, got {error}"
                ) from None
        unknown = set(own) - set(shipped) if isinstance(own, dict) else {type(own).__name__}
        if unknown:
            raise UsageError(f"rates {place!r}: unknown keys {sorted(unknown)}; expected of {', '.join(shipped)}")
        try:
            return cls._of({**shipped, **own, "encode": [*own.get("encode", []), *shipped["encode"]]})
        except (TypeError, AttributeError, KeyError) as error:
            raise UsageError(f"rates {place!r}: {error}; expected the layout of `halsted plan --measure`") from None

    @classmethod
    def _of(cls, record: dict[str, Any]) -> Rates:
        return cls(
            **{
                **record,
                "decode": tuple(DecodeRate(**rate) for rate in record["decode"]),
                "encode": tuple(
                    EncodeRate(**{"precision": usual_precision(rate["device"]), **rate}) for rate in record["encode"]
                ),
                "gpus": {name: Gpu(**known) for name, known in record["gpus"].items()},
                "prices": Prices(**record["prices"]),
                "nvdec": Nvdec(**record["nvdec"]),
            }
        )

    def _with_maps(self, out: str) -> Rates:
        """These rates, overridden by what the runs that filled ``out`` took: seconds of their actors, at the picture
        sizes and codecs of their own videos, with their own encoders on their own devices.

        A rate that the maps don't tell stays as it is: of tables that were written before they named the encoder, of
        encoders of other sizes, and of tagging on a GPU. The tables do not say the precision, nor what decoded: a GPU
        is taken to have run in bf16, and all frames to have been decoded on cores. Raises UsageError where no run has
        decoded a video.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        from halsted_ray.maps.reading import read_segments, read_videos
        from halsted_ray.maps.run_profile import read_profile

        sums = ["length_s", "decode_s", "encode_s", "tag_s", "new_vectors", "used_vectors"]
        keys = ["video_id", "encoder_size", "device"]
        table = read_segments(out, [*keys, "start_s", "stop_s", *sums[1:]], [("decode_s", ">", 0)])
        videos = {entry.video.video_id: entry.video for entry in read_videos(out).values() if entry.is_mapped}
        if table is not None:
            table = table.append_column("length_s", pc.subtract(table["stop_s"], table["start_s"]))
            table = table.filter(pc.is_in(table["video_id"], pa.array(list(videos), pa.string())))
        if table is None or not table.num_rows:
            raise UsageError(
                f"rates {out!r}: no run has decoded video for the maps there; give a JSON file of rates, "
                "or the OUT of a run that did"
            )
        hardware = f"the machines of the run to {Path(out).name}"
        decoded: defaultdict[tuple[str, int, int], _Measured] = defaultdict(_Measured)
        encoded: defaultdict[tuple[str, str], _Measured] = defaultdict(_Measured)
        tagged = _Measured()
        for row in table.group_by(keys).aggregate([(name, "sum") for name in sums]).to_pylist():
            video, size, device = videos[row["video_id"]], row["encoder_size"], row["device"]
            decoded[video.codec, video.width, video.height].add(row["length_s_sum"] * video.fps, row["decode_s_sum"])
            if not device or size not in self.presets:
                continue
            encoded[size, device].add(row["new_vectors_sum"], row["encode_s_sum"])
            if device == "cpu":
                # ``tag_windows_per_core_s`` is the rate of a model on vectors of the tiny encoder.
                as_tiny = (self.presets["tiny"]["dim"] / self.presets[size]["dim"]) ** 2
                tagged.add(row["new_vectors_sum"] + row["used_vectors_sum"], row["tag_s_sum"] * as_tiny)
        decode = tuple(DecodeRate(*picture, total.rate, hardware) for picture, total in decoded.items())
        encode = tuple(
            EncodeRate(
                size,
                gpu_name(device, self.gpus),
                total.rate,
                f"{hardware}, {device}",
                precision=usual_precision(device),
            )
            for (size, device), total in encoded.items()
            if total.rate
        )
        profile = read_profile(out)
        of_gpus = profile.encoding if profile and any(device != "cpu" for _, device in encoded) else {}
        return replace(
            self,
            decode=decode,
            encode=(*encode, *self.encode),
            useful_share=of_gpus["useful_share"] if of_gpus.get("clips") else self.useful_share,
            tag_windows_per_core_s=tagged.rate if tagged.seconds else self.tag_windows_per_core_s,
        )

    def decode_core_s(
        self, codec: str, width: int, height: int, frames: float, fidelity: str = "reference"
    ) -> tuple[float, DecodeRate]:
        """(core-seconds to decode ``frames``, the rate at fidelity ``reference`` that they come from).

        A picture size that was not measured costs as much per pixel as the nearest size that was; a codec that was not
        measured costs as much as the slowest one.
        """
        pixels = max(1, width * height)
        known = [rate for rate in self.decode if rate.codec == codec] or [
            min(self.decode, key=lambda rate: rate.frames_per_core_s * rate.width * rate.height)
        ]
        nearest = min(
            known, key=lambda rate: max(pixels / (rate.width * rate.height), rate.width * rate.height / pixels)
        )
        frames_per_core_s = nearest.frames_per_core_s * self.fidelity_speed[fidelity]
        return frames / frames_per_core_s * pixels / (nearest.width * nearest.height), nearest

    def nvdec_engine_s(self, gpu: str, codec: str, width: int, height: int, frames: float, fidelity: str) -> float:
        """Seconds of one engine of ``gpu`` to decode ``frames`` of a video; 0 where it can't. A picture of another size
        than 1920x1080 costs by its pixels."""
        per_s = self.nvdec.frames_per_s(self.gpu(gpu).nvdec_generation, codec)
        share = self.nvdec.frames_share[fidelity]
        return frames * share * max(1, width * height) / (1920 * 1080) / per_s if per_s else 0.0

    def gpu(self, name: str) -> Gpu:
        """What is known of a GPU. Raises UsageError for an unknown name."""
        if name not in self.gpus:
            raise UsageError(
                f"no rate for GPU {name!r}; expected one of {', '.join(self.gpus)}, or a --rates file that holds one"
            )
        return self.gpus[name]

    def encoding(self, preset: str, device: str, share_of_peak: float, precision: str = "bf16") -> EncodeRate:
        """The rate of ``preset`` on ``device`` ('cpu' or the name of a GPU), derived where it was not measured.

        ``precision`` is one of ``gpus.PRECISIONS``; a core always runs in fp32. Raises UsageError for an unknown preset
        or device, and for a precision that the device has not.
        """
        if preset not in self.presets:
            raise UsageError(f"unknown encoder preset {preset!r}; expected one of {', '.join(self.presets)}")
        if precision not in PRECISIONS:
            raise UsageError(f"unknown precision {precision!r}; expected one of {', '.join(PRECISIONS)}")
        precision = "fp32" if device == "cpu" else precision
        for rate in self.encode:
            if (rate.preset, rate.device, rate.precision) == (preset, device, precision):
                return rate
        tflop = self.presets[preset]["tflop"]
        if device == "cpu":
            return self._encoding_on_cores(preset, tflop)
        gpu = self.gpu(device)
        if precision == "fp8":
            return self._encoding_in_fp8(preset, device, share_of_peak)
        return EncodeRate(
            preset,
            device,
            share_of_peak * gpu.bf16_tflops / tflop,
            f"{share_of_peak:.0%} of the {device}'s {gpu.bf16_tflops:g} TFLOP/s, by {tflop:g} TFLOP per clip",
            DERIVED,
        )

    def _encoding_on_cores(self, preset: str, tflop: float) -> EncodeRate:
        known = [rate for rate in self.encode if rate.device == "cpu"]
        if not known:
            raise UsageError("no rate for a core; expected one in the --rates file")
        like = known[0]
        times = tflop / self.presets[like.preset]["tflop"]
        return EncodeRate(
            preset,
            "cpu",
            like.clips_per_s / times,
            f"{like.clips_per_s:.3g} clips/s of {like.preset} by {times:.3g} times its FLOPs; {like.hardware}",
            DERIVED,
            "fp32",
        )

    def _encoding_in_fp8(self, preset: str, device: str, share_of_peak: float) -> EncodeRate:
        if not self.gpu(device).has_fp8:
            able = ", ".join(name for name, gpu in self.gpus.items() if gpu.has_fp8)
            raise UsageError(f"the {device} has no fp8; expected precision bf16, or a GPU of {able}")
        measured = next((rate for rate in self.encode if rate.precision == "fp8"), None)
        if measured is None:
            raise UsageError(
                "no rate in fp8 to derive others from; expected one in the --rates file, or precision bf16"
            )
        like = self.encoding(measured.preset, measured.device, SHARE_OF_PEAK)
        bf16 = self.encoding(preset, device, share_of_peak)
        times = measured.clips_per_s / like.clips_per_s
        return EncodeRate(
            preset,
            device,
            times * bf16.clips_per_s,
            f"{times:.2f} times bf16, as {measured.preset} on the {measured.device}; bf16 {bf16.source}: "
            f"{bf16.hardware}",
            DERIVED,
            "fp8",
        )


@dataclass
class _Measured:
    """A number of frames, clips or windows, and the seconds that they took together."""

    count: float = 0.0
    seconds: float = 0.0

    def add(self, count: float, seconds: float) -> None:
        self.count += count
        self.seconds += seconds

    @property
    def rate(self) -> float:
        """Per second; 0 where nothing was measured."""
        return self.count / self.seconds if self.seconds else 0.0


def usual_precision(device: str) -> str:
    """What an encoder runs in on ``device`` where nothing else is asked for."""
    return "fp32" if device == "cpu" else "bf16"


def gpu_name(device_name: str, known: Iterable[str]) -> str:
    """The name among ``known`` of a device that its driver calls 'NVIDIA H100 80GB HBM3', 'NVIDIA A100-SXM4-80GB' or
    'Tesla T4'. Any other name, and 'cpu', is returned as it is, without the maker's name."""
    words = re.split(r"[\s-]", device_name)
    return next((word for word in words if word in known), device_name.removeprefix("NVIDIA "))
