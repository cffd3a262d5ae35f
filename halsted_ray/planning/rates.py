"""How fast each stage is, and where that is known from: the numbers that ``planner`` calculates with.

rates.json         ships with the package: measured, each with the name of its hardware; GPUs are estimated
Rates.load(OUT)    what earlier runs took, from their table of segments
measured()         on this machine, in under a minute
"""

from __future__ import annotations

import json
import os
import platform
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from halsted_ray.errors import UsageError
from halsted_ray.storage.locations import local_path

MEASURED, ESTIMATED = "measured", "estimated from FLOPs"


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
    ``hardware`` and ``source`` say where the number comes from."""

    preset: str
    device: str
    clips_per_s: float
    hardware: str
    source: str = MEASURED


@dataclass(frozen=True)
class Rates:
    """All the rates that a plan is calculated with."""

    decode: tuple[DecodeRate, ...]
    encode: tuple[EncodeRate, ...]
    tag_windows_per_core_s: float
    engine_core_ms_per_segment: float
    start_s: float
    """From the command to the first decoded frame: Ray, actors, the model."""
    memory_mb: dict[str, float]
    """Of a ``decoder`` with its process, a ``tagger`` without the encoder's weights, and the ``driver``."""
    presets: dict[str, dict[str, float]]
    """Size of an encoder → ``tflop`` per clip, ``dim``, ``image_size``, ``parameters_m``."""
    gpu_peak_tflops: dict[str, float]
    """Name of a GPU → its peak for dense bf16, by the vendor's data sheet."""

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
        except (TypeError, AttributeError) as error:
            raise UsageError(f"rates {place!r}: {error}; expected the layout of `halsted plan --measure`") from None

    @classmethod
    def _of(cls, record: dict[str, Any]) -> Rates:
        return cls(
            **{
                **record,
                "decode": tuple(DecodeRate(**rate) for rate in record["decode"]),
                "encode": tuple(EncodeRate(**rate) for rate in record["encode"]),
            }
        )

    def _with_maps(self, out: str) -> Rates:
        """These rates, overridden by what the runs that filled ``out`` took: seconds of their actors, at the picture
        sizes and codecs of their own videos, with their own encoders on their own devices.

        A rate that the maps don't tell stays as it is: of tables that were written before they named the encoder, of
        encoders of other sizes, and of tagging on a GPU. Raises UsageError where no run has decoded a video.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        from halsted_ray.maps.reading import read_segments, read_videos

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
            EncodeRate(size, gpu_name(device, self.gpu_peak_tflops), total.rate, f"{hardware}, {device}")
            for (size, device), total in encoded.items()
            if total.rate
        )
        return replace(
            self,
            decode=decode,
            encode=(*encode, *self.encode),
            tag_windows_per_core_s=tagged.rate if tagged.seconds else self.tag_windows_per_core_s,
        )

    def decode_core_s(self, codec: str, width: int, height: int, frames: float) -> tuple[float, DecodeRate]:
        """(core-seconds to decode ``frames``, the rate they come from).

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
        return frames / nearest.frames_per_core_s * pixels / (nearest.width * nearest.height), nearest

    def encoding(self, preset: str, device: str, share_of_peak: float) -> EncodeRate:
        """The rate of ``preset`` on ``device`` ('cpu' or the name of a GPU), estimated from FLOPs where it was not
        measured. Raises UsageError for an unknown preset or device."""
        if preset not in self.presets:
            raise UsageError(f"unknown encoder preset {preset!r}; expected one of {', '.join(self.presets)}")
        for rate in self.encode:
            if (rate.preset, rate.device) == (preset, device):
                return rate
        tflop = self.presets[preset]["tflop"]
        if device in self.gpu_peak_tflops:
            peak = self.gpu_peak_tflops[device]
            return EncodeRate(
                preset,
                device,
                share_of_peak * peak / tflop,
                f"{device}, {share_of_peak:.0%} of {peak:g} TFLOP/s",
                ESTIMATED,
            )
        known = [rate for rate in self.encode if rate.device == "cpu"]
        if device != "cpu" or not known:
            raise UsageError(
                f"no rate for GPU {device!r}; expected one of {', '.join(self.gpu_peak_tflops)}, or a "
                "--rates file that holds one"
            )
        like = known[0]
        return EncodeRate(
            preset, "cpu", like.clips_per_s * self.presets[like.preset]["tflop"] / tflop, like.hardware, ESTIMATED
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


def gpu_name(device_name: str, known: Iterable[str]) -> str:
    """The name among ``known`` of a device that its driver calls 'NVIDIA H100 80GB HBM3', 'NVIDIA A100-SXM4-80GB' or
    'Tesla T4'. Any other name, and 'cpu', is returned as it is, without the maker's name."""
    words = re.split(r"[\s-]", device_name)
    return next((word for word in words if word in known), device_name.removeprefix("NVIDIA "))


def measured(preset: str = "tiny", decode_s: int = 2) -> dict[str, Any]:
    """The rates of one core of this machine, and of its GPU where there is one, as JSON values for ``Rates.load``.

    Takes less than a minute. Decoding is measured on ``decode_s`` seconds of H.264 at 1080p, made for this purpose.
    """
    import torch

    hardware = machine()
    torch.set_num_threads(1)
    is_quick = preset in ("tiny", "random:tiny", "base")
    found: dict[str, Any] = {
        "decode": [asdict(_measured_decoding(decode_s, hardware))],
        "encode": [asdict(_measured_encoding(preset, "cpu", hardware))] if is_quick else [],
    }
    if torch.cuda.is_available():
        name = gpu_name(torch.cuda.get_device_name(), Rates.load().gpu_peak_tflops)
        found["encode"].append(asdict(_measured_encoding(preset, name, f"{hardware}, {torch.cuda.get_device_name()}")))
    found["tag_windows_per_core_s"] = _measured_tagging()
    return found


def _measured_decoding(seconds: int, hardware: str) -> DecodeRate:
    import av
    import numpy as np

    from halsted_ray.video.readers import read_frames

    width, height, fps = 1920, 1080, 30
    rng = np.random.default_rng(0)
    large = np.kron(rng.integers(60, 200, (36, 48, 3)).astype(np.uint8), np.ones((40, 48, 1), np.uint8))
    grain = rng.integers(0, 12, (height, width, 1)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "video.mp4")
        with av.open(path, "w") as container:
            stream = container.add_stream("libx264", rate=fps, options={"preset": "veryfast", "bf": "3"})
            stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 8_000_000
            for number in range(seconds * fps):
                top, left = number % 300, number * 2 % 300
                image_HWC = large[top : top + height, left : left + width] + np.roll(grain, number, 1)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image_HWC, format="rgb24")))
            container.mux(stream.encode())
        times_s = np.arange(0, seconds - 0.05, 2.5 / 16)
        read_frames(path, times_s[:2], (224, 224))
        took_s = min(_core_s(lambda: read_frames(path, times_s, (224, 224))) for _ in range(3))
    return DecodeRate("h264", width, height, seconds * fps / took_s, hardware)


