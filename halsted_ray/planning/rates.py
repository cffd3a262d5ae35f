"""How fast each stage is, and where that is known from: the numbers that ``planner`` calculates with.

rates.json         ships with the package: measured, each with the name of its hardware; GPUs are estimated
Rates.load(OUT)    what an earlier run took, from its table of segments
measured()         on this machine, in under a minute
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
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
    """Clips that one GPU, or one core (``device`` 'cpu'), encodes per second. ``hardware`` and ``source`` say where the
    number comes from."""

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
        """The rates that ship with the package, overridden by those of ``place``.

        ``place`` is a JSON file with any of the keys of rates.json, or the folder or URL of a run's maps: then what
        that run took. Raises UsageError where it is neither.
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
        """These rates, overridden by what the run that filled ``out`` took: seconds of its actors, at the picture size
        and codec of its own videos."""
        import pyarrow.compute as pc

        from halsted_ray.maps.reading import read_segments, read_videos

        columns = ["start_s", "stop_s", "decode_s", "encode_s", "tag_s", "new_vectors", "used_vectors"]
        table = read_segments(out, columns, [("decode_s", ">", 0)])
        if table is None or not table.num_rows:
            raise UsageError(
                f"rates {out!r}: no run has decoded video for the maps there; give a JSON file of rates, "
                "or the OUT of a run that did"
            )
        total = {name: pc.sum(table[name]).as_py() for name in columns}
        videos = [entry.video for entry in read_videos(out).values() if entry.is_mapped]
        largest = max(videos, key=lambda video: video.duration_s)
        hardware = f"the machines of the run to {Path(out).name}"
        frames = (total["stop_s"] - total["start_s"]) * largest.fps
        decode = DecodeRate(largest.codec, largest.width, largest.height, frames / total["decode_s"], hardware)
        # No row says on what device and with what preset the run encoded; a core is assumed.
        clips = total["new_vectors"] / total["encode_s"] if total["encode_s"] else 0.0
        encode = tuple(EncodeRate(preset, "cpu", clips, hardware) for preset in self.presets if clips)
        windows = total["new_vectors"] + total["used_vectors"]
        tag = windows / total["tag_s"] if total["tag_s"] else self.tag_windows_per_core_s
        return Rates(
            **{**vars(self), "decode": (decode,), "encode": (*encode, *self.encode), "tag_windows_per_core_s": tag}
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


def measured(preset: str = "tiny", decode_s: int = 2) -> dict[str, Any]:
    """The rates of one core of this machine, and of its GPU where there is one, as JSON values for ``Rates.load``.

    Takes less than a minute. Decoding is measured on ``decode_s`` seconds of H.264 at 1080p, made for this purpose.
    """
    import torch

    hardware = machine()
    torch.set_num_threads(1)
    found: dict[str, Any] = {
        "decode": [asdict(_measured_decoding(decode_s, hardware))],
        "encode": [asdict(_measured_encoding(preset, "cpu", hardware))] if preset in ("tiny", "base") else [],
    }
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name().removeprefix("NVIDIA ").split()[0].upper()
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

    encoder = Encoder.create(preset, 0, device="cpu" if device == "cpu" else "cuda")
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