def _measured_encoding(preset: str, device: str, hardware: str) -> EncodeRate:
    import numpy as np

    from halsted_ray.model.encoder import Encoder

    place = "cpu" if device == "cpu" else "cuda"
    # 'tiny' is the encoder that ships; the preset 'tiny' has twice the tokens and is named 'random:tiny' here.
    encoder = (
        Encoder.load(preset, device=place)
        if preset == "tiny"
        else Encoder.create(preset.removeprefix("random:"), 0, device=place)
    )
    count = encoder.micro_batch * 4
    clips_NTHWC = np.zeros((count, encoder.frames, *encoder.image_size, 3), np.uint8)
    encoder.encode(clips_NTHWC)
    clock = _core_s if device == "cpu" else _wall_s
    return EncodeRate(
        preset, device, count / min(clock(lambda: encoder.encode(clips_NTHWC)) for _ in range(3)), hardware
    )


def _measured_tagging() -> float:
    import numpy as np

    from halsted_ray.model.halsted import Halsted

    model = Halsted.create(None, 192)
    vectors_ND = np.zeros((32, 192), np.float16)
    task = model.taxonomy.tasks[0].name
    model.tag(vectors_ND, task)
    return 32 / min(_core_s(lambda: model.tag(vectors_ND, task)) for _ in range(2))


def _core_s(function: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    started_s = time.process_time()
    function()
    return time.process_time() - started_s


def _wall_s(function: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    function()
    return time.perf_counter() - started_s


def machine() -> str:
    """Name of the processor, as far as the system tells, and the number of its cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"
